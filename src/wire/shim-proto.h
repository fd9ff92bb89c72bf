/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holmd and holm-shim say to each other (docs/formats/shim-protocol.md).
 *
 * holmd connects to the shim's socket and sends HELLO; the shim answers WELCOME and then, as
 * events (serial 0), STATUS and one EXEC_STATUS for each session it knows. From there holmd
 * sends requests, each answered by exactly one REPLY with its serial, in any order; and the
 * shim sends STATUS, EXEC_STATUS and ATTACH_END whenever something changed. Any request before
 * HELLO, and a HELLO with an epoch older than the newest that the shim has seen, ends the
 * connection after its REPLY (ERR_CONFLICT, ESTALE). An epoch equal to it is another
 * connection of the same daemon; a newer one closes those of the older.
 *
 *	struct shim_start m = { .rows = 24, .cols = 80 };
 *	r = wire_conn_send(&conn, &shim_msgs[SHIM_START], serial, &m);
 *
 *	r = wire_conn_next(&conn, &frame);
 *	const struct wire_msg *t = shim_msg(frame.type);   // NULL: unknown
 *	union shim_any m;
 *	r = wire_decode(t, &frame, &m, &e);
 *	...
 *	wire_msg_fini(t, &m);
 */
#ifndef WIRE_SHIM_PROTO_H
#define WIRE_SHIM_PROTO_H

#include "wire/wire.h"

enum {
	SHIM_PROTO_VERSION = 2,    /* what we speak */
	SHIM_PROTO_OLDEST  = 1,    /* what we still understand */
	SHIM_SESSION_MAX   = 64,   /* bytes of an exec session's name */
};

/* Names of files in the instance's folder (the shim's --dir). */
#define SHIM_SOCKET_NAME "shim.sock"
#define SHIM_EXIT_NAME   "exit.json"    /* docs/formats/exit-record.md */
#define SHIM_PID_NAME    "shim.pid"     /* the shim's own; locked (flock) while it lives */

enum shim_msg_type {
	SHIM_NONE,
	SHIM_HELLO,        /* d -> s */
	SHIM_WELCOME,      /* s -> d */
	SHIM_REPLY,        /* s -> d */
	SHIM_STATUS,       /* s -> d: event, and after GET_STATUS before its REPLY */
	SHIM_GET_STATUS,   /* d -> s */
	SHIM_START,        /* d -> s; REPLY once the process runs, or why it does not */
	SHIM_SIGNAL,       /* d -> s */
	SHIM_PAUSE,        /* d -> s */
	SHIM_RESUME,       /* d -> s */
	SHIM_UPDATE,       /* d -> s */
	SHIM_EXEC,         /* d -> s; REPLY once the process runs; .value: its pid */
	SHIM_ATTACH,       /* d -> s; REPLY .value: number of the attachment */
	SHIM_ATTACH_END,   /* s -> d */
	SHIM_RESIZE,       /* d -> s */
	SHIM_CLOSE_STDIN,  /* d -> s */
	SHIM_EXEC_STATUS,  /* s -> d */
	SHIM_STATS,        /* d -> s; REPLY .text: what "holm-oci events --stats" prints */
	SHIM_PIDS,         /* d -> s; REPLY .text: what "holm-oci ps --format json" prints */
	SHIM_ACK,          /* d -> s: the exit (of a session) is recorded, forget it */
	SHIM_SHUTDOWN,     /* d -> s */
	SHIM_MSG__COUNT,
};

enum shim_state {
	SHIM_IDLE,       /* waits for START */
	SHIM_CREATING,   /* the runtime, then the network helper, are at work */
	SHIM_RUNNING,    /* .pid is valid */
	SHIM_PAUSED,
	SHIM_EXITED,     /* .exit_code is valid and on disk; the runtime's delete is at work */
	SHIM_GONE,       /* nothing is left of the container; waits for ACK, then leaves */
	SHIM_FAILED,     /* START failed, .error says why; nothing is left; waits for ACK */
	SHIM_STATE__COUNT,
};

/* "idle", "creating", "running", ... */
extern const char *const shim_state_names[SHIM_STATE__COUNT];

/* Why a START or an EXEC failed. */
enum shim_reason {
	SHIM_REASON_NONE,
	SHIM_REASON_NOT_FOUND,      /* there is no such command */
	SHIM_REASON_NOT_EXECUTABLE, /* it is there and cannot be run */
	SHIM_REASON_RUNTIME,        /* the runtime failed otherwise */
	SHIM_REASON_NETWORK,        /* the network helper failed */
	SHIM_REASON_TIMEOUT,        /* it took too long and was ended */
	SHIM_REASON_SHIM,           /* the shim itself could not do it */
	SHIM_REASON__COUNT,
};

/* "", "command-not-found", "command-not-executable", "runtime", ... */
extern const char *const shim_reason_names[SHIM_REASON__COUNT + 1];

/* What `run` and `exec` end with: 127, 126, or 125 for all else. */
uint32_t shim_reason_exit_code(enum shim_reason reason);

enum {
	SHIM_STDIN  = 1,
	SHIM_STDOUT = 2,
	SHIM_STDERR = 4,
};

enum shim_framing {
	SHIM_FRAMED,     /* docs/formats/attach.md: frames both ways */
	SHIM_RAW,        /* bytes both ways (a terminal, as docker's API has it) */
	SHIM_FRAMED_OUT, /* frames to the client, raw standard input from it (docker's API) */
	SHIM_FRAMING__COUNT,
};

