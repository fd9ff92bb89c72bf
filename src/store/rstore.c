/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources in SQLite. Every change is one transaction: the row, and a line in `change`, whose
 * rowid is the revision. docs/formats/resource-store.md describes the tables.
 */
#include "store/rstore.h"

#include <errno.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/sql.h"
#include "sys/file.h"

const char *const rstore_change_names[RSTORE_CHANGE__COUNT] = {
	[RSTORE_CREATED] = "created",
	[RSTORE_CHANGED] = "changed",
	[RSTORE_DELETED] = "deleted",
};

void resource_fini(struct resource *r)
{
	free(r->kind);
	free(r->name);
	free(r->project);
	free(r->host);
	free(r->spec);
	free(r->status);
	*r = (struct resource){ .kind = NULL };
}

uint64_t rstore_revision(const struct rstore *s)
{
	return s->revision;
}

static void tell(struct rstore *s, const struct rstore_event *ev)
{
	list_for_each_safe (struct rstore_watch, w, &s->watches, link) {
		if (!w->kind || str_eq(w->kind, ev->kind)) {
			w->fn(w, ev, w->ud);
		}
	}
}

/* The line of the change, which gives the new revision; old lines go. */
static int add_change(struct rstore *s, enum rstore_change change, const char *kind,
		      const char *id, const char *name, struct err *e)
{
	sqlite3_stmt *q = sql_use(s, SQL_CHANGE_ADD);

	sql_bind_u64(q, 1, s->revision + 1);
	sql_bind_u64(q, 2, (uint64_t)change);
	sql_bind_text(q, 3, kind);
	sql_bind_text(q, 4, id);
	sql_bind_text(q, 5, name);
	int r = sql_run(s, q, e);

	if (r == 0 && (s->revision + 1) % 100 == 0 && s->revision > RSTORE_HISTORY) {
		q = sql_use(s, SQL_CHANGE_TRIM);
		sql_bind_u64(q, 1, s->revision - RSTORE_HISTORY);
		r = sql_run(s, q, e);
	}
	return r;
}

static int commit(struct rstore *s, enum rstore_change change, const char *kind, const char *id,
		  const char *name, struct err *e)
{
	int r = add_change(s, change, kind, id, name, e);

	if (r == 0) {
		r = sql_commit(s, e);
	}
	if (r < 0) {
		sql_rollback(s);
		return r;
	}
	s->revision++;
	struct rstore_event ev = { .revision = s->revision, .change = change, .kind = kind,
				   .id = id, .name = name };

	tell(s, &ev);
	return 0;
}

static int check_text(const char *what, const char *text, struct err *e)
{
	if (text && strlen(text) > RSTORE_TEXT_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "the resource's %s is too large", what);
	}
	return 0;
}

static int check_new(struct resource *res, struct err *e)
{
	struct id id;

	if (!res->id[0]) {
		int r = id_new(&id);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "random numbers");
		}
		memcpy(res->id, id.text, sizeof(res->id));
	}
	if (!id_valid(res->id)) {
		return err_field(e, "/id", "an id has 64 hexadecimal digits");
	}
	if (!res->name || !name_valid(res->name)) {
		return err_field(e, "/name", "a name has 1 to 128 of a-z, A-Z, 0-9, _, . and -, "
				 "and begins with a letter or digit");
	}
	int r = check_text("spec", res->spec, e);

	return r < 0 ? r : check_text("status", res->status, e);
}

