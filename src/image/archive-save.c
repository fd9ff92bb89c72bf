/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing images. A tar is written by a confined child, which opens blobs through the parent
 * and hashes what it copies. The same images give the same bytes: no times, no owners, blobs
 * in order. A folder needs no parsing and is written by the parent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/archive-private.h"
#include "image/layout.h"
#include "sys/file.h"

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

struct save_image {
	struct store_entry entry;
	struct store_image img;
};

struct save_blob {
	const char *digest;
	uint64_t    size;
	const char *what;
};

struct save {
	struct store      *store;
	struct arena      *arena;
	struct save_image *images;
	size_t             n;
	struct save_blob  *blobs;    /* all, each once */
	size_t             n_blobs;
	int                fd;
	bool               docker;
};

/* The index of what is saved; the caller frees. */
static char *index_text(const struct save *s)
{
	auto_json json_t *list = json_array(), *root = NULL;

	for (size_t i = 0; list && i < s->n; i++) {
		const struct save_image *m = &s->images[i];
		json_t *one = json_pack("{s:s s:s s:I}", "mediaType", m->entry.media_type, "digest",
					m->entry.manifest, "size", (json_int_t)m->img.manifest_len);

		if (one && m->entry.name &&
		    json_put(one, "annotations", json_pack("{s:s s:s}",
				"org.opencontainers.image.ref.name", m->entry.name,
				"io.containerd.image.name", m->entry.name)) < 0) {
			json_decref(one);
			one = NULL;
		}
		if (json_array_append_new(list, one) < 0) {
			return NULL;
		}
	}
	root = json_pack("{s:i s:s s:O}", "schemaVersion", 2, "mediaType", OCI_MEDIA_INDEX,
			 "manifests", list);
	return root ? json_text(root) : NULL;
}

/* In the child: tar entries. */

struct tar_out {
	struct worker  *w;
	struct save    *s;
	struct archive *ar;
	uint8_t        *buf;
};

static int out_fault(struct tar_out *t, struct err *e)
{
	const char *words = archive_error_string(t->ar);

	return err_set(e, archive_errno(t->ar) > 0 ? archive_errno(t->ar) : EIO, ERR_HOST,
		       "the archive cannot be written: %.150s", words ? words : "");
}

static int out_header(struct tar_out *t, const char *name, unsigned type, uint64_t size,
		      struct err *e)
{
	struct archive_entry *ae = archive_entry_new();

