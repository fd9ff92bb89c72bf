/* SPDX-License-Identifier: Apache-2.0 */
/* Entering translated code and leaving it, and what it calls. */
#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/clock.h"
#include "vm/cpu/soft/xl-parts.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl-stats.h"

enum { STEAL_LOOK_NS = 5000000, PAGE_SLOTS = GMEM_PAGE_BYTES / 2 };

#define NO_FAULT UINT64_MAX

/* --- The vCPU's tables --- */

/* What no address that belongs in a slot comes to: that of one which belongs in another. */
static uint64_t never(uint64_t slot)
{
	return -xl_slot_address(slot ^ 1);
}

void xl_forget(struct soft_cpu *c, bool user)
{
	unsigned n = c->xl_n_used[user];

	xl_returns_forget(c, user);
	if (c->eng->xl) {
		xl_across_forget(c, user);
		xl_add(&c->counts->n[user ? XC_FORGET_USER : XC_FORGET_KERNEL], 1);
	}
	for (unsigned i = 0; n <= XL_USED && i < n; i++) {
		c->xl_neg[user][c->xl_used[user][i]] = never(c->xl_used[user][i]);
	}
	for (unsigned slot = 0; n > XL_USED && slot < XL_TABLE; slot++) {
		c->xl_neg[user][slot] = never(slot);
	}
	c->xl_n_used[user] = 0;
}

void xl_forget_block(struct soft_cpu *c, const struct xl_block *b)
{
	const uint8_t *code = xl_code_at(c->eng, b->indirect);
	bool user = b->kind != XK_KERNEL;
	size_t slot = xl_slot(b->gpa % GMEM_PAGE_BYTES);
	uint64_t va = __atomic_load_n(&b->va, __ATOMIC_RELAXED);

	xl_across_forget_block(c, b);
	if (va != XL_VA_MANY) {
		slot = xl_slot(va);
		if (c->xl_to[user][slot] == code) {
			c->xl_neg[user][slot] = never(slot);
		}
		return;
	}
	/* Wherever it is mapped, its offset in the page is the same. */
	for (; slot < XL_TABLE; slot += PAGE_SLOTS) {
		if (c->xl_to[user][slot] == code) {
			c->xl_neg[user][slot] = never(slot);
		}
	}
}

void xl_forget_offsets(struct soft_cpu *c, unsigned first, unsigned last)
{
	for (unsigned user = 0; user < 2; user++) {
		xl_across_forget(c, user);
		for (unsigned off = first; off <= last; off++) {
			for (size_t slot = xl_slot(off); slot < XL_TABLE; slot += PAGE_SLOTS) {
				c->xl_neg[user][slot] = never(slot);
			}
		}
	}
}

/* A table is going to know it by that address. */
static void note_va(const struct xl_block *known, uint64_t rip)
{
	struct xl_block *b = (struct xl_block *)known;   /* it is the cache's */
	uint64_t va = XL_VA_NONE;

	if (__atomic_load_n(&b->va, __ATOMIC_RELAXED) == rip) {
		return;
	}
	if (rip == XL_VA_NONE ||
	    (!__atomic_compare_exchange_n(&b->va, &va, rip, false, __ATOMIC_SEQ_CST,
					  __ATOMIC_SEQ_CST) && va != rip)) {
		__atomic_store_n(&b->va, XL_VA_MANY, __ATOMIC_SEQ_CST);
	}
}

void xl_remember(struct soft_cpu *c, uint64_t rip, const struct xl_block *b)
{
	size_t slot = xl_slot(rip);
	bool user = b->kind != XK_KERNEL;

	note_va(b, rip);
	xl_across_remember(c, rip, b);
	if (slot == 0) {
		return;   /* nothing is found there: xl_mask */
	}
	if (c->xl_neg[user][slot] == never(slot) && c->xl_n_used[user] <= XL_USED) {
		if (c->xl_n_used[user] < XL_USED) {
			c->xl_used[user][c->xl_n_used[user]] = (uint32_t)slot;
		}
		c->xl_n_used[user]++;
	}
	c->xl_to[user][slot] = xl_code_at(c->eng, b->indirect);
	c->xl_neg[user][slot] = -rip;
}

