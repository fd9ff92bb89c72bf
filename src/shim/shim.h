/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor of one instance: what the files of this folder share. The protocol it
 * serves is wire/shim-proto.h; docs/formats/ describes all that it writes.
 *
 *	shim.c     the state machine: start, exit, delete, leave
 *	session.c  a process with its terminal or pipes: the container's first, and each exec
 *	client.c   attached clients: framing, bounded buffers, patience
 *	job.c      children that do a piece of work: the runtime, the network helper
 *	conn.c     connections of the daemon
 *	order.c    what the daemon asks for
 *	exec.c     one of these: a further process
 *	record.c   the exit record, and whether memory ran out
 *
 * States, and the functions that change them (all by shim_set_state()):
 *
 *	IDLE ─order_start()→ CREATING ─start_done()→ RUNNING ─pause_done()→ PAUSED
 *	CREATING ─start_failed()→ FAILED;  RUNNING, PAUSED ─shim_exited()→ EXITED
 *	EXITED ─delete_done()→ GONE;  FAILED, GONE ─ack→ the loop ends
 *
 * IDLE: nothing runs, no file was made. CREATING: one job of the chain create, network,
 * start runs; main.pid is set after create. RUNNING, PAUSED: main.pid lives, and is our
 * child, so its number cannot be used again before we know. EXITED: main.exit is final and
 * on disk; the delete job runs. GONE, FAILED: the runtime knows nothing of the container.
 *
 * Where nothing runs (IDLE, GONE, FAILED) and no daemon is connected, the shim leaves after
 * conf.patience_ns, or at once if its folder was removed: shim_await(). What it would have to
 * say then is in the exit record.
 *
 * One thread, one loop; nothing blocks but writes to the log and to the instance's folder.
 */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "shim/ev.h"
#include "shim/ilog.h"
#include "shim/ring.h"
#include "wire/shim-proto.h"

enum {
	SHIM_CHUNK       = 16384,        /* read from a process at once; largest frame out */
	SHIM_CLIENT_RING = 65536,        /* waiting for one client */
	SHIM_STDIN_RING  = 65536,        /* waiting for a process */
	SHIM_CLIENTS_MAX = 64,
	SHIM_CONNS_MAX   = 8,
	SHIM_EXECS_MAX   = 64,
	SHIM_JOBS_MAX    = 16,
	SHIM_JOB_OUT_MAX = 512 * 1024,   /* output of one job */
	SHIM_STALL_MS    = 10000,        /* patience with a client, if it asked for none */
	SHIM_LINGER_MS   = 1000,         /* for output of a process that has ended */
	SHIM_AGAIN_MS    = 1000,         /* what keeps it from leaving is looked at again */
	SHIM_START_MS    = 120000,
};

struct shim;
struct session;

/* One direction between the shim and a process: a pipe's end or the terminal. */
struct chan {
	struct ev_fd    ev;
	struct session *session;
	int             fd;         /* owned; -1: closed */
};

struct exit_info {
	bool     done;
	uint32_t code, signal;
	uint64_t exited_ns;         /* wall clock */
};

struct session {
	struct list      link;      /* in shim.execs; the container's own is in no list */
	struct shim     *shim;
	char            *name;      /* NULL: the container */
	bool             terminal;
	bool             open_stdin;
	bool             running;   /* its start was reported */
	bool             acked;     /* exec: forget it once all is told */
	bool             ended;     /* output is over, clients were told the status */
	pid_t            pid;       /* 0: not yet, or reaped */
	uint64_t         started_ns;
	struct exit_info exit;
	uint32_t         exec_conn; /* who asked, for the reply */
	uint32_t         exec_serial;
	uint32_t         rows, cols; /* exec: of the terminal at its start */
	struct chan      in, out, err;
	int              theirs[3]; /* ends for the child, between open and start; -1 */
	int              console_fd; /* listening for the terminal, until started */
	struct ring      in_ring;
	bool             in_eof;    /* close `in` once the ring is empty */
	struct list      clients;
	struct ev_timer  linger;
};

