/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon itself, operations, events, the document. */
#include <errno.h>
#include <sys/utsname.h>

#include "base/mem.h"
#include "node/events.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/node.h"
#include "node/op.h"

struct version_reply {
	const char *version, *api, *os, *arch, *kernel;
};

#define IN(m) offsetof(struct version_reply, m)
static const struct jfield version_fields[] = {
	{ "version", JK_STR, IN(version), .flags = JF_REQUIRED, .doc = "of Holm" },
	{ "api", JK_STR, IN(api), .flags = JF_REQUIRED, .doc = "of this API" },
	{ "os", JK_STR, IN(os), .flags = JF_REQUIRED, .doc = "linux" },
	{ "arch", JK_STR, IN(arch), .flags = JF_REQUIRED, .doc = "of the host" },
	{ "kernel", JK_STR, IN(kernel), .flags = JF_REQUIRED, .doc = "release" },
};
#undef IN
static const struct jtable version_table = JTABLE("Version", struct version_reply, version_fields);

static int h_version(struct api_call *c, struct err *e)
{
	struct utsname u;
	struct version_reply v = { .version = HOLM_VERSION, .api = "v1", .os = "linux" };

	(void)e;
	uname(&u);
	v.arch = u.machine;
	v.kernel = u.release;
	api_reply(c, jtable_format(&version_table, &v));
	return 0;
}

struct info_reply {
	const char *version, *state_dir, *run_dir, *hostname, *kernel, *boot_id, *runtime;
	uint64_t    instances, running, paused, operations, revision, epoch, started;
	bool        systemd_cgroup;
};

#define IN(m) offsetof(struct info_reply, m)
static const struct jfield info_fields[] = {
	{ "version", JK_STR, IN(version), .flags = JF_REQUIRED, .doc = "of Holm" },
	{ "hostname", JK_STR, IN(hostname), .flags = JF_REQUIRED, .doc = "of the host" },
	{ "kernel", JK_STR, IN(kernel), .flags = JF_REQUIRED, .doc = "release" },
	{ "boot_id", JK_STR, IN(boot_id), .flags = JF_REQUIRED, .doc = "of the host" },
	{ "state_dir", JK_STR, IN(state_dir), .flags = JF_REQUIRED, .doc = "what stays" },
	{ "run_dir", JK_STR, IN(run_dir), .flags = JF_REQUIRED, .doc = "what goes with a reboot" },
	{ "runtime", JK_STR, IN(runtime), .flags = JF_REQUIRED, .doc = "path of the OCI runtime" },
	{ "systemd_cgroup", JK_BOOL, IN(systemd_cgroup), .flags = JF_EMPTY,
	  .doc = "systemd makes the control groups" },
	{ "started", JK_TIME, IN(started), .flags = JF_REQUIRED, .doc = "when the daemon began" },
	{ "epoch", JK_UINT, IN(epoch), .flags = JF_REQUIRED, .doc = "starts of the daemon" },
	{ "revision", JK_UINT, IN(revision), .flags = JF_EMPTY, .doc = "of the store" },
	{ "instances", JK_UINT, IN(instances), .flags = JF_EMPTY, .doc = "all" },
	{ "running", JK_UINT, IN(running), .flags = JF_EMPTY, .doc = "of them" },
	{ "paused", JK_UINT, IN(paused), .flags = JF_EMPTY, .doc = "of them" },
	{ "operations", JK_UINT, IN(operations), .flags = JF_EMPTY, .doc = "that are remembered" },
};
#undef IN
static const struct jtable info_table = JTABLE("Info", struct info_reply, info_fields);