/* --- Signals --- */

static void on_timer(unused_arg int sig, siginfo_t *info, unused_arg void *ucontext)
{
	struct soft_cpu *c = info->si_value.sival_ptr;

	atomic_store(&c->xl_tick, true);
	atomic_fetch_or(&c->wants, SOFT_WANT_EVENT);
	soft_xl_stop(c);
}

static int timer_signal(void)
{
	return SIGRTMIN + 4;
}

/* A direct access found nothing mapped, or not so: on in the way to the interpreter. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct soft_cpu *c = NULL;
	uint64_t way = 0, at = (uint64_t)(uintptr_t)info->si_addr;
	bool high = at >= SHADOW_HIGH_FIRST + SHADOW_DISTANCE - SHADOW_GUARD;

	__asm__ volatile("rdgsbase %0" : "=r"(c));
	if (c && c->xl_inside) {
		way = xl_fault_way(c->eng, (uint64_t)uc->uc_mcontext.gregs[REG_RIP]);
	}
	if (!way) {
		(void)signal(sig, SIG_DFL);   /* it comes again, and ends the process */
		return;
	}
	/* An address that is not canonical comes as 0, and is nowhere. */
	c->xl_fault_va = high ? at - SHADOW_DISTANCE : at;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)way;
}

int xl_catch_faults(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	/* SIGBUS: an address from RBP that is not canonical is the stack's fault. */
	return sigaction(SIGSEGV, &sa, NULL) < 0 || sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}

/* One that is blocked would end the process. */
static bool faults_come(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	sigaddset(&set, SIGBUS);
	return pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0;
}

/* A timer whose signal comes to this thread. */
static bool timer_make(struct soft_cpu *c)
{
	struct sigaction sa = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = timer_signal() };
	sigset_t set;

	ev.sigev_value.sival_ptr = c;
	ev._sigev_un._tid = c->xl_thread;
	sigemptyset(&set);
	sigaddset(&set, timer_signal());
	return sigaction(timer_signal(), &sa, NULL) == 0 &&
	       timer_create(CLOCK_MONOTONIC, &ev, &c->xl_timer) == 0 &&
	       pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0;
}

/* --- Begin and end --- */

void xl_end(struct soft_cpu *c)
{
	if (c->xl_on && !c->eng->counted) {
		timer_delete(c->xl_timer);
	}
	c->xl_on = false;
}

/* Nobody is to guess it, though all that is there to be seen is an empty page. */
static void no_stack(struct soft_cpu *c)
{
	uint64_t v = 0;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v)) {
		v = clock_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
	}
	c->xl_no_stack.tag = (UINT64_C(1) << 62) |
			     (v >> 16 << GMEM_PAGE_SHIFT & ~(UINT64_C(3) << 62));
	c->xl_no_stack.host = (uint64_t)(uintptr_t)c->xl_nobody;
	soft_stack_forget(c);
}

void xl_begin(struct soft_cpu *c)
{
	pid_t self = gettid();

	if (!c->eng->xl) {
		return;
	}
	if (c->xl_thread != self) {
		xl_end(c);
		c->xl_thread = self;
		c->xl_self = c;
		memset(c->xl_vec_off, 1, sizeof(c->xl_vec_off));
		c->xl_x87_off = 1;
		c->xl_deadline_ns = UINT64_MAX;
		c->xl_sign = BIT(63);
		c->xl_x87_masks = XL_X87_MASKS;
		c->xl_mxcsr_fixed = (uint32_t)XL_MXCSR_FIXED;
		c->xl_host_mxcsr = __builtin_ia32_stmxcsr();
		c->xl_high_bit = SHADOW_HIGH_FIRST;
		c->xl_not_low = ~(SHADOW_LOW_END - 1);
		c->xl_distance = SHADOW_DISTANCE;
		c->xl_fault_va = NO_FAULT;
		c->xl_mode[false] = c->xl_mode[true] = INSN_MODE_64;
		no_stack(c);
		xl_returns_begin(c);
		c->xl_to[false][0] = xl_code_at(c->eng, xl_routines(c->eng->xl)->leave_slot_0);
		c->xl_to[true][0] = c->xl_to[false][0];
		/* Counted time needs no clock. */
		c->xl_on = faults_come() && (c->eng->counted || timer_make(c));
		c->xl_n_used[false] = c->xl_n_used[true] = XL_USED + 1;
		c->xl_n_across_used[false] = c->xl_n_across_used[true] = XL_USED + 1;
		xl_forget(c, true);
		xl_forget(c, false);
	}
	atomic_store(&c->xl_tick, true);
	__asm__ volatile("rdgsbase %0\n\twrgsbase %1" : "=&r"(c->xl_host_gs) : "r"(c));
}

