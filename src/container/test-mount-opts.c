/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "container/mount-opts.h"
#include "sys/mount.h"

static struct mount_opts parse(const char *a, const char *b, const char *c)
{
	const char *v[] = { a, b, c, NULL };
	struct jstrv options = { .v = v, .n = 0 };
	struct mount_opts o = MOUNT_OPTS_INIT;
	struct err e = ERR_INIT;

	while (v[options.n]) {
		options.n++;
	}
	assert_int_equal(mount_opts_parse(&options, &o, &e), 0);
	return o;
}

static bool is_empty(const struct mount_opts *o)
{
	struct mount_opts zero = { .data = { .v = o->data.v } };

	return memcmp(o, &zero, sizeof(zero)) == 0;
}

/* Sorted, as the search by halves wants; none twice; each is known and none becomes data. */
static void table(void **state)
{
	(void)state;
	size_t n = 0;

	for (; mount_opts_names[n]; n++) {
		struct mount_opts o = parse(mount_opts_names[n], NULL, NULL);

		if (n > 0 && strcmp(mount_opts_names[n - 1], mount_opts_names[n]) >= 0) {
			fail_msg("%s stands wrong", mount_opts_names[n]);
		}
		if (o.data.n != 0) {
			fail_msg("%s is not found", mount_opts_names[n]);
		}
		mount_opts_fini(&o);
	}
	assert_true(n >= 64);
}

/* "no" and its opposite, and the pairs that are named otherwise, undo each other. */
static void opposites(void **state)
{
	(void)state;
	static const struct {
		const char *on, *off;
		uint64_t    flag;
	} rows[] = {
		{ "ro", "rw", MOUNT_ATTR_RDONLY },
		{ "nosuid", "suid", MOUNT_ATTR_NOSUID },
		{ "nodev", "dev", MOUNT_ATTR_NODEV },
		{ "noexec", "exec", MOUNT_ATTR_NOEXEC },
		{ "nodiratime", "diratime", MOUNT_ATTR_NODIRATIME },
		{ "nosymfollow", "symfollow", MOUNT_ATTR_NOSYMFOLLOW },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char on[32], off[32];
		struct mount_opts a = parse(rows[i].off, rows[i].on, NULL);
		struct mount_opts b = parse(rows[i].on, rows[i].off, NULL);

		assert_true(a.set == rows[i].flag && a.clear == 0 && a.rec_set == 0);
		assert_true(b.set == 0 && b.clear == rows[i].flag && b.rec_clear == 0);
		mount_opts_fini(&a);
		mount_opts_fini(&b);
		(void)snprintf(on, sizeof(on), "r%s", rows[i].on);
		(void)snprintf(off, sizeof(off), "r%s", rows[i].off);
		a = parse(off, on, NULL);
		b = parse(on, off, NULL);
		assert_true(a.rec_set == rows[i].flag && a.rec_clear == 0 && a.set == 0);
		assert_true(b.rec_set == 0 && b.rec_clear == rows[i].flag && b.clear == 0);
		mount_opts_fini(&a);
		mount_opts_fini(&b);
	}
}

static void atime(void **state)
{
	(void)state;
	static const struct {
		const char *first, *second;
		uint64_t    set, clear;
	} rows[] = {
		{ "noatime", NULL, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
		{ "relatime", NULL, 0, MOUNT_ATTR__ATIME },
		{ "strictatime", NULL, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
		{ "noatime", "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
		{ "strictatime", "nostrictatime", 0, MOUNT_ATTR__ATIME },
		{ "noatime", "atime", 0, MOUNT_ATTR__ATIME },
		{ "noatime", "norelatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
		{ "nostrictatime", NULL, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mount_opts o = parse(rows[i].first, rows[i].second, NULL);

		assert_int_equal(o.set, rows[i].set);
		assert_int_equal(o.clear, rows[i].clear);
		mount_opts_fini(&o);
	}
}

static void others(void **state)
{
	(void)state;
	struct mount_opts o = parse("rbind", "rslave", "shared");

	assert_true(o.bind && o.recursive && o.n_propagation == 2);
	assert_true(o.propagation[0].flag == MS_SLAVE && o.propagation[0].recursive);
	assert_true(o.propagation[1].flag == MS_SHARED && !o.propagation[1].recursive);
	mount_opts_fini(&o);

	o = parse("defaults", "loud", "norelatime");
	assert_true(is_empty(&o));
	mount_opts_fini(&o);

	o = parse("sync", "async", "size=64k");
	assert_int_equal(o.super, 0);
	assert_int_equal(o.data.n, 1);
	assert_string_equal(o.data.v[0], "size=64k");
	mount_opts_fini(&o);

	o = parse("ridmap", "tmpcopyup", "remount");
	assert_true(o.idmap == MOUNT_IDMAP_RECURSIVE && o.copy_up && o.remount);
	mount_opts_fini(&o);

	const char *many[] = { "shared", "shared", "shared", "shared", "shared" };
	struct jstrv v = { .v = many, .n = 5 };
	struct err e = ERR_INIT;

	assert_int_equal(mount_opts_parse(&v, &o, &e), -EINVAL);
}

static void propagation_names(void **state)
{
	(void)state;
	struct mount_propagation p;

	assert_int_equal(mount_propagation_parse("rprivate", &p), 0);
	assert_true(p.flag == MS_PRIVATE && p.recursive);
	assert_int_equal(mount_propagation_parse("unbindable", &p), 0);
	assert_true(p.flag == MS_UNBINDABLE && !p.recursive);
	assert_int_equal(mount_propagation_parse("ro", &p), -EINVAL);
	assert_int_equal(mount_propagation_parse("", &p), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table), cmocka_unit_test(opposites), cmocka_unit_test(atime),
		cmocka_unit_test(others), cmocka_unit_test(propagation_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
