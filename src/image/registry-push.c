/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushing. Blobs go up one after the other, then the manifest. For each blob: is it there?
 * can it be mounted from a repository of the same registry? else it is uploaded, a large one
 * in parts, so that a broken connection costs one part.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "image/registry-private.h"

enum { CHUNK = 32 << 20, UPLOAD_TRIES = 5 };

/* What the child pushes. Prepared by the parent from checked documents of the store. */
struct push_blob {
	const struct oci_desc *desc;
	const char            *what;
	bool                   in_from;   /* the other repository has it too */
};

struct push {
	struct store       *store;
	struct push_blob   *blobs;
	size_t              n;
	const char         *manifest_text;
	size_t              manifest_len;
	const char         *manifest_digest;
	const char         *media_type;
};

/* One upload on its way. */
struct upload {
	struct registry  *g;
	struct push_blob *blob;
	int               fd;
	char             *url;       /* where the next bytes go */
	bool              mounted;
};

/* The reply's Location as the next address. */
static int take_location(struct upload *u, const struct http_req *q, const char *base,
			 struct err *e)
{
	char *next = q->location[0] ? http_resolve(base, q->location) : NULL;

	if (!next) {
		return err_set(e, EBADMSG, ERR_HOST, "%s: %s does not say where to upload",
			       u->blob->desc->digest, u->g->host);
	}
	if (http_is_plain(next) && !u->g->job->plain) {
		free(next);
		return err_set(e, EPROTO, ERR_DENIED, "%s: the registry sends us to an unencrypted "
			       "address", u->blob->desc->digest);
	}
	free(u->url);
	u->url = next;
	return 0;
}

static int start_upload(struct upload *u, struct err *e)
{
	struct registry *g = u->g;
	const char *from = u->blob->in_from ? g->job->scope_from : NULL;
	auto_free char *escaped = from ? http_escape(from) : NULL;
	auto_free char *url = from ?
		registry__url(g, "%s/blobs/uploads/?mount=%s&from=%s", g->job->ref.path,
			      u->blob->desc->digest, escaped ? escaped : "") :
		registry__url(g, "%s/blobs/uploads/", g->job->ref.path);
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "POST", .url = url, .send_fd = -1,
				     .what = u->blob->desc->digest };

	if (!url || (from && !escaped)) {
		return err_nomem(e);
	}

	int r = registry__do(g, &ask, &q, e);

	if (r < 0) {
		return r;
	}
	u->mounted = q->status == 201;
	return u->mounted ? 0 : take_location(u, q, url, e);
}

/* The address with the digest that ends an upload. */
static char *closing_url(const struct upload *u)
{
	return str_printf("%s%sdigest=%s", u->url, strchr(u->url, '?') ? "&" : "?",
			  u->blob->desc->digest);
}

static int put_whole(struct upload *u, struct err *e)
{
	auto_free char *url = closing_url(u);
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = {
		.method = "PUT", .url = url, .send_fd = u->fd, .send = NULL,
		.send_bytes = u->blob->desc->size, .what = u->blob->desc->digest, .no_retry = true,
		.header = "Content-Type: application/octet-stream",
	};

	return url ? registry__do(u->g, &ask, &q, e) : err_nomem(e);
}

/* How far the registry has come, after a part failed. */
static int ask_offset(struct upload *u, uint64_t *ret, struct err *e)
{
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "GET", .url = u->url, .send_fd = -1,
				     .what = u->blob->desc->digest };
	unsigned long long last = 0;
	int r = registry__do(u->g, &ask, &q, e);

	if (r < 0) {
		return r;
	}
	if (sscanf(q->range, "0-%llu", &last) != 1 &&
	    sscanf(q->range, "bytes=0-%llu", &last) != 1) {
		last = 0;
	}
	*ret = last > 0 ? last + 1 : 0;
	return q->location[0] ? take_location(u, q, u->url, e) : 0;
}

static int put_part(struct upload *u, uint64_t off, uint64_t n, struct err *e)
{
	char range[80];
	auto_http_req struct http_req *q = NULL;
	auto_free char *url = str_dup(u->url);
	struct registry__ask ask = {
		.method = "PATCH", .url = url, .send_fd = u->fd, .send_off = off, .send_bytes = n,
		.what = u->blob->desc->digest, .no_retry = true, .header = range,
		.header2 = "Content-Type: application/octet-stream",
	};

	snprintf(range, sizeof(range), "Content-Range: %llu-%llu", (unsigned long long)off,
		 (unsigned long long)(off + n - 1));
	u->g->item_base = off;

	int r = url ? registry__do(u->g, &ask, &q, e) : err_nomem(e);

	return r < 0 ? r : take_location(u, q, url, e);
}

