/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: names of groups, conversions, device rules and their BPF program. */
#include "container/test-cgroup.h"
#include "sys/path.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>

static void cleans_paths(void **state unused_arg)
{
	static const char *const rows[][2] = {
		{ "", "/" }, { "/", "/" }, { "a", "/a" }, { "/a//b/", "/a/b" }, { "/a/./b", "/a/b" },
		{ "/a/../b", "/b" }, { "../../x", "/x" }, { "/a/b/../../..", "/" }, { "..a/b..", "/..a/b.." },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *got = path_clean(rows[i][0]);

		assert_string_equal(got, rows[i][1]);
		assert_true(cg__clean_is(got));
		free(got);
	}
	assert_false(cg__clean_is("a"));
	assert_false(cg__clean_is("/a/"));
	assert_true(cg__below("/a/b", "/a"));
	assert_true(cg__below("/a", "/a"));
	assert_false(cg__below("/ab", "/a"));
	assert_true(cg__below("/x", "/"));
}

static void names_units(void **state unused_arg)
{
	static const struct {
		const char *path;
		bool        user;
		const char *slice, *unit;   /* NULL: refused */
	} rows[] = {
		{ NULL, false, "system.slice", "holm-c1.scope" },
		{ "", true, "user.slice", "holm-c1.scope" },
		{ "a-b.slice:libpod:x", false, "a-b.slice", "libpod-x.scope" },
		{ ":docker:x", false, "system.slice", "docker-x.scope" },
		{ "-:p:x", false, "-.slice", "p-x.scope" },
		{ "m.slice:p:own.slice", false, "m.slice", "own.slice" },
		{ "a.slice::x", false, "a.slice", "x.scope" },
		{ "/abs/path", false, NULL, NULL }, { "a.slice:x", false, NULL, NULL },
		{ "a:b:c:d", false, NULL, NULL }, { "a/b.slice:p:x", false, NULL, NULL },
		{ "noslice:p:x", false, NULL, NULL }, { "-a.slice:p:x", false, NULL, NULL },
		{ "a--b.slice:p:x", false, NULL, NULL }, { "a-.slice:p:x", false, NULL, NULL },
		{ "a.slice:p:", false, NULL, NULL }, { "a.slice:p:x y", false, NULL, NULL },
		{ "a.slice:p:../x", false, NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		char *slice = NULL, *unit = NULL;
		int r = cg__systemd_names(rows[i].path, "c1", rows[i].user, &slice, &unit, &e);

		if (!rows[i].slice) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(e.field, "/linux/cgroupsPath");
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(slice, rows[i].slice);
		assert_string_equal(unit, rows[i].unit);
		free(slice);
		free(unit);
	}
	struct err e = ERR_INIT;
	char *path = NULL;

	assert_int_equal(cg__slice_path("a-b-c.slice", &path, &e), 0);
	assert_string_equal(path, "/a.slice/a-b.slice/a-b-c.slice");
	free(path);
	assert_int_equal(cg__slice_path("-.slice", &path, &e), 0);
	assert_string_equal(path, "");
	free(path);
}

static void converts(void **state unused_arg)
{
	static const uint64_t shares[][2] = {
		{ 0, 0 }, { 1, 1 }, { 2, 1 }, { 1024, 100 }, { 262144, 10000 }, { 999999, 10000 },
	};
	static const uint64_t io[][2] = { { 0, 0 }, { 10, 1 }, { 1000, 10000 }, { 5, 1 }, { 500, 4950 } };
	uint64_t last = 0;

	for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
		assert_int_equal(cg__weight_of_shares(shares[i][0]), shares[i][1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(io); i++) {
		assert_int_equal(cg__io_weight_of_blkio(io[i][0]), io[i][1]);
	}
	for (uint64_t s = 2; s <= 262144; s += 97) { /* more shares are never less weight */
		assert_true(cg__weight_of_shares(s) >= last);
		last = cg__weight_of_shares(s);
	}
	assert_true(cg__page_size_valid("2MB") && cg__page_size_valid("64KB"));
	assert_false(cg__page_size_valid("MB") || cg__page_size_valid("2M") || cg__page_size_valid("2MB/"));
}

static void converts_swap(void **state unused_arg)
{
	static const struct {
		int64_t limit, swap;   /* 0: absent */
		bool    fails, set;
		int64_t want;
	} rows[] = {
		{ 0, 0, false, false, 0 }, { 100, 0, false, false, 0 }, { 100, 100, false, true, 0 },
		{ 100, 150, false, true, 50 }, { 100, -1, false, true, -1 }, { -1, 0, false, true, -1 },
		{ -1, -1, false, true, -1 }, { 0, -1, false, true, -1 }, { 0, 5, true, false, 0 },
		{ 100, 99, true, false, 0 }, { -1, 5, true, false, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct oci_memory m = { .has_limit = rows[i].limit != 0, .limit = rows[i].limit,
					.has_swap = rows[i].swap != 0, .swap = rows[i].swap };
		struct err e = ERR_INIT;
		bool set = false;
		int64_t got = 0;

		assert_int_equal(cg__swap_of(&m, &set, &got, &e), rows[i].fails ? -EINVAL : 0);
		if (!rows[i].fails) {
			assert_int_equal(set, rows[i].set);
			assert_int_equal(got, rows[i].want);
		}
	}
}

/* The kernel's part: the few instructions that the generator makes. -1: not one of them. */
static int run_bpf(const struct bpf_insn *p, size_t n, const struct bpf_cgroup_dev_ctx *ctx)
{
	uint64_t r[11] = { 0 };

	r[1] = (uintptr_t)ctx;
	for (size_t pc = 0; pc < n; pc++) {
		const struct bpf_insn *i = &p[pc];

		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W: {
			uint32_t v;

			memcpy(&v, (const char *)(uintptr_t)r[i->src_reg] + i->off, sizeof(v));
			r[i->dst_reg] = v;
			break;
		}
		case BPF_ALU64 | BPF_MOV | BPF_K:
			r[i->dst_reg] = (uint64_t)(int64_t)i->imm;
			break;
		case BPF_ALU64 | BPF_MOV | BPF_X:
			r[i->dst_reg] = r[i->src_reg];
			break;
		case BPF_ALU64 | BPF_AND | BPF_K:
			r[i->dst_reg] &= (uint64_t)(int64_t)i->imm;
			break;
		case BPF_ALU64 | BPF_RSH | BPF_K:
			r[i->dst_reg] >>= i->imm;
			break;
		case BPF_JMP32 | BPF_JNE | BPF_K:
			pc += (uint32_t)r[i->dst_reg] != (uint32_t)i->imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JEQ | BPF_K:
			pc += (uint32_t)r[i->dst_reg] == (uint32_t)i->imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)r[0];
		default:
			return -1;
		}
	}
	return -1;
}

static bool bpf_allows(const struct bpf_insn *p, size_t n, char type, int64_t major, int64_t minor,
		       unsigned access)
{
	uint32_t kernel = (access & CG_DEV_READ ? BPF_DEVCG_ACC_READ : 0) |
			  (access & CG_DEV_WRITE ? BPF_DEVCG_ACC_WRITE : 0) |
			  (access & CG_DEV_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0);
	struct bpf_cgroup_dev_ctx ctx = {
		.access_type = kernel << 16 | (type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR),
		.major = (uint32_t)major, .minor = (uint32_t)minor,
	};
	int r = run_bpf(p, n, &ctx);

	assert_true(r == 0 || r == 1);
	return r == 1;
}

static void device_defaults(void **state unused_arg)
{
	struct cg_dev_rules rules;
	struct err e = ERR_INIT;

	assert_int_equal(cg__dev_rules(NULL, &rules, &e), 0);
	assert_true(cg__dev_allowed(&rules, 'c', 1, 3, CG_DEV_ALL));
	assert_true(cg__dev_allowed(&rules, 'c', 136, 77, CG_DEV_READ));
	assert_true(cg__dev_allowed(&rules, 'b', 8, 0, CG_DEV_MKNOD));
	assert_false(cg__dev_allowed(&rules, 'b', 8, 0, CG_DEV_READ));
	assert_false(cg__dev_allowed(&rules, 'b', 8, 0, CG_DEV_READ | CG_DEV_MKNOD));
	assert_false(cg__dev_allowed(&rules, 'c', 1, 1, CG_DEV_READ)); /* mem */
	cg__dev_rules_fini(&rules);
}

static unsigned rnd(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n;
}

static struct cg_dev_rule random_rule(unsigned *seed)
{
	struct cg_dev_rule r = { .type = "abc"[rnd(seed, 3)], .allow = rnd(seed, 2),
				 .access = (uint8_t)(1 + rnd(seed, 7)),
				 .major = (int64_t)rnd(seed, 3) - 1, .minor = (int64_t)rnd(seed, 3) - 1 };

	if (r.type == 'a') {
		r.major = r.minor = -1;
	}
	return r;
}

/*
 * The kernel's v1 controller in a few lines: a default and exceptions. With the default
 * "deny" an access must be within one exception; with "allow" it must touch none.
 */
static bool v1_allows(const struct cg_dev_rules *set, bool dflt, char type, int64_t major,
		      int64_t minor, unsigned access)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct cg_dev_rule *x = &set->v[i];

		if (x->type != type || (x->major != -1 && x->major != major) ||
		    (x->minor != -1 && x->minor != minor)) {
			continue;
		}
		if (dflt ? (access & x->access) != 0 : (access & ~(unsigned)x->access) == 0) {
			return !dflt;
		}
	}
	return dflt;
}

