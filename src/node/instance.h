/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances: their wish (spec), their fact (status), and the machine between them.
 *
 *	CREATED ─start─▶ STARTING ─▶ RUNNING ◀─pause/resume─▶ PAUSED
 *	   ▲                │  │        │                        │
 *	   │ reboot         │  └fails┐  │ exits                  │
 *	   │                │        ▼  ▼                        │
 *	(stays as it was)   │      EXITED ◀──────────────────────┘
 *	                    │        │ restart policy
 *	                    └────────▼
 *	                        RESTARTING (waits, then STARTING)
 *
 * CREATED    never ran; no shim, or an idle one to which clients are attached
 * STARTING   a shim was spawned or told to start; start_calls wait for the answer
 * RUNNING    the shim said so; shim and shim_pid are valid
 * PAUSED     as RUNNING, frozen
 * EXITED     status.exit_code is the last exit; nothing of it runs; the shim may be leaving
 * RESTARTING as EXITED; the timer runs
 * BROKEN     its row in the store cannot be read: status.error says why and what to do. It can
 *            be seen and removed. The row is not written; mended, it is an instance again at
 *            the daemon's next start. A shim that is there stays, and stays unacknowledged
 *
 * A daemon that starts finds the states of its predecessor and checks each against its shim
 * (node/adopt.c). The state is changed by instance_set_state() alone, which records it, tells
 * the watchers and wakes who waits.
 */
#ifndef NODE_INSTANCE_H
#define NODE_INSTANCE_H

#include "json/table.h"
#include "loop/loop.h"
#include "node/node.h"
#include "store/rstore.h"

struct shim;
struct api_call;

enum instance_state {
	INSTANCE_CREATED,
	INSTANCE_STARTING,
	INSTANCE_RUNNING,
	INSTANCE_PAUSED,
	INSTANCE_EXITED,
	INSTANCE_RESTARTING,
	INSTANCE_BROKEN,
	INSTANCE_STATE__COUNT,
};

#define INSTANCE_KIND "instance"
enum { INSTANCE_VERSION = 1 };    /* of the format of spec and status in the store */

extern const char *const instance_state_names[INSTANCE_STATE__COUNT + 1];

enum { ISOLATION_CONTAINER, ISOLATION_VM };
enum { NETWORK_USER, NETWORK_NONE, NETWORK_HOST };
enum { USERNS_AUTO, USERNS_HOST };
enum { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_UNLESS_STOPPED };
enum { MOUNT_BIND, MOUNT_TMPFS, MOUNT_VOLUME };

struct instance_mount {
	int          type;
	const char  *source;
	const char  *target;
	bool         read_only;
	bool         recursive_off;
	const char  *propagation;
	uint64_t     size_bytes;
	uint64_t     mode;
	bool         has_mode;
	struct jstrv options;
};

struct instance_ulimit {
	const char *name;
	int64_t     soft, hard;
};

struct instance_restart {
	int      policy;
	uint64_t max_retries;
};

struct instance_log {
	bool     off;
	uint64_t max_size;
	uint64_t max_files;
};

/* What can be changed while it runs. */
struct instance_resources {
	double       cpus;
	uint64_t     cpu_shares;
	const char  *cpuset_cpus;
	const char  *cpuset_mems;
	uint64_t     memory;
	uint64_t     memory_reservation;
	int64_t      memory_swap;
	bool         has_memory_swap;
	int64_t      pids_limit;
	bool         has_pids_limit;
	uint64_t     io_weight;
};

struct instance_spec {
	const char                *image;
	const char                *rootfs;
	bool                       has_entrypoint;
	int                        isolation;
	struct jstrv               entrypoint;
	struct jstrv               command;
	struct jstrv               env;
	const char                *workdir;
	const char                *user;
	struct jstrv               group_add;
	const char                *hostname;
	const char                *domainname;
	bool                       tty, stdin_open, stdin_once, init, read_only, auto_remove;
	bool                       privileged;
	struct jvec                mounts;      /* struct instance_mount */
	struct jstrv               cap_add, cap_drop;
	struct jstrv               security_opt;
	struct instance_resources  resources;
	struct jvec                ulimits;     /* struct instance_ulimit */
	struct instance_restart    restart;
	const char                *stop_signal;
	uint64_t                   stop_timeout; /* seconds */
	bool                       has_stop_timeout;
	struct jmap                labels;
	struct jmap                annotations;
	const char                *platform;
	int                        network;
	int                        userns;
	struct jmap                sysctls;
	uint64_t                   shm_size;
	int64_t                    oom_score_adj;
	bool                       has_oom_score_adj;
	struct jstrv               dns, dns_search, extra_hosts;
	struct instance_log        log;
};

extern const struct jtable instance_spec_table;
extern const struct jtable instance_resources_table;

