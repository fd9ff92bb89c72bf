/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked accesses that the inline TLB lookup did not settle: misses, pages that hold decoded
 * code, two pages at once, registers of devices, alignment checks and data breakpoints.
 */
#include <errno.h>

#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/xl-stats.h"

enum { PAGE_MASK = GMEM_PAGE_BYTES - 1 };

/* Where one access inside one page goes. */
struct target {
	uint8_t *host;              /* NULL: not RAM */
	struct soft_page *page;     /* of RAM */
	uint64_t gpa;
};

void *soft_ram(struct soft_engine *eng, uint64_t gpa, struct soft_page **ret_page)
{
	const struct gmem *g = eng->eng.conf.mem;

	for (unsigned i = 0; i < g->n_slots; i++) {
		uint64_t off = gpa - g->slots[i].first.raw;

		if (off < g->slots[i].bytes) {
			*ret_page = &eng->pages[i][off >> GMEM_PAGE_SHIFT];
			return g->slots[i].host + off;
		}
	}
	*ret_page = NULL;
	return NULL;
}

static unsigned walk_flags(const struct soft_cpu *c, enum soft_access access)
{
	unsigned flags = access == SOFT_WRITE ? SOFT_WALK_WRITE : 0;

	if (c->cpl == 3) {
		flags |= SOFT_WALK_USER;
	}
	if (c->tlb != c->tlb_kernel || !(c->s.cr4 & CPU_CR4_SMAP)) {
		flags |= SOFT_WALK_AC;
	}
	if (c->check_access && c->cpl < 3 && (c->s.cr4 & CPU_CR4_SMAP) &&
	    !(c->s.rflags & CPU_FLAG_AC)) {
		flags &= ~(unsigned)SOFT_WALK_AC;
	}
	return flags;
}

/*
 * A page with code, whose stores have no tag: the host's address if no code was made of those
 * bytes; else NULL. Who makes code says so first and then waits until this vCPU is between blocks,
 * for it is among the page's writers: so the store that follows is seen.
 */
static uint8_t *beside_code(struct soft_cpu *c, uint64_t linear, size_t n)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);
	struct soft_page *page = NULL;
	uint64_t granules = 0;

	if (linear - e->tag_read > GMEM_PAGE_BYTES - n || n > GMEM_PAGE_BYTES ||
	    !(e->gpa & SOFT_TLB_PARTLY)) {
		return NULL;
	}
	(void)soft_ram(c->eng, e->gpa & ~(uint64_t)PAGE_MASK, &page);
	granules = atomic_load_explicit(&page->granules, memory_order_relaxed);
	if (granules & soft_granules(linear, n)) {
		return NULL;
	}
	if (granules == 0 && atomic_fetch_add_explicit(&page->quiet, 1, memory_order_relaxed) >=
				     SOFT_QUIET) {
		return NULL;   /* it is time for a tag again: block.c */
	}
	return soft_tlb_host(e, linear);
}

/* Bytes of RAM were stored. */
static void stored(struct soft_cpu *c, struct soft_page *page, uint64_t gpa, size_t n)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&page->code, memory_order_relaxed)) {
		soft_code_written(c, page, gpa, n);
	}
}

static noreturn_fn void page_fault(struct soft_cpu *c, uint64_t va, uint32_t error)
{
	c->s.cr2 = va;
	soft_fault(c, CPU_PF, error);
}

/* The debugger's. */
static void debug_watch(struct soft_cpu *c, uint64_t linear, size_t n, enum soft_access access)
{
	for (unsigned k = 0; k < c->debug.n_watches; k++) {
		const struct vcpu_watch *w = &c->debug.watches[k];

		if ((access == SOFT_WRITE || w->on_read) && linear < w->va + w->bytes &&
		    w->va < linear + n) {
			c->debug_hit = true;
			c->vcpu.watch_hit = k;
		}
	}
}

/* Data breakpoints: those that the access hits are told after the instruction. */
static void watch(struct soft_cpu *c, uint64_t linear, size_t n, enum soft_access access)
{
	static const uint8_t lengths[] = { 1, 2, 8, 4 };

	for (unsigned k = 0; k < 4; k++) {
		unsigned kind = c->s.dr7 >> (16 + 4 * k) & 3;
		uint64_t bytes = lengths[c->s.dr7 >> (18 + 4 * k) & 3];
		uint64_t first = c->s.dr[k] & ~(bytes - 1);

		if (!(c->s.dr7 >> (2 * k) & 3) || !(kind & 1) ||
		    (kind == 1 && access != SOFT_WRITE)) {
			continue;
		}
		if (linear < first + bytes && first < linear + n) {
			c->dr6_pending |= BIT(k);
			c->slow |= SOFT_SLOW_DR;
		}
	}
	debug_watch(c, linear, n, access);
}

