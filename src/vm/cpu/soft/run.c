/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of one vCPU. Fast: find a block, run its instructions. Whatever else there may be to
 * do is announced by two words, `wants` (by others) and `slow` (by this thread), which are
 * looked at before each block. While `slow` holds a shadow, a trap flag or breakpoints, one
 * instruction at a time runs.
 *
 * Faults come back by one sigsetjmp() at the loop's top.
 */
#include <errno.h>

#include "base/clock.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

enum {
	/* Blocks between two looks at the clock: well below 100 us. */
	BUDGET = 1000,
	/* Looks at the clock between two at what the host took: some milliseconds. */
	STEAL_LOOKS = 200,
};

enum {
	SLOW_STEP = SOFT_SLOW_SHADOW | SOFT_SLOW_TRAP | SOFT_SLOW_DR | SOFT_SLOW_DEBUG,
};

static uint8_t cpl_of(const struct cpu_state *s)
{
	if (!(s->cr0 & CPU_CR0_PE)) {
		return 0;
	}
	if (s->rflags & CPU_FLAG_VM) {
		return 3;
	}
	return s->seg[CPU_SS].ar >> CPU_AR_DPL_SHIFT & 3;
}

static uint8_t mode_of(const struct cpu_state *s)
{
	if ((s->efer & CPU_EFER_LMA) && (s->seg[CPU_CS].ar & CPU_AR_L)) {
		return INSN_MODE_64;
	}
	return s->seg[CPU_CS].ar & CPU_AR_DB ? INSN_MODE_32 : INSN_MODE_16;
}

static bool data_breakpoints(const struct cpu_state *s)
{
	for (unsigned k = 0; k < 4; k++) {
		if ((s->dr7 >> (2 * k) & 3) && (s->dr7 >> (16 + 4 * k) & 1)) {
			return true;
		}
	}
	return false;
}

/* Of privilege 0 to 2, with AC set or clear. */
static struct soft_tlb_entry *tlb_inner(struct soft_cpu *c, bool ac)
{
	if (c->check_access) {
		return c->tlb_none;
	}
	return ac || !(c->s.cr4 & CPU_CR4_SMAP) ? c->window->ac : c->tlb_kernel;
}

static struct soft_tlb_entry *tlb_of(struct soft_cpu *c)
{
	if (c->cpl == 3 && !c->check_access) {
		return c->window->user;
	}
	return c->xl_tlb[(c->s.rflags & CPU_FLAG_AC) != 0];
}

static unsigned slow_of(const struct soft_cpu *c)
{
	const struct cpu_state *s = &c->s;
	unsigned slow = 0;

	if (s->events.shadow_sti || s->events.shadow_mov_ss) {
		slow |= SOFT_SLOW_SHADOW;
	}
	if (s->rflags & (CPU_FLAG_TF | CPU_FLAG_RF)) {
		slow |= SOFT_SLOW_TRAP;
	}
	if ((s->dr7 & 0xff) || c->dr6_pending) {
		slow |= SOFT_SLOW_DR;
	}
	if (c->debug.step || c->debug.n_breakpoints || c->debug.n_watches) {
		slow |= SOFT_SLOW_DEBUG;
	}
	if (s->mp_state != CPU_MP_RUNNABLE) {
		slow |= SOFT_SLOW_HALT;
	}
	return slow;
}

void soft_mode_update(struct soft_cpu *c)
{
	const struct cpu_state *s = &c->s;

	c->cpl = cpl_of(s);
	c->mode = mode_of(s);
	c->stack_bytes = c->mode == INSN_MODE_64 ? 8 : s->seg[CPU_SS].ar & CPU_AR_DB ? 4 : 2;
	c->check_access = (c->cpl == 3 && (s->cr0 & CPU_CR0_AM) && (s->rflags & CPU_FLAG_AC)) ||
			  data_breakpoints(s) || c->debug.n_watches;
	c->xl_tlb[false] = tlb_inner(c, false);
	c->xl_tlb[true] = tlb_inner(c, true);
	if (c->tlb != tlb_of(c)) {
		c->tlb = tlb_of(c);
		soft_stack_forget(c);
	}
	shadow_update(c);
	c->slow = (c->slow & (SOFT_SLOW_EVENT | SOFT_SLOW_STOP)) | slow_of(c);
}

