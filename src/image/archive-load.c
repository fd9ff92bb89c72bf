/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading images.
 *
 * A tar is read once, also from a pipe: whatever may be a blob goes to the parent as it
 * comes, documents are kept in memory, and at the end of the archive its own documents say
 * which of the blobs make an image. Blobs that none needs are garbage to the store.
 *
 * A folder is read by archive-load-dir.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/archive-private.h"
#include "image/layout.h"
#include "sys/file.h"

enum entry_kind {
	ENTRY_DOC,    /* doc and doc_len; may have a digest too */
	ENTRY_BLOB,   /* is with the parent */
	ENTRY_LINK,
};

struct entry {
	char           *name;
	enum entry_kind kind;
	enum oci_kind   layer;      /* by the first bytes: one of the OCI_KIND_LAYER kinds */
	uint64_t        size;
	char            digest[OCI_DIGEST_MAX];   /* "" where not known */
	char           *doc;
	size_t          doc_len;
	char           *target;     /* of a link, from the archive's root */
};

struct load {
	struct layout_source src;   /* first, so that callbacks find the rest */
	struct worker       *w;
	const struct archive_load *job;
	struct arena         arena;
	struct entry        *entries;
	size_t               n, cap;
	size_t               doc_bytes;
};

static struct entry *find(struct load *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++) {
		if (str_eq(l->entries[i].name, name)) {
			return &l->entries[i];
		}
	}
	return NULL;
}

static struct entry *find_digest(struct load *l, const char *digest)
{
	for (size_t i = 0; i < l->n; i++) {
		if (str_eq(l->entries[i].digest, digest)) {
			return &l->entries[i];
		}
	}
	return NULL;
}

static int add_entry(struct load *l, const char *name, struct entry **ret, struct err *e)
{
	if (find(l, name)) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" comes twice", name);
	}
	if (l->n >= ARCHIVE__ENTRIES_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "entry \"%s\": more than %d entries", name,
			       ARCHIVE__ENTRIES_MAX);
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct entry *v = arena_alloc(&l->arena, cap, sizeof(*v));

		if (!v) {
			return err_nomem(e);
		}
		if (l->n > 0) {
			memcpy(v, l->entries, l->n * sizeof(*v));
		}
		l->entries = v;
		l->cap = cap;
	}

	struct entry *en = &l->entries[l->n];

	*en = (struct entry){ .name = arena_strdup(&l->arena, name), .kind = ENTRY_DOC };
	if (!en->name) {
		return err_nomem(e);
	}
	l->n++;
	*ret = en;
	return 0;
}

static enum oci_kind layer_kind(const uint8_t *p, size_t n)
{
	if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
		return OCI_KIND_LAYER_GZIP;
	}
	if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0) {
		return OCI_KIND_LAYER_ZSTD;
	}
	return OCI_KIND_LAYER;
}

static const char *layer_media_type(enum oci_kind k)
{
	return k == OCI_KIND_LAYER_GZIP ? OCI_MEDIA_LAYER_GZIP :
	       k == OCI_KIND_LAYER_ZSTD ? OCI_MEDIA_LAYER_ZSTD : OCI_MEDIA_LAYER;
}

/* The digest that an entry's name promises: "blobs/sha256/HEX". */
static bool digest_of_name(const char *name, char out[OCI_DIGEST_MAX])
{
	const char *rest = str_after(name, "blobs/");
	const char *slash = rest ? strchr(rest, '/') : NULL;

	if (!slash || slash - rest > 8 || strlen(slash) > 140) {
		return false;
	}
	snprintf(out, OCI_DIGEST_MAX, "%.*s:%s", (int)(slash - rest), rest, slash + 1);
	return oci_digest_valid(out);
}

/* What an entry's name says that it is. */
static bool is_doc_name(const char *name)
{
	return str_eq(name, "oci-layout") || str_eq(name, "index.json") ||
	       (str_ends(name, ".json") && !strchr(name, '/'));
}

static bool is_layer_name(const char *name)
{
	return str_ends(name, ".tar") || str_ends(name, ".tar.gz");
}

/* Bytes of the current entry; -errno with the entry named. */
static ssize_t read_some(struct archive *ar, const char *name, void *buf, size_t n, struct err *e)
{
	size_t have = 0;

	while (have < n) {
		la_ssize_t r = archive_read_data(ar, (uint8_t *)buf + have, n - have);

		if (r < 0) {
			return archive__fault(ar, name, e);
		}
		if (r == 0) {
			break;
		}
		have += (size_t)r;
	}
	return (ssize_t)have;
}

