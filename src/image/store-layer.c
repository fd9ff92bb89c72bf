/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacked layers: made in tmp/, synced together, renamed into place. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "image/store-private.h"
#include "image/unpack.h"

/* layer.json. */
struct layer_doc {
	uint64_t    version;
	const char *chain_id, *parent, *diff_id;
	uint64_t    bytes, entries, devices;
	int         ids;
};

/* unpack_ids_names with an end. */
static const char *const ids_names[] = { "mapped", "plain", "squashed", NULL };

#define IN(m) offsetof(struct layer_doc, m)
static const struct jfield layer_fields[] = {
	{ "version", JK_UINT, IN(version), .min = 1, .max = 1, .flags = JF_REQUIRED,
	  .doc = "of this format" },
	{ "chainId", JK_STR,  IN(chain_id), .max = OCI_DIGEST_MAX, .flags = JF_REQUIRED,
	  .doc = "names the layer" },
	{ "parent",  JK_STR,  IN(parent), .max = OCI_DIGEST_MAX,
	  .doc = "chain id of the layer below" },
	{ "diffId",  JK_STR,  IN(diff_id), .max = OCI_DIGEST_MAX, .flags = JF_REQUIRED,
	  .doc = "digest of the tar" },
	{ "bytes",   JK_UINT, IN(bytes), .max = INT64_MAX, .flags = JF_EMPTY, .doc = "of the tar" },
	{ "entries", JK_UINT, IN(entries), .max = INT64_MAX, .flags = JF_EMPTY,
	  .doc = "of the tar" },
	{ "devices", JK_UINT, IN(devices), .max = INT64_MAX,
	  .doc = "placeholders of device nodes" },
	{ "ids",     JK_ENUM, IN(ids), .names = ids_names, .flags = JF_REQUIRED,
	  .doc = "whose the files are" },
};
#undef IN
static const struct jtable layer_table = JTABLE_OPEN("Layer", struct layer_doc, layer_fields);

const struct jtable *const store__layer_table = &layer_table;

int store__layer_info(struct store *s, const char *chain_id, struct store_layer_info *ret)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_buf struct buf text = BUF_INIT;
	auto_json json_t *doc = NULL;
	struct err ignored = ERR_INIT;
	struct layer_doc d;
	char path[8 + OCI_DIGEST_MAX + 12];

	(void)snprintf(path, sizeof(path), "%s/layer.json", store__layer_path(chain_id).text);
	int r = sys_read_file(s->dir_fd, path, 65536, &text);

	if (r == 0) {
		r = json_parse(buf_str(&text), text.len, &json_limits_document, "layer.json", &doc,
			       &ignored);
	}
	if (r == 0) {
		r = jtable_parse(&layer_table, doc, &a, &d, &ignored);
	}
	if (r == 0 && !str_eq(d.chain_id, chain_id)) {
		r = -EBADMSG;
	}
	if (r == 0) {
		*ret = (struct store_layer_info){ .bytes = d.bytes, .entries = d.entries,
						  .devices = d.devices, .ids = d.ids };
	}
	return r;
}

int store_layer_open(struct store *s, const char *chain_id, struct err *e)
{
	char path[8 + OCI_DIGEST_MAX + 8];

	if (!oci_digest_valid(chain_id)) {
		return err_set(e, EINVAL, ERR_INVALID, "\"%.80s\" is not a chain id", chain_id);
	}
	(void)snprintf(path, sizeof(path), "%s/root", store__layer_path(chain_id).text);
	int fd = sys_openat(s->dir_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0) {
		return err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_HOST,
			       "layer %s is not unpacked", chain_id);
	}
	return fd;
}

static bool have_layer(const struct store *s, const char *chain_id)
{
	struct stat st;

	return sys_fstatat(s->dir_fd, store__layer_path(chain_id).text, &st,
			   AT_SYMLINK_NOFOLLOW) == 0;
}

