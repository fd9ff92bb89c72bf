/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's CPUID as far as KVM has it: features are what both have, the rest is the model's.
 * The vendor is the host's own, since a kernel chooses workarounds by it, and those of one
 * vendor's hardware must not be left out.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "sys/file.h"

enum {
	ENTRIES_MAX = 256,
	LIST_BYTES = sizeof(struct kvm_cpuid2) + ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2),
};

enum reg { EAX = 1, EBX = 2, ECX = 4, EDX = 8 };

/* Words of feature bits, and those among them that KVM makes itself whatever it lists. */
static const struct {
	uint32_t leaf, subleaf;
	unsigned regs;
	uint32_t always_ecx, always_edx;
} feature_words[] = {
	/* x2APIC and TSC deadline are the local APIC's, OSXSAVE follows CR4, hypervisor; HTT. */
	{ 1, 0, ECX | EDX, 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31, 1u << 28 },
	{ 6, 0, EAX, 0, 0 },
	{ 7, 0, EBX | ECX | EDX, 0, 0 },
	{ 0xd, 0, EAX, 0, 0 },
	{ 0xd, 1, EAX, 0, 0 },
	{ 0x40000001, 0, EAX, 0, 0 },
	{ 0x80000001, 0, ECX | EDX, 0, 0 },
	{ 0x80000007, 0, EDX, 0, 1u << 8 },
	{ 0x80000008, 0, EBX, 0, 0 },
};

enum { ECX_FMA = 1u << 12, ECX_XSAVE = 1u << 26, ECX_OSXSAVE = 1u << 27, ECX_AVX = 1u << 28,
       ECX_F16C = 1u << 29, EBX7_AVX2 = 1u << 5 };

static struct kvm_cpuid2 *list_new(void)
{
	return mem_calloc(1, LIST_BYTES);
}

struct kvm_cpuid2 *kvm__supported(int kvm_fd)
{
	struct kvm_cpuid2 *c = list_new();

	if (c) {
		c->nent = ENTRIES_MAX;
		if (sys_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) < 0) {
			c->nent = 0;
		}
	}
	return c;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
					    e->index == subleaf)) {
			return e;
		}
	}
	return NULL;
}

static void filter(struct kvm_cpuid2 *supported, struct kvm_cpuid_entry2 *e)
{
	static const struct kvm_cpuid_entry2 nothing;

	for (size_t i = 0; i < ARRAY_LEN(feature_words); i++) {
		if (feature_words[i].leaf != e->function || feature_words[i].subleaf != e->index) {
			continue;
		}
		const struct kvm_cpuid_entry2 *s = find(supported, e->function, e->index);
		unsigned regs = feature_words[i].regs;

		s = s ? s : &nothing;
		e->eax &= regs & EAX ? s->eax : UINT32_MAX;
		e->ebx &= regs & EBX ? s->ebx : UINT32_MAX;
		e->ecx &= regs & ECX ? s->ecx | feature_words[i].always_ecx : UINT32_MAX;
		e->edx &= regs & EDX ? s->edx | feature_words[i].always_edx : UINT32_MAX;
	}
}

/* What comes with XSAVE goes with it. */
static void without_xsave(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *one = find(c, 1, 0), *seven = find(c, 7, 0);

	if (one && (one->ecx & ECX_XSAVE)) {
		return;
	}
	if (one) {
		one->ecx &= ~(uint32_t)(ECX_FMA | ECX_OSXSAVE | ECX_AVX | ECX_F16C);
	}
	if (seven) {
		seven->ebx &= ~(uint32_t)EBX7_AVX2;
	}
	for (uint32_t i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 0xd) {
			c->entries[i].eax = c->entries[i].ebx = 0;
			c->entries[i].ecx = c->entries[i].edx = 0;
		}
	}
}

static void take_vendor(struct kvm_cpuid2 *supported, struct kvm_cpuid2 *c)
{
	static const uint32_t leaves[] = { 0, 0x80000000 };
	struct kvm_cpuid_entry2 *host = find(supported, 0, 0), *guest = find(c, 0, 0);

	if (!host || !guest || (host->ebx == guest->ebx && host->ecx == guest->ecx)) {
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
		struct kvm_cpuid_entry2 *e = find(c, leaves[i], 0);

		if (e && e->ebx) {
			e->ebx = host->ebx;
			e->ecx = host->ecx;
			e->edx = host->edx;
		}
	}
	for (size_t i = 0; i < 2; i++) {
		struct kvm_cpuid_entry2 *e = find(c, i ? 0x80000001 : 1, 0);
		struct kvm_cpuid_entry2 *s = find(supported, i ? 0x80000001 : 1, 0);

		if (e && s && (i == 0 || e->eax)) {
			e->eax = s->eax;   /* family, model, stepping */
		}
	}
}

