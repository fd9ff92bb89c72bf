/* SPDX-License-Identifier: Apache-2.0 */
/* The engine interface over the vCPU loop. */
#include <errno.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vm/cpu/model.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/xl-shadow.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

/* Without a rate to keep to: any will do, as the TSC is made from the monotonic clock. */
#define TSC_HZ_DEFAULT UINT64_C(2000000000)

enum { XL_BYTES = 64 << 20 };

static struct soft_cpu *cpu_of(struct vcpu *v)
{
	return container_of(v, struct soft_cpu, vcpu);
}

static int soft_probe(struct err *e)
{
	(void)e;
	return 0;
}

static void wake_cpu(void *ctx, unsigned id)
{
	struct soft_engine *eng = ctx;

	if (id >= eng->n_cpus || !eng->cpus[id]) {
		return;
	}
	soft_want(eng->cpus[id], SOFT_WANT_EVENT);
	struct soft_cpu *turn = eng->counted ? atomic_load(&eng->turn) : NULL;

	if (turn && turn != eng->cpus[id]) {
		soft_want(turn, SOFT_WANT_LOOK);   /* it may sleep for all */
	}
}

/* A write that no vCPU made. */
static void memory_written(void *ctx, gpa_t first, uint64_t bytes)
{
	struct soft_engine *eng = ctx;
	uint64_t end = first.raw + bytes;

	/* The bytes are visible before it is looked who has code made of them. */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t at = first.raw; at < end; at = (at | (GMEM_PAGE_BYTES - 1)) + 1) {
		struct soft_page *page = NULL;
		uint64_t mask = 0;

		if (!soft_ram(eng, at, &page)) {
			continue;
		}
		if (eng->xl) {
			xl_written(eng, at,
				   (size_t)MIN(end - at, GMEM_PAGE_BYTES - at % GMEM_PAGE_BYTES));
		}
		/* Only now: who comes later finds no old translation any more. */
		mask = atomic_load(&page->code);
		for (; mask; mask &= mask - 1) {
			soft_post_page(eng->cpus[__builtin_ctzll(mask)], at, SOFT_REQ_CODE);
		}
	}
}

static int pages_new(struct soft_engine *eng)
{
	const struct gmem *g = eng->eng.conf.mem;

	for (unsigned i = 0; i < g->n_slots; i++) {
		size_t n = g->slots[i].bytes >> GMEM_PAGE_SHIFT;
		void *p = mmap(NULL, n * sizeof(struct soft_page), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED) {
			return -ENOMEM;
		}
		eng->pages[i] = p;
	}
	return 0;
}

static void cpu_free(struct soft_cpu *c)
{
	if (!c) {
		return;
	}
	xl_end(c);
	soft_blocks_fini(c);
	free(c->counts);
	free(c->xl_outs);
	free(c->cpuid);
	pthread_mutex_destroy(&c->inbox.lock);
	munmap(c, sizeof(*c));
}

static void soft_free(struct engine *e)
{
	struct soft_engine *eng = e ? soft_engine(e) : NULL;

	if (!eng) {
		return;
	}
	if (eng->eng.conf.mem) {
		gmem_watch(eng->eng.conf.mem, NULL, NULL);
	}
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		cpu_free(eng->cpus[i]);
	}
	for (unsigned i = 0; eng->eng.conf.mem && i < eng->eng.conf.mem->n_slots; i++) {
		if (eng->pages[i]) {
			uint64_t n = eng->eng.conf.mem->slots[i].bytes >> GMEM_PAGE_SHIFT;

			munmap(eng->pages[i], n * sizeof(struct soft_page));
		}
	}
	shadow_free(eng);
	xl_free(eng);
	(void)irq_free(eng->chip);
	pthread_mutex_destroy(&eng->alone_lock);
	pthread_mutex_destroy(&eng->code_lock);
	pthread_mutex_destroy(&eng->turn_lock);
	pthread_cond_destroy(&eng->turn_changed);
	free(eng);
}

static int new_engine(const struct engine_conf *conf, const struct engine_ops *ops, bool translates,
		      struct engine **ret, struct err *e)
{
	struct soft_engine *eng = NULL;
	struct irq_conf irq = { .n_cpus = conf->n_vcpus, .phys_bits = CPU_MODEL_PHYS_BITS,
				.kick = wake_cpu };

