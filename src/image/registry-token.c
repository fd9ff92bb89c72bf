/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting the right to ask: basic authentication, or a token from the server that the
 * registry names. A token is fetched by GET with basic authentication, or, with an identity
 * token, by POST as OAuth2 refresh.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "image/registry-private.h"
#include "json/json.h"

enum { TOKEN_MAX = 64 * 1024 };

/* "Basic base64(user:password)"; NULL when memory is out. */
static char *basic_header(const struct credential *c)
{
	auto_buf struct buf plain = BUF_INIT, out = BUF_INIT;

	buf_printf(&plain, "%s:%s", c->username, c->password ? c->password : "");
	buf_add_str(&out, "Basic ");
	base64_encode(plain.data, plain.len, &out);
	if (plain.data) {
		explicit_bzero(plain.data, plain.len);
	}
	return buf_failed(&plain) ? NULL : buf_take(&out);
}

static void set_authorization(struct registry *g, char *own_value)
{
	if (g->authorization) {
		explicit_bzero(g->authorization, strlen(g->authorization));
		free(g->authorization);
	}
	g->authorization = own_value;
}

static int add_param(struct buf *b, const char *name, const char *value)
{
	auto_free char *escaped = http_escape(value);

	if (!escaped) {
		return -ENOMEM;
	}
	buf_printf(b, "%s%s=%s", b->len > 0 ? "&" : "", name, escaped);
	return buf_failed(b) ? -ENOMEM : 0;
}

/* What we ask for: our own scope, and what the registry says it needs where that differs. */
static int add_scopes(struct registry *g, struct buf *b)
{
	const char *theirs = g->challenge.scope, *part;
	size_t len;
	int r = g->scope ? add_param(b, "scope", g->scope) : 0;

	if (r == 0 && g->job->scope_from) {
		auto_free char *from = str_printf("repository:%s:pull", g->job->scope_from);

		r = from ? add_param(b, "scope", from) : -ENOMEM;
	}
	while (r == 0 && str_split(&theirs, ' ', &part, &len)) {
		char one[sizeof(g->challenge.scope)];

		snprintf(one, sizeof(one), "%.*s", (int)len, part);
		if (len > 0 && !(g->scope && str_eq(one, g->scope))) {
			r = add_param(b, "scope", one);
		}
	}
	return r;
}

static int token_query(struct registry *g, struct buf *b)
{
	const struct challenge *c = &g->challenge;
	const struct credential *cred = &g->job->cred;
	int r = c->service[0] ? add_param(b, "service", c->service) : 0;

	r = r < 0 ? r : add_scopes(g, b);
	if (r == 0 && cred->identity_token) {
		r = add_param(b, "grant_type", "refresh_token");
		r = r < 0 ? r : add_param(b, "client_id", "holm");
		r = r < 0 ? r : add_param(b, "refresh_token", cred->identity_token);
	} else if (r == 0 && cred->username) {
		r = add_param(b, "account", cred->username);
	}
	return r;
}

static int check_realm(struct registry *g, struct err *e)
{
	const char *realm = g->challenge.realm;

	if (str_after(realm, "https://")) {
		return 0;
	}
	if (str_after(realm, "http://") && g->job->plain) {
		return 0;
	}
	return err_set(e, EPROTO, ERR_DENIED,
		       "%s asks to get tokens from \"%.100s\", which is not an encrypted address",
		       g->host, realm);
}

static int parse_token(struct registry *g, const struct http_req *q, struct err *e)
{
	auto_json json_t *root = NULL;
	int r = json_parse(buf_str(&q->body), q->body.len, &json_limits_request, "token", &root, e);

	if (r < 0) {
		return err_wrap(e, "%s", g->challenge.realm);
	}

	const char *token = json_string_value(json_object_get(root, "token"));

	if (!token || *token == '\0') {
		token = json_string_value(json_object_get(root, "access_token"));
	}
	/* It goes into a header: nothing that ends one. */
	if (!token || *token == '\0' || strpbrk(token, "\r\n ")) {
		return err_set(e, EBADMSG, ERR_HOST, "%s sent no token", g->challenge.realm);
	}

	char *header = str_printf("Bearer %s", token);

	if (!header) {
		return err_nomem(e);
	}
	set_authorization(g, header);
	return 0;
}

static int fetch_token(struct registry *g, struct err *e)
{
	const struct credential *cred = &g->job->cred;
	auto_buf struct buf query = BUF_INIT;
	auto_free char *basic = NULL, *header = NULL, *url = NULL;
	auto_http_req struct http_req *q = NULL;
	struct registry__ask ask = { .method = "GET", .what = "token", .send_fd = -1,
				     .no_auth = true, .body_max = TOKEN_MAX };
	int r = check_realm(g, e);

	if (r < 0) {
		return r;
	}
	if (token_query(g, &query) < 0) {
		return err_nomem(e);
	}
	if (cred->identity_token) {
		url = str_dup(g->challenge.realm);
		ask.method = "POST";
		ask.header = "Content-Type: application/x-www-form-urlencoded";
		ask.send = buf_str(&query);
		ask.send_bytes = query.len;
	} else {
		url = str_printf("%s%s%s", g->challenge.realm,
				 strchr(g->challenge.realm, '?') ? "&" : "?", buf_str(&query));
		basic = cred->username ? basic_header(cred) : NULL;
		header = basic ? str_printf("Authorization: %s", basic) : NULL;
		ask.header = header;
	}
	if (!url || (cred->username && !cred->identity_token && !header)) {
		return err_nomem(e);
	}

	/* The old token must not go along where the token server is the registry itself. */
	set_authorization(g, NULL);
	ask.url = url;
	r = registry__do(g, &ask, &q, e);
	return r < 0 ? r : parse_token(g, q, e);
}

int registry__authorize(struct registry *g, struct err *e)
{
	if (g->challenge.kind == CHALLENGE_BEARER) {
		return fetch_token(g, e);
	}

	char *header = g->job->cred.username ? basic_header(&g->job->cred) : NULL;

	if (!header) {
		return g->job->cred.username ? err_nomem(e) :
			err_set(e, EACCES, ERR_DENIED, "unauthorised: \"holm login %s\" is needed",
				g->job->ref.host);
	}
	set_authorization(g, header);
	return 0;
}
