/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers. The first byte's lowest bit says whether there are layers below; the rest is a tar.
 *
 * Safe to run as root: the process becomes nobody, and root of a user namespace in which only
 * nobody exists, so that an archive that got out of its folder would find nothing to harm.
 */
#include <errno.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/unpack-private.h"
#include "sys/file.h"
#include "sys/proc.h"

enum { NOBODY = 65534, FILE_BYTES = 1 << 20 };

static char folder[64];
static int folder_fd = -1;

static void remove_folder(void)
{
	ignore_result(sys_remove_tree(AT_FDCWD, folder)); /* in /tmp: no harm if it stays */
}

static void become_nobody(void)
{
	const struct rlimit fsize = { FILE_BYTES, FILE_BYTES };

	if (geteuid() == 0) {
		int r = sys_fchownat(folder_fd, "", NOBODY, NOBODY, AT_EMPTY_PATH);

		r = r < 0 ? r : sys_setgroups(0, NULL);
		r = r < 0 ? r : sys_setresgid(NOBODY, NOBODY, NOBODY);
		r = r < 0 ? r : sys_setresuid(NOBODY, NOBODY, NOBODY);
		assert(r == 0);
		(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	}
	char map[48];
	int n = snprintf(map, sizeof(map), "0 %u 1\n", (unsigned)geteuid());

	if (sys_unshare(CLONE_NEWUSER) == 0) {
		ignore_result(sys_write_file(AT_FDCWD, "/proc/self/setgroups", "deny", 4));
		ignore_result(sys_write_file(AT_FDCWD, "/proc/self/uid_map", map, (size_t)n));
		n = snprintf(map, sizeof(map), "0 %u 1\n", (unsigned)getegid());
		ignore_result(sys_write_file(AT_FDCWD, "/proc/self/gid_map", map, (size_t)n));
	}
	(void)setrlimit(RLIMIT_FSIZE, &fsize);
	(void)signal(SIGXFSZ, SIG_IGN);
}

static void start(void)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/holm-fuzz-layer-XXXXXX");
	if (!mkdtemp(folder)) {
		abort();
	}
	folder_fd = sys_openat(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	assert(folder_fd >= 0);
	(void)umask(0);
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	/* Whoever made it removes it: /tmp's sticky bit keeps nobody from doing so. */
	become_nobody();
	(void)atexit(remove_folder);
}

static const struct unpack_limits limits = {
	.entries = 200, .bytes = FILE_BYTES, .file_bytes = FILE_BYTES, .ratio = 100,
	.ratio_from = FILE_BYTES, .depth = 32, .path_bytes = 1024, .xattrs = 8, .xattr_bytes = 256,
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where libFuzzer calls us: before it starts a thread, after which no namespace is to be had. */
int LLVMFuzzerInitialize(unused_arg int *argc, unused_arg char ***argv)
{
	start();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;

	if (size < 1 || size > 262144) {
		return 0;
	}
	if (folder_fd < 0) {
		start();
	}
	auto_close int in = sys_memfd_create("layer", 0);
	int r = sys_write_full(in, data + 1, size - 1);

	assert(r == 0 && lseek(in, 0, SEEK_SET) == 0);
	r = sys_mkdirat(folder_fd, "root", 0700);
	assert(r == 0);
	auto_close int root = sys_openat(folder_fd, "root", O_RDONLY | O_DIRECTORY, 0);
	struct unpack_tar t = { .in_fd = in, .root_fd = root, .below = data[0] & 1, .squash = true,
				.limits = &limits };

	r = unpack__tar(&t, &e);
	assert(r == 0 || e.errnum > 0);
	r = sys_remove_tree(folder_fd, "root");
	assert(r == 0);
	(void)r;
	return 0;
}
