/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/store.h"
#include "node/adopt.h"
#include "node/life.h"
#include "node/op.h"
#include "sys/file.h"

#define KIND         INSTANCE_KIND
#define SPEC_VERSION INSTANCE_VERSION

/* What may follow what; asked for by a client and not allowed is refused before (life.c). */
static const uint32_t next_states[INSTANCE_STATE__COUNT] = {
	[INSTANCE_CREATED] = BIT(INSTANCE_STARTING),
	[INSTANCE_STARTING] = BIT(INSTANCE_RUNNING) | BIT(INSTANCE_EXITED) | BIT(INSTANCE_PAUSED),
	[INSTANCE_RUNNING] = BIT(INSTANCE_PAUSED) | BIT(INSTANCE_EXITED) | BIT(INSTANCE_STARTING),
	[INSTANCE_PAUSED] = BIT(INSTANCE_RUNNING) | BIT(INSTANCE_EXITED) | BIT(INSTANCE_STARTING),
	[INSTANCE_EXITED] = BIT(INSTANCE_STARTING) | BIT(INSTANCE_RESTARTING),
	[INSTANCE_RESTARTING] = BIT(INSTANCE_STARTING) | BIT(INSTANCE_EXITED),
};

bool instance_active(const struct instance *i)
{
	return i->status.state == INSTANCE_STARTING || i->status.state == INSTANCE_RUNNING ||
	       i->status.state == INSTANCE_PAUSED;
}

int instance_set_str(char **member, const char **view, const char *value)
{
	char *copy = value && *value ? str_dup(value) : NULL;

	if (value && *value && !copy) {
		return -ENOMEM;
	}
	free(*member);
	*member = copy;
	*view = copy;
	return 0;
}

static void on_timer(struct loop_timer *t, void *ud)
{
	(void)t;
	life_on_timer(ud);
}

struct instance *instance__new(struct node *n)
{
	struct instance *i = mem_new(struct instance);

	if (i && loop_timer_new(n->loop, on_timer, i, &i->timer) < 0) {
		free(i);
		return NULL;
	}
	if (i) {
		i->node = n;
		list_init(&i->link);
		list_init(&i->waiters);
		list_init(&i->execs);
	}
	return i;
}

void instance__free(struct instance *i)
{
	assert(!i->shim && list_empty(&i->waiters));
	instance_forget_execs(i);
	loop_child_free(i->cleanup);
	loop_timer_free(i->timer);
	list_del(&i->link);
	arena_fini(&i->spec_arena);
	json_decref(i->spec_doc);
	free(i->name);
	free(i->project);
	free(i->error);
	free(i->start_err);
	free(i->boot_id);
	free(i->image_digest);
	free(i->image_name);
	free(i);
}

int instance_load_spec(struct instance *i, json_t *doc, struct err *e)
{
	struct arena a = ARENA_INIT;
	struct instance_spec spec;
	int r = jtable_parse(&instance_spec_table, doc, &a, &spec, e);

	if (r < 0) {
		arena_fini(&a);
		return r;
	}
	arena_fini(&i->spec_arena);
	json_incref(doc);
	json_decref(i->spec_doc);
	i->spec_arena = a;
	i->spec_doc = doc;
	i->spec = spec;
	return 0;
}

struct instance *instance_by_id(struct node *n, const char *id)
{
	list_for_each (struct instance, i, &n->instances, link) {
		if (str_eq(i->id, id)) {
			return i;
		}
	}
	return NULL;
}

int instance_find(struct node *n, const char *text, struct instance **ret, struct err *e)
{
	struct instance *found = NULL;
	size_t len = strlen(text), many = 0;
	bool prefix = len >= 4 && strspn(text, "0123456789abcdef") == len;

	list_for_each (struct instance, i, &n->instances, link) {
		if (str_eq(i->name, text)) {
			*ret = i;
			return 0;
		}
		if (prefix && str_after(i->id, text)) {
			found = i;
			many++;
		}
	}
	if (many > 1) {
		return err_set(e, ENOTUNIQ, ERR_CONFLICT,
			       "more than one instance begins with %s: give more digits", text);
	}
	if (!found) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "no such instance: %.128s", text);
	}
	*ret = found;
	return 0;
}

static char *status_text(const struct instance *i)
{
	auto_json json_t *j = jtable_format(&instance_status_table, &i->status);

	return j ? json_text(j) : NULL;
}

