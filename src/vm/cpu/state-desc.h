/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a vCPU's state, section "/cpu/N/cpu", and of the VM's clocks, "/clock". */
#ifndef VM_CPU_STATE_DESC_H
#define VM_CPU_STATE_DESC_H

#include "state/state.h"
#include "vm/cpu/engine.h"

extern const struct state_desc cpu_state_desc;      /* struct cpu_state */
extern const struct state_desc clock_state_desc;    /* struct engine_clock */

#endif
