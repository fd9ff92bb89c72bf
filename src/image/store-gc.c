/* SPDX-License-Identifier: Apache-2.0 */
/* Pins, and the collection of what no image and no pin needs. */
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/clock.h"
#include "image/store-private.h"

/* Pins. */

struct pin_path {
	char text[5 + 128 + 1];
};

static int pin_path(const char *user, struct pin_path *ret, struct err *e)
{
	if (!name_valid(user)) {
		return err_set(e, EINVAL, ERR_INVALID, "\"%.80s\" is not a name for a pin", user);
	}
	(void)snprintf(ret->text, sizeof(ret->text), "pins/%s", user);
	return 0;
}

/* The manifest that a pin names; -ENOENT, or -EBADMSG for what is no pin. */
static int pin_read(const struct store *s, const char *path, char ret[OCI_DIGEST_MAX])
{
	ssize_t n = sys_readlinkat(s->dir_fd, path, ret, OCI_DIGEST_MAX);

	if (n < 0) {
		return n == -EINVAL ? -EBADMSG : (int)n;
	}
	if (n >= OCI_DIGEST_MAX) {
		return -EBADMSG;
	}
	ret[n] = '\0';
	return oci_digest_valid(ret) ? 0 : -EBADMSG;
}

/* A symbolic link is made whole by one call, and replaced whole by a rename. */
static int pin_make(struct store *s, const char *manifest, const struct pin_path *path,
		    struct err *e)
{
	char old[OCI_DIGEST_MAX];
	struct store_path temp;

	if (pin_read(s, path->text, old) == 0 && str_eq(old, manifest)) {
		return 0;
	}
	int r = store__temp_path("tmp", &temp, e);

	if (r < 0) {
		return r;
	}
	r = sys_symlinkat(manifest, s->dir_fd, temp.text);
	if (r == 0) {
		r = sys_renameat2(s->dir_fd, temp.text, s->dir_fd, path->text, 0);
	}
	if (r < 0) {
		ignore_result(sys_unlinkat(s->dir_fd, temp.text, 0)); /* the first failure counts */
	}
	return r < 0 ? store__host_err(e, r, "image store: pinning an image") : 0;
}

int store_pin(struct store *s, const char *manifest, const char *user, bool durable,
	      struct err *e)
{
	struct pin_path path;
	int r = pin_path(user, &path, e);

	if (r == 0) {
		r = store_use_begin(s, e); /* what is there now stays until the pin is made */
	}
	if (r < 0) {
		return r;
	}
	if (!store_blob_has(s, manifest, UINT64_MAX)) {
		r = err_set(e, ENOENT, ERR_NOT_FOUND, "image %.80s is not in the store", manifest);
	} else {
		r = pin_make(s, manifest, &path, e);
	}
	if (r == 0 && durable) {
		r = store__sync_folder(s, "pins", e);
	}
	store_use_end(s);
	return r;
}

int store_unpin(struct store *s, const char *user, struct err *e)
{
	struct pin_path path;
	int r = store__writable(s, e);

	if (r == 0) {
		r = pin_path(user, &path, e);
	}
	if (r < 0) {
		return r;
	}
	r = sys_unlinkat(s->dir_fd, path.text, 0);
	return r < 0 && r != -ENOENT ? err_set(e, -r, ERR_HOST, "image store: pin %s", user) : 0;
}

int store_pins(struct store *s, store_pin_fn fn, void *ud, struct err *e)
{
	auto_strv struct strv users = STRV_INIT;
	int r = store__names(s, "pins", &users, e);

	for (size_t i = 0; r == 0 && i < users.n; i++) {
		char manifest[OCI_DIGEST_MAX];
		struct pin_path path;

		if (!name_valid(users.v[i])) {
			continue; /* not ours */
		}
		(void)snprintf(path.text, sizeof(path.text), "pins/%s", users.v[i]);
		r = pin_read(s, path.text, manifest);
		if (r == -ENOENT || r == -EBADMSG) {
			r = 0; /* taken away meanwhile, or not ours */
		} else if (r < 0) {
			return err_set(e, -r, ERR_HOST, "image store: pin %s", users.v[i]);
		} else {
			r = fn(users.v[i], manifest, ud);
		}
	}
	return r;
}

