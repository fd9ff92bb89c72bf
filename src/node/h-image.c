/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images. What is quick (names, documents) is done here on the store; what downloads, unpacks,
 * reads or writes archives is an operation: holm-image as a child, whose progress (JSON lines,
 * docs/formats/image-progress.md) becomes the operation's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "image/store.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/op.h"
#include "node/pull.h"
#include "node/work.h"
#include "sys/file.h"

/* --- Look --- */

struct image_view {
	const char  *id, *name, *digest, *media_type;
	uint64_t     added, size;
	const char  *created, *os, *architecture;
	bool         unpacked;
	struct jstrv names;
	json_t      *config, *manifest;
};

#define IN(m) offsetof(struct image_view, m)
#define COMMON \
	{ "id", JK_STR, IN(id), .flags = JF_REQUIRED, .doc = "digest of its config" }, \
	{ "name", JK_STR, IN(name), .doc = "one of its names" }, \
	{ "digest", JK_STR, IN(digest), .flags = JF_REQUIRED, .doc = "of its manifest" }, \
	{ "media_type", JK_STR, IN(media_type), .doc = "of its manifest" }, \
	{ "added", JK_TIME, IN(added), .doc = "to this store" }, \
	{ "created", JK_STR, IN(created), .doc = "as it says itself" }, \
	{ "os", JK_STR, IN(os), .doc = "that it is for" }, \
	{ "architecture", JK_STR, IN(architecture), .doc = "that it is for" }, \
	{ "size", JK_UINT, IN(size), .flags = JF_EMPTY, .doc = "bytes of its files, packed" }, \
	{ "unpacked", JK_BOOL, IN(unpacked), .flags = JF_EMPTY, .doc = "it can start at once" }
static const struct jfield summary_fields[] = { COMMON };
static const struct jfield detail_fields[] = {
	COMMON,
	{ "names", JK_STRV, IN(names), .doc = "all of its names" },
	{ "config", JK_RAW, IN(config), .doc = "OCI image config" },
	{ "manifest", JK_RAW, IN(manifest), .doc = "OCI image manifest" },
};
#undef IN
static const struct jtable summary_table = JTABLE("ImageSummary", struct image_view, summary_fields);
static const struct jtable detail_table = JTABLE("Image", struct image_view, detail_fields);

static int view_of(struct store *s, const struct store_entry *entry, struct arena *a,
		   struct image_view *ret, struct store_image *img, struct err *e)
{
	int r = store_image_load(s, entry->manifest, a, img, e);

	if (r < 0) {
		return r;
	}
	*ret = (struct image_view){
		.id = entry->id, .name = entry->name, .digest = entry->manifest,
		.media_type = entry->media_type, .added = entry->added_ns, .size = img->blob_bytes,
		.created = img->config.created, .os = img->config.os,
		.architecture = img->config.architecture, .unpacked = store_image_unpacked(s, img),
	};
	return 0;
}

static int h_list(struct api_call *c, struct err *e)
{
	struct store *s = NULL;
	struct store_entries all;
	auto_json json_t *doc = json_object();
	json_t *list = json_array();
	int r = doc && json_put(doc, "images", list) == 0 ? node_images(c->node, &s, e) :
		err_nomem(e);

	r = r < 0 ? r : store_image_list(s, &c->arena, &all, e);
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct image_view v;
		struct store_image img;

		r = view_of(s, &all.v[i], &a, &v, &img, e);
		if (r == 0 && json_array_append_new(list, jtable_format(&summary_table, &v)) < 0) {
			r = err_nomem(e);
		}
	}
	if (r == 0) {
		api_reply(c, take_ptr(&doc));
	}
	return r;
}

static int resolve(struct api_call *c, const char *name, struct store **s,
		   struct store_entry *entry, struct err *e)
{
	int r = node_images(c->node, s, e);

	return r < 0 ? r : store_image_resolve(*s, name, &c->arena, entry, e);
}

