/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"

enum {
	HEAD_MAX  = 65536,     /* bytes of a reply's head */
	REPLY_MAX = 64 << 20,  /* bytes of a JSON reply */
};

enum body_kind {
	BODY_NONE,
	BODY_LENGTH,   /* `left` bytes more */
	BODY_CHUNKED,  /* `left` bytes more of this chunk */
	BODY_TO_END,   /* until the connection ends */
};

struct http_reply {
	int            fd;
	int            status;
	struct buf     in;      /* received, not consumed */
	struct buf     head;    /* name NUL value NUL ..., names in lower case */
	struct buf     line;
	enum body_kind kind;
	uint64_t       left;
	bool           first_chunk_seen;
	bool           ended;
};

void http_free(struct http_reply *r)
{
	if (!r) {
		return;
	}
	fd_close(&r->fd);
	buf_fini(&r->in);
	buf_fini(&r->head);
	buf_fini(&r->line);
	free(r);
}

int http_status(const struct http_reply *r)
{
	return r->status;
}

int http_fd(const struct http_reply *r)
{
	return r->fd;
}

size_t http_buffered(const struct http_reply *r)
{
	return r->in.len;
}

static void escape(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || strchr("-._~", c);

		if (plain) {
			buf_add_char(b, (char)c);
		} else {
			buf_printf(b, "%%%02X", c);
		}
	}
}

void http_query(struct buf *path, const char *name, const char *value)
{
	if (value) {
		buf_printf(path, "%c%s=", strchr(buf_str(path), '?') ? '&' : '?', name);
		escape(path, value);
	}
}

void http_segment(struct buf *path, const char *segment)
{
	buf_add_char(path, '/');
	escape(path, segment);
}

/* More bytes into r->in; 0 at the end of the connection. */
static ssize_t fill(struct http_reply *r)
{
	if (!buf_reserve(&r->in, 16384)) {
		return -ENOMEM;
	}
	ssize_t n = sys_read(r->fd, r->in.data + r->in.len, 16384);

	if (n > 0) {
		r->in.len += (size_t)n;
		r->in.data[r->in.len] = '\0';
	}
	return n;
}

static int unreachable(const char *socket, int r, struct err *e)
{
	if (r == -EACCES || r == -EPERM) {
		return err_set(e, -r, ERR_DENIED,
			       "no permission to talk to holmd at %s; run this as root", socket);
	}
	if (r == -ENOENT || r == -ECONNREFUSED) {
		return err_set(e, -r, ERR_UNAVAILABLE,
			       "cannot reach holmd at %s; start it with 'systemctl start holmd' "
			       "or 'holmd', or name its socket with --host", socket);
	}
	return err_set(e, -r, ERR_UNAVAILABLE, "cannot reach holmd at %s: %s", socket, strerror(-r));
}

static int lost(int r, struct err *e)
{
	if (r >= 0) {
		return err_set(e, EPIPE, ERR_UNAVAILABLE,
			       "holmd closed the connection before it replied; see its log");
	}
	return err_set(e, -r, ERR_UNAVAILABLE, "the connection to holmd broke: %s", strerror(-r));
}

/* All of it; a daemon that closes early is an error here, not a signal. */
static int send_all(int fd, const void *data, size_t n)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	while (iov.iov_len > 0) {
		ssize_t sent = sys_sendmsg(fd, &msg, 0);

		if (sent < 0) {
			return (int)sent;
		}
		iov.iov_base = (char *)iov.iov_base + sent;
		iov.iov_len -= (size_t)sent;
	}
	return 0;
}

static int send_body_fd(int fd, int body_fd)
{
	char data[65536];

	for (;;) {
		ssize_t n = sys_read(body_fd, data, sizeof(data));
		char size[24];

		if (n < 0) {
			return (int)n;
		}
		int len = snprintf(size, sizeof(size), "%zx\r\n", (size_t)n);
		int r = send_all(fd, size, (size_t)len);

		r = r < 0 ? r : send_all(fd, data, (size_t)n);
		r = r < 0 ? r : send_all(fd, "\r\n", 2);
		if (r < 0 || n == 0) {
			return r;
		}
	}
}

