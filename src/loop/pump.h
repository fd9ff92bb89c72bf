/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from one descriptor to another until the end of the first or the loss of the second.
 * At most PUMP_BYTES are held in between; while they wait nothing more is read.
 *
 *	r = pump_new(loop, take_fd(&pipe_fd), take_fd(&sock), on_over, x, &x->pump);
 *
 * The end passes on: the destination is shut down for writing where it is a socket, and then
 * both are closed. Descriptors become non-blocking; files, which are always ready, work too.
 */
#ifndef LOOP_PUMP_H
#define LOOP_PUMP_H

#include "loop/loop.h"

enum { PUMP_BYTES = 16384 };

struct pump;
typedef void (*pump_fn)(struct pump *p, void *ud);

/* Takes both descriptors, also on failure. `done` is called once, when it is over: it frees
 * the pump, or its owner does later. 0 or -errno. */
int pump_new(struct loop *l, int own_src, int own_dst, pump_fn done, void *ud,
	     struct pump **ret) must_check;

/* What waits is lost. NULL is fine; returns NULL. */
struct pump *pump_free(struct pump *p);

#endif
