/* SPDX-License-Identifier: Apache-2.0 */
/* The session with a registry: rights, retries, redirects, and what failures mean. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/base64.h"
#include "image/registry-private.h"
#include "json/json.h"

enum { REDIRECTS_MAX = 5, AUTHORIZE_MAX = 2, RETRIES = 5, RETRY_MS = 500, PAUSE_MAX_S = 60,
       UNKNOWN_HOST = 2 };

static const char *const readable[] = {
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
	"/etc/services", "/etc/protocols", "/etc/gnutls", "/etc/ssl", "/etc/localtime",
	"/etc/ld.so.cache", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/resolvconf",
	"/dev/urandom", "/dev/null", "/proc/self", "/proc/sys", "/sys/devices/system/cpu", NULL,
};

const struct confine registry__confine = {
	.name = "registry client", .network = true, .read_paths = readable,
	.memory_bytes = UINT64_C(2) << 30, .files = 256,
};

int registry__job_init(struct registry__job *job, const struct ref *ref,
		       const struct registry_conf *conf, struct err *e)
{
	*job = (struct registry__job){ .ref = *ref, .conf = *conf, .plain = conf->plain,
				       .tls = { -1, -1, -1, "", "", "" } };
	if (conf->plain_hosts && strv_has(conf->plain_hosts, ref->host)) {
		job->plain = true;
	}
	if (conf->user) {
		const char *colon = strchr(conf->user, ':');

		job->cred.username = str_ndup(conf->user, colon ? (size_t)(colon - conf->user) :
								  strlen(conf->user));
		job->cred.password = str_dup(colon ? colon + 1 : "");
		if (!job->cred.username || !job->cred.password) {
			return err_nomem(e);
		}
	} else {
		auto_free char *file = auth_file_path(conf->auth_file);
		int r = file ? auth_lookup(file, ref->host, ref->path, &job->cred, e) : 0;

		if (r < 0) {
			return r;
		}
	}
	return job->plain ? 0 : registry__tls_load(ref->host, conf, &job->tls, e);
}

void registry__job_fini(struct registry__job *job)
{
	credential_fini(&job->cred);
	registry__tls_fini(&job->tls);
}

int registry__open(struct registry *g, struct worker *w, const struct registry__job *job,
		   const char *actions, struct err *e)
{
	const char *host = str_eq(job->ref.host, "docker.io") ? "registry-1.docker.io" :
								job->ref.host;
	struct http_conf conf = {
		.plain = job->plain, .no_verify = job->conf.no_verify,
		.stall_seconds = job->conf.stall_seconds,
		.ca_file = job->tls.ca_fd >= 0 ? job->tls.ca : NULL,
		.cert_file = job->tls.cert_fd >= 0 ? job->tls.cert : NULL,
		.key_file = job->tls.key_fd >= 0 ? job->tls.key : NULL,
	};

	*g = (struct registry){ .w = w, .job = job };
	snprintf(g->base, sizeof(g->base), "%s://%s", job->plain ? "http" : "https", host);
	snprintf(g->host, sizeof(g->host), "%s", host);
	if (actions) {
		g->scope = str_printf("repository:%s:%s", job->ref.path, actions);
		if (!g->scope) {
			return err_nomem(e);
		}
	}
	return http_init(&g->http, &conf, e);
}

void registry__close(struct registry *g)
{
	if (g->authorization) {
		explicit_bzero(g->authorization, strlen(g->authorization));
	}
	free(g->authorization);
	free(g->scope);
	http_fini(&g->http);
}

char *registry__url(struct registry *g, const char *fmt, ...)
{
	auto_buf struct buf b = BUF_INIT;
	va_list ap;

	buf_printf(&b, "%s/v2/", g->base);
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	return buf_take(&b);
}

int registry__request(struct registry *g, const char *method, const char *url,
		      struct http_req **ret, struct err *e)
{
	auto_http_req struct http_req *q = http_req_new(&g->http, method, url);

	if (!q) {
		return err_nomem(e);
	}
	/* Only to the registry itself: not to where it redirects, nor to token servers. */
	if (g->authorization && http_same_origin(url, g->base) &&
	    http_req_header(q, "Authorization: %s", g->authorization) < 0) {
		return err_nomem(e);
	}
	*ret = take_ptr(&q);
	return 0;
}