struct client {
	struct list      link;      /* in session.clients */
	struct session  *session;
	uint64_t         id;
	struct ev_fd     ev;
	int              fd;        /* owned */
	uint32_t         streams;
	enum shim_framing framing;
	bool             stdin_once;
	bool             ending;    /* close once the ring is empty */
	bool             in_blocked; /* not read from, as standard input is full */
	uint64_t         stall_ns;
	struct ev_timer  stall;     /* runs while the ring holds something */
	struct ring      ring;
	uint8_t          head[8];   /* of the frame being read */
	size_t           have;      /* bytes of head, then of a short payload */
	uint8_t          payload[4];
	size_t           left;      /* bytes of the frame still to come */
};

struct job;
typedef void (*job_fn)(struct job *j, int wait_status);

struct job {
	struct list      link;
	struct shim     *shim;
	pid_t            pid;
	bool             creates;   /* makes processes that become our children */
	char            *log_name;  /* the runtime's log in the instance's folder, or NULL */
	struct ev_fd     ev;        /* its output */
	int              out_fd;    /* owned; -1 */
	struct buf       out;
	struct ev_timer  timer;
	bool             timed_out;
	job_fn           done;      /* the job is freed after it */
	uint32_t         conn;      /* who asked; 0: nobody */
	uint32_t         serial;
	struct session  *session;   /* exec */
	bool             flag;      /* for `done` */
};

struct conn {
	struct list      link;
	struct shim     *shim;
	uint32_t         id;
	struct wire_conn wire;
	struct ev_fd     ev;
	bool             hello;
	bool             closing;   /* once what waits is sent */
	uint64_t         epoch;
};

struct shim_conf {
	const char *bundle;         /* absolute */
	const char *id;
	const char *dir;            /* absolute */
	const char *oci;            /* absolute path of the runtime */
	const char *oci_root;       /* NULL: its default */
	bool        oci_systemd_cgroup;
	const char *log;            /* absolute path, or NULL */
	uint64_t    log_max_bytes;
	unsigned    log_max_files;
	bool        terminal, open_stdin;
	uint64_t    epoch;
	uint64_t    patience_ns;    /* with a daemon that does not come, when nothing runs */
};

struct orphan {
	pid_t pid;
	int   status;
};

struct shim {
	struct shim_conf conf;
	struct ev_loop   loop;
	enum shim_state  state;
	int              dir_fd, log_dir_fd, listen_fd, signal_fd, null_fd;
	struct ev_fd     listen_ev, signal_ev;
	struct ev_timer  idle, collect, retry, record, listen_timer;
	struct ilog      log;
	struct session   main;
	struct list      execs, jobs, conns;
	unsigned         n_execs, n_jobs, n_conns, n_clients, n_dropped;
	uint64_t         next_client;
	uint32_t         next_conn, next_file;
	uint64_t         epoch;
	struct orphan    orphans[64]; /* ended before we knew whose they are */
	unsigned         n_orphans;
	pid_t            network_pid; /* of the helper; 0: none */
	struct strv      network;
	int              memory_fd;   /* the control group's memory events, or -1 */
	bool             oom, acked, freezing;
	bool             recorded;    /* the exit record is on disk, or has no place any more */
	bool             early;       /* it ended before its start was reported, so: */
	int              early_status;
	int              fatal;       /* -errno that ends it before it was of use */
	char             error[1024];
	uint32_t         start_conn, start_serial, start_rows, start_cols;
	enum shim_reason start_reason;   /* of SHIM_FAILED, as the two next */
	int              start_errnum;
	enum err_code    start_code;
	uint64_t         start_until_ns;
};

/* shim.c */
/*
 * The life of the shim. *ready_fd is closed, and set to -1, once it serves; it is still open
 * after a failure before that.
 */
int  shim_run(const struct shim_conf *conf, int own_listen_fd, int own_dir_fd, int *ready_fd,
	      struct err *e) must_check;
