/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const struct {
	const char   *media_type;
	enum oci_kind kind;
} kinds[] = {
	{ OCI_MEDIA_INDEX,         OCI_KIND_INDEX },
	{ DOCKER_MEDIA_LIST,       OCI_KIND_INDEX },
	{ OCI_MEDIA_MANIFEST,      OCI_KIND_MANIFEST },
	{ DOCKER_MEDIA_MANIFEST,   OCI_KIND_MANIFEST },
	{ OCI_MEDIA_CONFIG,        OCI_KIND_CONFIG },
	{ DOCKER_MEDIA_CONFIG,     OCI_KIND_CONFIG },
	{ OCI_MEDIA_LAYER,         OCI_KIND_LAYER },
	{ OCI_MEDIA_LAYER_GZIP,    OCI_KIND_LAYER_GZIP },
	{ OCI_MEDIA_LAYER_ZSTD,    OCI_KIND_LAYER_ZSTD },
	{ DOCKER_MEDIA_LAYER,      OCI_KIND_LAYER },
	{ DOCKER_MEDIA_LAYER_GZIP, OCI_KIND_LAYER_GZIP },
	{ DOCKER_MEDIA_LAYER_ZSTD, OCI_KIND_LAYER_ZSTD },
	/* Layers that were not to be passed on; the specification has since dropped the wish. */
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar",      OCI_KIND_LAYER },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", OCI_KIND_LAYER_GZIP },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", OCI_KIND_LAYER_ZSTD },
	{ "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",    OCI_KIND_LAYER_GZIP },
};

enum oci_kind oci_kind_of(const char *media_type)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (str_eq(media_type, kinds[i].media_type)) {
			return kinds[i].kind;
		}
	}
	return OCI_KIND_OTHER;
}

