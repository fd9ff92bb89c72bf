/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line of holm-vmm names, opened. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "main/vmm.h"
#include "sys/file.h"

static int open_file(const char *path, int flags, const char *what, int *ret, struct err *e)
{
	int fd = path ? sys_openat(AT_FDCWD, path, flags, 0600) : -1;

	if (path && fd < 0) {
		return err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_INVALID,
			       "cannot open the %s %s: %s", what, path, strerror(-fd));
	}
	*ret = fd;
	return 0;
}

/* --- Initial RAM file systems --- */

/* Append a file, and zeroes up to a multiple of 4, as Linux wants archives to begin. */
static int append(int to, int from, struct err *e)
{
	static const char zeroes[4];
	char chunk[65536];
	size_t total = 0;
	ssize_t n = 0;
	int r = 0;

	while (r == 0 && (n = sys_read(from, chunk, sizeof(chunk))) > 0) {
		r = sys_write_full(to, chunk, (size_t)n);
		total += (size_t)n;
	}
	r = r == 0 && n < 0 ? (int)n : r;
	r = r == 0 && total % 4 != 0 ? sys_write_full(to, zeroes, 4 - total % 4) : r;
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot put the initrds together") : 0;
}

static int open_initrds(const struct strv *paths, int *ret, struct err *e)
{
	if (paths->n <= 1) {
		return open_file(paths->n ? paths->v[0] : NULL, O_RDONLY, "initrd", ret, e);
	}
	auto_close int all = sys_memfd_create("initrd", 0);
	int r = all < 0 ? err_set(e, -all, ERR_HOST, "cannot put the initrds together") : 0;

	for (size_t i = 0; i < paths->n && r == 0; i++) {
		auto_close int fd = -1;

		r = open_file(paths->v[i], O_RDONLY, "initrd", &fd, e);
		r = r < 0 ? r : append(all, fd, e);
	}
	if (r == 0) {
		*ret = take_fd(&all);
	}
	return r;
}

/* --- Disks --- */

static int disk_part(struct vmm_disk *d, const char *part, char **path, struct err *e)
{
	const char *v = NULL;

	if ((v = str_after(part, "path="))) {
		free(*path);
		*path = str_dup(v);
		return *path ? 0 : err_nomem(e);
	}
	if ((v = str_after(part, "serial=")) && strlen(v) <= 20 && name_valid(v)) {
		snprintf(d->serial, sizeof(d->serial), "%s", v);
		return 0;
	}
	if (str_eq(part, "ro")) {
		d->read_only = true;
		return 0;
	}
	return err_set(e, EINVAL, ERR_INVALID, "--disk: '%s' is not understood", part);
}

static int open_disk(const char *text, struct vmm_disk *d, struct err *e)
{
	auto_free char *path = NULL;
	const char *cursor = text, *part = NULL;
	size_t len = 0;

	*d = (struct vmm_disk){ .fd = -1 };
	while (str_split(&cursor, ',', &part, &len)) {
		auto_free char *one = str_ndup(part, len);
		int r = one ? disk_part(d, one, &path, e) : err_nomem(e);

		if (r < 0) {
			return r;
		}
	}
	if (!path) {
		return err_set(e, EINVAL, ERR_INVALID, "--disk: path=FILE is missing");
	}
	return open_file(path, d->read_only ? O_RDONLY : O_RDWR, "disk", &d->fd, e);
}

static int open_disks(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	int r = 0;

	if (o->disks.n > ARRAY_LEN(f->disks)) {
		return err_set(e, E2BIG, ERR_LIMIT, "at most %zu disks", ARRAY_LEN(f->disks));
	}
	for (size_t i = 0; i < o->disks.n && r == 0; i++) {
		r = open_disk(o->disks.v[i], &f->disks[i], e);
		f->n_disks += r == 0;
	}
	return r;
}

int vmm_open_files(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	int r = open_file(o->kernel, O_RDONLY, "kernel", &f->kernel_fd, e);

	r = r < 0 ? r : open_initrds(&o->initrds, &f->initrd_fd, e);
	r = r < 0 ? r : open_file(o->cache, O_RDONLY | O_DIRECTORY, "cache", &f->cache_fd, e);
	r = r < 0 ? r : open_disks(o, f, e);
	if (r < 0 || o->serial_file) {
		return r < 0 ? r : open_file(o->serial_file, O_WRONLY | O_CREAT | O_APPEND,
					     "serial port's file", &f->serial_out_fd, e);
	}
	if (o->console == VMM_CONSOLE_SERIAL) {
		f->serial_in_fd = sys_dup(STDIN_FILENO);
		f->serial_out_fd = sys_dup(STDOUT_FILENO);
		f->escape_key = isatty(STDIN_FILENO);
	}
	return 0;
}

void vmm_close_files(struct vmm_files *f)
{
	fd_close(&f->kernel_fd);
	fd_close(&f->initrd_fd);
	fd_close(&f->cache_fd);
	fd_close(&f->serial_in_fd);
	fd_close(&f->serial_out_fd);
	fd_close(&f->control_fd);
	fd_close(&f->gdb_fd);
	while (f->n_disks > 0) {
		fd_close(&f->disks[--f->n_disks].fd);
	}
}
