/* SPDX-License-Identifier: Apache-2.0 */
#include "node/api.h"

#include <errno.h>

#include "base/log.h"
#include "base/mem.h"
#include "node/instance.h"
#include "node/node.h"

struct api {
	struct node *node;
	struct http *http;
	struct list  calls;
};

/* --- Paths --- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A copy with %XX decoded; NULL for a broken escape, one of NUL, or too long a part. */
static char *copy_part(const char *s, size_t n)
{
	char *out = n > 0 && n <= API_PARAM_MAX ? str_ndup(s, n) : NULL;
	size_t k = 0;

	for (size_t i = 0; out && i < n; i++) {
		int hi = 0, lo = 0;

		if (s[i] == '%') {
			hi = i + 2 < n ? hex_digit(s[i + 1]) : -1;
			lo = hi < 0 ? -1 : hex_digit(s[i + 2]);
			if (hi < 0 || lo < 0 || hi * 16 + lo == 0) {
				free(out);
				return NULL;
			}
			i += 2;
			out[k++] = (char)(hi * 16 + lo);
		} else {
			out[k++] = s[i];
		}
	}
	if (out) {
		out[k] = '\0';
	}
	return out;
}

/* Compare part by part; parts in braces are copied. */
static bool path_matches(const char *pattern, const char *path, char *params[2])
{
	size_t n = 0;

	while (*pattern && *path) {
		if (*pattern != '{') {
			if (*pattern++ != *path++) {
				return false;
			}
			continue;
		}
		const char *end = strchr(pattern, '}');
		bool rest = end[-1] == '.';
		size_t len = rest ? strlen(path) : strcspn(path, "/");

		if (n == 2 || !(params[n++] = copy_part(path, len))) {
			return false;
		}
		path += len;
		pattern = end + 1;
	}
	return !*pattern && !*path;
}

static void free_params(char *params[2])
{
	free(params[0]);
	free(params[1]);
	params[0] = params[1] = NULL;
}

const struct api_route *api_match(const struct api_routes *const *tables, const char *method,
				  const char *path, char *params[2], bool *ret_known)
{
	*ret_known = false;
	for (const struct api_routes *const *t = tables; *t; t++) {
		for (size_t i = 0; i < (*t)->n; i++) {
			if (path_matches((*t)->v[i].path, path, params)) {
				*ret_known = true;
				if (str_eq((*t)->v[i].method, method)) {
					return &(*t)->v[i];
				}
			}
			free_params(params);
		}
	}
	return NULL;
}

/* --- Errors --- */

char *api_error_text(const struct err *e)
{
	char text[sizeof(e->msg) + 128];
	auto_json json_t *doc = json_object();
	json_t *x = json_object();

	err_text(e, text, sizeof(text));
	if (!doc || !x || json_put(x, "code", json_string(err_codes[e->code].name)) < 0 ||
	    json_put(x, "message", json_string(text)) < 0 ||
	    (e->field[0] && json_put(x, "field", json_string(e->field)) < 0)) {
		json_decref(x);
		return NULL;
	}
	return json_put(doc, "error", x) < 0 ? NULL : json_text(doc);
}

static char *error_of_status(int status, void *ud)
{
	struct err e = ERR_INIT;

	(void)ud;
	if (status == 413) {
		ignore_result(err_set(&e, EFBIG, ERR_LIMIT, "the body is larger than %d bytes",
				      API_BODY_MAX));
	} else if (status == 404) {
		ignore_result(err_set(&e, ENOENT, ERR_NOT_FOUND,
				      "no such path: see GET /v1/openapi.json"));
	} else if (status == 405) {
		ignore_result(err_set(&e, EINVAL, ERR_INVALID, "this path does not have that method"));
	} else {
		ignore_result(err_set(&e, EINVAL, ERR_INVALID, "not a request that can be read"));
	}
	/* filled for its text only */
	return api_error_text(&e);
}

/* --- Answers --- */

static int success_status(const struct api_route *r)
{
	return r->flags & API_CREATED ? 201 : r->flags & API_ACCEPTED ? 202 :
	       r->flags & API_EMPTY ? 204 : 200;
}

static void send_text(struct api_call *c, int status, char *own_text)
{
	c->answered = true;
	c->cancel = NULL;
	if (!c->req) {
		free(own_text);
	} else if (!own_text) {
		http_abort(c->req);
	} else {
		http_reply(c->req, status, status == 204 ? NULL : "application/json", own_text,
			   strlen(own_text));
	}
}

void api_reply(struct api_call *c, json_t *own_json)
{
	assert(c->authorized && !c->answered);
	bool empty = c->route->flags & API_EMPTY;

	send_text(c, success_status(c->route), own_json ? json_text(own_json) :
		  empty ? str_dup("") : NULL);
	json_decref(own_json);
}

void api_fail(struct api_call *c, const struct err *e)
{
	assert(!c->answered && e->errnum);
	if (e->code == ERR_HOST) {
		log_err(LOG_LEVEL_WARN, e);
	}
	send_text(c, err_codes[e->code].http_status, api_error_text(e));
}