static int names_of(struct store *s, const char *manifest, struct arena *a, struct jstrv *ret,
		    struct err *e)
{
	struct store_entries all;
	int r = store_image_list(s, a, &all, e);

	ret->v = r < 0 ? NULL : arena_alloc(a, all.n + 1, sizeof(*ret->v));
	if (r == 0 && !ret->v) {
		r = err_nomem(e);
	}
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		if (all.v[i].name && str_eq(all.v[i].manifest, manifest)) {
			ret->v[ret->n++] = all.v[i].name;
		}
	}
	return r;
}

static int reply_image(struct api_call *c, const char *name, struct err *e)
{
	struct store *s = NULL;
	struct store_entry entry;
	struct store_image img;
	struct image_view v;
	int r = resolve(c, name, &s, &entry, e);

	r = r < 0 ? r : view_of(s, &entry, &c->arena, &v, &img, e);
	r = r < 0 ? r : names_of(s, entry.manifest, &c->arena, &v.names, e);
	if (r < 0) {
		return r;
	}
	v.config = json_loadb(img.config_text, img.config_len, 0, NULL);
	v.manifest = json_loadb(img.manifest_text, img.manifest_len, 0, NULL);
	json_t *reply = jtable_format(&detail_table, &v);

	json_decref(v.config);
	json_decref(v.manifest);
	api_reply(c, reply);
	return 0;
}

static int h_get(struct api_call *c, struct err *e)
{
	return reply_image(c, c->params[0], e);
}

static int h_history(struct api_call *c, struct err *e)
{
	struct store *s = NULL;
	struct store_entry entry;
	struct store_image img;
	auto_json json_t *doc = json_object();
	json_t *list = json_array();
	size_t layer = 0;
	int r = doc && json_put(doc, "history", list) == 0 ? resolve(c, c->params[0], &s, &entry, e) :
		err_nomem(e);

	r = r < 0 ? r : store_image_load(s, entry.manifest, &c->arena, &img, e);
	for (size_t i = 0; r == 0 && i < img.config.history.n; i++) {
		const struct oci_history *h = (const struct oci_history *)img.config.history.v + i;
		uint64_t size = 0;

		if (!h->empty_layer && layer < img.manifest.layers.n) {
			size = oci_layer(&img.manifest, layer++)->size;
		}
		json_t *row = json_pack("{s:s*,s:s*,s:s*,s:s*,s:b,s:I}", "created", h->created,
					"created_by", h->created_by, "author", h->author, "comment",
					h->comment, "empty_layer", (int)h->empty_layer, "size",
					(json_int_t)size);

		r = json_array_append_new(list, row) < 0 ? err_nomem(e) : 0;
	}
	if (r == 0) {
		api_reply(c, take_ptr(&doc));
	}
	return r;
}

/* --- Names --- */

struct tag_in {
	const char *name;
};

static const struct jfield tag_fields[] = {
	{ "name", JK_STR, offsetof(struct tag_in, name), .flags = JF_REQUIRED, .min = 1, .max = 512,
	  .doc = "the further name" },
};
static const struct jtable tag_table = JTABLE("Tag", struct tag_in, tag_fields);

static int h_tag(struct api_call *c, struct err *e)
{
	const struct tag_in *in = c->body;
	struct store *s = NULL;
	int r = node_images(c->node, &s, e);

	r = r < 0 ? r : store_image_tag(s, c->params[0], in->name, e);
	if (r < 0) {
		return r;
	}
	node_event(c->node, "image", "tag", c->params[0], in->name, NULL);
	return reply_image(c, in->name, e);
}

struct rm_query {
	bool force;
};

static const struct jfield rm_fields[] = {
	{ "force", JK_BOOL, offsetof(struct rm_query, force),
	  .doc = "also one that instances use: it goes with the last of them" },
};
static const struct jtable rm_table = JTABLE("ImageRemoveQuery", struct rm_query, rm_fields);

static json_t *strings(const struct strv *v)
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->n; i++) {
		json_array_append_new(list, json_string(v->v[i]));
	}
	return list;
}

