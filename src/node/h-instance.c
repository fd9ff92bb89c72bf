/* SPDX-License-Identifier: Apache-2.0 */
/* Instances as objects: make, list, look, change, remove. */
#include <errno.h>
#include <fnmatch.h>

#include "base/log.h"
#include "base/mem.h"
#include "image/store.h"
#include "node/bundle.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/life.h"
#include "node/op.h"
#include "node/pull.h"

/* --- Create --- */

/* The body is a spec with a name beside it. */
struct create_query {
	const char *name, *authfile;
	int         pull;
	bool        plain_http, no_verify;
};

static const char *const pull_names[] = { "never", "missing", "always", NULL };

#define IN(m) offsetof(struct create_query, m)
static const struct jfield create_query_fields[] = {
	{ "name", JK_NAME, IN(name), .doc = "made up if not given" },
	{ "pull", JK_ENUM, IN(pull), .names = pull_names,
	  .doc = "fetch the image first: never (default), if it is missing, or always" },
	{ "plain_http", JK_BOOL, IN(plain_http), .doc = "fetch it without TLS" },
	{ "tls_no_verify", JK_BOOL, IN(no_verify), .doc = "take any certificate for that" },
	{ "authfile", JK_PATH, IN(authfile), .doc = "credentials for that" },
};
#undef IN
static const struct jtable create_query_table =
	JTABLE("CreateQuery", struct create_query, create_query_fields);

/* A create that waits for its image. */
struct create_wait {
	struct op_watcher watcher;
	struct api_call  *call;
	json_t           *spec;
};

static void create_wait_free(struct create_wait *w)
{
	op_unwatch(&w->watcher);
	w->call->cancel = NULL;
	json_decref(w->spec);
	free(w);
}

/* Who asked has gone: the image comes all the same. */
static void on_create_gone(struct api_call *c)
{
	create_wait_free(c->ud);
}

static void on_pulled(struct op_watcher *watcher, struct op *op, void *ud)
{
	struct create_wait *w = ud;
	struct api_call *c = w->call;
	const struct create_query *q = c->query;
	struct instance *i = NULL;
	struct err e = op->err;

	(void)watcher;
	if (op->state == OP_RUNNING) {
		return;
	}
	int r = op->state != OP_DONE ? -e.errnum :
		instance_create(c->node, q->name, w->spec, &i, &e);

	create_wait_free(w);
	if (r < 0) {
		api_fail(c, &e);
	} else {
		api_reply(c, instance_detail(i));
	}
}

static bool image_is_here(struct node *n, const char *image)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entry entry;
	struct store *s = NULL;
	struct err e = ERR_INIT;

	/* What is wrong otherwise is told by the create. */
	return node_images(n, &s, &e) < 0 || store_image_resolve(s, image, &a, &entry, &e) == 0 ||
	       e.code != ERR_NOT_FOUND;
}

static bool must_pull(struct api_call *c)
{
	const struct create_query *q = c->query;
	const struct instance_spec *s = c->body;

	return s->image && (q->pull == PULL_ALWAYS || (q->pull == PULL_MISSING &&
						       !image_is_here(c->node, s->image)));
}

/* To fetch is a right of its own. */
static int create_after_pull(struct api_call *c, json_t *spec, struct err *e)
{
	const struct create_query *q = c->query;
	const struct instance_spec *s = c->body;
	struct pull_in in = { .reference = s->image, .platform = s->platform,
			      .plain_http = q->plain_http, .no_verify = q->no_verify,
			      .authfile = q->authfile };
	auto_json json_t *object = json_pack("{s:s}", "reference", s->image);
	struct create_wait *w = object ? mem_new(struct create_wait) : NULL;
	struct op *op = NULL;

	if (!w) {
		return err_nomem(e);
	}
	int r = authorize_also(c, "image.pull", object, e);

	r = r < 0 ? r : pull_start(c->node, &in, &op, e);
	if (r < 0) {
		free(w);
		return r;
	}
	*w = (struct create_wait){ .watcher = { .fn = on_pulled, .ud = w }, .call = c,
				   .spec = json_incref(spec) };
	c->ud = w;
	c->cancel = on_create_gone;
	op_watch(op, &w->watcher);
	return 0;
}