/* In parts; a part that fails is tried again from where the registry stands. */
static int put_parts(struct upload *u, uint64_t chunk, struct err *e)
{
	uint64_t size = u->blob->desc->size, off = 0;
	unsigned failures = 0;

	while (off < size) {
		uint64_t n = MIN(chunk, size - off);
		int r = put_part(u, off, n, e);

		if (r == 0) {
			off += n;
			failures = 0;
			continue;
		}
		if (e->code != ERR_UNAVAILABLE || ++failures > UPLOAD_TRIES) {
			return r;
		}

		uint64_t at;

		err_clear(e);
		r = ask_offset(u, &at, e);
		if (r < 0) {
			return r;
		}
		off = MIN(at, size);
	}

	auto_free char *url = closing_url(u);
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "PUT", .url = url, .send_fd = -1,
				     .what = u->blob->desc->digest };

	return url ? registry__do(u->g, &ask, &q, e) : err_nomem(e);
}

static int blob_there(struct registry *g, const struct push_blob *b, struct err *e)
{
	auto_free char *url = registry__url(g, "%s/blobs/%s", g->job->ref.path, b->desc->digest);
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "HEAD", .url = url, .send_fd = -1, .fine = 404,
				     .what = b->desc->digest };
	int r = url ? registry__do(g, &ask, &q, e) : err_nomem(e);

	return r < 0 ? r : q->status == 200;
}

static int upload(struct upload *u, struct err *e)
{
	uint64_t chunk = u->g->job->conf.chunk_bytes ? u->g->job->conf.chunk_bytes : CHUNK;
	int r = 0;

	for (unsigned t = 0; t < UPLOAD_TRIES; t++) {
		err_clear(e);
		u->g->item_base = 0;
		r = start_upload(u, e);
		if (r < 0 || u->mounted) {
			return r;
		}
		r = u->blob->desc->size <= chunk ? put_whole(u, e) : put_parts(u, chunk, e);
		if (r == 0 || (e->code != ERR_UNAVAILABLE && e->code != ERR_NOT_FOUND)) {
			return r;
		}

		/* It may have arrived, and only the answer was lost: then the upload is gone. */
		struct err why = ERR_INIT;

		if (blob_there(u->g, u->blob, &why) > 0) {
			return 0;
		}
	}
	return r;
}

static int push_blob(struct registry *g, struct push_blob *b, struct err *e)
{
	struct upload u = { .g = g, .blob = b, .fd = -1 };
	enum progress_state end = PROGRESS_DONE;
	int r = worker_item(g->w, b->desc->digest, b->what, b->desc->size, &g->item, e);

	r = r < 0 ? r : blob_there(g, b, e);
	if (r > 0) {
		return worker_set(g->w, g->item, PROGRESS_EXISTS, b->desc->size, e);
	}
	if (r == 0) {
		r = u.fd = worker_open(g->w, b->desc->digest, NULL, e);
	}
	g->has_item = true;
	r = r < 0 ? r : upload(&u, e);
	g->has_item = false;
	end = u.mounted ? PROGRESS_MOUNTED : PROGRESS_DONE;
	fd_close(&u.fd);
	free(u.url);
	return r < 0 ? err_wrap(e, "push") : worker_set(g->w, g->item, end, b->desc->size, e);
}

static int push_manifest(struct registry *g, const struct push *p, struct err *e)
{
	const struct ref *ref = &g->job->ref;
	auto_free char *url = registry__url(g, "%s/manifests/%s", ref->path,
					    ref->tag[0] ? ref->tag : p->manifest_digest);
	auto_free char *type = str_printf("Content-Type: %s", p->media_type);
	auto_http_req struct http_req *q = NULL;
	struct ref_text name = ref_format(ref);
	struct registry__ask ask = { .method = "PUT", .url = url, .header = type, .what = name.text,
				     .send = p->manifest_text, .send_bytes = p->manifest_len,
				     .send_fd = -1 };

	return url && type ? registry__do(g, &ask, &q, e) : err_nomem(e);
}