static int send_request(int fd, const struct http_call *call)
{
	auto_buf struct buf b = BUF_INIT;
	auto_free char *body = call->body ? json_text(call->body) : NULL;

	if (call->body && !body) {
		return -ENOMEM;
	}
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: holm\r\n", call->method, call->path);
	if (call->upgrade) {
		buf_printf(&b, "Connection: Upgrade\r\nUpgrade: %s\r\n", call->upgrade);
	} else {
		buf_add_str(&b, "Connection: close\r\n");
	}
	if (call->body_fd > 0) {
		buf_printf(&b, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
			   call->content_type ? call->content_type : "application/octet-stream");
	} else if (body) {
		buf_printf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			   strlen(body), body);
	} else if (!str_eq(call->method, "GET") && !call->upgrade) {
		buf_add_str(&b, "Content-Length: 0\r\n\r\n");
	} else {
		buf_add_str(&b, "\r\n");
	}
	if (buf_failed(&b)) {
		return -ENOMEM;
	}
	int r = send_all(fd, b.data, b.len);

	return r == 0 && call->body_fd > 0 ? send_body_fd(fd, call->body_fd) : r;
}

/* One header line into r->head; obsolete line folding is not accepted. */
static void keep_header(struct http_reply *r, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);

	if (!colon) {
		return;
	}
	for (const char *p = line; p < colon; p++) {
		buf_add_char(&r->head, *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p);
	}
	const char *value = colon + 1;

	while (value < line + len && *value == ' ') {
		value++;
	}
	buf_add_char(&r->head, '\0');
	buf_add(&r->head, value, (size_t)(line + len - value));
	buf_add_char(&r->head, '\0');
}

const char *http_header(const struct http_reply *r, const char *name)
{
	size_t at = 0;

	while (at < r->head.len) {
		const char *key = r->head.data + at;
		const char *value = key + strlen(key) + 1;

		if (str_eq(key, name)) {
			return value;
		}
		at = (size_t)(value - r->head.data) + strlen(value) + 1;
	}
	return NULL;
}

static int parse_head(struct http_reply *r, size_t head_len)
{
	const char *head = r->in.data;
	size_t at = 0;

	if (!head || !str_after(head, "HTTP/1.1 ") || head_len < 14) {
		return -EBADMSG;
	}
	r->status = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
	while (at < head_len) {
		const char *line = head + at;
		const char *eol = memmem(line, head_len - at, "\r\n", 2);

		if (!eol) {
			return -EBADMSG;
		}
		if (at > 0) {
			keep_header(r, line, (size_t)(eol - line));
		}
		at = (size_t)(eol - head) + 2;
	}
	buf_drop(&r->in, head_len);
	return buf_failed(&r->head) ? -ENOMEM : 0;
}

static int find_body(struct http_reply *r)
{
	const char *encoding = http_header(r, "transfer-encoding");
	const char *length = http_header(r, "content-length");

	if (r->status == 204 || r->status == 304 || r->status < 200) {
		r->kind = BODY_NONE;
	} else if (encoding && str_eq(encoding, "chunked")) {
		r->kind = BODY_CHUNKED;
	} else if (length) {
		r->kind = BODY_LENGTH;
		return parse_u64(length, INT64_MAX, &r->left) < 0 ? -EBADMSG : 0;
	} else {
		r->kind = BODY_TO_END;
	}
	return 0;
}

static int read_head(struct http_reply *r)
{
	for (;;) {
		const char *end = r->in.len ? memmem(r->in.data, r->in.len, "\r\n\r\n", 4) : NULL;

		if (end) {
			int s = parse_head(r, (size_t)(end - r->in.data) + 4);

			if (s == 0 && r->status == 100) {
				buf_reset(&r->head);
				continue;
			}
			return s < 0 ? s : find_body(r);
		}
		if (r->in.len > HEAD_MAX) {
			return -EBADMSG;
		}
		ssize_t n = fill(r);

		if (n <= 0) {
			return n < 0 ? (int)n : -EPIPE;
		}
	}
}

/* The size line of the next chunk; *ret 0 for the last. */
static int next_chunk(struct http_reply *r)
{
	for (;;) {
		size_t skip = r->first_chunk_seen ? 2 : 0; /* the line end behind the last one */
		char *eol = r->in.len > skip ?
			memmem(r->in.data + skip, r->in.len - skip, "\r\n", 2) : NULL;

		if (eol) {
			*eol = '\0';
			char *semicolon = strchr(r->in.data + skip, ';');

			if (semicolon) {
				*semicolon = '\0';
			}
			int s = parse_u64_base(r->in.data + skip, 16, INT64_MAX, &r->left);

			buf_drop(&r->in, (size_t)(eol - r->in.data) + 2);
			r->first_chunk_seen = true;
			r->ended = r->left == 0;
			return s < 0 ? -EBADMSG : 0;
		}
		ssize_t n = fill(r);

		if (n <= 0) {
			return n < 0 ? (int)n : -EPIPE;
		}
	}
}

