/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of the connection to an instance's shim (wire/shim-proto.h), and the shim's
 * process. An instance has at most one; it ends when the process has ended and the connection
 * is closed, and life_on_shim_end() is told once.
 */
#ifndef NODE_SHIM_H
#define NODE_SHIM_H

#include "node/instance.h"
#include "wire/shim-proto.h"

struct shim;

/* The answer to a request; `r` is NULL if the shim went before it came (then e says so). */
typedef void (*shim_reply_fn)(struct instance *i, const struct shim_reply *r,
			      const struct err *e, void *ud);

/*
 * Start a shim for the instance: in a child the mount namespace, the root file system, the
 * bundle; then holm-shim in it. i->shim is set; what fails later ends it.
 */
int shim_spawn(struct instance *i, struct err *e) must_check;

/* Connect to the shim of a predecessor. ERR_NOT_FOUND: nobody listens any more. */
int shim_adopt(struct instance *i, struct err *e) must_check;

/*
 * Ask. The descriptors in `msg` are borrowed. On success fn (may be NULL) is called exactly
 * once, never from here. A shim whose connection has broken answers nothing more: fn gets the
 * reason once its process has ended, too.
 */
int shim_request(struct instance *i, enum shim_msg_type type, const void *msg, shim_reply_fn fn,
		 void *ud, struct err *e) must_check;

/* An error as the shim's reply gives it. */
int shim_reply_err(const struct shim_reply *r, struct err *e) must_check;

/* Why it failed, as a status of SHIM_FAILED gives it, of whatever version. */
void shim_status_err(const struct shim_status *st, struct err *e);

/* The exit status of a failed start: by its reason, or what a shim of version 1 told. */
uint32_t shim_exit_code(uint32_t reason, uint32_t told);

/* The last status, or NULL before the first. */
const struct shim_status *shim_status(const struct shim *s);

/* Acknowledge the end: the shim leaves. */
void shim_ack(struct instance *i);

/* End it whatever it does. */
void shim_kill(struct instance *i);

/* Forget it; the process goes on (the daemon ends). */
void shim_detach(struct instance *i);

/* Read the exit record of a shim that is gone. ERR_NOT_FOUND if there is none. */
struct shim_exit_record {
	uint64_t    version, epoch, exit_code, signal;
	uint64_t    started_ns, exited_ns, log_lost_records, log_lost_bytes;
	bool        oom;
	const char *instance, *error;
};
int shim_read_exit(const struct instance *i, struct arena *a, struct shim_exit_record *ret,
		   struct err *e) must_check;
extern const struct jtable shim_exit_table;

#endif
