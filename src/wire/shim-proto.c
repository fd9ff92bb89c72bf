/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/shim-proto.h"

const char *const shim_state_names[SHIM_STATE__COUNT] = {
	[SHIM_IDLE]     = "idle",
	[SHIM_CREATING] = "creating",
	[SHIM_RUNNING]  = "running",
	[SHIM_PAUSED]   = "paused",
	[SHIM_EXITED]   = "exited",
	[SHIM_GONE]     = "gone",
	[SHIM_FAILED]   = "failed",
};

const char *const shim_reason_names[SHIM_REASON__COUNT + 1] = {
	[SHIM_REASON_NONE]           = "none",
	[SHIM_REASON_NOT_FOUND]      = "command-not-found",
	[SHIM_REASON_NOT_EXECUTABLE] = "command-not-executable",
	[SHIM_REASON_RUNTIME]        = "runtime",
	[SHIM_REASON_NETWORK]        = "network",
	[SHIM_REASON_TIMEOUT]        = "timeout",
	[SHIM_REASON_SHIM]           = "shim",
};

uint32_t shim_reason_exit_code(enum shim_reason reason)
{
	return reason == SHIM_REASON_NOT_FOUND ? 127 :
	       reason == SHIM_REASON_NOT_EXECUTABLE ? 126 : 125;
}

void shim_msg_for_version(unsigned type, uint16_t version, void *msg)
{
	if (type == SHIM_REPLY) {
		struct shim_reply *m = msg;
		uint32_t reason = m->reason;

		m->exit_code = 0;
		if (version < 2) {
			m->reason = 0;
			m->exit_code = reason ? shim_reason_exit_code((enum shim_reason)reason) : 0;
		}
	} else if (type == SHIM_STATUS && version < 2) {
		struct shim_status *m = msg;

		m->reason = m->errnum = m->code = 0;
	}
}

enum { ROWS_MAX = 65535, MESSAGE_MAX = 4096, JSON_MAX = 512 * 1024, ID_MAX = 128 };

#define REQ WIRE_REQUIRED

#define IN(m) offsetof(struct shim_hello, m)
static const struct wire_field hello_fields[] = {
	{ 1, "version_min", WIRE_U32, IN(version_min), REQ, 1, UINT16_MAX, "oldest spoken" },
	{ 2, "version_max", WIRE_U32, IN(version_max), REQ, 1, UINT16_MAX, "newest spoken" },
	{ 3, "epoch", WIRE_U64, IN(epoch), REQ, 0, 0, "of the instance's host lease" },
	{ 4, "instance", WIRE_STR, IN(instance), REQ, 1, ID_MAX, "id; another one is refused" },
};
#undef IN

#define IN(m) offsetof(struct shim_welcome, m)
static const struct wire_field welcome_fields[] = {
	{ 1, "version", WIRE_U32, IN(version), REQ, 1, UINT16_MAX, "spoken from now on" },
	{ 2, "epoch", WIRE_U64, IN(epoch), REQ, 0, 0, "newest that the shim has seen" },
	{ 3, "instance", WIRE_STR, IN(instance), REQ, 1, ID_MAX, "id" },
	{ 4, "pid", WIRE_U32, IN(pid), REQ, 1, INT32_MAX, "of the shim" },
	{ 5, "program", WIRE_STR, IN(program), 0, 0, ID_MAX, "name and version" },
};
#undef IN

#define IN(m) offsetof(struct shim_reply, m)
static const struct wire_field reply_fields[] = {
	{ 1, "errnum", WIRE_U32, IN(errnum), REQ, 0, 4095, "errno; 0: done" },
	{ 2, "code", WIRE_U32, IN(code), 0, 0, ERR__COUNT - 1, "kind of the error (enum err_code)" },
	{ 3, "message", WIRE_STR, IN(message), 0, 0, MESSAGE_MAX, "what failed, for a person" },
	{ 4, "text", WIRE_STR, IN(text), 0, 0, JSON_MAX, "result" },
	{ 5, "value", WIRE_U64, IN(value), 0, 0, 0, "result" },
	{ 6, "exit_code", WIRE_U32, IN(exit_code), 0, 0, 255, "version 1: 125, 126 or 127" },
	{ 7, "reason", WIRE_U32, IN(reason), 0, 0, UINT16_MAX, "version 2: enum shim_reason" },
};
#undef IN