	if (!ae) {
		return err_nomem(e);
	}
	archive_entry_set_pathname(ae, name);
	archive_entry_set_filetype(ae, type);
	archive_entry_set_perm(ae, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_mtime(ae, 0, 0);
	archive_entry_set_size(ae, (la_int64_t)size);

	int r = archive_write_header(t->ar, ae);

	archive_entry_free(ae);
	return r == ARCHIVE_OK ? 0 : out_fault(t, e);
}

static int out_bytes(struct tar_out *t, const void *data, size_t n, struct err *e)
{
	return n == 0 || archive_write_data(t->ar, data, n) == (la_ssize_t)n ? 0 : out_fault(t, e);
}

static int out_text(struct tar_out *t, const char *name, const char *text, struct err *e)
{
	int r = out_header(t, name, AE_IFREG, strlen(text), e);

	return r < 0 ? r : out_bytes(t, text, strlen(text), e);
}

static int damaged(const char *digest, struct err *e)
{
	return err_set(e, EBADMSG, ERR_HOST, "%s is damaged in the store: \"holm-image verify\" "
		       "tells more", digest);
}

/* A blob as it is. */
static int out_blob(struct tar_out *t, const char *name, const struct save_blob *b, struct err *e)
{
	auto_digest struct digest *d = digest_new(b->digest);
	uint32_t item = 0;
	uint64_t size = 0, done = 0;
	int r = d ? worker_item(t->w, b->digest, b->what, b->size, &item, e) : err_nomem(e);
	auto_close int fd = r < 0 ? r : worker_open(t->w, b->digest, &size, e);

	if (fd < 0) {
		return fd;
	}
	if (size != b->size) {
		return damaged(b->digest, e);
	}
	r = out_header(t, name, AE_IFREG, size, e);
	while (r == 0) {
		ssize_t n = sys_read(fd, t->buf, ARCHIVE__BLOCK);

		if (n <= 0) {
			r = n < 0 ? err_set(e, (int)-n, ERR_HOST, "%s cannot be read", b->digest) :
				    0;
			break;
		}
		digest_add(d, t->buf, (size_t)n);
		done += (uint64_t)n;
		r = out_bytes(t, t->buf, (size_t)n, e);
		r = r < 0 ? r : worker_set(t->w, item, PROGRESS_ACTIVE, done, e);
	}
	if (r == 0 && !str_eq(digest_end(d).text, b->digest)) {
		return damaged(b->digest, e);
	}
	return r < 0 ? r : worker_set(t->w, item, PROGRESS_DONE, done, e);
}

static int write_oci(struct tar_out *t, struct err *e)
{
	auto_free char *index = index_text(t->s);
	int r = index ? out_text(t, "oci-layout", layout_text, e) : err_nomem(e);

	r = r < 0 ? r : out_text(t, "index.json", index, e);
	r = r < 0 ? r : out_header(t, "blobs", AE_IFDIR, 0, e);
	r = r < 0 ? r : out_header(t, "blobs/sha256", AE_IFDIR, 0, e);
	for (size_t i = 0; r == 0 && i < t->s->n_blobs; i++) {
		const struct save_blob *b = &t->s->blobs[i];
		char name[200];

		snprintf(name, sizeof(name), "blobs/%.6s/%s", b->digest, digest_hex(b->digest));
		r = out_blob(t, name, b, e);
	}
	return r;
}

/*
 * Uncompress a layer: into the archive (`name`), or with name NULL only to learn its size,
 * which a tar needs first. Checks the diff id.
 */
static int out_plain(struct tar_out *t, const char *name, const struct oci_desc *layer,
		     const char *diff_id, uint64_t *size, struct err *e)
{
	auto_archive struct archive *ar = archive_read_new();
	auto_digest struct digest *d = digest_new(diff_id);
	auto_close int fd = worker_open(t->w, layer->digest, NULL, e);
	struct archive_entry *ae;
	uint64_t total = 0;
	int r = 0;

	if (fd < 0) {
		return fd;
	}
	if (!ar || !d) {
		return err_nomem(e);
	}
	if (archive__add_filters(ar) < 0 || archive_read_support_format_raw(ar) != ARCHIVE_OK ||
	    archive_read_open_fd(ar, fd, ARCHIVE__BLOCK) != ARCHIVE_OK ||
	    archive_read_next_header(ar, &ae) != ARCHIVE_OK) {
		r = archive__fault(ar, NULL, e);
		return err_wrap(e, "layer %s", layer->digest);
	}
	r = name ? out_header(t, name, AE_IFREG, *size, e) : 0;
	while (r == 0) {
		la_ssize_t n = archive_read_data(ar, t->buf, ARCHIVE__BLOCK);

		if (n <= 0) {
			r = n < 0 ? archive__fault(ar, layer->digest, e) : 0;
			break;
		}
		digest_add(d, t->buf, (size_t)n);
		total += (uint64_t)n;
		r = name ? out_bytes(t, t->buf, (size_t)n, e) : 0;
	}
	if (r == 0 && !str_eq(digest_end(d).text, diff_id)) {
		return damaged(layer->digest, e);
	}
	*size = total;
	return r;
}

static bool written_before(const struct save *s, size_t image, size_t layer, const char *diff_id)
{
	for (size_t i = 0; i <= image; i++) {
		const struct jstrv *ids = &s->images[i].img.config.rootfs.diff_ids;

		for (size_t k = 0; k < ids->n && (i < image || k < layer); k++) {
			if (str_eq(ids->v[k], diff_id)) {
				return true;
			}
		}
	}
	return false;
}

static int docker_layers(struct tar_out *t, size_t image, json_t *names, struct err *e)
{
	const struct store_image *img = &t->s->images[image].img;

	for (size_t i = 0; i < img->manifest.layers.n; i++) {
		const struct oci_desc *layer = oci_layer(&img->manifest, i);
		const char *diff_id = img->config.rootfs.diff_ids.v[i];
		uint64_t size = 0;
		uint32_t item = 0;
		char name[200];
		int r = 0;

		snprintf(name, sizeof(name), "%s.tar", digest_hex(diff_id));
		if (json_array_append_new(names, json_string(name)) < 0) {
			return err_nomem(e);
		}
		if (written_before(t->s, image, i, diff_id)) {
			continue;
		}
		r = worker_item(t->w, layer->digest, "layer", layer->size, &item, e);
		r = r < 0 ? r : worker_set(t->w, item, PROGRESS_ACTIVE, 0, e);
		r = r < 0 ? r : out_plain(t, NULL, layer, diff_id, &size, e);
		r = r < 0 ? r : out_plain(t, name, layer, diff_id, &size, e);
		r = r < 0 ? r : worker_set(t->w, item, PROGRESS_DONE, layer->size, e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* Names of other entries of the same image, as one list. */
static json_t *docker_tags(const struct save *s, size_t image)
{
	json_t *tags = json_array();

	for (size_t i = image; tags && i < s->n; i++) {
		const struct save_image *m = &s->images[i];
		struct err ignored = ERR_INIT;
		struct ref ref;

		if (m->entry.name && str_eq(m->entry.id, s->images[image].entry.id) &&
		    ref_parse(m->entry.name, &ref, &ignored) == 0 && ref.tag[0] &&
		    json_array_append_new(tags, json_string(ref_familiar(&ref).text)) < 0) {
			json_decref(tags);
			return NULL;
		}
	}
	return tags;
}

static int write_docker(struct tar_out *t, struct err *e)
{
	auto_json json_t *root = json_array();

	for (size_t i = 0; i < t->s->n; i++) {
		const struct save_image *m = &t->s->images[i];
		json_t *names = json_array();
		char config[200];
		bool again = false;
		int r;

		for (size_t k = 0; k < i; k++) {
			again = again || str_eq(t->s->images[k].entry.id, m->entry.id);
		}
		if (again) {
			json_decref(names);
			continue;
		}
		snprintf(config, sizeof(config), "%s.json", digest_hex(m->entry.id));
		r = names ? docker_layers(t, i, names, e) : err_nomem(e);
		r = r < 0 ? r : out_text(t, config, m->img.config_text, e);

		json_t *one = json_pack("{s:s s:o s:o}", "Config", config, "RepoTags",
					docker_tags(t->s, i), "Layers", names);

		if (r < 0 || !root || json_array_append_new(root, one) < 0) {
			return r < 0 ? r : err_nomem(e);
		}
	}

	auto_free char *text = json_text(root);

	return text ? out_text(t, "manifest.json", text, e) : err_nomem(e);
}

static int save_main(struct worker *w, void *job, struct err *e)
{
	auto_free uint8_t *buf = mem_calloc(1, ARCHIVE__BLOCK);
	struct tar_out t = { .w = w, .s = job, .ar = archive_write_new(), .buf = buf };
	int r;

	if (!t.ar || !buf) {
		r = err_nomem(e);
	} else if (archive_write_set_format_pax_restricted(t.ar) != ARCHIVE_OK ||
		   archive_write_set_bytes_in_last_block(t.ar, 512) != ARCHIVE_OK ||
		   archive_write_open_fd(t.ar, t.s->fd) != ARCHIVE_OK) {
		r = out_fault(&t, e);
	} else {
		r = t.s->docker ? write_docker(&t, e) : write_oci(&t, e);
		if (r == 0 && archive_write_close(t.ar) != ARCHIVE_OK) {
			r = out_fault(&t, e);
		}
	}
	(void)archive_write_free(t.ar);   /* closed above, or given up */
	return r;
}

/* The parent. */

static int add_blob(struct save *s, const char *digest, uint64_t size, const char *what,
		    struct err *e)
{
	for (size_t i = 0; i < s->n_blobs; i++) {
		if (str_eq(s->blobs[i].digest, digest)) {
			return 0;
		}
	}
	if (s->n_blobs % 64 == 0) {
		struct save_blob *v = arena_alloc(s->arena, s->n_blobs + 64, sizeof(*v));

		if (!v) {
			return err_nomem(e);
		}
		if (s->n_blobs > 0) {
			memcpy(v, s->blobs, s->n_blobs * sizeof(*v));
		}
		s->blobs = v;
	}
	s->blobs[s->n_blobs++] = (struct save_blob){ .digest = digest, .size = size, .what = what };
	return 0;
}

static int prepare(struct save *s, const char *const *names, size_t n, struct err *e)
{
	s->images = arena_alloc(s->arena, n, sizeof(*s->images));
	if (!s->images) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < n; i++) {
		struct save_image *m = &s->images[i];
		int r = store_image_resolve(s->store, names[i], s->arena, &m->entry, e);

		r = r < 0 ? r : store_image_load(s->store, m->entry.manifest, s->arena, &m->img, e);
		r = r < 0 ? r : add_blob(s, m->entry.manifest, m->img.manifest_len, "manifest", e);
		r = r < 0 ? r : add_blob(s, m->entry.id, m->img.manifest.config.size, "config", e);
		for (size_t k = 0; r == 0 && k < m->img.manifest.layers.n; k++) {
			const struct oci_desc *d = oci_layer(&m->img.manifest, k);

			r = add_blob(s, d->digest, d->size, "layer", e);
		}
		if (r < 0) {
			return r;
		}
		s->n++;
	}
	return 0;
}

static int open_blob(const char *name, uint64_t *ret_size, void *ud, struct err *e)
{
	const struct save *s = ud;

	for (size_t i = 0; i < s->n_blobs; i++) {
		if (str_eq(s->blobs[i].digest, name)) {
			return store_blob_open(s->store, name, ret_size, e);
		}
	}
	return err_set(e, EACCES, ERR_DENIED, "not a blob of these images");
}

static int copy_blob(struct save *s, const struct save_blob *b, struct progress *p, struct err *e)
{
	auto_blob_reader struct blob_reader *in = NULL;
	auto_free uint8_t *buf = mem_calloc(1, ARCHIVE__BLOCK);
	size_t item = progress_add(p, b->digest, b->what, b->size);
	char path[200];
	uint64_t done = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "blobs/%.6s/%s", b->digest, digest_hex(b->digest));

	int r = buf ? blob_reader_open(s->store, b->digest, &in, e) : err_nomem(e);
	auto_close int fd = r < 0 ? r : sys_openat(s->fd, path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (r < 0) {
		return r;
	}
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "%s cannot be written", path);
	}
	while ((n = blob_reader_read(in, buf, ARCHIVE__BLOCK, e)) > 0) {
		r = sys_write_full(fd, buf, (size_t)n);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "%s cannot be written", path);
		}
		done += (uint64_t)n;
		progress_set(p, item, PROGRESS_ACTIVE, done);
	}
	if (n == 0) {
		progress_set(p, item, PROGRESS_DONE, done);
	}
	return (int)n;
}

