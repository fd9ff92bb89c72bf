/* SPDX-License-Identifier: Apache-2.0 */
/* Listings of a registry, and the question whether it takes credentials. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image/registry-private.h"
#include "json/json.h"

enum { PAGES_MAX = 200 };

static int send_page(struct registry *g, const struct http_req *q, const char *key, struct err *e)
{
	auto_json json_t *root = NULL;
	int r = json_parse(buf_str(&q->body), q->body.len, &json_limits_document, "list", &root, e);
	const json_t *list = r < 0 ? NULL : json_object_get(root, key);

	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (s) {
			r = worker_line(g->w, s, e);
		}
	}
	return r;
}

static int list_all(struct registry *g, struct err *e)
{
	bool tags = g->job->ref.path[0] != '\0';
	auto_free char *url = tags ? registry__url(g, "%s/tags/list?n=1000", g->job->ref.path) :
				     registry__url(g, "_catalog?n=1000");

	for (unsigned page = 0; page < PAGES_MAX; page++) {
		auto_http_req struct http_req *q = NULL;
		struct registry__ask ask = { .method = "GET", .url = url, .send_fd = -1,
					     .what = tags ? g->job->ref.path : "catalog" };
		int r = url ? registry__do(g, &ask, &q, e) : err_nomem(e);

		r = r < 0 ? r : send_page(g, q, tags ? "tags" : "repositories", e);
		if (r < 0 || q->link_next[0] == '\0') {
			return r;
		}

		char *next = http_resolve(url, q->link_next);

		/* A page elsewhere would be asked without our rights. */
		if (!next || !http_same_origin(next, g->base)) {
			free(next);
			return err_set(e, EBADMSG, ERR_HOST, "%s: the list goes on nowhere",
				       g->host);
		}
		free(url);
		url = next;
	}
	return 0;
}

static int list_main(struct worker *w, void *job_, struct err *e)
{
	const struct registry__job *job = job_;
	struct registry g;
	int r = registry__open(&g, w, job, job->ref.path[0] ? "pull" : NULL, e);

	if (r == 0 && !job->ref.path[0]) {
		g.scope = str_dup("registry:catalog:*");
		r = g.scope ? 0 : err_nomem(e);
	}
	r = r < 0 ? r : list_all(&g, e);
	registry__close(&g);
	return r;
}

static int login_main(struct worker *w, void *job, struct err *e)
{
	struct registry g;
	int r = registry__open(&g, w, job, NULL, e);
	auto_free char *url = r < 0 ? NULL : registry__url(&g, "%s", "");
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "GET", .url = url, .send_fd = -1, .what = "login" };

	if (r == 0) {
		r = url ? registry__do(&g, &ask, &q, e) : err_nomem(e);
		http_req_free(take_ptr(&q));
	}
	registry__close(&g);
	return r;
}

static int run_simple(struct registry__job *job, int (*main_fn)(struct worker *, void *,
		      struct err *), struct strv *lines, struct err *e)
{
	int keep[3] = { job->tls.ca_fd, job->tls.cert_fd, job->tls.key_fd };
	struct worker_run run = {
		.confine = &registry__confine, .main = main_fn, .job = job, .lines = lines,
		.keep_fds = keep, .n_keep_fds = keep[0] < 0 ? 0 : keep[1] < 0 ? 1 : 3,
	};

	return worker_run(&run, NULL, NULL, e);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int registry_list(const struct ref *ref, const struct registry_conf *conf, struct strv *ret,
		  struct err *e)
{
	auto_strv struct strv lines = STRV_INIT;
	struct registry__job job;
	int r = registry__job_init(&job, ref, conf, e);

	r = r < 0 ? r : run_simple(&job, list_main, &lines, e);
	registry__job_fini(&job);
	for (size_t i = 0; r == 0 && i < lines.n; i++) {
		/* What is neither a tag nor a name cannot be asked for; it is not shown. */
		if (ref->path[0] ? ref_tag_valid(lines.v[i]) : ref_path_valid(lines.v[i])) {
			r = strv_add(ret, lines.v[i]) < 0 ? err_nomem(e) : 0;
		}
	}
	if (r == 0 && ret->n > 1) {
		qsort(ret->v, ret->n, sizeof(*ret->v), by_text);   /* registries do not always */
	}
	return r;
}

int registry_login(const char *host, const struct credential *cred,
		   const struct registry_conf *conf, struct err *e)
{
	struct ref ref = { .host = "" };
	struct registry_conf own = *conf;
	struct registry__job job;

	snprintf(ref.host, sizeof(ref.host), "%s", host);
	own.user = "";   /* not from the file */

	int r = registry__job_init(&job, &ref, &own, e);

	if (r == 0) {
		credential_fini(&job.cred);
		job.cred.username = cred->username ? str_dup(cred->username) : NULL;
		job.cred.password = cred->password ? str_dup(cred->password) : NULL;
		job.cred.identity_token = cred->identity_token ? str_dup(cred->identity_token) :
								 NULL;
		r = run_simple(&job, login_main, NULL, e);
	}
	registry__job_fini(&job);
	return r;
}