/* --- Blocks --- */

static struct soft_block *find_slow(struct soft_cpu *c, uint64_t linear)
{
	struct soft_jump *j = soft_jump_slot(c, linear);
	struct soft_block *b = NULL;

	c->running = NULL;
	if (c->mode == INSN_MODE_64 ? !soft_canonical(linear)
				    : c->s.rip > c->s.seg[CPU_CS].limit) {
		soft_fault(c, CPU_GP, 0);
	}
	b = soft_block_find(c, linear);
	if (!b->cross) {
		j->linear = linear;
		j->generation = soft_generation(c);
		j->block = b;
	}
	return b;
}

static inline struct soft_block *find(struct soft_cpu *c)
{
	uint64_t linear = c->s.rip;

	if (c->mode != INSN_MODE_64) {
		linear = (linear + c->s.seg[CPU_CS].base) & UINT32_MAX;
	}
	struct soft_block *b = soft_block_known(c, linear);

	return __builtin_expect(b != NULL, 1) ? b : find_slow(c, linear);
}

static bool same_page(uint64_t a, uint64_t b)
{
	return (a ^ b) >> GMEM_PAGE_SHIFT == 0;
}

/* Follow the link of the block that ended, or find the next one and link to it. */
static inline struct soft_block *next_block(struct soft_cpu *c)
{
	struct soft_block **link = c->link, *b = NULL;
	uint64_t from = c->running_rip;
	uint64_t gpa = link && !c->running->cross ? c->running->gpa : UINT64_MAX;

	if (link && *link && (*link)->mode == INSN_MODE_64) {
		return *link;
	}
	b = find(c);
	link = c->link;   /* gone, if the arena was emptied */
	if (link && c->mode == INSN_MODE_64 && same_page(from, c->s.rip) &&
	    same_page(gpa, b->gpa) && !b->cross) {
		*link = b;
	}
	return b;
}

/* How many instructions of a block lie inside CS; what begins outside faults. */
static unsigned inside(struct soft_cpu *c, const struct soft_block *b)
{
	uint64_t at = c->s.rip, limit = c->s.seg[CPU_CS].limit;
	unsigned n = 0;

	if (at + b->bytes - 1 <= limit) {
		return b->n;
	}
	while (n < b->n && at + b->insns[n].len - 1 <= limit) {
		at += b->insns[n++].len;
	}
	if (n == 0) {
		c->running = NULL;
		soft_fault(c, CPU_GP, 0);
	}
	return n;
}

static inline void run_insns(struct soft_cpu *c, struct soft_block *b, const struct insn *first,
			     unsigned n)
{
	c->running = b;
	c->running_rip = c->s.rip;
	c->running_n = n;
	c->count += n;
	c->link = NULL;
	first->fn(c, first);   /* and more blocks, perhaps */
	c->at = NULL;
	c->s.rip = c->mode == INSN_MODE_64 ? c->next_rip : c->next_rip & UINT32_MAX;
}

/* The first instruction of a block. */
static void run_one(struct soft_cpu *c, struct soft_block *b)
{
	c->one[0] = b->insns[0];
	c->one[1].fn = soft_block_end;
	c->budget = 0;         /* no other block behind it */
	c->single = true;
	run_insns(c, b, c->one, 1);
	c->single = false;
	c->link = NULL;
}

/* A block, or as much of it as CS holds: then one by one. */
static void run_block_legacy(struct soft_cpu *c, struct soft_block *b)
{
	if (inside(c, b) < b->n) {
		run_one(c, b);
	} else {
		run_insns(c, b, b->insns, b->n);
	}
}

/*
 * In counted mode: n instructions of a block, and no more than up to one that calls for a look.
 * In a whole block only the last one does, for what does so ends blocks, but for accesses outside
 * of RAM: those leave the thread and come back here alone (soft_counted_apart()).
 */
