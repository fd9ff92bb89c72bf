/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtime keeps of a container between its commands: a folder ROOT/ID (0700) with
 *
 *	state.json    this record with the config as it was at create; docs/formats/oci-state.md
 *	start, result the two pipes by which `start` wakes the container's first process
 *
 * A record is made before anything else of the container exists and removed last, so that
 * whatever a crash leaves can be found and deleted. Commands that change what exists hold
 * the folder's lock (flock on the folder itself, so that it dies with its holder).
 *
 * The status is never stored: it is derived from the first process (its pid and start time,
 * so that a reused pid is not mistaken for it), the pipe it waits on, and its cgroups.
 *
 *	auto_(record_freep) struct record *rec = NULL;
 *	r = record_open(root, id, RECORD_LOCK, &rec, e);
 *	if (r == 0 && record_status(rec) == STATUS_CREATED) ...
 */
#ifndef CONTAINER_RECORD_H
#define CONTAINER_RECORD_H

#include <sys/types.h>

#include "container/cgroup.h"
#include "oci/spec.h"

enum record_status {
	STATUS_CREATING,  /* the record is there, the first process is not ready */
	STATUS_CREATED,   /* the first process waits for `start` */
	STATUS_RUNNING,
	STATUS_PAUSED,    /* its cgroups are frozen */
	STATUS_STOPPED,   /* the first process is gone */
	STATUS__COUNT,
};

extern const char *const record_status_names[STATUS__COUNT];

struct record {
	struct arena     arena;        /* owns the strings and the spec */
	int              dir_fd;       /* the folder; holds the lock if it was taken */
	int              root_fd;      /* the folder above */
	const char      *id;
	const char      *bundle;       /* absolute */
	const char      *rootfs;       /* absolute */
	pid_t            pid;          /* of the first process; 0 before it exists */
	uint64_t         start_ticks;  /* field 22 of /proc/PID/stat */
	uint64_t         created_ns;   /* wall clock */
	uid_t            owner;        /* the caller's uid */
	bool             rootless;
	bool             ready;        /* create is through */
	bool             locked;       /* this process holds the lock */
	bool             no_new_keyring;
	struct cgroup   *cgroup;       /* NULL only while it is being made */
	const char      *config_text;  /* create: the config as it was read; borrowed */
	size_t           config_bytes;
	json_t          *doc;          /* what spec.* borrows from: the config, or the state */
	struct oci_spec  spec;
};

enum {
	RECORD_LOCK = 1,   /* wait for the lock, ten seconds at most: ERR_CONFLICT */
	RECORD_SPEC = 2,   /* the config too */
	RECORD_FORCE = 4,  /* a record that cannot be read is one that says nothing */
};

/* A record in memory alone; ERR_INVALID for an id that is none. */
int record_new(const char *id, struct record **ret, struct err *e) must_check;

/*
 * Make the folder of a new container and lock it; ERR_CONFLICT if there is one. `root` is
 * made, 0700, if need be.
 */
int record_make(struct record *rec, const char *root, struct err *e) must_check;

/* ERR_NOT_FOUND if there is none. A folder without a readable state.json (a create that died
 * at once) opens as STATUS_CREATING with nothing known. */
int record_open(const char *root, const char *id, unsigned flags, struct record **ret,
		struct err *e) must_check;

/* Let others work on the container (a foreground run), and take the lock again:
 * ERR_NOT_FOUND if they have removed it. */
void record_unlock(struct record *rec);
int  record_relock(struct record *rec, struct err *e) must_check;

/*
 * Write state.json. The first time nobody else can have read it; later it is replaced whole.
 */
int record_save(const struct record *rec, struct err *e) must_check;

/* Write only what changes: pid, start time, ready; in place, in one write. */
int record_save_process(const struct record *rec, struct err *e) must_check;

/* Remove the folder; the last step of delete. */
int record_remove(struct record *rec, struct err *e) must_check;

struct record *record_free(struct record *rec);
AUTO_PTR(struct record, record_free)

/* Note the first process. */
int record_set_pid(struct record *rec, pid_t pid, struct err *e) must_check;

enum record_status record_status(const struct record *rec);

/* Whether the first process is alive (a zombie is not). */
bool record_alive(const struct record *rec);

/*
 * A descriptor of the first process that is certainly it: opened, then compared by its start
 * time. ERR_CONFLICT if it is gone.
 */
int record_pidfd(const struct record *rec, int *ret_fd, struct err *e) must_check;

/*
 * The state object: what `state` prints (`full`: with rootfs, created and owner, as runc has
 * it) and what hooks and the seccomp agent get. NULL when memory is out.
 */
json_t *record_state_json(const struct record *rec, enum record_status status, bool full);

/* The ids below `root`, sorted; none if it does not exist. */
int record_list(const char *root, struct strv *ret, struct err *e) must_check;

/*
 * Put a file in place whole, by renaming. Not synced: what it describes does not survive a
 * power cut either. 0 or -errno.
 */
int record_write_file(int dir_fd, const char *path, const char *text, size_t len,
		      mode_t mode) must_check;

#endif
