/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulling. The child fetches the manifest, chooses by platform, and then keeps up to
 * `parallel` blobs on their way. Each blob is a small machine of its own:
 *
 *	WAITING -> (the parent has it) -> HAVE
 *	WAITING -> RUNNING -> HAVE
 *	              |  ^
 *	              v  |  after a pause, from where it broke
 *	            PAUSED
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "image/registry-private.h"

enum { MANIFEST_MAX = 4 << 20, PARALLEL = 4, BUSY_PAUSE_MS = 500, WRONG_MAX = 1,
       HEADWAY = 64 * 1024 };

static const char accept_all[] =
	"Accept: " OCI_MEDIA_INDEX ", " OCI_MEDIA_MANIFEST ", " DOCKER_MEDIA_LIST ", "
	DOCKER_MEDIA_MANIFEST;

enum blob_state {
	BLOB_WAITING,
	BLOB_RUNNING,
	BLOB_PAUSED,
	BLOB_HAVE,
};

struct blob {
	const struct oci_desc  *desc;
	const char             *what;
	enum blob_state         state;
	struct registry        *g;
	struct http_req        *req;
	char                   *url;
	uint32_t                number;   /* with the parent */
	bool                    begun;
	bool                    checked;  /* the reply's status and range were looked at */
	uint64_t                have;     /* bytes the parent has */
	uint64_t                resume_ns;
	unsigned                wrong;    /* times its digest was wrong */
	struct registry__tries  tries;
	struct err              err;      /* why the sink refused */
};

struct pull {
	struct registry  *g;
	struct arena      arena;
	struct blob      *blobs;
	size_t            n;
};

/* The body of a blob goes on to the parent. */
static int blob_sink(const void *data, size_t n, void *ud)
{
	struct blob *b = ud;

	if (!b->checked) {
		unsigned long long from = 0;
		bool part = b->req->status == 206;

		/* A reply that does not go on where we stopped begins anew. */
		if (part && (sscanf(b->req->content_range, "bytes %llu-", &from) != 1 ||
			     from != b->have)) {
			return err_set(&b->err, EBADMSG, ERR_HOST, "%s: the registry sent another "
				       "part than was asked for", b->desc->digest);
		}
		if (!part && b->have > 0) {
			int r = worker_blob_restart(b->g->w, b->number, &b->err);

			if (r < 0) {
				return r;
			}
			b->have = 0;
		}
		b->checked = true;
	}
	if (n > b->desc->size - b->have) {
		return err_set(&b->err, EFBIG, ERR_LIMIT, "%s: the registry sends more than the "
			       "manifest says", b->desc->digest);
	}
	b->have += n;
	return worker_blob_data(b->g->w, b->number, data, n, &b->err);
}

static int blob_request(struct blob *b, struct err *e)
{
	int r = registry__request(b->g, "GET", b->url, &b->req, e);

	if (r < 0) {
		return r;
	}
	b->req->sink = blob_sink;
	b->req->sink_ud = b;
	b->checked = false;
	b->state = BLOB_RUNNING;
	if (b->have > 0 && http_req_header(b->req, "Range: bytes=%llu-",
					   (unsigned long long)b->have) < 0) {
		return err_nomem(e);
	}
	return http_start(&b->g->http, b->req, e);
}

static void blob_pause(struct blob *b, uint64_t ns)
{
	b->state = BLOB_PAUSED;
	b->resume_ns = clock_now_ns() + ns;
}

static char *blob_url(struct blob *b)
{
	return registry__url(b->g, "%s/blobs/%s", b->g->job->ref.path, b->desc->digest);
}

static int blob_end(struct blob *b, struct err *e);

/* First, or again after a pause. */
static int blob_start(struct blob *b, struct err *e)
{
	if (!b->begun) {
		int r = worker_blob_begin(b->g->w, b->desc->digest, b->desc->size, b->what,
					  &b->number, &b->have, e);

		if (r == -EBUSY) {
			blob_pause(b, BUSY_PAUSE_MS * NS_PER_MS);
			return 0;
		}
		if (r != 0) {
			b->state = BLOB_HAVE;
			return r < 0 ? r : 0;
		}
		b->begun = true;
		if (b->have > b->desc->size) {
			r = worker_blob_restart(b->g->w, b->number, e);
			b->have = 0;
			if (r < 0) {
				return r;
			}
		}
	}
	if (!b->url) {
		b->url = blob_url(b);
		if (!b->url) {
			return err_nomem(e);
		}
	}
	/* All of it came before, and only the end was missing. */
	return b->have == b->desc->size && b->have > 0 ? blob_end(b, e) : blob_request(b, e);
}