int instance_save_status(struct instance *i, bool durable, struct err *e)
{
	auto_free char *text = status_text(i);

	if (i->status.state == INSTANCE_BROKEN) {
		return 0; /* its row stays as it is, for who can mend it */
	}
	if (!text) {
		return err_nomem(e);
	}
	return rstore_put_status(i->node->rstore, KIND, i->id, 0, text,
				 durable ? RSTORE_DURABLE : 0, &i->revision, e);
}

int instance_save_spec(struct instance *i, json_t *doc, struct err *e)
{
	auto_free char *text = json_text(doc);
	struct resource res = { .kind = (char *)KIND, .name = i->name, .spec = text,
				.version = SPEC_VERSION, .epoch = i->epoch };

	memcpy(res.id, i->id, sizeof(res.id));
	if (!text) {
		return err_nomem(e);
	}
	int r = rstore_put_spec(i->node->rstore, &res, 0, RSTORE_DURABLE, e);

	if (r == 0) {
		i->revision = res.revision;
	}
	return r;
}

/* A waiter may free itself and others: begin anew after each. */
static void wake(struct instance *i)
{
	struct list now = LIST_INIT(now);

	while (!list_empty(&i->waiters)) {
		struct list *l = i->waiters.next;

		list_del(l);
		list_add_tail(&now, l);
	}
	while (!list_empty(&now)) {
		struct instance_waiter *w = list_entry(now.next, struct instance_waiter, link);

		list_del(&w->link);
		list_add_tail(&i->waiters, &w->link);
		w->fn(w, i, w->ud);
	}
}

void instance_set_state(struct instance *i, enum instance_state state)
{
	struct err e = ERR_INIT;
	int old = i->status.state;

	assert(old == (int)state || (next_states[old] & BIT(state)));
	i->status.state = (int)state;
	if (!instance_active(i)) {
		i->status.pid = 0;
	}
	bool durable = state == INSTANCE_EXITED && !i->spec.auto_remove && !i->removing;

	if (instance_save_status(i, durable, &e) < 0) {
		/* What runs goes on; what is on disk is older, and checked at the next start. */
		log_err(LOG_LEVEL_ERROR, &e);
	}
	wake(i);
}

void instance_wait(struct instance *i, struct instance_waiter *w)
{
	list_add_tail(&i->waiters, &w->link);
}

void instance_unwait(struct instance_waiter *w)
{
	list_del(&w->link);
}

/* --- Making and removing --- */

/* Two words would need two lists: "i-" and digits of the id say as much. */
static char *made_up_name(const char *id)
{
	return str_printf("i-%.8s", id);
}

static int make_dirs(struct instance *i, struct err *e)
{
	auto_free char *dir = instance_state_dir(i);

	if (!dir) {
		return err_nomem(e);
	}
	int r = sys_mkdir_p(AT_FDCWD, dir, 0700);

	return r < 0 ? err_set(e, -r, ERR_HOST, "the folder %s", dir) : 0;
}

static void remove_dirs(struct instance *i)
{
	auto_free char *state = instance_state_dir(i);
	auto_free char *run = instance_run_dir(i);

	if (!state || sys_remove_tree(AT_FDCWD, state) < 0 || !run ||
	    sys_remove_tree(AT_FDCWD, run) < 0) {
		log_warn("folders of a removed instance are left; they are tried again",
			 "instance", i->id);
		adopt_sweep_later(i->node);
	}
}

static int pin_image(struct instance *i, struct err *e)
{
	struct store *s = NULL;
	auto_arena struct arena a = ARENA_INIT;
	struct store_entry entry;

	if (!i->spec.image) {
		return 0;
	}
	int r = node_images(i->node, &s, e);

	r = r < 0 ? r : store_image_resolve(s, i->spec.image, &a, &entry, e);
	if (r < 0) {
		err_prefix_field(e, "/image");
		return r;
	}
	if (instance_set_str(&i->image_digest, &i->status.image_digest, entry.manifest) < 0 ||
	    instance_set_str(&i->image_name, &i->status.image_name, entry.name) < 0) {
		return err_nomem(e);
	}
	return store_pin(s, entry.manifest, i->id, !i->spec.auto_remove, e);
}

