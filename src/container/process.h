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
	int                           keep[3];   /* descriptors of ours to keep until execve; -1 */

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

#endif
