/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stream.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/term.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "wire/attach.h"

enum { CHUNK = 16384 };

struct stream {
	const struct stream_conf *conf;
	struct buf                in;       /* from the shim, not consumed */
	struct buf                out;      /* to the shim, not sent */
	struct buf               *messages;
	struct detach_keys        keys;
	struct term_raw           raw;
	int                       signal_fd;
	bool                      stdin_over;
	bool                      ended;
	int                       status;
};

static const int proxied[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
			       SIGCONT };

static void signal_set(sigset_t *set)
{
	(void)sigemptyset(set);   /* cannot fail, as the next */
	for (size_t i = 0; i < ARRAY_LEN(proxied); i++) {
		(void)sigaddset(set, proxied[i]);
	}
}

void stream_hold_signals(void)
{
	sigset_t set;

	signal_set(&set);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);   /* cannot fail */
	(void)signal(SIGPIPE, SIG_IGN);             /* cannot fail */
}

void stream_release_signals(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
	const struct timespec now = { 0 };
	sigset_t set;

	(void)sigemptyset(&set); /* cannot fail, as the next */
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		(void)sigaddset(&set, ends[i]);
	}
	while (sigtimedwait(&set, NULL, &now) > 0 || errno == EINTR) {
		; /* for the process that has ended */
	}
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL); /* cannot fail */
}

static void put_frame(struct stream *s, uint8_t kind, const void *data, size_t n)
{
	uint8_t head[ATTACH_HEAD];

	attach_head(head, kind, n);
	buf_add(&s->out, head, sizeof(head));
	buf_add(&s->out, data, n);
}

static void put_size(struct stream *s)
{
	uint16_t rows, cols;

	if (s->conf->tty && term_size(STDIN_FILENO, &rows, &cols) == 0 && rows && cols) {
		uint8_t size[4] = { (uint8_t)(rows >> 8), (uint8_t)rows, (uint8_t)(cols >> 8),
				    (uint8_t)cols };

		put_frame(s, ATTACH_RESIZE, size, sizeof(size));
	}
}

static int take_frame(struct stream *s, uint8_t kind, const char *data, size_t n)
{
	switch (kind) {
	case ATTACH_STDOUT:
		return sys_write_full(STDOUT_FILENO, data, n);
	case ATTACH_STDERR:
		return sys_write_full(STDERR_FILENO, data, n);
	case ATTACH_MESSAGE:
		if (s->messages) {
			buf_add(s->messages, data, n);
			return 0;
		}
		dprintf(STDERR_FILENO, "holm: %.*s%s\n", (int)n, data, s->raw.fd >= 0 ? "\r" : "");
		return 0;
	case ATTACH_END:
		if (n != 4) {
			return -EBADMSG;
		}
		s->ended = true;
		s->status = (int)attach_get_u32((const uint8_t *)data);
		return 0;
	default:
		return 0; /* of a newer version: not for us */
	}
}

static int take_frames(struct stream *s)
{
	size_t used = 0;
	int r = 0;

	while (r == 0 && !s->ended && s->in.len - used >= ATTACH_HEAD) {
		const uint8_t *p = (const uint8_t *)s->in.data + used;
		size_t n = attach_get_u32(p + 4);

		if (n > 1024 * 1024) {
			return -EBADMSG;
		}
		if (s->in.len - used < ATTACH_HEAD + n) {
			break;
		}
		r = take_frame(s, p[0], (const char *)p + ATTACH_HEAD, n);
		used += ATTACH_HEAD + n;
	}
	buf_drop(&s->in, used);
	return r;
}

/* What is wrong with the connection, or 0. */
static int on_connection(struct stream *s, short events)
{
	if (events & POLLOUT) {
		ssize_t n = sock_send_some(s->conf->fd, s->out.data, s->out.len, NULL, 0);

		if (n < 0 && n != -EAGAIN) {
			buf_reset(&s->out); /* it reads no more; what it says is still to come */
		} else if (n > 0) {
			buf_drop(&s->out, (size_t)n);
		}
	}
	if (events & (POLLIN | POLLHUP | POLLERR)) {
		if (!buf_reserve(&s->in, CHUNK)) {
			return -ENOMEM;
		}
		ssize_t n = sys_read(s->conf->fd, s->in.data + s->in.len, CHUNK);

		if (n <= 0) {
			return n == 0 ? -EPIPE : (int)n;
		}
		s->in.len += (size_t)n;
		return take_frames(s);
	}
	return 0;
}

