/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/default.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static bool has(const struct jstrv *v, const char *s)
{
	for (size_t i = 0; i < v->n; i++) {
		if (str_eq(v->v[i], s)) {
			return true;
		}
	}
	return false;
}

/* Each kind is a config that our own parser takes, and comes back the same. */
static void test_kinds(void **state)
{
	(void)state;
	for (int kind = 0; kind < OCI_DEFAULT__COUNT; kind++) {
		auto_arena struct arena a = ARENA_INIT, b = ARENA_INIT;
		auto_json json_t *j = NULL, *again = NULL;
		struct err e = ERR_INIT;
		struct oci_spec s, back;

		assert_int_equal(oci_default_spec((enum oci_default_kind)kind, 1000, 2000, &a, &s, &e), 0);
		if (kind == OCI_DEFAULT_INSTANCE) { /* what holmd has to add */
			assert_null(s.root);
			assert_int_equal(s.process->args.n, 0);
			s.root = arena_new(&a, struct oci_root);
			s.root->path = "/rootfs";
			assert_int_equal(oci_strv_add(&s.process->args, &a, "true"), 0);
		}
		j = jtable_format(&oci_spec_table, &s);
		assert_non_null(j);
		if (oci_spec_parse(j, &b, &back, &e) < 0) {
			fail_msg("%s %s", e.field, e.msg);
		}
		again = jtable_format(&oci_spec_table, &back);
		assert_true(json_equal(j, again));
	}
}

static void test_template(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_spec s;

	(void)state;
	assert_int_equal(oci_default_spec(OCI_DEFAULT_TEMPLATE, 0, 0, &a, &s, &e), 0);
	assert_true(s.process->terminal && s.process->no_new_privileges && s.root->readonly);
	assert_null(oci_linux_ns(s.linux, OCI_NS_USER));
	for (int ns = 0; ns < OCI_NS__COUNT; ns++) {
		if (ns != OCI_NS_USER && ns != OCI_NS_TIME) {
			assert_non_null(oci_linux_ns(s.linux, (enum oci_ns)ns));
		}
	}
	assert_int_equal(s.process->capabilities->inheritable.n, 0);
	assert_int_equal(s.process->capabilities->ambient.n, 0);
	assert_true(has(&s.linux->masked_paths, "/proc/kcore"));
	assert_true(has(&s.linux->masked_paths, "/sys/devices/virtual/powercap"));
	assert_true(has(&s.linux->readonly_paths, "/proc/sysrq-trigger"));
	assert_int_equal(s.linux->resources->devices.n, 1);
}

static void test_rootless(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct err e = ERR_INIT;
	struct oci_spec s;

	(void)state;
	assert_int_equal(oci_default_spec(OCI_DEFAULT_ROOTLESS, 1000, 2000, &a, &s, &e), 0);
	const struct oci_id_map *u = s.linux->uid_mappings.v, *g = s.linux->gid_mappings.v;

	assert_non_null(oci_linux_ns(s.linux, OCI_NS_USER));
	assert_null(oci_linux_ns(s.linux, OCI_NS_NETWORK));
	assert_int_equal(s.linux->uid_mappings.n, 1);
	assert_int_equal(u->host_id, 1000);
	assert_int_equal(u->container_id, 0);
	assert_int_equal(g->host_id, 2000);
	assert_null(s.linux->resources);
	for (size_t i = 0; i < s.mounts.n; i++) {
		const struct oci_mount *m = (const struct oci_mount *)s.mounts.v + i;

		assert_false(has(&m->options, "gid=5"));
		assert_true(!str_after(m->destination, "/sys") || has(&m->options, "rbind"));
	}
}

static void test_adding(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct jstrv v = { 0 };
	struct jvec n = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(oci_strv_add(&v, &a, i % 2 ? "b" : "a"), 0);
		assert_int_equal(oci_vec_add(&n, &a, &i, sizeof(i)), 0);
	}
	assert_string_equal(v.v[99], "b");
	assert_null(v.v[100]);
	assert_int_equal(((int *)n.v)[57], 57);
}

/* The rule that names a call and would match these arguments, or NULL. */
static const char *decision(const struct oci_seccomp *s, const char *name, uint64_t arg)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;

	for (size_t i = 0; i < s->syscalls.n; i++) {
		const struct oci_seccomp_arg *c = rules[i].args.v;
		bool match = has(&rules[i].names, name);

		if (match && rules[i].args.n == 1) {
			match = str_eq(c->op, "SCMP_CMP_LT") ? arg < c->value :
				str_eq(c->op, "SCMP_CMP_EQ") ? arg == c->value :
				(arg & c->value) == c->value_two;
		}
		if (match) {
			return rules[i].action;
		}
	}
	return s->default_action;
}

