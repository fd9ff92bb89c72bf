/* SPDX-License-Identifier: Apache-2.0 */
/* Small images for the tests of the store: their layers are text, and nobody unpacks them. */
#ifndef IMAGE_TEST_STORE_UTIL_H
#define IMAGE_TEST_STORE_UTIL_H

#include <stdio.h>

#include "image/store.h"
#include "image/store-private.h"

struct test_image {
	char manifest[OCI_DIGEST_MAX];
	char config[OCI_DIGEST_MAX];
	char layers[4][OCI_DIGEST_MAX];
	int  n_layers;
};

/* Names in a folder of the store. */
static inline int store_names(struct store *s, const char *path)
{
	auto_strv struct strv v = STRV_INIT;
	struct err e = ERR_INIT;

	return store__names(s, path, &v, &e) == 0 ? (int)v.n : -1;
}

static inline int test_blob(struct store *s, const char *text, char *ret_digest, struct err *e)
{
	struct blob_info info;
	int r = store_blob_put(s, text, strlen(text), NULL, &info, e);

	if (r == 0) {
		snprintf(ret_digest, OCI_DIGEST_MAX, "%s", info.digest);
	}
	return r;
}

/* The blobs of an image of `n` layers, told apart from others by `text`. */
static inline int test_image_blobs(struct store *s, const char *text, int n,
				   struct test_image *ret, struct err *e)
{
	auto_buf struct buf layers = BUF_INIT, ids = BUF_INIT, doc = BUF_INIT;
	char layer[200];
	int r = 0;

	ret->n_layers = n;
	for (int i = 0; r == 0 && i < n; i++) {
		snprintf(layer, sizeof(layer), "layer %d of %s", i, text);
		r = test_blob(s, layer, ret->layers[i], e);
		buf_printf(&layers, "%s{\"mediaType\":\"" OCI_MEDIA_LAYER "\",\"digest\":\"%s\","
			   "\"size\":%zu}", i ? "," : "", ret->layers[i], strlen(layer));
		buf_printf(&ids, "%s\"%s\"", i ? "," : "", ret->layers[i]);
	}
	buf_printf(&doc,
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"%s\"]},"
		   "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
		   text, buf_str(&ids));
	size_t config_size = doc.len;

	r = r ? r : test_blob(s, buf_str(&doc), ret->config, e);
	buf_reset(&doc);
	buf_printf(&doc,
		   "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MEDIA_MANIFEST "\",\"config\":{"
		   "\"mediaType\":\"" OCI_MEDIA_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},"
		   "\"layers\":[%s]}",
		   ret->config, config_size, buf_str(&layers));
	return r ? r : test_blob(s, buf_str(&doc), ret->manifest, e);
}

static inline void test_image_make(struct store *s, const char *text, int n,
				   struct test_image *ret)
{
	struct err e = ERR_INIT;

	assert_int_equal(test_image_blobs(s, text, n, ret, &e), 0);
}

static inline int test_image_put(struct store *s, const struct test_image *img, const char *name,
				 struct err *e)
{
	struct store_put put = { .name = name, .manifest = img->manifest,
				 .media_type = OCI_MEDIA_MANIFEST };

	return store_image_put(s, &put, e);
}

#endif
