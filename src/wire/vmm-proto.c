/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/vmm-proto.h"

const char *const vmm_state_names[VMM_STATE__COUNT] = {
	[VMM_CREATED] = "created", [VMM_RUNNING] = "running", [VMM_PAUSED] = "paused",
	[VMM_ENDED] = "ended",
};

enum { MESSAGE_MAX = 4096, TEXT_MAX = 512 * 1024, NAME_MAX_BYTES = 32 };

#define REQ WIRE_REQUIRED

#define IN(m) offsetof(struct vmm_reply, m)
static const struct wire_field reply_fields[] = {
	{ 1, "errnum", WIRE_U32, IN(errnum), REQ, 0, 4095, "errno; 0: done" },
	{ 2, "code", WIRE_U32, IN(code), 0, 0, ERR__COUNT - 1, "kind of the error (enum err_code)" },
	{ 3, "message", WIRE_STR, IN(message), 0, 0, MESSAGE_MAX, "what failed, for a person" },
	{ 4, "text", WIRE_STR, IN(text), 0, 0, TEXT_MAX, "result" },
	{ 5, "value", WIRE_U64, IN(value), 0, 0, 0, "result" },
	{ 6, "fd", WIRE_FD, IN(fd), 0, 0, 0, "result" },
};
#undef IN

#define IN(m) offsetof(struct vmm_state_msg, m)
static const struct wire_field state_fields[] = {
	{ 1, "state", WIRE_U32, IN(state), REQ, 0, VMM_STATE__COUNT - 1,
	  "created running paused ended" },
	{ 2, "end", WIRE_STR, IN(end), 0, 0, NAME_MAX_BYTES,
	  "why it ended: off reset panic triple-fault stopped failed" },
};
#undef IN

#define IN(m) offsetof(struct vmm_snapshot, m)
static const struct wire_field snapshot_fields[] = {
	{ 1, "state_fd", WIRE_FD, IN(state_fd), REQ, 0, 0, "empty file for the state" },
	{ 2, "memory_low_fd", WIRE_FD, IN(memory_low_fd), REQ, 0, 0, "empty file for memory" },
	{ 3, "memory_high_fd", WIRE_FD, IN(memory_high_fd), REQ, 0, 0, "another one" },
};
#undef IN

#define IN(m) offsetof(struct vmm_log_take, m)
static const struct wire_field log_take_fields[] = {
	{ 1, "bitmap_fd", WIRE_FD, IN(bitmap_fd), 0, 0, 0, "file for the bitmap" },
};
#undef IN

#define IN(m) offsetof(struct vmm_vsock_connect, m)
static const struct wire_field vsock_connect_fields[] = {
	{ 1, "port", WIRE_U32, IN(port), REQ, 0, UINT32_MAX, "of the guest" },
};
#undef IN

#define IN(m) offsetof(struct vmm_vsock_ask, m)
static const struct wire_field vsock_ask_fields[] = {
	{ 1, "port", WIRE_U32, IN(port), REQ, 0, UINT32_MAX, "of the host" },
	{ 2, "ticket", WIRE_U64, IN(ticket), REQ, 0, 0, "for the answer" },
};
#undef IN

#define IN(m) offsetof(struct vmm_vsock_answer, m)
static const struct wire_field vsock_answer_fields[] = {
	{ 1, "ticket", WIRE_U64, IN(ticket), REQ, 0, 0, "of the question" },
	{ 2, "fd", WIRE_FD, IN(fd), 0, 0, 0, "a connected stream socket; absent: refused" },
};
#undef IN

#define IN(m) offsetof(struct vmm_vsock_conn, m)
static const struct wire_field vsock_take_fields[] = {
	{ 1, "guest_port", WIRE_U32, IN(guest_port), REQ, 0, UINT32_MAX, "of the connection" },
	{ 2, "host_port", WIRE_U32, IN(host_port), REQ, 0, UINT32_MAX, "of the connection" },
};

static const struct wire_field vsock_give_fields[] = {
	{ 1, "guest_port", WIRE_U32, IN(guest_port), REQ, 0, UINT32_MAX, "of the connection" },
	{ 2, "host_port", WIRE_U32, IN(host_port), REQ, 0, UINT32_MAX, "of the connection" },
	{ 3, "fd", WIRE_FD, IN(fd), REQ, 0, 0, "a connected stream socket" },
};
#undef IN