/* "code: message" of the first error in a registry's answer, or "". */
static void error_words(const struct http_req *q, char *out, size_t n)
{
	auto_json json_t *root = NULL;
	struct err ignored = ERR_INIT;

	out[0] = '\0';
	if (q->body.len == 0 ||
	    json_parse(buf_str(&q->body), q->body.len, &json_limits_request, "error", &root,
		       &ignored) < 0) {
		return;
	}

	const json_t *first = json_array_get(json_object_get(root, "errors"), 0);
	const char *code = json_string_value(json_object_get(first, "code"));
	const char *message = json_string_value(json_object_get(first, "message"));

	snprintf(out, n, " (%.60s%s%.160s)", code ? code : "", code && message ? ": " : "",
		 message ? message : "");
	if (!code && !message) {
		out[0] = '\0';
	}
}

static int tls_fault(struct registry *g, const struct http_req *q, const char *what, struct err *e)
{
	const char *words = q->error[0] ? q->error : curl_easy_strerror(q->result);

	/* What GnuTLS says of a server that answers in plain HTTP. */
	if (strstr(words, "unexpected TLS packet") || strstr(words, "wrong version number") ||
	    strstr(words, "record packet with illegal version")) {
		return err_set(e, EPROTO, ERR_UNAVAILABLE,
			       "%s: %s does not speak TLS: if the network up to it is trusted, use "
			       "--plain-http", what, g->host);
	}
	if (q->result == CURLE_SSL_CERTPROBLEM) {
		return err_set(e, EKEYREJECTED, ERR_UNAVAILABLE,
			       "%s: the client certificate for %s is of no use: %.120s", what,
			       g->host, words);
	}
	return err_set(e, EKEYREJECTED, ERR_UNAVAILABLE,
		       "%s: TLS with %s failed: %.140s; put its CA's certificate into "
		       "/etc/docker/certs.d/%s/ca.crt or give it with --cacert",
		       what, g->host, words, g->job->ref.host);
}

static int connection_fault(struct registry *g, const struct http_req *q, const char *what,
			    struct err *e)
{
	const char *words = q->error[0] ? q->error : curl_easy_strerror(q->result);

	/* Every other failure of the connection means that a later try may do. */
	switch ((int)q->result) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CIPHER:
		return tls_fault(g, q, what, e);
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(e, EHOSTUNREACH, ERR_UNAVAILABLE,
			       "%s: the name %s does not resolve: check it, and the network", what,
			       g->host);
	case CURLE_UNSUPPORTED_PROTOCOL:
		return err_set(e, EPROTO, ERR_DENIED,
			       "%s: the registry sends us to an unencrypted address; use "
			       "--plain-http if the network is trusted", what);
	default:
		return err_set(e, EIO, ERR_UNAVAILABLE, "%s: %s: %.200s", what, g->host, words);
	}
}

static int denied(struct registry *g, const char *what, const char *words, struct err *e)
{
	const struct credential *c = &g->job->cred;

	if (c->username || c->identity_token) {
		return err_set(e, EACCES, ERR_DENIED,
			       "%s: unauthorised%s: %s does not take these credentials, or they do "
			       "not suffice; \"holm login %s\" sets others", what, words, g->host,
			       g->job->ref.host);
	}
	return err_set(e, EACCES, ERR_DENIED,
		       "%s: unauthorised%s: the image does not exist, or needs \"holm login %s\"",
		       what, words, g->job->ref.host);
}