static void unpin_image(struct instance *i)
{
	struct err e = ERR_INIT;
	struct store *s = NULL;

	if ((i->spec.image || i->status.state == INSTANCE_BROKEN) && (node_images(i->node, &s, &e) < 0 ||
			      store_unpin(s, i->id, &e) < 0)) {
		log_err(LOG_LEVEL_WARN, &e);
	}
}

static int store_new(struct instance *i, struct err *e)
{
	auto_free char *spec = json_text(i->spec_doc);
	auto_free char *status = status_text(i);
	struct resource res = { .kind = (char *)KIND, .name = i->name, .version = SPEC_VERSION,
				.spec = spec, .status = status, .created_ns = i->created_ns };

	memcpy(res.id, i->id, sizeof(res.id));
	if (!spec || !status) {
		return err_nomem(e);
	}
	/* What a power cut would end and remove need not outlive it. */
	int r = rstore_create(i->node->rstore, &res, i->spec.auto_remove ? 0 : RSTORE_DURABLE, e);

	i->revision = res.revision;
	return r;
}

static int fill(struct instance *i, const char *name, const json_t *doc, struct err *e)
{
	struct id id;
	int r = id_new(&id);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "random numbers");
	}
	memcpy(i->id, id.text, sizeof(i->id));
	i->name = name ? str_dup(name) : made_up_name(i->id);
	i->project = str_dup(RSTORE_PROJECT);
	i->created_ns = clock_wall_ns();
	auto_json json_t *copy = json_deep_copy(doc);

	if (!i->name || !i->project || !copy) {
		return err_nomem(e);
	}
	r = instance_load_spec(i, copy, e);
	if (r == 0 && i->spec.userns == USERNS_AUTO) {
		r = node_ids_take(i->node, &i->status.id_base, e);
		i->status.id_count = r == 0 ? NODE_ID_RANGE : 0;
	}
	return r;
}

static int name_free(struct node *n, const char *name, struct err *e)
{
	list_for_each (struct instance, i, &n->instances, link) {
		if (name && str_eq(i->name, name)) {
			ignore_result(err_set(e, EEXIST, ERR_CONFLICT,
					      "the name \"%s\" is taken by instance %.12s", name,
					      i->id));
			err_prefix_field(e, "/name");
			return -EEXIST;
		}
	}
	return 0;
}

int instance_create(struct node *n, const char *name, const json_t *doc, struct instance **ret,
		    struct err *e)
{
	int r = name_free(n, name, e);

	if (r < 0) {
		return r;
	}
	struct instance *i = instance__new(n);

	if (!i) {
		return err_nomem(e);
	}
	r = fill(i, name, doc, e);
	r = r < 0 ? r : pin_image(i, e);
	r = r < 0 ? r : make_dirs(i, e);
	r = r < 0 ? r : store_new(i, e);
	if (r < 0) {
		if (i->image_digest) {
			unpin_image(i);
		}
		remove_dirs(i);
		node_ids_give(n, i->status.id_count ? i->status.id_base : 0);
		instance__free(i);
		return r;
	}
	list_add_tail(&n->instances, &i->link);
	n->n_instances++;
	node_event(n, KIND, "create", i->id, i->name, "image", i->spec.image, NULL);
	*ret = i;
	return 0;
}

void instance_unload(struct instance *i)
{
	i->node->n_instances--;
	instance__free(i);
}

/* The row goes first: what is left on disk after a crash belongs to nobody and is swept up. */
void instance_delete(struct instance *i)
{
	struct node *n = i->node;
	struct err e = ERR_INIT;

	assert(!instance_active(i) && !i->shim && !i->cleanup);
	if (rstore_delete(n->rstore, KIND, i->id, 0, i->spec.auto_remove ? 0 : RSTORE_DURABLE,
			  &e) < 0) {
		log_err(LOG_LEVEL_ERROR, &e);
	}
	unpin_image(i);
	remove_dirs(i);
	node_ids_give(n, i->status.id_count ? i->status.id_base : 0);
	node_event(n, KIND, "remove", i->id, i->name, NULL);
	i->removed = true;
	wake(i);
	instance_unload(i);
}

char *instance_run_dir(const struct instance *i)
{
	return str_printf("%s/instances/%s", i->node->conf.run_dir, i->id);
}

char *instance_state_dir(const struct instance *i)
{
	return str_printf("%s/instances/%s", i->node->conf.state_dir, i->id);
}

char *instance_log_path(const struct instance *i)
{
	return str_printf("%s/instances/%s/output.log", i->node->conf.state_dir, i->id);
}