bool store_image_unpacked(struct store *s, const struct store_image *img)
{
	for (size_t i = 0; i < img->n_layers; i++) {
		if (!have_layer(s, img->chain_ids[i])) {
			return false;
		}
	}
	return true;
}

/* The layers of one image while some of them are being made. */
struct batch {
	struct store             *s;
	const struct store_image *img;
	int                      *fds;    /* n_layers roots, -1 not there yet */
	struct store_path        *temps;  /* "" where the layer was there */
	store_progress_fn         fn;
	void                     *ud;
	size_t                    current;
};

static void progress(uint64_t done_bytes, void *ud)
{
	const struct batch *b = ud;

	if (b->fn) {
		struct store_progress p = {
			.layer = b->current, .n_layers = b->img->n_layers, .done_bytes = done_bytes,
			.all_bytes = oci_layer(&b->img->manifest, b->current)->size,
		};

		b->fn(&p, b->ud);
	}
}

/* A folder below the one being made, opened. */
static int make_folder(struct store *s, const struct store_path *temp, const char *name,
		       mode_t mode, int *ret_fd)
{
	char path[sizeof(temp->text) + 16];

	(void)snprintf(path, sizeof(path), "%s/%s", temp->text, name);
	int r = sys_mkdirat(s->dir_fd, path, mode);

	if (r == 0) {
		r = sys_openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (r >= 0) {
		*ret_fd = r;
		r = sys_fchmod(*ret_fd, mode); /* whatever the umask made of it */
	}
	return r;
}

int store__layer_describe(struct store *s, const struct store_path *temp,
			  const struct store_layer_doc *in, struct err *e)
{
	struct layer_doc d = {
		.version = 1, .chain_id = in->chain_id, .parent = in->parent, .diff_id = in->diff_id,
		.bytes = in->bytes, .entries = in->entries, .devices = in->devices, .ids = in->ids,
	};
	auto_json json_t *doc = jtable_format(&layer_table, &d);
	auto_free char *text = doc ? json_text(doc) : NULL;
	char path[sizeof(temp->text) + 16];

	if (!text) {
		return err_nomem(e);
	}
	(void)snprintf(path, sizeof(path), "%s/layer.json", temp->text);
	auto_close int fd = sys_openat(s->dir_fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	return r < 0 ? store__host_err(e, r, "image store: a new layer") : 0;
}

static int unpack_into(struct batch *b, size_t i, int dir_fd, struct unpack_result *ret,
		       struct err *e)
{
	const struct oci_desc *d = oci_layer(&b->img->manifest, i);
	struct unpack_job job = {
		.blob_digest = d->digest, .kind = oci_kind_of(d->media_type),
		.diff_id = b->img->config.rootfs.diff_ids.v[i], .dir_fd = dir_fd,
		.lower_fds = b->fds, .n_lower = i, .progress = progress, .ud = b,
	};
	auto_close int blob = store_blob_open(b->s, d->digest, &job.blob_size, e);

	if (blob < 0) {
		return blob;
	}
	job.blob_fd = blob;
	int r = unpack_layer(&job, ret, e);

	return r < 0 ? err_wrap(e, "layer %zu (%.19s)", i + 1, d->digest) : 0;
}

/* Make layer `i` in a folder of tmp/, whole but for syncing. */
static int make_layer(struct batch *b, size_t i, struct err *e)
{
	struct store_path *temp = &b->temps[i];
	auto_close int work_fd = -1, dir_fd = -1;
	struct unpack_result done;
	int r = store__temp_path("tmp", temp, e);

	if (r < 0) {
		temp->text[0] = '\0';
		return r;
	}
	r = sys_mkdirat(b->s->dir_fd, temp->text, 0700);
	if (r == 0) {
		r = make_folder(b->s, temp, "root", 0755, &b->fds[i]);
	}
	if (r == 0 && i > 0) {
		r = make_folder(b->s, temp, "work", 0700, &work_fd);
	}
	if (r >= 0) {
		r = dir_fd = sys_openat(b->s->dir_fd, temp->text, O_RDONLY | O_DIRECTORY, 0);
	}
	if (r < 0) {
		return store__host_err(e, r, "image store: a new layer");
	}
	b->current = i;
	r = unpack_into(b, i, dir_fd, &done, e);
	if (r < 0) {
		return r;
	}
	if (i > 0) {
		char work[sizeof(temp->text) + 8];

		(void)snprintf(work, sizeof(work), "%s/work", temp->text);
		r = sys_remove_tree(b->s->dir_fd, work);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "image store: %s", work);
		}
	}
	return store__layer_describe(b->s, temp, &(struct store_layer_doc){
		.chain_id = b->img->chain_ids[i], .parent = i ? b->img->chain_ids[i - 1] : NULL,
		.diff_id = done.diff_id, .bytes = done.bytes, .entries = done.entries,
		.devices = done.devices, .ids = (int)done.ids }, e);
}

