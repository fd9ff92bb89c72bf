/* SPDX-License-Identifier: Apache-2.0 */
/* Upgraded connections of attach and exec, as the commands use them. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli/cli.h"
#include "cli/stream.h"

struct session_opts {
	bool        tty, stdin_open, sig_proxy, no_stdout, no_stderr;
	bool        stdin_once;      /* the end of ours ends its standard input */
	bool        patient;         /* a stopped reader holds the process up for long */
	const char *detach_keys;
};

struct session {
	int         fd;
	struct buf  early;
};

#define SESSION_INIT { .fd = -1, .early = BUF_INIT }
#define auto_session auto_(session_close)

void session_close(struct session *s);

/* The query of attach: which streams. */
void session_query(struct buf *path, const struct session_opts *o);

/* POST `path` with `body` (may be NULL) and upgrade. */
int session_open(const struct cmd_call *call, const char *path, const json_t *body,
		 struct session *ret, struct err *e) must_check;

/* Until its end; the exit status, or STREAM_DETACHED. */
int session_run(struct session *s, const struct session_opts *o, int *ret_status,
		struct buf *messages, struct err *e) must_check;

/* exec.c: attach to an instance by name, starting it first where asked. Its exit status, 0 when
 * detached, or an error. */
int cli_attach_to(const struct cmd_call *call, const char *name, bool want_stdin,
		  const struct session_opts *more, bool start, struct err *e) must_check;

/* An error when a terminal is asked for and ours is none. */
int session_check_tty(const struct session_opts *o, struct err *e) must_check;

#endif
