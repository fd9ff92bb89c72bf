/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroupsPath on the first line, linux.resources as JSON behind it: the names that come out
 * stay inside, and the forms of the device rules agree.
 */
#include <linux/bpf.h>

#include "container/cgroup-priv.h"
#include "sys/path.h"

static void check_path(const char *path)
{
	auto_free char *clean = path_clean(path);
	struct cg_hier v1 = { .own = (char *)"/own" }, v2 = { .v2 = true, .own = (char *)"/a/own" };

	assert(clean && clean[0] == '/' && !strstr(clean, "/../") && !str_ends(clean, "/.."));
	auto_free char *again = path_clean(clean);
	auto_free char *one = cg__group_of(&v1, path, "id"), *two = cg__group_of(&v2, path, "id");

	assert(again && str_eq(again, clean));
	assert(one && two && one[0] == '/' && two[0] == '/');
	assert(!strstr(one, "/../") && !strstr(two, "/../"));
	/* What is relative stays below the group that it is relative to. */
	assert(path[0] == '/' || (cg__below(one, "/own") && cg__below(two, "/a")));

	auto_free char *slice = NULL, *unit = NULL, *expanded = NULL;
	struct err e = ERR_INIT;

	if (cg__systemd_names(path, "id", false, &slice, &unit, &e) == 0) {
		assert(!strchr(slice, '/') && !strchr(unit, '/'));
		assert(cg__slice_path(slice, &expanded, &e) == 0);
	}
	(void)cg__page_size_valid(path);
	(void)cg__ctrls_parse(path, ',', true);
}

static void check_devices(const struct oci_resources *res)
{
	struct cg_dev_rules rules = { .v = NULL }, set = { .v = NULL };
	struct bpf_insn *prog = NULL;
	struct err e = ERR_INIT;
	bool dflt = false;
	size_t n = 0;

	if (cg__dev_rules(res, &rules, &e) < 0) {
		assert(e.msg[0]);
		return;
	}
	assert(cg__dev_allowed(&rules, 'c', 1, 3, CG_DEV_ALL)); /* null, whatever the config says */
	if (cg__dev_reduce(&rules, &dflt, &set, &e) == 0) {
		for (size_t i = 0; !dflt && i < set.n; i++) {
			const struct cg_dev_rule *x = &set.v[i];

			assert(cg__dev_allowed(&rules, x->type, x->major < 0 ? 424242 : x->major,
					       x->minor < 0 ? 424242 : x->minor, x->access));
		}
	}
	assert(cg__bpf_program(&rules, &prog, &n) == 0 && n > 0);
	free(prog);
	cg__dev_rules_fini(&rules);
	cg__dev_rules_fini(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 65536) {
		return 0;
	}
	auto_free char *text = str_ndup((const char *)data, size);
	char *json = text ? strchr(text, '\n') : NULL;

	if (json) {
		*json++ = '\0';
	}
	if (text) {
		check_path(text);
	}
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	struct oci_resources res;
	struct err e = ERR_INIT;

	if (!json || json_parse(json, strlen(json), &json_limits_request, "input", &doc, &e) < 0 ||
	    jtable_parse(&oci_resources_table, doc, &a, &res, &e) < 0) {
		return 0;
	}
	check_devices(&res);
	if (res.memory) {
		bool set = false;
		int64_t swap = 0;

		ignore_result(cg__swap_of(res.memory, &set, &swap, &e)); /* it may refuse */
		assert(swap >= -1);
	}
	if (res.cpu) {
		uint64_t weight = cg__weight_of_shares(res.cpu->shares);

		assert(weight <= 10000 && (weight > 0 || res.cpu->shares == 0));
	}
	if (res.block_io) {
		assert(cg__io_weight_of_blkio(res.block_io->weight) <= 10000);
	}
	return 0;
}