static int h_remove(struct api_call *c, struct err *e)
{
	const struct rm_query *q = c->query;
	struct store *s = NULL;
	struct store_removed removed = { .untagged = STRV_INIT, .deleted = STRV_INIT };
	int r = node_images(c->node, &s, e);

	r = r < 0 ? r : store_image_remove(s, c->params[0], q->force ? STORE_FORCE : 0, &removed, e);
	if (r == 0) {
		node_event(c->node, "image", "remove", c->params[0], c->params[0], NULL);
		api_reply(c, json_pack("{s:o,s:o}", "untagged", strings(&removed.untagged),
				       "deleted", strings(&removed.deleted)));
	}
	store_removed_fini(&removed);
	return r;
}

/* --- Operations: holm-image as a child --- */

struct image_op {
	struct op       *op;
	struct work     *work;
	struct api_call *upload;     /* who sends the archive; NULL: nobody, or all is there */
	struct strv      args;       /* of holm-image */
	struct buf       line;
	json_t          *images;     /* {"name","digest"} as they came */
	struct err       err;        /* that it told */
	bool             stopping;
};

/* In the child: from a fork of the daemon to holm-image. */
static int run_holm_image(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct image_op *io = ud;
	static const char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
					   "/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", NULL };
	int null_fd = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);

	if (null_fd < 0 || dup2(in_fd >= 0 ? in_fd : null_fd, 0) < 0 || dup2(null_fd, 1) < 0 ||
	    dup2(out_fd, 3) < 0) {
		return err_set(e, errno, ERR_HOST, "descriptors of holm-image");
	}
	execve(io->args.v[0], io->args.v, (char *const *)(uintptr_t)env);
	return err_set(e, errno, ERR_HOST, "start %s", io->args.v[0]);
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static void on_line(struct image_op *io, const char *line, size_t len)
{
	json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *type = text_of(j, "type");

	if (str_eq(type, "image")) {
		json_array_append(io->images, j);
	} else if (str_eq(type, "error")) {
		enum err_code code = err_code_parse(text_of(j, "code"));

		ignore_result(err_set(&io->err, EIO, code < ERR__COUNT ? code : ERR_HOST, "%s",
				      text_of(j, "message")[0] ? text_of(j, "message") :
				      "holm-image failed"));
		/* told at the end */
	}
	if (j) {
		op_progress(io->op, j);
	}
}

static bool on_data(void *ud, const void *data, size_t n)
{
	struct image_op *io = ud;
	const char *nl;

	buf_add(&io->line, data, n);
	while (io->line.len && (nl = memchr(io->line.data, '\n', io->line.len))) {
		size_t len = (size_t)(nl - io->line.data);

		on_line(io, io->line.data, len);
		buf_drop(&io->line, len + 1);
	}
	if (io->line.len > 65536) {
		buf_reset(&io->line); /* not a line of ours */
	}
	return true;
}

static void image_op_free(struct image_op *io)
{
	strv_fini(&io->args);
	buf_fini(&io->line);
	json_decref(io->images);
	free(io);
}

static void release(struct op *op)
{
	struct image_op *io = op->ud;

	if (io->work) {
		work_cancel(io->work);
	}
	if (io->upload) {
		io->upload->cancel = NULL;
	}
	image_op_free(io);
}

static void end_upload(struct image_op *io)
{
	struct api_call *c = io->upload;

	io->upload = NULL;
	if (c && !c->answered) {
		c->cancel = NULL;
		api_reply(c, op_json(io->op));
	}
}

static json_t *result_of(const struct image_op *io)
{
	json_t *first = json_array_get(io->images, 0);
	json_t *r = json_pack("{s:O}", "images", io->images);

	if (r && first) {
		ignore_result(json_put(r, "name", json_string(text_of(first, "name"))));
		ignore_result(json_put(r, "digest", json_string(text_of(first, "digest"))));
		/* both are in "images" too */
	}
	return r;
}