/* Send the current entry's bytes, of which the first n are in `buf`. */
static int stream(struct load *l, struct archive *ar, struct entry *en, uint8_t *buf, size_t n,
		  struct err *e)
{
	const char *digest = en->digest[0] ? en->digest : NULL;
	struct blob_info info = { .size = 0 };
	uint64_t offset, sent = 0;
	uint32_t blob;
	int r = worker_blob_begin(l->w, digest, en->size, digest ? "blob" : "layer", &blob,
				  &offset, e);

	if (r == 1) {
		return 0;
	}
	if (r == 0 && offset > 0) {
		r = worker_blob_restart(l->w, blob, e);
	}
	while (r == 0 && n > 0) {
		sent += n;
		r = archive__check_ratio((uint64_t)archive_filter_bytes(ar, -1),
					 (uint64_t)archive_filter_bytes(ar, 0), en->name, e);
		r = r < 0 ? r : worker_blob_data(l->w, blob, buf, n, e);
		if (r == 0) {
			ssize_t got = read_some(ar, en->name, buf, ARCHIVE__BLOCK, e);

			r = got < 0 ? (int)got : 0;
			n = got < 0 ? 0 : (size_t)got;
		}
	}
	if (r == 0 && sent != en->size) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" is cut off", en->name);
	}
	r = r < 0 ? r : worker_blob_end(l->w, blob, &info, e);
	if (r < 0) {
		return err_wrap(e, "entry \"%s\"", en->name);
	}
	snprintf(en->digest, sizeof(en->digest), "%s", info.digest);
	return 0;
}

static int keep_doc(struct load *l, struct entry *en, const uint8_t *buf, size_t n, struct err *e)
{
	if (l->doc_bytes + n > ARCHIVE__DOCS_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "entry \"%s\": more than 64 MiB of documents",
			       en->name);
	}
	en->doc = arena_alloc(&l->arena, n + 1, 1);
	if (!en->doc) {
		return err_nomem(e);
	}
	memcpy(en->doc, buf, n);
	en->doc_len = n;
	l->doc_bytes += n;
	return 0;
}

static int take_file(struct load *l, struct archive *ar, struct archive_entry *ae,
		     const char *name, uint8_t *buf, struct err *e)
{
	char digest[OCI_DIGEST_MAX] = "";
	bool blob = digest_of_name(name, digest), doc = is_doc_name(name);
	struct entry *en = NULL;

	if (!archive_entry_size_is_set(ae) || archive_entry_size(ae) < 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" has no size", name);
	}
	if (!blob && !doc && !is_layer_name(name)) {
		return 0;   /* VERSION, repositories and what else there may be */
	}

	int r = add_entry(l, name, &en, e);

	if (r < 0) {
		return r;
	}
	en->size = (uint64_t)archive_entry_size(ae);
	snprintf(en->digest, sizeof(en->digest), "%s", blob ? digest : "");
	if (doc && en->size > ARCHIVE__DOC_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "entry \"%s\" is larger than 4 MiB", name);
	}

	/* A document is kept; if it is a blob as well, it is sent when it is needed. */
	size_t first = en->size <= ARCHIVE__DOC_MAX ? (size_t)en->size : ARCHIVE__BLOCK;
	ssize_t got = read_some(ar, name, buf, first, e);

	if (got < 0) {
		return (int)got;
	}
	if ((size_t)got < first) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" is cut off", name);
	}
	if (doc || (blob && first == en->size && first > 0 && buf[0] == '{')) {
		en->kind = ENTRY_DOC;
		return keep_doc(l, en, buf, (size_t)got, e);
	}
	en->kind = ENTRY_BLOB;
	en->layer = layer_kind(buf, (size_t)got);
	return stream(l, ar, en, buf, (size_t)got, e);
}

/* A link's target as a name from the root, "..": one folder up as docker writes it. */
static int take_link(struct load *l, struct archive_entry *ae, const char *name, struct err *e)
{
	const char *hard = archive_entry_hardlink(ae), *soft = archive_entry_symlink(ae);
	const char *slash = strrchr(name, '/');
	struct entry *en = NULL;
	int r;

	if (!is_layer_name(name) && !is_doc_name(name)) {
		return 0;
	}
	r = add_entry(l, name, &en, e);
	if (r < 0) {
		return r;
	}
	en->kind = ENTRY_LINK;
	if (hard) {
		en->target = arena_strdup(&l->arena, strncmp(hard, "./", 2) == 0 ? hard + 2 : hard);
	} else if (soft && strncmp(soft, "../", 3) == 0 && slash && strchr(name, '/') == slash) {
		en->target = arena_strdup(&l->arena, soft + 3);
	} else if (soft && !slash) {
		en->target = arena_strdup(&l->arena, soft);
	} else if (soft) {
		en->target = arena_printf(&l->arena, "%.*s%s", (int)(slash - name) + 1, name, soft);
	} else {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" links to nothing", name);
	}
	return en->target ? 0 : err_nomem(e);
}