	if (conf->n_vcpus == 0 || conf->n_vcpus > ENGINE_VCPUS_MAX) {
		return err_set(e, EINVAL, ERR_INVALID, "%u vCPUs: 1 to %d", conf->n_vcpus,
			       ENGINE_VCPUS_MAX);
	}
	eng = mem_new(struct soft_engine);
	if (!eng) {
		return err_set(e, ENOMEM, ERR_HOST, "the software engine");
	}
	eng->eng.ops = ops;
	eng->eng.conf = *conf;
	eng->eng.bus = *conf->bus;
	eng->n_cpus = conf->n_vcpus;
	eng->tsc_hz = conf->tsc_hz ? conf->tsc_hz : TSC_HZ_DEFAULT;
	eng->tsc_per_ns = eng->tsc_hz % NS_PER_SEC == 0 ? eng->tsc_hz / NS_PER_SEC : 0;
	eng->counted = conf->deterministic;
	eng->next = (struct engine_pos){ UINT64_MAX, UINT64_MAX };
	eng->clock_offset_ns = -(int64_t)clock_now_ns();
	pthread_mutex_init(&eng->alone_lock, NULL);
	pthread_mutex_init(&eng->code_lock, NULL);
	pthread_mutex_init(&eng->turn_lock, NULL);
	pthread_cond_init(&eng->turn_changed, NULL);
	eng->turn_end = conf->n_vcpus > 1 ? 0 : UINT64_MAX;
	irq.tsc_hz = eng->tsc_hz;
	/* An offer in memory is taken back by whoever saves the machine, of which no log knows. */
	irq.mem = eng->counted ? NULL : conf->mem;
	irq.ctx = eng;
	int r = native_init();

	if (r == 0) {
		r = irq_new(&irq, &eng->chip);
	}
	if (r == 0) {
		r = pages_new(eng);
	}
	if (r == 0 && translates) {
		r = xl_new(eng, conf->xl.bytes ? conf->xl.bytes : XL_BYTES);
		r = r == -ENOTSUP ? 0 : r;
	}
	if (r == 0 && eng->xl) {
		r = shadow_new(eng);
		r = r == -ENOTSUP ? 0 : r;
	}
	if (r < 0) {
		soft_free(&eng->eng);
		return err_set(e, -r, ERR_HOST, "the software engine");
	}
	gmem_watch(conf->mem, memory_written, eng);
	*ret = &eng->eng;
	return 0;
}

static int soft_new(const struct engine_conf *conf, struct engine **ret, struct err *e)
{
	return new_engine(conf, &engine_soft, true, ret, e);
}

static int interp_new(const struct engine_conf *conf, struct engine **ret, struct err *e)
{
	return new_engine(conf, &engine_interp, false, ret, e);
}

static int set_cpuid(struct soft_cpu *c, const struct cpu_cpuid *entries, size_t n)
{
	struct cpu_cpuid *copy = mem_dup(entries, n * sizeof(*entries));
	const struct cpu_cpuid *leaf = NULL;

	if (!copy) {
		return -ENOMEM;
	}
	free(c->cpuid);
	c->cpuid = copy;
	c->n_cpuid = n;
	c->features = insn_features(copy, n);
	leaf = cpu_model_find(copy, n, 0x80000008, 0);
	unsigned bits = leaf ? leaf->eax & 0xff : 0;

	bits = bits >= 32 && bits <= 52 ? bits : 36;
	c->phys_reserved = (BIT(52) - 1) & ~(BIT(bits) - 1);
	leaf = cpu_model_find(copy, n, 0xd, 0);
	c->xcr0_supported = leaf ? leaf->eax & 7 : CPU_XCR0_X87;
	leaf = cpu_model_find(copy, n, 1, 0);
	c->reset_signature = leaf ? leaf->eax : 0;
	return 0;
}

static int vcpu_new(struct engine *e, unsigned id, struct vcpu **ret, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);
	struct cpu_cpuid model[CPU_MODEL_ENTRIES_MAX];
	struct cpu_model_conf conf = { .id = id, .n_vcpus = eng->n_cpus, .tsc_hz = eng->tsc_hz };

	if (id >= eng->n_cpus || eng->cpus[id]) {
		return err_set(err, EINVAL, ERR_INVALID, "no vCPU %u to make", id);
	}
	struct soft_cpu *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (c == MAP_FAILED) {
		return err_set(err, errno, ERR_HOST, "memory of vCPU %u", id);
	}
	c->vcpu = (struct vcpu){ .ops = e->ops, .eng = e, .id = id };
	c->eng = eng;
	c->apic = irq_lapic(eng->chip, id);
	c->deadline_ns = UINT64_MAX;
	pthread_mutex_init(&c->inbox.lock, NULL);
	cpu_state_reset(&c->s, id == 0);
	int r = set_cpuid(c, model, cpu_model(&conf, model));

	if (r == 0) {
		c->counts = xl_counts_new();
		c->xl_outs = mem_new(struct xl_outs);
		r = c->counts && c->xl_outs ? soft_blocks_init(c) : -ENOMEM;
	}
	if (r < 0) {
		cpu_free(c);
		return err_set(err, -r, ERR_HOST, "vCPU %u", id);
	}
	c->s.gpr[CPU_RDX] = c->reset_signature;
	soft_flags_set(c, c->s.rflags);
	soft_tlb_init(c);
	eng->cpus[id] = c;
	if (id == 0) {
		atomic_store(&eng->turn, c);
	}
	*ret = &c->vcpu;
	return 0;
}