static void on_done(void *ud, const struct buf *result, const struct err *e)
{
	struct image_op *io = ud;
	struct op *op = io->op;

	(void)result;
	io->work = NULL;
	end_upload(io);
	if (e) {
		op_end(op, NULL, io->err.errnum ? &io->err : e);
	} else {
		op_end(op, result_of(io), NULL);
		node_event(op->node, str_after(op->action, "kernel.") ? "kernel" : "image", strchr(op->action, '.') + 1, op->target, op->target, NULL);
	}
}

static void cancel(struct op *op)
{
	struct image_op *io = op->ud;
	struct err e = ERR_INIT;

	if (io->work) {
		work_cancel(io->work);
		io->work = NULL;
		end_upload(io);
		ignore_result(err_set(&e, ECANCELED, ERR_CONFLICT, "cancelled")); /* for op_end() */
		op_end(op, NULL, &e);
	}
}

/* The upload's client went: so does the operation. */
static void on_upload_gone(struct api_call *c)
{
	struct op *op = c->ud;
	struct image_op *io = op->ud;
	struct err e = ERR_INIT;

	io->upload = NULL;
	ignore_result(op_cancel(op, &e)); /* it may just have ended */
}

static void upload_writable(void *ud)
{
	struct image_op *io = ud;

	if (io->upload) {
		http_body_resume(io->upload->req);
	}
}

static size_t on_upload(struct http_req *r, const void *data, size_t n, void *ud)
{
	struct op *op = ud;
	struct image_op *io = op->ud;

	(void)r;
	if (n == 0) {
		if (io->work) {
			work_input_end(io->work);
		}
		end_upload(io);
		return 0;
	}
	return io->work ? work_input(io->work, data, n, upload_writable) : n;
}

static int add_arg(struct image_op *io, const char *option, const char *value)
{
	return !value ? 0 : option ? strv_addf(&io->args, "--%s=%s", option, value) :
	       strv_add(&io->args, value);
}

static int add_flag(struct image_op *io, const char *option, bool value)
{
	return value ? strv_addf(&io->args, "--%s", option) : 0;
}

static int image_op_new_for(struct node *n, const char *action, const char *target,
			    struct image_op **ret, struct err *e)
{
	struct image_op *io = mem_new(struct image_op);
	const struct node_conf *conf = &n->conf;

	if (!io) {
		return err_nomem(e);
	}
	io->images = json_array();
	if (!io->images || strv_add(&io->args, conf->image) < 0 ||
	    strv_addf(&io->args, "--store=%s/images", conf->state_dir) < 0 ||
	    strv_add(&io->args, "--progress-fd=3") < 0 ||
	    (str_after(action, "kernel.") && strv_add(&io->args, "kernel") < 0) ||
	    strv_add(&io->args, strchr(action, '.') + 1) < 0) {
		image_op_free(io);
		return err_nomem(e);
	}
	int r = op_new(n, action, target, 0, &io->op, e);

	if (r < 0) {
		image_op_free(io);
		return r;
	}
	io->op->ud = io;
	io->op->release = release;
	io->op->cancel = cancel;
	*ret = io;
	return 0;
}

static int image_op_new(struct api_call *c, const char *target, struct image_op **ret,
			struct err *e)
{
	return image_op_new_for(c->node, c->route->action, target, ret, e);
}

/* `r`: of adding the arguments. An operation that cannot begin has failed. */
static int image_op_begin(struct node *n, struct image_op *io, int r, bool upload, struct err *e)
{
	struct work_spec spec = { .run = run_holm_image, .run_ud = io, .input = upload,
				  .data = on_data, .done = on_done, .ud = io };

	r = r < 0 ? err_nomem(e) : work_start(n->loop, &spec, &io->work, e);
	if (r < 0) {
		op_end(io->op, NULL, e);
	}
	return r;
}

static int image_op_go(struct api_call *c, struct image_op *io, int r, bool upload, struct err *e)
{
	r = image_op_begin(c->node, io, r, upload, e);
	if (r < 0) {
		return r;
	}
	if (upload) {
		io->upload = c;
		c->ud = io->op;
		c->cancel = on_upload_gone;
		http_on_data(c->req, on_upload, io->op);
	} else {
		api_reply(c, op_json(io->op));
	}
	return 0;
}