int rstore_create(struct rstore *s, struct resource *res, unsigned flags, struct err *e)
{
	int r = check_new(res, e);

	if (r < 0) {
		return r;
	}
	r = sql_begin(s, flags & RSTORE_DURABLE, e);
	if (r < 0) {
		return r;
	}
	res->created_ns = res->created_ns ? res->created_ns : clock_wall_ns();
	sqlite3_stmt *q = sql_use(s, SQL_CREATE);

	sql_bind_text(q, 1, res->kind);
	sql_bind_text(q, 2, res->id);
	sql_bind_text(q, 3, res->project ? res->project : RSTORE_PROJECT);
	sql_bind_text(q, 4, res->name);
	sql_bind_text(q, 5, res->host);
	sql_bind_u64(q, 6, res->version);
	sql_bind_u64(q, 7, res->epoch);
	sql_bind_u64(q, 8, s->revision + 1);
	sql_bind_u64(q, 9, res->created_ns);
	sql_bind_text(q, 10, res->spec ? res->spec : "{}");
	sql_bind_text(q, 11, res->status ? res->status : "{}");
	r = sql_run(s, q, e);
	if (r < 0) {
		sql_rollback(s);
		return r == -EEXIST ? err_set(e, EEXIST, ERR_CONFLICT,
					      "the name \"%s\" is taken by another %s",
					      res->name, res->kind) : r;
	}
	r = commit(s, RSTORE_CREATED, res->kind, res->id, res->name, e);
	if (r == 0) {
		res->revision = s->revision;
	}
	return r;
}

/* Columns of SQL_COLUMNS, in their order. */
static bool has_valid_id(sqlite3_stmt *q)
{
	const char *id = (const char *)sqlite3_column_text(q, 1);

	return id && id_valid(id);
}

static int load_row(sqlite3_stmt *q, struct resource *ret, struct err *e)
{
	struct resource res = { .version = (uint32_t)sqlite3_column_int64(q, 5),
				.epoch = (uint64_t)sqlite3_column_int64(q, 6),
				.revision = (uint64_t)sqlite3_column_int64(q, 7),
				.created_ns = (uint64_t)sqlite3_column_int64(q, 8) };

	if (!has_valid_id(q)) {
		return err_set(e, EBADMSG, ERR_HOST, "the store has a resource with a bad id");
	}
	memcpy(res.id, sqlite3_column_text(q, 1), sizeof(res.id));
	res.kind = sql_column_dup(q, 0);
	res.project = sql_column_dup(q, 2);
	res.name = sql_column_dup(q, 3);
	res.host = sql_column_dup(q, 4);
	res.spec = sql_column_dup(q, 9);
	res.status = sql_column_dup(q, 10);
	if (!res.kind || !res.project || !res.name || !res.spec || !res.status) {
		resource_fini(&res);
		return err_nomem(e);
	}
	*ret = res;
	return 0;
}

int rstore_get(struct rstore *s, const char *kind, const char *id, struct resource *ret,
	       struct err *e)
{
	sqlite3_stmt *q = sql_use(s, SQL_GET);

	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, id);
	int r = sql_step(s, q, e);

	if (r == 0) {
		r = err_set(e, ENOENT, ERR_NOT_FOUND, "no such %s: %s", kind, id);
	} else if (r > 0) {
		r = load_row(q, ret, e);
	}
	sqlite3_reset(q);
	return r;
}

static bool is_prefix(const char *text)
{
	size_t n = strspn(text, "0123456789abcdef");

	return n >= 4 && n <= ID_LEN && text[n] == '\0';
}

static int find_prefix(struct rstore *s, const char *kind, const char *project, const char *text,
		       struct resource *ret, struct err *e)
{
	char end[ID_LEN + 2];
	sqlite3_stmt *q = sql_use(s, SQL_FIND_PREFIX);

	snprintf(end, sizeof(end), "%sg", text); /* "g" comes after all digits */
	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, project);
	sql_bind_text(q, 3, text);
	sql_bind_text(q, 4, end);
	int r = sql_step(s, q, e);

	if (r == 0) {
		r = err_set(e, ENOENT, ERR_NOT_FOUND, "no such %s: %s", kind, text);
	} else if (r > 0) {
		r = load_row(q, ret, e);
		if (r == 0 && sql_step(s, q, e) > 0) {
			resource_fini(ret);
			r = err_set(e, ENOTUNIQ, ERR_CONFLICT,
				    "more than one %s begins with %s: give more digits", kind,
				    text);
		}
	}
	sqlite3_reset(q);
	return r;
}

int rstore_find(struct rstore *s, const char *kind, const char *project, const char *text,
		struct resource *ret, struct err *e)
{
	sqlite3_stmt *q = sql_use(s, SQL_FIND_NAME);

	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, project);
	sql_bind_text(q, 3, text);
	int r = sql_step(s, q, e);

	if (r > 0) {
		r = load_row(q, ret, e);
		sqlite3_reset(q);
		return r;
	}
	sqlite3_reset(q);
	if (r < 0) {
		return r;
	}
	return is_prefix(text) ? find_prefix(s, kind, project, text, ret, e) :
	       err_set(e, ENOENT, ERR_NOT_FOUND, "no such %s: %.128s", kind, text);
}