static bool aligned_only(const struct soft_cpu *c)
{
	return c->cpl == 3 && (c->s.cr0 & CPU_CR0_AM) && (c->s.rflags & CPU_FLAG_AC);
}

static void must_align(struct soft_cpu *c, uint64_t linear, size_t n)
{
	/* 2, 4 and 8 bytes: what vectors and 10-byte numbers do is left to the processor. */
	if (aligned_only(c) && n <= 8 && !(n & (n - 1)) && (linear & (n - 1))) {
		soft_fault(c, CPU_AC, 0);
	}
}

static void check(struct soft_cpu *c, uint64_t linear, size_t n, enum soft_access access)
{
	must_align(c, linear, n);
	watch(c, linear, n, access);
}

static void count(struct soft_cpu *c, enum soft_access access, enum xl_count read,
		  enum xl_count write)
{
	xl_add(&c->counts->n[access == SOFT_WRITE ? write : read], 1);
}

/* Translate an access inside one page, and remember it. Raises its faults. */
static struct target reach(struct soft_cpu *c, uint64_t linear, enum soft_access access)
{
	struct soft_walk w = { 0 };
	struct target t = { 0 };

	if (c->mode == INSN_MODE_64 && !soft_canonical(linear)) {
		soft_fault(c, CPU_GP, 0);
	}
	if (soft_walk(c, linear, walk_flags(c, access), &w) < 0) {
		count(c, access, XC_READ_FAULT, XC_WRITE_FAULT);
		page_fault(c, linear, w.error);
	}
	t.gpa = w.gpa;
	t.host = soft_ram(c->eng, w.gpa, &t.page);
	if (t.host) {
		if (access == SOFT_WRITE) {
			gmem_mark_dirty(c->eng->eng.conf.mem, GPA(w.gpa), 1);
		}
		soft_tlb_fill(c, linear, &w, t.host, t.page, access == SOFT_WRITE);
		count(c, access, XC_READ_FILLED,
		      atomic_load_explicit(&t.page->code, memory_order_relaxed) ? XC_WRITE_CODE :
										  XC_WRITE_FILLED);
	} else {
		count(c, access, XC_READ_DEVICE, XC_WRITE_DEVICE);
	}
	return t;
}

static uint64_t wrap(const struct soft_cpu *c, uint64_t linear)
{
	return c->mode == INSN_MODE_64 ? linear : linear & UINT32_MAX;
}

/* The second page of an access. */
static struct target reach_next(struct soft_cpu *c, uint64_t linear, enum soft_access access)
{
	count(c, access, XC_READ_CROSSING, XC_WRITE_CROSSING);
	return reach(c, wrap(c, linear), access);
}

static unsigned first_part(uint64_t linear, size_t n)
{
	size_t left = GMEM_PAGE_BYTES - (linear & PAGE_MASK);

	return (unsigned)(n < left ? n : left);
}

/* The end of an access may leave the canonical half that it begins in: before any page is
 * looked at. */
static inline void ends_canonical(struct soft_cpu *c, uint64_t linear, size_t n)
{
	if (c->mode == INSN_MODE_64 && !soft_canonical(linear + n - 1)) {
		soft_fault(c, CPU_GP, 0);
	}
}

static uint64_t load_target(struct soft_cpu *c, const struct target *t, unsigned bytes)
{
	return t->host ? soft_host_load(t->host, bytes) : soft_mmio_load(c, t->gpa, bytes);
}

static void store_target(struct soft_cpu *c, const struct target *t, unsigned bytes, uint64_t v)
{
	if (!t->host) {
		soft_mmio_store(c, t->gpa, bytes, v);
		return;
	}
	soft_host_store(t->host, bytes, v);
	stored(c, t->page, t->gpa, bytes);
}

uint64_t soft__load_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	unsigned n = first_part(linear, bytes);

	ends_canonical(c, linear, bytes);
	if (c->check_access) {
		check(c, linear, bytes, SOFT_READ);
	}
	struct target t = reach(c, linear, SOFT_READ);
	if (n == bytes) {
		return load_target(c, &t, bytes);
	}
	struct target t2 = reach_next(c, linear + n, SOFT_READ);

	return load_target(c, &t, n) | load_target(c, &t2, bytes - n) << (8 * n);
}