static bool hex_digits(const char *s, size_t n)
{
	return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

bool oci_digest_valid(const char *s)
{
	const char *hex = str_after(s, "sha256:");

	if (hex) {
		return hex_digits(hex, 64);
	}
	hex = str_after(s, "sha512:");
	return hex && hex_digits(hex, 128);
}

/* Texts that Holm only hands on: enough for what is met, and no more. */
enum { SHORT_MAX = 255, LONG_MAX_BYTES = 65536 };

#define IN(m) offsetof(struct oci_platform, m)
static const struct jfield platform_fields[] = {
	{ "architecture", JK_STR,  IN(architecture), .max = SHORT_MAX, .flags = JF_EMPTY,
	  .doc = "processor, in Go's words" },
	{ "os",           JK_STR,  IN(os), .max = SHORT_MAX, .flags = JF_EMPTY,
	  .doc = "operating system" },
	{ "os.version",   JK_STR,  IN(os_version), .max = SHORT_MAX, .doc = "of the system" },
	{ "os.features",  JK_STRV, IN(os_features), .doc = "that the system must have" },
	{ "variant",      JK_STR,  IN(variant), .max = SHORT_MAX, .doc = "of the processor" },
};
#undef IN
static const struct jtable platform_table =
	JTABLE_OPEN("Platform", struct oci_platform, platform_fields);

static int check_desc(const void *obj, struct err *e)
{
	const struct oci_desc *d = obj;

	if (!oci_digest_valid(d->digest)) {
		return err_field(e, "/digest", "not a sha256 or sha512 digest");
	}
	return 0;
}

#define IN(m) offsetof(struct oci_desc, m)
static const struct jfield desc_fields[] = {
	{ "mediaType", JK_STR,  IN(media_type), .min = 1, .max = SHORT_MAX, .flags = JF_REQUIRED,
	  .doc = "what the bytes are" },
	{ "digest",    JK_STR,  IN(digest), .min = 1, .max = OCI_DIGEST_MAX - 1,
	  .flags = JF_REQUIRED, .doc = "of the bytes" },
	{ "size",      JK_UINT, IN(size), .max = OCI_SIZE_MAX, .flags = JF_REQUIRED,
	  .doc = "bytes" },
	{ "urls",      JK_STRV, IN(urls), .doc = "where the bytes may be had; not used" },
	{ "annotations",  JK_MAP, IN(annotations), .doc = "any" },
	{ "artifactType", JK_STR, IN(artifact_type), .max = SHORT_MAX,
	  .doc = "of what is not an image" },
	{ "platform",  JK_OBJ,  IN(platform), .sub = &platform_table,
	  .doc = "what the image runs on" },
};
#undef IN
const struct jtable oci_desc_table = {
	.name = "Descriptor", .size = sizeof(struct oci_desc), .fields = desc_fields,
	.n_fields = ARRAY_LEN(desc_fields), .flags = JT_OPEN, .check = check_desc,
};

#define IN(m) offsetof(struct oci_index, m)
static const struct jfield index_fields[] = {
	{ "schemaVersion", JK_UINT, IN(schema_version), .min = 1, .max = 2, .flags = JF_REQUIRED,
	  .doc = "2" },
	{ "mediaType",    JK_STR,  IN(media_type), .max = SHORT_MAX, .doc = "of this document" },
	{ "artifactType", JK_STR,  IN(artifact_type), .max = SHORT_MAX,
	  .doc = "of what is not an image" },
	{ "manifests",    JK_OBJV, IN(manifests), .sub = &oci_desc_table,
	  .flags = JF_REQUIRED, .doc = "one for each platform" },
	{ "subject",      JK_OBJ,  IN(subject), .sub = &oci_desc_table, .doc = "what this is about" },
	{ "annotations",  JK_MAP,  IN(annotations), .doc = "any" },
};
#undef IN
const struct jtable oci_index_table = JTABLE_OPEN("Index", struct oci_index, index_fields);

#define IN(m) offsetof(struct oci_manifest, m)
static const struct jfield manifest_fields[] = {
	{ "schemaVersion", JK_UINT,  IN(schema_version), .min = 1, .max = 2, .flags = JF_REQUIRED,
	  .doc = "2" },
	{ "mediaType",    JK_STR,    IN(media_type), .max = SHORT_MAX, .doc = "of this document" },
	{ "artifactType", JK_STR,    IN(artifact_type), .max = SHORT_MAX,
	  .doc = "of what is not an image" },
	{ "config",       JK_INLINE, IN(config), .sub = &oci_desc_table, .flags = JF_REQUIRED,
	  .doc = "the image's config" },
	{ "layers",       JK_OBJV,   IN(layers), .sub = &oci_desc_table,
	  .flags = JF_REQUIRED, .doc = "bottom first" },
	{ "subject",      JK_OBJ,    IN(subject), .sub = &oci_desc_table,
	  .doc = "what this is about" },
	{ "annotations",  JK_MAP,    IN(annotations), .doc = "any" },
};
#undef IN
const struct jtable oci_manifest_table =
	JTABLE_OPEN("Manifest", struct oci_manifest, manifest_fields);

static const struct jtable empty_table = {
	.name = "Empty", .size = sizeof(struct oci_empty), .flags = JT_OPEN,
};

#define IN(m) offsetof(struct oci_healthcheck, m)
static const struct jfield healthcheck_fields[] = {
	{ "Test",          JK_STRV, IN(test), .doc = "the command" },
	{ "Interval",      JK_UINT, IN(interval_ns), .max = INT64_MAX, .doc = "nanoseconds" },
	{ "Timeout",       JK_UINT, IN(timeout_ns), .max = INT64_MAX, .doc = "nanoseconds" },
	{ "StartPeriod",   JK_UINT, IN(start_period_ns), .max = INT64_MAX, .doc = "nanoseconds" },
	{ "StartInterval", JK_UINT, IN(start_interval_ns), .max = INT64_MAX, .doc = "nanoseconds" },
	{ "Retries",       JK_UINT, IN(retries), .max = INT32_MAX, .doc = "failures in a row" },
};
#undef IN
static const struct jtable healthcheck_table =
	JTABLE_OPEN("Healthcheck", struct oci_healthcheck, healthcheck_fields);

#define IN(m) offsetof(struct oci_image_run, m)
static const struct jfield run_fields[] = {
	{ "User",         JK_STR,    IN(user), .max = SHORT_MAX, .doc = "user, or user:group" },
	{ "ExposedPorts", JK_OBJMAP, IN(exposed_ports), .sub = &empty_table, .doc = "port/protocol" },
	{ "Env",          JK_STRV,   IN(env), .doc = "KEY=value" },
	{ "Entrypoint",   JK_STRV,   IN(entrypoint), .doc = "start of the command line" },
	{ "Cmd",          JK_STRV,   IN(cmd), .doc = "the rest, unless the user gives one" },
	{ "Volumes",      JK_OBJMAP, IN(volumes), .sub = &empty_table, .doc = "paths" },
	{ "WorkingDir",   JK_STR,    IN(working_dir), .max = 4095, .doc = "path" },
	{ "Labels",       JK_MAP,    IN(labels), .doc = "any" },
	{ "StopSignal",   JK_STR,    IN(stop_signal), .max = SHORT_MAX, .doc = "name or number" },
	{ "Healthcheck",  JK_OBJ,    IN(healthcheck), .sub = &healthcheck_table,
	  .doc = "docker's" },
	{ "OnBuild",      JK_STRV,   IN(on_build), .doc = "docker's; not used" },
	{ "Shell",        JK_STRV,   IN(shell), .doc = "docker's" },
};
#undef IN
static const struct jtable run_table = JTABLE_OPEN("ImageRun", struct oci_image_run, run_fields);

static int check_rootfs(const void *obj, struct err *e)
{
	const struct oci_rootfs *r = obj;

	if (!str_eq(r->type, "layers")) {
		return err_field(e, "/type", "must be \"layers\"");
	}
	for (size_t i = 0; i < r->diff_ids.n; i++) {
		if (!oci_digest_valid(r->diff_ids.v[i])) {
			return err_field(e, "/diff_ids", "number %zu is not a digest", i);
		}
	}
	return 0;
}

#define IN(m) offsetof(struct oci_rootfs, m)
static const struct jfield rootfs_fields[] = {
	{ "type",     JK_STR,  IN(type), .min = 1, .max = SHORT_MAX, .flags = JF_REQUIRED,
	  .doc = "\"layers\"" },
	{ "diff_ids", JK_STRV, IN(diff_ids), .flags = JF_REQUIRED,
	  .doc = "digests of the uncompressed layers, bottom first" },
};
#undef IN
static const struct jtable rootfs_table = {
	.name = "ImageRootfs", .size = sizeof(struct oci_rootfs), .fields = rootfs_fields,
	.n_fields = ARRAY_LEN(rootfs_fields), .flags = JT_OPEN, .check = check_rootfs,
};

#define IN(m) offsetof(struct oci_history, m)
static const struct jfield history_fields[] = {
	{ "created",     JK_STR,  IN(created), .max = SHORT_MAX, .doc = "time" },
	{ "author",      JK_STR,  IN(author), .max = LONG_MAX_BYTES, .doc = "who" },
	{ "created_by",  JK_STR,  IN(created_by), .max = INT32_MAX, .doc = "by which command" },
	{ "comment",     JK_STR,  IN(comment), .max = LONG_MAX_BYTES, .doc = "any" },
	{ "empty_layer", JK_BOOL, IN(empty_layer), .doc = "made no layer" },
};
#undef IN
static const struct jtable history_table =
	JTABLE_OPEN("History", struct oci_history, history_fields);

#define IN(m) offsetof(struct oci_image_config, m)
static const struct jfield config_fields[] = {
	{ "created",      JK_STR,    IN(created), .max = SHORT_MAX, .doc = "time" },
	{ "author",       JK_STR,    IN(author), .max = LONG_MAX_BYTES, .doc = "who" },
	{ "architecture", JK_STR,    IN(architecture), .max = SHORT_MAX, .flags = JF_EMPTY,
	  .doc = "processor, in Go's words" },
	{ "os",           JK_STR,    IN(os), .max = SHORT_MAX, .flags = JF_EMPTY,
	  .doc = "operating system" },
	{ "os.version",   JK_STR,    IN(os_version), .max = SHORT_MAX, .doc = "of the system" },
	{ "os.features",  JK_STRV,   IN(os_features), .doc = "that the system must have" },
	{ "variant",      JK_STR,    IN(variant), .max = SHORT_MAX, .doc = "of the processor" },
	{ "config",       JK_OBJ,    IN(config), .sub = &run_table, .doc = "how it is run" },
	{ "rootfs",       JK_INLINE, IN(rootfs), .sub = &rootfs_table, .flags = JF_REQUIRED,
	  .doc = "layers" },
	{ "history",      JK_OBJV,   IN(history), .sub = &history_table, .doc = "how it was made" },
};
#undef IN
const struct jtable oci_image_config_table =
	JTABLE_OPEN("ImageConfig", struct oci_image_config, config_fields);

static int expect_kind(const char *media_type, enum oci_kind want, const char *what,
		       struct err *e)
{
	if (oci_kind_of(media_type) == want) {
		return 0;
	}
	if (strncmp(media_type, "application/vnd.docker.distribution.manifest.v1", 47) == 0) {
		return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED,
			       "this is an image of docker's first schema, given up in 2017: "
			       "push it again with a newer client");
	}
	return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED, "\"%.80s\" is not the media type of %s",
		       media_type, what);
}

