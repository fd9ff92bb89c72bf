/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays of layers, with and without a range of ids. As root: mounts, in a namespace of ours. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/fsuid.h>
#include <sys/sysmacros.h>

#include "image/rootfs.h"
#include "sys/cred.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/xattr.h"

enum { BASE = 1900000000, COUNT = 65536 };

struct fixture {
	char       path[64];
	int        dir_fd;
	int        layers[3];
	int        own_fd;
	struct err e;
};

static void write_file(int dir_fd, const char *name, const char *text, uid_t owner)
{
	auto_close int fd = sys_openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	assert_in_range(fd, 0, 1000);
	assert_int_equal(sys_write_full(fd, text, strlen(text)), 0);
	assert_int_equal(sys_fchownat(dir_fd, name, owner, owner, AT_SYMLINK_NOFOLLOW), 0);
}

/* As to files, with the capabilities of root. */
static void act_as(uint32_t id)
{
	struct sys_caps caps;

	assert_int_equal(sys_capget(&caps), 0);
	setfsgid(id);
	setfsuid(id);
	caps.effective = caps.permitted;
	assert_int_equal(sys_capset(&caps), 0);
}

static int folder(struct fixture *f, const char *name)
{
	assert_int_equal(sys_mkdirat(f->dir_fd, name, 0755), 0);
	int fd = sys_openat(f->dir_fd, name, O_RDONLY | O_DIRECTORY, 0);

	assert_true(fd >= 0);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/holm-test-rootfs-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = sys_openat(AT_FDCWD, f->path, O_RDONLY | O_DIRECTORY, 0);
	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "l%d", i);
		f->layers[i] = folder(f, name);
		snprintf(name, sizeof(name), "f%d", i);
		write_file(f->layers[i], name, name, 1000);
	}
	assert_int_equal(sys_fchmod(f->layers[2], 0751), 0);
	assert_int_equal(sys_mkdirat(f->layers[0], "d", 0755), 0);
	write_file(f->layers[0], "d/deep", "deep", 5);
	write_file(f->layers[0], "gone", "gone", 0);
	assert_int_equal(sys_mknodat(f->layers[1], "gone", S_IFCHR, makedev(0, 0)), 0);
	f->own_fd = folder(f, "own");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 3; i++) {
		fd_close(&f->layers[i]);
	}
	fd_close(&f->own_fd);
	fd_close(&f->dir_fd);
	assert_int_equal(sys_remove_tree(AT_FDCWD, f->path), 0);
	free(f);
	return 0;
}

static void expect_file(int dir_fd, const char *name, uid_t owner)
{
	struct stat st;

	assert_int_equal(sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, owner);
	assert_int_equal(st.st_gid, owner);
}

static void expect_none(int dir_fd, const char *name)
{
	struct stat st;

	assert_int_equal(sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), -ENOENT);
}

/* What an instance sees and does, and what of it is on disk. */
static void use_mount(struct fixture *f, int mnt, uint32_t base)
{
	struct stat st;

	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		expect_file(mnt, name, base + 1000);
	}
	expect_none(mnt, "gone");
	assert_int_equal(sys_fstatat(mnt, "", &st, AT_EMPTY_PATH), 0);
	assert_int_equal(st.st_mode & 07777, 0751); /* the root as the top layer has it */

	/* Writing, as the instance's root: owners on disk are the image's ids. */
	act_as(base);
	write_file(mnt, "new", "new", base + 7);
	assert_int_equal(sys_renameat2(mnt, "d", mnt, "e", 0), 0); /* a folder of a lower layer */
	assert_int_equal(sys_unlinkat(mnt, "f0", 0), 0);
	assert_int_equal(sys_fchownat(mnt, "f1", base + 2, base + 2, 0), 0);
	act_as(0);
	expect_file(mnt, "e/deep", base + 5);
	expect_file(f->own_fd, "upper/new", 7);
	expect_file(f->own_fd, "upper/f1", 2);
	expect_file(f->own_fd, "upper/e", 0);
	expect_file(f->layers[1], "f1", 1000); /* layers never change */
	expect_file(f->layers[0], "f0", 1000);
}

static void run(struct fixture *f, uint32_t count, bool by_name)
{
	struct rootfs_opts o = { .ids = { .base = count ? BASE : 0, .count = count },
				 .upper_fd = f->own_fd };

	if (by_name) {
		/* As a kernel before 6.13 answers. */
		sys_fault_arm(SYS_CALL_fsconfig, 1, 1, EINVAL);
	}
	auto_close int mnt = rootfs_mount_layers(f->layers, 3, &o, &f->e);

	sys_fault_clear();
	assert_string_equal(f->e.msg, "");
	assert_true(mnt >= 0);
	auto_close int at = folder(f, "at");

	assert_int_equal(rootfs_attach(mnt, at, &f->e), 0);
	use_mount(f, mnt, o.ids.base);
	fd_close(&mnt);
	char path[80];

	snprintf(path, sizeof(path), "%s/at", f->path);
	assert_int_equal(sys_umount2(path, MNT_DETACH), 0);

	/* A second start sees what the first one did; read-only this time. */
	o.read_only = true;
	mnt = rootfs_mount_layers(f->layers, 3, &o, &f->e);
	assert_true(mnt >= 0);
	expect_file(mnt, "new", o.ids.base + 7);
	expect_none(mnt, "f0");
	assert_int_equal(sys_mkdirat(mnt, "x", 0755), -EROFS);
}

static void test_mapped(void **state)
{
	run(*state, COUNT, false);
}

static void test_plain(void **state)
{
	run(*state, 0, false);
}