void xl_pause(struct soft_cpu *c)
{
	if (c->eng->xl) {
		__asm__ volatile("wrgsbase %0" : : "r"(c->xl_host_gs));
	}
}

/* Nobody looks at the clock while translated code runs: a signal ends it. */
static void timer_arm(struct soft_cpu *c)
{
	uint64_t at = c->deadline_ns == UINT64_MAX ? 0 :
		      MAX(soft_host_ns(c->eng, c->deadline_ns), UINT64_C(1));

	atomic_store(&c->xl_tick, false);
	if (c->s.msr.pv_steal_time & 1) {
		uint64_t look = clock_now_ns() + STEAL_LOOK_NS;

		soft_pv_steal_more(c);
		at = at == 0 ? look : MIN(at, look);
	}

	struct itimerspec t = {
		.it_value = { (time_t)(at / NS_PER_SEC), (long)(at % NS_PER_SEC) },
	};

	c->xl_deadline_ns = c->deadline_ns;
	(void)timer_settime(c->xl_timer, TIMER_ABSTIME, &t, NULL);
}

/* --- Entering --- */

const struct xl_block *xl_of(struct soft_cpu *c, struct soft_block *b)
{
	uint32_t epoch = 0;
	bool later = false;

	if (!c->xl_on) {
		b->heat = INT32_MAX;
		return NULL;
	}
	epoch = xl_epoch(c->eng);
	if (__builtin_expect(c->xl_epoch != epoch, 0)) {
		c->xl_epoch = epoch;
		c->xl_site = 0;
		xl_forget(c, true);
		xl_forget(c, false);
	}
	xl_stack_look(c);
	if (b->xl && b->xl_epoch == epoch && xl_fits(c, b->xl, c->s.rip)) {
		return b->xl;
	}
	bool lost = b->xl && b->xl_epoch != epoch;   /* perhaps: it went for room */

	b->xl_others = b->xl_epoch == epoch && (b->xl_others || b->xl);
	b->xl = b->cross && !soft_cross_guard(c, b) ? NULL : xl_get(c, b, lost, &later);
	b->xl_epoch = epoch;
	if (!b->xl) {
		/* What is not hot any more is not to take the room of what is. */
		b->heat = lost ? soft_heat(c) : later ? 1 : INT32_MAX;
	}
	return b->xl;
}

static void count_left(struct soft_cpu *c)
{
	unsigned why = c->xl_exit != XC_LEFT_FAULT ? c->xl_exit :
		       c->xl_site ? XC_LEFT_LINK :
		       atomic_load_explicit(&c->wants, memory_order_relaxed) ? XC_LEFT_WANTED :
		       c->eng->counted && c->xl_left < SOFT_BLOCK_INSNS ? XC_LEFT_COUNTED :
		       XC_LEFT_MISS;

	xl_add(&c->counts->n[why], 1);
}

/* Nothing of this may change what the guest sees. */
static void shake(struct soft_cpu *c, unsigned one_in)
{
	switch (xl_random(c) % (4 * one_in)) {
	case 0: {
		soft_tlb_flush_all(c);
		break;
	}
	case 1: {
		c->xl_loose = false;
		xl_forget(c, true);
		xl_forget(c, false);
		break;
	}
	case 2: {
		soft_want(c, SOFT_WANT_LOOK);   /* left at the next poll */
		break;
	}
	case 3: {
		shadow_drop_all_writes(c->eng);
		break;
	}
	}
}

