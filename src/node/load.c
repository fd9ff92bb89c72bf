/* SPDX-License-Identifier: Apache-2.0 */
/* Instances out of the store, when the daemon starts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "node/instance.h"

static int load_status(struct instance *i, const char *text, struct err *e)
{
	auto_json json_t *doc = NULL;
	auto_arena struct arena a = ARENA_INIT;
	struct instance_status st;
	int r = json_parse(text, strlen(text), &json_limits_request, "a stored status", &doc, e);

	r = r < 0 ? r : jtable_parse(&instance_status_table, doc, &a, &st, e);
	if (r < 0) {
		return r;
	}
	i->status = st;
	i->status.error = i->status.boot_id = NULL;
	i->status.image_digest = i->status.image_name = NULL;
	if (instance_set_str(&i->error, &i->status.error, st.error) < 0 ||
	    instance_set_str(&i->boot_id, &i->status.boot_id, st.boot_id) < 0 ||
	    instance_set_str(&i->image_digest, &i->status.image_digest, st.image_digest) < 0 ||
	    instance_set_str(&i->image_name, &i->status.image_name, st.image_name) < 0) {
		return err_nomem(e);
	}
	if (i->status.state == INSTANCE_BROKEN) {
		return err_field(e, "/state", "is never stored");
	}
	return 0;
}

/* What every instance has, also one of which no more can be read. */
static int load_names(const struct resource *res, struct instance *i, struct err *e)
{
	memcpy(i->id, res->id, sizeof(i->id));
	i->created_ns = res->created_ns;
	i->revision = res->revision;
	i->epoch = res->epoch;
	i->name = name_valid(res->name) ? str_dup(res->name) : str_printf("i-%.8s", res->id);
	i->project = str_dup(name_valid(res->project) ? res->project : RSTORE_PROJECT);
	return i->name && i->project ? 0 : err_nomem(e);
}

static int load_rest(const struct resource *res, struct instance *i, struct err *e)
{
	auto_json json_t *doc = NULL;

	if (res->version > INSTANCE_VERSION) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED, "a newer version of Holm made it");
	}
	int r = name_valid(res->name) ? 0 : err_field(e, "/name", "is not valid");

	r = r < 0 ? r : json_parse(res->spec, strlen(res->spec), &json_limits_document,
				   "a stored spec", &doc, e);
	r = r < 0 ? r : instance_load_spec(i, doc, e);
	if (r < 0) {
		return err_wrap(e, "spec");
	}
	r = load_status(i, res->status, e);
	return r < 0 ? err_wrap(e, "status") : 0;
}

/* A number out of a text that need not be JSON as a whole; 0 if it is not there. */
static uint64_t salvage(const char *text, const char *key)
{
	char mark[32];
	char digits[24];

	snprintf(mark, sizeof(mark), "\"%s\":", key);
	const char *at = strstr(text, mark);
	uint64_t n = 0;

	if (at) {
		at += strlen(mark) + strspn(at + strlen(mark), " ");
		snprintf(digits, sizeof(digits), "%.*s", (int)MIN(strspn(at, "0123456789"),
								  sizeof(digits) - 1), at);
		n = parse_u64(digits, UINT64_MAX, &n) < 0 ? 0 : n;
	}
	return n;
}

/* It is there to be seen and removed. Its ids stay its own, as what it wrote has them. */
static int make_broken(const struct resource *res, struct instance *i, const struct err *why,
		       struct err *e)
{
	char reason[sizeof(why->msg) + sizeof(why->field) + 64];
	auto_free char *text = NULL;

	err_text(why, reason, sizeof(reason));
	i->status = (struct instance_status){ .state = INSTANCE_BROKEN, .shim_pid =
		salvage(res->status, "shim_pid"), .id_base = salvage(res->status, "id_base"),
		.id_count = salvage(res->status, "id_count") };
	text = str_printf("its record in the store cannot be read (%s): %s, or remove it by "
			  "\"holm rm --force %s\"", reason, why->code == ERR_UNSUPPORTED ?
			  "use that version again" : "restore the store from a copy", i->name);
	if (!text || instance_set_str(&i->error, &i->status.error, text) < 0) {
		return err_nomem(e);
	}
	log_error("an instance is broken", "name", i->name, "instance", i->id, "why", text);
	return 0;
}

struct load {
	struct node *node;
	struct err  *e;
};

static int on_row(const struct resource *res, void *ud)
{
	struct load *l = ud;
	struct instance *i = instance__new(l->node);
	struct err why = ERR_INIT;
	int r = i ? load_names(res, i, l->e) : err_nomem(l->e);

	if (r == 0 && load_rest(res, i, &why) < 0) {
		r = why.errnum == ENOMEM ? err_nomem(l->e) : make_broken(res, i, &why, l->e);
	}
	if (r < 0) {
		if (i) {
			instance__free(i);
		}
		return r;
	}
	list_add_tail(&l->node->instances, &i->link);
	l->node->n_instances++;
	if (i->status.id_count) {
		node_ids_mark(l->node, i->status.id_base);
	}
	return 0;
}

/*
 * Its folder is made before its row and removed after it: an instance without one was removed
 * when the disk was too full to take that down.
 */
static bool was_removed(const struct instance *i)
{
	auto_free char *dir = instance_state_dir(i);

	return dir && access(dir, F_OK) < 0 && errno == ENOENT;
}

/* The rows of those that were removed; what fails once more is left for the next start. */
static void forget_removed(struct node *n)
{
	list_for_each_safe (struct instance, i, &n->instances, link) {
		struct err e = ERR_INIT;

		if (!was_removed(i)) {
			continue;
		}
		if (rstore_delete(n->rstore, INSTANCE_KIND, i->id, 0, RSTORE_DURABLE, &e) < 0) {
			log_err(LOG_LEVEL_WARN, &e);
		}
		instance_unload(i);
	}
}

int instance_load_all(struct node *n, struct err *e)
{
	struct load l = { .node = n, .e = e };
	uint64_t bad_ids = 0;
	int r = rstore_list(n->rstore, INSTANCE_KIND, NULL, on_row, &l, &bad_ids, e);

	if (bad_ids > 0) {
		char number[24];

		snprintf(number, sizeof(number), "%llu", (unsigned long long)bad_ids);
		log_error("the store has instances without a valid id, which cannot be named or "
			  "removed here", "rows", number);
	}
	if (r == 0) {
		forget_removed(n);
	}
	return r;
}
