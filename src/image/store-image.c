/* SPDX-License-Identifier: Apache-2.0 */
/* The documents of one image. */
#include <errno.h>

#include "image/store-private.h"

static int read_doc(struct store *s, const char *digest, struct arena *a, const char **ret_text,
		    size_t *ret_len, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	int r = store_blob_read(s, digest, json_limits_document.bytes, &text, e);

	if (r < 0) {
		return r;
	}
	*ret_len = text.len;
	*ret_text = arena_strndup(a, buf_str(&text), text.len);
	return *ret_text ? 0 : err_nomem(e);
}

static int make_chain(struct arena *a, struct store_image *img, struct err *e)
{
	const struct jstrv *ids = &img->config.rootfs.diff_ids;
	const char *below = NULL;

	img->n_layers = ids->n;
	img->chain_ids = arena_alloc(a, ids->n + 1, sizeof(*img->chain_ids));
	for (size_t i = 0; img->chain_ids && i < ids->n; i++) {
		below = arena_strdup(a, digest_chain(below, ids->v[i]).text);
		if (!below) {
			return err_nomem(e);
		}
		img->chain_ids[i] = below;
	}
	return img->chain_ids ? 0 : err_nomem(e);
}

int store__image_load(struct store *s, const char *manifest, const char *media_type,
		      struct arena *a, struct store_image *ret, struct err *e)
{
	*ret = (struct store_image){ .digest = arena_strdup(a, manifest) };
	int r = ret->digest ? read_doc(s, manifest, a, &ret->manifest_text, &ret->manifest_len, e) :
			      err_nomem(e);

	if (r == 0) {
		r = oci_manifest_parse(ret->manifest_text, ret->manifest_len, media_type, a,
				       &ret->manifest, e);
	}
	if (r < 0) {
		return r;
	}
	const struct oci_desc *config = &ret->manifest.config;

	if (oci_kind_of(config->media_type) != OCI_KIND_CONFIG) {
		return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED,
			       "this is not an image: its config is \"%.80s\"", config->media_type);
	}
	r = read_doc(s, config->digest, a, &ret->config_text, &ret->config_len, e);
	if (r == 0) {
		r = oci_image_config_parse(ret->config_text, ret->config_len, config->media_type, a,
					   &ret->config, e);
	}
	if (r == 0) {
		r = oci_image_check(&ret->manifest, &ret->config, e);
	}
	if (r < 0) {
		return r;
	}
	ret->blob_bytes = ret->manifest_len + ret->config_len;
	for (size_t i = 0; i < ret->manifest.layers.n; i++) {
		ret->blob_bytes += oci_layer(&ret->manifest, i)->size;
	}
	return make_chain(a, ret, e);
}

/* The media type that the index, or else the document itself, gives a manifest. */
static int media_type_of(struct store *s, const char *manifest, struct arena *a,
			 const char **ret, struct err *e)
{
	const struct store_entries *all;
	int r = store__index_read(s, &all, e);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < all->n; i++) {
		if (str_eq(all->v[i].manifest, manifest)) {
			*ret = arena_strdup(a, all->v[i].media_type);
			return *ret ? 0 : err_nomem(e);
		}
	}
	/* Only pinned: it was checked when it came in. */
	auto_buf struct buf text = BUF_INIT;
	auto_json json_t *doc = NULL;

	r = store_blob_read(s, manifest, json_limits_document.bytes, &text, e);
	if (r == 0) {
		r = json_parse(buf_str(&text), text.len, &json_limits_document, "manifest", &doc,
			       e);
	}
	if (r < 0) {
		return r;
	}
	const char *type = json_string_value(json_object_get(doc, "mediaType"));

	*ret = arena_strdup(a, type ? type : OCI_MEDIA_MANIFEST);
	return *ret ? 0 : err_nomem(e);
}

int store_image_load(struct store *s, const char *manifest, struct arena *a,
		     struct store_image *ret, struct err *e)
{
	const char *type = NULL;
	int r = media_type_of(s, manifest, a, &type, e);

	if (r == 0) {
		r = store__image_load(s, manifest, type, a, ret, e);
	}
	return r < 0 ? err_wrap(e, "image %s", manifest) : 0;
}
