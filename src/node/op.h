/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: the only asynchronous job of the API. One has an id, an owner (the action and who
 * asked), progress, a deadline, can be cancelled, and ends once with a result or an error. It is
 * kept for a while after its end, so that who asked can come back for it.
 */
#ifndef NODE_OP_H
#define NODE_OP_H

#include "base/id.h"
#include "json/table.h"
#include "loop/loop.h"
#include "node/node.h"

enum op_state { OP_RUNNING, OP_DONE, OP_FAILED, OP_CANCELLED, OP_STATE__COUNT };

enum {
	OPS_MAX    = 64,      /* running at a time */
	OPS_KEPT   = 256,     /* ended and not forgotten */
	OP_KEEP_S  = 600,
};

struct op {
	struct list        link;
	struct node       *node;
	char               id[ID_LEN + 1];
	const char        *action;        /* "image.pull" */
	char              *target;        /* what it is about, for people */
	enum op_state      state;
	uint64_t           created_ns, ended_ns, deadline_ns; /* since the epoch; 0: none */
	json_t            *progress;      /* the last */
	json_t            *result;
	struct err         err;
	struct loop_timer *timer;         /* deadline, then forgetting */
	struct list        watchers;      /* struct op_watcher */
	/* Stop the work; op_end() follows, now or later. */
	void             (*cancel)(struct op *op);
	void             (*release)(struct op *op);   /* it goes: free ud */
	void              *ud;
};

struct op_watcher {
	struct list link;
	/* Called at each progress and at the end; after the end no more. */
	void      (*fn)(struct op_watcher *w, struct op *op, void *ud);
	void       *ud;
};

extern const struct jtable op_table;
extern const char *const op_state_names[OP_STATE__COUNT + 1];

/* @timeout_ns  0: none */
int op_new(struct node *n, const char *action, const char *target, uint64_t timeout_ns,
	   struct op **ret, struct err *e) must_check;

void op_progress(struct op *op, json_t *own_progress);
void op_end(struct op *op, json_t *own_result, const struct err *e);   /* e: it failed */

/* -EALREADY if it has ended. */
int  op_cancel(struct op *op, struct err *e) must_check;
struct op *op_find(struct node *n, const char *id);
json_t *op_json(const struct op *op) must_check;
void op_watch(struct op *op, struct op_watcher *w);
void op_unwatch(struct op_watcher *w);

/* The daemon ends: all are cancelled and freed. */
void ops_end(struct node *n);

#endif
