/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A piece of blocking work in a child of ours, forked and not executed: reading what a container
 * controls, walking its files. Its result is what it writes to a pipe, its failure an error; in
 * the daemon everything comes through the loop.
 */
#ifndef NODE_WORK_H
#define NODE_WORK_H

#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

struct work;

enum { WORK_RESULT_MAX = 4 * 1024 * 1024 };

struct work_spec {
	/* In the child: `in_fd` is -1 or the end of a pipe to read; the result goes to out_fd. */
	int  (*run)(void *run_ud, int in_fd, int out_fd, struct err *e);
	void  *run_ud;          /* what it points to is the child's copy */
	bool   new_mounts;      /* in a mount namespace of its own */
	bool   input;           /* work_input() will be used */
	/*
	 * What came out, as it comes; NULL: all is kept for `done`. Returns false to be asked
	 * again after work_resume().
	 */
	bool (*data)(void *ud, const void *data, size_t n);
	/* Called once, last; e is NULL on success. The work frees itself after it. */
	void (*done)(void *ud, const struct buf *result, const struct err *e);
	void  *ud;
};

int work_start(struct loop *l, const struct work_spec *spec, struct work **ret,
	       struct err *e) must_check;

/* Nobody wants the result: the child is killed, `done` is not called. */
void work_cancel(struct work *w);

void work_resume(struct work *w);

/*
 * Give input; returns how much was taken. If not all, `writable` is called once there is room.
 * work_input_end() closes it.
 */
size_t work_input(struct work *w, const void *data, size_t n, void (*writable)(void *ud));
void   work_input_end(struct work *w);

#endif
