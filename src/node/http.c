/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a request, by who acts next:
 *
 *	READING  libmicrohttpd gives us the body
 *	ASKED    the handler has it and has not answered; the connection is suspended
 *	ANSWERED a response is queued; a stream is suspended while it has nothing to send
 *
 * A suspended connection is not watched by libmicrohttpd, so that a client that goes is not
 * noticed: for that time we watch its descriptor for the hang-up ourselves.
 */
#include "node/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"

struct http {
	struct loop               *loop;
	struct MHD_Daemon         *daemon;
	struct loop_fd            *epoll;
	struct loop_timer         *timer;
	struct loop_post           again;
	const struct http_handlers *handlers;
	void                      *ud;
	bool                       running;  /* inside MHD_run() */
};

enum req_state { REQ_READING, REQ_ASKED, REQ_ANSWERED };

struct http_req {
	struct http           *http;
	struct MHD_Connection *conn;
	const char            *method;
	char                  *path;
	void                  *ud;
	enum req_state         state;
	struct http_body       want;
	struct buf             body;
	bool                   begun;      /* its headers were seen */
	bool                   asked;      /* the handler was called */
	bool                   suspended;
	struct loop_fd        *hangup;
	struct MHD_Response   *response;   /* to be queued at the next call */
	int                    status;
	struct buf             out;        /* of a stream */
	size_t                 out_sent;
	bool                   stream, ended, aborted;
	void                 (*drained)(struct http_req *r, void *ud);
	struct loop_post       drain_post;
	http_data_fn           data_fn;
	void                  *data_ud;
	bool                   body_ended;
	http_upgrade_fn        upgrade_fn;
	void                  *upgrade_ud;
};

static void run(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;

	h->running = true;
	MHD_run(h->daemon);
	h->running = false;
	if (MHD_get_timeout(h->daemon, &ms) == MHD_YES) {
		loop_timer_start(h->timer, (uint64_t)ms * NS_PER_MS);
	} else {
		loop_timer_stop(h->timer);
	}
}

static void on_epoll(struct loop_fd *src, unsigned events, void *ud)
{
	(void)src;
	(void)events;
	run(ud);
}

static void on_timer(struct loop_timer *t, void *ud)
{
	(void)t;
	run(ud);
}

static void on_again(struct loop_post *p, void *ud)
{
	(void)p;
	run(ud);
}

static int connection_fd(const struct http_req *r)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

static void resume(struct http_req *r)
{
	if (r->suspended) {
		r->suspended = false;
		r->hangup = loop_fd_free(r->hangup);
		MHD_resume_connection(r->conn);
		loop_post(r->http->loop, &r->http->again);
	}
}

/* The client went while nothing was to be sent: libmicrohttpd finds out by itself. */
static void on_hangup(struct loop_fd *src, unsigned events, void *ud)
{
	struct http_req *r = ud;

	(void)src;
	(void)events;
	r->aborted = true;
	resume(r);
}

static void suspend(struct http_req *r)
{
	if (!r->suspended) {
		r->suspended = true;
		MHD_suspend_connection(r->conn);
		ignore_result(loop_fd_new(r->http->loop, connection_fd(r), LOOP_PRI, on_hangup, r,
					  &r->hangup));
		/* without it the client's going is noticed at the next write */
	}
}