int store__layer_publish(struct store *s, const struct store_path *temp, const char *chain_id,
			 struct err *e)
{
	int r = sys_renameat2(s->dir_fd, temp->text, s->dir_fd, store__layer_path(chain_id).text, 0);

	if (r == -EEXIST || r == -ENOTEMPTY) {
		/* Someone else unpacked the same layer meanwhile; theirs is as good. */
		r = sys_remove_tree(s->dir_fd, temp->text);
	}
	return r < 0 ? store__host_err(e, r, "image store: a new layer") : 0;
}

static int make_missing(struct batch *b, bool *ret_any, struct err *e)
{
	for (size_t i = 0; i < b->img->n_layers; i++) {
		int r;

		if (have_layer(b->s, b->img->chain_ids[i])) {
			r = b->fds[i] = store_layer_open(b->s, b->img->chain_ids[i], e);
		} else {
			*ret_any = true;
			r = make_layer(b, i, e);
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int publish(struct batch *b, struct err *e)
{
	int r = sys_syncfs(b->s->dir_fd);

	if (r < 0) {
		return store__host_err(e, r, "image store: sync of new layers");
	}
	for (size_t i = 0; r == 0 && i < b->img->n_layers; i++) {
		if (b->temps[i].text[0]) {
			r = store__layer_publish(b->s, &b->temps[i], b->img->chain_ids[i], e);
			if (r == 0) {
				b->temps[i].text[0] = '\0';
			}
		}
	}
	return r < 0 ? r : store__sync_folder(b->s, "layers", e);
}

int store_image_unpack(struct store *s, const struct store_image *img, store_progress_fn fn,
		       void *ud, struct err *e)
{
	if (store_image_unpacked(s, img)) {
		return 0;
	}
	struct batch b = { .s = s, .img = img, .fn = fn, .ud = ud };
	bool any = false;
	int r = store_use_begin(s, e);

	if (r < 0) {
		return r;
	}
	b.fds = mem_calloc(img->n_layers + 1, sizeof(*b.fds));
	b.temps = mem_calloc(img->n_layers + 1, sizeof(*b.temps));
	for (size_t i = 0; b.fds && i < img->n_layers; i++) {
		b.fds[i] = -1;
	}
	r = b.fds && b.temps ? make_missing(&b, &any, e) : err_nomem(e);
	if (r >= 0 && any) {
		r = publish(&b, e);
	}
	for (size_t i = 0; b.fds && i < img->n_layers; i++) {
		fd_close(&b.fds[i]);
		if (b.temps && b.temps[i].text[0]) {
			/* What stays, the next collection removes. */
			ignore_result(sys_remove_tree(s->dir_fd, b.temps[i].text));
		}
	}
	free(b.fds);
	free(b.temps);
	store_use_end(s);
	return r < 0 ? r : 0;
}
