/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents of the OCI image format: descriptors, indexes, manifests, configs; and
 * docker's second schema, which has the same shape under other names.
 *
 * Everything here comes from outside. A parsed document has passed its table (types,
 * bounds), every digest in it is well-formed, and it is a document of one kind only: one
 * that could be read as an index and as a manifest is refused. Parsed structs live in the
 * arena; unknown keys are ignored, as the specification asks. Nothing that a document says
 * (names, paths, ids) has been judged: an image is data of whoever made it.
 *
 *	auto_arena struct arena a = ARENA_INIT;
 *	struct oci_manifest m;
 *	r = oci_manifest_parse(text, len, OCI_MEDIA_MANIFEST, &a, &m, e);
 *	for (size_t i = 0; i < m.layers.n; i++) {
 *		const struct oci_desc *d = oci_layer(&m, i);
 *
 * Spec: oci-image 1.1, descriptor.md, image-index.md, manifest.md, config.md.
 */
#ifndef OCI_IMAGE_H
#define OCI_IMAGE_H

#include "json/table.h"

/* What a media type says the bytes are. Both families have the same kinds. */
enum oci_kind {
	OCI_KIND_OTHER,       /* nothing that Holm reads */
	OCI_KIND_INDEX,
	OCI_KIND_MANIFEST,
	OCI_KIND_CONFIG,
	OCI_KIND_LAYER,       /* tar */
	OCI_KIND_LAYER_GZIP,
	OCI_KIND_LAYER_ZSTD,
	OCI_KIND__COUNT,
};

#define OCI_MEDIA_INDEX      "application/vnd.oci.image.index.v1+json"
#define OCI_MEDIA_MANIFEST   "application/vnd.oci.image.manifest.v1+json"
#define OCI_MEDIA_CONFIG     "application/vnd.oci.image.config.v1+json"
#define OCI_MEDIA_LAYER      "application/vnd.oci.image.layer.v1.tar"
#define OCI_MEDIA_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_MEDIA_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
#define OCI_MEDIA_EMPTY      "application/vnd.oci.empty.v1+json"

#define DOCKER_MEDIA_LIST       "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MEDIA_MANIFEST   "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_MEDIA_CONFIG     "application/vnd.docker.container.image.v1+json"
#define DOCKER_MEDIA_LAYER      "application/vnd.docker.image.rootfs.diff.tar"
#define DOCKER_MEDIA_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define DOCKER_MEDIA_LAYER_ZSTD "application/vnd.docker.image.rootfs.diff.tar.zstd"

/* By the exact text; parameters ("; charset=utf-8") are cut off by the caller. */
enum oci_kind oci_kind_of(const char *media_type);

static inline bool oci_kind_is_layer(enum oci_kind k)
{
	return k == OCI_KIND_LAYER || k == OCI_KIND_LAYER_GZIP || k == OCI_KIND_LAYER_ZSTD;
}

/* True for "sha256:" and 64, or "sha512:" and 128, lower-case hexadecimal digits. */
bool oci_digest_valid(const char *s);

/* Bytes of the longest digest's text and its NUL. */
enum { OCI_DIGEST_MAX = 7 + 128 + 1 };

/* More layers than this no image may have: an overlay takes at most 500. */
enum { OCI_LAYERS_MAX = 500 };

/* The largest descriptor size that is believed. */
#define OCI_SIZE_MAX (UINT64_C(1) << 42)

struct oci_platform {
	const char  *architecture;   /* Go's names: "amd64" */
	const char  *os;
	const char  *os_version;     /* or NULL */
	struct jstrv os_features;
	const char  *variant;        /* or NULL */
};

struct oci_desc {
	const char          *media_type;
	const char          *digest;        /* oci_digest_valid() */
	uint64_t             size;          /* bytes, at most OCI_SIZE_MAX */
	struct jstrv         urls;          /* never fetched */
	struct jmap          annotations;
	const char          *artifact_type; /* or NULL */
	struct oci_platform *platform;      /* or NULL */
};

struct oci_index {
	uint64_t         schema_version;    /* 2 */
	const char      *media_type;        /* or NULL: then the descriptor's or header's counts */
	const char      *artifact_type;
	struct jvec      manifests;         /* of struct oci_desc: indexes or manifests */
	struct oci_desc *subject;
	struct jmap      annotations;
};

struct oci_manifest {
	uint64_t         schema_version;
	const char      *media_type;
	const char      *artifact_type;
	struct oci_desc  config;
	struct jvec      layers;            /* of struct oci_desc, bottom first */
	struct oci_desc *subject;
	struct jmap      annotations;
};

struct oci_empty {
	char none;
};

struct oci_healthcheck {
	struct jstrv test;
	uint64_t     interval_ns, timeout_ns, start_period_ns, start_interval_ns;
	uint64_t     retries;
};

/* What an instance of the image runs with unless told otherwise. */
struct oci_image_run {
	const char             *user;           /* "name", "uid", "name:group", "uid:gid" */
	struct jobjmap          exposed_ports;  /* keys: "80/tcp" */
	struct jstrv            env;            /* "KEY=value" */
	struct jstrv            entrypoint;
	struct jstrv            cmd;
	struct jobjmap          volumes;        /* keys: paths inside */
	const char             *working_dir;
	struct jmap             labels;
	const char             *stop_signal;
	struct oci_healthcheck *healthcheck;
	struct jstrv            on_build;
	struct jstrv            shell;
};

struct oci_rootfs {
	const char  *type;                      /* "layers" */
	struct jstrv diff_ids;                  /* digests of the uncompressed layers */
};

struct oci_history {
	const char *created;
	const char *author;
	const char *created_by;
	const char *comment;
	bool        empty_layer;
};

struct oci_image_config {
	const char           *created;          /* RFC 3339 as written, or NULL */
	const char           *author;
	const char           *architecture;
	const char           *os;
	const char           *os_version;
	struct jstrv          os_features;
	const char           *variant;
	struct oci_image_run *config;           /* or NULL */
	struct oci_rootfs     rootfs;
	struct jvec           history;          /* of struct oci_history */
};

extern const struct jtable oci_desc_table;
extern const struct jtable oci_index_table;
extern const struct jtable oci_manifest_table;
extern const struct jtable oci_image_config_table;

/*
 * Parse a document that its descriptor, or the registry's Content-Type, calls `media_type`.
 * A mediaType inside the document must be the same. ERR_UNSUPPORTED: docker's first schema
 * or a kind that this function does not read. e->field names the member that is wrong.
 */
int oci_index_parse(const char *text, size_t len, const char *media_type, struct arena *a,
		    struct oci_index *ret, struct err *e) must_check;
int oci_manifest_parse(const char *text, size_t len, const char *media_type, struct arena *a,
		       struct oci_manifest *ret, struct err *e) must_check;
int oci_image_config_parse(const char *text, size_t len, const char *media_type,
			   struct arena *a, struct oci_image_config *ret,
			   struct err *e) must_check;

/* That manifest and config belong together: as many layers as diff ids, layers we can read. */
int oci_image_check(const struct oci_manifest *m, const struct oci_image_config *c,
		    struct err *e) must_check;

static inline const struct oci_desc *oci_layer(const struct oci_manifest *m, size_t i)
{
	return (const struct oci_desc *)m->layers.v + i;
}

static inline const struct oci_desc *oci_index_entry(const struct oci_index *x, size_t i)
{
	return (const struct oci_desc *)x->manifests.v + i;
}

/*
 * The entry of an index for a platform ("linux/amd64", "linux/arm/v7"; NULL: this host's).
 * Entries without a platform match only if nothing else does and there is one entry.
 * ERR_NOT_FOUND lists what the index has.
 */
int oci_index_choose(const struct oci_index *x, const char *platform,
		     const struct oci_desc **ret, struct err *e) must_check;

/* "linux/amd64" of this host. */
const char *oci_platform_host(void);

#endif
