/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host and holm-init, process 1 of a virtual machine, say to each other over vsock
 * (docs/formats/guest-protocol.md). holm-init listens on GUEST_PORT; the host connects, any
 * number of times, and sends HELLO first, which is answered by WELCOME.
 *
 * Such a connection carries either messages or one stream of bytes:
 *
 *	messages  Every request is answered by one REPLY with its serial. Sessions (a process
 *	          with its streams) belong to the connection that made them: EXITED comes to it,
 *	          and when it closes their processes are killed.
 *	a stream  After ATTACH and its REPLY only bytes follow. GUEST_IN: from the host, its end
 *	          is the end of standard input. GUEST_OUT, GUEST_ERR: to the host. A session with
 *	          a terminal has only GUEST_TERMINAL, both ways.
 *
 * CREATE and EXEC say which streams their session has; the others are /dev/null. What the
 * process writes before its stream is attached waits in a pipe. The first session is "init",
 * the container's own process: CREATE makes it, START starts it. All others are made by EXEC.
 *
 * Everything that comes from the guest is untrusted: the host decodes it by these tables, in
 * a process that has nothing to lose.
 */
#ifndef GUEST_GUEST_PROTO_H
#define GUEST_GUEST_PROTO_H

#include "wire/wire.h"

enum {
	GUEST_PORT          = 1024,
	GUEST_PROTO_VERSION = 1,    /* what we speak */
	GUEST_PROTO_OLDEST  = 1,    /* what we still understand */
	GUEST_SESSION_MAX   = 64,   /* bytes of a session's name; name_valid() */
	GUEST_FILE_MAX      = 256 * 1024,
	GUEST_SEED_MIN      = 32,
};

#define GUEST_INIT "init"           /* the session of the container's own process */

/* The user network of holm-vmm: the guest's address, its way out, and the name server. */
#define GUEST_USER_ADDRESS "10.0.2.15"
#define GUEST_USER_PREFIX  "24"
#define GUEST_USER_GATEWAY "10.0.2.2"
#define GUEST_USER_DNS     "169.254.1.1"

/* Where the guest puts a file that the host sends, by its number. */
#define GUEST_FILE_PATH "/run/holm/files/%u"

enum guest_msg_type {
	GUEST_NONE,
	GUEST_HELLO,     /* h -> g */
	GUEST_WELCOME,   /* g -> h */
	GUEST_REPLY,     /* g -> h */
	GUEST_SETUP,     /* h -> g: once, before CREATE */
	GUEST_FILE,      /* h -> g: a file for the container's config to bind */
	GUEST_CREATE,    /* h -> g */
	GUEST_START,     /* h -> g */
	GUEST_EXEC,      /* h -> g; REPLY once the process runs */
	GUEST_ATTACH,    /* h -> g */
	GUEST_SIGNAL,    /* h -> g */
	GUEST_RESIZE,    /* h -> g */
	GUEST_STATS,     /* h -> g; REPLY .text: what "holm-oci events --stats" prints */
	GUEST_PIDS,      /* h -> g; REPLY .text: what "holm-oci ps --format json" prints */
	GUEST_EXITED,    /* g -> h: event */
	GUEST_POWEROFF,  /* h -> g: file systems are synced, the machine goes off */
	GUEST_MSG__COUNT,
};

enum guest_stream {
	GUEST_IN,
	GUEST_OUT,
	GUEST_ERR,
	GUEST_TERMINAL,
	GUEST_STREAM__COUNT,
};

struct guest_hello {
	uint32_t version_min, version_max;
};

struct guest_welcome {
	uint32_t version;        /* that both speak from now on */
	char    *program;        /* "holm-init 0.1.0" */
};

struct guest_reply {
	uint32_t errnum;         /* 0: done */
	uint32_t code;           /* enum err_code */
	char    *message;        /* for a person */
	char    *text;
	uint32_t exit_code;      /* of a failed CREATE or EXEC: 127, 126 or 125 */
};

struct guest_setup {
	char             *hostname;      /* NULL: leave it */
	uint64_t          wall_ns;       /* since the Unix epoch; 0: leave the clock */
	struct wire_bytes seed;          /* for the kernel's random numbers; GUEST_SEED_MIN */
	char             *root;          /* block device with the image's files, EROFS; NULL: the
					  * config's root path is used as it is */
	uint64_t          upper_bytes;   /* bound of the writable layer; 0: half of the memory */
	char             *address;       /* of eth0, "10.0.2.15/24"; NULL: no network */
	char             *gateway;
};

struct guest_file {
	uint32_t          number;        /* GUEST_FILE_PATH */
	uint32_t          mode;
	struct wire_bytes data;
};

struct guest_create {
	char    *config;                 /* the OCI runtime config */
	uint32_t streams;                /* BIT(GUEST_IN) ..., without a terminal */
	bool     terminal;               /* as in the config's process */
	uint32_t rows, cols;             /* of the terminal; 0: unknown */
};

struct guest_exec {
	char    *session;
	char    *process;                /* the specification's process object */
	uint32_t streams;
	bool     terminal;
	uint32_t rows, cols;
};

struct guest_attach {
	char    *session;
	uint32_t stream;                 /* enum guest_stream */
};

struct guest_signal {
	char    *session;
	uint32_t signal;
	bool     all;                    /* every process of the container */
};

struct guest_resize {
	char    *session;
	uint32_t rows, cols;
};

struct guest_exited {
	char    *session;
	uint32_t exit_code;              /* 0..255; 128 + signal */
	uint32_t signal;                 /* that ended it; 0: none */
	bool     oom;                    /* the kernel killed something for lack of memory */
};

struct guest_empty {
	uint8_t unused;
};

union guest_any {
	struct guest_hello   hello;
	struct guest_welcome welcome;
	struct guest_reply   reply;
	struct guest_setup   setup;
	struct guest_file    file;
	struct guest_create  create;
	struct guest_exec    exec;
	struct guest_attach  attach;
	struct guest_signal  signal;
	struct guest_resize  resize;
	struct guest_exited  exited;
	struct guest_empty   empty;
};

/* Indexed by enum guest_msg_type; [GUEST_NONE] is empty. */
extern const struct wire_msg guest_msgs[GUEST_MSG__COUNT];

/* The table of a type from the wire, or NULL. */
const struct wire_msg *guest_msg(uint16_t type);

#endif
