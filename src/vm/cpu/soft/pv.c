/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time, and the paravirtual interface of KVM: the clock page, steal time, hypercalls.
 *
 * The guest's boot clock is the host's monotonic one with an offset; the TSC is that clock at
 * the TSC's rate, so the two never drift. In deterministic mode both count instructions.
 *
 * Spec: Linux, Documentation/virt/kvm/x86/msr.rst and hypercalls.rst.
 */
#include <errno.h>
#include <sched.h>

#include "base/clock.h"
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

uint64_t soft_now_ns(struct soft_engine *eng)
{
	if (eng->counted) {
		const struct soft_cpu *c = atomic_load_explicit(&eng->turn, memory_order_relaxed);

		return eng->skipped_ns + (c ? c->count : 0);
	}
	return clock_now_ns() + (uint64_t)eng->clock_offset_ns;
}

uint64_t soft_host_ns(struct soft_engine *eng, uint64_t guest_ns)
{
	return guest_ns - (uint64_t)eng->clock_offset_ns;
}

static uint64_t tsc_at(const struct soft_cpu *c, uint64_t ns)
{
	uint64_t hz = c->eng->tsc_hz, whole = c->eng->tsc_per_ns;

	/* Programs ask for nothing as often as for this. */
	return (whole ? ns * whole : ns / NS_PER_SEC * hz + ns % NS_PER_SEC * hz / NS_PER_SEC) +
	       (uint64_t)c->tsc_offset;
}

uint64_t soft_tsc(struct soft_cpu *c)
{
	return tsc_at(c, soft_now_ns(c->eng));
}

struct irq_now soft_irq_now(struct soft_cpu *c)
{
	uint64_t ns = soft_now_ns(c->eng);

	return (struct irq_now){ .ns = ns, .tsc = tsc_at(c, ns) };
}

void soft_timer_update(struct soft_cpu *c)
{
	c->deadline_ns = lapic_deadline_ns(c->apic, soft_irq_now(c));
}

/* --- The clock page --- */

struct pv_time {
	uint32_t version, pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t   shift;
	uint8_t  flags, pad2[2];
};

struct pv_wall {
	uint32_t version, sec, nsec;
};

/* ns = (tsc << shift) * mul >> 32, with mul as large as it can be. */
static void rate(uint64_t hz, uint32_t *ret_mul, int8_t *ret_shift)
{
	int8_t shift = 0;
	uint64_t scaled = hz;

	while (scaled > 2 * NS_PER_SEC) {
		scaled >>= 1;
		shift--;
	}
	while (scaled <= NS_PER_SEC) {
		scaled <<= 1;
		shift++;
	}
	*ret_mul = (uint32_t)(((unsigned __int128)NS_PER_SEC << 32) / scaled);
	*ret_shift = shift;
}

static int write_guest(struct soft_cpu *c, uint64_t gpa, const void *data, size_t n)
{
	return gmem_write(c->eng->eng.conf.mem, GPA(gpa), data, n);
}

void soft_pv_system_time(struct soft_cpu *c)
{
	uint64_t gpa = c->s.msr.pv_system_time & ~UINT64_C(1);
	struct pv_time t = { .flags = 1 };
	uint32_t version = 0;

	if (!(c->s.msr.pv_system_time & 1) ||
	    gmem_read(c->eng->eng.conf.mem, GPA(gpa), &version, sizeof(version)) < 0) {
		return;
	}
	t.ns = soft_now_ns(c->eng);
	t.tsc = tsc_at(c, t.ns);
	rate(c->eng->tsc_hz, &t.mul, &t.shift);
	/* Odd while it is written. */
	t.version = (version | 1) + 2;
	if (write_guest(c, gpa, &t.version, sizeof(t.version)) < 0) {
		return;
	}
	atomic_thread_fence(memory_order_seq_cst);
	ignore_result(write_guest(c, gpa + 4, (char *)&t + 4, sizeof(t) - 4)); /* as before */
	atomic_thread_fence(memory_order_seq_cst);
	t.version++;
	ignore_result(write_guest(c, gpa, &t.version, sizeof(t.version)));     /* as before */
}

void soft_pv_wall_clock(struct soft_cpu *c, uint64_t gpa)
{
	uint64_t boot = c->eng->counted ? soft_counted_wall_ns(c->eng) :
					  clock_wall_ns() - soft_now_ns(c->eng);
	struct pv_wall w = { .version = 2 };

	w.sec = (uint32_t)(boot / NS_PER_SEC);
	w.nsec = (uint32_t)(boot % NS_PER_SEC);
	/* An address that is no RAM gets nothing. */
	ignore_result(write_guest(c, gpa, &w, sizeof(w)));
}