int registry__fault(struct registry *g, struct http_req *q, const char *what, struct err *e)
{
	char words[256];

	if (q->sink_error == -EFBIG) {
		return err_set(e, EFBIG, ERR_LIMIT, "%s: %s sends more than it may", what, g->host);
	}
	if (q->result != CURLE_OK) {
		return connection_fault(g, q, what, e);
	}
	error_words(q, words, sizeof(words));
	switch (q->status) {
	case 401:
		return denied(g, what, words, e);
	case 403:
		return err_set(e, EACCES, ERR_DENIED, "%s: forbidden%s", what, words);
	case 404:
		return err_set(e, ENOENT, ERR_NOT_FOUND, "%s: %s does not have it%s", what, g->host,
			       words);
	case 429:
		return err_set(e, EBUSY, ERR_LIMIT,
			       "%s: %s wants fewer requests%s: wait, or log in", what, g->host,
			       words);
	default:
		break;
	}
	return err_set(e, EIO, q->status >= 500 ? ERR_UNAVAILABLE : ERR_HOST,
		       "%s: %s answered with status %ld%s", what, g->host, q->status, words);
}

static bool may_pass(const struct http_req *q)
{
	if (q->sink_error < 0) {
		return false;
	}
	switch ((int)q->result) {
	case CURLE_OK:
		return q->status >= 500 || q->status == 429 || q->status == 408;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CIPHER:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_OUT_OF_MEMORY:
		return false;
	case CURLE_SSL_CONNECT_ERROR:
		/* Also what a connection that was cut looks like; not what plain HTTP does. */
		return !strstr(q->error, "unexpected TLS packet") &&
		       !strstr(q->error, "illegal version");
	default:
		return true;
	}
}

bool registry__may_retry(struct registry *g, struct registry__tries *t, unsigned after_s)
{
	unsigned retries = g->job->conf.retries ? g->job->conf.retries : RETRIES;
	uint64_t ms = g->job->conf.retry_ms ? g->job->conf.retry_ms : RETRY_MS;

	if (t->again >= retries) {
		return false;
	}
	ms = after_s > 0 ? (uint64_t)after_s * 1000 : ms << MIN(t->again, 10u);
	t->pause_ns = MIN(ms, (uint64_t)PAUSE_MAX_S * 1000) * NS_PER_MS;
	t->again++;
	return true;
}

static enum registry__verdict redirect(struct http_req *q, struct registry__tries *t,
				       const char *what, char **url, struct err *e)
{
	auto_free char *next = http_resolve(*url, q->location);

	if (!next || ++t->redirected > REDIRECTS_MAX ||
	    (!str_eq(q->method, "GET") && !str_eq(q->method, "HEAD"))) {
		ignore_result(err_set(e, ELOOP, ERR_HOST, "%s: the registry redirects %s", what,
				      next ? "too often" : "to nowhere")); /* the verdict is it */
		return REG_FAILED;
	}
	if (http_is_plain(next) && !http_is_plain(*url)) {
		ignore_result(err_set(e, EPROTO, ERR_DENIED,
				      "%s: the registry redirects from TLS to an unencrypted "
				      "address", what)); /* as above */
		return REG_FAILED;
	}
	free(*url);
	*url = take_ptr(&next);
	return REG_REDIRECT;
}

enum registry__verdict registry__judge(struct registry *g, struct http_req *q,
				       struct registry__tries *t, const char *what, char **url,
				       struct err *e)
{
	if (q->result == CURLE_OK && q->sink_error == 0 && q->status >= 200 && q->status < 300) {
		return REG_GOOD;
	}
	if (q->result == CURLE_OK && (q->status == 301 || q->status == 302 || q->status == 303 ||
				      q->status == 307 || q->status == 308)) {
		return redirect(q, t, what, url, e);
	}
	if (q->result == CURLE_OK && q->status == 401 && t->authorized < AUTHORIZE_MAX &&
	    q->challenge.kind != CHALLENGE_NONE && !q->bad_challenge &&
	    http_same_origin(*url, g->base)) {
		/* The same credentials again would not be taken either. */
		if (q->challenge.kind == CHALLENGE_BASIC && (t->authorized > 0 ||
							     !g->job->cred.username)) {
			ignore_result(registry__fault(g, q, what, e)); /* the verdict is it */
			return REG_FAILED;
		}
		t->authorized++;
		g->challenge = q->challenge;
		return REG_AUTHORIZE;
	}
	ignore_result(registry__fault(g, q, what, e)); /* the verdict is it */
	/* A name that nobody knows is most likely misspelt: its user is not kept waiting. */
	if (!may_pass(q) || (q->result == CURLE_COULDNT_RESOLVE_HOST && t->again >= UNKNOWN_HOST)) {
		return REG_FAILED;
	}
	return registry__may_retry(g, t, q->retry_after) ? REG_AGAIN : REG_FAILED;
}