ssize_t http_read(struct http_reply *r, void *buf, size_t n)
{
	if (r->kind == BODY_CHUNKED && r->left == 0 && !r->ended) {
		int s = next_chunk(r);

		if (s < 0) {
			return s;
		}
	}
	if (r->kind == BODY_NONE || r->ended || (r->kind == BODY_LENGTH && r->left == 0)) {
		return 0;
	}
	if (r->in.len == 0) {
		ssize_t got = fill(r);

		if (got < 0 || (got == 0 && r->kind != BODY_TO_END)) {
			return got < 0 ? got : -EPIPE;
		}
	}
	size_t take = MIN(n, r->in.len);

	if (r->kind != BODY_TO_END) {
		take = (size_t)MIN((uint64_t)take, r->left);
		r->left -= take;
	}
	memcpy(buf, r->in.data ? r->in.data : "", take);
	buf_drop(&r->in, take);
	return (ssize_t)take;
}

int http_line(struct http_reply *r, const char **ret)
{
	buf_reset(&r->line);
	for (;;) {
		char c;
		ssize_t n = http_read(r, &c, 1);

		if (n < 0) {
			return (int)n;
		}
		if (n == 0 && r->line.len == 0) {
			return 0;
		}
		if (n == 0 || c == '\n') {
			*ret = buf_str(&r->line);
			return buf_failed(&r->line) ? -ENOMEM : 1;
		}
		buf_add_char(&r->line, c);
	}
}

int http_body_json(struct http_reply *r, json_t **ret, struct err *e)
{
	static const struct json_limits limits = { .bytes = REPLY_MAX, .depth = 64 };
	auto_buf struct buf body = BUF_INIT;

	*ret = NULL;
	for (;;) {
		if (!buf_reserve(&body, 16384) || body.len > REPLY_MAX) {
			return err_set(e, EFBIG, ERR_LIMIT, "the reply of holmd is too large");
		}
		ssize_t n = http_read(r, body.data + body.len, 16384);

		if (n < 0) {
			return lost((int)n, e);
		}
		if (n == 0) {
			break;
		}
		body.len += (size_t)n;
	}
	if (body.len == 0) {
		return 0;
	}
	body.data[body.len] = '\0';
	return json_parse(body.data, body.len, &limits, "the reply of holmd", ret, e);
}

static const char *error_text(const json_t *error, const char *key)
{
	const char *s = json_string_value(json_object_get(error, key));

	return s ? s : "";
}

/* An error reply as the daemon meant it. */
static int daemon_error(struct http_reply *r, struct err *e)
{
	auto_json json_t *doc = NULL;
	int s = http_body_json(r, &doc, e);
	const json_t *error = s == 0 ? json_object_get(doc, "error") : NULL;

	if (!error) {
		return err_set(e, EPROTO, ERR_HOST, "holmd replied with HTTP status %d", r->status);
	}
	enum err_code code = err_code_parse(error_text(error, "code"));

	const char *message = error_text(error, "message"), *field = error_text(error, "field");
	const char *rest = *field ? str_after(message, field) : NULL;

	/* The field is told once, by err_text(). */
	rest = rest ? str_after(rest, ": ") : NULL;
	s = err_set(e, EREMOTEIO, code == ERR__COUNT || code == ERR_NONE ? ERR_HOST : code, "%s",
		    rest ? rest : message);
	(void)snprintf(e->field, sizeof(e->field), "%s", field);
	e->errnum = 0; /* the daemon's text holds its errno; ours would be put behind it */
	return s;
}

int http_open(const struct http_call *call, struct http_reply **ret, struct err *e)
{
	auto_http struct http_reply *r = mem_new(struct http_reply);

	if (!r) {
		return err_nomem(e);
	}
	r->fd = sock_connect_path(call->socket);
	if (r->fd < 0) {
		int s = r->fd;

		r->fd = -1;
		return unreachable(call->socket, s, e);
	}
	int sent = send_request(r->fd, call);
	int s = read_head(r); /* a refusal may come while the body is still on its way */

	if (s < 0) {
		return lost(sent < 0 ? sent : s, e);
	}
	if (r->status >= 400) {
		return daemon_error(r, e);
	}
	*ret = take_ptr(&r);
	return 0;
}

int http_take_fd(struct http_reply *r, struct buf *early)
{
	if (r->status != 101) {
		return -EPROTO;
	}
	buf_add(early, r->in.data, r->in.len);
	buf_reset(&r->in);
	return take_fd(&r->fd);
}

int http_json(const struct http_call *call, json_t **ret, struct err *e)
{
	auto_http struct http_reply *r = NULL;
	int s = http_open(call, &r, e);

	return s < 0 ? s : http_body_json(r, ret, e);
}