static void test_mapped_by_name(void **state)
{
	run(*state, COUNT, true);
}

static void test_plain_by_name(void **state)
{
	run(*state, 0, true);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	const struct rootfs_opts o = { .ids = { .base = BASE, .count = COUNT }, .upper_fd = -1,
				       .read_only = true };

	for (size_t n = 1; n <= 3; n++) {
		auto_close int mnt = rootfs_mount_layers(f->layers, n, &o, &f->e);

		assert_string_equal(f->e.msg, "");
		expect_file(mnt, "f0", BASE + 1000);
		assert_int_equal(sys_mkdirat(mnt, "x", 0755), -EROFS);
	}
}

/*
 * File capabilities: on disk they are the image's root's, through the mount the instance's
 * root's; and what the instance sets comes back the same way.
 */
static void test_file_capabilities(void **state)
{
	struct fixture *f = *state;
	const struct rootfs_opts o = { .ids = { .base = BASE, .count = COUNT },
				       .upper_fd = f->own_fd };
	/* cap_net_raw, permitted and effective; revision 2: whose root is not said */
	static const unsigned char v2[20] = { 1, 0, 0, 2, 0, 0x20 };
	unsigned char seen[32];
	uint32_t rootid;
	auto_close int on_disk = sys_openat(f->layers[0], "f0", O_RDONLY, 0);

	assert_int_equal(sys_fsetxattr(on_disk, "security.capability", v2, sizeof(v2)), 0);
	auto_close int mnt = rootfs_mount_layers(f->layers, 3, &o, &f->e);
	auto_close int fd = sys_openat(mnt, "f0", O_RDWR, 0);

	assert_int_equal(sys_fgetxattr(fd, "security.capability", seen, sizeof(seen)), 24);
	assert_int_equal(seen[3], 3);
	memcpy(&rootid, seen + 20, sizeof(rootid));
	assert_int_equal(rootid, BASE);

	/* Copied up, as a write does, and on the disk the image's root's again. */
	assert_int_equal(sys_fchmod(fd, 0755), 0);
	auto_close int copy = sys_openat(f->own_fd, "upper/f0", O_RDONLY, 0);

	assert_true(copy >= 0);
	assert_int_equal(sys_fgetxattr(copy, "security.capability", seen, sizeof(seen)), 20);
	assert_memory_equal(seen, v2, 4);
}

static void test_without_layers(void **state)
{
	struct fixture *f = *state;
	const struct rootfs_opts o = { .ids = { .base = BASE, .count = COUNT },
				       .upper_fd = f->own_fd };
	auto_close int mnt = rootfs_mount_layers(NULL, 0, &o, &f->e);

	assert_true(mnt >= 0);
	act_as(BASE);
	write_file(mnt, "new", "new", BASE);
	act_as(0);
	expect_file(f->own_fd, "upper/new", 0);
}

/* As many layers as an image may have, and not one more. */
static void test_many_layers(void **state)
{
	struct fixture *f = *state;
	int fds[OCI_LAYERS_MAX + 1];
	const struct rootfs_opts o = { .ids = { .base = BASE, .count = COUNT },
				       .upper_fd = f->own_fd };

	for (int i = 0; i <= OCI_LAYERS_MAX; i++) {
		fds[i] = f->layers[0];
	}
	auto_close int many = folder(f, "many");

	for (int i = 0; i < OCI_LAYERS_MAX; i++) {
		char name[8];

		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(sys_mkdirat(many, name, 0755), 0);
		fds[i] = sys_openat(many, name, O_RDONLY | O_DIRECTORY, 0);
		assert_true(fds[i] >= 0);
		assert_int_equal(sys_mkdirat(fds[i], name, 0755), 0);
	}
	auto_close int mnt = rootfs_mount_layers(fds, OCI_LAYERS_MAX, &o, &f->e);

	assert_string_equal(f->e.msg, "");
	expect_file(mnt, "0", BASE);
	expect_file(mnt, "499", BASE);
	assert_int_equal(rootfs_mount_layers(fds, OCI_LAYERS_MAX + 1, &o, &f->e), -E2BIG);
	for (int i = 0; i < OCI_LAYERS_MAX; i++) {
		fd_close(&fds[i]);
	}
}

/* Each call fails in turn: an error comes out, no descriptor stays open. */
static void test_failing_calls(void **state)
{
	struct fixture *f = *state;
	const struct rootfs_opts o = { .ids = { .base = BASE, .count = COUNT },
				       .upper_fd = f->own_fd };
	int before = sys_dup(0), mnt = -1;

	fd_close(&before);
	for (unsigned nth = 1; mnt < 0; nth++) {
		assert_in_range(nth, 1, 200);
		err_clear(&f->e);
		sys_fault_arm_any(nth, EIO);
		mnt = rootfs_mount_layers(f->layers, 3, &o, &f->e);
		bool hit = sys_fault_hits() > 0;

		sys_fault_clear();
		if (mnt < 0) {
			assert_true(hit);
			assert_int_not_equal(f->e.code, ERR_NONE);
			int now = sys_dup(0), again = sys_dup(0);

			assert_int_equal(again, now + 1);
			fd_close(&now);
			fd_close(&again);
		}
	}
	fd_close(&mnt);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	if (geteuid() != 0 || sys_unshare(CLONE_NEWNS) < 0 ||
	    sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "skipped: needs root, and a mount namespace\n");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		CASE(test_mapped), CASE(test_plain), CASE(test_mapped_by_name),
		CASE(test_plain_by_name), CASE(test_read_only), CASE(test_without_layers),
		CASE(test_file_capabilities),
		CASE(test_many_layers), CASE(test_failing_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