static void on_stdin(struct stream *s)
{
	unsigned char typed[CHUNK], pass[CHUNK + DETACH_KEYS_MAX];
	ssize_t n = sys_read(STDIN_FILENO, typed, sizeof(typed));
	size_t len = 0;

	if (n <= 0) {
		s->stdin_over = true;
		if (!s->conf->tty) {
			put_frame(s, ATTACH_EOF, NULL, 0);
		}
		return;
	}
	bool detach = false;

	if (s->conf->tty) {
		detach = detach_keys_feed(&s->keys, typed, (size_t)n, pass, &len);
	} else {
		memcpy(pass, typed, (size_t)n);
		len = (size_t)n;
	}
	if (len > 0) {
		put_frame(s, ATTACH_DATA, pass, len);
	}
	if (detach) {
		s->stdin_over = true;
		put_frame(s, ATTACH_DETACH, NULL, 0);
	}
}

static void on_signal(struct stream *s)
{
	struct signalfd_siginfo si;

	if (sys_read(s->signal_fd, &si, sizeof(si)) != sizeof(si)) {
		return;
	}
	uint8_t number[4];

	attach_put_u32(number, si.ssi_signo);

	if (si.ssi_signo == SIGWINCH || si.ssi_signo == SIGCONT) {
		put_size(s);
	} else if (s->conf->sig_proxy) {
		put_frame(s, ATTACH_SIGNAL, number, sizeof(number));
	} else {
		put_frame(s, ATTACH_DETACH, NULL, 0);
	}
}

static int turn(struct stream *s)
{
	/* What is typed waits while the shim has not taken what was typed before. */
	bool in = s->conf->stdin_open && !s->stdin_over && s->out.len == 0;
	struct pollfd p[3] = {
		{ .fd = s->conf->fd, .events = (short)(POLLIN | (s->out.len > 0 ? POLLOUT : 0)) },
		{ .fd = s->signal_fd, .events = POLLIN },
		{ .fd = in ? STDIN_FILENO : -1, .events = POLLIN },
	};

	if (poll(p, ARRAY_LEN(p), -1) < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	int r = p[0].revents ? on_connection(s, p[0].revents) : 0;

	if (r == 0 && p[1].revents) {
		on_signal(s);
	}
	if (r == 0 && p[2].revents) {
		on_stdin(s);
	}
	return r < 0 ? r : buf_failed(&s->out) || buf_failed(&s->in) ? -ENOMEM : 0;
}

static int open_stream(struct stream *s, struct err *e)
{
	sigset_t set;
	int r = detach_keys_parse(s->conf->detach_keys ? s->conf->detach_keys : "ctrl-p,ctrl-q",
				  &s->keys, e);

	if (r < 0) {
		return r;
	}
	signal_set(&set);
	s->signal_fd = sys_signalfd(-1, &set, SFD_NONBLOCK);
	if (s->signal_fd < 0) {
		return err_set(e, -s->signal_fd, ERR_HOST, "signalfd");
	}
	if (s->conf->tty && s->conf->stdin_open) {
		r = term_raw_start(&s->raw, STDIN_FILENO);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot set up the terminal");
		}
	}
	put_size(s);
	buf_add(&s->in, s->conf->early, s->conf->early_len);
	return 0;
}

int stream_run(const struct stream_conf *conf, int *ret_status, struct buf *messages,
	       struct err *e)
{
	struct stream s = { .conf = conf, .in = BUF_INIT, .out = BUF_INIT, .messages = messages,
			    .raw = TERM_RAW_INIT, .signal_fd = -1 };
	int r;

	stream_hold_signals();
	r = open_stream(&s, e);
	if (r == 0) {
		r = take_frames(&s);
		while (r == 0 && !s.ended) {
			r = turn(&s);
		}
		if (r < 0) {
			r = err_set(e, -r, ERR_UNAVAILABLE, r == -EPIPE ?
				    "the connection to the instance ended before its process did" :
				    "the connection to the instance failed");
		}
	}
	term_raw_stop(&s.raw);
	fd_close(&s.signal_fd);
	buf_fini(&s.in);
	buf_fini(&s.out);
	if (r == 0) {
		*ret_status = s.status;
	}
	return r;
}
