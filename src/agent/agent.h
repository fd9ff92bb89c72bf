/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-init, process 1 of a virtual machine: what the files of this folder share. The
 * protocol is guest/guest-proto.h.
 *
 *	agent.c    connections, and what each message does
 *	session.c  a process with its streams; the OCI runtime that makes it
 *	machine.c  what only process 1 does: file systems, modules, the root, switching off
 *
 * One thread, one loop. The container is made by holm-oci, as on the host: one runtime.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "base/list.h"
#include "guest/guest-proto.h"
#include "loop/pump.h"

enum { AGENT_CONNS_MAX = 256, AGENT_SESSIONS_MAX = 64, AGENT_ORPHANS = 64 };

struct agent_conf {
	const char *oci;         /* path of the OCI runtime */
	const char *dir;         /* its folder: files, bundle, the runtime's records */
	bool        machine;     /* process 1 of a machine; false: a test runs it on a host */
};

/* One direction of a session's streams, once somebody is attached. */
struct flow {
	struct session *session;
	struct pump    *pump;      /* NULL: not yet, or over */
};

struct orphan {
	pid_t            pid;
	struct loop_exit exit;
};

struct session {
	struct list        link;
	struct agent      *agent;
	char              *name;
	uint32_t           conn;        /* who made it, and hears of its end; 0: gone */
	uint32_t           serial;      /* of the request that is at work */
	bool               terminal;
	uint32_t           rows, cols;
	int                ours[3];     /* ends of pipes until attached; [0] the terminal; -1 */
	int                theirs[3];   /* until the runtime has them; -1 */
	int                console_fd;  /* listening for the terminal; -1 */
	struct loop_child *job;         /* the runtime at work; NULL */
	struct loop_child *child;       /* the process */
	pid_t              pid;         /* 0: not yet, or gone */
	int                memory_fd;   /* memory events of its group; -1: none */
	bool               exited;
	struct flow        flows[3];    /* a terminal: in and out */
	struct loop_post   collect;
};

struct agent {
	const struct agent_conf *conf;
	struct loop             *loop;
	int                      dir_fd;
	int                      listen_fd;
	struct loop_fd          *listen_ev;
	struct loop_signal      *sigchld;
	struct list              conns, sessions;
	unsigned                 n_conns, n_sessions;
	uint32_t                 next_conn, next_file;
	struct orphan            orphans[AGENT_ORPHANS];  /* ended before we knew whose they are */
	unsigned                 n_orphans;
	bool                     set_up;
};

/* Serve on a listening socket, owned from here on, until POWEROFF. */
int agent_run(const struct agent_conf *conf, int own_listen_fd, struct err *e) must_check;

/* agent.c */
void agent_reply(struct agent *a, uint32_t conn, uint32_t serial, const struct err *e,
		 const char *text, uint32_t exit_code);
void agent_tell_exit(struct agent *a, const struct session *x, const struct loop_exit *exit);

/* session.c */
struct session *session_find(struct agent *a, const char *name);
int  session_create(struct agent *a, uint32_t conn, uint32_t serial, const struct guest_create *m,
		    struct err *e) must_check;
int  session_start(struct agent *a, uint32_t conn, uint32_t serial, struct err *e) must_check;
int  session_exec(struct agent *a, uint32_t conn, uint32_t serial, const struct guest_exec *m,
		  struct err *e) must_check;
int  session_attach(struct session *x, enum guest_stream stream, int own_fd,
		    struct err *e) must_check;
int  session_signal(struct session *x, uint32_t conn, uint32_t serial, uint32_t signal, bool all,
		    struct err *e) must_check;
int  session_resize(struct session *x, uint32_t rows, uint32_t cols) must_check;
int  session_runtime_text(struct agent *a, uint32_t conn, uint32_t serial,
			  const char *const *args, struct err *e) must_check;
void session_orphaned(struct session *x);   /* its connection is gone */
void session_reaped(struct agent *a, pid_t pid, const struct loop_exit *exit);
void session_free(struct session *x);

/* machine.c */
int  machine_boot(struct err *e) must_check;                       /* before anything else */
int  machine_listen(int *ret_fd, struct err *e) must_check;        /* on vsock */
int  machine_setup(const struct agent_conf *conf, const struct guest_setup *m,
		   struct err *e) must_check;
noreturn_fn void machine_off(void);

#endif
