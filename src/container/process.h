/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last stretch of a container's process, the first as well as one that `exec` adds: from
 * being inside the namespaces with all rights, to being the program.
 *
 * What nothing can fail on any more is left for process_exec(), so that `create` and `exec`
 * report everything else: process_settle() also looks the program up, as the user.
 */
#ifndef CONTAINER_PROCESS_H
#define CONTAINER_PROCESS_H

#include "base/str.h"
#include "container/attrs.h"
#include "container/caps.h"
#include "container/seccomp.h"

struct process {
	const struct oci_process     *conf;
	const struct oci_linux       *linux;     /* personality, memory policy; may be NULL */
	const char                   *id;        /* of the container: names the keyring */
	struct caps                   caps;
	const struct seccomp_filter  *filter;
	struct seccomp_handoff       *handoff;   /* NULL without a listener */
	bool                          new_keyring;
	bool                          set_rlimits;   /* here; else the parent has */
	bool                          may_setgroups;
	unsigned                      n_fds;     /* descriptors from 3 on that are handed on */
	int                           pty_fd;    /* the container's end of the terminal, or -1 */
	int                           keep[5];   /* descriptors of ours to keep until execve; 0: none */
	int                           trampoline_fd; /* the program; -1: execute without it */
	int                           control_fd;    /* and what it reads, an empty file */

	/* Filled by process_settle(). */
	struct strv                   env;
	char                         *path;      /* of the program */
};

/* LISTEN_FDS of our own environment: descriptors that follow 2. */
unsigned process_listen_fds(void);

/* Whether 3 ... 3 + n - 1 are open, as the caller promised. */
int process_check_fds(unsigned n, struct err *e) must_check;

/* Close all descriptors but 0, 1, 2, what is handed on and what is kept. */
int process_close_rest(const struct process *p) must_check;

/* Everything up to the seccomp filter and the user. Context: in the container. */
int process_settle(struct process *p, struct err *e) must_check;

/* Returns only on failure. */
int process_exec(struct process *p, struct err *e) must_check;

/* The error for a failed execve. */
int process_exec_failed(const char *path, int errnum, struct err *e) must_check;

/*
 * The other way, for a container's first process: leave the rest to the trampoline. The files
 * are made by the parent; what it is to do is written before process_settle(), which may
 * take the right to write away; the last step returns only on failure.
 */
struct process_wait {
	int         ready_fd;       /* gets `ready`, -1: nobody waits for it */
	int         wait_fd;        /* read before going on; -1: at once */
	int         report_fd;      /* gets a report if the program cannot be executed */
	const void *ready;          /* ready_bytes of them */
	size_t      ready_bytes;
	/* Makes a report of an error; returns its bytes, at most `max`. */
	size_t    (*make_report)(const struct err *e, void *out, size_t max, size_t *ret_errnum_at);
};

int process_trampoline_open(struct process *p, struct err *e) must_check;
int process_trampoline_write(struct process *p, const struct process_wait *w,
			     struct err *e) must_check;
int process_trampoline_exec(struct process *p, struct err *e) must_check;

#endif
