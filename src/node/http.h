/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on a listening socket: libmicrohttpd, driven by our loop through its epoll descriptor.
 * This knows nothing of routes, JSON or errors; node/api.h does.
 *
 * One request: `headers` decides from the first lines how the body is taken; `request` is
 * called when the whole body is there (or, for a streamed body, at once); somebody answers, now
 * or later, by exactly one of http_reply(), http_stream() and http_upgrade(); `gone` is called
 * at the end of every request, answered or not, and after it the request is no more.
 */
#ifndef NODE_HTTP_H
#define NODE_HTTP_H

#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

struct http;
struct http_req;

enum {
	HTTP_CONNECTIONS_MAX = 2048,
	HTTP_STREAM_MAX      = 1024 * 1024,  /* bytes waiting for one client */
};

struct http_body {
	uint64_t max_bytes;  /* more is answered by 413 before anyone sees the request */
	bool     stream;     /* to on_data instead of memory */
};

struct http_handlers {
	/* How the body of this request is taken. 0, or an HTTP status to end it with. */
	int  (*headers)(struct http_req *r, struct http_body *ret, void *ud);
	void (*request)(struct http_req *r, void *ud);
	void (*gone)(struct http_req *r, void *ud);
	/* The body of an error that this layer finds by itself; allocated. */
	char *(*error_text)(int status, void *ud);
};

/* `listen_fd` is borrowed and must stay open. */
int http_new(struct loop *loop, int listen_fd, const struct http_handlers *h, void *ud,
	     struct http **ret, struct err *e) must_check;

/* Accept nothing more; what runs goes on. Then end all. */
void http_quiesce(struct http *h);
struct http *http_free(struct http *h);
AUTO_PTR(struct http, http_free)

unsigned http_connections(const struct http *h);

const char *http_method(const struct http_req *r);
const char *http_path(const struct http_req *r);    /* as sent: escapes are not decoded */
const char *http_header(const struct http_req *r, const char *name);  /* or NULL */
const struct buf *http_body(const struct http_req *r);

/* Each argument of the query, decoded. A negative result ends it and is returned. */
typedef int (*http_query_fn)(const char *key, const char *value, void *ud);
int http_query(struct http_req *r, http_query_fn fn, void *ud) must_check;

/* Who is at the other end. -1 and all bits set if the kernel does not say. */
struct http_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};
struct http_peer http_peer(const struct http_req *r);

/* The owner's pointer of a request. */
void  http_set_ud(struct http_req *r, void *ud);
void *http_ud(const struct http_req *r);

/* The whole answer. `own_text` is freed. */
void http_reply(struct http_req *r, int status, const char *content_type, char *own_text,
		size_t len);

/*
 * Begin an answer of unknown length; then http_write() any number of times and http_end().
 * `drained` (may be NULL) is called when what was written has gone out to the last byte.
 */
void http_stream(struct http_req *r, int status, const char *content_type,
		 void (*drained)(struct http_req *r, void *ud));

/* -ENOBUFS when more than HTTP_STREAM_MAX would wait: the client does not read. */
int    http_write(struct http_req *r, const void *data, size_t n) must_check;
size_t http_waiting(const struct http_req *r);
void   http_end(struct http_req *r);

/* Break the connection without the proper end of a stream, so that the client knows. */
void http_abort(struct http_req *r);

/*
 * A streamed body: what came is given to on_data, which returns how many bytes it took; if not
 * all, http_body_resume() asks again. n == 0 is the end.
 */
typedef size_t (*http_data_fn)(struct http_req *r, const void *data, size_t n, void *ud);
void http_on_data(struct http_req *r, http_data_fn fn, void *ud);
void http_body_resume(struct http_req *r);

/*
 * Answer 101 and give the connection away: `fn` gets a descriptor of its own (which it must
 * close) and what the client sent already, once the headers of the answer are sent; or -1 if the
 * client went before.
 */
typedef void (*http_upgrade_fn)(int own_fd, const void *preread, size_t n, void *ud);
void http_upgrade(struct http_req *r, const char *protocol, http_upgrade_fn fn, void *ud);

#endif