/* All bytes are with the parent: is it what the manifest says? */
static int blob_end(struct blob *b, struct err *e)
{
	int r = worker_blob_end(b->g->w, b->number, NULL, e);

	b->begun = false;
	if (r == -EBADMSG && b->wrong++ < WRONG_MAX) {
		b->have = 0;
		blob_pause(b, 0);
		return 0;
	}
	if (r == -EBADMSG) {
		return err_set(e, EBADMSG, ERR_INVALID, "%s %s: what %s sends has another digest",
			       b->what, b->desc->digest, b->g->host);
	}
	if (r < 0) {
		return err_wrap(e, "%s from %s", b->what, b->g->host);
	}
	b->state = BLOB_HAVE;
	return 0;
}

static void drop_request(struct blob *b)
{
	http_req_free(b->req);
	b->req = NULL;
}

/* Back to the registry's own address: where it redirected us may not live on. */
static int forget_redirect(struct blob *b, struct err *e)
{
	free(b->url);
	b->url = blob_url(b);
	b->tries.redirected = 0;
	return b->url ? 0 : err_nomem(e);
}

/* The request is over. */
static int blob_done(struct blob *b, struct err *e)
{
	struct http_req *q = b->req;
	uint64_t got = q->got;

	if (b->err.errnum) {
		*e = b->err;
		drop_request(b);
		return -e->errnum;
	}
	if (got >= HEADWAY) {
		b->tries.again = 0;   /* it moves: patience starts anew */
	}
	if (q->result == CURLE_OK && q->status == 416 && b->have > 0) {
		int r = worker_blob_restart(b->g->w, b->number, e);

		b->have = 0;
		drop_request(b);
		return r < 0 ? r : blob_request(b, e);
	}

	enum registry__verdict v = registry__judge(b->g, q, &b->tries, b->desc->digest, &b->url, e);

	drop_request(b);
	switch (v) {
	case REG_GOOD:
		if (b->have < b->desc->size) {
			if (!registry__may_retry(b->g, &b->tries, 0)) {
				return err_set(e, EIO, ERR_UNAVAILABLE, "%s: %s ends it too early",
					       b->desc->digest, b->g->host);
			}
			blob_pause(b, b->tries.pause_ns);
			return 0;
		}
		return blob_end(b, e);
	case REG_REDIRECT:
		return blob_request(b, e);
	case REG_AUTHORIZE: {
		int r = registry__authorize(b->g, e);

		return r < 0 ? r : blob_request(b, e);
	}
	case REG_AGAIN: {
		registry__tell_retry(b->g, e, b->tries.pause_ns);

		int r = forget_redirect(b, e);

		ignore_result(worker_set(b->g->w, b->number, PROGRESS_RETRYING, b->have, e)); /*
			* only told; a parent that is gone is met elsewhere */
		blob_pause(b, b->tries.pause_ns);
		return r;
	}
	case REG_FAILED:
		break;
	}
	return err_wrap(e, "%s", b->what);
}

/* One turn over all blobs: starts what may start, ends what is done. 1: something is left. */
static int turn(struct pull *p, struct err *e)
{
	unsigned parallel = p->g->job->conf.parallel ? p->g->job->conf.parallel : PARALLEL;
	unsigned running = 0;
	bool left = false;
	int r = 0;

	for (size_t i = 0; i < p->n; i++) {
		running += p->blobs[i].state == BLOB_RUNNING || p->blobs[i].state == BLOB_PAUSED;
	}
	for (size_t i = 0; r >= 0 && i < p->n; i++) {
		struct blob *b = &p->blobs[i];

		if (b->state == BLOB_RUNNING && b->req->done) {
			r = blob_done(b, e);
		} else if (b->state == BLOB_PAUSED && clock_now_ns() >= b->resume_ns) {
			r = blob_start(b, e);
		} else if (b->state == BLOB_WAITING && running < parallel) {
			r = blob_start(b, e);
			running += b->state != BLOB_HAVE;
		}
		left = left || b->state != BLOB_HAVE;
	}
	return r < 0 ? r : left;
}

static int fetch_blobs(struct pull *p, struct err *e)
{
	int r;

	while ((r = turn(p, e)) > 0) {
		r = http_poll(&p->g->http, 50, e);
		if (r < 0) {
			break;
		}
	}
	for (size_t i = 0; i < p->n; i++) {
		drop_request(&p->blobs[i]);
		free(p->blobs[i].url);
		p->blobs[i].url = NULL;
	}
	return r;
}

