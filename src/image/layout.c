/* SPDX-License-Identifier: Apache-2.0 */
#include "image/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { INDEX_DEPTH_MAX = 4, DOCKER_IMAGES_MAX = 256, DOCKER_TAGS_MAX = 256 };

static const char ref_name_key[] = "org.opencontainers.image.ref.name";
static const char containerd_name_key[] = "io.containerd.image.name";

#define IN(m) offsetof(struct layout_docker, m)
static const struct jfield docker_fields[] = {
	{ "Layers", JK_STRV, IN(layers), .flags = JF_REQUIRED, .doc = "entries, bottom first" },
	{ "Config", JK_STR, IN(config), .flags = JF_REQUIRED, .max = 512,
	  .doc = "the entry with the image's config" },
	{ "RepoTags", JK_STRV, IN(repo_tags), .doc = "names of the image" },
};
#undef IN
static const struct jtable docker_table =
	JTABLE_OPEN("DockerArchiveImage", struct layout_docker, docker_fields);

int layout_docker_parse(const char *text, size_t len, struct arena *a, struct layout_dockers *ret,
			struct err *e)
{
	auto_json json_t *root = NULL;
	int r = json_parse(text, len, &json_limits_document, "manifest.json", &root, e);

	if (r < 0) {
		return r;
	}

	size_t n = json_array_size(root);

	if (!json_is_array(root) || n == 0 || n > DOCKER_IMAGES_MAX) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "manifest.json: not a list of 1 to %d images", DOCKER_IMAGES_MAX);
	}

	struct layout_docker *v = arena_alloc(a, n, sizeof(*v));

	if (!v) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < n; i++) {
		r = jtable_parse(&docker_table, json_array_get(root, i), a, &v[i], e);
		if (r < 0) {
			return err_wrap(e, "manifest.json: image %zu: %s", i, e->field);
		}
		if (v[i].layers.n > OCI_LAYERS_MAX || v[i].repo_tags.n > DOCKER_TAGS_MAX) {
			return err_set(e, E2BIG, ERR_LIMIT,
				       "manifest.json: image %zu has too many layers or tags", i);
		}
	}
	*ret = (struct layout_dockers){ .v = v, .n = n };
	return 0;
}

char *layout_manifest(const struct oci_desc *config, const struct oci_desc *layers, size_t n)
{
	struct oci_manifest m = {
		.schema_version = 2, .media_type = OCI_MEDIA_MANIFEST, .config = *config,
		.layers = { .v = (void *)(uintptr_t)layers, .n = n },
	};
	auto_json json_t *j = jtable_format(&oci_manifest_table, &m);

	return j ? json_text(j) : NULL;
}

static const char *entry_name(const struct oci_desc *d)
{
	const char *name = jmap_get(&d->annotations, containerd_name_key);

	return name ? name : jmap_get(&d->annotations, ref_name_key);
}

/* All that a manifest needs, then the image itself. */
static int one_manifest(struct layout_source *src, const struct oci_desc *d, const char *name,
			const char *source, struct err *e)
{
	struct worker_image image = { .name = "" };
	struct oci_manifest m;
	const char *text;
	size_t len;
	int r = src->doc(src, d->digest, &text, &len, e);

	r = r < 0 ? r : oci_manifest_parse(text, len, d->media_type, src->arena, &m, e);
	if (r < 0) {
		return err_wrap(e, "manifest %s", d->digest);
	}
	r = src->blob(src, d, "manifest", e);
	r = r < 0 ? r : src->blob(src, &m.config, "config", e);
	for (size_t i = 0; r >= 0 && i < m.layers.n; i++) {
		r = src->blob(src, oci_layer(&m, i), "layer", e);
	}
	if (r < 0) {
		return r;
	}
	snprintf(image.name, sizeof(image.name), "%s", name ? name : "");
	snprintf(image.manifest, sizeof(image.manifest), "%s", d->digest);
	snprintf(image.media_type, sizeof(image.media_type), "%s", d->media_type);
	snprintf(image.source, sizeof(image.source), "%s", source ? source : "");
	return src->image(src, &image, e);
}

static int one_entry(struct layout_source *src, const struct oci_desc *d, const char *name,
		     const char *source, unsigned depth, struct err *e)
{
	const struct oci_desc *chosen = NULL;
	struct oci_index x;
	const char *text;
	size_t len;

	if (oci_kind_of(d->media_type) == OCI_KIND_MANIFEST) {
		return one_manifest(src, d, name, source, e);
	}
	if (oci_kind_of(d->media_type) != OCI_KIND_INDEX) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED, "the index holds a %.100s, not an image",
			       d->media_type);
	}
	if (depth >= INDEX_DEPTH_MAX) {
		return err_set(e, ELOOP, ERR_LIMIT, "index %s: nested too deep", d->digest);
	}

	int r = src->doc(src, d->digest, &text, &len, e);

	r = r < 0 ? r : oci_index_parse(text, len, d->media_type, src->arena, &x, e);
	r = r < 0 ? r : oci_index_choose(&x, src->platform, &chosen, e);
	if (r < 0) {
		return err_wrap(e, "index %s", d->digest);
	}
	return one_entry(src, chosen, name, d->digest, depth + 1, e);
}

/* True where the entries are one image for several platforms. */
static bool is_one_image(const struct oci_index *x)
{
	for (size_t i = 0; i < x->manifests.n; i++) {
		const struct oci_desc *d = oci_index_entry(x, i);

		if (!d->platform || !str_eq0(entry_name(d), entry_name(oci_index_entry(x, 0)))) {
			return false;
		}
	}
	return x->manifests.n > 1;
}

int layout_oci(struct layout_source *src, const char *text, size_t len, struct err *e)
{
	const struct oci_desc *chosen = NULL;
	struct oci_index x;
	int r = oci_index_parse(text, len, OCI_MEDIA_INDEX, src->arena, &x, e);

	if (r < 0) {
		return err_wrap(e, "index.json");
	}
	if (x.manifests.n == 0) {
		return err_set(e, ENOENT, ERR_INVALID, "index.json: there is no image in it");
	}
	if (is_one_image(&x)) {
		r = oci_index_choose(&x, src->platform, &chosen, e);
		return r < 0 ? err_wrap(e, "index.json") :
			       one_entry(src, chosen, entry_name(chosen), NULL, 0, e);
	}
	for (size_t i = 0; r >= 0 && i < x.manifests.n; i++) {
		const struct oci_desc *d = oci_index_entry(&x, i);

		r = one_entry(src, d, entry_name(d), NULL, 0, e);
	}
	return r;
}