static int push_main(struct worker *w, void *job_, struct err *e)
{
	const struct registry__job *job = job_;
	const struct push *p = job->more;
	struct registry g;
	int r = registry__open(&g, w, job, "pull,push", e);

	for (size_t i = 0; r == 0 && i < p->n; i++) {
		r = push_blob(&g, &p->blobs[i], e);
	}
	r = r < 0 ? r : push_manifest(&g, p, e);
	registry__close(&g);
	return r;
}

/* The parent: open a blob of the image that is pushed, and of no other. */
static int open_blob(const char *name, uint64_t *ret_size, void *ud, struct err *e)
{
	const struct push *p = ud;

	for (size_t i = 0; i < p->n; i++) {
		if (str_eq(p->blobs[i].desc->digest, name)) {
			return store_blob_open(p->store, name, ret_size, e);
		}
	}
	return err_set(e, EACCES, ERR_DENIED, "not a blob of this image");
}

/* A repository of the same registry whose image shares layers: they can be mounted. */
static const char *find_from(struct push *p, const struct ref *to, struct arena *a)
{
	struct store_entries list;
	struct err ignored = ERR_INIT;

	if (store_image_list(p->store, a, &list, &ignored) < 0) {
		return NULL;
	}
	for (size_t i = 0; i < list.n; i++) {
		struct store_image img;
		struct ref ref;
		bool some = false;

		if (!list.v[i].name || ref_parse(list.v[i].name, &ref, &ignored) < 0 ||
		    !str_eq(ref.host, to->host) || str_eq(ref.path, to->path) ||
		    store_image_load(p->store, list.v[i].manifest, a, &img, &ignored) < 0) {
			continue;
		}
		for (size_t k = 0; k < p->n; k++) {
			for (size_t l = 0; l < img.manifest.layers.n; l++) {
				if (str_eq(oci_layer(&img.manifest, l)->digest,
					   p->blobs[k].desc->digest)) {
					p->blobs[k].in_from = some = true;
				}
			}
		}
		if (some) {
			return arena_strdup(a, ref.path);
		}
	}
	return NULL;
}

static int list_blobs(struct push *p, const struct store_image *img, struct arena *a)
{
	p->n = 0;
	p->blobs = arena_alloc(a, img->manifest.layers.n + 1, sizeof(*p->blobs));
	if (!p->blobs) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < img->manifest.layers.n; i++) {
		const struct oci_desc *d = oci_layer(&img->manifest, i);
		bool twice = false;

		for (size_t k = 0; k < p->n; k++) {
			twice = twice || str_eq(p->blobs[k].desc->digest, d->digest);
		}
		if (!twice) {
			p->blobs[p->n++] = (struct push_blob){ .desc = d, .what = "layer" };
		}
	}
	p->blobs[p->n++] = (struct push_blob){ .desc = &img->manifest.config, .what = "config" };
	return 0;
}

int registry_push(struct store *s, const char *image, const struct ref *ref,
		  const struct registry_conf *conf, struct progress *pr, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entry en;
	struct store_image img;
	struct registry__job job;
	int r = store_image_resolve(s, image, &a, &en, e);

	r = r < 0 ? r : store_image_load(s, en.manifest, &a, &img, e);
	if (r < 0) {
		return r;
	}

	struct push p = { .store = s, .manifest_text = img.manifest_text,
			  .manifest_len = img.manifest_len, .manifest_digest = en.manifest,
			  .media_type = en.media_type };

	if (list_blobs(&p, &img, &a) < 0) {
		return err_nomem(e);
	}
	if (ref->digest[0] != '\0' && !str_eq(ref->digest, en.manifest)) {
		return err_set(e, EINVAL, ERR_INVALID, "%s: the image has the digest %s",
			       ref_format(ref).text, en.manifest);
	}
	r = registry__job_init(&job, ref, conf, e);
	job.more = &p;
	job.scope_from = find_from(&p, ref, &a);

	int keep[3] = { job.tls.ca_fd, job.tls.cert_fd, job.tls.key_fd };
	struct worker_run run = {
		.progress = pr, .confine = &registry__confine, .main = push_main, .job = &job,
		.open = open_blob, .ud = &p, .keep_fds = keep,
		.n_keep_fds = keep[0] < 0 ? 0 : keep[1] < 0 ? 1 : 3,
	};

	r = r < 0 ? r : worker_run(&run, NULL, NULL, e);
	if (r == 0) {
		progress_image(pr, ref_format(ref).text, en.manifest);
	}
	registry__job_fini(&job);
	return r;
}