static void run_counted(struct soft_cpu *c, struct soft_block *b, unsigned n)
{
	bool look = c->apart || c->slow;

	if (n == b->n && !look) {
		run_insns(c, b, b->insns, n);
		return;
	}
	c->running = b;
	c->running_rip = c->s.rip;
	c->one[1].fn = soft_block_end;
	n = look ? 1 : n;
	c->budget = 0;
	c->apart = false;
	c->single = true;
	for (unsigned k = 0; k < n; k++) {
		/* Of a block that is no longer valid this is a function that leaves it. */
		c->one[0] = b->insns[k];
		c->running_n = k + 1;
		c->count++;
		c->one[0].fn(c, c->one);
		c->at = NULL;
		c->s.rip = c->mode == INSN_MODE_64 ? c->next_rip : c->next_rip & UINT32_MAX;
		if (c->slow || (atomic_load_explicit(&c->wants, memory_order_relaxed) &
				SOFT_WANT_EVENT)) {
			break;
		}
	}
	c->single = false;
	c->link = NULL;
}

/* --- Events --- */

void soft_init_event(struct soft_cpu *c)
{
	bool bsp = c->vcpu.id == 0;

	c->s.rflags = soft_flags_get(c);
	cpu_state_init(&c->s);
	c->s.mp_state = bsp ? CPU_MP_RUNNABLE : CPU_MP_WAIT_SIPI;
	c->s.gpr[CPU_RDX] = c->reset_signature;
	soft_flags_set(c, c->s.rflags);
	lapic_init(c->apic);
	c->dr6_pending = 0;
	soft_tlb_flush_all(c);
}

static void start_at(struct soft_cpu *c, uint8_t page)
{
	c->s.seg[CPU_CS].selector = (uint16_t)(page << 8);
	c->s.seg[CPU_CS].base = (uint64_t)page << 12;
	c->s.rip = 0;
	c->s.mp_state = CPU_MP_RUNNABLE;
	soft_mode_update(c);
}

static void posted_events(struct soft_cpu *c)
{
	uint8_t page = 0;
	unsigned mask = LAPIC_INIT | LAPIC_NMI;
	unsigned got = 0;

	if (c->s.mp_state != CPU_MP_WAIT_INIT) {
		mask |= LAPIC_SIPI;
	}
	got = lapic_events(c->apic, mask, &page);
	if (got & LAPIC_NMI) {
		c->s.events.nmi_pending = true;
	}
	if (got & LAPIC_INIT) {
		c->events++;
		soft_init_event(c);
		if (!(got & LAPIC_SIPI)) {
			got |= lapic_events(c->apic, LAPIC_SIPI, &page);
		}
	}
	if ((got & LAPIC_SIPI) && c->s.mp_state == CPU_MP_WAIT_SIPI) {
		c->events++;
		start_at(c, page);
	}
}

static void wake(struct soft_cpu *c)
{
	if (c->s.mp_state == CPU_MP_HALTED) {
		c->s.mp_state = CPU_MP_RUNNABLE;
		c->slow &= ~(unsigned)SOFT_SLOW_HALT;
	}
}

