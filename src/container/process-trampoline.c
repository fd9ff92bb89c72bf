/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's side of the trampoline. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/mem.h"
#include "container/process.h"
#include "container/trampoline.h"
#include "sys/file.h"
#include "sys/proc.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* Made by tools/embed from the program. */
extern const unsigned char trampoline_image[];
extern const size_t trampoline_image_bytes;

int process_trampoline_open(struct process *p, struct err *e)
{
	int flags = MFD_ALLOW_SEALING;
	auto_close int fd = sys_memfd_create("holm", (unsigned)flags | MFD_EXEC);

	if (fd == -EINVAL) {
		fd = sys_memfd_create("holm", (unsigned)flags); /* before Linux 6.3 */
	}
	int r = fd < 0 ? fd : sys_write_full(fd, trampoline_image, trampoline_image_bytes);

	r = r < 0 ? r : sys_fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
				  F_SEAL_WRITE);
	auto_close int control_fd = r < 0 ? r : sys_memfd_create("control", 0);

	if (control_fd < 0) {
		return err_set(e, -control_fd, ERR_HOST, "cannot make the last program before the container's");
	}
	p->trampoline_fd = take_fd(&fd);
	p->control_fd = take_fd(&control_fd);
	return 0;
}

static int fill_reports(const struct process *p, const struct process_wait *w,
			struct trampoline_control *c)
{
	static const int errnums[TRAMPOLINE_REPORTS] = { EIO, ENOENT, EACCES, ENOEXEC };
	const char *name = p->conf->args.v[0];

	for (size_t i = 0; i < TRAMPOLINE_REPORTS; i++) {
		struct err e = ERR_INIT;
		size_t at = 0;

		ignore_result(process_exec_failed(name, errnums[i], &e)); /* it is what is wanted */
		c->report_bytes = (uint32_t)w->make_report(&e, c->reports[i], sizeof(c->reports[i]),
							   &at);
		c->errnum_offset = (uint32_t)at;
		if (c->report_bytes == 0 || at + sizeof(int32_t) > c->report_bytes) {
			return -EMSGSIZE;
		}
	}
	return 0;
}

int process_trampoline_write(struct process *p, const struct process_wait *w, struct err *e)
{
	auto_free struct trampoline_control *c = mem_new(struct trampoline_control);
	const struct seccomp_filter *f = p->conf->no_new_privileges ? p->filter : NULL;
	size_t n_filter = f && f->insns ? f->n : 0;

	static_assert(sizeof(struct sock_filter) == sizeof(c->filter[0]), "one word each");
	if (!c) {
		return err_nomem(e);
	}
	if (n_filter > TRAMPOLINE_FILTER_MAX || w->ready_bytes > sizeof(c->ready)) {
		return err_set(e, E2BIG, ERR_LIMIT, "the seccomp filter has too many instructions");
	}
	c->ready_fd = w->ready_fd;
	c->wait_fd = w->wait_fd;
	c->report_fd = w->report_fd;
	c->first_fd = 3 + p->n_fds;
	c->ready_bytes = (uint32_t)w->ready_bytes;
	c->filter_len = (uint32_t)n_filter;
	c->hide = p->conf->no_new_privileges || !p->filter || !p->filter->insns;
	if (w->ready_bytes > 0) {
		memcpy(c->ready, w->ready, w->ready_bytes);
	}
	if (n_filter > 0) {
		c->filter_flags = f->flags;
		memcpy(c->filter, f->insns, n_filter * sizeof(c->filter[0]));
	}

	int r = fill_reports(p, w, c);

	r = r < 0 ? r : sys_write_full(p->control_fd, c,
				       offsetof(struct trampoline_control, filter) +
				       n_filter * sizeof(c->filter[0]));
	/* Kept over the execve; the trampoline closes them, or lets the next one. */
	const int fds[] = { p->control_fd, w->ready_fd, w->wait_fd, w->report_fd };

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(fds); i++) {
		r = fds[i] < 0 ? 0 : sys_fcntl(fds[i], F_SETFD, 0);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot tell the last program what to do") : 0;
}

int process_trampoline_exec(struct process *p, struct err *e)
{
	size_t n = p->conf->args.n;
	char control[16];
	char *no_env[] = { NULL };
	auto_free char **argv = mem_calloc(n + 4, sizeof(*argv));

	if (!argv) {
		return err_nomem(e);
	}
	snprintf(control, sizeof(control), "%d", p->control_fd);
	argv[0] = (char *)(uintptr_t)"holm";
	argv[1] = control;
	argv[2] = p->path;
	for (size_t i = 0; i < n; i++) {
		argv[3 + i] = (char *)(uintptr_t)p->conf->args.v[i];
	}

	int r = sys_execveat(p->trampoline_fd, "", argv, p->env.v ? p->env.v : no_env, AT_EMPTY_PATH);

	return err_set(e, -r, ERR_HOST, "cannot execute the last program before the container's");
}
