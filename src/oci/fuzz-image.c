/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of images, each read as every kind; what parses is written and parsed again. */
#include <stdint.h>

#include "oci/image.h"

static void check_again(const struct jtable *t, const void *doc, void *again)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	auto_json json_t *j = jtable_format(t, doc);

	if (j) {
		int r = jtable_parse(t, j, &a, again, &e);

		assert(r == 0);
		(void)r;
	}
}

static void index_doc(const char *text, size_t size, const char *type)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_index x, again;
	const struct oci_desc *d;

	if (oci_index_parse(text, size, type, &a, &x, &e) == 0) {
		static const char *const platforms[] = { NULL, "linux/arm/v7", "windows/amd64", "" };

		for (size_t i = 0; i < ARRAY_LEN(platforms); i++) {
			ignore_result(oci_index_choose(&x, platforms[i], &d, &e)); /* may fail */
		}
		check_again(&oci_index_table, &x, &again);
	}
}

static void image_docs(const char *text, size_t size, const char *type)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_manifest m, m2;
	struct oci_image_config c, c2;
	bool is_manifest = oci_manifest_parse(text, size, type, &a, &m, &e) == 0;
	bool is_config = oci_image_config_parse(text, size, OCI_MEDIA_CONFIG, &a, &c, &e) == 0;

	/* Rule 17: nothing can be two things. */
	assert(!(is_manifest && is_config));
	if (is_manifest) {
		check_again(&oci_manifest_table, &m, &m2);
	}
	if (is_config) {
		check_again(&oci_image_config_table, &c, &c2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 65536) {
		return 0;
	}
	index_doc((const char *)data, size, OCI_MEDIA_INDEX);
	index_doc((const char *)data, size, DOCKER_MEDIA_LIST);
	image_docs((const char *)data, size, OCI_MEDIA_MANIFEST);
	image_docs((const char *)data, size, DOCKER_MEDIA_MANIFEST);
	return 0;
}