static int h_info(struct api_call *c, struct err *e)
{
	struct node *n = c->node;
	struct utsname u;
	struct info_reply v = {
		.version = HOLM_VERSION, .state_dir = n->conf.state_dir, .run_dir = n->conf.run_dir,
		.boot_id = n->boot_id, .runtime = n->conf.oci, .started = n->started_ns,
		.epoch = n->epoch, .revision = rstore_revision(n->rstore),
		.instances = n->n_instances, .operations = n->n_ops,
		.systemd_cgroup = n->conf.systemd_cgroup,
	};

	(void)e;
	uname(&u);
	v.hostname = u.nodename;
	v.kernel = u.release;
	list_for_each (struct instance, i, &n->instances, link) {
		v.running += i->status.state == INSTANCE_RUNNING;
		v.paused += i->status.state == INSTANCE_PAUSED;
	}
	api_reply(c, jtable_format(&info_table, &v));
	return 0;
}

static int h_openapi(struct api_call *c, struct err *e)
{
	(void)e;
	api_reply(c, openapi_document(api_tables));
	return 0;
}

/* --- Operations --- */

static int find_op(struct api_call *c, struct op **ret, struct err *e)
{
	*ret = op_find(c->node, c->params[0]);
	return *ret ? 0 : err_set(e, ENOENT, ERR_NOT_FOUND, "no such operation: %.64s", c->params[0]);
}

static int h_op_list(struct api_call *c, struct err *e)
{
	auto_json json_t *doc = json_object();
	json_t *list = json_array();

	if (!doc || json_put(doc, "operations", list) < 0) {
		return err_nomem(e);
	}
	list_for_each (struct op, op, &c->node->ops, link) {
		if (json_array_append_new(list, op_json(op)) < 0) {
			return err_nomem(e);
		}
	}
	api_reply(c, take_ptr(&doc));
	return 0;
}

struct op_wait {
	struct op_watcher watcher;
	struct api_call  *call;
	bool              lines;    /* each progress; else the end alone */
};

static void op_wait_free(struct op_wait *w)
{
	op_unwatch(&w->watcher);
	w->call->cancel = NULL;
	free(w);
}

static void on_op_gone(struct api_call *c)
{
	op_wait_free(c->ud);
}

static void on_op(struct op_watcher *watcher, struct op *op, void *ud)
{
	struct op_wait *w = ud;
	struct api_call *c = w->call;
	bool over = op->state != OP_RUNNING;

	(void)watcher;
	if (!w->lines && !over) {
		return;
	}
	int r = w->lines ? api_line(c, op_json(op)) : 0;

	/* A client that is slow misses progress, but not the end. */
	if (over || (r < 0 && r != -ENOBUFS)) {
		bool lines = w->lines;

		op_wait_free(w);
		if (!lines) {
			api_reply(c, op_json(op));
		} else if (r < 0) {
			api_abort(c);
		} else {
			api_end(c);
		}
	}
}

static int op_wait(struct api_call *c, struct op *op, bool lines, struct err *e)
{
	struct op_wait *w = mem_new(struct op_wait);

	if (!w) {
		return err_nomem(e);
	}
	w->call = c;
	w->lines = lines;
	w->watcher.fn = on_op;
	w->watcher.ud = w;
	c->ud = w;
	c->cancel = on_op_gone;
	op_watch(op, &w->watcher);
	if (lines) {
		api_stream(c);
		on_op(&w->watcher, op, w);
	} else if (op->state != OP_RUNNING) {
		on_op(&w->watcher, op, w);
	}
	return 0;
}

static int h_op_get(struct api_call *c, struct err *e)
{
	struct op *op = NULL;
	int r = find_op(c, &op, e);

	if (r == 0) {
		api_reply(c, op_json(op));
	}
	return r;
}

static int h_op_wait(struct api_call *c, struct err *e)
{
	struct op *op = NULL;
	int r = find_op(c, &op, e);

	return r < 0 ? r : op_wait(c, op, false, e);
}

static int h_op_watch(struct api_call *c, struct err *e)
{
	struct op *op = NULL;
	int r = find_op(c, &op, e);

	return r < 0 ? r : op_wait(c, op, true, e);
}

static int h_op_cancel(struct api_call *c, struct err *e)
{
	struct op *op = NULL;
	int r = find_op(c, &op, e);

	r = r < 0 ? r : op_cancel(op, e);
	if (r == 0) {
		api_reply(c, op_json(op));
	}
	return r;
}

