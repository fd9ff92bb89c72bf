/* SPDX-License-Identifier: Apache-2.0 */
/* config.json, the process file of exec and the resources of update: parsed and checked, and
 * nothing made. */
#include <stddef.h>
#include <stdint.h>

#include "container/attrs.h"
#include "container/mempolicy.h"
#include "container/netdev.h"
#include "container/seccomp.h"
#include "container/self.h"
#include "container/sysctl.h"
#include "container/userns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_process(const struct oci_process *p)
{
	struct err e = ERR_INIT;
	struct caps caps;

	ignore_result(attrs_check(p, &e));                              /* any answer will do */
	ignore_result(caps_resolve(p->capabilities, UINT64_MAX, &caps, &e)); /* the same */
}

static void check_linux(const struct oci_linux *l)
{
	struct err e = ERR_INIT;
	uint64_t id;

	ignore_result(sysctl_check(l, &e)); /* any answer will do */
	if (l->seccomp) {
		ignore_result(seccomp_check(l->seccomp, &e)); /* the same */
	}
	ignore_result(netdevs_check(l, &e)); /* the same */
	if (l->memory_policy) {
		ignore_result(mempolicy_check(l->memory_policy, &e)); /* the same */
	}
	(void)self_writable_by(l); /* the same */
	ignore_result(userns_to_host(&l->uid_mappings, 0, &id)); /* the same */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	struct err e = ERR_INIT;
	struct oci_spec spec;
	struct oci_process process;
	struct oci_resources res;

	if (json_parse((const char *)data, size, &json_limits_document, "config.json", &doc, &e) < 0) {
		return 0;
	}
	if (oci_spec_parse(doc, &a, &spec, &e) == 0) {
		if (spec.process) {
			check_process(spec.process);
		}
		if (spec.linux) {
			check_linux(spec.linux);
		}
	}
	err_clear(&e);
	if (oci_process_parse(doc, &a, &process, &e) == 0) {
		check_process(&process);
	}
	err_clear(&e);
	ignore_result(jtable_parse(&oci_resources_table, doc, &a, &res, &e)); /* the same */
	return 0;
}
