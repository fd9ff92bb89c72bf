/* SPDX-License-Identifier: Apache-2.0 */
/* The architectural state to KVM's structs and back. */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "sys/file.h"

enum {
	MSR_TSC = 0x10,
	XSTATE_BV = 512, XCR0_OURS = CPU_XCR0_X87 | CPU_XCR0_SSE | CPU_XCR0_AVX,
};

/* In KVM's order. */
#define GPRS(X) \
	X(rax, CPU_RAX) X(rbx, CPU_RBX) X(rcx, CPU_RCX) X(rdx, CPU_RDX) X(rsi, CPU_RSI) \
	X(rdi, CPU_RDI) X(rsp, CPU_RSP) X(rbp, CPU_RBP) X(r8, CPU_R8) X(r9, CPU_R9) \
	X(r10, CPU_R10) X(r11, CPU_R11) X(r12, CPU_R12) X(r13, CPU_R13) X(r14, CPU_R14) \
	X(r15, CPU_R15)

#define SEGS(X) \
	X(es, seg[CPU_ES]) X(cs, seg[CPU_CS]) X(ss, seg[CPU_SS]) X(ds, seg[CPU_DS]) \
	X(fs, seg[CPU_FS]) X(gs, seg[CPU_GS]) X(ldt, ldt) X(tr, tr)

/* --- General registers --- */

static int get_regs(struct kvm_vcpu *v, struct cpu_state *s)
{
	struct kvm_regs regs;
	int r = sys_ioctl(v->fd, KVM_GET_REGS, &regs);

	if (r < 0) {
		return r;
	}
#define X(name, index) s->gpr[index] = regs.name;
	GPRS(X)
#undef X
	s->rip = regs.rip;
	s->rflags = regs.rflags | CPU_FLAG_1;
	return 0;
}

static int set_regs(struct kvm_vcpu *v, const struct cpu_state *s)
{
	struct kvm_regs regs = { .rip = s->rip, .rflags = s->rflags };

#define X(name, index) regs.name = s->gpr[index];
	GPRS(X)
#undef X
	return sys_ioctl(v->fd, KVM_SET_REGS, &regs);
}

/* --- Segments and control registers --- */

static struct cpu_seg seg_of(const struct kvm_segment *k)
{
	return (struct cpu_seg){
		.base = k->base, .limit = k->limit, .selector = k->selector,
		.ar = (uint32_t)(k->type & 15) | (k->s ? CPU_AR_S : 0u) |
		      (uint32_t)(k->dpl & 3) << CPU_AR_DPL_SHIFT | (k->present ? CPU_AR_P : 0u) |
		      (k->avl ? CPU_AR_AVL : 0u) | (k->l ? CPU_AR_L : 0u) |
		      (k->db ? CPU_AR_DB : 0u) | (k->g ? CPU_AR_G : 0u) |
		      (k->unusable ? CPU_AR_UNUSABLE : 0u),
	};
}

static struct kvm_segment seg_to(const struct cpu_seg *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.type = s->ar & CPU_AR_TYPE, .s = !!(s->ar & CPU_AR_S),
		.dpl = s->ar >> CPU_AR_DPL_SHIFT & 3, .present = !!(s->ar & CPU_AR_P),
		.avl = !!(s->ar & CPU_AR_AVL), .l = !!(s->ar & CPU_AR_L),
		.db = !!(s->ar & CPU_AR_DB), .g = !!(s->ar & CPU_AR_G),
		.unusable = !!(s->ar & CPU_AR_UNUSABLE),
	};
}

static bool is_pae(const struct cpu_state *s)
{
	return (s->cr0 & CPU_CR0_PG) && (s->cr4 & CPU_CR4_PAE) && !(s->efer & CPU_EFER_LMA);
}