/*
 * A document that has the members of another kind could be read as that by someone else, who
 * would then see another image under the same digest.
 */
static int refuse_members(const json_t *doc, const char *const *members, const char *what,
			  struct err *e)
{
	for (; *members; members++) {
		if (json_object_get(doc, *members)) {
			return err_field(e, "", "%s must not have the member \"%s\": it could be "
					 "read in two ways", what, *members);
		}
	}
	return 0;
}

static int check_media_type(const char *inside, const char *outside, struct err *e)
{
	if (inside && !str_eq(inside, outside)) {
		return err_field(e, "/mediaType", "says \"%.80s\", but it came as \"%.80s\"", inside,
				 outside);
	}
	return 0;
}

/* What one kind of document must be. */
struct document {
	enum oci_kind        kind;
	const char          *what;          /* after "an" */
	const struct jtable *table;
	const char *const   *not_members;   /* those of the other kinds; NULL ends */
};

/* The steps that every document goes through; *ret is the struct of its table. */
static int parse_document(const struct document *d, const char *text, size_t len,
			  const char *media_type, struct arena *a, void *ret, struct err *e)
{
	auto_json json_t *doc = NULL;
	char what[32];

	(void)snprintf(what, sizeof(what), "an %s", d->what);
	int r = expect_kind(media_type, d->kind, what, e);

	if (r == 0) {
		r = json_parse(text, len, &json_limits_document, d->what, &doc, e);
	}
	if (r == 0) {
		r = refuse_members(doc, d->not_members, what, e);
	}
	return r ? r : jtable_parse(d->table, doc, a, ret, e);
}

