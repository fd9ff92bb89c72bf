/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM without hardware virtualization runs the guest's user mode on the processor itself, and
 * shows in CPUID what the processor has, asked or not. One of them sends a SYSCALL of user mode
 * to where LSTAR points, with all registers as they should be, but for the privilege: the first
 * instruction of the guest's kernel is fetched as if by user mode, and is a page fault.
 *
 * So where CPUID shows that user mode is the processor's own, a breakpoint lies at the guest's
 * handler of page faults. A fault that came so is taken back, and the kernel entered as SYSCALL
 * does it; every other one is passed by one step of the interpreter. Nobody but SYSCALL brings a
 * guest's user mode to LSTAR with those flags cleared that SFMASK names, the interrupt flag
 * among them.
 *
 * The handler is looked up when LSTAR is written, for which writes to it come to us; and when a
 * state is set.
 *
 * Spec: SDM 2, SYSCALL; SDM 3, 6.14 (64-bit mode's frames); Linux,
 * Documentation/virt/kvm/api.rst, KVM_X86_SET_MSR_FILTER.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>

#include "sys/file.h"

enum { MSR_LSTAR = 0xc0000082, PF_PRESENT_USER = 5 };

/* What a page fault leaves on the kernel's stack. */
struct frame {
	uint64_t error, rip, cs, rflags, rsp, ss;
};

int kvm__syscall_watch(struct kvm_engine *eng, struct err *e)
{
	uint8_t denied = 0;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
				      .args = { KVM_MSR_EXIT_REASON_FILTER } };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = { { .flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = MSR_LSTAR,
			      .bitmap = &denied } },
	};

	if (eng->own_user) {
		return 0;
	}
	int r = sys_ioctl(eng->vm_fd, KVM_ENABLE_CAP, &cap);

	r = r < 0 ? r : sys_ioctl(eng->vm_fd, KVM_X86_SET_MSR_FILTER, &filter);
	eng->own_user = r == 0;
	return r < 0 ? kvm__fail(e, r, "watch LSTAR") : 0;
}

static bool read_words(struct kvm_vcpu *v, uint64_t va, uint64_t *ret, unsigned n)
{
	gpa_t at;

	for (unsigned i = 0; i < n; i++) {
		if (kvm__vcpu_translate(&v->vcpu, va + i * 8, &at) < 0 ||
		    gmem_read(v->eng->eng.conf.mem, at, &ret[i], 8) < 0) {
			return false;
		}
	}
	return true;
}

int kvm__syscall_set(struct kvm_vcpu *v, uint64_t lstar, struct err *e)
{
	struct kvm_sregs s;
	uint64_t gate[2] = { 0 };

	if (!v->eng->own_user) {
		return 0;
	}
	int r = sys_ioctl(v->fd, KVM_GET_SREGS, &s);

	if (r < 0) {
		return kvm__fail(e, r, "read control registers");
	}
	v->lstar = lstar;
	v->fault_handler = 0;
	if (lstar && (s.efer & CPU_EFER_LMA) && s.idt.limit >= CPU_PF * 16 + 15 &&
	    read_words(v, s.idt.base + CPU_PF * 16, gate, 2)) {
		v->fault_handler = (gate[0] & 0xffff) | (gate[0] >> 48) << 16 | gate[1] << 32;
	}
	return kvm__debug_apply(v, e);
}

int kvm__syscall_wrmsr(struct kvm_vcpu *v, struct err *e)
{
	int r = v->run->msr.index == MSR_LSTAR ?
			kvm__msr_set(v, MSR_LSTAR, v->run->msr.data) : -EINVAL;

	v->run->msr.error = r < 0;   /* the guest's #GP */
	v->io_pending = true;
	return r < 0 ? 0 : kvm__syscall_set(v, v->run->msr.data, e);
}

/* As SYSCALL leaves them. */
static void kernel_segments(struct cpu_state *s)
{
	const uint32_t flat = CPU_AR_P | CPU_AR_S | CPU_AR_RW | CPU_AR_ACCESSED | CPU_AR_G;
	uint16_t cs = (uint16_t)(s->msr.star >> 32) & 0xfffc;

	s->seg[CPU_CS] = (struct cpu_seg){ .limit = UINT32_MAX, .selector = cs,
					   .ar = flat | CPU_AR_CODE | CPU_AR_L };
	s->seg[CPU_SS] = (struct cpu_seg){ .limit = UINT32_MAX, .selector = (uint16_t)(cs + 8),
					   .ar = flat | CPU_AR_DB };
}

int kvm__syscall_fault(struct kvm_vcpu *v, bool *ret_entered, struct err *e)
{
	union {
		struct frame f;
		uint64_t words[sizeof(struct frame) / 8];
	} u = { 0 };
	struct cpu_state s, was;
	int r = kvm__get(&v->vcpu, &was, e);

	*ret_entered = false;
	if (r < 0 || !read_words(v, was.gpr[CPU_RSP], u.words, ARRAY_LEN(u.words)) ||
	    u.f.rip != v->lstar || was.cr2 != v->lstar || (u.f.cs & 3) != 3 ||
	    (u.f.error & PF_PRESENT_USER) != PF_PRESENT_USER ||
	    (u.f.rflags & was.msr.sfmask & ~(uint64_t)CPU_FLAG_RF)) {   /* the fault set that */
		return r;
	}
	s = was;
	s.rip = u.f.rip;
	s.gpr[CPU_RSP] = u.f.rsp;
	s.rflags = u.f.rflags & ~(uint64_t)CPU_FLAG_RF;
	kernel_segments(&s);
	*ret_entered = true;
	return kvm__set_stepped(v, &s, &was, e);
}