/* The two structs begin alike; the older one has interrupts in flight at its end. */
static int get_sregs(struct kvm_vcpu *v, struct cpu_state *s)
{
	struct kvm_sregs2 k = { 0 };
	struct kvm_sregs old = { 0 };
	int r = v->eng->sregs2 ? sys_ioctl(v->fd, KVM_GET_SREGS2, &k) :
				 sys_ioctl(v->fd, KVM_GET_SREGS, &old);

	if (r < 0) {
		return r;
	}
	if (!v->eng->sregs2) {
		memcpy(&k, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
	}
#define X(name, member) s->member = seg_of(&k.name);
	SEGS(X)
#undef X
	s->gdt = (struct cpu_table){ .base = k.gdt.base, .limit = k.gdt.limit };
	s->idt = (struct cpu_table){ .base = k.idt.base, .limit = k.idt.limit };
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->cr8 = k.cr8;
	s->efer = k.efer;
	if (is_pae(s)) {
		memcpy(s->pdptr, k.pdptrs, sizeof(s->pdptr));
	}
	return 0;
}

static int set_sregs(struct kvm_vcpu *v, const struct cpu_state *s)
{
	struct kvm_sregs2 k = { 0 };
	struct kvm_sregs old = { 0 };
	/* The base of the local APIC is its own state's: as it is. */
	int r = sys_ioctl(v->fd, KVM_GET_SREGS, &old);

	if (r < 0) {
		return r;
	}
#define X(name, member) k.name = seg_to(&s->member);
	SEGS(X)
#undef X
	k.gdt = (struct kvm_dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
	k.idt = (struct kvm_dtable){ .base = s->idt.base, .limit = s->idt.limit };
	k.cr0 = s->cr0;
	k.cr2 = s->cr2;
	k.cr3 = s->cr3;
	k.cr4 = s->cr4;
	k.cr8 = s->cr8;
	k.efer = s->efer;
	k.apic_base = old.apic_base;
	if (is_pae(s)) {
		memcpy(k.pdptrs, s->pdptr, sizeof(k.pdptrs));
		k.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	if (v->eng->sregs2) {
		return sys_ioctl(v->fd, KVM_SET_SREGS2, &k);
	}
	memset(&old, 0, sizeof(old));
	memcpy(&old, &k, offsetof(struct kvm_sregs, interrupt_bitmap));
	return sys_ioctl(v->fd, KVM_SET_SREGS, &old);
}

/* --- Floating point and vectors --- */

/* The guest's XCR0, with whatever is in it. */
static int get_xcr0(struct kvm_vcpu *v, uint64_t *ret)
{
	struct kvm_xcrs xcrs = { 0 };
	int r = sys_ioctl(v->fd, KVM_GET_XCRS, &xcrs);

	*ret = CPU_XCR0_X87;
	for (uint32_t i = 0; r == 0 && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++) {
		if (xcrs.xcrs[i].xcr == 0) {
			*ret = xcrs.xcrs[i].value;
		}
	}
	return r;
}

static int get_xsave(struct kvm_vcpu *v, struct cpu_state *s)
{
	union {
		struct kvm_xsave xsave;
		uint8_t bytes[KVM__XSAVE_BYTES];
	} area = { 0 };
	int r = sys_ioctl(v->fd, KVM_GET_XSAVE, &area);

	if (r < 0) {
		return r;
	}
	memcpy(s->xsave, area.bytes, sizeof(s->xsave));
	s->xcr0 = CPU_XCR0_X87;
	if (v->has_xsave) {
		r = get_xcr0(v, &s->xcr0);
		s->xcr0 &= XCR0_OURS;
	}
	return r;
}

/* keep: the components that are not ours are left as they are. */
static int set_xsave(struct kvm_vcpu *v, const struct cpu_state *s, bool keep)
{
	union {
		struct kvm_xsave xsave;
		uint8_t bytes[KVM__XSAVE_BYTES];
	} area = { 0 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	uint64_t bv = 0, old_bv = 0, old_xcr0 = CPU_XCR0_X87;
	int r = keep ? sys_ioctl(v->fd, KVM_GET_XSAVE, &area) : 0;

	if (r == 0 && keep && v->has_xsave) {
		r = get_xcr0(v, &old_xcr0);
	}
	/* Without XSAVE in the guest there is only what reset left. */
	if (r == 0 && (v->has_xsave || s->xcr0 != CPU_XCR0_X87)) {
		xcrs.xcrs[0].value = s->xcr0 | (old_xcr0 & ~(uint64_t)XCR0_OURS);
		r = sys_ioctl(v->fd, KVM_SET_XCRS, &xcrs);
	}
	if (r < 0) {
		return r;
	}
	memcpy(&old_bv, area.bytes + XSTATE_BV, sizeof(old_bv));
	memcpy(area.bytes, s->xsave, sizeof(s->xsave));
	memcpy(&bv, s->xsave + XSTATE_BV, sizeof(bv));
	bv |= old_bv & ~(uint64_t)XCR0_OURS;
	memcpy(area.bytes + XSTATE_BV, &bv, sizeof(bv));
	return sys_ioctl(v->fd, KVM_SET_XSAVE, &area);
}

/* --- Events --- */

static int get_events(struct kvm_vcpu *v, struct cpu_state *s)
{
	struct kvm_vcpu_events k = { 0 };
	struct cpu_events *e = &s->events;
	int r = sys_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &k);

	if (r < 0) {
		return r;
	}
	*e = (struct cpu_events){
		.nmi_pending = k.nmi.pending, .nmi_masked = k.nmi.masked,
		.shadow_sti = !!(k.interrupt.shadow & KVM_X86_SHADOW_INT_STI),
		.shadow_mov_ss = !!(k.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS),
		.debug_held = v->held,
	};
	if (k.exception.injected || k.exception.pending) {
		e->injected = CPU_EVENT_EXCEPTION;
		e->vector = k.exception.nr;
		e->has_error = k.exception.has_error_code;
		e->error = k.exception.error_code;
	} else if (k.nmi.injected) {
		e->injected = CPU_EVENT_NMI;
		e->vector = CPU_NMI;
	} else if (k.interrupt.injected) {
		e->injected = k.interrupt.soft ? CPU_EVENT_SOFT_INTERRUPT : CPU_EVENT_INTERRUPT;
		e->vector = k.interrupt.nr;
	}
	return 0;
}

static int set_events(struct kvm_vcpu *v, const struct cpu_state *s)
{
	const struct cpu_events *e = &s->events;
	bool exception = e->injected == CPU_EVENT_EXCEPTION || e->exception_pending;
	struct kvm_vcpu_events k = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
		.exception = { .injected = exception, .nr = exception ? e->vector : 0,
			       .has_error_code = exception && e->has_error,
			       .error_code = exception ? e->error : 0 },
		.nmi = { .injected = e->injected == CPU_EVENT_NMI, .pending = e->nmi_pending,
			 .masked = e->nmi_masked },
		.interrupt.shadow = (e->shadow_sti ? KVM_X86_SHADOW_INT_STI : 0) |
				    (e->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : 0),
	};

	if (e->injected == CPU_EVENT_INTERRUPT || e->injected == CPU_EVENT_SOFT_INTERRUPT) {
		k.interrupt.injected = 1;
		k.interrupt.nr = e->vector;
		k.interrupt.soft = e->injected == CPU_EVENT_SOFT_INTERRUPT;
	}
	v->held = e->debug_held;
	return sys_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &k);
}

/* --- Debug registers, processor state --- */

static int get_debug(struct kvm_vcpu *v, struct cpu_state *s)
{
	struct kvm_debugregs k = { 0 };
	int r = sys_ioctl(v->fd, KVM_GET_DEBUGREGS, &k);

	if (r < 0) {
		return r;
	}
	for (unsigned i = 0; i < 4; i++) {
		s->dr[i] = k.db[i];
	}
	s->dr6 = k.dr6;
	s->dr7 = k.dr7;
	return 0;
}

static int set_debug(struct kvm_vcpu *v, const struct cpu_state *s)
{
	struct kvm_debugregs k = { .dr6 = s->dr6, .dr7 = s->dr7 };

	for (unsigned i = 0; i < 4; i++) {
		k.db[i] = s->dr[i];
	}
	return sys_ioctl(v->fd, KVM_SET_DEBUGREGS, &k);
}

static int get_mp(struct kvm_vcpu *v, struct cpu_state *s)
{
	struct kvm_mp_state k = { 0 };
	int r = sys_ioctl(v->fd, KVM_GET_MP_STATE, &k);

	if (r < 0) {
		return r;
	}
	s->mp_state = k.mp_state == KVM_MP_STATE_HALTED ? CPU_MP_HALTED :
		      k.mp_state == KVM_MP_STATE_UNINITIALIZED ? CPU_MP_WAIT_INIT :
		      k.mp_state == KVM_MP_STATE_INIT_RECEIVED ||
				      k.mp_state == KVM_MP_STATE_SIPI_RECEIVED ?
			      CPU_MP_WAIT_SIPI : CPU_MP_RUNNABLE;
	return 0;
}

static int set_mp(struct kvm_vcpu *v, const struct cpu_state *s)
{
	static const uint32_t states[CPU_MP__COUNT] = {
		[CPU_MP_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
		[CPU_MP_HALTED] = KVM_MP_STATE_HALTED,
		[CPU_MP_WAIT_INIT] = KVM_MP_STATE_UNINITIALIZED,
		[CPU_MP_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
	};
	struct kvm_mp_state k = { .mp_state = states[s->mp_state] };

	return sys_ioctl(v->fd, KVM_SET_MP_STATE, &k);
}

/* --- MSRs --- */

union msrs {
	struct kvm_msrs head;
	uint8_t         bytes[sizeof(struct kvm_msrs) +
			      KVM__MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

int kvm__msr_get(struct kvm_vcpu *v, uint32_t index, uint64_t *ret)
{
	union msrs m = { .head.nmsrs = 1 };

	m.head.entries[0].index = index;
	int r = sys_ioctl(v->fd, KVM_GET_MSRS, &m);

	if (r == 1) {
		*ret = m.head.entries[0].data;
	}
	return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

int kvm__msr_set(struct kvm_vcpu *v, uint32_t index, uint64_t value)
{
	union msrs m = { .head.nmsrs = 1 };

	m.head.entries[0] = (struct kvm_msr_entry){ .index = index, .data = value };
	int r = sys_ioctl(v->fd, KVM_SET_MSRS, &m);

	return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

/* KVM stops at the first MSR of a list that it does not know: so each is tried once. */
void kvm__msrs_find(struct kvm_vcpu *v)
{
	assert(cpu_msr_table_len < KVM__MSRS_MAX);
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		uint64_t value;

		if (kvm__msr_get(v, cpu_msr_table[i].index, &value) == 0) {
			v->msr_known |= BIT(i);
		}
	}
}

static const uint64_t *msr_in(const struct cpu_state *s, size_t i)
{
	return (const uint64_t *)(const void *)((const char *)&s->msr + cpu_msr_table[i].off);
}

static int get_msrs(struct kvm_vcpu *v, struct cpu_state *s)
{
	union msrs m = { 0 };
	unsigned n = 0;

	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		if (v->msr_known >> i & 1) {
			m.head.entries[m.head.nmsrs++].index = cpu_msr_table[i].index;
		}
	}
	m.head.entries[m.head.nmsrs++].index = MSR_TSC;
	int r = sys_ioctl(v->fd, KVM_GET_MSRS, &m);

	if (r != (int)m.head.nmsrs) {
		return r < 0 ? r : -EIO;
	}
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		if (v->msr_known >> i & 1) {
			memcpy((char *)&s->msr + cpu_msr_table[i].off, &m.head.entries[n++].data,
			       sizeof(uint64_t));
		}
	}
	s->tsc = m.head.entries[n].data;
	return 0;
}

static int write_msrs(struct kvm_vcpu *v, union msrs *m, struct err *e)
{
	int r = m->head.nmsrs ? sys_ioctl(v->fd, KVM_SET_MSRS, m) : 0;

	if (r < 0 || r == (int)m->head.nmsrs) {
		return r < 0 ? kvm__fail(e, r, "set MSRs") : 0;
	}
	return err_set(e, EINVAL, ERR_UNSUPPORTED, "KVM refuses 0x%llx for MSR 0x%x",
		       (unsigned long long)m->head.entries[r].data, m->head.entries[r].index);
}

/* was: only what differs from it; NULL: all, and the TSC. */
static int set_msrs(struct kvm_vcpu *v, const struct cpu_state *s, const struct cpu_state *was,
		    struct err *e)
{
	union msrs m = { 0 };

	if (!was) {
		m.head.entries[m.head.nmsrs++] =
			(struct kvm_msr_entry){ .index = MSR_TSC, .data = s->tsc };
	}
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		uint64_t value = *msr_in(s, i);

		if ((v->msr_known >> i & 1) && (!was || *msr_in(was, i) != value)) {
			m.head.entries[m.head.nmsrs++] = (struct kvm_msr_entry){
				.index = cpu_msr_table[i].index, .data = value,
			};
		}
	}
	return write_msrs(v, &m, e);
}

/* --- All of it --- */

int kvm__get(struct vcpu *vcpu, struct cpu_state *ret, struct err *e)
{
	static const struct {
		int (*get)(struct kvm_vcpu *v, struct cpu_state *s);
		const char *what;
	} parts[] = {
		/* The processor state first: KVM takes INIT and SIPI in when it is asked. */
		{ get_mp, "the processor's state" }, { get_regs, "registers" },
		{ get_sregs, "control registers" }, { get_xsave, "the XSAVE area" },
		{ get_debug, "debug registers" }, { get_msrs, "MSRs" }, { get_events, "events" },
	};

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		int r = parts[i].get(kvm_vcpu(vcpu), ret);

		if (r < 0) {
			return kvm__fail(e, r, parts[i].what);
		}
	}
	return 0;
}

static int set_xsave_all(struct kvm_vcpu *v, const struct cpu_state *s)
{
	return set_xsave(v, s, false);
}

static int set_xsave_kept(struct kvm_vcpu *v, const struct cpu_state *s)
{
	return set_xsave(v, s, true);
}

struct part {
	int (*set)(struct kvm_vcpu *v, const struct cpu_state *s);
	const char *what;
	size_t first, end;   /* its members in struct cpu_state */
};

#define MEMBERS(from, to) offsetof(struct cpu_state, from), offsetof(struct cpu_state, to)

int kvm__set(struct vcpu *vcpu, const struct cpu_state *s, struct err *e)
{
	static const struct part parts[] = {
		{ set_sregs, "control registers", 0, 0 }, { set_regs, "registers", 0, 0 },
		{ set_debug, "debug registers", 0, 0 }, { set_xsave_all, "the XSAVE area", 0, 0 },
	};
	struct kvm_vcpu *v = kvm_vcpu(vcpu);
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		r = parts[i].set(v, s);
		if (r < 0) {
			return kvm__fail(e, r, parts[i].what);
		}
	}
	r = set_msrs(v, s, NULL, e);
	r = r < 0 ? r : kvm__syscall_set(v, s->msr.lstar, e);
	if (r < 0) {
		return r;
	}
	r = set_mp(v, s);
	if (r < 0) {
		return kvm__fail(e, r, "the processor's state");
	}
	r = set_events(v, s);
	return r < 0 ? kvm__fail(e, r, "events") : 0;
}

/*
 * Only what the step changed: setting some of it has effects of its own, such as a new version of
 * the paravirtual clock, for which a guest that reads it would begin again, and again.
 */
int kvm__set_stepped(struct kvm_vcpu *v, const struct cpu_state *s, const struct cpu_state *was,
		     struct err *e)
{
	static const struct part parts[] = {
		{ set_sregs, "control registers", MEMBERS(seg, xcr0) },
		{ set_regs, "registers", MEMBERS(gpr, seg) },
		{ set_debug, "debug registers", MEMBERS(dr, msr) },
		{ set_xsave_kept, "the XSAVE area", MEMBERS(xcr0, dr) },
		{ set_xsave_kept, "the XSAVE area", offsetof(struct cpu_state, xsave),
		  sizeof(struct cpu_state) },
		{ set_mp, "the processor's state", MEMBERS(mp_state, tsc) },
		{ set_events, "events", MEMBERS(events, mp_state) },
	};
	int r = set_msrs(v, s, was, e);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		const struct part *p = &parts[i];

		if (memcmp((const char *)s + p->first, (const char *)was + p->first,
			   p->end - p->first) == 0) {
			continue;
		}
		r = p->set(v, s);
		if (r < 0) {
			return kvm__fail(e, r, p->what);
		}
	}
	return 0;
}