void registry__tell_retry(struct registry *g, const struct err *why, uint64_t pause_ns)
{
	struct err ignored = ERR_INIT;

	/* Only told: a parent that is gone is met by the next message that matters. */
	ignore_result(worker_text(g->w, &ignored, "%.300s; trying again in %.1f s", why->msg,
				  (double)pause_ns / (double)NS_PER_SEC));
}

/* Let time pass, while other transfers go on. */
static int pause(struct registry *g, uint64_t ns, struct err *e)
{
	uint64_t end = clock_now_ns() + ns;

	for (uint64_t now = clock_now_ns(); now < end; now = clock_now_ns()) {
		int r = http_poll(&g->http, (int)((end - now) / NS_PER_MS) + 1, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int ask_once(struct registry *g, const struct registry__ask *ask, const char *url,
		    struct http_req **ret, struct err *e)
{
	auto_http_req struct http_req *q = NULL;
	int r = registry__request(g, ask->method, url, &q, e);

	if (r < 0) {
		return r;
	}
	if ((ask->header && http_req_header(q, "%s", ask->header) < 0) ||
	    (ask->header2 && http_req_header(q, "%s", ask->header2) < 0)) {
		return err_nomem(e);
	}
	q->send = ask->send;
	q->send_fd = ask->send ? -1 : ask->send_fd;
	q->send_off = ask->send_off;
	q->send_bytes = ask->send_bytes;
	if (ask->body_max) {
		q->body_max = ask->body_max;
	}
	r = http_start(&g->http, q, e);
	while (r == 0 && !q->done) {
		r = http_poll(&g->http, 100, e);
		if (r == 0 && g->has_item && q->send_bytes > 0) {
			r = worker_set(g->w, g->item, PROGRESS_ACTIVE, g->item_base + q->sent, e);
		}
	}
	if (r == 0) {
		*ret = take_ptr(&q);
	}
	return r;
}

int registry__do(struct registry *g, const struct registry__ask *ask, struct http_req **ret,
		 struct err *e)
{
	auto_free char *url = str_dup(ask->url);
	struct registry__tries t = { .again = 0 };

	for (;;) {
		auto_http_req struct http_req *q = NULL;
		int r = url ? ask_once(g, ask, url, &q, e) : err_nomem(e);

		if (r < 0) {
			return r;
		}
		if (ask->fine && q->result == CURLE_OK && q->status == ask->fine) {
			*ret = take_ptr(&q);
			return 0;
		}
		switch (registry__judge(g, q, &t, ask->what, &url, e)) {
		case REG_GOOD:
			*ret = take_ptr(&q);
			return 0;
		case REG_REDIRECT:
			break;
		case REG_AUTHORIZE:
			r = ask->no_auth ? registry__fault(g, q, ask->what, e) :
					   registry__authorize(g, e);
			break;
		case REG_AGAIN:
			if (ask->no_retry) {
				return -e->errnum;
			}
			registry__tell_retry(g, e, t.pause_ns);
			r = pause(g, t.pause_ns, e);
			break;
		case REG_FAILED:
			r = -e->errnum;
			break;
		}
		if (r < 0) {
			return r;
		}
	}
}