void soft__store_slow(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v)
{
	unsigned n = first_part(linear, bytes);
	uint8_t *host = beside_code(c, linear, bytes);

	if (host) {
		soft_host_store(host, bytes, v);
		return;
	}
	ends_canonical(c, linear, bytes);
	if (c->check_access) {
		check(c, linear, bytes, SOFT_WRITE);
	}
	struct target t = reach(c, linear, SOFT_WRITE);
	if (n == bytes) {
		store_target(c, &t, bytes, v);
		return;
	}
	struct target t2 = reach_next(c, linear + n, SOFT_WRITE);

	store_target(c, &t, n, v);
	store_target(c, &t2, bytes - n, v >> (8 * n));
}

static void copy_from(struct soft_cpu *c, const struct target *t, uint8_t *ret, size_t n)
{
	if (t->host) {
		memcpy(ret, t->host, n);
		return;
	}
	for (size_t i = 0; i < n; ) {
		unsigned step = n - i >= 8 ? 8 : n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
		uint64_t v = soft_mmio_load(c, t->gpa + i, step);

		memcpy(ret + i, &v, step);
		i += step;
	}
}

static void copy_to(struct soft_cpu *c, const struct target *t, const uint8_t *data, size_t n)
{
	if (t->host) {
		memcpy(t->host, data, n);
		stored(c, t->page, t->gpa, n);
		return;
	}
	for (size_t i = 0; i < n; ) {
		unsigned step = n - i >= 8 ? 8 : n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
		uint64_t v = 0;

		memcpy(&v, data + i, step);
		soft_mmio_store(c, t->gpa + i, step, v);
		i += step;
	}
}

void soft_load_bytes(struct soft_cpu *c, uint64_t linear, void *ret, size_t n)
{
	size_t k = first_part(linear, n);
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (linear - e->tag_read <= GMEM_PAGE_BYTES - n && n <= GMEM_PAGE_BYTES) {
		memcpy(ret, (const void *)soft_tlb_host(e, linear), n);
		return;
	}
	ends_canonical(c, linear, n);
	if (c->check_access) {
		check(c, linear, n, SOFT_READ);
	}
	struct target t = reach(c, linear, SOFT_READ);
	struct target t2 = { 0 };

	if (k < n) {
		t2 = reach_next(c, linear + k, SOFT_READ);
	}
	copy_from(c, &t, ret, k);
	if (k < n) {
		copy_from(c, &t2, (uint8_t *)ret + k, n - k);
	}
}

void soft_store_bytes(struct soft_cpu *c, uint64_t linear, const void *data, size_t n)
{
	size_t k = first_part(linear, n);
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (linear - e->tag_write <= GMEM_PAGE_BYTES - n && n <= GMEM_PAGE_BYTES) {
		memcpy((void *)soft_tlb_host(e, linear), data, n);
		return;
	}
	uint8_t *host = beside_code(c, linear, n);

	if (host) {
		memcpy(host, data, n);
		return;
	}
	ends_canonical(c, linear, n);
	if (c->check_access) {
		check(c, linear, n, SOFT_WRITE);
	}
	struct target t = reach(c, linear, SOFT_WRITE);
	struct target t2 = { 0 };

	if (k < n) {
		t2 = reach_next(c, linear + k, SOFT_WRITE);
	}
	copy_to(c, &t, data, k);
	if (k < n) {
		copy_to(c, &t2, (const uint8_t *)data + k, n - k);
	}
}

void soft_probe_write(struct soft_cpu *c, uint64_t linear, size_t n)
{
	size_t k = first_part(linear, n);

	ends_canonical(c, linear, n);
	if (c->check_access) {
		must_align(c, linear, n);
	}
	if (linear - soft__tlb(c, linear)->tag_write > GMEM_PAGE_BYTES - 1) {
		(void)reach(c, linear, SOFT_WRITE);
	}
	if (k < n) {
		(void)reach_next(c, linear + k, SOFT_WRITE);
	}
}

