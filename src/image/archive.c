/* SPDX-License-Identifier: Apache-2.0 */
#include "image/archive-private.h"
#include "image/unpack.h"

#include <errno.h>
#include <string.h>

const struct confine archive__confine = {
	.name = "archive reader", .memory_bytes = UINT64_C(1) << 30, .files = 64,
};

const char *const archive_compress_names[ARCHIVE_COMPRESS__COUNT + 1] = {
	[ARCHIVE_COMPRESS_ZSTD] = "zstd", [ARCHIVE_COMPRESS_GZIP] = "gzip",
	[ARCHIVE_COMPRESS_NONE] = "none", [ARCHIVE_COMPRESS_KEEP] = "keep",
};

const char *const archive_format_names[ARCHIVE_FORMAT__COUNT + 1] = {
	[ARCHIVE_OCI] = "oci", [ARCHIVE_DOCKER] = "docker", [ARCHIVE_OCI_DIR] = "oci-dir",
};

int archive__add_filters(struct archive *ar)
{
	/* Those that would start a program answer ARCHIVE_WARN; these do not. */
	return archive_read_support_filter_gzip(ar) == ARCHIVE_OK &&
	       archive_read_support_filter_zstd(ar) == ARCHIVE_OK &&
	       archive_read_support_filter_xz(ar) == ARCHIVE_OK &&
	       archive_read_support_filter_bzip2(ar) == ARCHIVE_OK &&
	       archive_read_support_filter_lz4(ar) == ARCHIVE_OK ? 0 : -EOPNOTSUPP;
}

int archive__fault(struct archive *ar, const char *entry, struct err *e)
{
	const char *words = archive_error_string(ar);

	return err_set(e, EBADMSG, ERR_INVALID, "%s%.200s%s%s", entry ? "entry \"" : "",
		       entry ? entry : "", entry ? "\": " : "",
		       words ? words : "the archive is malformed");
}

int archive__open_tar(int fd, struct archive **ret, struct err *e)
{
	auto_archive struct archive *ar = archive_read_new();

	if (!ar) {
		return err_nomem(e);
	}
	if (archive__add_filters(ar) < 0 || archive_read_support_format_tar(ar) != ARCHIVE_OK ||
	    archive_read_open_fd(ar, fd, ARCHIVE__BLOCK) != ARCHIVE_OK) {
		return archive__fault(ar, NULL, e);
	}
	*ret = take_ptr(&ar);
	return 0;
}

int archive__check_ratio(uint64_t in_bytes, uint64_t out_bytes, const char *entry, struct err *e)
{
	const struct unpack_limits *l = &unpack_limits_default;

	if (out_bytes <= l->ratio_from || out_bytes / l->ratio <= in_bytes) {
		return 0;
	}
	return err_set(e, EFBIG, ERR_LIMIT, "%s%.200s%sit becomes more than %llu times as large "
		       "when it is uncompressed", entry ? "entry \"" : "", entry ? entry : "",
		       entry ? "\": " : "", (unsigned long long)l->ratio);
}

static bool leaves(const char *name)
{
	const char *part;
	size_t len;

	while (str_split(&name, '/', &part, &len)) {
		if (len == 2 && memcmp(part, "..", 2) == 0) {
			return true;
		}
	}
	return false;
}

static const char *name_fault(const char *name)
{
	if (*name == '/') {
		return "an absolute name";
	}
	if (strlen(name) > ARCHIVE__NAME_MAX) {
		return "a name of more than 512 bytes";
	}
	if (leaves(name)) {
		return "a name that leaves the archive";
	}
	for (const char *p = name; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			return "a control character in its name";
		}
	}
	return NULL;
}

int archive__next(struct archive *ar, struct archive_entry **ret, const char **ret_name,
		  struct err *e)
{
	int r = archive_read_next_header(ar, ret);

	if (r == ARCHIVE_EOF) {
		return 0;
	}

	const char *name = r == ARCHIVE_OK || r == ARCHIVE_WARN ? archive_entry_pathname(*ret) :
								  NULL;

	if (r != ARCHIVE_OK) {
		return archive__fault(ar, name, e);
	}
	if (!name) {
		return err_set(e, EBADMSG, ERR_INVALID, "an entry has no name");
	}

	const char *fault = name_fault(name);

	if (fault) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%.200s\" has %s", name, fault);
	}
	while (strncmp(name, "./", 2) == 0) {
		name += 2;
		name += strspn(name, "/");
	}
	*ret_name = name;
	return 1;
}

static int put_one(struct store *s, const struct worker_image *in, const char *forced,
		   struct progress *p, struct arena *a, struct archive_image *ret, struct err *e)
{
	const char *said = forced ? forced : in->name[0] != '\0' ? in->name : NULL;
	char *name = NULL;

	/* Only a tag: there is no name to hang it on. */
	if (said && !forced && !strpbrk(said, "/:")) {
		progress_text(p, "The archive gives only the tag \"%.100s\": name the image with "
			      "--name or by \"tag\"", said);
		said = NULL;
	}
	if (said) {
		struct ref ref;
		int r = ref_parse(said, &ref, e);

		if (r < 0) {
			return err_wrap(e, forced ? "name" : "the archive's name for the image");
		}
		name = arena_strdup(a, ref_name(&ref).text);
		if (!name) {
			return err_nomem(e);
		}
	}

	struct store_put put = { .name = name, .manifest = in->manifest,
				 .media_type = in->media_type,
				 .source = in->source[0] ? in->source : NULL };
	int r = store_image_put(s, &put, e);

	if (r < 0) {
		return r;
	}
	progress_image(p, name, in->manifest);
	ret->name = name;
	ret->manifest = arena_strdup(a, in->manifest);
	return ret->manifest ? 0 : err_nomem(e);
}

int archive__put_images(struct store *s, const struct worker_images *in, const char *name,
			struct progress *p, struct arena *a, struct archive_images *ret,
			struct err *e)
{
	struct archive_image *v = arena_alloc(a, in->n ? in->n : 1, sizeof(*v));

	if (!v) {
		return err_nomem(e);
	}
	if (in->n == 0) {
		return err_set(e, ENOENT, ERR_INVALID, "there is no image in it");
	}
	if (name && in->n > 1) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "it holds %zu images or names: they cannot all be called \"%s\"",
			       in->n, name);
	}
	for (size_t i = 0; i < in->n; i++) {
		int r = put_one(s, &in->v[i], name, p, a, &v[i], e);

		if (r < 0) {
			return r;
		}
	}
	*ret = (struct archive_images){ .v = v, .n = in->n };
	return 0;
}