#define IN(m) offsetof(struct pull_in, m)
#define REGISTRY_FIELDS \
	{ "plain_http", JK_BOOL, IN(plain_http), .doc = "speak to the registry without TLS" }, \
	{ "tls_no_verify", JK_BOOL, IN(no_verify), .doc = "take any certificate" }, \
	{ "authfile", JK_PATH, IN(authfile), .doc = "credentials; default ~/.docker/config.json" }
static const struct jfield pull_fields[] = {
	{ "reference", JK_STR, IN(reference), .flags = JF_REQUIRED, .min = 1, .max = 512,
	  .doc = "name of the image" },
	{ "platform", JK_STR, IN(platform), .min = 1, .max = 64, .doc = "linux/arm64; default: host's" },
	REGISTRY_FIELDS,
};
static const struct jfield push_fields[] = {
	{ "image", JK_STR, IN(image), .flags = JF_REQUIRED, .min = 1, .max = 512,
	  .doc = "name or id of the image" },
	{ "reference", JK_STR, IN(reference), .min = 1, .max = 512,
	  .doc = "name in the registry; default: its own" },
	REGISTRY_FIELDS,
};
#undef IN
static const struct jtable pull_table = JTABLE("Pull", struct pull_in, pull_fields);
static const struct jtable push_table = JTABLE("Push", struct pull_in, push_fields);

/* What comes from a client never becomes an option. */
static int check_word(const char *s, const char *field, struct err *e)
{
	return s && s[0] == '-' ? err_field(e, field, "must not begin with '-'") : 0;
}

static int registry_args(struct image_op *io, const struct pull_in *in)
{
	int r = add_flag(io, "plain-http", in->plain_http);

	r = r < 0 ? r : add_flag(io, "tls-no-verify", in->no_verify);
	return r < 0 ? r : add_arg(io, "authfile", in->authfile);
}

int pull_start(struct node *n, const struct pull_in *in, struct op **ret, struct err *e)
{
	struct image_op *io = NULL;
	int r = check_word(in->reference, "/reference", e);

	r = r < 0 ? r : image_op_new_for(n, "image.pull", in->reference, &io, e);
	if (r < 0) {
		return r;
	}
	r = registry_args(io, in);
	r = r < 0 ? r : add_flag(io, "unpack", true);
	r = r < 0 ? r : add_arg(io, "platform", in->platform);
	r = r < 0 ? r : add_arg(io, NULL, in->reference);
	r = image_op_begin(n, io, r, false, e);
	*ret = io->op;
	return r;
}

static int h_pull(struct api_call *c, struct err *e)
{
	struct op *op = NULL;
	int r = pull_start(c->node, c->body, &op, e);

	if (r == 0) {
		api_reply(c, op_json(op));
	}
	return r;
}

static int h_push(struct api_call *c, struct err *e)
{
	const struct pull_in *in = c->body;
	struct image_op *io = NULL;
	int r = check_word(in->image, "/image", e);

	r = r < 0 ? r : check_word(in->reference, "/reference", e);
	r = r < 0 ? r : image_op_new(c, in->image, &io, e);
	if (r < 0) {
		return r;
	}
	r = registry_args(io, in);
	r = r < 0 ? r : add_arg(io, NULL, in->image);
	r = r < 0 || !in->reference || str_eq(in->reference, in->image) ? r :
	    add_arg(io, NULL, in->reference);
	return image_op_go(c, io, r, false, e);
}

struct bootstrap_in {
	const char  *distribution, *name, *variant, *mirror;
	struct jstrv include;
};