static void check(const struct jstrv *caps, const char *name, uint64_t arg, bool allowed)
{
	auto_arena struct arena a = ARENA_INIT;
	struct oci_seccomp *s = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(oci_default_seccomp(caps, &a, &s, &e), 0);
	if (str_eq(decision(s, name, arg), "SCMP_ACT_ALLOW") != allowed) {
		fail_msg("%s(%llu) %s", name, (unsigned long long)arg, decision(s, name, arg));
	}
}

/* Rule 11 of the threat model. */
static void test_seccomp(void **state)
{
	static const char *const never[] = {
		"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "add_key",
		"keyctl", "request_key", "kexec_load", "kexec_file_load", "socketcall", "uselib",
		"vm86", "nfsservctl", "lookup_dcookie_x", "create_module", "vmsplice",
	};
	static const char *const with_admin[] = {
		"mount", "umount2", "fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr",
		"unshare", "setns", "pivot_root", "bpf", "perf_event_open", "sethostname", "clone3",
	};
	auto_arena struct arena a = ARENA_INIT;
	struct jstrv none = { 0 }, admin = { 0 }, all = { 0 };

	(void)state;
	assert_int_equal(oci_strv_add(&admin, &a, "CAP_SYS_ADMIN"), 0);
	assert_int_equal(oci_strv_add(&all, &a, "CAP_SYS_ADMIN"), 0);
	assert_int_equal(oci_strv_add(&all, &a, "CAP_SYS_MODULE"), 0);
	for (size_t i = 0; i < ARRAY_LEN(never); i++) {
		check(&none, never[i], 0, false);
		check(&all, never[i], 0, false);
	}
	for (size_t i = 0; i < ARRAY_LEN(with_admin); i++) {
		check(&none, with_admin[i], 0, false);
		check(&admin, with_admin[i], 0, true);
	}
	check(&none, "clone", 17, true);
	for (int bit = 0; bit < 32; bit++) { /* any flag that makes a namespace */
		uint64_t flag = UINT64_C(1) << bit;

		check(&none, "clone", flag, !(flag & 0x7e020000));
	}
	check(&none, "clone", 0x110000000, false); /* NEWUSER with something above 32 bits */
	check(&admin, "clone", 0x10000000, true);
	for (uint64_t family = 0; family < 46; family++) {
		check(&all, "socket", family, family != 38 && family != 40);
		check(&all, "socket", (UINT64_C(1) << 32) + family, false);
	}
	check(&none, "personality", 0, true);
	check(&none, "personality", 0x0040000, false); /* no address randomisation */
	check(&none, "chroot", 0, false);
	check(&none, "openat", 0, true);
}

/* No name stands in two places of the plain list, which would hide one with conditions. */
static void test_seccomp_names(void **state)
{
	auto_arena struct arena a = ARENA_INIT;
	struct oci_seccomp *s = NULL;
	struct jstrv none = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(oci_default_seccomp(&none, &a, &s, &e), 0);
	const struct oci_seccomp_rule *rules = s->syscalls.v;

	for (size_t i = 0; i < rules[0].names.n; i++) {
		const char *name = rules[0].names.v[i];

		for (size_t k = i + 1; k < rules[0].names.n; k++) {
			assert_string_not_equal(name, rules[0].names.v[k]);
		}
		for (size_t k = 1; k < s->syscalls.n; k++) {
			assert_false(has(&rules[k].names, name));
		}
	}
}

static void test_memory(void **state)
{
	bool done = false;

	(void)state;
	for (unsigned long n = 1; !done; n++) {
		auto_arena struct arena a = ARENA_INIT;
		struct oci_seccomp *p = NULL;
		struct jstrv none = { 0 };
		struct err e = ERR_INIT;
		struct oci_spec s;
		int r = 0;

		mem_fail_at(n, true);
		r = oci_default_spec(OCI_DEFAULT_ROOTLESS, 0, 0, &a, &s, &e);
		r = r < 0 ? r : oci_default_seccomp(&none, &a, &p, &e);
		done = !mem_failed();
		mem_fail_at(0, false);
		assert_int_equal(r, done ? 0 : -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_template),
		cmocka_unit_test(test_rootless),
		cmocka_unit_test(test_adding),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_seccomp_names),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
