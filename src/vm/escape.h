/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The escape key of a console: Ctrl-A in what is typed begins a command. x ends the VM, b presses
 * the power button, Ctrl-A itself is sent on; any other key is nothing.
 *
 * Context: the loop's thread; locks may be held, as commands are carried out later.
 */
#ifndef VM_ESCAPE_H
#define VM_ESCAPE_H

#include "loop/loop.h"

struct vm;

struct escape {
	struct vm       *vm;
	bool             on, begun;   /* off: everything is sent on */
	uint8_t          wanted;      /* the command; 0: none */
	struct loop_post post;
};

void   escape_init(struct escape *e, struct vm *vm, bool on);
void   escape_fini(struct escape *e);

/* Take the commands out of what was typed. Returns how many bytes are left, in place. */
size_t escape_filter(void *escape, uint8_t *data, size_t n);

#endif
