/* SPDX-License-Identifier: Apache-2.0 */
#include "node/op.h"

#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

const char *const op_state_names[OP_STATE__COUNT + 1] = {
	[OP_RUNNING] = "running",
	[OP_DONE] = "done",
	[OP_FAILED] = "failed",
	[OP_CANCELLED] = "cancelled",
};

struct op_error {
	const char *code, *message, *field;
};

struct op_view {
	const char      *id, *action, *target;
	int              state;
	uint64_t         created_ns, ended_ns, deadline_ns;
	json_t          *progress, *result;
	struct op_error *error;
};

#define IN(m) offsetof(struct op_error, m)
static const struct jfield error_fields[] = {
	{ "code", JK_STR, IN(code), .flags = JF_REQUIRED, .doc = "as of an error reply" },
	{ "message", JK_STR, IN(message), .flags = JF_REQUIRED, .doc = "for a person" },
	{ "field", JK_STR, IN(field), .doc = "JSON pointer of the bad input" },
};
#undef IN
static const struct jtable error_table = JTABLE("OperationError", struct op_error, error_fields);

#define IN(m) offsetof(struct op_view, m)
static const struct jfield op_fields[] = {
	{ "id", JK_ID, IN(id), .flags = JF_REQUIRED, .doc = "of the operation" },
	{ "action", JK_STR, IN(action), .flags = JF_REQUIRED, .doc = "what is done" },
	{ "target", JK_STR, IN(target), .doc = "what it is done to" },
	{ "state", JK_ENUM, IN(state), .names = op_state_names, .flags = JF_EMPTY,
	  .doc = "how far it is" },
	{ "created", JK_TIME, IN(created_ns), .flags = JF_REQUIRED, .doc = "when it began" },
	{ "ended", JK_TIME, IN(ended_ns), .doc = "when it ended" },
	{ "deadline", JK_TIME, IN(deadline_ns), .doc = "when it is cancelled" },
	{ "progress", JK_RAW, IN(progress), .doc = "the last: docs/formats/image-progress.md" },
	{ "result", JK_RAW, IN(result), .doc = "of a done one, by its action" },
	{ "error", JK_OBJ, IN(error), .sub = &error_table, .doc = "of a failed one" },
};
#undef IN
const struct jtable op_table = JTABLE("Operation", struct op_view, op_fields);

json_t *op_json(const struct op *op)
{
	char text[sizeof(op->err.msg) + 128];
	struct op_error error = {
		.code = err_codes[op->err.code].name,
		.message = op->err.errnum ? err_text(&op->err, text, sizeof(text)) : "cancelled",
		.field = op->err.field[0] ? op->err.field : NULL,
	};
	struct op_view v = {
		.id = op->id, .action = op->action, .target = op->target, .state = (int)op->state,
		.created_ns = op->created_ns, .ended_ns = op->ended_ns,
		.deadline_ns = op->deadline_ns, .progress = op->progress, .result = op->result,
		.error = op->state == OP_FAILED || op->state == OP_CANCELLED ? &error : NULL,
	};

	return jtable_format(&op_table, &v);
}

static void op_free(struct op *op)
{
	op->node->n_ops--;
	list_del(&op->link);
	loop_timer_free(op->timer);
	if (op->release) {
		op->release(op);
	}
	json_decref(op->progress);
	json_decref(op->result);
	free(op->target);
	free(op);
}

static void on_timer(struct loop_timer *t, void *ud)
{
	struct op *op = ud;
	struct err e = ERR_INIT;

	(void)t;
	if (op->state != OP_RUNNING) {
		if (list_empty(&op->watchers)) {
			op_free(op);
		}
	} else if (!op->err.errnum) {
		ignore_result(err_set(&op->err, ETIMEDOUT, ERR_UNAVAILABLE, "it took too long"));
		ignore_result(op_cancel(op, &e)); /* it runs */
	}
}

