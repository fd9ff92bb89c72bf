/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, for each route: two bytes choose the route; then the target of the request
 * up to a newline, arguments "KEY=value" up to an empty line, and the body. A spec that passes is
 * made into a runtime config.
 */
#include <string.h>

#include "node/api.h"
#include "node/bundle.h"
#include "node/instance.h"
#include "node/signals.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_route *choose(unsigned n)
{
	unsigned total = 0;

	for (const struct api_routes *const *t = api_tables; *t; t++) {
		total += (unsigned)(*t)->n;
	}
	n %= total;
	for (const struct api_routes *const *t = api_tables; *t; t++) {
		if (n < (*t)->n) {
			return &(*t)->v[n];
		}
		n -= (unsigned)(*t)->n;
	}
	return NULL;
}

static void match(const struct api_route *r, const char *target)
{
	char *params[2] = { NULL, NULL };
	bool known;

	(void)api_match(api_tables, r->method, target, params, &known);
	free(params[0]);
	free(params[1]);
}

static void parse_query(const struct api_route *r, const char *text, struct arena *a)
{
	auto_json json_t *obj = json_object();
	struct err e = ERR_INIT;
	const char *line;
	size_t len;
	int ok = obj ? 0 : -1;

	while (ok == 0 && str_split(&text, '\n', &line, &len) && len > 0) {
		char *pair = arena_strndup(a, line, len);
		char *eq = pair ? strchr(pair, '=') : NULL;

		if (eq) {
			*eq = '\0';
			ok = api_query_put(r->query, obj, pair, eq + 1, &e);
		}
	}
	void *q = ok == 0 && r->query ? arena_alloc(a, 1, r->query->size) : NULL;

	if (q) {
		ignore_result(jtable_parse(r->query, obj, a, q, &e)); /* either way is fine */
	}
}

static void make_config(const struct instance_spec *spec, struct arena *a)
{
	struct instance i = { .spec = *spec, .status = { .id_base = 100000, .id_count = 65536 } };
	struct bundle_user user = { .home = "/root" };
	struct bundle_in in = { .instance = &i, .user = &user, .dir = "/run/x", .init = "/init",
				.cgroup_parent = "/holm", .nofile_max = 1024, .nproc_max = 100 };
	struct oci_spec out;
	struct err e = ERR_INIT;

	memset(i.id, 'a', ID_LEN);
	if (bundle_spec(&in, a, &out, &e) == 0) {
		json_decref(jtable_format(&oci_spec_table, &out));
	}
}

static void parse_body(const struct api_route *r, const char *text, size_t len, struct arena *a)
{
	auto_json json_t *doc = NULL;
	struct err e = ERR_INIT;

	if (!r->body || json_parse(text, len, &json_limits_request, "the body", &doc, &e) < 0) {
		return;
	}
	void *body = arena_alloc(a, 1, r->body->size);

	if (!body || jtable_parse(r->body, doc, a, body, &e) < 0) {
		free(api_error_text(&e));
		return;
	}
	json_decref(jtable_format(r->body, body));
	if (r->body == &instance_spec_table) {
		make_config(body, a);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena struct arena a = ARENA_INIT;

	if (size < 3 || size > 65536) {
		return 0;
	}
	char *text = arena_strndup(&a, (const char *)data + 2, size - 2);
	const struct api_route *r = choose(data[0] | (unsigned)data[1] << 8);
	char *query = text ? strchr(text, '\n') : NULL;

	if (!query) {
		return 0;
	}
	*query++ = '\0';
	match(r, text);
	if (signo_parse(text) > 64) {
		abort();
	}
	char *body = strstr(query, "\n\n");

	if (body) {
		*body = '\0';
		parse_body(r, body + 2, strlen(body + 2), &a);
	}
	parse_query(r, query, &a);
	return 0;
}