static void on_drained(struct http_req *r, void *ud)
{
	struct api_call *c = ud;

	(void)r;
	if (c && c->drained) {
		c->drained(c);
	}
}

void api_stream(struct api_call *c)
{
	assert(c->authorized && !c->answered);
	c->answered = true;
	if (c->req) {
		http_stream(c->req, 200, c->route->produces ? c->route->produces :
			    "application/jsonl", on_drained);
	}
}

int api_write(struct api_call *c, const void *data, size_t n)
{
	return c->req ? http_write(c->req, data, n) : -EPIPE;
}

int api_line(struct api_call *c, json_t *own_json)
{
	auto_free char *text = own_json ? json_text(own_json) : NULL;
	int r = text ? api_write(c, text, strlen(text)) : -ENOMEM;

	json_decref(own_json);
	return r < 0 ? r : api_write(c, "\n", 1);
}

void api_end(struct api_call *c)
{
	c->cancel = NULL;
	c->drained = NULL;
	if (c->req) {
		http_end(c->req);
	}
}

void api_abort(struct api_call *c)
{
	c->cancel = NULL;
	c->drained = NULL;
	if (c->req) {
		http_abort(c->req);
	}
}

void api_upgrade(struct api_call *c, http_upgrade_fn fn, void *ud)
{
	assert(c->authorized && !c->answered);
	c->answered = true;
	c->cancel = NULL;
	if (c->req) {
		http_upgrade(c->req, "holm-stream", fn, ud);
	}
}

/* --- Authorisation --- */

/*
 * Today: root, by the kernel's word of who connected. The object is already what will be done,
 * with all defaults, so that rules on it can come here and nowhere else.
 */
static int judge(const struct api_call *c, const char *action, const json_t *object, struct err *e)
{
	(void)object;
	return c->subject.uid == 0 ? 0 :
	       err_set(e, EPERM, ERR_DENIED, "only root may do this (%s)", action);
}

int authorize(struct api_call *c, const char *action, const json_t *object, struct err *e)
{
	assert(!c->authorized);
	int r = judge(c, action, object, e);

	c->authorized = r == 0;
	return r;
}

int authorize_also(struct api_call *c, const char *action, const json_t *object, struct err *e)
{
	assert(c->authorized);
	return judge(c, action, object, e);
}

/* --- Requests --- */

static json_t *query_value(const struct jfield *f, const char *value)
{
	uint64_t u;
	int64_t i;

	switch (f->kind) {
	case JK_BOOL:
		return str_eq(value, "true") || str_eq(value, "1") || !*value ? json_true() :
		       str_eq(value, "false") || str_eq(value, "0") ? json_false() :
		       json_string(value);
	case JK_INT:
		return parse_i64(value, INT64_MIN, INT64_MAX, &i) == 0 ? json_integer(i) :
		       json_string(value);
	case JK_UINT:
		return parse_u64(value, INT64_MAX, &u) == 0 ? json_integer((json_int_t)u) :
		       json_string(value);
	case JK_NUMBER: case JK_STR: case JK_NAME: case JK_ID: case JK_PATH: case JK_SIZE:
	case JK_ENUM: case JK_TIME: case JK_STRV: case JK_INTV: case JK_UINTV: case JK_MAP:
	case JK_OBJ: case JK_INLINE: case JK_OBJV: case JK_OBJMAP: case JK_RAW: case JK__COUNT:
		break;
	}
	return json_string(value);
}

int api_query_put(const struct jtable *t, json_t *obj, const char *key, const char *value,
		  struct err *e)
{
	for (size_t i = 0; t && i < t->n_fields; i++) {
		const struct jfield *f = &t->fields[i];

		if (!str_eq(f->name, key)) {
			continue;
		}
		json_t *v = query_value(f, value);
		json_t *have = json_object_get(obj, key);

		if (f->kind == JK_STRV) {
			if (!have) {
				have = json_array();
				if (json_put(obj, key, have) < 0) {
					json_decref(v);
					return err_nomem(e);
				}
			}
			return json_array_append_new(have, v) < 0 ? err_nomem(e) : 0;
		}
		if (have) {
			json_decref(v);
			return err_set(e, EINVAL, ERR_INVALID, "the argument \"%.64s\" is given twice",
				       key);
		}
		return !v || json_put(obj, key, v) < 0 ?
		       err_set(e, EINVAL, ERR_INVALID, "the argument \"%.64s\" cannot be read", key) :
		       0;
	}
	return err_field(e, "/", "there is no argument \"%.64s\"", key);
}

struct query_put {
	const struct jtable *t;
	json_t              *obj;
	struct err          *e;
};

static int on_query(const char *key, const char *value, void *ud)
{
	struct query_put *q = ud;

	return api_query_put(q->t, q->obj, key, value, q->e);
}

