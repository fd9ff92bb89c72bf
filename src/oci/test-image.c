/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "oci/image.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define CONFIG_DESC \
	"\"config\":{\"mediaType\":\"" OCI_MEDIA_CONFIG "\",\"digest\":\"" D1 "\",\"size\":7}"
#define LAYER_DESC \
	"{\"mediaType\":\"" OCI_MEDIA_LAYER_GZIP "\",\"digest\":\"" D2 "\",\"size\":9}"

static int manifest(const char *text, const char *type, struct arena *a, struct err *e)
{
	struct oci_manifest m;

	return oci_manifest_parse(text, strlen(text), type, a, &m, e);
}

static void test_tables_are_sound(void **state)
{
	(void)state;
	assert_null(jtable_fault(&oci_index_table));
	assert_null(jtable_fault(&oci_manifest_table));
	assert_null(jtable_fault(&oci_image_config_table));
}

static void test_digests(void **state)
{
	(void)state;
	assert_true(oci_digest_valid(D1));
	assert_false(oci_digest_valid("sha256:11"));
	assert_false(oci_digest_valid(D1 "1"));
	assert_false(oci_digest_valid("md5:11111111111111111111111111111111"));
	assert_false(oci_digest_valid(
		"sha256:A111111111111111111111111111111111111111111111111111111111111111"));
	assert_false(oci_digest_valid(
		"sha256:../11111111111111111111111111111111111111111111111111111111111111"));
	assert_false(oci_digest_valid(""));
}

static void test_manifest(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_manifest m;
	const char *text = "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[" LAYER_DESC "],"
			   "\"annotations\":{\"k\":\"v\"},\"future\":1}";

	assert_int_equal(oci_manifest_parse(text, strlen(text), OCI_MEDIA_MANIFEST, &a, &m, &e), 0);
	assert_int_equal(m.layers.n, 1);
	assert_string_equal(oci_layer(&m, 0)->digest, D2);
	assert_int_equal(oci_layer(&m, 0)->size, 9);
	assert_string_equal(m.config.digest, D1);
}

