/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/guest-proto.h"

enum { ROWS_MAX = 65535, MESSAGE_MAX = 4096, JSON_MAX = 512 * 1024, TEXT_MAX = 128 };

#define REQ WIRE_REQUIRED

#define IN(m) offsetof(struct guest_hello, m)
static const struct wire_field hello_fields[] = {
	{ 1, "version_min", WIRE_U32, IN(version_min), REQ, 1, UINT16_MAX, "oldest spoken" },
	{ 2, "version_max", WIRE_U32, IN(version_max), REQ, 1, UINT16_MAX, "newest spoken" },
};
#undef IN

#define IN(m) offsetof(struct guest_welcome, m)
static const struct wire_field welcome_fields[] = {
	{ 1, "version", WIRE_U32, IN(version), REQ, 1, UINT16_MAX, "spoken from now on" },
	{ 2, "program", WIRE_STR, IN(program), 0, 0, TEXT_MAX, "name and version" },
};
#undef IN

#define IN(m) offsetof(struct guest_reply, m)
static const struct wire_field reply_fields[] = {
	{ 1, "errnum", WIRE_U32, IN(errnum), REQ, 0, 4095, "errno; 0: done" },
	{ 2, "code", WIRE_U32, IN(code), 0, 0, ERR__COUNT - 1, "kind of the error (enum err_code)" },
	{ 3, "message", WIRE_STR, IN(message), 0, 0, MESSAGE_MAX, "what failed, for a person" },
	{ 4, "text", WIRE_STR, IN(text), 0, 0, JSON_MAX, "result" },
	{ 5, "exit_code", WIRE_U32, IN(exit_code), 0, 0, 255, "for run and exec: 125, 126, 127" },
};
#undef IN

#define IN(m) offsetof(struct guest_setup, m)
static const struct wire_field setup_fields[] = {
	{ 1, "hostname", WIRE_STR, IN(hostname), 0, 0, 64, "of the machine" },
	{ 2, "wall_ns", WIRE_U64, IN(wall_ns), 0, 0, 0, "time since the Unix epoch" },
	{ 3, "seed", WIRE_BYTES, IN(seed), REQ, GUEST_SEED_MIN, 512, "random bytes" },
	{ 4, "root", WIRE_STR, IN(root), 0, 0, TEXT_MAX, "block device with the image, EROFS" },
	{ 5, "upper_bytes", WIRE_U64, IN(upper_bytes), 0, 0, 0, "of the writable layer" },
	{ 6, "address", WIRE_STR, IN(address), 0, 0, TEXT_MAX, "of eth0, with its prefix length" },
	{ 7, "gateway", WIRE_STR, IN(gateway), 0, 0, TEXT_MAX, "default route" },
};
#undef IN

#define IN(m) offsetof(struct guest_file, m)
static const struct wire_field file_fields[] = {
	{ 1, "number", WIRE_U32, IN(number), REQ, 0, 255, "its name" },
	{ 2, "mode", WIRE_U32, IN(mode), REQ, 0, 07777, "permissions" },
	{ 3, "data", WIRE_BYTES, IN(data), 0, 0, GUEST_FILE_MAX, "content" },
};
#undef IN

#define IN(m) offsetof(struct guest_create, m)
static const struct wire_field create_fields[] = {
	{ 1, "config", WIRE_STR, IN(config), REQ, 1, JSON_MAX, "OCI runtime config" },
	{ 2, "streams", WIRE_U32, IN(streams), 0, 0, 7, "1 input, 2 output, 4 error" },
	{ 3, "terminal", WIRE_BOOL, IN(terminal), 0, 0, 0, "as in the process" },
	{ 4, "rows", WIRE_U32, IN(rows), 0, 0, ROWS_MAX, "of the terminal" },
	{ 5, "cols", WIRE_U32, IN(cols), 0, 0, ROWS_MAX, "of the terminal" },
};
#undef IN

#define IN(m) offsetof(struct guest_exec, m)
static const struct wire_field exec_fields[] = {
	{ 1, "session", WIRE_STR, IN(session), REQ, 1, GUEST_SESSION_MAX, "name of the new one" },
	{ 2, "process", WIRE_STR, IN(process), REQ, 1, JSON_MAX, "JSON, process" },
	{ 3, "streams", WIRE_U32, IN(streams), 0, 0, 7, "1 input, 2 output, 4 error" },
	{ 4, "terminal", WIRE_BOOL, IN(terminal), 0, 0, 0, "as in the process" },
	{ 5, "rows", WIRE_U32, IN(rows), 0, 0, ROWS_MAX, "of the terminal" },
	{ 6, "cols", WIRE_U32, IN(cols), 0, 0, ROWS_MAX, "of the terminal" },
};
#undef IN

