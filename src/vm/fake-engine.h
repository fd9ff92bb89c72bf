/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine for tests: its vCPUs run no instructions, they call a function of the test. So the
 * machine around them is tested on any host.
 */
#ifndef VM_FAKE_ENGINE_H
#define VM_FAKE_ENGINE_H

#include "vm/cpu/engine.h"

/* What a vCPU does when it runs; returns as vcpu_run() does. fake_wait() sleeps until a kick. */
typedef int fake_run_fn(struct vcpu *v, const struct engine_bus *bus, enum vcpu_stop *ret,
			struct err *e);

extern const struct engine_ops engine_fake;

void fake_set_run(fake_run_fn *fn);          /* of all vCPUs made from now on */
void fake_wait(struct vcpu *v);              /* returns after vcpu_kick() */
unsigned fake_runs(const struct vcpu *v);    /* how often it was run */
unsigned fake_lines(const struct engine *eng, unsigned gsi);   /* rising edges seen */

#endif