static struct kvm_cpuid2 *make(struct kvm_vcpu *v, const struct cpu_cpuid *entries, size_t n)
{
	struct kvm_cpuid2 *c = list_new();

	assert(n <= ENTRIES_MAX);
	for (size_t i = 0; c && i < n; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

		*e = (struct kvm_cpuid_entry2){
			.function = entries[i].leaf, .index = entries[i].subleaf,
			.flags = entries[i].has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = entries[i].eax, .ebx = entries[i].ebx, .ecx = entries[i].ecx,
			.edx = entries[i].edx,
		};
		filter(v->eng->supported, e);
	}
	if (c) {
		take_vendor(v->eng->supported, c);
		without_xsave(c);
	}
	return c;
}

/*
 * A KVM that cannot hide what the guest's user mode sees of the processor shows it in the leaves
 * that it is given: components of XSAVE among them, whose sizes then have to be told, too.
 */
static bool add_components(struct kvm_cpuid2 *supported, struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *xsave = find(c, 0xd, 0);
	bool added = false;

	for (uint32_t i = 2; xsave && i < 32; i++) {
		const struct kvm_cpuid_entry2 *part = find(supported, 0xd, i);

		if ((xsave->eax >> i & 1) && !find(c, 0xd, i) && part && c->nent < ENTRIES_MAX) {
			c->entries[c->nent++] = *part;
			added = true;
		}
	}
	return added;
}

/* Give it to KVM, and read what KVM makes of it. */
static int show(struct kvm_vcpu *v, struct kvm_cpuid2 *c)
{
	int r = sys_ioctl(v->fd, KVM_SET_CPUID2, c);

	c->nent = ENTRIES_MAX;
	return r < 0 ? r : sys_ioctl(v->fd, KVM_GET_CPUID2, c);
}

/* Is there in leaf 7 what it was not given? */
static bool shows_more(struct kvm_cpuid2 *given, struct kvm_cpuid2 *shown)
{
	const struct kvm_cpuid_entry2 *a = find(given, 7, 0), *b = find(shown, 7, 0);

	return b && (b->ebx & ~(a ? a->ebx : 0));
}

int kvm__cpuid(struct vcpu *vcpu, const struct cpu_cpuid *entries, size_t n, struct err *e)
{
	struct kvm_vcpu *v = kvm_vcpu(vcpu);
	auto_free struct kvm_cpuid2 *given = make(v, entries, n);
	auto_free struct kvm_cpuid2 *c = given ? mem_dup(given, LIST_BYTES) : NULL;
	int r = c ? show(v, c) : -ENOMEM;

	if (r == 0 && add_components(v->eng->supported, c)) {
		r = show(v, c);
	}
	if (r < 0) {
		return kvm__fail(e, r, "set CPUID");
	}
	r = shows_more(given, c) ? kvm__syscall_watch(v->eng, e) : 0;
	if (r < 0) {
		return r;
	}
	struct cpu_cpuid *copy = mem_calloc(c->nent, sizeof(*copy));
	const struct kvm_cpuid_entry2 *one = find(c, 1, 0), *xsave = find(c, 0xd, 0);

	if (!copy) {
		return err_nomem(e);
	}
	/* The helper shows what the vCPU itself shows. */
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *k = &c->entries[i];

		copy[i] = (struct cpu_cpuid){
			.leaf = k->function, .subleaf = k->index,
			.has_subleaf = k->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = k->eax, .ebx = k->ebx, .ecx = k->ecx, .edx = k->edx,
		};
	}
	v->has_xsave = one && (one->ecx & ECX_XSAVE);
	v->components = CPU_XCR0_X87 | CPU_XCR0_SSE | (xsave ? xsave->eax & CPU_XCR0_AVX : 0);
	free(v->cpuid);
	v->cpuid = copy;
	v->n_cpuid = c->nent;
	return 0;
}
