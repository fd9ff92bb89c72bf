/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "oci/spec.h"

static int parse(const char *text, struct arena *a, struct oci_spec *spec, struct err *e)
{
	auto_json json_t *doc = NULL;

	assert_int_equal(json_parse(text, strlen(text), &json_limits_document, "t", &doc, e), 0);
	return oci_spec_parse(doc, a, spec, e);
}

static void test_tables_are_sound(void **state)
{
	(void)state;
	assert_null(jtable_fault(&oci_spec_table));
	assert_null(jtable_fault(&oci_process_table));
	assert_null(jtable_fault(&oci_resources_table));
}

static void test_whole_config(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_spec s;
	const char *text =
		"{\"ociVersion\":\"1.0.2\",\"future\":{\"x\":1},\"root\":{\"path\":\"rootfs\"},"
		"\"process\":{\"cwd\":\"/\",\"args\":[\"sh\",\"-c\",\"true\"],"
		"\"user\":{\"uid\":1000,\"gid\":100,\"additionalGids\":[5,6]},"
		"\"oomScoreAdj\":0,\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":10,\"soft\":5}]},"
		"\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"user\"}],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
		"\"resources\":{\"memory\":{\"limit\":-1},\"devices\":[{\"allow\":false}]}}}";

	assert_int_equal(parse(text, &a, &s, &e), 0);
	assert_string_equal(s.process->args.v[2], "true");
	assert_int_equal(s.process->user.additional_gids.v[1], 6);
	assert_true(s.process->has_oom_score_adj);
	assert_true(s.linux->resources->memory->has_limit);
	assert_false(s.linux->resources->memory->has_swap);
	assert_non_null(oci_linux_ns(s.linux, OCI_NS_USER));
	assert_null(oci_linux_ns(s.linux, OCI_NS_TIME));
}

static void test_faults_name_their_field(void **state)
{
	(void)state;
	static const struct {
		const char *text, *field;
	} rows[] = {
		{ "{}", "/ociVersion" },
		{ "{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"r\"}}", "/ociVersion" },
		{ "{\"ociVersion\":\"1.4.0\",\"root\":{\"path\":\"r\"}}", "/ociVersion" },
		{ "{\"ociVersion\":\"1.0.0\"}", "/root" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{}}", "/root/path" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"windows\":{}}", "/windows" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"namespaces\":"
		  "[{\"type\":\"pid\"},{\"type\":\"pid\"}]}}", "/linux/namespaces/1" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"namespaces\":"
		  "[{\"type\":\"moon\"}]}}", "/linux/namespaces/0/type" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"uidMappings\":"
		  "[{\"containerID\":0,\"hostID\":0,\"size\":1}]}}", "/linux/uidMappings" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"process\":{\"cwd\":\"x\"}}",
		  "/process/cwd" },
		{ "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"process\":{\"cwd\":\"/\","
		  "\"user\":{\"uid\":4294967295}}}", "/process/user/uid" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct err e = ERR_INIT;
		struct oci_spec s;

		assert_true(parse(rows[i].text, &a, &s, &e) < 0);
		assert_string_equal(e.field, rows[i].field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound),
		cmocka_unit_test(test_whole_config),
		cmocka_unit_test(test_faults_name_their_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
