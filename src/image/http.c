/* SPDX-License-Identifier: Apache-2.0 */
#include "image/http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "sys/file.h"

enum { BODY_MAX = 4 << 20, ERROR_BODY_MAX = 64 * 1024, STALL_SECONDS = 30, CONNECT_SECONDS = 20 };

int http_init(struct http *h, const struct http_conf *conf, struct err *e)
{
	*h = (struct http){ .conf = *conf };
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		return err_set(e, EIO, ERR_HOST, "libcurl cannot be started");
	}
	h->multi = curl_multi_init();
	return h->multi ? 0 : err_nomem(e);
}

void http_fini(struct http *h)
{
	if (h->multi) {
		(void)curl_multi_cleanup(h->multi);   /* nothing runs: it cannot fail */
		h->multi = NULL;
	}
}

struct http_req *http_req_new(struct http *h, const char *method, const char *url)
{
	struct http_req *q = mem_new(struct http_req);

	if (!q) {
		return NULL;
	}
	q->http = h;
	q->method = method;
	q->send_fd = -1;
	q->body_max = BODY_MAX;
	q->url = str_dup(url);
	q->easy = curl_easy_init();
	if (!q->url || !q->easy) {
		http_req_free(q);
		return NULL;
	}
	return q;
}

void http_req_free(struct http_req *q)
{
	if (!q) {
		return;
	}
	if (q->running) {
		(void)curl_multi_remove_handle(q->http->multi, q->easy); /* it was added */
		q->http->running--;
	}
	curl_easy_cleanup(q->easy);
	curl_slist_free_all(q->headers);
	buf_fini(&q->body);
	free(q->url);
	free(q);
}

int http_req_header(struct http_req *q, const char *fmt, ...)
{
	auto_buf struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);

	struct curl_slist *more = buf_failed(&b) ? NULL :
						   curl_slist_append(q->headers, buf_str(&b));

	if (!more) {
		return -ENOMEM;
	}
	q->headers = more;
	return 0;
}

/* A reply begins: forget what an earlier one (100 Continue) said. */
static void reset_reply(struct http_req *q)
{
	memset(&q->challenge, 0, sizeof(q->challenge));
	q->bad_challenge = false;
	q->content_type[0] = q->digest[0] = q->location[0] = q->link_next[0] = '\0';
	q->range[0] = q->content_range[0] = '\0';
	q->retry_after = 0;
}

/* The value of header `name`, trimmed, or NULL if the line is another one. */
static const char *value_of(const char *line, size_t n, const char *name, size_t *ret_len)
{
	size_t m = strlen(name);

	if (n <= m || line[m] != ':' || strncasecmp(line, name, m) != 0) {
		return NULL;
	}

	const char *v = line + m + 1, *end = line + n;

	while (v < end && (*v == ' ' || *v == '\t')) {
		v++;
	}
	while (end > v &&
	       (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t')) {
		end--;
	}
	*ret_len = (size_t)(end - v);
	return v;
}

static void copy_value(char *out, size_t out_bytes, const char *v, size_t len)
{
	if (len < out_bytes && !memchr(v, '\0', len)) {   /* longer ones are as if not there */
		memcpy(out, v, len);
		out[len] = '\0';
	}
}

/* Link: </v2/x/tags/list?last=b&n=1>; rel="next" */
static void take_link(struct http_req *q, const char *v, size_t len)
{
	char text[2048];

	if (len >= sizeof(text) || len == 0 || *v != '<') {
		return;
	}
	memcpy(text, v, len);
	text[len] = '\0';

	char *end = strchr(text, '>');

	if (end && (strstr(end, "rel=\"next\"") || strstr(end, "rel=next"))) {
		*end = '\0';
		snprintf(q->link_next, sizeof(q->link_next), "%s", text + 1);
	}
}

static void take_retry_after(struct http_req *q, const char *v, size_t len)
{
	char text[16];
	uint64_t n;

	/* Dates are not read: the usual pause does instead. */
	if (len > 0 && len < sizeof(text)) {
		memcpy(text, v, len);
		text[len] = '\0';
		if (parse_u64(text, 86400, &n) == 0) {
			q->retry_after = (unsigned)n;
		}
	}
}

static size_t on_header(char *line, size_t size, size_t n, void *ud)
{
	struct http_req *q = ud;
	size_t len;
	const char *v;

	n *= size;
	if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
		reset_reply(q);
	} else if ((v = value_of(line, n, "www-authenticate", &len))) {
		q->bad_challenge |= challenge_parse(v, len, &q->challenge) < 0;
	} else if ((v = value_of(line, n, "content-type", &len))) {
		const char *semicolon = memchr(v, ';', len);

		len = semicolon ? (size_t)(semicolon - v) : len;
		while (len > 0 && v[len - 1] == ' ') {
			len--;
		}
		copy_value(q->content_type, sizeof(q->content_type), v, len);
	} else if ((v = value_of(line, n, "docker-content-digest", &len))) {
		copy_value(q->digest, sizeof(q->digest), v, len);
	} else if ((v = value_of(line, n, "location", &len))) {
		copy_value(q->location, sizeof(q->location), v, len);
	} else if ((v = value_of(line, n, "link", &len))) {
		take_link(q, v, len);
	} else if ((v = value_of(line, n, "range", &len))) {
		copy_value(q->range, sizeof(q->range), v, len);
	} else if ((v = value_of(line, n, "content-range", &len))) {
		copy_value(q->content_range, sizeof(q->content_range), v, len);
	} else if ((v = value_of(line, n, "retry-after", &len))) {
		take_retry_after(q, v, len);
	}
	return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *ud)
{
	struct http_req *q = ud;
	long status = 0;

	n *= size;
	(void)curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status); /* known to be there */
	if (q->sink && status >= 200 && status < 300) {
		q->status = status;
		q->sink_error = q->sink(data, n, q->sink_ud);
		q->got += n;
		return q->sink_error < 0 ? 0 : n;
	}

	bool good = status >= 200 && status < 300;

	if (q->body.len + n > (good ? q->body_max : (size_t)ERROR_BODY_MAX)) {
		q->sink_error = good ? -EFBIG : 0;
		return good ? 0 : n;   /* the rest of an error's page is of no use */
	}
	buf_add(&q->body, data, n);
	return buf_failed(&q->body) ? 0 : n;
}