void xl_run(struct soft_cpu *c, const struct xl_block *b)
{
	if (__builtin_expect(c->eng->eng.conf.xl.shaken, 0)) {
		shake(c, 16);
	}
	const void *enter = xl_entry(c->eng);
	void (*run)(const uint8_t *code) = NULL;

	memcpy(&run, &enter, sizeof(run));
	if (c->eng->counted) {
		c->xl_left = (int64_t)MIN(soft_counted_room(c), (uint64_t)INT64_MAX);
		c->xl_count_end = c->count + (uint64_t)c->xl_left;
	} else if (c->xl_deadline_ns != c->deadline_ns ||
		   atomic_load_explicit(&c->xl_tick, memory_order_relaxed)) {
		timer_arm(c);
	}
	/* An address may hold code of both modes. */
	if (c->xl_mode[c->cpl == 3] != c->mode) {
		c->xl_mode[c->cpl == 3] = c->mode;
		xl_forget(c, c->cpl == 3);
	}
	xl_remember(c, c->s.rip, b);
	xl_returns_ready(c, b->kind != XK_KERNEL);
	c->running = NULL;
	c->link = NULL;
	c->at = NULL;
	c->xl_site = 0;
	c->xl_page = c->s.rip & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	xl_add(&c->counts->n[XC_ENTERED], 1);
	c->xl_exit = XC_LEFT_FAULT;   /* it does not come back here */
	c->xl_inside = true;
	run(xl_code_at(c->eng, b->code));
	c->xl_inside = false;
	if (c->eng->counted) {
		c->count = c->xl_count_end - (uint64_t)c->xl_left;
	}
	count_left(c);
}

/* --- Calls of it --- */

/* In counted mode an instruction of the interpreter finds its own count; where it faults it is
 * not done (run.c). */
static void run_out(struct soft_cpu *c, const struct xl_out *o)
{
	if (!c->eng->counted) {
		o->insn.fn(c, &o->insn);
		return;
	}
	c->count = c->xl_count_end - (uint64_t)c->xl_left - o->rest;
	c->xl_out = true;
	o->insn.fn(c, &o->insn);
	c->xl_out = false;
	c->xl_left = (int64_t)(c->xl_count_end - c->count);
}

/* Behind the last instruction of a block: where the code goes on, if that is known and nobody
 * wants something else. */
static unsigned elsewhere(struct soft_cpu *c)
{
	uint64_t rip = c->next_rip;
	size_t slot = xl_slot(rip);
	bool user = c->cpl == 3;
	const struct soft_block *b = NULL;

	if ((c->slow | atomic_load_explicit(&c->wants, memory_order_relaxed)) != 0 ||
	    c->mode != INSN_MODE_64 || c->xl_mode[user] != INSN_MODE_64 || c->eng->counted ||
	    !xl_stack_fits(c) || c->xl_deadline_ns != c->deadline_ns) {
		return XL_LEAVE;
	}
	c->xl_next = c->xl_to[user][slot];
	if (c->xl_neg[user][slot] != -rip) {
		b = soft_block_known(c, rip);
		if (!b || !b->xl || b->xl_epoch != c->xl_epoch || !xl_fits(c, b->xl, rip)) {
			return XL_LEAVE;
		}
		xl_remember(c, rip, b->xl);
		c->xl_next = xl_code_at(c->eng, b->xl->indirect);
	}
	xl_returns_ready(c, user);
	return XL_ELSEWHERE;
}

/* Behind an instruction that the interpreter has run. */
static unsigned goes_on(struct soft_cpu *c, const struct xl_out *o, uint64_t rsp)
{
	if (c->xl_epoch != xl_epoch(c->eng) || (c->s.gpr[CPU_RSP] != rsp && !xl_stack_fits(c))) {
		return XL_LEAVE;
	}
	if (__builtin_expect(o->block->dead, 0)) {
		/* The table would lead there again and again, past the one that takes its place. */
		xl_forget_block(c, o->block);
	}
	if (o->last) {
		return elsewhere(c);
	}
	if (c->next_rip == c->running_rip &&
	    atomic_load_explicit(&c->wants, memory_order_relaxed) != 0) {
		return XL_LEAVE;   /* it is not done, and does not look */
	}
	return c->slow || o->block->dead || o->block->kind != xl_kind(c) ? XL_LEAVE : XL_BACK;
}

