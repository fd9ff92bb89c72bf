/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spec: SDM 2, CPUID; Linux, Documentation/virt/kvm/x86/cpuid.rst (leaves from 0x40000000).
 */
#include <cpuid.h>
#include <string.h>

#include "vm/cpu/model.h"

/* Leaf 1, ECX and EDX. */
enum {
	ECX1 = 1u << 0 | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 |
	       1u << 23 | 1u << 25 | 1u << 26 | 1u << 28 | 1u << 29 | 1u << 30,
	ECX1_OURS = 1u << 17 | 1u << 21 | 1u << 24,   /* PCID, x2APIC, TSC deadline */
	EDX1 = 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 |
	       1u << 8 | 1u << 9 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15 | 1u << 16 |
	       1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26 | 1u << 27,
	ECX1_OSXSAVE = 1u << 27, EDX1_HTT = 1u << 28,
	/* Leaf 7. FDP only at exceptions, FCS and FDS zero: so the host's unit does it. */
	EBX7 = 1u << 3 | 1u << 5 | 1u << 8 | 1u << 9 | 1u << 18 | 1u << 19 | 1u << 23 | 1u << 24 |
	       1u << 29,
	EBX7_OURS = 1u << 0 | 1u << 1 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 13 | 1u << 20,
	ECX7_OURS = 1u << 2 | 1u << 22,                       /* UMIP, RDPID */
	/* REP MOVSB is quick however short, SERIALIZE, IBRS, ARCH_CAP, SSBD */
	EDX7_OURS = 1u << 4 | 1u << 14 | 1u << 26 | 1u << 29 | 1u << 31,
	LINE = 64, L1_BYTES = 32 << 10, L2_BYTES = 1 << 20, L3_BYTES = 32 << 20,
	ECX_EXT = 1u << 0 | 1u << 5 | 1u << 8,                /* LAHF, LZCNT, PREFETCHW */
	EDX_EXT_OURS = 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29,
};

/* Of leaf 0x40000001: clock, no I/O delay, new clock, steal time, EOI, unhalt, TLB flush, send
 * IPI, poll control, yield, stable clock. */
#define PV_FEATURES (1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 | \
		     1u << 11 | 1u << 12 | 1u << 13 | 1u << 24)

struct host {
	uint32_t ecx1, ebx7, ecx_ext;
};

static struct host host_read(void)
{
	struct host h = { 0 };
	uint32_t a = 0, b = 0, c = 0, d = 0;

	if (__get_cpuid(1, &a, &b, &c, &d)) {
		h.ecx1 = c;
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
		h.ebx7 = b;
	}
	if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
		h.ecx_ext = c;
	}
	return h;
}

struct list {
	struct cpu_cpuid *entries;
	size_t n;
};

static struct cpu_cpuid *add(struct list *l, uint32_t leaf, int sub)
{
	struct cpu_cpuid *e = &l->entries[l->n++];

	assert(l->n <= CPU_MODEL_ENTRIES_MAX);
	*e = (struct cpu_cpuid){ .leaf = leaf, .subleaf = sub < 0 ? 0 : (uint32_t)sub,
				 .has_subleaf = sub >= 0 };
	return e;
}

static void add_text(struct list *l, uint32_t leaf, const char *text)
{
	struct cpu_cpuid *e = add(l, leaf, -1);

	memcpy(&e->eax, text, 4);
	memcpy(&e->ebx, text + 4, 4);
	memcpy(&e->ecx, text + 8, 4);
	memcpy(&e->edx, text + 12, 4);
}