static void on_drain_post(struct loop_post *p, void *ud)
{
	struct http_req *r = ud;

	(void)p;
	if (r->drained && !r->ended) {
		r->drained(r, r->ud);
	}
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct http_req *r = cls;
	size_t n = MIN(r->out.len - r->out_sent, max);

	(void)pos;
	if (r->aborted) {
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (n == 0 && r->ended) {
		return MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (n == 0) {
		suspend(r);
		return 0;
	}
	memcpy(buf, r->out.data + r->out_sent, n);
	r->out_sent += n;
	if (r->out_sent == r->out.len) {
		buf_fini(&r->out);
		r->out_sent = 0;
		loop_post(r->http->loop, &r->drain_post);
	}
	return (ssize_t)n;
}

static void on_upgrade(void *cls, struct MHD_Connection *conn, void *con_cls, const char *extra,
		       size_t extra_size, MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct http_req *r = cls;
	int fd = sys_dup(sock);
	http_upgrade_fn fn = r->upgrade_fn;

	(void)conn;
	(void)con_cls;
	r->upgrade_fn = NULL;
	fn(fd, extra, extra_size, r->upgrade_ud);
	MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
	loop_post(r->http->loop, &r->http->again);
}

static void answer(struct http_req *r, int status, struct MHD_Response *own_response)
{
	assert(!r->response && r->state != REQ_ANSWERED);
	r->response = own_response;
	r->status = status;
	resume(r);
}

static struct MHD_Response *response_of(char *own_text, size_t len, const char *type)
{
	struct MHD_Response *x = MHD_create_response_from_buffer(len, own_text, MHD_RESPMEM_MUST_FREE);

	if (!x) {
		free(own_text);
	} else if (type) {
		MHD_add_response_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	}
	return x;
}

static enum MHD_Result refuse(struct http_req *r, int status)
{
	char *text = r->http->handlers->error_text(status, r->http->ud);
	struct MHD_Response *x = text ? response_of(text, strlen(text), "application/json") : NULL;

	if (!x) {
		return MHD_NO;
	}
	MHD_add_response_header(x, MHD_HTTP_HEADER_CONNECTION, "close");
	enum MHD_Result ret = MHD_queue_response(r->conn, (unsigned)status, x);

	MHD_destroy_response(x);
	r->state = REQ_ANSWERED;
	return ret;
}

static enum MHD_Result begin(struct http_req *r)
{
	const char *length = http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t n = 0;
	int status = r->http->handlers->headers(r, &r->want, r->http->ud);

	if (status) {
		return refuse(r, status);
	}
	if (length && parse_u64(length, UINT64_MAX, &n) < 0) {
		return refuse(r, 400);
	}
	if (n > r->want.max_bytes) {
		return refuse(r, 413);
	}
	if (r->want.stream) {
		r->asked = true;
		r->http->handlers->request(r, r->http->ud);
	}
	return MHD_YES;
}

static enum MHD_Result take_body(struct http_req *r, const char *data, size_t *n)
{
	if (r->want.stream) {
		size_t took = r->data_fn ? r->data_fn(r, data, *n, r->data_ud) : 0;

		if (r->response || r->aborted) {
			took = *n; /* it was answered meanwhile: the rest is of no interest */
		}
		*n -= took;
		if (*n > 0) {
			suspend(r);
		}
		return MHD_YES;
	}
	if (r->body.len + *n > r->want.max_bytes) {
		*n = 0;
		return r->state == REQ_ANSWERED ? MHD_YES : MHD_NO;
	}
	buf_add(&r->body, data, *n);
	*n = 0;
	return buf_failed(&r->body) ? MHD_NO : MHD_YES;
}

/* The body is complete, or the connection was resumed for an answer. */
static enum MHD_Result proceed(struct http_req *r)
{
	if (r->want.stream && !r->body_ended) {
		r->body_ended = true;
		if (r->data_fn) {
			r->data_fn(r, NULL, 0, r->data_ud);
		}
	}
	if (!r->asked) {
		r->asked = true;
		r->state = REQ_ASKED;
		r->http->handlers->request(r, r->http->ud);
	}
	if (r->aborted && !r->response) {
		return MHD_NO;
	}
	if (!r->response) {
		suspend(r);
		return MHD_YES;
	}
	r->state = REQ_ANSWERED;
	struct MHD_Response *x = take_ptr(&r->response);
	enum MHD_Result ret = MHD_queue_response(r->conn, (unsigned)r->status, x);

	MHD_destroy_response(x);
	return ret;
}

/*
 * The first call for a request, with its target as it was sent: libmicrohttpd's own decoding
 * would turn an escaped slash in a name into one that separates. What this returns is the
 * request's pointer.
 */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *conn)
{
	struct http_req *r = mem_new(struct http_req);

	if (r) {
		r->http = cls;
		r->conn = conn;
		loop_post_init(&r->drain_post, on_drain_post, r);
		r->path = str_ndup(uri, strcspn(uri, "?"));
	}
	return r;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *n, void **con_cls)
{
	struct http_req *r = *con_cls;

	(void)version;
	(void)cls;
	(void)url;
	if (!r || !r->path) {
		return MHD_NO; /* memory is out */
	}
	if (!r->begun) {
		r->begun = true;
		r->conn = conn;
		r->method = method;
		return begin(r);
	}
	if (r->state == REQ_ANSWERED) {
		*n = 0;
		return MHD_YES;
	}
	if (*n > 0) {
		return take_body(r, data, n);
	}
	return proceed(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	struct http_req *r = *con_cls;

	(void)cls;
	(void)conn;
	(void)code;
	*con_cls = NULL;
	if (r) {
		r->http->handlers->gone(r, r->http->ud);
		loop_post_cancel(&r->drain_post);
		loop_fd_free(r->hangup);
		if (r->upgrade_fn) {
			r->upgrade_fn(-1, NULL, 0, r->upgrade_ud);
		}
		if (r->response) {
			MHD_destroy_response(r->response);
		}
		buf_fini(&r->body);
		buf_fini(&r->out);
		free(r->path);
		free(r);
	}
}

/* libmicrohttpd's own remarks are of no use to the operator. */
static void no_log(void *cls, const char *fmt, va_list ap)
{
	(void)cls;
	(void)fmt;
	(void)ap;
}

/* "%00" stays as it is: decoded it would end the text, which then names something else. */
static size_t unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strstr(s, "%00") ? strlen(s) : MHD_http_unescape(s);
}

static int start(struct http *h, int listen_fd)
{
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_TURBO, 0,
		NULL, NULL, on_access, h,
		MHD_OPTION_LISTEN_SOCKET, listen_fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, 0u,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
		MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, h,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
		MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
		MHD_OPTION_END);
	return h->daemon ? 0 : -EIO;
}

