/* SPDX-License-Identifier: Apache-2.0 */
/* How much is there, and whether it is sound. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/store-private.h"

/* Called for each blob; a negative return ends the walk. */
typedef int (*each_fn)(struct store *s, const char *digest, void *ud, struct err *e);

static int each_blob(struct store *s, each_fn fn, void *ud, struct err *e)
{
	static const char *const algs[] = { "sha256", "sha512" };
	int r = 0;

	for (size_t k = 0; r == 0 && k < ARRAY_LEN(algs); k++) {
		auto_strv struct strv names = STRV_INIT;
		char text[OCI_DIGEST_MAX];

		(void)snprintf(text, sizeof(text), "blobs/%s", algs[k]);
		r = store__names(s, text, &names, e);
		for (size_t i = 0; r == 0 && i < names.n; i++) {
			int n = snprintf(text, sizeof(text), "%s:%s", algs[k], names.v[i]);

			if ((size_t)n < sizeof(text) && oci_digest_valid(text)) {
				r = fn(s, text, ud, e);
			}
		}
	}
	return r;
}

static int each_named(struct store *s, const char *folder, each_fn fn, void *ud, struct err *e)
{
	auto_strv struct strv names = STRV_INIT;
	int r = store__names(s, folder, &names, e);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		char digest[OCI_DIGEST_MAX];

		if (store__digest_of_name(names.v[i], digest)) {
			r = fn(s, digest, ud, e);
		}
	}
	return r;
}

static uint64_t disk_bytes(const struct store *s, const char *path)
{
	struct stat st;

	return sys_fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ?
		       (uint64_t)st.st_blocks * 512 : 0;
}

static int add_blob(struct store *s, const char *digest, void *ud, struct err *e)
{
	struct store_usage *u = ud;

	(void)e;
	u->blobs++;
	u->blob_bytes += disk_bytes(s, store__blob_path(digest).text);
	return 0;
}

static int add_partial(struct store *s, const char *digest, void *ud, struct err *e)
{
	struct store_usage *u = ud;

	(void)e;
	u->partials++;
	u->partial_bytes += disk_bytes(s, store__partial_path(digest).text);
	return 0;
}

static int add_layer(struct store *s, const char *digest, void *ud, struct err *e)
{
	struct store_usage *u = ud;
	struct store_layer_info info;

	(void)e;
	u->layers++;
	if (store__layer_info(s, digest, &info) == 0) {
		u->layer_bytes += info.bytes;
	}
	return 0;
}

int store_usage(struct store *s, struct store_usage *ret, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entries all;
	int r = store_image_list(s, &a, &all, e);

	*ret = (struct store_usage){ .images = 0 };
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		bool seen = false;

		for (size_t k = 0; !seen && k < i; k++) {
			seen = str_eq(all.v[k].manifest, all.v[i].manifest);
		}
		ret->names += all.v[i].name != NULL;
		ret->images += !seen;
	}
	if (r == 0) {
		r = each_blob(s, add_blob, ret, e);
	}
	if (r == 0) {
		r = each_named(s, "partial", add_partial, ret, e);
	}
	return r < 0 ? r : each_named(s, "layers", add_layer, ret, e);
}

struct verify {
	store_fault_fn fn;
	void          *ud;
	int            faults;
};

static void tell(struct verify *v, const char *what, const char *digest)
{
	v->faults++;
	v->fn(what, digest, v->ud);
}

enum { CHUNK_BYTES = 256 * 1024 };

static int verify_blob(struct store *s, const char *digest, void *ud, struct err *e)
{
	struct verify *v = ud;
	struct err why = ERR_INIT;
	auto_blob_reader struct blob_reader *r = NULL;
	auto_free char *chunk = mem_calloc(1, CHUNK_BYTES);
	ssize_t n;

	if (!chunk) {
		return err_nomem(e);
	}
	n = blob_reader_open(s, digest, &r, &why);
	if (n == 0) {
		do {
			n = blob_reader_read(r, chunk, CHUNK_BYTES, &why);
		} while (n > 0);
	}
	if (n < 0) {
		tell(v, "the blob cannot be read, or is not what its name says", digest);
	}
	return 0;
}

static int verify_layer(struct store *s, const char *digest, void *ud, struct err *e)
{
	struct store_layer_info info;

	(void)e;
	if (store__layer_info(s, digest, &info) < 0) {
		tell(ud, "the unpacked layer has no readable layer.json", digest);
	}
	return 0;
}

static int verify_image(struct store *s, const char *manifest, struct verify *v)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err why = ERR_INIT;
	struct store_image img;

	if (store_image_load(s, manifest, &a, &img, &why) < 0) {
		tell(v, "the image's manifest or config is missing or damaged", manifest);
		return 0;
	}
	for (size_t i = 0; i < img.n_layers; i++) {
		const struct oci_desc *d = oci_layer(&img.manifest, i);

		if (!store_blob_has(s, d->digest, d->size)) {
			tell(v, "a layer of an image is missing, or has another size", d->digest);
		}
	}
	return 0;
}

int store_verify(struct store *s, store_fault_fn fn, void *ud, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct verify v = { .fn = fn, .ud = ud };
	struct store_entries all;
	int r = each_blob(s, verify_blob, &v, e);

	if (r == 0) {
		r = each_named(s, "layers", verify_layer, &v, e);
	}
	if (r == 0) {
		r = store_image_list(s, &a, &all, e);
	}
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		r = verify_image(s, all.v[i].manifest, &v);
	}
	return r < 0 ? r : v.faults;
}