/* What will be stored and done, with all defaults in it: that is judged. */
static int h_create(struct api_call *c, struct err *e)
{
	const struct create_query *q = c->query;
	auto_json json_t *final = jtable_format(&instance_spec_table, c->body);
	auto_json json_t *object = json_object();
	struct instance *i = NULL;

	if (!final || !object || json_put(object, "spec", json_incref(final)) < 0 ||
	    (q->name && json_put(object, "name", json_string(q->name)) < 0)) {
		return err_nomem(e);
	}
	int r = authorize(c, c->route->action, object, e);

	if (r == 0 && must_pull(c)) {
		return create_after_pull(c, final, e);
	}
	r = r < 0 ? r : instance_create(c->node, q->name, final, &i, e);
	if (r == 0) {
		api_reply(c, instance_detail(i));
	}
	return r;
}

/* --- List and look --- */

struct list_query {
	bool         all;
	struct jstrv state, label, image, name, id;
	uint64_t     limit;
};

#define IN(m) offsetof(struct list_query, m)
static const struct jfield list_fields[] = {
	{ "all", JK_BOOL, IN(all), .doc = "also those that do not run" },
	{ "state", JK_STRV, IN(state), .doc = "only in one of these states" },
	{ "label", JK_STRV, IN(label), .doc = "only with all of these: KEY or KEY=value" },
	{ "image", JK_STRV, IN(image), .doc = "only of one of these images, as asked for" },
	{ "name", JK_STRV, IN(name), .doc = "only with one of these names; * and ? are wild" },
	{ "id", JK_STRV, IN(id), .doc = "only with an id that begins so" },
	{ "limit", JK_UINT, IN(limit), .max = 1000000, .doc = "the newest ones; 0: all" },
};
#undef IN
static const struct jtable list_table = JTABLE("ListQuery", struct list_query, list_fields);

static bool any_matches(const struct jstrv *v, const char *text)
{
	for (size_t k = 0; k < v->n; k++) {
		if (text && fnmatch(v->v[k], text, 0) == 0) {
			return true;
		}
	}
	return v->n == 0;
}

static bool id_matches(const struct jstrv *v, const char *id)
{
	for (size_t k = 0; k < v->n; k++) {
		if (str_after(id, v->v[k])) {
			return true;
		}
	}
	return v->n == 0;
}

static bool labels_match(const struct jstrv *want, const struct jmap *have)
{
	for (size_t k = 0; k < want->n; k++) {
		size_t len = strcspn(want->v[k], "=");
		bool found = false;

		for (size_t m = 0; m < have->n && !found; m++) {
			found = strncmp(have->v[m].key, want->v[k], len) == 0 &&
				!have->v[m].key[len] &&
				(!want->v[k][len] || str_eq(have->v[m].value, want->v[k] + len + 1));
		}
		if (!found) {
			return false;
		}
	}
	return true;
}

static bool wanted(const struct list_query *q, const struct instance *i)
{
	return (q->all || q->state.n > 0 || instance_active(i) ||
		i->status.state == INSTANCE_BROKEN) &&
	       any_matches(&q->state, instance_state_names[i->status.state]) &&
	       any_matches(&q->name, i->name) && any_matches(&q->image, i->spec.image) &&
	       id_matches(&q->id, i->id) && labels_match(&q->label, &i->spec.labels);
}

static int h_list(struct api_call *c, struct err *e)
{
	const struct list_query *q = c->query;
	auto_json json_t *doc = json_object();
	json_t *list = json_array();

	if (!doc || json_put(doc, "instances", list) < 0) {
		return err_nomem(e);
	}
	/* Newest first. */
	for (struct list *l = c->node->instances.prev; l != &c->node->instances; l = l->prev) {
		struct instance *i = list_entry(l, struct instance, link);

		if (q->limit && json_array_size(list) >= q->limit) {
			break;
		}
		if (wanted(q, i) && json_array_append_new(list, instance_summary(i)) < 0) {
			return err_nomem(e);
		}
	}
	api_reply(c, take_ptr(&doc));
	return 0;
}

static int h_get(struct api_call *c, struct err *e)
{
	(void)e;
	api_reply(c, instance_detail(c->instance));
	return 0;
}

/* --- Change --- */