static size_t on_read(char *out, size_t size, size_t n, void *ud)
{
	struct http_req *q = ud;
	uint64_t left = q->send_bytes - q->read_off;

	n = (size_t)MIN((uint64_t)(n * size), left);
	if (n == 0) {
		return 0;
	}
	if (q->send_fd < 0) {
		memcpy(out, (const char *)q->send + q->read_off, n);
		q->read_off += n;
		q->sent = q->read_off;
		return n;
	}

	ssize_t r = sys_pread(q->send_fd, out, n, (int64_t)(q->send_off + q->read_off));

	if (r <= 0) {
		return CURL_READFUNC_ABORT;
	}
	q->read_off += (uint64_t)r;
	q->sent = q->read_off;
	return (size_t)r;
}

static int on_seek(void *ud, curl_off_t off, int origin)
{
	struct http_req *q = ud;

	if (origin != SEEK_SET || off < 0 || (uint64_t)off > q->send_bytes) {
		return CURL_SEEKFUNC_CANTSEEK;
	}
	q->read_off = (uint64_t)off;
	return CURL_SEEKFUNC_OK;
}

/* Collect the first error of many settings. */
#define SET(q, opt, value) \
	(failed = failed != CURLE_OK ? failed : curl_easy_setopt((q)->easy, (opt), (value)))