/* Marking. */

struct marks {
	struct store *store;
	struct strv   keep;    /* digests of blobs; sorted and searched once it is complete */
	struct strv   layers;  /* chain ids */
	struct err   *e;
};

/*
 * What an image needs. Of a damaged one that cannot be told, and somebody may be running from
 * its layers: then nothing at all is collected.
 */
static int mark_image(struct marks *m, const char *manifest)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_image img;
	int r = store_image_load(m->store, manifest, &a, &img, m->e);

	if (r < 0) {
		return err_wrap(m->e, "nothing was collected: remove this image, and what uses it");
	}
	r = strv_add(&m->keep, manifest);
	if (r == 0) {
		r = strv_add(&m->keep, img.manifest.config.digest);
	}
	for (size_t i = 0; r == 0 && i < img.n_layers; i++) {
		r = strv_add(&m->keep, oci_layer(&img.manifest, i)->digest);
		if (r == 0) {
			r = strv_add(&m->layers, img.chain_ids[i]);
		}
	}
	return r;
}

static int mark_pin(const char *user, const char *manifest, void *ud)
{
	struct marks *m = ud;

	(void)user;
	if (strv_has(&m->keep, manifest) || !store_blob_has(m->store, manifest, UINT64_MAX)) {
		return 0;
	}
	return mark_image(m, manifest);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool sorted_has(const struct strv *v, const char *s)
{
	return v->n && bsearch(&s, v->v, v->n, sizeof(*v->v), compare);
}

static int mark_all(struct marks *m)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entries all;
	int r = store_image_list(m->store, &a, &all, m->e);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		r = mark_image(m, all.v[i].manifest);
	}
	if (r == 0) {
		r = store_pins(m->store, mark_pin, m, m->e);
	}
	if (r < 0) {
		return m->e->errnum ? r : err_nomem(m->e);
	}
	if (m->keep.n) {
		qsort(m->keep.v, m->keep.n, sizeof(char *), compare);
	}
	if (m->layers.n) {
		qsort(m->layers.v, m->layers.n, sizeof(char *), compare);
	}
	return 0;
}

/* Sweeping: a rename into trash/, which is emptied once the lock is free again. */

static int discard(struct store *s, const char *path, struct err *e)
{
	struct store_path to;
	int r = store__temp_path("trash", &to, e);

	if (r < 0) {
		return r;
	}
	r = sys_renameat2(s->dir_fd, path, s->dir_fd, to.text, 0);
	return r < 0 && r != -ENOENT ? err_set(e, -r, ERR_HOST, "image store: removing %s", path) :
				       0;
}

static uint64_t file_bytes(const struct store *s, const char *path)
{
	struct stat st;

	return sys_fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size :
									     0;
}

static int sweep_blobs(struct marks *m, const char *alg, struct store_gc_result *ret)
{
	auto_strv struct strv names = STRV_INIT;
	char folder[16];

	(void)snprintf(folder, sizeof(folder), "blobs/%s", alg);
	int r = store__names(m->store, folder, &names, m->e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		auto_free char *digest = str_printf("%s:%s", alg, names.v[i]);

		if (!digest) {
			return err_nomem(m->e);
		}
		if (!oci_digest_valid(digest) || sorted_has(&m->keep, digest)) {
			continue;
		}
		struct blob_path path = store__blob_path(digest);

		ret->bytes += file_bytes(m->store, path.text);
		ret->blobs++;
		r = discard(m->store, path.text, m->e);
	}
	return r;
}

static int sweep_layers(struct marks *m, struct store_gc_result *ret)
{
	auto_strv struct strv names = STRV_INIT;
	int r = store__names(m->store, "layers", &names, m->e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		char chain[OCI_DIGEST_MAX];
		struct store_layer_info info;

		if (!store__digest_of_name(names.v[i], chain) || sorted_has(&m->layers, chain)) {
			continue;
		}
		if (store__layer_info(m->store, chain, &info) == 0) {
			ret->bytes += info.bytes;
		}
		ret->layers++;
		r = discard(m->store, store__layer_path(chain).text, m->e);
	}
	return r;
}