struct rename_in {
	const char *name;
};

static const struct jfield rename_fields[] = {
	{ "name", JK_NAME, offsetof(struct rename_in, name), .flags = JF_REQUIRED, .doc = "the new name" },
};
static const struct jtable rename_table = JTABLE("Rename", struct rename_in, rename_fields);

static int h_rename(struct api_call *c, struct err *e)
{
	const struct rename_in *in = c->body;
	struct instance *i = c->instance;
	char *name = str_dup(in->name);

	if (!name) {
		return err_nomem(e);
	}
	char *old = i->name;

	i->name = name;
	int r = instance_save_spec(i, i->spec_doc, e);

	if (r < 0) {
		i->name = old;
		free(name);
		return r;
	}
	node_event(c->node, "instance", "rename", i->id, i->name, "old", old, NULL);
	free(old);
	api_reply(c, instance_detail(i));
	return 0;
}

struct update_in {
	struct instance_resources resources;
	struct instance_restart  *restart;
	json_t                   *labels, *resources_doc, *restart_doc;
};

/* Merge patch (RFC 7396) of some members of the spec: null takes one away. */
#define IN(m) offsetof(struct update_in, m)
static const struct jfield update_fields[] = {
	{ "resources", JK_RAW, IN(resources_doc), .doc = "limits, as of a spec; those given change" },
	{ "restart", JK_RAW, IN(restart_doc), .doc = "restart policy, as of a spec" },
	{ "labels", JK_RAW, IN(labels), .doc = "labels to set; null removes one" },
};
#undef IN
static const struct jtable update_table = JTABLE("Update", struct update_in, update_fields);

static int merge(json_t *target, const char *key, json_t *patch, struct err *e)
{
	char pointer[48];
	const char *k;
	json_t *v, *obj = json_object_get(target, key);

	if (!patch) {
		return 0;
	}
	snprintf(pointer, sizeof(pointer), "/%s", key);
	if (!json_is_object(patch)) {
		return err_field(e, pointer, "must be an object");
	}
	if (!obj) {
		obj = json_object();
		if (json_put(target, key, obj) < 0) {
			return err_nomem(e);
		}
	}
	json_object_foreach(patch, k, v) {
		if (json_is_null(v)) {
			json_object_del(obj, k);
		} else if (json_object_set_new(obj, k, json_deep_copy(v)) < 0) {
			return err_nomem(e);
		}
	}
	return 0;
}

static char *resources_text(const struct instance_resources *res, struct arena *a)
{
	struct oci_resources oci = { .memory = NULL };
	struct err e = ERR_INIT;
	auto_json json_t *j = NULL;

	if (bundle_resources(res, a, &oci, &e) == 0) {
		j = jtable_format(&oci_resources_table, &oci);
	}
	return j ? json_text(j) : NULL;
}

struct update_wait {
	json_t *spec;
};

static int finish_update(struct instance *i, json_t *spec, struct err *e)
{
	int r = instance_save_spec(i, spec, e);

	r = r < 0 ? r : instance_load_spec(i, spec, e);
	if (r == 0) {
		node_event(i->node, "instance", "update", i->id, i->name, NULL);
	}
	return r;
}

static void on_updated(struct instance *i, const struct shim_reply *reply, const struct err *err,
		       void *ud)
{
	struct held_call *h = ud;
	json_t *spec = h->ud;
	struct api_call *c = take_call(h);
	struct err e = ERR_INIT;
	int r = err ? -err->errnum : shim_reply_err(reply, &e);

	r = r < 0 ? r : finish_update(i, spec, &e);
	json_decref(spec);
	if (c && r < 0) {
		api_fail(c, err ? err : &e);
	} else if (c) {
		api_reply(c, instance_detail(i));
	}
}

/* The kernel is asked first: what it refuses is not stored. */
static int apply_update(struct api_call *c, json_t *spec, const struct instance_spec *parsed,
			struct err *e)
{
	struct instance *i = c->instance;
	struct shim_update m = { .resources = resources_text(&parsed->resources, &c->arena) };
	struct held_call *h = hold_call(c, e);

	if (!m.resources || !h) {
		free(m.resources);
		return err_nomem(e);
	}
	h->ud = json_incref(spec);
	int r = shim_request(i, SHIM_UPDATE, &m, on_updated, h, e);