int rstore_list(struct rstore *s, const char *kind, const char *project, rstore_fn fn, void *ud,
		uint64_t *ret_bad_ids, struct err *e)
{
	/* A statement of its own: fn may use the store. */
	sqlite3_stmt *q = NULL;
	int r = sql_prepare(s, SQL_LIST, &q, e);

	if (r < 0) {
		return r;
	}
	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, project);
	while (r >= 0 && (r = sql_step(s, q, e)) > 0) {
		auto_resource struct resource res = { .kind = NULL };

		if (!has_valid_id(q)) {
			(*ret_bad_ids)++;
			continue;
		}
		r = load_row(q, &res, e);
		if (r == 0) {
			r = fn(&res, ud);
			if (r < 0 && !e->errnum) {
				r = err_set(e, -r, ERR_HOST, "list of %ss", kind);
			}
		}
	}
	sqlite3_finalize(q);
	return r;
}

/* After an update that met no row: is it not there, or was it changed? */
static int not_updated(struct rstore *s, const char *kind, const char *id, uint64_t want,
		       struct err *e)
{
	auto_resource struct resource res = { .kind = NULL };
	int r = rstore_get(s, kind, id, &res, e);

	sql_rollback(s);
	if (r < 0) {
		return r;
	}
	return err_set(e, ESTALE, ERR_CONFLICT,
		       "%s %.12s was changed meanwhile (revision %llu, not %llu): read it again",
		       kind, id, (unsigned long long)res.revision, (unsigned long long)want);
}

static int changed_name(struct rstore *s, const char *kind, const char *id, char **ret,
			struct err *e)
{
	auto_resource struct resource res = { .kind = NULL };
	int r = rstore_get(s, kind, id, &res, e);

	if (r == 0) {
		*ret = take_ptr(&res.name);
	}
	return r;
}

static int finish_update(struct rstore *s, sqlite3_stmt *q, const char *kind, const char *id,
			 uint64_t want, struct err *e)
{
	auto_free char *name = NULL;
	int r = sql_run(s, q, e);

	if (r == 0 && sqlite3_changes(s->db) == 0) {
		return not_updated(s, kind, id, want, e);
	}
	if (r == 0) {
		r = changed_name(s, kind, id, &name, e);
	}
	if (r < 0) {
		sql_rollback(s);
		return r;
	}
	return commit(s, RSTORE_CHANGED, kind, id, name, e);
}

int rstore_put_spec(struct rstore *s, struct resource *res, uint64_t want, unsigned flags,
		    struct err *e)
{
	if (res->name && !name_valid(res->name)) {
		return err_field(e, "/name", "not a name");
	}
	int r = check_text("spec", res->spec, e);

	if (r == 0) {
		r = sql_begin(s, flags & RSTORE_DURABLE, e);
	}
	if (r < 0) {
		return r;
	}
	sqlite3_stmt *q = sql_use(s, SQL_PUT_SPEC);

	sql_bind_text(q, 1, res->kind);
	sql_bind_text(q, 2, res->id);
	sql_bind_u64(q, 3, want);
	sql_bind_u64(q, 4, s->revision + 1);
	sql_bind_text(q, 5, res->name);
	sql_bind_text(q, 6, res->spec);
	sql_bind_u64(q, 7, res->version);
	sql_bind_text(q, 8, res->host);
	sql_bind_u64(q, 9, res->epoch);
	r = finish_update(s, q, res->kind, res->id, want, e);
	if (r == -EEXIST) {
		return err_set(e, EEXIST, ERR_CONFLICT, "the name \"%s\" is taken by another %s",
			       res->name, res->kind);
	}
	if (r == 0) {
		res->revision = s->revision;
	}
	return r;
}