/* --- Steal time --- */

enum { STEAL_NS = 0, STEAL_VERSION = 8, STEAL_PREEMPTED = 16, PREEMPTED = 1, FLUSH_TLB = 2 };

/* The guest's record; NULL: none. */
static uint8_t *steal_record(struct soft_cpu *c)
{
	uint64_t gpa = c->s.msr.pv_steal_time & ~UINT64_C(63);
	struct soft_page *page = NULL;
	uint8_t *host = c->s.msr.pv_steal_time & 1 ? soft_ram(c->eng, gpa, &page) : NULL;

	if (host) {
		gmem_mark_dirty(c->eng->eng.conf.mem, GPA(gpa), 64);
	}
	return host;
}

/* Grows while the thread would run and does not. */
static uint64_t away_ns(void)
{
	return clock_now_ns() - clock_thread_ns();
}

/* Add what was stolen since the last time; the version is odd meanwhile. */
static void steal_add(struct soft_cpu *c, uint8_t *host)
{
	uint32_t *version = (void *)(host + STEAL_VERSION);
	uint64_t *total = (void *)(host + STEAL_NS);
	uint64_t now = c->eng->counted ? 0 : away_ns();

	c->steal_looks = 0;
	if ((int64_t)(now - c->steal_ns) <= 0) {
		return;
	}
	__atomic_store_n(version, *version | 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(total, *total + (now - c->steal_ns), __ATOMIC_SEQ_CST);
	__atomic_store_n(version, *version + 1, __ATOMIC_SEQ_CST);
	c->steal_ns = now;
}

void soft_pv_steal_more(struct soft_cpu *c)
{
	uint8_t *host = steal_record(c);

	if (host) {
		steal_add(c, host);
	}
}

void soft_pv_steal(struct soft_cpu *c, bool running)
{
	uint8_t *host = steal_record(c);

	if (!host) {
		return;
	}
	if (!running) {
		steal_add(c, host);
		__atomic_store_n(host + STEAL_PREEMPTED, PREEMPTED, __ATOMIC_SEQ_CST);
		return;
	}
	/* It waited by its own will. */
	c->steal_ns = c->eng->counted ? 0 : away_ns();
	/* Others may have left a flush for us instead of an interrupt. */
	if (__atomic_exchange_n(host + STEAL_PREEMPTED, 0, __ATOMIC_SEQ_CST) & FLUSH_TLB) {
		soft_tlb_flush_all(c);
	}
}

/* --- Hypercalls --- */

enum {
	HC_VAPIC_POLL = 1, HC_KICK_CPU = 5, HC_CLOCK_PAIRING = 9, HC_SEND_IPI = 10, HC_YIELD = 11,
	HC_ENOSYS = 1000,
};

static void kick(struct soft_cpu *c, uint64_t id)
{
	if (id < c->eng->n_cpus && c->eng->cpus[id]) {
		atomic_store(&c->eng->cpus[id]->unhalt, true);
		soft_want(c->eng->cpus[id], SOFT_WANT_EVENT);
	}
}

void op_vmcall(struct soft_cpu *c, const struct insn *i)
{
	bool wide = c->mode == INSN_MODE_64;
	uint64_t a[5] = { c->s.gpr[CPU_RAX], c->s.gpr[CPU_RBX], c->s.gpr[CPU_RCX],
			  c->s.gpr[CPU_RDX], c->s.gpr[CPU_RSI] };
	int64_t r = -HC_ENOSYS;

	(void)i;
	for (unsigned k = 0; !wide && k < ARRAY_LEN(a); k++) {
		a[k] = (uint32_t)a[k];
	}
	if (c->cpl != 0) {
		r = -EPERM;
	} else if (a[0] == HC_KICK_CPU) {
		kick(c, a[2]);
		r = 0;
	} else if (a[0] == HC_SEND_IPI) {
		r = irq_pv_send_ipi(c->eng->chip, a[1], a[2], (uint32_t)a[3], a[4]);
		c->slow |= SOFT_SLOW_EVENT;
	} else if (a[0] == HC_YIELD) {
		if (c->eng->counted && c->eng->n_cpus > 1) {
			c->eng->turn_end = c->count;
		} else {
			(void)sched_yield();
		}
		r = 0;
	} else if (a[0] == HC_VAPIC_POLL) {
		r = 0;
	}
	soft_reg_set(c, CPU_RAX, wide ? 8 : 4, (uint64_t)r);
}