/* Deliver what can be. Faults of the delivery leave by soft_fault(). */
static void deliver_events(struct soft_cpu *c)
{
	struct cpu_events *ev = &c->s.events;
	int vector = -1;

	c->slow &= ~(unsigned)SOFT_SLOW_EVENT;
	posted_events(c);
	if (c->s.mp_state == CPU_MP_WAIT_INIT || c->s.mp_state == CPU_MP_WAIT_SIPI) {
		return;
	}
	if (c->s.mp_state == CPU_MP_HALTED &&
	    atomic_exchange(&c->unhalt, false)) {
		wake(c);
	}
	if (ev->injected != CPU_EVENT_NONE) {
		c->events++;
		soft_deliver_injected(c);
	}
	if (ev->exception_pending) {
		c->events++;
		ev->exception_pending = false;
		ev->injected = CPU_EVENT_EXCEPTION;
		soft_deliver_injected(c);
	}
	if (ev->shadow_sti || ev->shadow_mov_ss) {
		c->slow |= SOFT_SLOW_EVENT;
		return;
	}
	if (ev->nmi_pending && !ev->nmi_masked) {
		wake(c);
		c->events++;
		ev->nmi_pending = false;
		c->running = NULL;
		soft_deliver_nmi(c);
		c->slow |= SOFT_SLOW_EVENT;
		return;
	}
	lapic_timer_run(c->apic, soft_now(c));
	soft_timer_update(c);
	c->held = true;
	if (!(c->s.rflags & CPU_FLAG_IF)) {
		return;
	}
	if (c->cpl == 3 && lapic_waiting(c->apic)) {
		shadow_sample(c);
	}
	vector = lapic_next(c->apic);
	if (vector < 0) {
		/* In counted mode each look at the clock is where it always was. */
		c->held = c->eng->counted || lapic_waiting(c->apic);
		return;
	}
	wake(c);
	c->events++;
	lapic_accept(c->apic, (uint8_t)vector);
	c->running = NULL;
	soft_deliver_interrupt(c, (uint8_t)vector);
}

/* Sleep until something is wanted or the timer is due. false: vcpu_run() returns. */
static bool halt(struct soft_cpu *c)
{
	uint64_t deadline = c->s.mp_state == CPU_MP_HALTED ? c->deadline_ns : UINT64_MAX;

	c->slow |= SOFT_SLOW_EVENT;
	if (c->eng->counted) {
		return soft_counted_halt(c);
	}
	soft_guest_leave(c);
	soft_pv_steal(c, false);
	soft_park(c, deadline == UINT64_MAX ? deadline : soft_host_ns(c->eng, deadline));
	soft_guest_enter(c);
	soft_pv_steal(c, true);
	return true;
}

/* What is to be done before the next instruction. false: vcpu_run() returns. */
static bool serve(struct soft_cpu *c)
{
	for (;;) {
		if (c->eng->counted && (!soft_counted_due(c) || !soft_counted_pass(c) ||
					!soft_counted_due(c))) {
			return false;
		}
		unsigned wants = atomic_load(&c->wants);

		if (wants & SOFT_WANT_EXCLUSIVE) {
			soft_guest_leave(c);
			soft_guest_enter(c);
			/* What came meanwhile comes before the next instruction. */
			wants = atomic_load(&c->wants);
		}
		if (wants & SOFT_WANT_REQUEST) {
			soft_inbox_serve(c);
		}
		if (wants & SOFT_WANT_LOOK) {
			atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_LOOK);
		}
		if (wants & SOFT_WANT_EVENT) {
			atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_EVENT);
			c->slow |= SOFT_SLOW_EVENT;
		}
		if (c->slow & SOFT_SLOW_STOP) {
			return false;
		}
		if (wants & SOFT_WANT_KICK) {
			atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_KICK);
			c->stop = VCPU_STOP_KICKED;
			return false;
		}
		if (c->slow & SOFT_SLOW_EVENT) {
			deliver_events(c);
		}
		if (!(c->slow & SOFT_SLOW_HALT)) {
			return true;
		}
		if (!(c->slow & SOFT_SLOW_EVENT) && !halt(c)) {
			return false;
		}
	}
}

/* --- One instruction at a time --- */

static bool debugger_stops(struct soft_cpu *c)
{
	bool skip = c->debug_skip_valid && c->debug_skip == c->s.rip;

	c->debug_skip_valid = false;
	for (unsigned i = 0; !skip && i < c->debug.n_breakpoints; i++) {
		if (c->debug.breakpoints[i] == c->s.rip) {
			c->stop = VCPU_STOP_BREAKPOINT;
			c->debug_skip = c->s.rip;
			c->debug_skip_valid = true;
			return true;
		}
	}
	return false;
}