static CURLcode set_connection(struct http_req *q)
{
	const struct http_conf *c = &q->http->conf;
	CURLcode failed = CURLE_OK;

	SET(q, CURLOPT_URL, q->url);
	SET(q, CURLOPT_PROTOCOLS_STR, c->plain ? "http,https" : "https");
	SET(q, CURLOPT_FOLLOWLOCATION, 0L);
	SET(q, CURLOPT_NOSIGNAL, 1L);
	SET(q, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
	SET(q, CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(q, CURLOPT_LOW_SPEED_TIME, (long)(c->stall_seconds ? c->stall_seconds : STALL_SECONDS));
	SET(q, CURLOPT_USERAGENT, "holm/0.1");
	SET(q, CURLOPT_ERRORBUFFER, q->error);
	SET(q, CURLOPT_CAPATH, NULL);
	if (c->ca_file) {
		SET(q, CURLOPT_CAINFO, c->ca_file);
	}
	if (c->cert_file) {
		SET(q, CURLOPT_SSLCERT, c->cert_file);
		SET(q, CURLOPT_SSLKEY, c->key_file ? c->key_file : c->cert_file);
	}
	SET(q, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(q, CURLOPT_SSL_VERIFYPEER, c->no_verify ? 0L : 1L);
	SET(q, CURLOPT_SSL_VERIFYHOST, c->no_verify ? 0L : 2L);
	return failed;
}

static CURLcode set_request(struct http_req *q)
{
	CURLcode failed = CURLE_OK;
	bool body = q->send || q->send_fd >= 0;

	SET(q, CURLOPT_PRIVATE, q);
	SET(q, CURLOPT_HEADERFUNCTION, on_header);
	SET(q, CURLOPT_HEADERDATA, q);
	SET(q, CURLOPT_WRITEFUNCTION, on_body);
	SET(q, CURLOPT_WRITEDATA, q);
	if (body) {
		SET(q, CURLOPT_UPLOAD, 1L);
		SET(q, CURLOPT_READFUNCTION, on_read);
		SET(q, CURLOPT_READDATA, q);
		SET(q, CURLOPT_SEEKFUNCTION, on_seek);
		SET(q, CURLOPT_SEEKDATA, q);
		SET(q, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->send_bytes);
	} else if (str_eq(q->method, "HEAD")) {
		SET(q, CURLOPT_NOBODY, 1L);
	} else if (!str_eq(q->method, "GET")) {
		SET(q, CURLOPT_POST, 1L);
		SET(q, CURLOPT_POSTFIELDS, "");
		SET(q, CURLOPT_POSTFIELDSIZE, 0L);
	}
	SET(q, CURLOPT_CUSTOMREQUEST, q->method);
	SET(q, CURLOPT_HTTPHEADER, q->headers);
	return failed;
}

int http_start(struct http *h, struct http_req *q, struct err *e)
{
	/* No wait for "100 Continue": a refusal ends an upload all the same. */
	if (http_req_header(q, "Expect:") < 0) {
		return err_nomem(e);
	}

	CURLcode c = set_connection(q);

	c = c != CURLE_OK ? c : set_request(q);
	if (c != CURLE_OK) {
		return err_set(e, EINVAL, ERR_HOST, "libcurl: %s", curl_easy_strerror(c));
	}
	if (curl_multi_add_handle(h->multi, q->easy) != CURLM_OK) {
		return err_nomem(e);
	}
	q->running = true;
	h->running++;
	return 0;
}

static void finish(struct http *h, const CURLMsg *msg)
{
	struct http_req *q = NULL;

	if (curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&q) != CURLE_OK || !q) {
		return;
	}
	q->result = msg->data.result;
	(void)curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &q->status); /* 0: no reply */
	q->done = true;
	q->running = false;
	h->running--;
	(void)curl_multi_remove_handle(h->multi, q->easy); /* it was added */
}

int http_poll(struct http *h, int timeout_ms, struct err *e)
{
	int running = 0, left;
	CURLMsg *msg;
	CURLMcode m = curl_multi_perform(h->multi, &running);
	bool some = false;

	while (m == CURLM_OK && (msg = curl_multi_info_read(h->multi, &left))) {
		if (msg->msg == CURLMSG_DONE) {
			finish(h, msg);
			some = true;
		}
	}
	if (m == CURLM_OK && !some) {
		m = curl_multi_poll(h->multi, NULL, 0, timeout_ms, NULL);
	}
	return m == CURLM_OK ? 0 : err_set(e, EIO, ERR_HOST, "libcurl: %s", curl_multi_strerror(m));
}

int http_wait(struct http *h, struct http_req *q, struct err *e)
{
	while (!q->done) {
		int r = http_poll(h, 1000, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

char *http_resolve(const char *base, const char *location)
{
	CURLU *u = curl_url();
	char *text = NULL, *copy = NULL;

	if (u && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK) {
		copy = str_dup(text);
	}
	curl_free(text);
	curl_url_cleanup(u);
	return copy;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *x = NULL, *y = NULL;
	bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    strcasecmp(x, y) == 0;

	curl_free(x);
	curl_free(y);
	return same;
}

bool http_same_origin(const char *a, const char *b)
{
	CURLU *ua = curl_url(), *ub = curl_url();
	bool same = ua && ub && curl_url_set(ua, CURLUPART_URL, a, 0) == CURLUE_OK &&
		    curl_url_set(ub, CURLUPART_URL, b, 0) == CURLUE_OK &&
		    same_part(ua, ub, CURLUPART_SCHEME) && same_part(ua, ub, CURLUPART_HOST) &&
		    same_part(ua, ub, CURLUPART_PORT);

	curl_url_cleanup(ua);
	curl_url_cleanup(ub);
	return same;
}

bool http_is_plain(const char *url)
{
	return strncasecmp(url, "http://", 7) == 0;
}

char *http_escape(const char *s)
{
	char *text = curl_easy_escape(NULL, s, 0);
	char *copy = text ? str_dup(text) : NULL;

	curl_free(text);
	return copy;
}
