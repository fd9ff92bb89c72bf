/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing: a confined child reads into two files of a new folder, which then takes its place
 * under the kernel's name in one step. Folders that an interrupted import left are removed by
 * the next one. One import at a time holds the lock of the folder.
 */
#include "image/kernel.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/fd.h"
#include "image/kernel-private.h"
#include "image/worker.h"
#include "sys/file.h"

static const struct confine kernel_confine = {
	.name = "kernel reader", .memory_bytes = UINT64_C(1) << 30, .files = 32,
	.file_bytes = UINT64_C(1) << 30,
};

/* What the child works with. */
struct reader {
	int in_fd, kernel_fd, modules_fd;
};

static int read_main(struct worker *w, void *ud, struct err *e)
{
	struct reader *j = ud;
	char name[KERNEL_NAME_MAX];
	int r = kernel_read(j->in_fd, j->kernel_fd, j->modules_fd, name, e);

	return r < 0 ? r : worker_line(w, name, e);
}

static bool is_left_over(const char *name)
{
	return str_after(name, KERNEL__NEW) != NULL;
}

static int remove_left_overs(int dir_fd, struct err *e)
{
	auto_strv struct strv left = STRV_INIT;
	int r = kernel__names(dir_fd, is_left_over, &left, e);

	for (size_t i = 0; r == 0 && i < left.n; i++) {
		r = sys_remove_tree(dir_fd, left.v[i]);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "removing %s", left.v[i]) : 0;
	}
	return r;
}

static int new_file(int dir_fd, const char *name)
{
	return sys_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
}

/* Both files of a new folder, on disk. */
static int fill(int new_fd, const struct kernel_import *job, struct progress *p, struct strv *said,
		struct err *e)
{
	auto_close int kernel_fd = new_file(new_fd, KERNEL_FILE);
	auto_close int modules_fd = new_file(new_fd, KERNEL_MODULES);
	struct reader j = { .in_fd = job->fd, .kernel_fd = kernel_fd, .modules_fd = modules_fd };
	const int keep[] = { j.in_fd, j.kernel_fd, j.modules_fd };
	struct worker_run run = {
		.progress = p, .confine = &kernel_confine, .main = read_main, .job = &j,
		.lines = said, .keep_fds = keep, .n_keep_fds = ARRAY_LEN(keep),
	};

	if (kernel_fd < 0 || modules_fd < 0) {
		return err_set(e, kernel_fd < 0 ? -kernel_fd : -modules_fd, ERR_HOST,
			       "making the kernel's files");
	}
	int r = worker_run(&run, NULL, NULL, e);

	if (r < 0) {
		return r;
	}
	r = sys_fsync(kernel_fd);
	r = r < 0 ? r : sys_fsync(modules_fd);
	r = r < 0 ? r : sys_fsync(new_fd);
	return r < 0 ? err_set(e, -r, ERR_HOST, "writing the kernel") : 0;
}

/* A link is replaced in one step, too. */
static int make_default(int dir_fd, const char *name)
{
	static const char link[] = KERNEL__NEW "default";
	int r = sys_unlinkat(dir_fd, link, 0);

	r = r == -ENOENT ? 0 : r;
	r = r < 0 ? r : sys_symlinkat(name, dir_fd, link);
	return r < 0 ? r : sys_renameat2(dir_fd, link, dir_fd, KERNEL_DEFAULT, 0);
}

static int put_in_place(int dir_fd, const char *from, const char *name, struct err *e)
{
	int r = sys_renameat2(dir_fd, from, dir_fd, name, RENAME_NOREPLACE);

	if (r == -EEXIST) { /* the old one goes the new one's way */
		r = sys_renameat2(dir_fd, from, dir_fd, name, RENAME_EXCHANGE);
		r = r < 0 ? r : sys_remove_tree(dir_fd, from);
	}
	r = r < 0 ? r : make_default(dir_fd, name);
	r = r < 0 ? r : sys_fsync(dir_fd);
	return r < 0 ? err_set(e, -r, ERR_HOST, "putting the kernel %s in place", name) : 0;
}

static int lock(int dir_fd, struct err *e)
{
	int r = sys_flock(dir_fd, LOCK_EX | LOCK_NB);

	return r == -EWOULDBLOCK ? err_set(e, EBUSY, ERR_CONFLICT, "another import is at work") :
	       r < 0 ? err_set(e, -r, ERR_HOST, "locking the folder of kernels") : 0;
}

int kernel_import(int dir_fd, const struct kernel_import *job, struct progress *p, char **ret_name,
		  struct err *e)
{
	auto_strv struct strv said = STRV_INIT;
	char from[] = KERNEL__NEW "kernel";
	int r = 0;

	if (job->name && !kernel__name_valid(job->name)) {
		return err_field(e, "name", "\"%.60s\" is not a valid name", job->name);
	}
	auto_close int lock_fd = sys_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);

	r = lock_fd < 0 ? err_set(e, -lock_fd, ERR_HOST, "the folder of kernels") : lock(lock_fd, e);
	r = r < 0 ? r : remove_left_overs(dir_fd, e);
	if (r < 0) {
		return r;
	}
	r = sys_mkdirat(dir_fd, from, 0755);
	auto_close int new_fd = r < 0 ? r : sys_openat(dir_fd, from, O_RDONLY | O_DIRECTORY, 0);

	r = new_fd < 0 ? err_set(e, -new_fd, ERR_HOST, "making a folder") :
			 fill(new_fd, job, p, &said, e);
	const char *name = job->name ? job->name : said.n ? said.v[0] : "";

	if (r == 0 && !kernel__name_valid(name)) {
		r = err_set(e, EPROTO, ERR_INVALID, "the kernel has no usable release; give --name");
	}
	r = r < 0 ? r : put_in_place(dir_fd, from, name, e);
	if (r < 0) {
		ignore_result(sys_remove_tree(dir_fd, from)); /* or the next import does it */
		return r;
	}
	*ret_name = str_dup(name);
	return *ret_name ? 0 : err_nomem(e);
}
