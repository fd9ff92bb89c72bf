/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacked kernels, in the folder of --cache, named by the hash of the packed file. To hash it takes
 * as long as to boot a fiftieth of it, so a link beside them notes whose hash it was: its name says
 * which file that is, and how it was when it was read, its target what the file is called.
 *
 * Who unpacks reads bytes from outside, and does it in a jail like the monitor's, in a process that
 * has no part in any machine. Who started the machine puts the result into the folder, so that it
 * is their file. A monitor never writes there: it would choose what another machine boots.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "main/vmm.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vm/boot/kernel.h"
#include "vm/jail.h"

enum { NOT_PACKED = 77 };   /* the unpacker's exit status */

/* A file that changed less long ago may change once more with the same times. */
#define SETTLED_NS (2 * NS_PER_SEC)

/* One that somebody else may have put there, or that is no file, is as good as none. */
static int open_kept(int dir_fd, const char *name)
{
	int fd = sys_openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW, 0);
	struct stat st = { 0 };

	if (fd >= 0 && (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
			(st.st_uid != geteuid() && st.st_uid != 0))) {
		fd_close(&fd);
	}
	return fd;
}

/* --- Whose hash a name is --- */

struct stamp {
	char     text[160];
	uint64_t changed_ns;
};

static struct stamp stamp_of(const struct stat *st)
{
	struct stamp ret = {
		.changed_ns = (uint64_t)st->st_ctim.tv_sec * NS_PER_SEC + (uint64_t)st->st_ctim.tv_nsec,
	};

	snprintf(ret.text, sizeof(ret.text), "of-%llx-%llx-%llx-%llx.%lx-%llx", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (unsigned long long)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec,
		 (unsigned long long)ret.changed_ns);
	return ret;
}

/* As for what is kept: nobody else's. */
static bool recall(int dir_fd, const struct stamp *stamp, struct kernel_name *ret)
{
	struct stat st = { 0 };
	ssize_t n = sys_readlinkat(dir_fd, stamp->text, ret->text, sizeof(ret->text) - 1);

	if (n <= 0 || sys_fstatat(dir_fd, stamp->text, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st.st_uid != geteuid() && st.st_uid != 0)) {
		return false;
	}
	ret->text[n] = 0;
	return kernel_name_ok(ret);
}

static int name_of(int dir_fd, int kernel_fd, const struct stat *st, struct kernel_name *ret, struct err *e)
{
	struct stamp stamp = stamp_of(st), after = { 0 };
	struct stat again = { 0 };

	if (recall(dir_fd, &stamp, ret)) {
		return 0;
	}
	int r = kernel_image_name(kernel_fd, ret, e);

	if (r < 0 || sys_fstat(kernel_fd, &again) < 0) {
		return r;
	}
	after = stamp_of(&again);
	if (strcmp(stamp.text, after.text) == 0 && stamp.changed_ns + SETTLED_NS < clock_wall_ns()) {
		ignore_result(sys_symlinkat(ret->text, dir_fd, stamp.text)); /* or it is hashed again */
	}
	return 0;
}

/* --- Unpacking --- */

struct unpack_job {
	const struct vmm_opts *o;
	struct vmm_files      *f;
	int                    out_fd;
};

static int unpack(void *ud)
{
	struct unpack_job *job = ud;
	struct err e = ERR_INIT;
	int r = job->o->unconfined ? 0 : jail_seal(&e);

	r = r < 0 || job->o->unconfined ? r : jail_filter(JAIL_LOOP, NULL, 0, &e);
	r = r < 0 ? r : kernel_unpack_file(job->f->kernel_fd, job->out_fd, &e);
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, &e);
		return err_codes[e.code].exit_code;
	}
	return r == 0 ? NOT_PACKED : 0;
}

/* It needs nothing but the kernel's file and an empty one. */
static noreturn_fn void unpacker(struct unpack_job *job, pid_t parent)
{
	const struct jail_conf jail = { .confined = !job->o->unconfined,
					.uid = (uid_t)job->o->uid, .gid = (gid_t)job->o->gid };
	struct err e = ERR_INIT;
	int kernel_fd = take_fd(&job->f->kernel_fd);

	vmm_close_files(job->f);
	job->f->kernel_fd = kernel_fd;
	int r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	if (r < 0 || getppid() != parent) {
		_exit(1);
	}
	r = jail_run(&jail, unpack, job, &e);
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, &e);
		r = err_codes[e.code].exit_code;
	}
	_exit(r);
}

/* 1: in job->out_fd; 0: there was nothing to unpack. */
static int run_unpacker(struct unpack_job *job, struct err *e)
{
	siginfo_t si = { .si_pid = 0 };
	pid_t parent = getpid(), pid = sys_fork();

	if (pid == 0) {
		unpacker(job, parent);
	}
	int r = pid < 0 ? (int)pid : sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "unpacking the kernel");
	}
	r = proc_exit_status(&si);
	if (r != 0 && r != NOT_PACKED) { /* it has said why, if it could */
		return err_set(e, EINVAL, ERR_INVALID, "the kernel cannot be unpacked (status %d)", r);
	}
	return r == 0;
}

static void keep(const struct vmm_opts *o, int dir_fd, const char *name, int image_fd)
{
	struct stat st = { 0 };
	int r = sys_fstat(image_fd, &st);
	void *at = r < 0 ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE,
					     image_fd, 0);

	if (r == 0) {
		r = at == MAP_FAILED ? -errno :
		    sys_replace_file(dir_fd, name, at, (size_t)st.st_size, 0600);
	}
	if (at != MAP_FAILED) {
		ignore_result(munmap(at, (size_t)st.st_size)); /* ours */
	}
	if (r < 0) {
		log_warn("the unpacked kernel cannot be kept, each start unpacks it again: give --cache a "
			 "folder with room that you may write", "folder", o->cache, "why",
			 strerrordesc_np(-r));
	}
}

int vmm_unpack_kernel(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	auto_close int dir_fd = take_fd(&f->cache_fd);
	struct stat st = { 0 };
	struct kernel_name name;

	if (dir_fd < 0 || f->kernel_fd < 0 || sys_fstat(f->kernel_fd, &st) < 0 ||
	    !S_ISREG(st.st_mode)) {
		return 0; /* a pipe is read once, by the monitor */
	}
	int r = name_of(dir_fd, f->kernel_fd, &st, &name, e);

	if (r < 0) {
		return r;
	}
	f->image_fd = open_kept(dir_fd, name.text);
	if (f->image_fd >= 0) {
		return 0;
	}
	struct unpack_job job = { o, f, sys_memfd_create("kernel", 0) };

	r = job.out_fd < 0 ? err_set(e, -job.out_fd, ERR_HOST, "memory for the kernel") :
			     run_unpacker(&job, e);
	if (r > 0) {
		keep(o, dir_fd, name.text, job.out_fd);
		f->image_fd = take_fd(&job.out_fd);
	}
	fd_close(&job.out_fd);
	return MIN(r, 0);
}