#define IN(m) offsetof(struct bootstrap_in, m)
static const struct jfield bootstrap_fields[] = {
	{ "distribution", JK_STR, IN(distribution), .flags = JF_REQUIRED, .min = 1, .max = 64,
	  .doc = "debian, or debian:SUITE" },
	{ "name", JK_STR, IN(name), .min = 1, .max = 512, .doc = "of the image" },
	{ "variant", JK_STR, IN(variant), .min = 1, .max = 32, .doc = "of mmdebstrap: minbase ..." },
	{ "mirror", JK_STR, IN(mirror), .min = 1, .max = 512, .doc = "where packages come from" },
	{ "include", JK_STRV, IN(include), .doc = "further packages" },
};
#undef IN
static const struct jtable bootstrap_table =
	JTABLE("Bootstrap", struct bootstrap_in, bootstrap_fields);

static int h_bootstrap(struct api_call *c, struct err *e)
{
	const struct bootstrap_in *in = c->body;
	struct image_op *io = NULL;
	int r = check_word(in->distribution, "/distribution", e);

	r = r < 0 ? r : image_op_new(c, in->name ? in->name : in->distribution, &io, e);
	if (r < 0) {
		return r;
	}
	r = add_flag(io, "unpack", true);
	r = r < 0 ? r : add_arg(io, "name", in->name);
	r = r < 0 ? r : add_arg(io, "variant", in->variant);
	r = r < 0 ? r : add_arg(io, "mirror", in->mirror);
	for (size_t i = 0; r == 0 && i < in->include.n; i++) {
		r = add_arg(io, "include", in->include.v[i]);
	}
	r = r < 0 ? r : add_arg(io, NULL, in->distribution);
	return image_op_go(c, io, r, false, e);
}

struct load_query {
	const char *name;
};

static const struct jfield load_fields[] = {
	{ "name", JK_STR, offsetof(struct load_query, name), .min = 1, .max = 512,
	  .doc = "of the image" },
};
static const struct jtable load_table = JTABLE("LoadQuery", struct load_query, load_fields);

static int h_load(struct api_call *c, struct err *e)
{
	const struct load_query *q = c->query;
	struct image_op *io = NULL;
	bool import = str_eq(c->route->action, "image.import");
	int r = check_word(q->name, "/name", e);

	r = r < 0 ? r : image_op_new(c, q->name, &io, e);
	if (r < 0) {
		return r;
	}
	r = add_flag(io, "unpack", true);
	r = r < 0 || import ? r : add_arg(io, "name", q->name);
	r = r < 0 ? r : add_arg(io, NULL, "-");
	r = r < 0 || !import ? r : add_arg(io, NULL, q->name);
	return image_op_go(c, io, r, true, e);
}

static int h_kernel_import(struct api_call *c, struct err *e)
{
	const struct load_query *q = c->query;
	struct image_op *io = NULL;
	int r = check_word(q->name, "/name", e);

	r = r < 0 ? r : image_op_new(c, q->name ? q->name : "kernel", &io, e);
	if (r < 0) {
		return r;
	}
	r = strv_addf(&io->args, "--kernels=%s/kernels", c->node->conf.state_dir);
	r = r < 0 ? r : add_arg(io, "name", q->name);
	r = r < 0 ? r : add_arg(io, NULL, "-");
	return image_op_go(c, io, r, true, e);
}

struct prune_in {
	bool all;
};

static const struct jfield prune_fields[] = {
	{ "all", JK_BOOL, offsetof(struct prune_in, all), .doc = "also those with a name" },
};
static const struct jtable prune_table = JTABLE("Prune", struct prune_in, prune_fields);

/* Collecting can take long and waits for others: in a child. */
static int prune_child(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct api_call *c = ud;
	const struct prune_in *in = c->body;
	auto_free char *path = str_printf("%s/images", c->node->conf.state_dir);
	auto_store struct store *s = NULL;
	struct store_removed removed = { .untagged = STRV_INIT, .deleted = STRV_INIT };
	struct store_gc_result gc = { .bytes = 0 };
	int r = path ? store_open(path, STORE_CREATE, &s, e) : err_nomem(e);

	(void)in_fd;
	r = r < 0 ? r : store_prune(s, in->all, &removed, &gc, e);
	auto_json json_t *j = r < 0 ? NULL :
			      json_pack("{s:o,s:o,s:I,s:I,s:I}", "removed", strings(&removed.deleted),
					"untagged", strings(&removed.untagged), "bytes",
					(json_int_t)gc.bytes, "blobs", (json_int_t)gc.blobs, "layers",
					(json_int_t)gc.layers);
	auto_free char *text = j ? json_text(j) : NULL;

	store_removed_fini(&removed);
	if (r < 0) {
		return r;
	}
	r = text ? sys_write_full(out_fd, text, strlen(text)) : -ENOMEM;
	return r < 0 ? err_set(e, -r, ERR_HOST, "a pipe") : 0;
}

