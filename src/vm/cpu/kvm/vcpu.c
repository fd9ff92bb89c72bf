/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vCPU: entering the guest, and what makes it come back.
 *
 * A kick sets a flag that KVM looks at on its way in, and sends a signal for a guest that is in
 * already. KVM finishes an access to a device only when it is entered again: so before
 * vcpu_run() returns after one, it is entered once more with the flag set.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/map.h"

enum { KICK_SIGNAL = SIGUSR2, HW_BREAKPOINTS = 4 };

static void kick_arrives(int sig)
{
	(void)sig;   /* its arrival ends KVM_RUN */
}

int kvm__kick_setup(void)
{
	struct sigaction act = { .sa_handler = kick_arrives };

	return sigaction(KICK_SIGNAL, &act, NULL) < 0 ? -errno : 0;
}

void kvm__vcpu_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu(vcpu);
	volatile uint8_t *immediate = &v->run->immediate_exit;

	/* The flag is cleared in the opposite order by take_kick(). */
	atomic_store(&v->kicked, true);
	*immediate = 1;
	atomic_thread_fence(memory_order_seq_cst);
	pid_t tid = atomic_load(&v->tid);

	if (tid) {
		(void)syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL); /* gone: not running */
	}
}

/* Whoever made this thread may have blocked all signals, and KVM would not see one then. */
static void let_kicks_in(void)
{
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &kick, NULL); /* the set is good */
}

static bool take_kick(struct kvm_vcpu *v)
{
	volatile uint8_t *immediate = &v->run->immediate_exit;

	*immediate = 0;
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_exchange(&v->kicked, false);
}

/* --- Making one --- */

void kvm__vcpu_free(struct kvm_vcpu *v)
{
	if (!v) {
		return;
	}
	if (v->run) {
		ignore_result(sys_munmap(v->run, v->eng->run_bytes)); /* it was mapped so */
	}
	fd_close(&v->fd);
	free(v->cpuid);
	free(v);
}

/* Run at the rate that the VM has, if the hardware can; nearly the same is the same. */
static int set_rate(struct kvm_vcpu *v, struct err *e)
{
	uint64_t want = v->eng->eng.conf.tsc_hz;
	int khz = kvm__ioctl_n(v->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0) {
		return kvm__fail(e, khz < 0 ? khz : -EIO, "read the TSC's rate");
	}
	uint64_t have = (uint64_t)khz * 1000;

	if (want && (want > have + have / 4000 || want < have - have / 4000)) {
		int r = kvm__ioctl_n(v->fd, KVM_SET_TSC_KHZ, want / 1000);

		if (r < 0) {
			return err_set(e, -r, ERR_UNSUPPORTED,
				       "this host cannot run a TSC at %llu kHz; its own has %d",
				       (unsigned long long)want / 1000, khz);
		}
		have = want;
	}
	v->eng->tsc_hz = have;
	return 0;
}

static int start(struct kvm_vcpu *v, struct err *e)
{
	void *run;
	struct cpu_state s;

	v->fd = kvm__ioctl_n(v->eng->vm_fd, KVM_CREATE_VCPU, v->vcpu.id);
	if (v->fd < 0) {
		return kvm__fail(e, v->fd, "create a vCPU");
	}
	int r = sys_mmap(v->eng->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0, &run);

	if (r < 0) {
		return kvm__fail(e, r, "map a vCPU's page");
	}
	v->run = run;
	r = set_rate(v, e);
	if (r < 0) {
		return r;
	}
	if (!v->eng->helper) {
		r = kvm__gap_init(v->eng, e);
		if (r < 0) {
			return r;
		}
	}
	kvm__msrs_find(v);
	/* KVM's own state after reset differs from ours in small things. */
	cpu_state_reset(&s, v->vcpu.id == 0);
	return kvm__set(&v->vcpu, &s, e);
}

