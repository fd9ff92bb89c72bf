/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a container.
 *
 *	            container_create()      container_start()        its process ends
 *	  (nothing) ----------------> created -------------> running ----------------> stopped
 *	                                 |    container_pause() |  ^ container_resume()   |
 *	                                 |                      v  |                      |
 *	                                 |                     paused                     |
 *	                                 +---------- container_delete() ------------------+
 *
 * States are facts of the kernel, not of a file: see container/record.h. Whatever fails
 * midway leaves nothing behind: no process, group, mount or file.
 *
 *	created: the first process exists in its namespaces and its root, holds everything
 *	         but the program, and reads the pipe `start`
 *	running: it has executed the program
 *	paused:  its groups are frozen
 *	stopped: it is gone; its groups and the record are still there
 *
 * Spec: oci-runtime 1.3, runtime.md, Lifecycle
 */
#ifndef CONTAINER_CONTAINER_H
#define CONTAINER_CONTAINER_H

#include "container/record.h"
#include "container/spawn.h"

struct create_opts {
	const char *root;            /* the folder of records */
	const char *id;
	const char *bundle;          /* NULL: the working directory */
	const char *console_socket;  /* NULL: none */
	const char *pid_file;        /* NULL: none */
	unsigned    preserve_fds;    /* beside those of LISTEN_FDS */
	bool        rootless;        /* the caller has no privileges on the host */
	bool        systemd_cgroup;
	bool        no_pivot;
	bool        no_new_keyring;
	bool        run;             /* it will be started by this process */
	bool        detach;          /* run: and then left alone */
};

/* What a caller of run gets beside the record. */
struct created {
	struct record *rec;          /* locked */
	struct spawned child;
	int            master_fd;    /* the terminal, where there is one and no console socket */
	bool           started;      /* run: it did not wait, the program runs already */
};

#define CREATED_INIT { .rec = NULL, .child = SPAWNED_INIT, .master_fd = -1 }

int  container_create(const struct create_opts *o, struct created *ret, struct err *e) must_check;
void created_fini(struct created *c);

/* Start what `create` has made in another process; and what this process has created. */
int container_start(struct record *rec, struct err *e) must_check;
int container_start_child(struct created *c, struct err *e) must_check;

/*
 * Send a signal to the first process, or with `all` to every process of the container.
 * ERR_CONFLICT if it is not running.
 */
int container_kill(struct record *rec, int sig, bool all, struct err *e) must_check;

int container_pause(struct record *rec, struct err *e) must_check;
int container_resume(struct record *rec, struct err *e) must_check;

/*
 * Remove everything of a stopped or created container, with `force` of any; runs the
 * poststop hooks. The record must be locked and have its spec, if there is one.
 */
int container_delete(struct record *rec, bool force, struct err *e) must_check;

struct exec_opts {
	const struct oci_process *process;  /* complete; the caller has merged it */
	const char *console_socket, *pid_file;
	const char *cgroup;          /* a group below the container's; NULL: its own */
	unsigned    preserve_fds;
	bool        detach;
	bool        ignore_paused;
};

/* One more process in a running container. On success it has executed its program. */
int container_exec(const struct record *rec, const struct exec_opts *o, struct created *ret,
		   struct err *e) must_check;

/* "TERM", "SIGTERM", "15", "RTMIN+3". -EINVAL. */
int signal_parse(const char *text) must_check;

/* Mark every descriptor but 0, 1, 2 and the n that follow as close-on-exec. */
int container_seal_fds(unsigned n, struct err *e) must_check;

#endif