static void on_pruned(void *ud, const struct buf *result, const struct err *err)
{
	struct api_call *c = take_call(ud);
	struct err e = ERR_INIT;
	json_t *doc = NULL;

	if (!c) {
		return;
	}
	if (err || json_parse(buf_str(result), result->len, &json_limits_document, "the result",
			      &doc, &e) < 0) {
		api_fail(c, err ? err : &e);
	} else {
		api_reply(c, doc);
	}
}

static int h_prune(struct api_call *c, struct err *e)
{
	struct held_call *h = hold_call(c, e);
	struct work_spec spec = { .run = prune_child, .run_ud = c, .done = on_pruned, .ud = h };
	struct work *w = NULL;
	int r = h ? work_start(c->node->loop, &spec, &w, e) : -ENOMEM;

	if (h && r < 0) {
		take_call(h);
	}
	return r;
}

/* --- Save: the archive is the answer --- */

static const char *const format_names[] = { "oci-archive", "docker-archive", NULL };

struct save_query {
	struct jstrv names;
	int          format;
};

#define IN(m) offsetof(struct save_query, m)
static const struct jfield save_fields[] = {
	{ "name", JK_STRV, IN(names), .flags = JF_REQUIRED, .doc = "image; given once for each" },
	{ "format", JK_ENUM, IN(format), .names = format_names, .doc = "of the archive" },
};
#undef IN
static const struct jtable save_table = JTABLE("SaveQuery", struct save_query, save_fields);

struct save_job {
	struct api_call *call;
	struct work     *work;
	struct strv      args;
};

static int run_save(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct save_job *job = ud;
	static const char *const env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL };

	(void)in_fd;
	if (dup2(out_fd, 1) < 0) {
		return err_set(e, errno, ERR_HOST, "descriptors of holm-image");
	}
	execve(job->args.v[0], job->args.v, (char *const *)(uintptr_t)env);
	return err_set(e, errno, ERR_HOST, "start %s", job->args.v[0]);
}

static void save_free(struct save_job *job)
{
	if (job->call) {
		job->call->cancel = NULL;
	}
	strv_fini(&job->args);
	free(job);
}

static void on_save_gone(struct api_call *c)
{
	struct save_job *job = c->ud;

	job->call = NULL;
	work_cancel(job->work);
	save_free(job);
}

static bool on_save_data(void *ud, const void *data, size_t n)
{
	struct save_job *job = ud;

	if (api_write(job->call, data, n) < 0) {
		http_abort(job->call->req); /* on_save_gone() follows */
		return false;
	}
	return http_waiting(job->call->req) < 256 * 1024;
}

static void on_save_drained(struct api_call *c)
{
	work_resume(((struct save_job *)c->ud)->work);
}

static void on_saved(void *ud, const struct buf *result, const struct err *e)
{
	struct save_job *job = ud;
	struct api_call *c = job->call;

	(void)result;
	save_free(job);
	if (e) {
		log_err(LOG_LEVEL_WARN, e);
		api_abort(c);
	} else {
		api_end(c);
	}
}

