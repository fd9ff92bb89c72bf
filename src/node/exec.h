/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further processes in a running instance: sessions of its shim.
 */
#ifndef NODE_EXEC_H
#define NODE_EXEC_H

#include "node/instance.h"

struct exec_session {
	struct list  link;      /* in instance->execs */
	char         name[32];
	bool         running, done;
	uint64_t     pid, exit_code, signal, started_ns, finished_ns;
};

struct exec_session *exec_find(struct instance *i, const char *name);

/* A new session, named; NULL when there are too many or memory is out (*e says). */
struct exec_session *exec_add(struct instance *i, struct err *e) must_check;
void exec_drop(struct instance *i, struct exec_session *x);

/* What a client wishes. */
struct exec_in {
	struct jstrv command, env;
	const char  *user, *workdir;
	bool         tty, stdin_open;
	uint64_t     rows, cols, stall_ms;
};
extern const struct jtable exec_in_table;

/*
 * The process of a session as the runtime takes it, from the instance's config and what the
 * client wishes; blocks, reads what the container controls: for a child. To `out_fd`.
 */
int exec_process(struct instance *i, const struct exec_in *in, int out_fd, struct err *e) must_check;

#endif
