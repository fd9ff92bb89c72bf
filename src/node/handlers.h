/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of routes, one a file of handlers; routes.c lists them. */
#ifndef NODE_HANDLERS_H
#define NODE_HANDLERS_H

#include "node/api.h"

extern const struct api_routes instance_routes, life_routes, exec_routes, log_routes, stats_routes,
	copy_routes, image_routes, kernel_routes, system_routes;

/* For calls that need the instance to run now. ERR_CONFLICT. */
int need_running(const struct instance *i, struct err *e) must_check;

/* Ask the shim, answer the call with its success or failure. */
int ask_shim(struct api_call *c, unsigned type, const void *msg, struct err *e) must_check;

/*
 * A call that waits for an answer from elsewhere: it may be gone by then. The holder is freed
 * when it is taken; then *call is NULL if the client went.
 */
struct held_call {
	struct api_call *call;
	void            *ud;
};
struct held_call *hold_call(struct api_call *c, struct err *e) must_check;
struct api_call *take_call(struct held_call *h);

#endif