static int save_args(struct api_call *c, struct strv *v, struct err *e)
{
	const struct save_query *q = c->query;
	struct store *s = NULL;
	struct store_entry entry;
	int r = strv_add(v, c->node->conf.image);

	r = r < 0 ? r : strv_addf(v, "--store=%s/images", c->node->conf.state_dir);
	r = r < 0 ? r : strv_add(v, "--quiet");
	r = r < 0 ? r : strv_add(v, "save");
	r = r < 0 ? r : strv_addf(v, "--format=%s", q->format ? "docker" : "oci");
	r = r < 0 ? err_nomem(e) : 0;
	for (size_t i = 0; r == 0 && i < q->names.n; i++) {
		r = resolve(c, q->names.v[i], &s, &entry, e);
		r = r < 0 ? r : check_word(q->names.v[i], "/name", e);
		r = r < 0 ? r : strv_add(v, q->names.v[i]) < 0 ? err_nomem(e) : 0;
	}
	return r;
}

static int h_save(struct api_call *c, struct err *e)
{
	struct save_job *job = mem_new(struct save_job);
	int r = job ? save_args(c, &job->args, e) : err_nomem(e);
	struct work_spec spec = { .run = run_save, .run_ud = job, .data = on_save_data,
				  .done = on_saved, .ud = job };

	r = r < 0 ? r : work_start(c->node->loop, &spec, &job->work, e);
	if (r < 0) {
		if (job) {
			save_free(job);
		}
		return r;
	}
	job->call = c;
	c->ud = job;
	c->cancel = on_save_gone;
	c->drained = on_save_drained;
	api_stream(c);
	return 0;
}

#define TAR "application/x-tar"
static const struct api_route routes[] = {
	{ "GET", "/v1/images", "image.list", 0, h_list,
	  .doc = "The images of this host: {\"images\": [ImageSummary ...]}." },
	{ "POST", "/v1/images/pull", "image.pull", API_ACCEPTED, h_pull, .body = &pull_table,
	  .reply = &op_table, .doc = "Fetch an image from a registry and unpack it." },
	{ "POST", "/v1/images/push", "image.push", API_ACCEPTED, h_push, .body = &push_table,
	  .reply = &op_table, .doc = "Send an image to a registry." },
	{ "POST", "/v1/images/bootstrap", "image.bootstrap", API_ACCEPTED, h_bootstrap,
	  .body = &bootstrap_table, .reply = &op_table, .doc = "Make an image with mmdebstrap." },
	{ "POST", "/v1/images/load", "image.load", API_ACCEPTED | API_BODY_STREAM, h_load,
	  .query = &load_table, .reply = &op_table, .consumes = TAR,
	  .doc = "Add the images of an archive (OCI layout, docker-archive)." },
	{ "POST", "/v1/images/import", "image.import", API_ACCEPTED | API_BODY_STREAM, h_load,
	  .query = &load_table, .reply = &op_table, .consumes = TAR,
	  .doc = "Make an image from a tar of a root file system." },
	{ "POST", "/v1/kernels/import", "kernel.import", API_ACCEPTED | API_BODY_STREAM,
	  h_kernel_import, .query = &load_table, .reply = &op_table, .consumes = "application/octet-stream",
	  .doc = "Add a kernel for virtual machines: a package of Debian, or a bare kernel." },
	{ "GET", "/v1/images/save", "image.save", API_STREAM, h_save, .query = &save_table,
	  .produces = TAR, .doc = "Images as an archive." },
	{ "POST", "/v1/images/prune", "image.prune", 0, h_prune, .body = &prune_table,
	  .doc = "Remove images that nothing uses: {\"removed\": [...], \"bytes\": n}." },
	{ "GET", "/v1/images/{name}", "image.get", 0, h_get, .reply = &detail_table,
	  .doc = "All about one image." },
	{ "DELETE", "/v1/images/{name}", "image.remove", 0, h_remove, .query = &rm_table,
	  .doc = "Take a name away, and an image with its last." },
	{ "POST", "/v1/images/{name}/tag", "image.tag", 0, h_tag, .body = &tag_table,
	  .reply = &detail_table, .doc = "Give it one more name." },
	{ "GET", "/v1/images/{name}/history", "image.history", 0, h_history,
	  .doc = "How it came to be: {\"history\": [...]}." },
};
const struct api_routes image_routes = { routes, ARRAY_LEN(routes) };