void shim_set_state(struct shim *s, enum shim_state state);
void shim_tell_status(struct shim *s, struct conn *only);   /* NULL: everyone */
void shim_tell_exec(struct shim *s, struct session *x, struct conn *only);
void shim_await(struct shim *s);    /* leave after a while if no daemon comes */
bool shim_folder_gone(const struct shim *s);                /* it was removed under us */
void shim_start(struct shim *s);
int  shim_read_pid(struct shim *s, const char *name, pid_t *ret, struct err *e) must_check;
void shim_claim_orphan(struct shim *s, struct session *x); /* it may have ended already */
bool shim_alive(const struct shim *s);                      /* RUNNING or PAUSED */
struct session *shim_exec_find(struct shim *s, const char *name);
void shim_collect(struct shim *s);  /* soon: free sessions that nobody needs any more */

/* session.c */
void session_init(struct session *x, struct shim *s);
int  session_open(struct session *x, const char *console_name, struct err *e) must_check;
int  session_take_console(struct session *x, uint32_t rows, uint32_t cols,
			  struct err *e) must_check;
void session_started(struct session *x, pid_t pid);
void session_exited(struct session *x, int wait_status);
void session_resume_output(struct session *x);
void session_input(struct session *x, const void *data, size_t n); /* n <= room of in_ring */
void session_close_input(struct session *x);
int  session_resize(struct session *x, uint32_t rows, uint32_t cols) must_check;
void session_fail(struct session *x, const char *message, enum shim_reason reason);
void session_fini(struct session *x);

/* client.c */
int  client_add(struct session *x, struct shim_attach *m, uint64_t *ret_id,
		struct err *e) must_check;
void client_output(struct session *x, unsigned stream, const void *data, size_t n);
bool client_full(const struct session *x);                  /* one of them has no room */
void client_end(struct session *x, int32_t status);         /* tell all, close when sent */
void client_message(struct session *x, const char *text);
void client_input_room(struct session *x);
void client_drop_all(struct session *x);

/* job.c */
struct job *job_start(struct shim *s, const struct strv *argv, const int stdio[3],
		      uint64_t timeout_ns, job_fn done, struct err *e) must_check;
struct job *job_runtime(struct shim *s, const char *const *args, const int stdio[3],
			uint64_t timeout_ns, job_fn done, struct err *e) must_check;
bool job_reaped(struct shim *s, pid_t pid, int status);
/*
 * Why a job of the runtime (or another one) failed, from its log or its output: fills e. Its
 * kind is in *ret_reason (may be NULL).
 */
int  job_error(struct job *j, int status, const char *what, enum shim_reason *ret_reason,
	       struct err *e) must_check;

/* conn.c */
int  conn_listen(struct shim *s) must_check;
struct conn *conn_find(struct shim *s, uint32_t id);
void conn_send(struct conn *c, enum shim_msg_type type, uint32_t serial, const void *msg);
void conn_broadcast(struct shim *s, enum shim_msg_type type, const void *msg);
void conn_reply(struct shim *s, uint32_t conn, uint32_t serial, const struct err *e);
void conn_reply_with(struct shim *s, uint32_t conn, uint32_t serial, const struct err *e,
		     const char *text, uint64_t value, enum shim_reason reason);
void conn_close_older(struct shim *s, uint64_t epoch);
void conn_drop_all(struct shim *s);

/* order.c */
void order_do(struct conn *c, uint32_t serial, unsigned type, union shim_any *m);
/* Where it needs the runtime, the answer to (conn, serial) follows its end: 1, else 0. */
int  order_signal(struct session *x, uint32_t signal, bool all, uint32_t conn, uint32_t serial,
		  struct err *e) must_check;

/* exec.c */
int  order_exec(struct conn *c, uint32_t serial, struct shim_exec *m, struct err *e) must_check;

/* record.c */
int  record_write(struct shim *s) must_check;
void record_watch_memory(struct shim *s, pid_t pid);
bool record_oom(struct shim *s);

#endif
