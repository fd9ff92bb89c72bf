/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What moves an instance from state to state: clients, its shim, timers (see the picture in
 * node/instance.h).
 */
#ifndef NODE_LIFE_H
#define NODE_LIFE_H

#include "node/instance.h"
#include "node/shim.h"

/*
 * Start it; or, if it is on its way out, once it has ended. The state becomes STARTING here,
 * and RUNNING or EXITED later. ERR_CONFLICT if it runs.
 */
int life_start(struct instance *i, struct err *e) must_check;

/* A shim that waits for its start, so that clients can attach before. */
int life_ensure_shim(struct instance *i, struct err *e) must_check;

/* Ask it to end, and after `timeout_ns` kill it. ERR_CONFLICT if it does not run. */
int life_stop(struct instance *i, int signo, uint64_t timeout_ns, struct err *e) must_check;

/* Stop, then start. */
int life_restart(struct instance *i, int signo, uint64_t timeout_ns, struct err *e) must_check;

/*
 * Remove it as soon as it has ended; `force`: end it. The instance may be gone on return, if it
 * did not run. ERR_CONFLICT if it runs and force is not given.
 */
int life_remove(struct instance *i, bool force, struct err *e) must_check;

/* The signal and the time that a stop takes unless the client says otherwise. */
int      life_stop_signal(const struct instance *i);
uint64_t life_stop_timeout_ns(const struct instance *i);

/* From the shim. */
void life_on_status(struct instance *i, const struct shim_status *st);
void life_on_shim_end(struct instance *i, const struct err *why);
void life_on_timer(struct instance *i);

/* What its restart policy says after an end (also at the daemon's start). */
void life_apply_policy(struct instance *i);

/* After a reboot: what its restart policy says about that. */
void life_after_boot(struct instance *i);

/* Record the end; the state becomes EXITED. */
void life_record_exit(struct instance *i, uint64_t code, uint64_t signo, bool oom,
		      uint64_t finished_ns, const char *error);

#endif