static int vcpu_cpuid(struct vcpu *v, const struct cpu_cpuid *entries, size_t n, struct err *e)
{
	if (set_cpuid(cpu_of(v), entries, n) < 0) {
		return err_set(e, ENOMEM, ERR_HOST, "CPUID of vCPU %u", v->id);
	}
	return 0;
}

static int vcpu_run(struct vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	struct soft_cpu *c = cpu_of(v);

	c->err = e;
	soft_run(c);
	native_fpu_save(c);
	*ret = c->stop;
	return 0;
}

static void vcpu_kick(struct vcpu *v)
{
	struct soft_cpu *c = cpu_of(v);

	soft_want(c, SOFT_WANT_KICK);
	if (c->eng->counted) {
		soft_counted_wake(c->eng);
	}
}

static int vcpu_get(struct vcpu *v, struct cpu_state *ret, struct err *e)
{
	struct soft_cpu *c = cpu_of(v);

	uint8_t page = 0;

	(void)e;
	if (lapic_events(c->apic, LAPIC_NMI, &page) & LAPIC_NMI) {
		c->s.events.nmi_pending = true;
	}
	soft_rip_sync(c);
	*ret = c->s;
	ret->rflags = soft_flags_get(c);
	ret->events.debug_held = (uint8_t)(c->dr6_pending & 15);
	ret->cr8 = lapic_cr8(c->apic);
	ret->tsc = soft_tsc(c);
	/* Another vCPU has woken it already. */
	if (ret->mp_state == CPU_MP_HALTED && atomic_load(&c->unhalt)) {
		ret->mp_state = CPU_MP_RUNNABLE;
	}
	return 0;
}

/* All components that there are, are in use here, always. */
static uint64_t components(const struct soft_cpu *c)
{
	return CPU_XCR0_X87 | CPU_XCR0_SSE | (c->xcr0_supported & CPU_XCR0_AVX);
}

static int vcpu_set(struct vcpu *v, const struct cpu_state *s, struct err *e)
{
	struct soft_cpu *c = cpu_of(v);

	c->s = *s;
	/* It may have been woken before it halted, which no state says: one that waits for a lock
	 * so looks again when it is woken for nothing, and would sleep for ever if it were not. */
	atomic_store(&c->unhalt, s->msr.pv_system_time != 0 && s->mp_state == CPU_MP_RUNNABLE);
	cpu_xsave_fill(c->s.xsave, components(c));
	soft_flags_set(c, s->rflags);
	lapic_set_cr8(c->apic, s->cr8 & 15);
	if (lapic_set_pv_eoi(c->apic, s->msr.pv_eoi) < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "the address of vCPU %u's EOI word", v->id);
	}
	c->tsc_offset = 0;
	c->tsc_offset = (int64_t)(s->tsc - soft_tsc(c));
	c->dr6_pending = s->events.shadow_mov_ss ? s->events.debug_held & 15 : 0;
	soft_tlb_flush_all(c);
	c->xl_loose = false;
	soft_timer_update(c);
	c->slow |= SOFT_SLOW_EVENT;
	return 0;
}

static int vcpu_debug(struct vcpu *v, const struct vcpu_debug *d, struct err *e)
{
	struct soft_cpu *c = cpu_of(v);

	if (d->n_breakpoints > VCPU_BREAKPOINTS_MAX) {
		return err_set(e, EINVAL, ERR_LIMIT, "more than %d breakpoints",
			       VCPU_BREAKPOINTS_MAX);
	}
	c->debug = *d;
	c->debug_hit = false;
	soft_mode_update(c);
	return 0;
}

static int vcpu_translate(struct vcpu *v, uint64_t va, gpa_t *ret)
{
	struct soft_cpu *c = cpu_of(v);
	struct soft_walk w = { 0 };

	if ((soft_long(c) && !soft_canonical(va)) || soft_walk(c, va, SOFT_WALK_PEEK, &w) < 0) {
		return -EFAULT;
	}
	*ret = GPA(w.gpa);
	return 0;
}

static int soft_msi(struct engine *e, uint64_t addr, uint32_t data)
{
	irq_msi(soft_engine(e)->chip, addr, data);
	return 0;
}

