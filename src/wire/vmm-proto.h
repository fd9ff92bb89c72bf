/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holm-vmm understands on its control socket (docs/formats/vmm-protocol.md).
 *
 * Every request is answered by exactly one REPLY with its serial; STATE comes as an event
 * (serial 0) to every connection when the machine's state changed.
 *
 *	r = wire_conn_send(&conn, &vmm_msgs[VMM_PAUSE], serial, &(struct vmm_empty){ 0 });
 */
#ifndef WIRE_VMM_PROTO_H
#define WIRE_VMM_PROTO_H

#include "wire/wire.h"

enum { VMM_PROTO_VERSION = 1 };

enum vmm_msg_type {
	VMM_NONE,
	VMM_REPLY,           /* from the monitor */
	VMM_STATE,           /* from the monitor: event, and the answer to GET_STATE */
	VMM_GET_STATE,
	VMM_PAUSE,
	VMM_RESUME,
	VMM_POWER_BUTTON,
	VMM_STOP,
	VMM_SNAPSHOT,        /* of a paused machine, into files that come with it */
	VMM_LOG_START,       /* the dirty log */
	VMM_LOG_STOP,
	VMM_LOG_TAKE,        /* REPLY .value: pages written since the last take */
	VMM_STATS,           /* REPLY .text: JSON */
	VMM_CONSOLE,         /* REPLY .fd: the serial port, both ways */
	VMM_VSOCK_CONNECT,   /* REPLY .fd: a stream to a port of the guest */
	VMM_VSOCK_SERVE,     /* questions of the guest come to this connection */
	VMM_VSOCK_ASK,       /* from the monitor: event; the guest connects to a port */
	VMM_VSOCK_ANSWER,    /* to an ASK: a connected socket, or none */
	VMM_VSOCK_LIST,      /* REPLY .text: JSON, the connections */
	VMM_VSOCK_TAKE,      /* of a paused machine; REPLY .fd: a connection's socket */
	VMM_VSOCK_GIVE,      /* after a restore: the socket for a connection */
	VMM_RESTORE,         /* into an empty machine, from files that come with it */
	VMM_CLIENT,          /* from the keeper alone: somebody has connected, and may */
	VMM_ENGINE_STATS,    /* REPLY .text: the engine's counters, for people */
	VMM_MSG__COUNT,
};

/* As enum vm_state of the monitor. */
enum vmm_state { VMM_CREATED, VMM_RUNNING, VMM_PAUSED, VMM_ENDED, VMM_STATE__COUNT };

extern const char *const vmm_state_names[VMM_STATE__COUNT];

struct vmm_empty {
	uint8_t unused;
};

struct vmm_reply {
	uint32_t errnum;      /* 0: done */
	uint32_t code;        /* enum err_code */
	char    *message;
	char    *text;
	uint64_t value;
	int      fd;
};

struct vmm_state_msg {
	uint32_t state;       /* enum vmm_state */
	char    *end;         /* VMM_ENDED: why ("off", "panic") */
};

struct vmm_snapshot {
	int state_fd;         /* to save: empty files */
	int memory_low_fd;
	int memory_high_fd;
};

struct vmm_client {
	int  fd;              /* a connected stream socket */
	bool debugger;        /* connected to the socket for one, not to the control socket */
};

struct vmm_log_take {
	int bitmap_fd;        /* a file that gets one bit a page, slot after slot; -1: only count */
};

struct vmm_vsock_connect {
	uint32_t port;
};

struct vmm_vsock_ask {
	uint32_t port;
	uint64_t ticket;
};

struct vmm_vsock_answer {
	uint64_t ticket;
	int      fd;          /* a connected stream socket; -1: refused */
};

/* VSOCK_TAKE, VSOCK_GIVE. */
struct vmm_vsock_conn {
	uint32_t guest_port;
	uint32_t host_port;
	int      fd;          /* GIVE: a connected stream socket */
};

union vmm_any {
	struct vmm_empty         empty;
	struct vmm_reply         reply;
	struct vmm_state_msg     state;
	struct vmm_snapshot      snapshot;
	struct vmm_log_take      log_take;
	struct vmm_client        client;
	struct vmm_vsock_connect vsock_connect;
	struct vmm_vsock_ask     vsock_ask;
	struct vmm_vsock_answer  vsock_answer;
	struct vmm_vsock_conn    vsock_conn;
};

extern const struct wire_msg vmm_msgs[VMM_MSG__COUNT];

/* The message with this number, or NULL. */
const struct wire_msg *vmm_msg(uint16_t type);

/* The message with this name, or VMM_NONE: for commands. */
enum vmm_msg_type vmm_msg_parse(const char *name);

#endif
