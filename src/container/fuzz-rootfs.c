/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole OCI config, parsed and then checked for all that concerns the file system: it is
 * accepted, or refused with a reason.
 */
#include <stdlib.h>

#include "container/rootfs.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	struct err e = ERR_INIT;
	struct oci_spec spec;

	if (json_parse((const char *)data, size, &json_limits_document, "x", &doc, &e) < 0) {
		return 0;
	}
	if (oci_spec_parse(doc, &a, &spec, &e) < 0) {
		assert(e.errnum > 0 && e.msg[0]);
		return 0;
	}
	struct rootfs_conf conf = { .spec = &spec, .bundle = "/nowhere", .userns_fd = -1 };

	if (rootfs_check(&conf, &e) < 0) {
		assert(e.errnum > 0 && e.msg[0]);
	}
	return 0;
}
