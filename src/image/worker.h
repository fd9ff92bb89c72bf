/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that parses, and the one that keeps.
 *
 * Bytes of registries and archives are parsed by a child that is confined (image/confine.h)
 * and holds one socket to its parent. The parent has the store. It takes blobs from the
 * child as bytes, hashes what it writes, and believes nothing else: what the child says is
 * bounded and checked on arrival, and an image comes into being only from blobs whose
 * digests the parent has computed itself.
 *
 * Parent:
 *
 *	struct worker_run run = { .store = s, .progress = p, .confine = &c,
 *				  .main = pull_main, .job = &job };
 *	r = worker_run(&run, &arena, &images, e);
 *	... store_image_put() for each of images ...
 *
 * Child, in pull_main(w, job, e):
 *
 *	r = worker_blob_begin(w, digest, size, "layer", &blob, &offset, e);   // 1: parent has it
 *	r = worker_blob_data(w, blob, data, n, e);
 *	r = worker_blob_end(w, blob, &digest, &size, e);
 *	r = worker_image(w, &image, e);
 *
 * The child's memory is a copy of the parent's at the fork, so a job needs no encoding. The
 * messages are those of one program to itself; they have no version and touch no disk.
 */
#ifndef IMAGE_WORKER_H
#define IMAGE_WORKER_H

#include "image/confine.h"
#include "image/progress.h"
#include "image/store.h"

struct worker;   /* the child's side */

/* An image that the child says is complete. */
struct worker_image {
	char name[1024];                 /* as the archive says, not judged; "" for none */
	char manifest[OCI_DIGEST_MAX];
	char media_type[128];
	char source[OCI_DIGEST_MAX];     /* digest of the index, or "" */
};

struct worker_images {
	struct worker_image *v;          /* in the arena */
	size_t               n;
};

struct worker_run {
	struct store         *store;     /* NULL: the child may not add blobs */
	struct progress      *progress;
	const struct confine *confine;

	/* Opens what the child asks for by name: a descriptor, and its size. May be NULL. */
	int (*open)(const char *name, uint64_t *ret_size, void *ud, struct err *e);
	void *ud;

	int (*main)(struct worker *w, void *job, struct err *e);
	void       *job;
	/* Another descriptor to listen at meanwhile; closed or -1 once it is done. */
	int        *watch_fd;            /* NULL: none */
	void      (*on_watch)(int *fd, void *ud);
	void       *watch_ud;
	struct strv *lines;              /* gets what the child says by worker_line(); or NULL */
	const int  *keep_fds;            /* stay open in the child under the same number */
	size_t      n_keep_fds;
};

/*
 * Run the child to its end. Ends early, with -ECANCELED, when cancel_signal() says so.
 * Broken downloads stay in the store for the next time. `ret` may be NULL.
 */
int worker_run(const struct worker_run *run, struct arena *a, struct worker_images *ret,
	       struct err *e) must_check;

/* The child's side. All fail with -EPIPE when the parent is gone. */

/*
 * Announce a blob. Returns 1 if the parent has it already (nothing is to be sent), 0 with
 * its number and how many bytes the parent has from an earlier try; -EBUSY (ERR_CONFLICT)
 * where another process is fetching it: ask again later.
 *
 * @digest  NULL: not known before the end
 * @size    UINT64_MAX: not known
 */
int worker_blob_begin(struct worker *w, const char *digest, uint64_t size, const char *what,
		      uint32_t *ret_blob, uint64_t *ret_offset, struct err *e) must_check;
int worker_blob_data(struct worker *w, uint32_t blob, const void *data, size_t n,
		     struct err *e) must_check;

/* Forget the bytes that the parent has; they will come again from the first. */
int worker_blob_restart(struct worker *w, uint32_t blob, struct err *e) must_check;

/* Complete: the parent says what it is. -EBADMSG (ERR_INVALID): not what was announced. */
int worker_blob_end(struct worker *w, uint32_t blob, struct blob_info *ret,
		    struct err *e) must_check;

/* Give up; what the parent has may serve a later try. */
int worker_blob_abandon(struct worker *w, uint32_t blob, struct err *e) must_check;

/* A small blob in one go. `digest` may be NULL; `ret` may be NULL. */
int worker_blob_put(struct worker *w, const char *digest, const char *what, const void *data,
		    size_t n, struct blob_info *ret, struct err *e) must_check;

/* Ask the parent to open something. Its descriptor, or the parent's error. */
int worker_open(struct worker *w, const char *name, uint64_t *ret_size,
		struct err *e) must_check;

/* One line of a listing. */
int worker_line(struct worker *w, const char *text, struct err *e) must_check;

int worker_image(struct worker *w, const struct worker_image *image, struct err *e) must_check;

/* Progress of things that are not blobs of the store. */
int worker_item(struct worker *w, const char *id, const char *what, uint64_t total,
		uint32_t *ret_item, struct err *e) must_check;
int worker_set(struct worker *w, uint32_t item, enum progress_state state, uint64_t done,
	       struct err *e) must_check;
int worker_text(struct worker *w, struct err *e, const char *fmt, ...)
	printf_like(3, 4) must_check;

#endif