static int parse_query(struct api_call *c, struct err *e)
{
	const struct jtable *t = c->route->query;
	auto_json json_t *obj = json_object();
	struct query_put q = { .t = t, .obj = obj, .e = e };
	int r = obj ? http_query(c->req, on_query, &q) : err_nomem(e);

	if (r < 0 || !t) {
		return r;
	}
	c->query = arena_alloc(&c->arena, 1, t->size);
	return c->query ? jtable_parse(t, obj, &c->arena, c->query, e) : err_nomem(e);
}

static int parse_body(struct api_call *c, struct err *e)
{
	const struct jtable *t = c->route->body;
	const struct buf *b = http_body(c->req);

	if (!t) {
		return b->len == 0 || str_eq(buf_str(b), "{}") ? 0 :
		       err_set(e, EINVAL, ERR_INVALID, "this request takes no body");
	}
	int r = json_parse(b->len ? buf_str(b) : "{}", b->len ? b->len : 2, &json_limits_request,
			   "the body", &c->body_doc, e);

	if (r < 0) {
		return r;
	}
	c->body = arena_alloc(&c->arena, 1, t->size);
	return c->body ? jtable_parse(t, c->body_doc, &c->arena, c->body, e) : err_nomem(e);
}

/* What the action is done to, as it is judged. */
static json_t *final_object(struct api_call *c)
{
	json_t *obj = json_object();

	if (obj && c->body_doc) {
		json_object_update(obj, c->body_doc);
	}
	if (obj && c->instance) {
		ignore_result(json_put(obj, "instance", json_string(c->instance->id)));
		/* without memory nothing is judged: see below */
	}
	return obj;
}

static int prepare(struct api_call *c, struct err *e)
{
	int r = parse_query(c, e);

	if (r == 0 && !(c->route->flags & API_BODY_STREAM)) {
		r = parse_body(c, e);
	}
	if (r == 0 && (c->route->flags & API_INSTANCE)) {
		r = instance_find(c->node, c->params[0], &c->instance, e);
		if (r == 0 && c->instance->status.state == INSTANCE_BROKEN &&
		    !(c->route->flags & API_BROKEN)) {
			r = err_set(e, EBADMSG, ERR_CONFLICT, "instance %s is broken: %s",
				    c->instance->name, c->instance->status.error);
		}
	}
	if (r == 0 && !(c->route->flags & API_MERGES)) {
		auto_json json_t *obj = final_object(c);

		r = obj ? authorize(c, c->route->action, obj, e) : err_nomem(e);
	}
	return r;
}

static void on_request(struct http_req *req, void *ud)
{
	struct api_call *c = http_ud(req);
	struct err e = ERR_INIT;

	(void)ud;
	int r = prepare(c, &e);

	if (r == 0) {
		r = c->route->fn(c, &e);
	}
	if (r < 0 && !c->answered) {
		api_fail(c, &e);
	}
}

/* The first lines are there: find the route, so that nobody reads a body in vain. */
static int on_headers(struct http_req *req, struct http_body *ret, void *ud)
{
	struct api *a = ud;
	struct api_call *c = mem_new(struct api_call);
	bool known = false;

	if (!c) {
		return 503;
	}
	c->route = api_match(api_tables, http_method(req), http_path(req), c->params, &known);
	if (!c->route) {
		free(c);
		return known ? 405 : 404;
	}
	struct http_peer peer = http_peer(req);

	c->node = a->node;
	c->req = req;
	c->subject = (struct subject){ .uid = peer.uid, .pid = peer.pid };
	list_add_tail(&a->calls, &c->link);
	http_set_ud(req, c);
	ret->stream = c->route->flags & API_BODY_STREAM;
	ret->max_bytes = ret->stream ? UINT64_MAX : API_BODY_MAX;
	return 0;
}

static void call_free(struct api_call *c)
{
	list_del(&c->link);
	free_params(c->params);
	json_decref(c->body_doc);
	arena_fini(&c->arena);
	free(c);
}

static void on_gone(struct http_req *req, void *ud)
{
	struct api_call *c = http_ud(req);

	(void)ud;
	if (c) {
		void (*cancel)(struct api_call *) = c->cancel;

		c->req = NULL;
		c->cancel = NULL;
		c->drained = NULL;
		if (cancel) {
			cancel(c);
		}
		call_free(c);
	}
}

static const struct http_handlers handlers = {
	.headers = on_headers,
	.request = on_request,
	.gone = on_gone,
	.error_text = error_of_status,
};

int api_new(struct node *node, struct loop *loop, int listen_fd, struct api **ret, struct err *e)
{
	struct api *a = mem_new(struct api);

	if (!a) {
		return err_nomem(e);
	}
	a->node = node;
	list_init(&a->calls);
	int r = http_new(loop, listen_fd, &handlers, a, &a->http, e);

	if (r < 0) {
		free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void api_quiesce(struct api *a)
{
	http_quiesce(a->http);
}

struct api *api_free(struct api *a)
{
	if (a) {
		http_free(a->http);
		free(a);
	}
	return NULL;
}