/* Instruction breakpoints: which of DR0 to DR3 name RIP. */
static uint64_t code_breakpoints(const struct soft_cpu *c)
{
	uint64_t linear = c->s.rip, hits = 0, enabled = 0;

	if (c->mode != INSN_MODE_64) {
		linear = (linear + c->s.seg[CPU_CS].base) & UINT32_MAX;
	}
	for (unsigned k = 0; k < 4; k++) {
		if ((c->s.dr7 >> (16 + 4 * k) & 15) == 0 && c->s.dr[k] == linear) {
			hits |= BIT(k);
			enabled |= c->s.dr7 >> (2 * k) & 3;
		}
	}
	return enabled ? hits : 0;
}

/* false: vcpu_run() returns. */
static bool step(struct soft_cpu *c)
{
	struct cpu_events *ev = &c->s.events;
	bool trap = (c->s.rflags & CPU_FLAG_TF) != 0;
	bool resume = (c->s.rflags & CPU_FLAG_RF) != 0;
	bool held = ev->shadow_mov_ss;

	if ((c->slow & SOFT_SLOW_DEBUG) && debugger_stops(c)) {
		return false;
	}
	if ((c->s.dr7 & 0xff) && !resume && !held) {
		uint64_t hits = code_breakpoints(c);

		if (hits) {
			c->events++;
			c->running = NULL;
			soft_deliver_debug(c, hits);
			return true;
		}
	}
	struct soft_block *b = find(c);

	if (c->mode != INSN_MODE_64) {
		(void)inside(c, b);
	}
	bool sti = ev->shadow_sti, mov_ss = ev->shadow_mov_ss;

	ev->shadow_sti = ev->shadow_mov_ss = false;
	c->shadow_was = sti || mov_ss;
	c->s.rflags &= ~(uint64_t)CPU_FLAG_RF;
	c->resume_was = resume;
	c->no_step = false;
	run_one(c, b);
	trap = trap && !c->no_step;
	c->shadow_was = c->resume_was = false;
	if (sti || mov_ss) {
		c->slow |= SOFT_SLOW_EVENT;
	}
	soft_mode_update(c);
	if ((trap || c->dr6_pending) && !ev->shadow_mov_ss) {
		uint64_t bits = c->dr6_pending | (trap ? BIT(14) : 0);

		c->dr6_pending = 0;
		c->events++;
		c->running = NULL;
		soft_deliver_debug(c, bits);
		soft_mode_update(c);
	}
	if (c->debug_hit) {
		c->debug_hit = false;
		c->stop = VCPU_STOP_WATCHED;
		return false;
	}
	if (c->debug.step) {
		c->stop = VCPU_STOP_STEPPED;
		return false;
	}
	return true;
}

/* --- The loop --- */

/* A fault came by siglongjmp(). false: shutdown. */
static bool faulted(struct soft_cpu *c)
{
	soft_exclusive_end(c);
	soft_rip_sync(c);
	c->link = NULL;
	c->xl_site = 0;
	c->xl_pin = 0;
	if (c->xl_inside) {
		c->xl_inside = false;
		xl_add(&c->counts->n[XC_LEFT_FAULT], 1);
	}
	c->single = false;
	c->count -= c->xl_out ? 1 : soft_block_rest(c);
	c->xl_out = false;
	if (c->resume_was) {
		c->s.rflags |= CPU_FLAG_RF;
	}
	c->resume_was = c->shadow_was = false;
	c->debug_hit = false;
	c->running = NULL;
	soft_mode_update(c);
	if (c->fault_vector == SOFT_LEFT) {
		return true;
	}
	c->dr6_pending = 0;
	c->events++;
	if (soft_deliver_fault(c) < 0) {
		c->stop = VCPU_STOP_SHUTDOWN;
		return false;
	}
	soft_mode_update(c);
	if (c->debug.step) {
		c->stop = VCPU_STOP_STEPPED;
		return false;
	}
	return true;
}

static void clock_look(struct soft_cpu *c)
{
	c->budget = BUDGET;
	if (__builtin_expect((c->s.msr.pv_steal_time & 1) && ++c->steal_looks > STEAL_LOOKS, 0)) {
		soft_pv_steal_more(c);
	}
	if (c->deadline_ns != UINT64_MAX && soft_now_ns(c->eng) >= c->deadline_ns) {
		c->slow |= SOFT_SLOW_EVENT;
	}
}