static unsigned log2_up(unsigned n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

struct cache {
	unsigned level, type;      /* 1: data, 2: instructions, 3: both */
	unsigned ways;
	uint32_t bytes;            /* of each vCPU */
	bool     shared;           /* by all */
};

/*
 * C libraries choose by these how to copy. Where they know none they believe that all is too large
 * for it, and store past the caches, 16 bytes at a time; else they leave most to REP MOVSB, which
 * the engines do best.
 */
static void add_caches(struct list *l, const struct cpu_model_conf *conf)
{
	static const struct cache caches[] = {
		{ 1, 1, 8, L1_BYTES, false },
		{ 1, 2, 8, L1_BYTES, false },
		{ 2, 3, 8, L2_BYTES, false },
		{ 3, 3, 16, L3_BYTES, true },
	};
	uint32_t ids = (1u << log2_up(conf->n_vcpus)) - 1;

	for (unsigned k = 0; k < ARRAY_LEN(caches); k++) {
		const struct cache *c = &caches[k];
		struct cpu_cpuid *e = add(l, 4, (int)k);

		e->eax = MIN(ids, 63u) << 26 | (c->shared ? ids : 0) << 14 | 1u << 8 |
			 c->level << 5 | c->type;
		e->ebx = (c->ways - 1) << 22 | (LINE - 1);
		e->ecx = c->bytes / LINE / c->ways * (c->shared ? conf->n_vcpus : 1) - 1;
	}
}

static void add_basic(struct list *l, const struct cpu_model_conf *conf, const struct host *h)
{
	struct cpu_cpuid *e = add(l, 0, -1);

	e->eax = 0x16;
	memcpy(&e->ebx, "Genu", 4);
	memcpy(&e->edx, "ineI", 4);
	memcpy(&e->ecx, "ntel", 4);
	e = add(l, 1, -1);
	e->eax = CPU_MODEL_SIGNATURE;
	e->ebx = conf->id << 24 | conf->n_vcpus << 16 | 8u << 8;
	e->ecx = (h->ecx1 & (uint32_t)ECX1) | ECX1_OURS | 1u << 31;
	e->edx = EDX1 | (conf->n_vcpus > 1 ? EDX1_HTT : 0);
	e = add(l, 2, -1);
	e->eax = 0xff << 8 | 1;   /* the caches: see leaf 4 */
	add_caches(l, conf);
	e = add(l, 6, -1);
	e->eax = 1u << 2;   /* the APIC timer always runs */
	e = add(l, 7, 0);
	e->eax = 2;
	e->ebx = (h->ebx7 & (uint32_t)EBX7) | EBX7_OURS;
	e->ecx = ECX7_OURS;
	e->edx = (uint32_t)EDX7_OURS;
	/* Newer kernels do not believe BHI_NO, but that one bit of SPEC_CTRL is enough. */
	e = add(l, 7, 2);
	e->edx = 1u << 4;
	(void)add(l, 0xa, -1);
}

static void add_topology(struct list *l, const struct cpu_model_conf *conf)
{
	struct cpu_cpuid *e = add(l, 0xb, 0);

	e->ebx = 1;
	e->ecx = 1u << 8;
	e->edx = conf->id;
	e = add(l, 0xb, 1);
	e->eax = log2_up(conf->n_vcpus);
	e->ebx = conf->n_vcpus;
	e->ecx = 2u << 8 | 1;
	e->edx = conf->id;
	e = add(l, 0xb, 2);
	e->ecx = 2;
	e->edx = conf->id;
}

static void add_xsave(struct list *l, const struct host *h)
{
	bool avx = (h->ecx1 & 1u << 28) != 0;
	struct cpu_cpuid *e = NULL;

	if (!(h->ecx1 & 1u << 26)) {
		return;
	}
	e = add(l, 0xd, 0);
	e->eax = avx ? 7 : 3;
	e->ebx = e->ecx = avx ? CPU_XSAVE_BYTES : 576;
	e = add(l, 0xd, 1);
	e->eax = 1 | 2;   /* XSAVEOPT, XSAVEC */
	e->ebx = avx ? CPU_XSAVE_BYTES : 576;
	if (avx) {
		e = add(l, 0xd, 2);
		e->eax = 256;
		e->ebx = 576;
	}
}

static void add_rates(struct list *l, const struct cpu_model_conf *conf)
{
	struct cpu_cpuid *e = add(l, 0x15, -1);
	uint32_t mhz = (uint32_t)(conf->tsc_hz / 1000000);

	/* The crystal is the APIC's clock. */
	e->eax = LAPIC_BUS_HZ / 1000000;
	e->ebx = mhz;
	e->ecx = LAPIC_BUS_HZ;
	e = add(l, 0x16, -1);
	e->eax = e->ebx = mhz & 0xffff;
	e->ecx = 100;
}

static void add_kvm(struct list *l, const struct cpu_model_conf *conf)
{
	struct cpu_cpuid *e = add(l, 0x40000000, -1);

	e->eax = 0x40000010;
	memcpy(&e->ebx, "KVMK", 4);
	memcpy(&e->ecx, "VMKV", 4);
	memcpy(&e->edx, "M\0\0\0", 4);
	e = add(l, 0x40000001, -1);
	e->eax = PV_FEATURES;
	e = add(l, 0x40000010, -1);
	e->eax = (uint32_t)(conf->tsc_hz / 1000);
	e->ebx = LAPIC_BUS_HZ / 1000;
}

static void add_extended(struct list *l, const struct host *h)
{
	static const char brand[48] = "Holm Virtual CPU";
	struct cpu_cpuid *e = add(l, 0x80000000, -1);

	e->eax = 0x80000008;
	e = add(l, 0x80000001, -1);
	e->ecx = h->ecx_ext & (uint32_t)ECX_EXT;
	e->edx = EDX_EXT_OURS;
	add_text(l, 0x80000002, brand);
	add_text(l, 0x80000003, brand + 16);
	add_text(l, 0x80000004, brand + 32);
	e = add(l, 0x80000006, -1);
	e->ecx = L2_BYTES >> 10 << 16 | 6u << 12 | LINE;   /* 8 ways */
	e = add(l, 0x80000007, -1);
	e->edx = 1u << 8;   /* the TSC runs at one rate */
	e = add(l, 0x80000008, -1);
	e->eax = CPU_MODEL_PHYS_BITS | 48u << 8;
}

size_t cpu_model(const struct cpu_model_conf *conf, struct cpu_cpuid *ret)
{
	struct list l = { .entries = ret };
	struct host h = host_read();

	add_basic(&l, conf, &h);
	add_topology(&l, conf);
	add_xsave(&l, &h);
	add_rates(&l, conf);
	add_kvm(&l, conf);
	add_extended(&l, &h);
	return l.n;
}

static const struct cpu_cpuid *exact(const struct cpu_cpuid *entries, size_t n, uint32_t leaf,
				     uint32_t sub)
{
	for (size_t i = 0; i < n; i++) {
		if (entries[i].leaf == leaf && (!entries[i].has_subleaf || entries[i].subleaf == sub)) {
			return &entries[i];
		}
	}
	return NULL;
}

const struct cpu_cpuid *cpu_model_find(const struct cpu_cpuid *entries, size_t n, uint32_t leaf,
				       uint32_t subleaf)
{
	const struct cpu_cpuid *first = exact(entries, n, leaf & 0xc0000000, 0);
	const struct cpu_cpuid *e = exact(entries, n, leaf, subleaf);

	if (e) {
		return e;
	}
	/* Above the highest leaf of its range: the highest basic one answers. */
	if (!first || leaf > first->eax) {
		const struct cpu_cpuid *basic = exact(entries, n, 0, 0);

		if ((leaf >> 28) != 4 && basic) {
			return exact(entries, n, basic->eax, subleaf);
		}
	}
	/* Leaf 0xb tells the x2APIC id at every level. */
	return NULL;
}