int kvm__vcpu_new(struct engine *e, unsigned id, struct vcpu **ret, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);

	if (id >= ENGINE_VCPUS_MAX || eng->cpus[id]) {
		return err_set(err, EEXIST, ERR_INVALID, "vCPU %u", id);
	}
	struct kvm_vcpu *v = mem_new(struct kvm_vcpu);

	if (!v) {
		return err_nomem(err);
	}
	v->vcpu = (struct vcpu){ .ops = &engine_kvm, .eng = e, .id = id };
	v->eng = eng;
	v->fd = -1;
	int r = start(v, err);

	if (r < 0) {
		kvm__vcpu_free(v);
		return r;
	}
	eng->cpus[id] = v;
	*ret = &v->vcpu;
	return 0;
}

/* --- Exits --- */

static void exit_pio(struct kvm_vcpu *v)
{
	const struct engine_bus *bus = &v->eng->eng.bus;
	uint8_t *data = (uint8_t *)v->run + v->run->io.data_offset;
	unsigned bytes = v->run->io.size;

	for (uint32_t i = 0; i < v->run->io.count; i++, data += bytes) {
		if (v->run->io.direction == KVM_EXIT_IO_IN) {
			bus->pio_read(bus->ctx, v->run->io.port, data, bytes);
		} else {
			bus->pio_write(bus->ctx, v->run->io.port, data, bytes);
		}
	}
	v->io_pending = true;
}

static void mmio(struct kvm_vcpu *v, uint64_t at, uint8_t *data, unsigned bytes, bool write)
{
	const struct engine_bus *bus = &v->eng->eng.bus;
	uint32_t word = 0;

	if (v->eng->split && at - IOAPIC_BASE < IOAPIC_BYTES) {
		if (write) {
			memcpy(&word, data, bytes < 4 ? bytes : 4);
			ioapic_mmio_write(v->eng->ioapic, (uint32_t)(at - IOAPIC_BASE), word);
		} else {
			word = ioapic_mmio_read(v->eng->ioapic, (uint32_t)(at - IOAPIC_BASE));
			memcpy(data, &word, bytes < 4 ? bytes : 4);
		}
	} else if (write) {
		bus->mmio_write(bus->ctx, GPA(at), data, bytes);
	} else {
		bus->mmio_read(bus->ctx, GPA(at), data, bytes);
	}
}

static void exit_mmio(struct kvm_vcpu *v)
{
	uint64_t at = v->run->mmio.phys_addr;
	unsigned bytes = v->run->mmio.len;

	if (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) {
		mmio(v, at, v->run->mmio.data, bytes, v->run->mmio.is_write);
	} else {
		/* A piece of an access that crosses a page. */
		for (unsigned i = 0; i < bytes && i < sizeof(v->run->mmio.data); i++) {
			mmio(v, at + i, v->run->mmio.data + i, 1, v->run->mmio.is_write);
		}
	}
	v->io_pending = true;
}

static int failed(const struct kvm_vcpu *v, struct err *e, const char *what, uint64_t detail)
{
	return err_set(e, EIO, ERR_HOST, "vCPU %u: KVM: %s 0x%llx", v->vcpu.id, what,
		       (unsigned long long)detail);
}

enum { GO_ON = 0, STOP = 1 };

static bool at_breakpoint(const struct kvm_vcpu *v, uint64_t pc)
{
	for (unsigned i = 0; i < v->debug.n_breakpoints; i++) {
		if (v->debug.breakpoints[i] == pc) {
			return true;
		}
	}
	return false;
}

/* The guest came to `pc`, by a step or onto a breakpoint. */
static int came_to(struct kvm_vcpu *v, uint64_t pc, enum vcpu_stop *ret, struct err *e)
{
	bool over = v->over;

	v->over = v->skip = false;
	if (at_breakpoint(v, pc)) {
		v->skip = true;
		v->skip_rip = pc;
		*ret = VCPU_STOP_BREAKPOINT;
		return STOP;
	}
	if (v->debug.step) {
		*ret = VCPU_STOP_STEPPED;
		return STOP;
	}
	return over ? kvm__debug_apply(v, e) : GO_ON;
}