/* A manifest or index by tag or digest, checked against the digest where there is one. */
static int fetch_manifest(struct pull *p, const char *version, const char *digest,
			  char media_type[160], char ret_digest[OCI_DIGEST_MAX],
			  const char **ret_text, size_t *ret_len, struct err *e)
{
	auto_free char *url = registry__url(p->g, "%s/manifests/%s", p->g->job->ref.path, version);
	auto_http_req struct http_req *q = NULL;
	struct ref_text name = ref_format(&p->g->job->ref);
	struct registry__ask ask = { .method = "GET", .url = url, .header = accept_all,
				     .what = name.text, .send_fd = -1, .body_max = MANIFEST_MAX };

	if (!url) {
		return err_nomem(e);
	}

	int r = registry__do(p->g, &ask, &q, e);

	if (r == -ENOENT) {
		struct ref_text repo = ref_repository(&p->g->job->ref);

		return err_set(e, ENOENT, ERR_NOT_FOUND,
			       "%s: no such image at %s: check name and tag "
			       "(\"holm-image tags %s\" lists the tags)",
			       name.text, p->g->host, repo.text);
	}
	if (r < 0) {
		return r;
	}

	auto_digest struct digest *d = digest_new(digest ? digest : "sha256");

	if (!d) {
		return err_nomem(e);
	}
	digest_add(d, buf_str(&q->body), q->body.len);

	struct digest_text is = digest_end(d);
	const char *want = digest ? digest : oci_digest_valid(q->digest) &&
			   strncmp(q->digest, "sha256:", 7) == 0 ? q->digest : is.text;

	if (!str_eq(is.text, want)) {
		return err_set(e, EBADMSG, ERR_INVALID,
			       "%s: the manifest from %s has another digest than %s", name.text, p->g->host, want);
	}

	char *copy = arena_alloc(&p->arena, q->body.len + 1, 1);

	if (!copy) {
		return err_nomem(e);
	}
	memcpy(copy, buf_str(&q->body), q->body.len);
	snprintf(media_type, 160, "%s", q->content_type);
	snprintf(ret_digest, OCI_DIGEST_MAX, "%s", is.text);
	*ret_text = copy;
	*ret_len = q->body.len;
	return 0;
}

/*
 * What an old registry calls application/json (or nothing) is what it says itself; the
 * parsers refuse a document that is two things.
 */
static void fix_media_type(char media_type[160], const char *text, size_t len)
{
	auto_json json_t *root = NULL;
	struct err ignored = ERR_INIT;
	const char *said;

	if (oci_kind_of(media_type) != OCI_KIND_OTHER || strstr(media_type, "prettyjws") ||
	    strstr(media_type, "manifest.v1+json") ||
	    json_parse(text, len, &json_limits_document, "manifest", &root, &ignored) < 0) {
		return;
	}
	said = json_string_value(json_object_get(root, "mediaType"));
	if (!said) {
		said = json_object_get(root, "manifests") ? OCI_MEDIA_INDEX : OCI_MEDIA_MANIFEST;
	}
	if (json_object_get(root, "schemaVersion") && !json_object_get(root, "fsLayers")) {
		snprintf(media_type, 160, "%s", said);
	}
}

/* The manifest to pull, through an index if that is what the name stands for. */
static int choose_manifest(struct pull *p, struct worker_image *image, const char **ret_text,
			   size_t *ret_len, struct err *e)
{
	const struct ref *ref = &p->g->job->ref;
	const char *digest = ref->digest[0] ? ref->digest : NULL;
	const struct oci_desc *chosen = NULL;
	struct oci_index x;
	char media_type[160], is[OCI_DIGEST_MAX];
	int r = fetch_manifest(p, ref_version(ref), digest, media_type, is, ret_text, ret_len, e);

	if (r < 0) {
		return r;
	}
	fix_media_type(media_type, *ret_text, *ret_len);
	if (oci_kind_of(media_type) == OCI_KIND_INDEX) {
		snprintf(image->source, sizeof(image->source), "%s", is);
		r = oci_index_parse(*ret_text, *ret_len, media_type, &p->arena, &x, e);
		r = r < 0 ? r : oci_index_choose(&x, p->g->job->platform, &chosen, e);
		if (r < 0) {
			return err_wrap(e, "%s", ref_format(ref).text);
		}
		if (oci_kind_of(chosen->media_type) != OCI_KIND_MANIFEST) {
			return err_set(e, ENOTSUP, ERR_UNSUPPORTED, "%s: the index holds a %.80s",
				       ref_format(ref).text, chosen->media_type);
		}
		r = fetch_manifest(p, chosen->digest, chosen->digest, media_type, is, ret_text,
				   ret_len, e);
		if (r == 0 && *ret_len != chosen->size) {
			r = err_set(e, EBADMSG, ERR_INVALID,
				    "manifest %s: not of the size that the index says", is);
		}
		snprintf(media_type, sizeof(media_type), "%s", chosen->media_type);
	}
	snprintf(image->manifest, sizeof(image->manifest), "%s", is);
	snprintf(image->media_type, sizeof(image->media_type), "%.*s",
		 (int)sizeof(image->media_type) - 1, media_type);
	return r;
}