static int put_text(struct save *s, const char *name, const char *text, struct err *e)
{
	int r = sys_replace_file(s->fd, name, text, strlen(text), 0644);

	return r < 0 ? err_set(e, -r, ERR_HOST, "%s cannot be written", name) : 0;
}

/* index.json comes last: without it the folder is no layout. */
static int write_dir(struct save *s, struct progress *p, struct err *e)
{
	auto_free char *index = index_text(s);
	int r = index ? sys_mkdir_p(s->fd, "blobs/sha256", 0755) : -ENOMEM;

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the folder cannot be written");
	}
	for (size_t i = 0; r == 0 && i < s->n_blobs; i++) {
		if (strncmp(s->blobs[i].digest, "sha512:", 7) == 0) {
			r = sys_mkdir_p(s->fd, "blobs/sha512", 0755);
			r = r < 0 ? err_set(e, -r, ERR_HOST, "the folder cannot be written") : 0;
		}
		r = r < 0 ? r : copy_blob(s, &s->blobs[i], p, e);
	}
	r = r < 0 ? r : put_text(s, "oci-layout", layout_text, e);
	return r < 0 ? r : put_text(s, "index.json", index, e);
}

int archive_save(struct store *store, const char *const *images, size_t n,
		 enum archive_format format, int fd, struct progress *p, struct err *e)
{
	static const struct confine writer = {
		.name = "archive writer", .memory_bytes = UINT64_C(1) << 30, .files = 64,
		.file_bytes = UINT64_C(1) << 62,
	};
	auto_arena struct arena a = ARENA_INIT;
	struct save s = { .store = store, .arena = &a, .fd = fd,
			  .docker = format == ARCHIVE_DOCKER };
	int r = prepare(&s, images, n, e);

	if (r < 0) {
		return r;
	}
	if (format == ARCHIVE_OCI_DIR) {
		return write_dir(&s, p, e);
	}

	struct worker_run run = {
		.progress = p, .confine = &writer, .main = save_main, .job = &s, .open = open_blob,
		.ud = &s, .keep_fds = &fd, .n_keep_fds = 1,
	};

	return worker_run(&run, NULL, NULL, e);
}