static int step_in_interpreter(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	struct kvm_regs regs;
	int r = kvm__gap(v, e);

	if (r == 1) {
		*ret = VCPU_STOP_SHUTDOWN;
		return STOP;
	}
	if (r < 0 || !(v->debug.step || v->debug.n_breakpoints)) {
		return r;
	}
	r = sys_ioctl(v->fd, KVM_GET_REGS, &regs);
	return r < 0 ? kvm__fail(e, r, "read registers") : came_to(v, regs.rip, ret, e);
}

/* One of the debugger's watches, by the register that it has. */
static bool watched(struct kvm_vcpu *v)
{
	for (unsigned k = 0; k < v->debug.n_watches; k++) {
		if (v->run->debug.arch.dr6 >> v->first_watch & BIT(k)) {
			v->vcpu.watch_hit = k;
			v->over = v->skip = false;
			return true;
		}
	}
	return false;
}

/* The breakpoint at the handler of page faults is ours, but where it is the debugger's, too. */
static int exit_debug(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	uint64_t pc = v->run->debug.arch.pc;
	bool entered = false;
	int r = 0;

	if (watched(v)) {
		*ret = VCPU_STOP_WATCHED;
		return STOP;
	}
	if (v->fault_handler && pc == v->fault_handler) {
		r = kvm__syscall_fault(v, &entered, e);
	}
	if (r < 0) {
		return r;
	}
	if (entered) {
		return came_to(v, v->lstar, ret, e);
	}
	return pc == v->fault_handler && !v->debug.step && !at_breakpoint(v, pc) ?
		       step_in_interpreter(v, ret, e) : came_to(v, pc, ret, e);
}

static int exit_internal(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	if (v->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		return failed(v, e, "internal error", v->run->internal.suberror);
	}
	return step_in_interpreter(v, ret, e);
}

/* GO_ON, STOP with *ret, or -errno. */
static int handle(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		exit_pio(v);
		return GO_ON;
	case KVM_EXIT_MMIO:
		exit_mmio(v);
		return GO_ON;
	case KVM_EXIT_IOAPIC_EOI:
		ioapic_eoi(v->eng->ioapic, v->run->eoi.vector);
		return GO_ON;
	case KVM_EXIT_DEBUG:
		return exit_debug(v, ret, e);
	case KVM_EXIT_X86_WRMSR:
		return kvm__syscall_wrmsr(v, e);
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_SYSTEM_EVENT:
		*ret = VCPU_STOP_SHUTDOWN;
		return STOP;
	case KVM_EXIT_INTERNAL_ERROR:
		return exit_internal(v, ret, e);
	case KVM_EXIT_FAIL_ENTRY:
		return failed(v, e, "entry refused, reason",
			      v->run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_UNKNOWN:
		return failed(v, e, "unknown exit", v->run->hw.hardware_exit_reason);
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_TPR_ACCESS:
	case KVM_EXIT_HLT:
		return GO_ON;
	default:
		return failed(v, e, "exit", v->run->exit_reason);
	}
}

/* Let KVM finish the access that it waits for. */
static int settle(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	volatile uint8_t *immediate = &v->run->immediate_exit;
	int r = GO_ON;

	while (v->io_pending && r == GO_ON) {
		v->io_pending = false;
		*immediate = 1;
		int run = kvm__ioctl_n(v->fd, KVM_RUN, 0);

		if (run == 0) {
			r = handle(v, ret, e);
		} else if (run != -EINTR) {
			return kvm__fail(e, run, "finish an access");
		}
	}
	*immediate = atomic_load(&v->kicked);
	return r;
}

static int run(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	for (;;) {
		if (take_kick(v)) {
			*ret = VCPU_STOP_KICKED;
			return settle(v, ret, e);
		}
		if (v->held) {
			int held = step_in_interpreter(v, ret, e);

			if (held != GO_ON) {
				return held;
			}
			continue;
		}
		v->io_pending = false;
		int r = kvm__ioctl_n(v->fd, KVM_RUN, 0);

		if (r == -EINTR || r == -EAGAIN) {
			continue;
		}
		if (r < 0) {
			return kvm__fail(e, r, "run a vCPU");
		}
		r = handle(v, ret, e);
		if (r != GO_ON) {
			return r;
		}
	}
}