static int check_version(uint64_t version, struct err *e)
{
	return version == 2 ? 0 : err_field(e, "/schemaVersion", "must be 2");
}

int oci_index_parse(const char *text, size_t len, const char *media_type, struct arena *a,
		    struct oci_index *ret, struct err *e)
{
	static const char *const others[] = { "config", "layers", "fsLayers", "rootfs", NULL };
	static const struct document index = {
		OCI_KIND_INDEX, "image index", &oci_index_table, others,
	};
	int r = parse_document(&index, text, len, media_type, a, ret, e);

	if (r == 0) {
		r = check_version(ret->schema_version, e);
	}
	return r ? r : check_media_type(ret->media_type, media_type, e);
}

int oci_manifest_parse(const char *text, size_t len, const char *media_type, struct arena *a,
		       struct oci_manifest *ret, struct err *e)
{
	static const char *const others[] = { "manifests", "fsLayers", "rootfs", NULL };
	static const struct document manifest = {
		OCI_KIND_MANIFEST, "image manifest", &oci_manifest_table, others,
	};
	int r = parse_document(&manifest, text, len, media_type, a, ret, e);

	if (r == 0) {
		r = check_version(ret->schema_version, e);
	}
	if (r == 0 && ret->layers.n > OCI_LAYERS_MAX) {
		r = err_set(e, E2BIG, ERR_LIMIT, "the image has %zu layers; %d is the most",
			    ret->layers.n, OCI_LAYERS_MAX);
	}
	return r ? r : check_media_type(ret->media_type, media_type, e);
}

int oci_image_config_parse(const char *text, size_t len, const char *media_type,
			   struct arena *a, struct oci_image_config *ret, struct err *e)
{
	static const char *const others[] = { "manifests", "layers", "fsLayers", NULL };
	static const struct document config = {
		OCI_KIND_CONFIG, "image config", &oci_image_config_table, others,
	};

