/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/escape.h"

#include "base/err.h"
#include "vm/vm.h"

enum { ESCAPE = 1 };   /* Ctrl-A */

static void carry_out(struct loop_post *p, void *ud)
{
	struct escape *s = ud;
	struct err e = ERR_INIT;

	(void)p;
	if (s->wanted == 'x') {
		vm_stop(s->vm, VM_END_STOPPED);
	} else if (s->wanted == 'b') {
		ignore_result(vm_power_button(s->vm, &e)); /* not while it is paused */
	}
	s->wanted = 0;
}

void escape_init(struct escape *e, struct vm *vm, bool on)
{
	*e = (struct escape){ .vm = vm, .on = on };
	loop_post_init(&e->post, carry_out, e);
}

void escape_fini(struct escape *e)
{
	loop_post_cancel(&e->post);
}

size_t escape_filter(void *escape, uint8_t *data, size_t n)
{
	struct escape *e = escape;
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (e->on && e->begun) {
			e->begun = false;
			if (data[i] != ESCAPE) {
				e->wanted = e->wanted == 'x' ? e->wanted : data[i];
				loop_post(vm_loop(e->vm), &e->post);
				continue;
			}
		} else if (e->on && data[i] == ESCAPE) {
			e->begun = true;
			continue;
		}
		data[kept++] = data[i];
	}
	return kept;
}