/* All three forms of random rules say the same of every device and access. */
static void device_forms_agree(void **state unused_arg)
{
	unsigned seed = 7, reduced = 0;

	for (unsigned round = 0; round < 3000; round++) {
		struct cg_dev_rule v[6];
		struct cg_dev_rules rules = { v, rnd(&seed, 7) }, set = { .v = NULL };
		struct bpf_insn *prog = NULL;
		struct err e = ERR_INIT;
		size_t n = 0;
		bool dflt = false;

		for (size_t i = 0; i < rules.n; i++) {
			v[i] = random_rule(&seed);
		}
		assert_int_equal(cg__bpf_program(&rules, &prog, &n), 0);
		int r = cg__dev_reduce(&rules, &dflt, &set, &e);

		assert_true(r == 0 || e.code == ERR_UNSUPPORTED);
		reduced += r == 0;
		for (unsigned i = 0; i < 2 * 2 * 2 * 7; i++) {
			char type = i & 1 ? 'b' : 'c';
			int64_t major = i >> 1 & 1, minor = i >> 2 & 1;
			unsigned access = 1 + (i >> 3);
			bool want = cg__dev_allowed(&rules, type, major, minor, access);

			assert_int_equal(bpf_allows(prog, n, type, major, minor, access), want);
			/* v1 cannot add up two exceptions for one open: there one access at a time. */
			if (r == 0 && (access & (access - 1)) == 0) {
				assert_int_equal(v1_allows(&set, dflt, type, major, minor, access), want);
			} else if (r == 0 && !want) {
				assert_false(v1_allows(&set, dflt, type, major, minor, access));
			}
		}
		free(prog);
		cg__dev_rules_fini(&set);
	}
	assert_true(reduced > 1000);
}

static void device_big_numbers(void **state unused_arg)
{
	struct cg_dev_rule v[] = { { 'c', CG_DEV_ALL, true, UINT32_MAX, INT64_C(0x80000000) } };
	struct cg_dev_rules rules = { v, 1 };
	struct bpf_insn *prog = NULL;
	size_t n = 0;

	assert_int_equal(cg__bpf_program(&rules, &prog, &n), 0);
	assert_true(bpf_allows(prog, n, 'c', UINT32_MAX, INT64_C(0x80000000), CG_DEV_READ));
	assert_false(bpf_allows(prog, n, 'c', UINT32_MAX, 0, CG_DEV_READ));
	assert_false(bpf_allows(prog, n, 'b', UINT32_MAX, INT64_C(0x80000000), CG_DEV_READ));
	free(prog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cleans_paths), cmocka_unit_test(names_units), cmocka_unit_test(converts),
		cmocka_unit_test(converts_swap), cmocka_unit_test(device_defaults),
		cmocka_unit_test(device_forms_agree), cmocka_unit_test(device_big_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