#define IN(m) offsetof(struct shim_status, m)
static const struct wire_field status_fields[] = {
	{ 1, "state", WIRE_U32, IN(state), REQ, 0, SHIM_STATE__COUNT - 1,
	  "idle creating running paused exited gone failed" },
	{ 2, "pid", WIRE_U32, IN(pid), 0, 0, INT32_MAX, "of the first process" },
	{ 3, "exit_code", WIRE_U32, IN(exit_code), 0, 0, 255, "or 128 + signal" },
	{ 4, "signal", WIRE_U32, IN(signal), 0, 0, 64, "that ended it" },
	{ 5, "oom", WIRE_BOOL, IN(oom), 0, 0, 0, "killed for lack of memory" },
	{ 6, "started_ns", WIRE_U64, IN(started_ns), 0, 0, 0, "since the Unix epoch" },
	{ 7, "exited_ns", WIRE_U64, IN(exited_ns), 0, 0, 0, "since the Unix epoch" },
	{ 8, "error", WIRE_STR, IN(error), 0, 0, MESSAGE_MAX, "why it failed" },
	{ 9, "log_lost_records", WIRE_U64, IN(log_lost_records), 0, 0, 0, "not taken by the disk" },
	{ 10, "log_lost_bytes", WIRE_U64, IN(log_lost_bytes), 0, 0, 0, "not taken by the disk" },
	{ 11, "attached", WIRE_U32, IN(attached), 0, 0, 0, "clients now" },
	{ 12, "dropped", WIRE_U32, IN(dropped), 0, 0, 0, "clients that did not read" },
	{ 13, "reason", WIRE_U32, IN(reason), 0, 0, UINT16_MAX, "version 2: why it failed" },
	{ 14, "errnum", WIRE_U32, IN(errnum), 0, 0, 4095, "version 2: of that" },
	{ 15, "code", WIRE_U32, IN(code), 0, 0, ERR__COUNT - 1, "version 2: of that" },
};
#undef IN

#define IN(m) offsetof(struct shim_start, m)
static const struct wire_field start_fields[] = {
	{ 1, "rows", WIRE_U32, IN(rows), 0, 0, ROWS_MAX, "of the terminal" },
	{ 2, "cols", WIRE_U32, IN(cols), 0, 0, ROWS_MAX, "of the terminal" },
	{ 3, "network", WIRE_STRV, IN(network), 0, 0, 128, "argument vector of the helper" },
	{ 4, "timeout_ms", WIRE_U32, IN(timeout_ms), 0, 0, 3600000, "for the whole start" },
};
#undef IN

#define IN(m) offsetof(struct shim_signal, m)
static const struct wire_field signal_fields[] = {
	{ 1, "signal", WIRE_U32, IN(signal), REQ, 1, 64, "number" },
	{ 2, "all", WIRE_BOOL, IN(all), 0, 0, 0, "to every process" },
	{ 3, "exec", WIRE_STR, IN(exec), 0, 0, SHIM_SESSION_MAX, "session" },
};
#undef IN

#define IN(m) offsetof(struct shim_update, m)
static const struct wire_field update_fields[] = {
	{ 1, "resources", WIRE_STR, IN(resources), REQ, 1, JSON_MAX, "JSON, linux.resources" },
};
#undef IN

/* The same members stand in ATTACH and EXEC. */
#define ATTACH_FIELDS(first) \
	{ (first) + 0, "streams", WIRE_U32, IN(streams), 0, 0, 7, "1 stdin, 2 stdout, 4 stderr" }, \
	{ (first) + 1, "framing", WIRE_U32, IN(framing), 0, 0, SHIM_FRAMING__COUNT - 1, \
	  "0 framed, 1 raw, 2 framed to the client only" }, \
	{ (first) + 2, "preread", WIRE_BYTES, IN(preread), 0, 0, 65536, "from the client" }, \
	{ (first) + 3, "stdin_once", WIRE_BOOL, IN(stdin_once), 0, 0, 0, \
	  "its going ends standard input" }, \
	{ (first) + 4, "stall_ms", WIRE_U32, IN(stall_ms), 0, 0, 86400000, \
	  "patience with a client that does not read" }

#define IN(m) offsetof(struct shim_attach, m)
static const struct wire_field attach_fields[] = {
	{ 1, "connection", WIRE_FD, IN(connection), REQ, 0, 1, "the client's socket" },
	{ 2, "exec", WIRE_STR, IN(exec), 0, 0, SHIM_SESSION_MAX, "session" },
	ATTACH_FIELDS(3),
};
#undef IN

#define IN(m) offsetof(struct shim_exec, m)
static const struct wire_field exec_fields[] = {
	{ 1, "exec", WIRE_STR, IN(exec), REQ, 1, SHIM_SESSION_MAX, "name of the session" },
	{ 2, "process", WIRE_STR, IN(process), REQ, 1, JSON_MAX, "JSON, process" },
	{ 3, "terminal", WIRE_BOOL, IN(terminal), 0, 0, 0, "as in the process" },
	{ 4, "open_stdin", WIRE_BOOL, IN(open_stdin), 0, 0, 0, "else /dev/null" },
	{ 5, "rows", WIRE_U32, IN(rows), 0, 0, ROWS_MAX, "of the terminal" },
	{ 6, "cols", WIRE_U32, IN(cols), 0, 0, ROWS_MAX, "of the terminal" },
	{ 7, "connection", WIRE_FD, IN(connection), 0, 0, 1, "a client's socket" },
	ATTACH_FIELDS(8),
};
#undef IN

