/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of the API as tables: rights, documentation, unique paths, the document. */
#include "base/test.h"

#include <errno.h>
#include <signal.h>

#include "node/api.h"
#include "node/bundle.h"
#include "node/exec.h"
#include "node/instance.h"
#include "node/signals.h"
#include "oci/default.h"

static void tables_are_whole(void **state)
{
	(void)state;
	const char *fault = api_tables_fault(api_tables);

	if (fault) {
		fail_msg("%s", fault);
	}
}

static void matching(void **state)
{
	(void)state;
	static const struct {
		const char *method, *path, *action, *param;
		bool        known;
	} rows[] = {
		{ "GET", "/v1/instances", "instance.list", NULL, true },
		{ "POST", "/v1/instances", "instance.create", NULL, true },
		{ "GET", "/v1/instances/web", "instance.get", "web", true },
		{ "DELETE", "/v1/instances/a.b-c", "instance.remove", "a.b-c", true },
		{ "POST", "/v1/instances/web/kill", "instance.kill", "web", true },
		{ "GET", "/v1/images/docker.io%2Flibrary%2fa%3A1", "image.get",
		  "docker.io/library/a:1", true },
		{ "GET", "/v1/images/a%2", NULL, NULL, false },
		{ "GET", "/v1/images/a%zz", NULL, NULL, false },
		{ "GET", "/v1/images/a%00b", NULL, NULL, false },
		{ "PUT", "/v1/instances/web/kill", NULL, NULL, true },
		{ "GET", "/v1/instances/", NULL, NULL, false },
		{ "GET", "/v1/instances/a/b/c", NULL, NULL, false },
		{ "GET", "/v1/instance", NULL, NULL, false },
		{ "GET", "", NULL, NULL, false },
		{ "GET", "/", NULL, NULL, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *params[2] = { NULL, NULL };
		bool known;
		const struct api_route *r = api_match(api_tables, rows[i].method, rows[i].path,
						      params, &known);

		assert_int_equal(known, rows[i].known);
		assert_int_equal(r != NULL, rows[i].action != NULL);
		if (r) {
			assert_string_equal(r->action, rows[i].action);
		}
		if (rows[i].param) {
			assert_string_equal(params[0], rows[i].param);
		}
		free(params[0]);
		free(params[1]);
	}
}

/* Every reference in the document leads somewhere, and every operation has its own id. */
static void check_refs(const json_t *root, const json_t *j)
{
	const char *key;
	json_t *v;
	size_t i;

	if (json_is_object(j)) {
		json_object_foreach((json_t *)(uintptr_t)j, key, v) {
			if (str_eq(key, "$ref")) {
				const char *name = strrchr(json_string_value(v), '/') + 1;
				json_t *c = json_object_get(root, "components");

				if (!json_object_get(json_object_get(c, "schemas"), name) &&
				    !json_object_get(json_object_get(c, "responses"), name)) {
					fail_msg("no %s", json_string_value(v));
				}
			}
			check_refs(root, v);
		}
	} else if (json_is_array(j)) {
		json_array_foreach(j, i, v) {
			check_refs(root, v);
		}
	}
}

static void document(void **state)
{
	(void)state;
	auto_json json_t *doc = openapi_document(api_tables);
	auto_json json_t *ids = json_object();
	const char *path, *method;
	json_t *item, *op;

	assert_non_null(doc);
	assert_string_equal(json_string_value(json_object_get(doc, "openapi")), "3.1.0");
	check_refs(doc, doc);
	json_object_foreach(json_object_get(doc, "paths"), path, item) {
		json_object_foreach(item, method, op) {
			const char *id = json_string_value(json_object_get(op, "operationId"));

			assert_non_null(id);
			assert_null(json_object_get(ids, id));
			json_object_set_new(ids, id, json_true());
		}
	}
	assert_true(json_object_size(ids) > 20);
}

static void errors(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	auto_json json_t *doc = NULL;

	ignore_result(err_field(&e, "/a/b", "bad \"thing\"")); /* its text is what is tested */
	auto_free char *text = api_error_text(&e);

	doc = json_loads(text, 0, NULL);
	json_t *x = json_object_get(doc, "error");

	assert_string_equal(json_string_value(json_object_get(x, "code")), "invalid");
	assert_string_equal(json_string_value(json_object_get(x, "field")), "/a/b");
}

static int parse_spec(const char *text, struct arena *a, struct instance_spec *ret, struct err *e)
{
	auto_json json_t *doc = NULL;

	*e = (struct err)ERR_INIT;
	assert_int_equal(json_parse(text, strlen(text), &json_limits_request, "test", &doc, e), 0);
	return jtable_parse(&instance_spec_table, doc, a, ret, e);
}

static void bad_specs(void **state)
{
	(void)state;
	static const struct {
		const char *text, *field;
		int         errnum;
	} rows[] = {
		{ "{}", "/image", EINVAL },
		{ "{\"image\":\"a\",\"rootfs\":\"/b\"}", "/image", EINVAL },
		{ "{\"image\":\"a\",\"bogus\":1}", "/bogus", EINVAL },
		{ "{\"image\":\"a\",\"env\":[\"noequals\"]}", "/env/0", EINVAL },
		{ "{\"image\":\"a\",\"env\":[\"=x\"]}", "/env/0", EINVAL },
		{ "{\"image\":\"a\",\"hostname\":\"a\\nb\"}", "/hostname", EINVAL },
		{ "{\"image\":\"a\",\"dns\":[\"1.1.1.1\\nsearch x\"]}", "/dns/0", EINVAL },
		{ "{\"image\":\"a\",\"extra_hosts\":[\"x:1\\n2\"]}", "/extra_hosts/0", EINVAL },
		{ "{\"image\":\"a\",\"stop_signal\":\"NOPE\"}", "/stop_signal", EINVAL },
		{ "{\"image\":\"a\",\"resources\":{\"memory\":1}}", "/resources/memory", ERANGE },
		{ "{\"image\":\"a\",\"resources\":{\"cpus\":-1}}", "/resources/cpus", EINVAL },
		{ "{\"image\":\"a\",\"mounts\":[{\"type\":\"bind\",\"target\":\"/x\"}]}",
		  "/mounts/0/source", EINVAL },
		{ "{\"image\":\"a\",\"mounts\":[{\"type\":\"bind\",\"source\":\"rel\","
		  "\"target\":\"/x\"}]}", "/mounts/0/source", EINVAL },
		{ "{\"image\":\"a\",\"auto_remove\":true,\"restart\":{\"policy\":\"always\"}}",
		  "/restart/policy", EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct instance_spec s;
		struct err e;

		assert_true(parse_spec(rows[i].text, &a, &s, &e) < 0);
		assert_string_equal(e.field, rows[i].field);
		assert_true(e.code == ERR_INVALID || e.code == ERR_LIMIT);
	}
}

/* A config for an instance, from a spec and an image. */
static void make(const char *text, struct arena *a, struct oci_spec *ret, int *ret_r, struct err *e)
{
	static struct instance i;
	static const char *const env[] = { "A=image", "B=image", NULL };
	static const char *const entry[] = { "/entry", NULL };
	static const char *const cmd[] = { "cmd", NULL };
	struct oci_image_run run = {
		.env = { .v = (const char **)(uintptr_t)env, .n = 2 },
		.entrypoint = { .v = (const char **)(uintptr_t)entry, .n = 1 },
		.cmd = { .v = (const char **)(uintptr_t)cmd, .n = 1 },
		.working_dir = "/srv",
	};
	struct bundle_user user = { .user = { .uid = 0 }, .home = "/root" };
	struct bundle_in in = { .instance = &i, .run = &run, .user = &user, .dir = "/run/x",
				.cgroup_parent = "/holm", .nofile_max = 1024, .nproc_max = 100 };

	memset(&i, 0, sizeof(i));
	memset(i.id, 'a', ID_LEN);
	i.status.id_base = 100000;
	i.status.id_count = 65536;
	*ret_r = parse_spec(text, a, &i.spec, e);
	i.status.id_count = i.spec.userns == USERNS_HOST ? 0 : 65536;
	if (*ret_r == 0) {
		*ret_r = bundle_spec(&in, a, ret, e);
	}
}

static bool has(const struct jstrv *v, const char *s)
{
	for (size_t i = 0; i < v->n; i++) {
		if (str_eq(v->v[i], s)) {
			return true;
		}
	}
	return false;
}

static void config_of_an_instance(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct oci_spec s;
	struct err e;
	int r;

	make("{\"image\":\"x\",\"command\":[\"a\",\"b\"],\"env\":[\"B=mine\"],"
	     "\"cap_add\":[\"net_admin\"],\"cap_drop\":[\"CAP_CHOWN\"]}", &a, &s, &r, &e);
	assert_int_equal(r, 0);
	assert_int_equal(s.process->args.n, 3);
	assert_string_equal(s.process->args.v[0], "/entry");
	assert_string_equal(s.process->args.v[2], "b");
	assert_true(has(&s.process->env, "A=image"));
	assert_true(has(&s.process->env, "B=mine"));
	assert_false(has(&s.process->env, "B=image"));
	assert_true(has(&s.process->env, "HOME=/root"));
	assert_string_equal(s.process->cwd, "/srv");
	assert_true(has(&s.process->capabilities->bounding, "CAP_NET_ADMIN"));
	assert_false(has(&s.process->capabilities->bounding, "CAP_CHOWN"));
	assert_int_equal(s.process->capabilities->inheritable.n, 0);
	assert_int_equal(s.process->capabilities->ambient.n, 0);
	assert_non_null(oci_linux_ns(s.linux, OCI_NS_USER));
	assert_non_null(oci_linux_ns(s.linux, OCI_NS_NETWORK));
	assert_non_null(s.linux->seccomp);
	assert_false(s.process->no_new_privileges);
	assert_int_equal(s.linux->resources->pids->limit, 2048);
}

static void config_variants(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct oci_spec s;
	struct err e;
	int r;

	/* Rule 10: without a user namespace nothing may gain privileges. */
	make("{\"image\":\"x\",\"userns\":\"host\",\"network\":\"host\"}", &a, &s, &r, &e);
	assert_int_equal(r, 0);
	assert_true(s.process->no_new_privileges);
	assert_null(oci_linux_ns(s.linux, OCI_NS_USER));
	assert_null(oci_linux_ns(s.linux, OCI_NS_NETWORK));

	make("{\"image\":\"x\",\"entrypoint\":[],\"command\":[\"only\"]}", &a, &s, &r, &e);
	assert_int_equal(r, 0);
	assert_int_equal(s.process->args.n, 1);

	make("{\"image\":\"x\",\"entrypoint\":[]}", &a, &s, &r, &e);
	assert_int_equal(r, -EINVAL);
	assert_string_equal(e.field, "/command");

	make("{\"image\":\"x\",\"cap_drop\":[\"ALL\"],\"cap_add\":[\"KILL\"]}", &a, &s, &r, &e);
	assert_int_equal(r, 0);
	assert_int_equal(s.process->capabilities->bounding.n, 1);
	assert_string_equal(s.process->capabilities->bounding.v[0], "CAP_KILL");

	make("{\"image\":\"x\",\"cap_add\":[\"BOGUS\"]}", &a, &s, &r, &e);
	assert_int_equal(r, -EINVAL);
	assert_string_equal(e.field, "/cap_add/0");

	make("{\"image\":\"x\",\"security_opt\":[\"seccomp=unconfined\"]}", &a, &s, &r, &e);
	assert_int_equal(r, 0);
	assert_null(s.linux->seccomp);

	make("{\"image\":\"x\",\"security_opt\":[\"what=ever\"]}", &a, &s, &r, &e);
	assert_int_equal(r, -EINVAL);
}

static void signal_names(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int         signo;
	} rows[] = {
		{ "TERM", SIGTERM }, { "SIGTERM", SIGTERM }, { "sigkill", SIGKILL }, { "9", 9 },
		{ "RTMIN", 34 }, { "SIGRTMIN+3", 37 }, { "RTMAX-1", 63 }, { "0", -EINVAL },
		{ "65", -EINVAL }, { "", -EINVAL }, { "SIG", -EINVAL }, { "TERM ", -EINVAL },
		{ "RTMIN+31", -EINVAL }, { "-9", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(signo_parse(rows[i].text), rows[i].signo);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_whole), cmocka_unit_test(matching),
		cmocka_unit_test(document), cmocka_unit_test(errors), cmocka_unit_test(bad_specs),
		cmocka_unit_test(config_of_an_instance), cmocka_unit_test(config_variants),
		cmocka_unit_test(signal_names),
	};

	return TEST_RUN(tests);
}