struct instance_status {
	int         state;
	bool        has_exit;
	uint64_t    pid;
	uint64_t    exit_code;
	uint64_t    signal;
	bool        oom;
	bool        stopped;         /* by a client: "unless-stopped" and "on-failure" rest */
	const char *error;           /* of the last start */
	uint64_t    started, finished;
	uint64_t    restarts;
	uint64_t    shim_pid;
	const char *boot_id;         /* of the host when it was started */
	uint64_t    id_base, id_count; /* host ids of its user namespace; count 0: none */
	const char *image_digest;    /* of the manifest */
	const char *image_name;
	uint64_t    log_lost;        /* records that the disk did not take */
};

extern const struct jtable instance_status_table;

/* What is told when the state is other than what was waited for. */
struct instance_waiter {
	struct list link;
	void      (*fn)(struct instance_waiter *w, struct instance *i, void *ud);
	void       *ud;
};

struct instance {
	struct list            link;       /* in node->instances, in order of creation */
	struct node           *node;
	char                   id[ID_LEN + 1];
	char                  *name;
	char                  *project;
	uint64_t               created_ns, revision, epoch;
	struct arena           spec_arena;
	json_t                *spec_doc;
	struct instance_spec   spec;
	struct instance_status status;     /* strings are the members below */
	char                  *error, *boot_id, *image_digest, *image_name;
	struct shim           *shim;       /* NULL: none */
	struct loop_timer     *timer;      /* restart, or the end of a stop's patience */
	uint64_t               backoff_ns; /* of the next restart */
	struct list            waiters;
	bool                   removing;   /* goes once it has ended */
	bool                   removed;    /* told to the waiters, who must let go of it */
	bool                   start_asked;  /* start it once its shim has ended */
	bool                   start_sent;   /* to the shim that is there */
	bool                   shim_adopted; /* it is a predecessor's */
	bool                   start_failed; /* the last start: status.error says why */
	bool                   stop_asked;   /* once it runs: stop_signo, stop_timeout_ns */
	int                    stop_signo;
	uint64_t               stop_timeout_ns;
	struct err            *start_err;    /* of the failed start; NULL: no memory for it */
	struct loop_child     *cleanup;      /* after a shim that died */
	uint64_t               run_started_ns; /* monotonic; for the backoff */
	uint32_t               rows, cols;   /* of the terminal at the next start */
	struct list            execs;        /* sessions, running or not yet forgotten */
	size_t                 n_execs;
};

/* Parse a stored or posted spec, checked, into an instance. */
int instance_load_spec(struct instance *i, json_t *doc, struct err *e) must_check;

/*
 * Add an instance to the store and to the node. The name is made up if NULL. `doc` is the final
 * spec, borrowed.
 */
int instance_create(struct node *n, const char *name, const json_t *doc, struct instance **ret,
		    struct err *e) must_check;

/*
 * Those of the store, when the daemon starts (load.c). What cannot be read becomes an instance
 * that is BROKEN, and hinders no other.
 */
int instance_load_all(struct node *n, struct err *e) must_check;

/* For load.c: an empty one that is in no list, and its end. */
struct instance *instance__new(struct node *n);
void instance__free(struct instance *i);

/* By name, id, or prefix of an id. Errors as rstore_find(). */
int instance_find(struct node *n, const char *text, struct instance **ret,
		  struct err *e) must_check;

struct instance *instance_by_id(struct node *n, const char *id);

/* Out of memory, out of the store, out of the disk. Nothing of it may run. */
void instance_delete(struct instance *i);
void instance_unload(struct instance *i);

/* The one setter. Records the state (durable for ends), tells watchers, wakes waiters. */
void instance_set_state(struct instance *i, enum instance_state state);

/* Record status, or a changed spec, without a change of state. */
int instance_save_status(struct instance *i, bool durable, struct err *e) must_check;
int instance_save_spec(struct instance *i, json_t *doc, struct err *e) must_check;

bool instance_active(const struct instance *i);   /* starting, running or paused */

int instance_set_str(char **member, const char **view, const char *value) must_check;

/* As the API shows it; NULL when memory is out. */
json_t *instance_summary(const struct instance *i) must_check;
json_t *instance_detail(const struct instance *i) must_check;

extern const struct jtable instance_summary_table, instance_detail_table;

struct shim_exec_status;
void instance_on_exec_status(struct instance *i, const struct shim_exec_status *st); /* exec.c */
void instance_forget_execs(struct instance *i);

void instance_wait(struct instance *i, struct instance_waiter *w);
void instance_unwait(struct instance_waiter *w);

/* The root of a running one, O_PATH; made sure of that it is its (root.c). */
int instance_open_root(const struct instance *i, struct err *e) must_check;

/* Folders of an instance; allocated, NULL when memory is out. */
char *instance_run_dir(const struct instance *i) must_check;    /* goes with a reboot */
char *instance_state_dir(const struct instance *i) must_check;
char *instance_log_path(const struct instance *i) must_check;

/* The runtime that makes it, and the folder where that keeps its records. */
const char *instance_runtime(const struct instance *i);
char *instance_runtime_root(const struct instance *i) must_check;

/* What reaches into a container from the host: ERR_UNSUPPORTED for a virtual machine. */
int instance_need_container(const struct instance *i, const char *what,
			    struct err *e) must_check;

#endif