static int read_tar(struct load *l, struct err *e)
{
	auto_archive struct archive *ar = NULL;
	auto_free uint8_t *buf = mem_calloc(1, ARCHIVE__DOC_MAX);
	struct archive_entry *ae;
	const char *name;
	int r;

	if (!buf) {
		return err_nomem(e);
	}
	r = archive__open_tar(l->job->fd, &ar, e);
	if (r < 0) {
		return r;
	}
	while ((r = archive__next(ar, &ae, &name, e)) > 0) {
		if (archive_entry_hardlink(ae) || archive_entry_filetype(ae) == AE_IFLNK) {
			r = take_link(l, ae, name, e);
		} else if (archive_entry_filetype(ae) == AE_IFREG) {
			r = take_file(l, ar, ae, name, buf, e);
		} else if (archive_entry_filetype(ae) != AE_IFDIR) {
			r = err_set(e, EBADMSG, ERR_INVALID,
				    "entry \"%s\" is neither a file nor a folder", name);
		}
		if (r < 0) {
			return r;
		}
	}
	return r;
}

/* The entry behind links; NULL if there is none. */
static struct entry *follow(struct load *l, const char *name)
{
	struct entry *en = find(l, name);

	for (unsigned hops = 0; en && en->kind == ENTRY_LINK && hops < 8; hops++) {
		en = find(l, en->target);
	}
	return en && en->kind != ENTRY_LINK ? en : NULL;
}

static int announce(struct layout_source *src, const struct worker_image *image, struct err *e)
{
	struct load *l = container_of(src, struct load, src);

	return worker_image(l->w, image, e);
}

/* Callbacks of the layout, over a tar. */

static int tar_doc(struct layout_source *src, const char *digest, const char **ret_text,
		   size_t *ret_len, struct err *e)
{
	struct load *l = container_of(src, struct load, src);
	struct entry *en = find_digest(l, digest);

	if (!en || en->kind != ENTRY_DOC) {
		return err_set(e, ENOENT, ERR_INVALID, "the archive lacks %s", digest);
	}

	auto_digest struct digest *d = digest_new(digest);

	if (!d) {
		return err_nomem(e);
	}
	digest_add(d, en->doc, en->doc_len);
	if (!str_eq(digest_end(d).text, digest)) {
		return err_set(e, EBADMSG, ERR_INVALID, "entry \"%s\" has another digest",
			       en->name);
	}
	*ret_text = en->doc;
	*ret_len = en->doc_len;
	return 0;
}

static int tar_blob(struct layout_source *src, const struct oci_desc *d, const char *what,
		    struct err *e)
{
	struct load *l = container_of(src, struct load, src);
	struct entry *en = find_digest(l, d->digest);
	uint64_t offset;
	uint32_t blob;
	int r;

	if (en && en->size != d->size) {
		return err_set(e, EBADMSG, ERR_INVALID,
			       "entry \"%s\" has %llu bytes, its descriptor says %llu", en->name,
			       (unsigned long long)en->size, (unsigned long long)d->size);
	}
	if (en && en->kind == ENTRY_DOC) {
		r = worker_blob_put(l->w, d->digest, what, en->doc, en->doc_len, NULL, e);
		return r < 0 ? err_wrap(e, "entry \"%s\"", en->name) : 0;
	}
	if (en) {
		return 0;
	}

	/* Not in the archive: fine if the store has it. */
	r = worker_blob_begin(l->w, d->digest, d->size, what, &blob, &offset, e);
	if (r == 0) {
		return err_set(e, ENOENT, ERR_INVALID, "the archive lacks %s %s", what, d->digest);
	}
	return r < 0 ? r : 0;
}

static int docker_layers(struct load *l, const struct layout_docker *img,
			 const struct oci_image_config *config, struct oci_desc *layers,
			 struct err *e)
{
	if (config->rootfs.diff_ids.n != img->layers.n) {
		return err_set(e, EBADMSG, ERR_INVALID,
			       "manifest.json names %zu layers, the config %zu", img->layers.n,
			       config->rootfs.diff_ids.n);
	}
	for (size_t i = 0; i < img->layers.n; i++) {
		const char *name = img->layers.v[i];
		struct entry *en = follow(l, strncmp(name, "./", 2) == 0 ? name + 2 : name);

		if (!en || en->kind != ENTRY_BLOB) {
			return err_set(e, ENOENT, ERR_INVALID, "the archive lacks layer \"%.200s\"",
				       name);
		}
		if (en->layer == OCI_KIND_LAYER &&
		    !str_eq(en->digest, config->rootfs.diff_ids.v[i])) {
			return err_set(e, EBADMSG, ERR_INVALID,
				       "entry \"%s\" is not the layer that the config names",
				       en->name);
		}
		layers[i] = (struct oci_desc){ .media_type = layer_media_type(en->layer),
					       .digest = en->digest, .size = en->size };
	}
	return 0;
}

