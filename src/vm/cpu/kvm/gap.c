/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where KVM's instruction emulator gives up, the software engine's interpreter takes that one
 * instruction. It is a whole engine of its own over the same memory and devices, which gets the
 * vCPU's state, makes one step, and gives the state back.
 *
 * What is not to happen twice is kept from it: its local APICs are never asked for interrupts,
 * and it knows nothing of the paravirtual pages.
 *
 * It also takes the instruction behind a MOV SS that holds a data breakpoint back, in a state that
 * comes from elsewhere: KVM can be told of the shadow, and not of what waits in it.
 *
 * The engine is made with the VM, as its memory for code cannot be had in the monitor's jail; its
 * vCPUs, which cost memory, at the first gap of each.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

void kvm__gap_fini(struct kvm_engine *eng)
{
	if (eng->helper) {
		eng->helper->ops->free_(eng->helper);
		eng->helper = NULL;
	}
}

int kvm__gap_init(struct kvm_engine *eng, struct err *e)
{
	struct engine_conf conf = eng->eng.conf;

	conf.tsc_hz = eng->tsc_hz;
	return engine_interp.new_(&conf, &eng->helper, e);
}

static int make_helper(struct kvm_vcpu *v, struct err *e)
{
	struct vcpu_debug step = { .step = true };
	int r = engine_interp.vcpu_new(v->eng->helper, v->vcpu.id, &v->helper, e);

	if (r == 0 && v->cpuid) {
		r = engine_interp.vcpu_cpuid(v->helper, v->cpuid, v->n_cpuid, e);
	}
	return r < 0 ? r : engine_interp.vcpu_debug(v->helper, &step, e);
}

/* The guest may have changed its code since the helper last saw it. */
static void forget_code(struct kvm_vcpu *v, const struct cpu_state *s)
{
	struct gmem *mem = v->eng->eng.conf.mem;
	uint64_t linear = s->rip + (s->efer & CPU_EFER_LMA && s->seg[CPU_CS].ar & CPU_AR_L ?
					    0 : s->seg[CPU_CS].base);

	for (unsigned i = 0; i < 2; i++) {
		gpa_t at;

		if (mem->written && kvm__vcpu_translate(&v->vcpu, linear + i * 14, &at) == 0) {
			mem->written(mem->written_ctx, at, 1);
		}
	}
}

static struct cpu_msrs without_pv(struct cpu_msrs m)
{
	m.pv_wall_clock = m.pv_system_time = m.pv_eoi = m.pv_steal_time = 0;
	m.pv_async_pf = m.pv_poll_control = 0;
	return m;
}

static void keep_pv(struct cpu_msrs *m, const struct cpu_msrs *was)
{
	m->pv_wall_clock = was->pv_wall_clock;
	m->pv_system_time = was->pv_system_time;
	m->pv_eoi = was->pv_eoi;
	m->pv_steal_time = was->pv_steal_time;
	m->pv_async_pf = was->pv_async_pf;
	m->pv_poll_control = was->pv_poll_control;
}

int kvm__gap(struct kvm_vcpu *v, struct err *e)
{
	struct cpu_state s, was;
	enum vcpu_stop stop = VCPU_STOP_FAILED;
	int r = v->helper ? 0 : make_helper(v, e);

	r = r < 0 ? r : kvm__get(&v->vcpu, &s, e);
	if (r < 0) {
		return err_wrap(e, "vCPU %u: an instruction that KVM does not know", v->vcpu.id);
	}
	/* As the interpreter has it: so it differs only where the step changed it. */
	cpu_xsave_fill(s.xsave, v->components);
	was = s;
	s.msr = without_pv(s.msr);
	forget_code(v, &s);
	r = engine_interp.vcpu_set(v->helper, &s, e);
	r = r < 0 ? r : engine_interp.vcpu_run(v->helper, &stop, e);
	r = r < 0 ? r : engine_interp.vcpu_get(v->helper, &s, e);
	if (r < 0) {
		return r;
	}
	v->gaps++;
	if (stop == VCPU_STOP_SHUTDOWN) {
		return 1;
	}
	if (stop != VCPU_STOP_STEPPED) {
		return err_set(e, EIO, ERR_HOST, "vCPU %u: the interpreter did not step",
			       v->vcpu.id);
	}
	keep_pv(&s.msr, &was.msr);
	return kvm__set_stepped(v, &s, &was, e);
}