static int soft_line(struct engine *e, unsigned gsi, bool level)
{
	if (gsi >= IRQ_PINS) {
		return -EINVAL;
	}
	irq_line(soft_engine(e)->chip, gsi, level);
	return 0;
}

static int soft_irq_get(struct engine *e, struct irq_state *ret, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);

	(void)err;
	memset(ret, 0, sizeof(*ret));
	ret->n_lapics = eng->n_cpus;
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		struct soft_cpu *c = eng->cpus[i];

		if (c) {
			lapic_get(c->apic, soft_now(c), &ret->lapic[i]);
		}
	}
	ioapic_get(irq_ioapic(eng->chip), &ret->ioapic);
	return 0;
}

static int soft_irq_set(struct engine *e, const struct irq_state *s, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);

	if (s->n_lapics != eng->n_cpus) {
		return err_set(err, EINVAL, ERR_INVALID, "state of %u local APICs for %u vCPUs",
			       s->n_lapics, eng->n_cpus);
	}
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		if (!lapic_state_ok(&s->lapic[i], i)) {
			return err_set(err, EINVAL, ERR_INVALID, "state of local APIC %u", i);
		}
	}
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		struct soft_cpu *c = eng->cpus[i];

		if (!c) {
			continue;
		}
		lapic_put(c->apic, soft_now(c), &s->lapic[i]);
		soft_timer_update(c);
		c->slow |= SOFT_SLOW_EVENT;
	}
	ioapic_put(irq_ioapic(eng->chip), &s->ioapic);
	return 0;
}

static int soft_clock_get(struct engine *e, struct engine_clock *ret, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);

	(void)err;
	ret->guest_ns = soft_now_ns(eng);
	ret->wall_ns = clock_wall_ns();
	ret->tsc = eng->cpus[0] ? soft_tsc(eng->cpus[0]) : 0;
	ret->tsc_hz = eng->tsc_hz;
	return 0;
}

static int soft_clock_set(struct engine *e, const struct engine_clock *clk, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);

	(void)err;
	if (eng->counted) {
		eng->skipped_ns = clk->guest_ns;
	} else {
		eng->clock_offset_ns = (int64_t)(clk->guest_ns - clock_now_ns());
	}
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		struct soft_cpu *c = eng->cpus[i];

		if (c) {
			/* All vCPUs' counters stand apart by what they did before. */
			c->tsc_offset = 0;
			c->tsc_offset = (int64_t)(clk->tsc - soft_tsc(c));
			soft_pv_system_time(c);
			soft_timer_update(c);
		}
	}
	return 0;
}

static int soft_ioevent(struct engine *e, gpa_t at, unsigned bytes, int fd, bool on)
{
	(void)e;
	(void)at;
	(void)bytes;
	(void)fd;
	(void)on;
	return -EOPNOTSUPP;
}

/* Every write tag goes, so that the next write to each page is seen again. */
static int soft_log_sync(struct engine *e, struct err *err)
{
	struct soft_engine *eng = soft_engine(e);

	(void)err;
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		if (eng->cpus[i]) {
			soft_post_all(eng->cpus[i], false, true, false);
		}
	}
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		if (eng->cpus[i]) {
			soft_wait_served(NULL, eng->cpus[i]);
		}
	}
	/* Behind the tags, by which a page may be mapped so. */
	shadow_drop_all_writes(eng);
	return 0;
}

static int soft_log(struct engine *e, bool on, struct err *err)
{
	return on ? soft_log_sync(e, err) : 0;
}

#define SOFT_OPS(name_, new__, again) { \
	.memory_again = (again), \
	.name = (name_), \
	.probe = soft_probe, \
	.new_ = (new__), \
	.free_ = soft_free, \
	.vcpu_new = vcpu_new, \
	.vcpu_cpuid = vcpu_cpuid, \
	.vcpu_run = vcpu_run, \
	.vcpu_kick = vcpu_kick, \
	.vcpu_get = vcpu_get, \
	.vcpu_set = vcpu_set, \
	.vcpu_debug = vcpu_debug, \
	.vcpu_translate = vcpu_translate, \
	.msi = soft_msi, \
	.line = soft_line, \
	.irq_get = soft_irq_get, \
	.irq_set = soft_irq_set, \
	.clock_get = soft_clock_get, \
	.clock_set = soft_clock_set, \
	.ioevent = soft_ioevent, \
	.log = soft_log, \
	.log_sync = soft_log_sync, \
	.set_tape = soft_set_tape, \
	.position = soft_position, \
	.hold = soft_hold, \
	.stats = xl_stats, \
}

const struct engine_ops engine_soft = SOFT_OPS("soft", soft_new, true);
const struct engine_ops engine_interp = SOFT_OPS("interp", interp_new, false);