int http_new(struct loop *loop, int listen_fd, const struct http_handlers *handlers, void *ud,
	     struct http **ret, struct err *e)
{
	auto_(http_freep) struct http *h = mem_new(struct http);

	if (!h) {
		return err_nomem(e);
	}
	h->loop = loop;
	h->handlers = handlers;
	h->ud = ud;
	loop_post_init(&h->again, on_again, h);
	int r = start(h, listen_fd);

	if (r == 0) {
		r = loop_timer_new(loop, on_timer, h, &h->timer);
	}
	if (r == 0) {
		const union MHD_DaemonInfo *info =
			MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);

		r = info ? loop_fd_new(loop, info->epoll_fd, LOOP_IN, on_epoll, h, &h->epoll) :
		    -EIO;
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the HTTP server");
	}
	*ret = take_ptr(&h);
	return 0;
}

void http_quiesce(struct http *h)
{
	MHD_quiesce_daemon(h->daemon);
}

struct http *http_free(struct http *h)
{
	if (h) {
		loop_post_cancel(&h->again);
		loop_fd_free(h->epoll);
		loop_timer_free(h->timer);
		if (h->daemon) {
			MHD_stop_daemon(h->daemon);
		}
		loop_post_cancel(&h->again);
		free(h);
	}
	return NULL;
}

unsigned http_connections(const struct http *h)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return info ? info->num_connections : 0;
}

const char *http_method(const struct http_req *r)
{
	return r->method;
}

const char *http_path(const struct http_req *r)
{
	return r->path;
}

const char *http_header(const struct http_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

const struct buf *http_body(const struct http_req *r)
{
	return &r->body;
}

struct query_walk {
	http_query_fn fn;
	void         *ud;
	int           result;
};

static enum MHD_Result on_query(void *cls, enum MHD_ValueKind kind, const char *key,
				const char *value)
{
	struct query_walk *w = cls;

	(void)kind;
	w->result = w->fn(key, value ? value : "", w->ud);
	return w->result < 0 ? MHD_NO : MHD_YES;
}

int http_query(struct http_req *r, http_query_fn fn, void *ud)
{
	struct query_walk w = { .fn = fn, .ud = ud, .result = 0 };

	MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, on_query, &w);
	return w.result;
}

struct http_peer http_peer(const struct http_req *r)
{
	struct ucred cred;

	if (sock_peer(connection_fd(r), &cred) < 0) {
		return (struct http_peer){ .pid = -1, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	}
	return (struct http_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
}

void http_set_ud(struct http_req *r, void *ud)
{
	r->ud = ud;
}

void *http_ud(const struct http_req *r)
{
	return r->ud;
}

void http_reply(struct http_req *r, int status, const char *type, char *own_text, size_t len)
{
	struct MHD_Response *x = response_of(own_text, len, type);

	if (x) {
		answer(r, status, x);
	} else {
		http_abort(r);
	}
}

void http_stream(struct http_req *r, int status, const char *type,
		 void (*drained)(struct http_req *r, void *ud))
{
	struct MHD_Response *x =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32768, read_stream, r, NULL);

	if (!x) {
		http_abort(r);
		return;
	}
	MHD_add_response_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	r->stream = true;
	r->drained = drained;
	answer(r, status, x);
}

int http_write(struct http_req *r, const void *data, size_t n)
{
	if (r->out.len - r->out_sent + n > HTTP_STREAM_MAX) {
		return -ENOBUFS;
	}
	buf_add(&r->out, data, n);
	if (buf_failed(&r->out)) {
		return -ENOMEM;
	}
	if (r->state == REQ_ANSWERED) {
		resume(r);
	}
	return 0;
}

size_t http_waiting(const struct http_req *r)
{
	return r->out.len - r->out_sent;
}

void http_end(struct http_req *r)
{
	r->ended = true;
	if (r->state == REQ_ANSWERED) {
		resume(r);
	}
}

void http_abort(struct http_req *r)
{
	r->aborted = true;
	resume(r);
}

void http_on_data(struct http_req *r, http_data_fn fn, void *ud)
{
	r->data_fn = fn;
	r->data_ud = ud;
}

void http_body_resume(struct http_req *r)
{
	resume(r);
}

void http_upgrade(struct http_req *r, const char *protocol, http_upgrade_fn fn, void *ud)
{
	struct MHD_Response *x = MHD_create_response_for_upgrade(on_upgrade, r);

	if (!x) {
		http_abort(r);
		return;
	}
	r->upgrade_fn = fn;
	r->upgrade_ud = ud;
	MHD_add_response_header(x, MHD_HTTP_HEADER_UPGRADE, protocol);
	answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, x);
}
