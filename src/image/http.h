/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP requests, several at a time, for the confined child that speaks with a registry.
 *
 * Nothing happens behind one's back: redirects are not followed, credentials are not kept,
 * nothing is tried again. A request is started, http_poll() moves all that run, and once
 * `done` is set the result can be read. There are no callbacks but the sink for a body.
 *
 *	auto_http_req struct http_req *q = http_req_new(h, "GET", url);
 *	http_req_header(q, "Accept: %s", types);
 *	r = http_start(h, q, e);
 *	r = http_wait(h, q, e);
 *	if (q->status == 200) ... q->body ...
 */
#ifndef IMAGE_HTTP_H
#define IMAGE_HTTP_H

#include <curl/curl.h>

#include "base/err.h"
#include "base/str.h"
#include "image/challenge.h"

/* What every connection has in common. Paths are read by the child: descriptors by /proc. */
struct http_conf {
	const char *ca_file;        /* PEM */
	const char *cert_file;      /* of the client, or NULL */
	const char *key_file;
	bool        no_verify;      /* take any certificate */
	bool        plain;          /* http:// is allowed */
	unsigned    stall_seconds;  /* without a byte: the connection is given up; 0: 30 */
};

struct http {
	CURLM           *multi;
	struct http_conf conf;
	size_t           running;
};

int  http_init(struct http *h, const struct http_conf *conf, struct err *e) must_check;
void http_fini(struct http *h);

/* Takes the body of a 2xx reply; a negative errno ends the transfer with `sink_error`. */
typedef int (*http_sink_fn)(const void *data, size_t n, void *ud);

struct http_req {
	/* Set before the start. */
	char              *url;
	const char        *method;
	struct curl_slist *headers;
	http_sink_fn       sink;       /* NULL: into `body` */
	void              *sink_ud;
	size_t             body_max;   /* of `body`; more is an error */
	const void        *send;       /* body of the request: borrowed bytes, or */
	int                send_fd;    /* send_bytes from this descriptor at send_off; -1: none */
	uint64_t           send_off, send_bytes;
	bool               no_body;    /* HEAD */

	/* The result, once `done`. */
	bool               done;
	CURLcode           result;
	int                sink_error;  /* -errno of the sink, or -EFBIG */
	long               status;      /* 0: there was no reply */
	struct buf         body;
	struct challenge   challenge;
	bool               bad_challenge;
	char               content_type[160];  /* without parameters */
	char               digest[160];        /* Docker-Content-Digest */
	char               location[4096];
	char               link_next[2048];    /* target of Link: <...>; rel="next" */
	char               range[64];
	char               content_range[96];
	unsigned           retry_after;        /* seconds; 0: none said */
	uint64_t           sent;               /* bytes of the body that went out */
	uint64_t           got;                /* bytes handed to the sink */
	char               error[CURL_ERROR_SIZE];

	CURL              *easy;
	struct http       *http;
	bool               running;
	uint64_t           read_off;
};

/* NULL when memory is out. `method` is a literal. */
struct http_req *http_req_new(struct http *h, const char *method, const char *url) must_check;
void http_req_free(struct http_req *q);
AUTO_PTR(struct http_req, http_req_free)
#define auto_http_req auto_(http_req_freep)

/* 0 or -ENOMEM. */
int http_req_header(struct http_req *q, const char *fmt, ...) printf_like(2, 3) must_check;

int http_start(struct http *h, struct http_req *q, struct err *e) must_check;

/* Move everything that runs; returns after something happened, or after `timeout_ms`. */
int http_poll(struct http *h, int timeout_ms, struct err *e) must_check;

int http_wait(struct http *h, struct http_req *q, struct err *e) must_check;

/* The absolute URL that `location` means beside `base`; NULL if it makes none. Caller frees. */
char *http_resolve(const char *base, const char *location) must_check;

/* The same scheme, host and port. */
bool http_same_origin(const char *a, const char *b);
bool http_is_plain(const char *url);

/* A query's value, escaped; NULL when memory is out. Caller frees. */
char *http_escape(const char *s) must_check;

#endif
