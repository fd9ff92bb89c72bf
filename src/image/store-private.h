/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the store share; see image/store.h and docs/formats/image-store.md. */
#ifndef IMAGE_STORE_PRIVATE_H
#define IMAGE_STORE_PRIVATE_H

#include "base/id.h"
#include "image/store.h"
#include "sys/file.h"

/* The entries of index.json as they were when it was last read. */
struct store_cache {
	struct arena         arena;
	struct store_entries entries;
	bool                 valid;
	struct stat          stat;      /* of the file that was read */
};

struct store {
	int                dir_fd;
	int                lock_fd;     /* "lock", held shared while uses > 0; else -1 */
	unsigned           uses;        /* shared holds of lock_fd by this struct */
	unsigned           flags;
	struct store_cache cache;
};

/* A path in the store: "tmp/<id>". */
struct store_path {
	char text[6 + ID_LEN + 1];
};
int store__temp_path(const char *folder, struct store_path *ret, struct err *e) must_check;

/* "blobs/sha256/HEX", "partial/sha256-HEX", "layers/sha256-HEX", by a valid digest. */
struct blob_path {
	char text[8 + OCI_DIGEST_MAX];
};
struct blob_path store__blob_path(const char *digest);
struct blob_path store__partial_path(const char *digest);
struct blob_path store__layer_path(const char *chain_id);

/* The digest that a name like "sha256-HEX" stands for; false: none. */
bool store__digest_of_name(const char *name, char ret[OCI_DIGEST_MAX]);

/* Names in a folder of the store, "." and ".." left out; none if it does not exist. */
int store__names(const struct store *s, const char *path, struct strv *ret,
		 struct err *e) must_check;

/* Write in tmp/, sync, rename into place, sync the store's folder. */
int store__write_file(struct store *s, const char *name, const void *data, size_t n,
		      struct err *e) must_check;

int store__sync_folder(struct store *s, const char *path, struct err *e) must_check;

/* ERR_DENIED for a store opened read-only. */
int store__writable(const struct store *s, struct err *e) must_check;

/* flock() a file of the store; ERR_CONFLICT (-EBUSY) if LOCK_NB is in `how` and it is held. */
int store__lock(struct store *s, const char *name, int how, int *ret_fd,
		struct err *e) must_check;
void store__unlock(int *fd);
#define auto_unlock auto_(store__unlock)

/* An exclusive lock on "index.lock"; store__unlock() lets go. */
int store__index_lock(struct store *s, int *ret_fd, struct err *e) must_check;

/* The entries of index.json; valid until the index is read again. */
int store__index_read(struct store *s, const struct store_entries **ret,
		      struct err *e) must_check;
int store__index_write(struct store *s, const struct store_entries *entries,
		       struct err *e) must_check;

/* A failure of the host that may be a full disk, which is said in so many words. */
int store__host_err(struct err *e, int r, const char *what) must_check;

/* As store_image_load(), for a manifest of a known media type. */
int store__image_load(struct store *s, const char *manifest, const char *media_type,
		      struct arena *a, struct store_image *ret, struct err *e) must_check;

/* Drop the entries without a name (`all`: every one) that no pin holds. */
int store__forget(struct store *s, bool all, struct store_removed *ret,
		  struct err *e) must_check;

/* What layer.json says. */
struct store_layer_info {
	uint64_t bytes, entries, devices;
	int      ids;                      /* enum unpack_ids */
};
int store__layer_info(struct store *s, const char *chain_id,
		      struct store_layer_info *ret) must_check;

struct store_layer_doc {
	const char *chain_id, *parent, *diff_id;
	uint64_t    bytes, entries, devices;
	int         ids;
};

/* Write layer.json into a layer that is being made. */
int store__layer_describe(struct store *s, const struct store_path *temp,
			  const struct store_layer_doc *in, struct err *e) must_check;

/* Rename a synced layer into place. */
int store__layer_publish(struct store *s, const struct store_path *temp, const char *chain_id,
			 struct err *e) must_check;

extern const struct jtable *const store__layer_table;

#endif