/* Rule 17: the media type must match; a document that is valid as two types is refused. */
static void test_what_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *type, *field;
		enum err_code code;
	} rows[] = {
		{ "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[],\"manifests\":[]}",
		  OCI_MEDIA_MANIFEST, "", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[],\"fsLayers\":[]}",
		  DOCKER_MEDIA_MANIFEST, "", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MEDIA_INDEX "\"," CONFIG_DESC
		  ",\"layers\":[]}", OCI_MEDIA_MANIFEST, "/mediaType", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_MEDIA_MANIFEST "\"," CONFIG_DESC
		  ",\"layers\":[]}", OCI_MEDIA_MANIFEST, "/mediaType", ERR_INVALID },
		{ "{\"schemaVersion\":1," CONFIG_DESC ",\"layers\":[]}", OCI_MEDIA_MANIFEST,
		  "/schemaVersion", ERR_INVALID },
		{ "{\"schemaVersion\":2,\"layers\":[]}", OCI_MEDIA_MANIFEST, "/config", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[{\"mediaType\":\"x\","
		  "\"digest\":\"sha256:zz\",\"size\":1}]}", OCI_MEDIA_MANIFEST,
		  "/layers/0/digest", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[{\"mediaType\":\"x\","
		  "\"digest\":\"" D1 "\",\"size\":-1}]}", OCI_MEDIA_MANIFEST,
		  "/layers/0/size", ERR_INVALID },
		{ "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[]}", OCI_MEDIA_INDEX, "",
		  ERR_UNSUPPORTED },
		{ "{\"schemaVersion\":1}",
		  "application/vnd.docker.distribution.manifest.v1+prettyjws", "", ERR_UNSUPPORTED },
		{ "{\"schemaVersion\":2,\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[]}",
		  OCI_MEDIA_MANIFEST, "", ERR_INVALID },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct err e = ERR_INIT;

		assert_true(manifest(rows[i].text, rows[i].type, &a, &e) < 0);
		assert_int_equal(e.code, rows[i].code);
		assert_string_equal(e.field, rows[i].field);
	}
}

static void test_config(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_image_config c;
	const char *text =
		"{\"created\":\"2026-01-02T03:04:05Z\",\"architecture\":\"amd64\",\"os\":\"linux\","
		"\"config\":{\"User\":\"1000:1000\",\"Env\":[\"PATH=/bin\"],\"Cmd\":[\"sh\"],"
		"\"Entrypoint\":null,\"ExposedPorts\":{\"80/tcp\":{}},\"Volumes\":{\"/data\":{}},"
		"\"Labels\":{\"a\":\"b\"},\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],"
		"\"Interval\":30000000000},\"Hostname\":\"\"},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\"]},"
		"\"history\":[{\"created_by\":\"ADD\"},{\"empty_layer\":true}]}";

	assert_int_equal(oci_image_config_parse(text, strlen(text), OCI_MEDIA_CONFIG, &a, &c, &e), 0);
	assert_string_equal(c.config->exposed_ports.keys[0], "80/tcp");
	assert_string_equal(c.config->cmd.v[0], "sh");
	assert_int_equal(c.config->entrypoint.n, 0);
	assert_int_equal(c.history.n, 2);
	assert_int_equal(c.config->healthcheck->interval_ns, 30000000000);

	struct oci_manifest m;
	const char *two = "{\"schemaVersion\":2," CONFIG_DESC ",\"layers\":[" LAYER_DESC ","
			  LAYER_DESC "]}";

	assert_int_equal(oci_manifest_parse(two, strlen(two), OCI_MEDIA_MANIFEST, &a, &m, &e), 0);
	assert_int_equal(oci_image_check(&m, &c, &e), -EINVAL);
	assert_string_equal(e.field, "/rootfs/diff_ids");

	const char *bad = "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"x\"]}}";

	err_clear(&e);
	assert_int_equal(oci_image_config_parse(bad, strlen(bad), OCI_MEDIA_CONFIG, &a, &c, &e),
			 -EINVAL);
	assert_string_equal(e.field, "/rootfs/diff_ids");
}

#define ENTRY(digit, os, arch, more) \
	"{\"mediaType\":\"" OCI_MEDIA_MANIFEST "\",\"size\":1,\"digest\":\"sha256:" digit \
	"111111111111111111111111111111111111111111111111111111111111111\"," \
	"\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"" more "}}"

static void test_choose(void **state)
{
	(void)state;
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_index x;
	const struct oci_desc *d = NULL;
	const char *text =
		"{\"schemaVersion\":2,\"manifests\":["
		ENTRY("a", "unknown", "unknown", "") ","
		ENTRY("b", "linux", "arm", ",\"variant\":\"v7\"") ","
		ENTRY("c", "linux", "arm64", ",\"variant\":\"v8\"") ","
		ENTRY("d", "linux", "amd64", "") "]}";
	static const struct {
		const char *platform;
		char        digit;
	} rows[] = { { "linux/amd64", 'd' }, { "linux/arm64", 'c' }, { "linux/arm/v7", 'b' },
		     { "linux/amd64/v2", 'd' } };

	assert_int_equal(oci_index_parse(text, strlen(text), OCI_MEDIA_INDEX, &a, &x, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(oci_index_choose(&x, rows[i].platform, &d, &e), 0);
		assert_int_equal(d->digest[7], rows[i].digit);
	}
	assert_int_equal(oci_index_choose(&x, "linux/arm", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "linux/arm64/v8"));
	assert_int_equal(oci_index_choose(&x, "linux/s390x", &d, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound), cmocka_unit_test(test_digests),
		cmocka_unit_test(test_manifest), cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_config), cmocka_unit_test(test_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