static int docker_names(struct load *l, const struct layout_docker *img,
			const char *manifest, struct err *e)
{
	struct worker_image out = { .name = "", .media_type = OCI_MEDIA_MANIFEST };

	snprintf(out.manifest, sizeof(out.manifest), "%s", manifest);
	/* Under a name that the caller gives, its own names do not count. */
	if (img->repo_tags.n == 0 || l->job->name) {
		return worker_image(l->w, &out, e);
	}
	for (size_t i = 0; i < img->repo_tags.n; i++) {
		snprintf(out.name, sizeof(out.name), "%s", img->repo_tags.v[i]);

		int r = worker_image(l->w, &out, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int docker_image(struct load *l, const struct layout_docker *img, struct err *e)
{
	struct oci_desc *layers = arena_alloc(&l->arena, img->layers.n + 1, sizeof(*layers));
	struct entry *en = follow(l, strncmp(img->config, "./", 2) == 0 ? img->config + 2 :
									  img->config);
	struct blob_info config_info, manifest_info;
	struct oci_image_config config;

	if (!layers) {
		return err_nomem(e);
	}
	if (!en || en->kind != ENTRY_DOC) {
		return err_set(e, ENOENT, ERR_INVALID, "the archive lacks the config \"%.200s\"",
			       img->config);
	}

	int r = oci_image_config_parse(en->doc, en->doc_len, OCI_MEDIA_CONFIG, &l->arena, &config,
				       e);

	r = r < 0 ? err_wrap(e, "entry \"%s\"", en->name) :
		    docker_layers(l, img, &config, layers, e);
	r = r < 0 ? r :
		    worker_blob_put(l->w, NULL, "config", en->doc, en->doc_len, &config_info, e);
	if (r < 0) {
		return r;
	}

	struct oci_desc config_desc = { .media_type = OCI_MEDIA_CONFIG,
					.digest = config_info.digest, .size = config_info.size };
	auto_free char *text = layout_manifest(&config_desc, layers, img->layers.n);

	if (!text) {
		return err_nomem(e);
	}
	r = worker_blob_put(l->w, NULL, "manifest", text, strlen(text), &manifest_info, e);
	return r < 0 ? r : docker_names(l, img, manifest_info.digest, e);
}

static int load_entries(struct load *l, struct err *e)
{
	struct entry *index = find(l, "index.json"), *docker = find(l, "manifest.json");

	if (index && index->kind == ENTRY_DOC && find(l, "oci-layout")) {
		return layout_oci(&l->src, index->doc, index->doc_len, e);
	}
	if (!docker || docker->kind != ENTRY_DOC) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "not an archive of images: neither index.json with oci-layout nor "
			       "manifest.json is in it (a root file system is for \"import\")");
	}

	struct layout_dockers images;
	int r = layout_docker_parse(docker->doc, docker->doc_len, &l->arena, &images, e);
	for (size_t i = 0; r >= 0 && i < images.n; i++) {
		r = docker_image(l, &images.v[i], e);
	}
	return r;
}

static int load_tar(struct worker *w, const struct archive_load *job, struct err *e)
{
	struct load l = { .w = w, .job = job,
			  .src = { .doc = tar_doc, .blob = tar_blob, .image = announce,
				   .platform = job->platform } };

	l.src.arena = &l.arena;

	int r = read_tar(&l, e);

	r = r < 0 ? r : load_entries(&l, e);
	arena_fini(&l.arena);
	return r;
}

struct load_job {
	const struct archive_load *load;
	bool                       dir;
};

static int load_main(struct worker *w, void *job_, struct err *e)
{
	const struct load_job *job = job_;
	int r = job->dir ? archive__load_dir(w, job->load->platform, e) : load_tar(w, job->load, e);

	return r < 0 ? err_wrap(e, "%s", job->load->file) : 0;
}

int archive_load(struct store *s, const struct archive_load *load, struct progress *p,
		 struct arena *a, struct archive_images *ret, struct err *e)
{
	struct load_job job = { .load = load };
	struct worker_images images = { .n = 0 };
	struct stat st;
	int r = sys_fstat(load->fd, &st);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s", load->file);
	}
	job.dir = S_ISDIR(st.st_mode);
	r = store_use_begin(s, e);
	if (r < 0) {
		return r;
	}

	struct worker_run run = {
		.store = s, .progress = p, .confine = &archive__confine, .main = load_main,
		.job = &job, .open = job.dir ? archive__open_in_layout : NULL,
		.ud = (void *)(uintptr_t)load,
		.keep_fds = &load->fd, .n_keep_fds = job.dir ? 0 : 1,
	};

	r = worker_run(&run, a, &images, e);
	r = r < 0 ? r : archive__put_images(s, &images, load->name, p, a, ret, e);
	store_use_end(s);
	return r;
}