#define IN(m) offsetof(struct shim_attach_end, m)
static const struct wire_field attach_end_fields[] = {
	{ 1, "attachment", WIRE_U64, IN(attachment), REQ, 1, UINT64_MAX, "number from the reply" },
	{ 2, "errnum", WIRE_U32, IN(errnum), 0, 0, 4095, "why; 0: in order" },
};
#undef IN

#define IN(m) offsetof(struct shim_resize, m)
static const struct wire_field resize_fields[] = {
	{ 1, "rows", WIRE_U32, IN(rows), REQ, 1, ROWS_MAX, "lines" },
	{ 2, "cols", WIRE_U32, IN(cols), REQ, 1, ROWS_MAX, "columns" },
	{ 3, "exec", WIRE_STR, IN(exec), 0, 0, SHIM_SESSION_MAX, "session" },
};
#undef IN

#define IN(m) offsetof(struct shim_session, m)
static const struct wire_field session_fields[] = {
	{ 1, "exec", WIRE_STR, IN(exec), 0, 0, SHIM_SESSION_MAX, "session; absent: the container" },
};
#undef IN

#define IN(m) offsetof(struct shim_exec_status, m)
static const struct wire_field exec_status_fields[] = {
	{ 1, "exec", WIRE_STR, IN(exec), REQ, 1, SHIM_SESSION_MAX, "session" },
	{ 2, "running", WIRE_BOOL, IN(running), 0, 0, 0, "else ended" },
	{ 3, "pid", WIRE_U32, IN(pid), 0, 0, INT32_MAX, "of its process" },
	{ 4, "exit_code", WIRE_U32, IN(exit_code), 0, 0, 255, "or 128 + signal" },
	{ 5, "signal", WIRE_U32, IN(signal), 0, 0, 64, "that ended it" },
	{ 6, "started_ns", WIRE_U64, IN(started_ns), 0, 0, 0, "since the Unix epoch" },
	{ 7, "exited_ns", WIRE_U64, IN(exited_ns), 0, 0, 0, "since the Unix epoch" },
};
#undef IN

#define IN(m) offsetof(struct shim_shutdown, m)
static const struct wire_field shutdown_fields[] = {
	{ 1, "kill", WIRE_BOOL, IN(kill), 0, 0, 0, "end a running container first" },
};
#undef IN

#define MSG(type, text, strct, fields, doc) [type] = WIRE_MSG(type, text, struct strct, fields, doc)
#define EMPTY(type_no, text, what) \
	[type_no] = { .type = (type_no), .name = (text), .size = sizeof(struct shim_empty), \
		      .doc = (what) }

const struct wire_msg shim_msgs[SHIM_MSG__COUNT] = {
	MSG(SHIM_HELLO, "hello", shim_hello, hello_fields, "the daemon introduces itself"),
	MSG(SHIM_WELCOME, "welcome", shim_welcome, welcome_fields, "the shim's answer"),
	MSG(SHIM_REPLY, "reply", shim_reply, reply_fields, "the one answer to a request"),
	MSG(SHIM_STATUS, "status", shim_status, status_fields, "what the instance does now"),
	EMPTY(SHIM_GET_STATUS, "get-status", "ask for a status before the reply"),
	MSG(SHIM_START, "start", shim_start, start_fields, "create and start the container"),
	MSG(SHIM_SIGNAL, "signal", shim_signal, signal_fields, "send a signal"),
	EMPTY(SHIM_PAUSE, "pause", "freeze the container"),
	EMPTY(SHIM_RESUME, "resume", "thaw the container"),
	MSG(SHIM_UPDATE, "update", shim_update, update_fields, "change the limits"),
	MSG(SHIM_EXEC, "exec", shim_exec, exec_fields, "run one more process inside"),
	MSG(SHIM_ATTACH, "attach", shim_attach, attach_fields, "hand a client over"),
	MSG(SHIM_ATTACH_END, "attach-end", shim_attach_end, attach_end_fields,
	    "a client is no longer served"),
	MSG(SHIM_RESIZE, "resize", shim_resize, resize_fields, "set a terminal's size"),
	MSG(SHIM_CLOSE_STDIN, "close-stdin", shim_session, session_fields, "end standard input"),
	MSG(SHIM_EXEC_STATUS, "exec-status", shim_exec_status, exec_status_fields,
	    "what a session does now"),
	EMPTY(SHIM_STATS, "stats", "ask for the counters of the control group"),
	EMPTY(SHIM_PIDS, "pids", "ask for the processes inside"),
	MSG(SHIM_ACK, "ack", shim_session, session_fields, "an exit is recorded; forget it"),
	MSG(SHIM_SHUTDOWN, "shutdown", shim_shutdown, shutdown_fields, "leave"),
};

const struct wire_msg *shim_msg(uint16_t type)
{
	return type > SHIM_NONE && type < SHIM_MSG__COUNT ? &shim_msgs[type] : NULL;
}