const char *instance_runtime(const struct instance *i)
{
	return i->spec.isolation == ISOLATION_VM ? i->node->conf.vm : i->node->conf.oci;
}

char *instance_runtime_root(const struct instance *i)
{
	return str_printf("%s/%s", i->node->conf.run_dir,
			  i->spec.isolation == ISOLATION_VM ? "vm" : "oci");
}

int instance_need_container(const struct instance *i, const char *what, struct err *e)
{
	return i->spec.isolation != ISOLATION_VM ? 0 :
	       err_set(e, ENOTSUP, ERR_UNSUPPORTED, "%s: instance %s is a virtual machine, which "
		       "cannot do this yet", what, i->name);
}

/* --- As the API shows it --- */

struct view {
	const char            *id, *name, *project, *image, *state, *log_path;
	bool                   has_exit;
	uint64_t               created, revision, exit_code, started, finished, pid;
	struct jmap            labels;
	struct jstrv           command;
	struct instance_spec   spec;
	struct instance_status status;
};

#define IN(m) offsetof(struct view, m)
#define COMMON_FIELDS \
	{ "id", JK_ID, IN(id), .flags = JF_REQUIRED, .doc = "64 hexadecimal digits" }, \
	{ "name", JK_NAME, IN(name), .flags = JF_REQUIRED, .doc = "unique in its project" }, \
	{ "project", JK_NAME, IN(project), .flags = JF_REQUIRED, .doc = "that it belongs to" }, \
	{ "created", JK_TIME, IN(created), .flags = JF_REQUIRED, .doc = "when it was made" }, \
	{ "revision", JK_UINT, IN(revision), .flags = JF_REQUIRED, .doc = "of its last change" }

static const struct jfield summary_fields[] = {
	COMMON_FIELDS,
	{ "image", JK_STR, IN(image), .doc = "as it was asked for, or the rootfs" },
	{ "command", JK_STRV, IN(command), .doc = "as it was asked for" },
	{ "state", JK_STR, IN(state), .flags = JF_REQUIRED, .doc = "what it does now" },
	{ "exit_code", JK_UINT, IN(exit_code), .has = IN(has_exit), .doc = "of its last end" },
	{ "started", JK_TIME, IN(started), .doc = "last start" },
	{ "finished", JK_TIME, IN(finished), .doc = "last end" },
	{ "pid", JK_UINT, IN(pid), .doc = "of its first process" },
	{ "labels", JK_MAP, IN(labels), .doc = "of its owner" },
};

static const struct jfield detail_fields[] = {
	COMMON_FIELDS,
	{ "spec", JK_INLINE, IN(spec), .flags = JF_EMPTY, .sub = &instance_spec_table,
	  .doc = "what is wished" },
	{ "status", JK_INLINE, IN(status), .flags = JF_EMPTY, .sub = &instance_status_table,
	  .doc = "what is" },
	{ "log_path", JK_STR, IN(log_path), .doc = "on the host" },
};
#undef IN

const struct jtable instance_summary_table = JTABLE("InstanceSummary", struct view, summary_fields);
const struct jtable instance_detail_table = JTABLE("Instance", struct view, detail_fields);

static struct view view_of(const struct instance *i)
{
	return (struct view){
		.id = i->id, .name = i->name, .project = i->project,
		.image = i->spec.image ? i->spec.image : i->spec.rootfs,
		.state = instance_state_names[i->status.state],
		.created = i->created_ns, .revision = i->revision,
		.has_exit = i->status.has_exit, .exit_code = i->status.exit_code,
		.started = i->status.started, .finished = i->status.finished,
		.pid = i->status.pid, .labels = i->spec.labels, .command = i->spec.command,
		.spec = i->spec, .status = i->status,
	};
}

json_t *instance_summary(const struct instance *i)
{
	struct view v = view_of(i);

	return jtable_format(&instance_summary_table, &v);
}

json_t *instance_detail(const struct instance *i)
{
	struct view v = view_of(i);
	auto_free char *log = i->spec.log.off ? NULL : instance_log_path(i);

	v.log_path = log;
	json_t *doc = jtable_format(&instance_detail_table, &v);

	if (doc && !i->spec_doc) { /* not known, so nothing is said of it */
		json_object_clear(json_object_get(doc, "spec"));
	}
	return doc;
}