/* Before the first instruction: breakpoints are set, or the vCPU stands at one. */
static int begin_debug(struct kvm_vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	struct kvm_regs regs;

	if (!v->debug.step && !v->debug.n_breakpoints && !v->debug.n_watches) {
		return GO_ON;
	}
	int r = sys_ioctl(v->fd, KVM_GET_REGS, &regs);

	if (r < 0) {
		return kvm__fail(e, r, "read registers");
	}
	v->skip = v->skip && v->skip_rip == regs.rip;
	if (!v->skip && at_breakpoint(v, regs.rip)) {
		return came_to(v, regs.rip, ret, e);
	}
	return kvm__debug_apply(v, e);
}

int kvm__vcpu_run(struct vcpu *vcpu, enum vcpu_stop *ret, struct err *e)
{
	struct kvm_vcpu *v = kvm_vcpu(vcpu);
	int r = begin_debug(v, ret, e);

	if (r == GO_ON) {
		let_kicks_in();
		atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
		r = run(v, ret, e);
		atomic_store(&v->tid, 0);
	}
	if (r < 0) {
		*ret = VCPU_STOP_FAILED;
	}
	return r < 0 ? r : 0;
}

/* --- Debugging --- */

/* Kind as in DR7: 0 an instruction, 1 a write, 3 a read or a write. */
static void add_debugreg(struct kvm_guest_debug *dbg, unsigned k, uint64_t va, unsigned kind,
			 unsigned bytes)
{
	uint64_t len = bytes == 8 ? 2 : bytes - 1;

	dbg->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	dbg->arch.debugreg[k] = va;
	dbg->arch.debugreg[7] |= 0x400 | UINT64_C(2) << k * 2 | (kind | len << 2) << (16 + 4 * k);
}

/*
 * Watches have registers of their own, behind those of breakpoints.
 *
 * A breakpoint that was reported is passed by one step with no breakpoints set; then they are
 * set again. With more of them than the processor has registers, every instruction is a step.
 */
int kvm__debug_apply(struct kvm_vcpu *v, struct err *e)
{
	struct kvm_guest_debug dbg = { 0 };
	const struct vcpu_debug *d = &v->debug;
	unsigned n = 0;

	v->over = v->skip;
	if (d->step || v->over ||
	    d->n_breakpoints + d->n_watches + (v->fault_handler != 0) > HW_BREAKPOINTS) {
		dbg.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	} else {
		for (unsigned i = 0; i < d->n_breakpoints; i++) {
			add_debugreg(&dbg, n++, d->breakpoints[i], 0, 1);
		}
		if (v->fault_handler) {
			add_debugreg(&dbg, n++, v->fault_handler, 0, 1);
		}
	}
	v->first_watch = n;
	for (unsigned i = 0; i < d->n_watches; i++) {
		add_debugreg(&dbg, n++, d->watches[i].va, d->watches[i].on_read ? 3 : 1,
			     d->watches[i].bytes);
	}
	int r = sys_ioctl(v->fd, KVM_SET_GUEST_DEBUG, &dbg);

	return r < 0 ? kvm__fail(e, r, "set breakpoints") : GO_ON;
}

int kvm__vcpu_debug(struct vcpu *vcpu, const struct vcpu_debug *d, struct err *e)
{
	struct kvm_vcpu *v = kvm_vcpu(vcpu);

	if (d->n_breakpoints > VCPU_BREAKPOINTS_MAX) {
		return err_set(e, EINVAL, ERR_LIMIT, "more than %d breakpoints",
			       VCPU_BREAKPOINTS_MAX);
	}
	v->debug = *d;
	v->skip = v->skip && at_breakpoint(v, v->skip_rip);
	return kvm__debug_apply(v, e);
}

int kvm__vcpu_translate(struct vcpu *vcpu, uint64_t va, gpa_t *ret)
{
	struct kvm_translation t = { .linear_address = va };
	int r = sys_ioctl(kvm_vcpu(vcpu)->fd, KVM_TRANSLATE, &t);

	if (r < 0 || !t.valid) {
		return -EFAULT;
	}
	*ret = GPA(t.physical_address);
	return 0;
}