void *soft_atomic(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	const struct soft_tlb_entry *e = soft__tlb(c, linear);

	if (__builtin_expect(linear - e->tag_write <= GMEM_PAGE_BYTES - bytes, 1)) {
		return (void *)soft_tlb_host(e, linear);
	}
	uint8_t *beside = beside_code(c, linear, bytes);

	if (beside) {
		return beside;
	}
	ends_canonical(c, linear, bytes);
	if (c->check_access) {
		check(c, linear, bytes, SOFT_WRITE);
	}
	struct target t = reach(c, linear, SOFT_WRITE);

	if (first_part(linear, bytes) < bytes) {
		(void)reach_next(c, linear + first_part(linear, bytes), SOFT_WRITE);
		return NULL;
	}
	if (!t.host) {
		return NULL;
	}
	if (c->check_access) {
		return atomic_load(&t.page->code) == 0 ? t.host : NULL;
	}
	beside = beside_code(c, linear, bytes);
	if (beside) {
		return beside;
	}
	/* No write tag: there is code, and who writes to it has to say what. */
	return linear - e->tag_write <= GMEM_PAGE_BYTES - bytes ? t.host : NULL;
}

struct soft_privilege soft_system_begin(struct soft_cpu *c)
{
	struct soft_privilege p = { .cpl = c->cpl, .tlb = c->tlb };

	c->cpl = 0;
	c->tlb = c->tlb_kernel;
	return p;
}

void soft_system_end(struct soft_cpu *c, struct soft_privilege p)
{
	c->cpl = p.cpl;
	c->tlb = p.tlb;
}

uint64_t soft_load_system(struct soft_cpu *c, uint64_t linear, unsigned bytes)
{
	struct soft_privilege p = soft_system_begin(c);
	uint64_t v = soft_load(c, linear, bytes);

	soft_system_end(c, p);
	return v;
}

void soft_store_system(struct soft_cpu *c, uint64_t linear, unsigned bytes, uint64_t v)
{
	struct soft_privilege p = soft_system_begin(c);

	soft_store(c, linear, bytes, v);
	soft_system_end(c, p);
}

static void bus_load(struct soft_cpu *c, uint64_t gpa, uint64_t *ret, unsigned bytes)
{
	const struct engine_bus *bus = &c->eng->eng.bus;

	*ret = 0;
	if (bytes == 3 || bytes > 4) {
		for (unsigned i = 0; i < bytes && bytes != 8; i++) {
			uint8_t b = 0;

			bus->mmio_read(bus->ctx, GPA(gpa + i), &b, 1);
			*ret |= (uint64_t)b << (8 * i);
		}
		if (bytes != 8) {
			return;
		}
	}
	bus->mmio_read(bus->ctx, GPA(gpa), ret, bytes);
}

uint64_t soft_mmio_load(struct soft_cpu *c, uint64_t gpa, unsigned bytes)
{
	uint64_t base = 0, v = 0;

	if (c->eng->counted) {
		soft_counted_apart(c);
	}
	if (lapic_mmio_base(c->apic, &base) && gpa - base < LAPIC_BYTES) {
		v = lapic_mmio_read(c->apic, (uint32_t)(gpa - base), bytes, soft_now(c));
		soft_timer_update(c);
		return v;
	}
	if (gpa - IOAPIC_BASE < IOAPIC_BYTES) {
		return ioapic_mmio_read(irq_ioapic(c->eng->chip), (uint32_t)(gpa - IOAPIC_BASE));
	}
	bus_load(c, gpa, &v, bytes);
	return v;
}

void soft_mmio_store(struct soft_cpu *c, uint64_t gpa, unsigned bytes, uint64_t v)
{
	const struct engine_bus *bus = &c->eng->eng.bus;
	uint64_t base = 0;

	if (c->eng->counted) {
		soft_counted_apart(c);
	}
	if (lapic_mmio_base(c->apic, &base) && gpa - base < LAPIC_BYTES) {
		lapic_mmio_write(c->apic, (uint32_t)(gpa - base), bytes, (uint32_t)v, soft_now(c));
		soft_timer_update(c);
		c->slow |= SOFT_SLOW_EVENT;
		return;
	}
	if (gpa - IOAPIC_BASE < IOAPIC_BYTES) {
		ioapic_mmio_write(irq_ioapic(c->eng->chip), (uint32_t)(gpa - IOAPIC_BASE),
				  (uint32_t)v);
		return;
	}
	if (bytes == 3 || (bytes > 4 && bytes < 8)) {
		for (unsigned i = 0; i < bytes; i++) {
			uint8_t b = (uint8_t)(v >> (8 * i));

			bus->mmio_write(bus->ctx, GPA(gpa + i), &b, 1);
		}
		return;
	}
	bus->mmio_write(bus->ctx, GPA(gpa), &v, bytes);
}