#define IN(m) offsetof(struct guest_attach, m)
static const struct wire_field attach_fields[] = {
	{ 1, "session", WIRE_STR, IN(session), REQ, 1, GUEST_SESSION_MAX, "session" },
	{ 2, "stream", WIRE_U32, IN(stream), REQ, 0, GUEST_STREAM__COUNT - 1,
	  "0 input, 1 output, 2 error, 3 terminal" },
};
#undef IN

#define IN(m) offsetof(struct guest_signal, m)
static const struct wire_field signal_fields[] = {
	{ 1, "session", WIRE_STR, IN(session), REQ, 1, GUEST_SESSION_MAX, "session" },
	{ 2, "signal", WIRE_U32, IN(signal), REQ, 1, 64, "number" },
	{ 3, "all", WIRE_BOOL, IN(all), 0, 0, 0, "to every process" },
};
#undef IN

#define IN(m) offsetof(struct guest_resize, m)
static const struct wire_field resize_fields[] = {
	{ 1, "session", WIRE_STR, IN(session), REQ, 1, GUEST_SESSION_MAX, "session" },
	{ 2, "rows", WIRE_U32, IN(rows), REQ, 1, ROWS_MAX, "lines" },
	{ 3, "cols", WIRE_U32, IN(cols), REQ, 1, ROWS_MAX, "columns" },
};
#undef IN

#define IN(m) offsetof(struct guest_exited, m)
static const struct wire_field exited_fields[] = {
	{ 1, "session", WIRE_STR, IN(session), REQ, 1, GUEST_SESSION_MAX, "session" },
	{ 2, "exit_code", WIRE_U32, IN(exit_code), REQ, 0, 255, "or 128 + signal" },
	{ 3, "signal", WIRE_U32, IN(signal), 0, 0, 64, "that ended it" },
	{ 4, "oom", WIRE_BOOL, IN(oom), 0, 0, 0, "killed for lack of memory" },
};
#undef IN

#define MSG(type, text, strct, fields, doc) [type] = WIRE_MSG(type, text, struct strct, fields, doc)
#define EMPTY(type_no, text, what) \
	[type_no] = { .type = (type_no), .name = (text), .size = sizeof(struct guest_empty), \
		      .doc = (what) }

const struct wire_msg guest_msgs[GUEST_MSG__COUNT] = {
	MSG(GUEST_HELLO, "hello", guest_hello, hello_fields, "the host introduces itself"),
	MSG(GUEST_WELCOME, "welcome", guest_welcome, welcome_fields, "the guest's answer"),
	MSG(GUEST_REPLY, "reply", guest_reply, reply_fields, "the one answer to a request"),
	MSG(GUEST_SETUP, "setup", guest_setup, setup_fields, "make the machine ready"),
	MSG(GUEST_FILE, "file", guest_file, file_fields, "a file for the container"),
	MSG(GUEST_CREATE, "create", guest_create, create_fields, "make the container"),
	EMPTY(GUEST_START, "start", "start the container"),
	MSG(GUEST_EXEC, "exec", guest_exec, exec_fields, "run one more process"),
	MSG(GUEST_ATTACH, "attach", guest_attach, attach_fields, "become a stream"),
	MSG(GUEST_SIGNAL, "signal", guest_signal, signal_fields, "send a signal"),
	MSG(GUEST_RESIZE, "resize", guest_resize, resize_fields, "set a terminal's size"),
	EMPTY(GUEST_STATS, "stats", "ask for the counters of the control group"),
	EMPTY(GUEST_PIDS, "pids", "ask for the processes"),
	MSG(GUEST_EXITED, "exited", guest_exited, exited_fields, "a session's process has ended"),
	EMPTY(GUEST_POWEROFF, "poweroff", "switch the machine off"),
};

const struct wire_msg *guest_msg(uint16_t type)
{
	return type > GUEST_NONE && type < GUEST_MSG__COUNT ? &guest_msgs[type] : NULL;
}
