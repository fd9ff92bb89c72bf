/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store: one folder (0700) with blobs by digest, the names of images, unpacked
 * layers, and pins. docs/formats/image-store.md describes the files.
 *
 * After kill -9 or a power cut at any moment each image is whole or absent, and so is each
 * blob and each layer; what was half-made is swept up by the next store_gc().
 *
 * Several processes may use one store at a time. Whoever adds something holds a "use" from
 * before its first look (store_blob_has()) until store_image_put() has returned: a use keeps
 * store_gc() out, so that a blob that was there stays. Readers of named or pinned images need
 * no use. A struct store belongs to one thread.
 *
 *	r = store_open("/var/lib/holm/images", STORE_CREATE, &s, e);
 *	r = store_use_begin(s, e);
 *	... blobs ...
 *	r = store_image_put(s, &(struct store_put){ .name = "docker.io/library/debian:12",
 *			    .manifest = digest, .media_type = OCI_MEDIA_MANIFEST }, e);
 *	store_use_end(s);
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include "base/arena.h"
#include "image/digest.h"
#include "image/ref.h"

struct store;

enum {
	STORE_CREATE = 1,     /* make the folder and what belongs in it */
	STORE_READ_ONLY = 2,  /* nothing is written, not even the lock file */
};

int  store_open(const char *path, unsigned flags, struct store **ret, struct err *e) must_check;
void store_close(struct store *s);
AUTO_PTR(struct store, store_close)
#define auto_store auto_(store_closep)

/* The store's folder; borrowed. */
int store_dir_fd(const struct store *s);

/* Uses nest. Waits while another process collects garbage. */
int  store_use_begin(struct store *s, struct err *e) must_check;
void store_use_end(struct store *s);

/*
 * Blobs.
 *
 * A writer's bytes are in a temporary file until commit, which checks digest and size, syncs
 * and moves them in place. With BLOB_RESUME (needs a digest) the bytes stay when the writer
 * is freed without a commit, and the next writer for the same digest goes on behind them.
 * One writer for a digest at a time: the second gets ERR_CONFLICT (-EBUSY).
 */
struct blob_writer;

enum {
	BLOB_RESUME = 1,
};

struct blob_info {
	char     digest[OCI_DIGEST_MAX];
	uint64_t size;
};

/*
 * @digest  what the bytes must have, or NULL: any, named by sha256
 * @size    bytes that will come, more is refused; UINT64_MAX: not known
 */
int blob_writer_open(struct store *s, const char *digest, uint64_t size, unsigned flags,
		     struct blob_writer **ret, struct err *e) must_check;

/* Bytes that are there already (a resumed download), and after that were written. */
uint64_t blob_writer_offset(const struct blob_writer *w);

int blob_writer_write(struct blob_writer *w, const void *data, size_t n,
		      struct err *e) must_check;

/* Forget all bytes: the server would not go on where we stopped. */
int blob_writer_restart(struct blob_writer *w, struct err *e) must_check;

/*
 * Check, sync, put in place; the writer is to be freed afterwards in any case. ERR_INVALID
 * (-EBADMSG) for a wrong digest or size: the bytes are gone then. Fine if the blob is there.
 */
int blob_writer_commit(struct blob_writer *w, struct blob_info *ret, struct err *e) must_check;

void blob_writer_free(struct blob_writer *w);
AUTO_PTR(struct blob_writer, blob_writer_free)
#define auto_blob_writer auto_(blob_writer_freep)

/* A small blob at once. `digest` NULL: any. `ret` may be NULL. */
int store_blob_put(struct store *s, const void *data, size_t n, const char *digest,
		   struct blob_info *ret, struct err *e) must_check;

/* Whether a blob is there; of that size, unless UINT64_MAX. Content is checked when read. */
bool store_blob_has(struct store *s, const char *digest, uint64_t size);

/*
 * Open for reading. What is read has to be checked against the digest by the reader, over
 * the very bytes it uses (see blob_reader below).
 */
int store_blob_open(struct store *s, const char *digest, uint64_t *ret_size,
		    struct err *e) must_check;

/* A blob of at most `max` bytes, checked. */
int store_blob_read(struct store *s, const char *digest, size_t max, struct buf *ret,
		    struct err *e) must_check;

/* Reads a blob and hashes what it hands out: after the last byte the digest is compared. */
struct blob_reader;
int blob_reader_open(struct store *s, const char *digest, struct blob_reader **ret,
		     struct err *e) must_check;
uint64_t blob_reader_size(const struct blob_reader *r);

/* Bytes read; 0 at the end, once the digest was right; ERR_HOST (-EBADMSG) if it was not. */
ssize_t blob_reader_read(struct blob_reader *r, void *buf, size_t n, struct err *e) must_check;
void blob_reader_free(struct blob_reader *r);
AUTO_PTR(struct blob_reader, blob_reader_free)
#define auto_blob_reader auto_(blob_reader_freep)

/* Images. */

struct store_put {
	const char *name;        /* ref_name(), or NULL: an image without a name */
	const char *manifest;    /* its digest; manifest, config and layers are in the store */
	const char *media_type;  /* of the manifest */
	const char *source;      /* digest of the index it was chosen from, or NULL */
};

/*
 * Give a manifest a name, taking the name from whatever had it (which stays as an image
 * without a name). Manifest and config are parsed, the layers' blobs must be there. Once
 * this returns 0 the image survives a power cut.
 */
