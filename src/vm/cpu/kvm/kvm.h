/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM engine's insides. Local APICs are the kernel's; the I/O APIC is our own where KVM can
 * split the two, else the kernel's as well.
 *
 *	kvm.c     the VM: memory, interrupts, clock, dirty log
 *	vcpu.c    the loop of one vCPU and its exits
 *	regs.c    a vCPU's state to KVM's structs and back
 *	routes.c  interrupts by eventfd
 *	lapic.c   interrupt controllers' state likewise
 *	cpuid.c   the model, filtered by what KVM has
 *	gap.c     instructions that KVM's own emulator does not know
 *	syscall.c entering the guest's kernel, where KVM itself does not do it right
 *	probe.c   does it work, and is it fast?
 *
 * Spec: Linux, Documentation/virt/kvm/api.rst.
 */
#ifndef VM_CPU_KVM_KVM_H
#define VM_CPU_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "vm/cpu/engine.h"

enum {
	KVM__MSRS_MAX = 64,
	/* Of 64 bits each: more are given for vCPUs that run with everything new in them. */
	KVM__XSAVE_BYTES = 4096,
};

struct kvm_route {
	uint64_t addr;
	uint32_t data;
	bool     on;
};

/* The I/O APIC's pins, as far as it is ours, and messages. */
struct kvm_routes {
	pthread_mutex_t  lock;
	struct kvm_route to[ENGINE_ROUTES_MAX];
	uint32_t         pin_fds;       /* pins that an eventfd raises */
};

struct kvm_engine {
	struct engine eng;
	int           kvm_fd, vm_fd;
	bool          split;            /* the I/O APIC is ours */
	bool          x2apic_ids;       /* APIC ids have 32 bits in KVM_GET_LAPIC */
	bool          sregs2;
	bool          log;
	bool          own_user;         /* user mode is the processor's own: syscall.c */
	struct kvm_routes routes;
	size_t        run_bytes;
	uint64_t      tsc_hz;           /* of the vCPUs; known with the first one */
	struct ioapic *ioapic;          /* split */
	struct kvm_vcpu *cpus[ENGINE_VCPUS_MAX];
	struct engine *helper;          /* software engine for gaps */
	struct kvm_cpuid2 *supported;
};

struct kvm_vcpu {
	struct vcpu     vcpu;
	struct kvm_engine *eng;
	int             fd;
	struct kvm_run *run;
	atomic_bool     kicked;
	_Atomic(pid_t)  tid;            /* thread that is in vcpu_run(); 0: none */
	bool            io_pending;     /* KVM has to be entered to finish an access */
	bool            has_xsave;
	uint64_t        components;     /* CPU_XCR0_*, that the interpreter keeps for it */
	uint64_t        msr_known;      /* bits by the index in cpu_msr_table */
	struct vcpu_debug debug;
	unsigned        first_watch;    /* debug register of the first one */
	uint64_t        skip_rip;       /* breakpoint that was reported: pass it once */
	bool            skip;
	bool            over;           /* this step passes it */
	uint64_t        lstar, fault_handler; /* syscall.c; no breakpoint at 0 */
	struct vcpu    *helper;         /* gap.c; made at the first one */
	uint8_t         held;           /* events.debug_held, which KVM has no place for: gap.c */
	uint64_t        gaps;           /* instructions that were stepped there */
	struct cpu_cpuid *cpuid;        /* as it was given: for the helper */
	size_t          n_cpuid;
};

static inline struct kvm_engine *kvm_engine(struct engine *e)
{
	return container_of(e, struct kvm_engine, eng);
}

static inline struct kvm_vcpu *kvm_vcpu(struct vcpu *v)
{
	return container_of(v, struct kvm_vcpu, vcpu);
}

/* ioctls with a number for an argument. */
int kvm__ioctl_n(int fd, unsigned long request, unsigned long n) must_check;

/* An error of a KVM call, with its name. */
int kvm__fail(struct err *e, int r, const char *call) must_check;

/* cpuid.c */
int kvm__cpuid(struct vcpu *v, const struct cpu_cpuid *entries, size_t n, struct err *e) must_check;
struct kvm_cpuid2 *kvm__supported(int kvm_fd) must_check;

/* regs.c */
int  kvm__get(struct vcpu *v, struct cpu_state *ret, struct err *e) must_check;
int  kvm__set(struct vcpu *v, const struct cpu_state *s, struct err *e) must_check;
/* What differs from `was`; time goes on: the TSC is left alone. */
int  kvm__set_stepped(struct kvm_vcpu *v, const struct cpu_state *s, const struct cpu_state *was,
		      struct err *e) must_check;
void kvm__msrs_find(struct kvm_vcpu *v);
int  kvm__msr_get(struct kvm_vcpu *v, uint32_t index, uint64_t *ret) must_check;
int  kvm__msr_set(struct kvm_vcpu *v, uint32_t index, uint64_t value) must_check;

/* lapic.c */
int kvm__irq_get(struct engine *eng, struct irq_state *ret, struct err *e) must_check;
int kvm__irq_set(struct engine *eng, const struct irq_state *s, struct err *e) must_check;

/* routes.c */
void kvm__routes_pin(struct kvm_engine *eng, unsigned pin, bool unmasked, uint64_t addr,
		     uint32_t data);
int  kvm__route(struct engine *eng, unsigned route, uint64_t addr, uint32_t data, bool on) must_check;
int  kvm__irqfd(struct engine *eng, unsigned route, int fd, bool add) must_check;

/* vcpu.c */
int  kvm__vcpu_new(struct engine *eng, unsigned id, struct vcpu **ret, struct err *e) must_check;
void kvm__vcpu_free(struct kvm_vcpu *v);
int  kvm__vcpu_run(struct vcpu *v, enum vcpu_stop *ret, struct err *e) must_check;
void kvm__vcpu_kick(struct vcpu *v);
int  kvm__vcpu_debug(struct vcpu *v, const struct vcpu_debug *d, struct err *e) must_check;
int  kvm__vcpu_translate(struct vcpu *v, uint64_t va, gpa_t *ret) must_check;
int  kvm__kick_setup(void) must_check;

/* Set the breakpoints that are wanted now. */
int  kvm__debug_apply(struct kvm_vcpu *v, struct err *e) must_check;

/* syscall.c */
int  kvm__syscall_watch(struct kvm_engine *eng, struct err *e) must_check;
int  kvm__syscall_wrmsr(struct kvm_vcpu *v, struct err *e) must_check;
int  kvm__syscall_set(struct kvm_vcpu *v, uint64_t lstar, struct err *e) must_check;
/* At the first instruction of the fault's handler; *ret_entered: it was a SYSCALL. */
int  kvm__syscall_fault(struct kvm_vcpu *v, bool *ret_entered, struct err *e) must_check;

/*
 * gap.c: run the instruction at RIP with the software engine's interpreter. 0, or 1 if it was a
 * triple fault; the guest's own faults are delivered like any others.
 */
int  kvm__gap(struct kvm_vcpu *v, struct err *e) must_check;
int  kvm__gap_init(struct kvm_engine *eng, struct err *e) must_check;
void kvm__gap_fini(struct kvm_engine *eng);

#endif