#define IN(m) offsetof(struct vmm_snapshot, m)
static const struct wire_field restore_fields[] = {
	{ 1, "state_fd", WIRE_FD, IN(state_fd), REQ, 0, 0, "as the snapshot filled it" },
	{ 2, "memory_low_fd", WIRE_FD, IN(memory_low_fd), REQ, 0, 0, "as the snapshot filled it" },
	{ 3, "memory_high_fd", WIRE_FD, IN(memory_high_fd), REQ, 0, 0, "as the snapshot filled it" },
};
#undef IN

#define IN(m) offsetof(struct vmm_client, m)
static const struct wire_field client_fields[] = {
	{ 1, "fd", WIRE_FD, IN(fd), REQ, 0, 0, "a connected stream socket" },
	{ 2, "debugger", WIRE_BOOL, IN(debugger), 0, 0, 0, "it wants the debugger's protocol" },
};
#undef IN

#define MSG(type, text, strct, fields, doc) [type] = WIRE_MSG(type, text, struct strct, fields, doc)
#define EMPTY(type_no, text, what) \
	[type_no] = { .type = (type_no), .name = (text), .size = sizeof(struct vmm_empty), \
		      .doc = (what) }

const struct wire_msg vmm_msgs[VMM_MSG__COUNT] = {
	MSG(VMM_REPLY, "reply", vmm_reply, reply_fields, "the one answer to a request"),
	MSG(VMM_STATE, "state", vmm_state_msg, state_fields, "what the machine does now"),
	EMPTY(VMM_GET_STATE, "get-state", "ask for the state: a state message, then the reply"),
	EMPTY(VMM_PAUSE, "pause", "stop the vCPUs and the devices"),
	EMPTY(VMM_RESUME, "resume", "let them go on"),
	EMPTY(VMM_POWER_BUTTON, "power-button", "press it"),
	EMPTY(VMM_STOP, "stop", "end the machine at once"),
	MSG(VMM_SNAPSHOT, "snapshot", vmm_snapshot, snapshot_fields,
	    "save a paused machine into files"),
	EMPTY(VMM_LOG_START, "log-start", "begin the log of written pages, all clean"),
	EMPTY(VMM_LOG_STOP, "log-stop", "end it"),
	MSG(VMM_LOG_TAKE, "log-take", vmm_log_take, log_take_fields,
	    "take and clear the log; value: how many pages"),
	EMPTY(VMM_STATS, "stats", "ask for counters; text: a JSON object"),
	EMPTY(VMM_CONSOLE, "console", "ask for the serial port; fd: a stream socket"),
	MSG(VMM_VSOCK_CONNECT, "vsock-connect", vmm_vsock_connect, vsock_connect_fields,
	    "connect to a port of the guest; fd: a stream socket"),
	EMPTY(VMM_VSOCK_SERVE, "vsock-serve",
	      "have the guest's connections to ports of the host asked of this connection"),
	MSG(VMM_VSOCK_ASK, "vsock-ask", vmm_vsock_ask, vsock_ask_fields,
	    "the guest connects to a port of the host"),
	MSG(VMM_VSOCK_ANSWER, "vsock-answer", vmm_vsock_answer, vsock_answer_fields,
	    "the answer to that"),
	EMPTY(VMM_VSOCK_LIST, "vsock-list", "ask for the vsock connections; text: a JSON array"),
	MSG(VMM_VSOCK_TAKE, "vsock-take", vmm_vsock_conn, vsock_take_fields,
	    "a connection of a paused machine, to hand it over; fd: its socket"),
	MSG(VMM_VSOCK_GIVE, "vsock-give", vmm_vsock_conn, vsock_give_fields,
	    "the socket of a connection that a snapshot had"),
	MSG(VMM_RESTORE, "restore", vmm_snapshot, restore_fields,
	    "load a snapshot into an empty machine"),
	MSG(VMM_CLIENT, "client", vmm_client, client_fields,
	    "from the machine's keeper: somebody who may has connected"),
	EMPTY(VMM_ENGINE_STATS, "engine-stats", "ask for the engine's counters; text: a line each"),
};

const struct wire_msg *vmm_msg(uint16_t type)
{
	return type > VMM_NONE && type < VMM_MSG__COUNT ? &vmm_msgs[type] : NULL;
}

enum vmm_msg_type vmm_msg_parse(const char *name)
{
	for (uint16_t i = VMM_NONE + 1; i < VMM_MSG__COUNT; i++) {
		if (str_eq(vmm_msgs[i].name, name)) {
			return (enum vmm_msg_type)i;
		}
	}
	return VMM_NONE;
}