int store_image_put(struct store *s, const struct store_put *put, struct err *e) must_check;

/* An image as the index knows it; one for each name. Strings live in the arena. */
struct store_entry {
	const char *name;        /* "docker.io/library/debian:latest", or NULL */
	const char *manifest;    /* digest */
	uint64_t    size;        /* bytes of the manifest */
	const char *media_type;
	const char *id;          /* digest of the config: the image's id */
	const char *source;      /* digest of the index, or NULL */
	uint64_t    added_ns;    /* since the epoch */
};

struct store_entries {
	struct store_entry *v;
	size_t              n;
};

int store_image_list(struct store *s, struct arena *a, struct store_entries *ret,
		     struct err *e) must_check;

/*
 * Find an image by "NAME[:TAG][@DIGEST]", by id ("sha256:..." or its hexadecimal digits) or
 * by a unique prefix of at least four digits of the id. A name wins over an id.
 * ERR_NOT_FOUND (-ENOENT); ERR_INVALID for a prefix of several.
 */
int store_image_resolve(struct store *s, const char *text, struct arena *a,
			struct store_entry *ret, struct err *e) must_check;

/* The documents of an image, checked, in the arena. */
struct store_image {
	const char             *digest;      /* of the manifest */
	struct oci_manifest     manifest;
	struct oci_image_config config;
	const char            **chain_ids;   /* one for each layer, bottom first */
	size_t                  n_layers;
	uint64_t                blob_bytes;  /* manifest, config and layers */
	const char             *config_text; /* as stored, for inspect; config_len bytes */
	size_t                  config_len;
	const char             *manifest_text;
	size_t                  manifest_len;
};

int store_image_load(struct store *s, const char *manifest, struct arena *a,
		     struct store_image *ret, struct err *e) must_check;

/* One more name for an image (found as by resolve). */
int store_image_tag(struct store *s, const char *image, const char *name,
		    struct err *e) must_check;

enum {
	STORE_FORCE = 1,
};

/*
 * Take a name away; by id, all of an image's names. When the last one goes, so does the
 * image (its files: at the next gc), unless it is pinned: then ERR_CONFLICT (-EBUSY), or with
 * STORE_FORCE it loses its names and goes with its last pin. `ret` (may be NULL) gets what
 * was done.
 */
struct store_removed {
	struct strv untagged;   /* names */
	struct strv deleted;    /* manifest digests */
};
void store_removed_fini(struct store_removed *r);
int store_image_remove(struct store *s, const char *image, unsigned flags,
		       struct store_removed *ret, struct err *e) must_check;

/*
 * Pins: "USER uses the image". `user` is a name_valid() name, such as an instance's id, and
 * pins one image at a time. A pin keeps the image's files. `durable`: it is on disk when this
 * returns; otherwise whoever pinned says it again after a power cut, before collecting.
 */
int store_pin(struct store *s, const char *manifest, const char *user, bool durable,
	      struct err *e) must_check;
int store_unpin(struct store *s, const char *user, struct err *e) must_check;  /* 0 if none */

/* Called for each pin. */
typedef int (*store_pin_fn)(const char *user, const char *manifest, void *ud);
int store_pins(struct store *s, store_pin_fn fn, void *ud, struct err *e) must_check;

/* Layers. */

/* What unpacking tells while it works. */
struct store_progress {
	size_t   layer, n_layers;       /* 0-based */
	uint64_t done_bytes, all_bytes; /* of the layer's blob */
};
typedef void (*store_progress_fn)(const struct store_progress *p, void *ud);

/*
 * Unpack the layers of an image that are not unpacked yet. Blocks; forks children (see
 * image/unpack.h), so the caller has one thread. Needs a use if the image is not named yet.
 */
int store_image_unpack(struct store *s, const struct store_image *img, store_progress_fn fn,
		       void *ud, struct err *e) must_check;

/* Whether every layer is unpacked. */
bool store_image_unpacked(struct store *s, const struct store_image *img);

/* The root of one unpacked layer, O_PATH. */
int store_layer_open(struct store *s, const char *chain_id, struct err *e) must_check;

/* Upkeep. */

struct store_gc_result {
	uint64_t blobs, layers, partials;   /* removed */
	uint64_t bytes;                     /* freed, about */
};

enum {
	STORE_GC_NO_WAIT = 1,    /* ERR_CONFLICT (-EBUSY) instead of waiting for uses to end */
	STORE_GC_PARTIALS = 2,   /* broken downloads too, not only those a week old */
};
int store_gc(struct store *s, unsigned flags, struct store_gc_result *ret,
	     struct err *e) must_check;

/* Drop images without a name (`all`: every image) that no pin holds, then collect. */
int store_prune(struct store *s, bool all, struct store_removed *ret_removed,
		struct store_gc_result *ret, struct err *e) must_check;

struct store_usage {
	uint64_t images, names;
	uint64_t blobs, blob_bytes;
	uint64_t layers, layer_bytes;
	uint64_t partials, partial_bytes;
};
int store_usage(struct store *s, struct store_usage *ret, struct err *e) must_check;

/*
 * Hash every blob again and look for everything that the index and the layers need. `fn` is
 * told of each thing that is wrong, and of nothing else. Returns the number of faults.
 */
typedef void (*store_fault_fn)(const char *what, const char *digest, void *ud);
int store_verify(struct store *s, store_fault_fn fn, void *ud, struct err *e) must_check;

#endif
