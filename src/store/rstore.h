/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resource store: everything that the daemon must still know after a crash.
 *
 * A resource has a kind, an id (64 hexadecimal digits), a name that is unique in its kind and
 * project, a format version, a `spec` (what is wished; JSON text) and a `status` (what is; JSON
 * text) with separate writers, an epoch, and the revision of its last change. Revisions count
 * all changes of the store, one by one. `put` and `delete` can demand a revision: then they fail
 * with ERR_CONFLICT (-ESTALE) if the resource was changed meanwhile.
 *
 * Behind it is SQLite in WAL mode on one host (later etcd on many); nothing above sees SQL.
 * After a crash or a power cut every change that returned 0 with RSTORE_DURABLE is there; of
 * the others perhaps the last few are not, but never a part of one, and never one without those
 * before it.
 *
 *	r = rstore_open("/var/lib/holm", &s, e);
 *	struct resource res = { .kind = "instance", .name = "web", .spec = text, ... };
 *	r = rstore_create(s, &res, RSTORE_DURABLE, e);        // fills res.id and res.revision
 *	r = rstore_put_status(s, "instance", id, 0, "{...}", 0, e);
 *
 * Context: one thread. Watchers are called from inside the changing function, after the commit.
 */
#ifndef STORE_RSTORE_H
#define STORE_RSTORE_H

#include "base/err.h"
#include "base/id.h"
#include "base/list.h"

struct rstore;

#define RSTORE_PROJECT "default"

/* The revision of our schema of files; an older one is migrated, a newer one refused. */
enum { RSTORE_SCHEMA = 2 };

enum {
	RSTORE_DURABLE = 1,   /* on the disk before the function returns */
};

enum {
	RSTORE_TEXT_MAX = 4 * 1024 * 1024,   /* bytes of a spec or a status */
	RSTORE_HISTORY  = 10000,             /* changes that a watch can look back */
};

struct resource {
	char       id[ID_LEN + 1];
	char      *kind;       /* "instance" */
	char      *name;       /* name_valid() */
	char      *project;    /* NULL on create: RSTORE_PROJECT */
	char      *host;       /* that runs it, or NULL */
	uint32_t   version;    /* of spec and status */
	uint64_t   epoch;      /* of the claim of `host` */
	uint64_t   revision;
	uint64_t   created_ns; /* since the Unix epoch */
	char      *spec;
	char      *status;     /* "{}" on create if NULL */
};

/* Free what it holds, not itself. */
void resource_fini(struct resource *r);
#define auto_resource auto_(resource_fini)

/*
 * Open (and make, 0700) the store in a folder. ERR_HOST for a damaged file, naming it;
 * ERR_UNSUPPORTED for one of a newer version; ERR_CONFLICT if another process has it.
 */
int  rstore_open(const char *dir, struct rstore **ret, struct err *e) must_check;
struct rstore *rstore_close(struct rstore *s);   /* NULL is fine; returns NULL */
AUTO_PTR(struct rstore, rstore_close)

/*
 * Add a resource. An empty id is filled with a new one; created_ns and revision are set.
 * ERR_CONFLICT (-EEXIST) if the name or the id is taken.
 */
int rstore_create(struct rstore *s, struct resource *res, unsigned flags,
		  struct err *e) must_check;

/* By full id. ERR_NOT_FOUND. */
int rstore_get(struct rstore *s, const char *kind, const char *id, struct resource *ret,
	       struct err *e) must_check;

/*
 * By name, else by full id, else by a unique prefix of the id of at least 4 digits.
 * ERR_NOT_FOUND; ERR_CONFLICT (-ENOTUNIQ) for a prefix of several.
 */
int rstore_find(struct rstore *s, const char *kind, const char *project, const char *text,
		struct resource *ret, struct err *e) must_check;

/*
 * Each of a kind, oldest first; project NULL: of all. A negative result of fn ends it. Rows
 * without a valid id, which nobody could ask for, are left out and counted in *ret_bad_ids.
 */
typedef int (*rstore_fn)(const struct resource *res, void *ud);
int rstore_list(struct rstore *s, const char *kind, const char *project, rstore_fn fn, void *ud,
		uint64_t *ret_bad_ids, struct err *e) must_check;

/*
 * Change the wish: name, spec, version, host, epoch; members that are NULL or 0 stay. With
 * want_revision != 0 only if that is still the resource's. res->revision becomes the new one.
 */
int rstore_put_spec(struct rstore *s, struct resource *res, uint64_t want_revision,
		    unsigned flags, struct err *e) must_check;

/* Change the fact. ret_revision may be NULL. */
int rstore_put_status(struct rstore *s, const char *kind, const char *id, uint64_t want_revision,
		      const char *status, unsigned flags, uint64_t *ret_revision,
		      struct err *e) must_check;

int rstore_delete(struct rstore *s, const char *kind, const char *id, uint64_t want_revision,
		  unsigned flags, struct err *e) must_check;

/* The revision of the newest change. */
uint64_t rstore_revision(const struct rstore *s);

enum rstore_change {
	RSTORE_CREATED,
	RSTORE_CHANGED,
	RSTORE_DELETED,
	RSTORE_CHANGE__COUNT,
};

extern const char *const rstore_change_names[RSTORE_CHANGE__COUNT];

struct rstore_event {
	uint64_t           revision;
	enum rstore_change change;
	const char        *kind, *id, *name;   /* valid during the call */
};

/* A watcher, in its owner's memory. */
struct rstore_watch {
	struct list  link;
	const char  *kind;    /* NULL: all */
	void       (*fn)(struct rstore_watch *w, const struct rstore_event *ev, void *ud);
	void        *ud;
};

/*
 * Tell of each change after revision `from` (those that happened already, at once, in order;
 * then each as it happens). ERR_NOT_FOUND (-ESTALE) if `from` is longer ago than the history:
 * list, then watch from rstore_revision().
 */
int  rstore_watch(struct rstore *s, struct rstore_watch *w, uint64_t from,
		  struct err *e) must_check;
void rstore_unwatch(struct rstore_watch *w);

/* Small values of the host beside the resources (such as the boot id). NULL: not there. */
int rstore_meta_get(struct rstore *s, const char *key, char **ret, struct err *e) must_check;
int rstore_meta_put(struct rstore *s, const char *key, const char *value,
		    struct err *e) must_check;

#endif