static void count_call(struct soft_cpu *c, const struct xl_out *o, unsigned why)
{
	static const uint8_t calls[] = {
		[XL_WHY_INSN] = XC_CALL_INSN, [XL_WHY_MEMORY] = XC_CALL_MEMORY,
		[XL_WHY_TARGET] = XC_CALL_TARGET, [XL_WHY_JOINED] = XC_CALL_JOINED,
	};

	xl_add(&c->counts->n[calls[why]], 1);
	if (why == XL_WHY_INSN) {
		xl_add(&c->counts->by_row[o->insn.row], 1);
	}
}

/* A direct access did not find memory there: what it wanted is mapped, or it has to look
 * elsewhere the next time. */
static void direct_missed(struct soft_cpu *c, const struct xl_out *o, uint64_t fault_va)
{
	bool faulted = fault_va != NO_FAULT;

	if (!faulted || !shadow_fill(c, fault_va)) {
		xl_misplaced(c, o, !faulted);
	}
}

static unsigned fault_goes_on(struct soft_cpu *c)
{
	if (c->xl_epoch == xl_epoch(c->eng) && elsewhere(c) == XL_ELSEWHERE) {
		return XL_ELSEWHERE;
	}
	c->xl_exit = c->slow ? XC_LEFT_LOOK : XC_LEFT_TARGET;
	return XL_LEAVE;
}

static unsigned why_of(uint32_t out)
{
	return out >> XL_WHY_SHIFT;
}

unsigned xl_call_out(struct soft_cpu *c, uint32_t out)
{
	static const uint8_t lasts[] = {
		[XL_WHY_INSN] = XC_LEFT_INSN, [XL_WHY_MEMORY] = XC_LEFT_MEMORY,
		[XL_WHY_TARGET] = XC_LEFT_TARGET, [XL_WHY_JOINED] = XC_LEFT_MEMORY,
	};
	const struct xl_out *o = xl_out_at(c, out & XL_WHY_INDEX);
	unsigned how = XL_BACK;
	int budget = c->budget;
	bool missed = why_of(out) == XL_WHY_MEMORY && xl_is_direct(o->block->kind) &&
		      o->place != XP_UNKNOWN && o->place != XP_TLB;
	uint64_t fault_va = c->xl_fault_va, rsp = c->s.gpr[CPU_RSP];

	c->xl_fault_va = NO_FAULT;
	c->xl_part = missed && fault_va != NO_FAULT && !c->eng->counted;
	c->xl_pin = out & XL_WHY_INDEX;   /* the instruction may let go of the guest */
	c->running_rip = (o->block->page != XL_ANYWHERE ? o->block->page : c->xl_page) + o->off;
	c->budget = 0;           /* no block of the interpreter behind it */
	count_call(c, o, why_of(out));
	if (c->xl_pf && !missed && why_of(out) == XL_WHY_MEMORY && xl_fault(c, o)) {
		c->xl_pin = 0;
		c->budget = budget;
		return fault_goes_on(c);
	}
	c->xl_pf = 0;
	run_out(c, o);
	c->xl_part = false;
	c->at = NULL;
	if (missed) {
		direct_missed(c, o, fault_va);
	} else if (why_of(out) == XL_WHY_JOINED) {
		xl_unjoined(c, o);
	}
	c->xl_pin = 0;
	c->budget = budget;
	if (__builtin_expect(c->eng->eng.conf.xl.shaken, 0)) {
		shake(c, 256);
	}
	how = goes_on(c, o, rsp);
	if (how == XL_BACK && missed && fault_va != NO_FAULT && !shadow_in_range(fault_va)) {
		how = XL_LEAVE;    /* what is behind may rely on the address */
	}
	if (how == XL_LEAVE) {
		c->xl_exit = c->slow ? XC_LEFT_LOOK : o->last ? lasts[why_of(out)] : XC_LEFT_STALE;
	}
	if (how != XL_BACK) {
		return how;
	}
	c->xl_left -= o->rest;
	return XL_BACK;
}
