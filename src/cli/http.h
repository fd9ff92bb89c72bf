/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 client on a unix socket, as much as the daemon's API needs: one connection a
 * request, JSON in and out, bodies that stream either way, and upgrades.
 *
 *	struct http_call call = { .socket = path, .method = "GET", .path = "/v1/instances" };
 *	auto_json json_t *reply = NULL;
 *
 *	r = http_json(&call, &reply, &e);
 *
 * A reply with an error status becomes a struct err: its code, field and message are the
 * daemon's. A daemon that cannot be reached is ERR_UNAVAILABLE and says what to do.
 *
 * Spec: RFC 9112 (HTTP/1.1)
 */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H

#include "json/json.h"

struct http_call {
	const char   *socket;
	const char   *method;
	const char   *path;          /* with its query, already escaped */
	const json_t *body;          /* NULL: none */
	int           body_fd;       /* > 0: streamed in chunks to its end instead of `body` */
	const char   *content_type;  /* of body_fd */
	const char   *upgrade;       /* protocol to upgrade to, or NULL */
};

struct http_reply;

/*
 * Send a request and read the head of the reply. The caller frees *ret with http_free().
 * Errors of the daemon come back as described above.
 */
int  http_open(const struct http_call *call, struct http_reply **ret, struct err *e) must_check;
void http_free(struct http_reply *r);
AUTO_PTR(struct http_reply, http_free)
#define auto_http auto_(http_freep)

int http_status(const struct http_reply *r);

/* The value of a header of the reply, or NULL. `name` in lower case. */
const char *http_header(const struct http_reply *r, const char *name);

/* Up to n bytes of the body; 0 at its end, -errno. */
ssize_t http_read(struct http_reply *r, void *buf, size_t n) must_check;

/* One line of the body without its end; *ret is valid until the next call. 1, 0 at the end. */
int http_line(struct http_reply *r, const char **ret) must_check;

/* What poll() waits on for more of the body. Bytes may be buffered: see http_buffered(). */
int    http_fd(const struct http_reply *r);
size_t http_buffered(const struct http_reply *r);

/*
 * The connection after an upgrade (status 101), which the caller owns. Bytes that came with
 * the head are put into *early.
 */
int http_take_fd(struct http_reply *r, struct buf *early) must_check;

/* The whole exchange with a JSON reply; *ret is NULL where the reply has no body. */
int http_json(const struct http_call *call, json_t **ret, struct err *e) must_check;

/* The rest of the body as JSON. */
int http_body_json(struct http_reply *r, json_t **ret, struct err *e) must_check;

/* Add "?name=value" or "&name=value" to a path, escaped; nothing where value is NULL. */
void http_query(struct buf *path, const char *name, const char *value);

/* Add one path segment, escaped, with a slash in front. */
void http_segment(struct buf *path, const char *segment);

#endif