/* --- Watch the store --- */

struct watch_query {
	const char *kind;
	uint64_t    from;
	bool        has_from;
};

#define IN(m) offsetof(struct watch_query, m)
static const struct jfield watch_fields[] = {
	{ "kind", JK_STR, IN(kind), .max = 32, .doc = "only of that kind; now: instance" },
	{ "from", JK_UINT, IN(from), .has = IN(has_from),
	  .doc = "revision after which to begin; default: now" },
};
#undef IN
static const struct jtable watch_table = JTABLE("WatchQuery", struct watch_query, watch_fields);

struct watcher {
	struct rstore_watch watch;
	struct api_call    *call;
	bool                failed;
};

static void on_watch_gone(struct api_call *c)
{
	struct watcher *w = c->ud;

	rstore_unwatch(&w->watch);
	free(w);
}

static void on_change(struct rstore_watch *watch, const struct rstore_event *ev, void *ud)
{
	struct watcher *w = ud;

	(void)watch;
	if (!w->failed && api_line(w->call, json_pack("{s:I,s:s,s:s,s:s,s:s}", "revision",
						      (json_int_t)ev->revision, "change",
						      rstore_change_names[ev->change], "kind",
						      ev->kind, "id", ev->id, "name",
						      ev->name)) < 0) {
		w->failed = true;
		http_abort(w->call->req); /* on_watch_gone() follows */
	}
}

static int h_watch(struct api_call *c, struct err *e)
{
	const struct watch_query *q = c->query;
	struct watcher *w = mem_new(struct watcher);

	if (!w) {
		return err_nomem(e);
	}
	w->call = c;
	w->watch.kind = q->kind;
	w->watch.fn = on_change;
	w->watch.ud = w;
	uint64_t from = q->has_from ? q->from : rstore_revision(c->node->rstore);
	struct rstore_watch probe = { .kind = "", .fn = on_change };
	int r = rstore_watch(c->node->rstore, &probe, from, e);

	if (r < 0) {
		free(w);
		return r;
	}
	rstore_unwatch(&probe);
	api_stream(c);
	c->ud = w;
	r = rstore_watch(c->node->rstore, &w->watch, from, e);
	c->cancel = on_watch_gone;
	if (r < 0) {
		c->cancel = NULL;
		free(w);
		api_abort(c);
	}
	return 0;
}

static const struct api_route routes[] = {
	{ "GET", "/v1/version", "system.version", 0, h_version, .reply = &version_table,
	  .doc = "Versions." },
	{ "GET", "/v1/info", "system.info", 0, h_info, .reply = &info_table,
	  .doc = "The daemon and its host." },
	{ "GET", "/v1/openapi.json", "system.openapi", 0, h_openapi, .doc = "This document." },
	{ "GET", "/v1/events", "system.events", API_STREAM, h_events, .query = &events_query_table,
	  .reply = &event_table, .doc = "What happens, as it happens." },
	{ "GET", "/v1/watch", "system.watch", API_STREAM, h_watch, .query = &watch_table,
	  .doc = "Changes of resources: {\"revision\",\"change\",\"kind\",\"id\",\"name\"} a line." },
	{ "GET", "/v1/operations", "operation.list", 0, h_op_list,
	  .doc = "Operations that run or ended lately." },
	{ "GET", "/v1/operations/{id}", "operation.get", 0, h_op_get, .reply = &op_table,
	  .doc = "One operation." },
	{ "GET", "/v1/operations/{id}/wait", "operation.wait", 0, h_op_wait, .reply = &op_table,
	  .doc = "Answer when it has ended." },
	{ "GET", "/v1/operations/{id}/watch", "operation.watch", API_STREAM, h_op_watch,
	  .reply = &op_table, .doc = "The operation at each step, until its end." },
	{ "POST", "/v1/operations/{id}/cancel", "operation.cancel", 0, h_op_cancel,
	  .reply = &op_table, .doc = "Stop it; its end follows." },
};
const struct api_routes system_routes = { routes, ARRAY_LEN(routes) };
