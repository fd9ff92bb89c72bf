/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include <errno.h>
#include <unistd.h>

#include "base/fd.h"

void session_close(struct session *s)
{
	fd_close(&s->fd);
	buf_fini(&s->early);
}

void session_query(struct buf *path, const struct session_opts *o)
{
	http_query(path, "no_stdin", o->stdin_open ? NULL : "true");
	http_query(path, "no_stdout", o->no_stdout ? "true" : NULL);
	http_query(path, "no_stderr", o->no_stderr ? "true" : NULL);
	http_query(path, "stdin_once", o->stdin_once ? "true" : NULL);
	http_query(path, "stall_ms", o->patient ? "3600000" : NULL);
}

int session_open(const struct cmd_call *call, const char *path, const json_t *body,
		 struct session *ret, struct err *e)
{
	struct http_call c = { .socket = cli_socket(call), .method = "POST", .path = path,
			       .body = body, .body_fd = -1, .upgrade = "holm-stream" };
	auto_http struct http_reply *reply = NULL;
	int r = http_open(&c, &reply, e);

	if (r < 0) {
		return r;
	}
	if (http_status(reply) != 101) {
		return err_set(e, EPROTO, ERR_UNAVAILABLE,
			       "the daemon did not hand over the stream (status %d)",
			       http_status(reply));
	}
	ret->fd = http_take_fd(reply, &ret->early);
	return ret->fd < 0 ? err_set(e, -ret->fd, ERR_UNAVAILABLE, "the stream was lost") : 0;
}

int session_run(struct session *s, const struct session_opts *o, int *ret_status,
		struct buf *messages, struct err *e)
{
	struct stream_conf conf = {
		.fd = s->fd, .early = buf_str(&s->early), .early_len = s->early.len,
		.tty = o->tty, .stdin_open = o->stdin_open, .sig_proxy = o->sig_proxy && !o->tty,
		.detach_keys = o->detach_keys,
	};

	return stream_run(&conf, ret_status, messages, e);
}

int session_check_tty(const struct session_opts *o, struct err *e)
{
	if (o->tty && o->stdin_open && !isatty(STDIN_FILENO)) {
		return err_set(e, ENOTTY, ERR_INVALID,
			       "standard input is not a terminal; leave out -t");
	}
	return 0;
}