int rstore_put_status(struct rstore *s, const char *kind, const char *id, uint64_t want,
		      const char *status, unsigned flags, uint64_t *ret_revision, struct err *e)
{
	int r = check_text("status", status, e);

	if (r == 0) {
		r = sql_begin(s, flags & RSTORE_DURABLE, e);
	}
	if (r < 0) {
		return r;
	}
	sqlite3_stmt *q = sql_use(s, SQL_PUT_STATUS);

	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, id);
	sql_bind_u64(q, 3, want);
	sql_bind_u64(q, 4, s->revision + 1);
	sql_bind_text(q, 5, status);
	r = finish_update(s, q, kind, id, want, e);
	if (r == 0 && ret_revision) {
		*ret_revision = s->revision;
	}
	return r;
}

int rstore_delete(struct rstore *s, const char *kind, const char *id, uint64_t want,
		  unsigned flags, struct err *e)
{
	auto_free char *name = NULL;
	int r = sql_begin(s, flags & RSTORE_DURABLE, e);

	if (r < 0) {
		return r;
	}
	r = changed_name(s, kind, id, &name, e);
	if (r < 0) {
		sql_rollback(s);
		return r;
	}
	sqlite3_stmt *q = sql_use(s, SQL_DELETE);

	sql_bind_text(q, 1, kind);
	sql_bind_text(q, 2, id);
	sql_bind_u64(q, 3, want);
	r = sql_run(s, q, e);
	if (r == 0 && sqlite3_changes(s->db) == 0) {
		return not_updated(s, kind, id, want, e);
	}
	if (r < 0) {
		sql_rollback(s);
		return r;
	}
	return commit(s, RSTORE_DELETED, kind, id, name, e);
}

int rstore_watch(struct rstore *s, struct rstore_watch *w, uint64_t from, struct err *e)
{
	sqlite3_stmt *q = NULL;
	int r = 0;

	list_init(&w->link);
	if (from > s->revision) {
		return err_set(e, EINVAL, ERR_INVALID, "revision %llu has not been yet",
			       (unsigned long long)from);
	}
	if (from + RSTORE_HISTORY < s->revision) {
		return err_set(e, ESTALE, ERR_NOT_FOUND,
			       "revision %llu is too long ago: list again, then watch from there",
			       (unsigned long long)from);
	}
	r = sql_prepare(s, SQL_CHANGES, &q, e);
	if (r < 0) {
		return r;
	}
	sql_bind_u64(q, 1, from);
	sql_bind_text(q, 2, w->kind);
	list_add_tail(&s->watches, &w->link);
	while ((r = sql_step(s, q, e)) > 0) {
		struct rstore_event ev = {
			.revision = (uint64_t)sqlite3_column_int64(q, 0),
			.change = (enum rstore_change)sqlite3_column_int(q, 1),
			.kind = (const char *)sqlite3_column_text(q, 2),
			.id = (const char *)sqlite3_column_text(q, 3),
			.name = (const char *)sqlite3_column_text(q, 4),
		};

		if (ev.kind && ev.id && ev.name && ev.change < RSTORE_CHANGE__COUNT) {
			w->fn(w, &ev, w->ud);
		}
	}
	sqlite3_finalize(q);
	if (r < 0) {
		list_del(&w->link);
	}
	return r;
}

void rstore_unwatch(struct rstore_watch *w)
{
	list_del(&w->link);
}

int rstore_meta_get(struct rstore *s, const char *key, char **ret, struct err *e)
{
	sqlite3_stmt *q = sql_use(s, SQL_META_GET);

	sql_bind_text(q, 1, key);
	int r = sql_step(s, q, e);

	if (r >= 0) {
		*ret = r > 0 ? sql_column_dup(q, 0) : NULL;
		r = r > 0 && !*ret ? err_nomem(e) : 0;
	}
	sqlite3_reset(q);
	return r;
}

int rstore_meta_put(struct rstore *s, const char *key, const char *value, struct err *e)
{
	int r = sql_begin(s, true, e);

	if (r < 0) {
		return r;
	}
	sqlite3_stmt *q = sql_use(s, SQL_META_PUT);

	sql_bind_text(q, 1, key);
	sql_bind_text(q, 2, value);
	r = sql_run(s, q, e);
	if (r == 0) {
		r = sql_commit(s, e);
	}
	if (r < 0) {
		sql_rollback(s);
	}
	return r;
}