	free(m.resources);
	if (r < 0) {
		take_call(h);
		json_decref(spec);
	}
	return r;
}

static int h_update(struct api_call *c, struct err *e)
{
	const struct update_in *in = c->body;
	struct instance *i = c->instance;
	struct instance_spec parsed;
	auto_json json_t *spec = json_deep_copy(i->spec_doc);
	int r = spec ? merge(spec, "resources", in->resources_doc, e) : err_nomem(e);

	r = r < 0 ? r : merge(spec, "restart", in->restart_doc, e);
	r = r < 0 ? r : merge(spec, "labels", in->labels, e);
	r = r < 0 ? r : jtable_parse(&instance_spec_table, spec, &c->arena, &parsed, e);
	r = r < 0 ? r : authorize(c, c->route->action, spec, e);
	if (r < 0) {
		return r;
	}
	if (in->resources_doc && (i->status.state == INSTANCE_RUNNING ||
				  i->status.state == INSTANCE_PAUSED)) {
		return apply_update(c, spec, &parsed, e);
	}
	r = finish_update(i, spec, e);
	if (r == 0) {
		api_reply(c, instance_detail(i));
	}
	return r;
}

/* --- Remove --- */

struct remove_query {
	bool force;
};

static const struct jfield remove_fields[] = {
	{ "force", JK_BOOL, offsetof(struct remove_query, force), .doc = "kill it if it runs" },
};
static const struct jtable remove_table = JTABLE("RemoveQuery", struct remove_query, remove_fields);

struct remove_wait {
	struct instance_waiter waiter;
	struct api_call       *call;
};

static void remove_wait_free(struct remove_wait *w)
{
	instance_unwait(&w->waiter);
	free(w);
}

static void on_remove_gone(struct api_call *c)
{
	remove_wait_free(c->ud);
}

static void on_remove_state(struct instance_waiter *waiter, struct instance *i, void *ud)
{
	struct remove_wait *w = ud;
	struct api_call *c = w->call;

	(void)waiter;
	if (i->removed) {
		remove_wait_free(w);
		api_reply(c, NULL);
	}
}

static int h_remove(struct api_call *c, struct err *e)
{
	const struct remove_query *q = c->query;
	struct remove_wait *w = mem_new(struct remove_wait);

	if (!w) {
		return err_nomem(e);
	}
	w->call = c;
	w->waiter.fn = on_remove_state;
	w->waiter.ud = w;
	c->ud = w;
	c->cancel = on_remove_gone;
	instance_wait(c->instance, &w->waiter);
	int r = life_remove(c->instance, q->force, e);

	if (r < 0) {
		remove_wait_free(w);
		c->cancel = NULL;
	}
	return r;
}

static const struct api_route routes[] = {
	{ "POST", "/v1/instances", "instance.create", API_CREATED | API_MERGES, h_create,
	  .query = &create_query_table, .body = &instance_spec_table,
	  .reply = &instance_detail_table,
	  .doc = "Make an instance of an image, which is fetched first if ?pull= says so; it does "
		 "not run yet." },
	{ "GET", "/v1/instances", "instance.list", 0, h_list, .query = &list_table,
	  .doc = "Those that run, or all: {\"instances\": [InstanceSummary ...]}." },
	{ "GET", "/v1/instances/{id}", "instance.get", API_INSTANCE | API_BROKEN, h_get,
	  .reply = &instance_detail_table, .doc = "All about one instance." },
	{ "DELETE", "/v1/instances/{id}", "instance.remove",
	  API_INSTANCE | API_BROKEN | API_EMPTY, h_remove, .query = &remove_table, .doc = "Remove an instance with all it wrote." },
	{ "POST", "/v1/instances/{id}/rename", "instance.rename", API_INSTANCE, h_rename,
	  .body = &rename_table, .reply = &instance_detail_table, .doc = "Give it another name." },
	{ "PATCH", "/v1/instances/{id}", "instance.update", API_INSTANCE | API_MERGES, h_update,
	  .body = &update_table, .reply = &instance_detail_table,
	  .doc = "Change limits, restart policy or labels, also while it runs." },
};
const struct api_routes instance_routes = { routes, ARRAY_LEN(routes) };