enum { PARTIAL_DAYS = 7 };

static int sweep_partials(struct marks *m, bool all, struct store_gc_result *ret)
{
	auto_strv struct strv names = STRV_INIT;
	uint64_t now = clock_wall_ns() / NS_PER_SEC;
	int r = store__names(m->store, "partial", &names, m->e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		char digest[OCI_DIGEST_MAX];
		struct stat st;

		if (!store__digest_of_name(names.v[i], digest)) {
			continue;
		}
		struct blob_path path = store__partial_path(digest);

		if (sys_fstatat(m->store->dir_fd, path.text, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    (!all && (uint64_t)st.st_mtim.tv_sec + PARTIAL_DAYS * 86400 > now)) {
			continue;
		}
		ret->bytes += (uint64_t)st.st_blocks * 512;
		ret->partials++;
		r = discard(m->store, path.text, m->e);
	}
	return r;
}

static int sweep_temp(struct marks *m)
{
	auto_strv struct strv names = STRV_INIT;
	int r = store__names(m->store, "tmp", &names, m->e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		struct store_path path;

		if (id_valid(names.v[i])) {
			(void)snprintf(path.text, sizeof(path.text), "tmp/%s", names.v[i]);
			r = discard(m->store, path.text, m->e);
		}
	}
	return r;
}

static int empty_trash(struct store *s, struct err *e)
{
	auto_strv struct strv names = STRV_INIT;
	int r = store__names(s, "trash", &names, e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		struct store_path path;

		if (!id_valid(names.v[i])) {
			continue;
		}
		(void)snprintf(path.text, sizeof(path.text), "trash/%s", names.v[i]);
		r = sys_remove_tree(s->dir_fd, path.text);
		if (r == -ENOENT || r == -ENOTEMPTY) {
			r = 0; /* another collection is at it too */
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "image store: removing %s", path.text);
		}
	}
	return r;
}

static int mark_and_sweep(struct store *s, unsigned flags, struct store_gc_result *ret,
			  struct err *e)
{
	struct marks m = { .store = s, .e = e };
	int r = mark_all(&m);

	if (r == 0) {
		/* Or a pin that was taken away could come back after a cut: to half an image. */
		r = store__sync_folder(s, "pins", e);
	}
	if (r == 0) {
		r = sweep_layers(&m, ret);
	}
	if (r == 0) {
		r = sweep_blobs(&m, "sha256", ret);
	}
	if (r == 0) {
		r = sweep_blobs(&m, "sha512", ret);
	}
	if (r == 0) {
		r = sweep_partials(&m, (flags & STORE_GC_PARTIALS) != 0, ret);
	}
	if (r == 0) {
		r = sweep_temp(&m);
	}
	if (r == 0 && ret->layers) {
		/* Or a cut could bring back the name of a layer whose files have gone. */
		r = store__sync_folder(s, "layers", e);
	}
	strv_fini(&m.keep);
	strv_fini(&m.layers);
	return r;
}

int store_gc(struct store *s, unsigned flags, struct store_gc_result *ret, struct err *e)
{
	int r = store__writable(s, e);

	*ret = (struct store_gc_result){ .bytes = 0 };
	if (r < 0) {
		return r;
	}
	assert(s->uses == 0); /* it would wait for itself */
	auto_unlock int lock = -1;

	r = store__lock(s, "lock", LOCK_EX | ((flags & STORE_GC_NO_WAIT) ? LOCK_NB : 0), &lock, e);
	if (r == 0) {
		r = mark_and_sweep(s, flags, ret, e);
	}
	store__unlock(&lock);
	return r < 0 ? r : empty_trash(s, e);
}

int store_prune(struct store *s, bool all, struct store_removed *ret_removed,
		struct store_gc_result *ret, struct err *e)
{
	struct store_removed done = { .untagged = STRV_INIT, .deleted = STRV_INIT };
	int r = store__writable(s, e);

	if (r == 0) {
		r = store__forget(s, all, &done, e);
	}
	if (r == 0) {
		r = store_gc(s, 0, ret, e);
	}
	if (r == 0 && ret_removed) {
		*ret_removed = done;
	} else {
		store_removed_fini(&done);
	}
	return r;
}