struct shim_hello {
	uint32_t version_min, version_max;
	uint64_t epoch;
	char    *instance;
};

struct shim_welcome {
	uint32_t version;      /* that both speak from now on */
	uint64_t epoch;        /* newest the shim has seen */
	char    *instance;
	uint32_t pid;          /* of the shim */
	char    *program;      /* "holm-shim 0.1.0" */
};

struct shim_reply {
	uint32_t errnum;       /* 0: done */
	uint32_t code;         /* enum err_code */
	char    *message;      /* for a person */
	char    *text;         /* result of STATS, PIDS */
	uint64_t value;        /* result of EXEC, ATTACH */
	uint32_t exit_code;    /* version 1 only: of a failed START or EXEC, 127 no such command,
				* 126 cannot be run, 125 anything else */
	uint32_t reason;       /* since version 2: enum shim_reason */
};

struct shim_status {
	uint32_t state;             /* enum shim_state */
	uint32_t pid;               /* of the container's first process; 0: none */
	uint32_t exit_code;         /* 0..255; 128 + signal */
	uint32_t signal;            /* that ended it; 0: none */
	bool     oom;               /* the kernel killed something in it for lack of memory */
	uint64_t started_ns;        /* since the Unix epoch; 0: not yet */
	uint64_t exited_ns;
	char    *error;             /* SHIM_FAILED: why */
	uint64_t log_lost_records;  /* that the disk did not take */
	uint64_t log_lost_bytes;
	uint32_t attached;          /* clients now */
	uint32_t dropped;           /* clients dropped because they did not read */
	uint32_t reason;            /* since version 2, of SHIM_FAILED: enum shim_reason, */
	uint32_t errnum;            /* its errno, */
	uint32_t code;              /* its enum err_code */
};

struct shim_empty {
	uint8_t unused;
};

struct shim_start {
	uint32_t    rows, cols;     /* of the terminal; 0: unknown */
	struct strv network;        /* argv of a helper run between create and start; "{pid}"
				     * and "{pidfile}" stand for the container's process and
				     * for a file where it writes its own. It ends by itself
				     * once it serves (pasta goes to the background then) */
	uint32_t    timeout_ms;     /* for create, helper and start together; 0: 120 s */
};

struct shim_signal {
	uint32_t signal;
	bool     all;               /* every process of the container */
	char    *exec;              /* session; NULL: the container */
};

struct shim_update {
	char *resources;            /* JSON of the specification's linux.resources */
};

/* Also part of SHIM_EXEC: whoever is attached before the process starts misses nothing. */
struct shim_attach {
	int               connection; /* socket of the client; its reply headers are sent */
	char             *exec;       /* session; NULL: the container */
	uint32_t          streams;    /* SHIM_STDIN | ... */
	uint32_t          framing;    /* enum shim_framing */
	struct wire_bytes preread;    /* what the client sent already */
	bool              stdin_once; /* its end of file, or its going, ends standard input */
	uint32_t          stall_ms;   /* dropped when it takes no byte for so long while output
				       * waits for it; 0: 10 s */
};

struct shim_exec {
	char              *exec;      /* name of the new session; name_valid() */
	char              *process;   /* JSON of the specification's process */
	bool               terminal;  /* as in the process */
	bool               open_stdin;
	uint32_t           rows, cols;
	int                connection; /* as in struct shim_attach; -1: nobody */
	uint32_t           streams;
	uint32_t           framing;
	struct wire_bytes  preread;
	bool               stdin_once;
	uint32_t           stall_ms;
};

struct shim_attach_end {
	uint64_t attachment;
	uint32_t errnum;            /* 0: detached or the process ended; ETIMEDOUT: did not read */
};

struct shim_resize {
	uint32_t rows, cols;
	char    *exec;
};

struct shim_session {         /* CLOSE_STDIN, ACK */
	char *exec;                 /* NULL: the container */
};

struct shim_exec_status {
	char    *exec;
	bool     running;
	uint32_t pid;
	uint32_t exit_code;         /* valid once not running */
	uint32_t signal;
	uint64_t started_ns, exited_ns;
};

struct shim_shutdown {
	bool kill;                  /* end a running container; else ERR_CONFLICT if there is one */
};

union shim_any {
	struct shim_hello       hello;
	struct shim_welcome     welcome;
	struct shim_reply       reply;
	struct shim_status      status;
	struct shim_empty       empty;
	struct shim_start       start;
	struct shim_signal      signal;
	struct shim_update      update;
	struct shim_attach      attach;
	struct shim_exec        exec;
	struct shim_attach_end  attach_end;
	struct shim_resize      resize;
	struct shim_session     session;
	struct shim_exec_status exec_status;
	struct shim_shutdown    shutdown;
};

/* Indexed by enum shim_msg_type; [SHIM_NONE] is empty. */
extern const struct wire_msg shim_msgs[SHIM_MSG__COUNT];

/*
 * Take out of a message what a peer of an older version is not told, and put in what it needs
 * instead. `msg` is one of type's structs, changed in place.
 */
void shim_msg_for_version(unsigned type, uint16_t version, void *msg);

/* The table of a type from the wire, or NULL. */
const struct wire_msg *shim_msg(uint16_t type);

#endif