	return parse_document(&config, text, len, media_type, a, ret, e);
}

int oci_image_check(const struct oci_manifest *m, const struct oci_image_config *c,
		    struct err *e)
{
	if (oci_kind_of(m->config.media_type) != OCI_KIND_CONFIG) {
		return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED,
			       "this is not an image: its config is \"%.80s\"", m->config.media_type);
	}
	for (size_t i = 0; i < m->layers.n; i++) {
		const struct oci_desc *d = oci_layer(m, i);

		if (!oci_kind_is_layer(oci_kind_of(d->media_type))) {
			return err_set(e, EPROTONOSUPPORT, ERR_UNSUPPORTED,
				       "layer %zu is \"%.80s\", which Holm does not read", i,
				       d->media_type);
		}
	}
	if (m->layers.n != c->rootfs.diff_ids.n) {
		return err_field(e, "/rootfs/diff_ids", "has %zu layers, the manifest %zu",
				 c->rootfs.diff_ids.n, m->layers.n);
	}
	return 0;
}

const char *oci_platform_host(void)
{
	static const char *const names[][2] = {
		{ "x86_64", "linux/amd64" }, { "aarch64", "linux/arm64" }, { "armv7l", "linux/arm/v7" },
		{ "riscv64", "linux/riscv64" }, { "ppc64le", "linux/ppc64le" },
		{ "s390x", "linux/s390x" }, { "i686", "linux/386" },
	};
	struct utsname u;

	if (uname(&u) == 0) {
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			if (str_eq(u.machine, names[i][0])) {
				return names[i][1];
			}
		}
	}
	return "linux/amd64";
}

/* How well an entry fits: 0 not at all. */
static int fit(const struct oci_platform *p, const char *want)
{
	const char *os = p->os ? p->os : "", *arch = p->architecture ? p->architecture : "";
	const char *rest = str_after(want, os);

	if (!rest || *rest != '/') {
		return 0;
	}
	rest = str_after(rest + 1, arch);
	if (!rest || (*rest && *rest != '/')) {
		return 0;
	}
	bool has_variant = p->variant && *p->variant;

	if (*rest == '\0') {
		/* The plain processor; of its variants the oldest that stands for it. */
		if (!has_variant) {
			return 3;
		}
		return (str_eq(arch, "arm64") && str_eq(p->variant, "v8")) ||
		       (str_eq(arch, "amd64") && str_eq(p->variant, "v1")) ? 2 : 0;
	}
	if (has_variant) {
		return str_eq(rest + 1, p->variant) ? 3 : 0;
	}
	return 1;
}

static int no_platform(const struct oci_index *x, const char *platform, struct err *e)
{
	auto_buf struct buf have = BUF_INIT;

	for (size_t i = 0; i < x->manifests.n && have.len < 300; i++) {
		const struct oci_platform *p = oci_index_entry(x, i)->platform;

		if (p && p->os && p->architecture && !str_eq(p->os, "unknown")) {
			buf_printf(&have, "%s%.20s/%.20s%s%.20s", have.len ? ", " : "", p->os,
				   p->architecture, p->variant ? "/" : "",
				   p->variant ? p->variant : "");
		}
	}
	return err_set(e, ENOENT, ERR_NOT_FOUND, "no image for %s; there is: %s", platform,
		       have.len ? buf_str(&have) : "none");
}

int oci_index_choose(const struct oci_index *x, const char *platform,
		     const struct oci_desc **ret, struct err *e)
{
	const struct oci_desc *best = NULL;
	int best_fit = 0;

	if (!platform) {
		platform = oci_platform_host();
	}
	for (size_t i = 0; i < x->manifests.n; i++) {
		const struct oci_desc *d = oci_index_entry(x, i);
		enum oci_kind k = oci_kind_of(d->media_type);
		int f = d->platform ? fit(d->platform, platform) : 0;

		if (k != OCI_KIND_MANIFEST && k != OCI_KIND_INDEX) {
			continue;
		}
		if (f > best_fit) {
			best = d;
			best_fit = f;
		}
		if (!d->platform && x->manifests.n == 1) {
			best = d;
		}
	}
	if (!best) {
		return no_platform(x, platform, e);
	}
	*ret = best;
	return 0;
}