/* Ended ones make room, the oldest first. */
static void trim(struct node *n)
{
	list_for_each_safe (struct op, op, &n->ops, link) {
		if (n->n_ops > OPS_KEPT && op->state != OP_RUNNING && list_empty(&op->watchers)) {
			op_free(op);
		}
	}
}

static size_t running(const struct node *n)
{
	size_t k = 0;

	list_for_each (struct op, op, &n->ops, link) {
		k += op->state == OP_RUNNING;
	}
	return k;
}

int op_new(struct node *n, const char *action, const char *target, uint64_t timeout_ns,
	   struct op **ret, struct err *e)
{
	struct id id;

	if (running(n) >= OPS_MAX) {
		return err_set(e, EAGAIN, ERR_LIMIT, "%d operations run already: wait for some",
			       OPS_MAX);
	}
	struct op *op = mem_new(struct op);

	if (!op) {
		return err_nomem(e);
	}
	op->target = str_dup(target ? target : "");
	int r = op->target ? id_new(&id) : -ENOMEM;

	r = r < 0 ? r : loop_timer_new(n->loop, on_timer, op, &op->timer);
	if (r < 0) {
		free(op->target);
		free(op);
		return err_set(e, -r, ERR_HOST, "a new operation");
	}
	memcpy(op->id, id.text, sizeof(op->id));
	op->node = n;
	op->action = action;
	op->created_ns = clock_wall_ns();
	list_init(&op->watchers);
	if (timeout_ns) {
		op->deadline_ns = op->created_ns + timeout_ns;
		loop_timer_start(op->timer, timeout_ns);
	}
	list_add_tail(&n->ops, &op->link);
	n->n_ops++;
	trim(n);
	*ret = op;
	return 0;
}

static void tell(struct op *op)
{
	list_for_each_safe (struct op_watcher, w, &op->watchers, link) {
		w->fn(w, op, w->ud);
	}
}

void op_progress(struct op *op, json_t *own_progress)
{
	if (own_progress) {
		json_decref(op->progress);
		op->progress = own_progress;
		tell(op);
	}
}

void op_end(struct op *op, json_t *own_result, const struct err *e)
{
	assert(op->state == OP_RUNNING);
	op->ended_ns = clock_wall_ns();
	op->result = own_result;
	if (e && !op->err.errnum) {
		op->err = *e;
	}
	op->state = !e ? OP_DONE : op->err.errnum == ECANCELED ? OP_CANCELLED : OP_FAILED;
	op->cancel = NULL;
	loop_timer_start(op->timer, OP_KEEP_S * NS_PER_SEC);
	node_event(op->node, "operation", op_state_names[op->state], op->id, op->target, "action",
		   op->action, NULL);
	tell(op);
}

int op_cancel(struct op *op, struct err *e)
{
	if (op->state != OP_RUNNING) {
		return err_set(e, EALREADY, ERR_CONFLICT, "the operation has ended");
	}
	if (!op->err.errnum) {
		ignore_result(err_set(&op->err, ECANCELED, ERR_CONFLICT, "cancelled"));
		/* kept for its end */
	}
	if (op->cancel) {
		op->cancel(op);
	}
	return 0;
}

struct op *op_find(struct node *n, const char *id)
{
	size_t len = strlen(id);

	list_for_each (struct op, op, &n->ops, link) {
		if (str_eq(op->id, id) || (len >= 8 && str_after(op->id, id))) {
			return op;
		}
	}
	return NULL;
}

void op_watch(struct op *op, struct op_watcher *w)
{
	list_add_tail(&op->watchers, &w->link);
}

void op_unwatch(struct op_watcher *w)
{
	list_del(&w->link);
}

void ops_end(struct node *n)
{
	list_for_each_safe (struct op, op, &n->ops, link) {
		if (op->state == OP_RUNNING && op->cancel) {
			op->cancel(op);
		}
		op_free(op);
	}
}