/* The translation that a block has by now; NULL: it is interpreted. */
static inline const struct xl_block *translated(struct soft_cpu *c, struct soft_block *b)
{
	if (b->heat > 0 || (c->mode != INSN_MODE_64 && !xl_compat_flat(c))) {
		return NULL;
	}
	if (__builtin_expect(c->eng->eng.conf.xl.direct_now, 0) && shadow_take_now(c)) {
		return NULL;   /* the guest was let go of */
	}
	return xl_of(c, b);
}

static void run_translated(struct soft_cpu *c, const struct xl_block *x)
{
	if (c->xl_site) {
		xl_link(c, x);
	}
	xl_run(c, x);
	c->s.rip = c->mode == INSN_MODE_64 ? c->next_rip : c->next_rip & UINT32_MAX;
}

static void loop(struct soft_cpu *c)
{
	for (;;) {
		if (__builtin_expect(--c->budget < 0, 0)) {
			clock_look(c);
		}
		if (__builtin_expect((atomic_load_explicit(&c->wants, memory_order_relaxed) |
				      c->slow) != 0, 0)) {
			c->link = NULL;
			c->xl_site = 0;
			if (!serve(c)) {
				return;
			}
			if (c->slow & SLOW_STEP) {
				if (!step(c)) {
					return;
				}
				continue;
			}
		}
		struct soft_block *b = next_block(c);

		const struct xl_block *x = translated(c, b);

		if (x) {
			run_translated(c, x);
		} else if (__builtin_expect(c->mode != INSN_MODE_64, 0)) {
			c->xl_site = 0;
			b->heat -= b->heat > 0;
			run_block_legacy(c, b);
		} else {
			c->xl_site = 0;
			b->heat--;
			run_insns(c, b, b->insns, b->n);
		}
	}
}

static void loop_counted(struct soft_cpu *c)
{
	for (;;) {
		const struct engine_pos at = { c->count, c->events };

		if (c->deadline_ns <= c->eng->skipped_ns + c->count) {
			c->slow |= SOFT_SLOW_EVENT;
		}
		if ((atomic_load_explicit(&c->wants, memory_order_relaxed) | c->slow) != 0 ||
		    engine_pos_cmp(&at, &c->eng->next) >= 0 || c->count >= c->eng->turn_end) {
			c->link = NULL;
			c->xl_site = 0;
			c->running = NULL;
			if (!serve(c)) {
				return;
			}
			if (c->slow & SLOW_STEP) {
				if (!step(c)) {
					return;
				}
				continue;
			}
		}
		struct soft_block *b = next_block(c);
		unsigned n = c->mode == INSN_MODE_64 ? b->n : inside(c, b);
		uint64_t room = soft_counted_room(c);

		n = (unsigned)MIN((uint64_t)n, room);
		const struct xl_block *x = n == b->n && !c->apart && !c->slow ?
						   translated(c, b) : NULL;

		if (x && x->n <= room) {
			run_translated(c, x);
			continue;
		}
		c->xl_site = 0;
		b->heat -= b->heat > 0;
		/* Blocks that follow by themselves stay in front of what is to be looked at. */
		c->budget = (int)MIN((room - n) / SOFT_BLOCK_INSNS, (uint64_t)BUDGET);
		run_counted(c, b, n);
	}
}

void soft_run(struct soft_cpu *c)
{
	if (c->eng->counted && !soft_counted_turn(c)) {
		return;
	}
	soft_guest_enter(c);
	xl_begin(c);
	soft_pv_steal(c, true);
	c->slow |= SOFT_SLOW_EVENT;
	c->held = true;
	c->running = NULL;
	soft_mode_update(c);
	if (sigsetjmp(c->fault_jump, 0) != 0 && !faulted(c)) {
		xl_pause(c);
		soft_guest_leave(c);
		return;
	}
	if (c->eng->counted) {
		loop_counted(c);
	} else {
		loop(c);
	}
	c->slow &= ~(unsigned)SOFT_SLOW_STOP;
	xl_pause(c);
	soft_guest_leave(c);
}