static int pull_all(struct pull *p, struct err *e)
{
	struct worker_image image = { .name = "" };
	struct oci_manifest m;
	const char *text;
	size_t len;
	int r = choose_manifest(p, &image, &text, &len, e);

	r = r < 0 ? r : oci_manifest_parse(text, len, image.media_type, &p->arena, &m, e);
	if (r < 0) {
		return e->field[0] ? err_wrap(e, "manifest%s", e->field) : r;
	}
	p->n = m.layers.n + 1;
	p->blobs = arena_alloc(&p->arena, p->n, sizeof(*p->blobs));
	if (!p->blobs) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < p->n; i++) {
		p->blobs[i].desc = i == 0 ? &m.config : oci_layer(&m, i - 1);
		p->blobs[i].what = i == 0 ? "config" : "layer";
		p->blobs[i].g = p->g;
	}
	/* One digest twice would be two writers: the first fetches it for both. */
	for (size_t i = 1; i < p->n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (str_eq(p->blobs[i].desc->digest, p->blobs[k].desc->digest)) {
				p->blobs[i].state = BLOB_HAVE;
			}
		}
	}
	r = fetch_blobs(p, e);
	r = r < 0 ? r : worker_blob_put(p->g->w, image.manifest, "manifest", text, len, NULL, e);
	return r < 0 ? r : worker_image(p->g->w, &image, e);
}

static int pull_main(struct worker *w, void *job, struct err *e)
{
	struct registry g;
	struct pull p = { .g = &g, .arena = ARENA_INIT };
	int r = registry__open(&g, w, job, "pull", e);

	r = r < 0 ? r : pull_all(&p, e);
	registry__close(&g);
	arena_fini(&p.arena);
	return r;
}

/* The parent's last word: the child may only bring what was asked for by digest. */
static int check_digest(const struct ref *ref, const struct worker_images *images, struct err *e)
{
	if (images->n != 1 || (ref->digest[0] != '\0' &&
			       !str_eq(images->v[0].manifest, ref->digest) &&
			       !str_eq(images->v[0].source, ref->digest))) {
		return err_set(e, EBADMSG, ERR_INVALID, "%s: something else came",
			       ref_format(ref).text);
	}
	return 0;
}

int registry_pull(struct store *s, const struct ref *ref, const char *platform,
		  const struct registry_conf *conf, struct progress *p,
		  char ret_manifest[OCI_DIGEST_MAX], struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct worker_images images = { .n = 0 };
	struct registry__job job;
	int r = store_use_begin(s, e);

	if (r < 0) {
		return r;
	}
	r = registry__job_init(&job, ref, conf, e);
	job.platform = platform;

	int keep[3] = { job.tls.ca_fd, job.tls.cert_fd, job.tls.key_fd };
	struct worker_run run = {
		.store = s, .progress = p, .confine = &registry__confine, .main = pull_main,
		.job = &job, .keep_fds = keep,
		.n_keep_fds = keep[0] < 0 ? 0 : keep[1] < 0 ? 1 : 3,
	};

	r = r < 0 ? r : worker_run(&run, &a, &images, e);
	r = r < 0 ? r : check_digest(ref, &images, e);
	if (r == 0) {
		struct ref_text name = ref->tag[0] ? ref_name(ref) : ref_format(ref);
		struct store_put put = { .name = name.text,
					 .manifest = images.v[0].manifest,
					 .media_type = images.v[0].media_type,
					 .source = images.v[0].source[0] ? images.v[0].source :
									   NULL };

		r = store_image_put(s, &put, e);
		if (r == 0) {
			snprintf(ret_manifest, OCI_DIGEST_MAX, "%s", put.manifest);
			progress_image(p, name.text, put.manifest);
		}
	}
	registry__job_fini(&job);
	store_use_end(s);
	return r;
}
