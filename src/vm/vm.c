/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/map.h"
#include "sys/socket.h"
#include "vm/boot/acpi.h"
#include "vm/boot/layout.h"
#include "vm/cpu/model.h"
#include "vm/replay-priv.h"
#include "vm/vm-priv.h"

const char *const vm_state_names[VM_STATE__COUNT] = {
	[VM_CREATED] = "created", [VM_RUNNING] = "running", [VM_PAUSED] = "paused",
	[VM_ENDED] = "ended",
};

const struct vm_end_desc vm_ends[VM_END__COUNT] = {
	[VM_END_NONE] = { "none", "it runs", 0 },
	[VM_END_OFF] = { "off", "the guest switched itself off", 0 },
	[VM_END_RESET] = { "reset", "the guest asked for a reset", 10 },
	[VM_END_PANIC] = { "panic", "the guest's kernel panicked", 11 },
	[VM_END_TRIPLE_FAULT] = { "triple-fault", "a vCPU of the guest had a triple fault", 12 },
	[VM_END_STOPPED] = { "stopped", "it was stopped", 13 },
	[VM_END_FAILED] = { "failed", "the engine cannot go on", 1 },
};

/* --- What vCPUs reach outside of memory --- */

static void mmio_read(void *ctx, gpa_t at, void *ret, unsigned n)
{
	struct vm *vm = ctx;
	uint64_t v = vm->replay ? vm__replay_read(vm, RLOG_MMIO, at.raw, n) :
				  bus_read(vm->mmio, at.raw, n);

	memcpy(ret, &v, n);
}

static void mmio_write(void *ctx, gpa_t at, const void *data, unsigned n)
{
	struct vm *vm = ctx;
	uint64_t v = 0;

	memcpy(&v, data, n);
	if (vm->replay) {
		vm__replay_write(vm, RLOG_MMIO, at.raw, n, v);
	} else {
		bus_write(vm->mmio, at.raw, n, v);
	}
}

static void pio_read(void *ctx, uint16_t port, void *ret, unsigned n)
{
	struct vm *vm = ctx;
	uint64_t v = vm->replay ? vm__replay_read(vm, RLOG_PIO, port, n) :
				  bus_read(vm->pio, port, n);

	memcpy(ret, &v, n);
}

static void pio_write(void *ctx, uint16_t port, const void *data, unsigned n)
{
	struct vm *vm = ctx;
	uint64_t v = 0;

	memcpy(&v, data, n);
	if (vm->replay) {
		vm__replay_write(vm, RLOG_PIO, port, n, v);
	} else {
		bus_write(vm->pio, port, n, v);
	}
}

/* --- What devices reach --- */

static void on_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct vm *vm = ctx;

	if (vm__replay_msi(vm, addr, data)) {
		/* A message that names nobody is lost, as on a real bus. */
		ignore_result(vm->engine->ops->msi(vm->engine, addr, data));
	}
}

static void on_line(void *ctx, unsigned gsi, bool level)
{
	struct vm *vm = ctx;

	if (vm__replay_line(vm, gsi, level)) {
		ignore_result(vm->engine->ops->line(vm->engine, gsi, level)); /* it is one of ours */
	}
}

static int on_ioevent(void *ctx, gpa_t at, unsigned n, int fd, bool add)
{
	struct vm *vm = ctx;

	return vm->engine->ops->ioevent ? vm->engine->ops->ioevent(vm->engine, at, n, fd, add) :
					  -EOPNOTSUPP;
}

static void on_power(void *ctx, enum power_event ev)
{
	static const enum vm_end ends[POWER_EVENT__COUNT] = {
		[POWER_OFF] = VM_END_OFF, [POWER_RESET] = VM_END_RESET,
		[POWER_PANIC] = VM_END_PANIC,
	};

	vm__ask_end(ctx, ends[ev]);
}

/* --- Events --- */

static void ended(struct vm *vm)
{
	if (vm->state == VM_ENDED) {
		return;
	}
	vm_hold(vm);
	vm->state = VM_ENDED;
	vm->end = atomic_load(&vm->end_asked);
	for (unsigned i = 0; i < vm->n_cpus && vm->end == VM_END_FAILED; i++) {
		if (vm->cpus[i].err.errnum) {
			vm->error = vm->cpus[i].err;
		}
	}
	vm__replay_ended(vm);
	/* What the guest wrote last is not lost. */
	serial_io_flush(vm->serial_io);
	if (vm->conf.ended) {
		vm->conf.ended(vm->conf.ctx, vm->end);
	}
}

static void tell_debugger(struct vm *vm)
{
	vm_debug_hold(vm);
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		struct vm_cpu *c = &vm->cpus[i];

		if (!c->stop_told && (c->stop == VCPU_STOP_BREAKPOINT ||
				      c->stop == VCPU_STOP_STEPPED ||
				      c->stop == VCPU_STOP_WATCHED)) {
			c->stop_told = true;
			if (vm->debugger) {
				vm->debugger(vm->debugger_ctx, i, c->stop);
			}
		}
	}
}

static void on_wake(struct loop_fd *src, unsigned loop_events, void *ud)
{
	struct vm *vm = ud;
	uint64_t n = 0;

	(void)src, (void)loop_events;
	ignore_result(sys_read(vm->wake_fd, &n, sizeof(n))); /* only wakes */
	unsigned events = atomic_exchange_explicit(&vm->events, 0, memory_order_acquire);

	if (events & VM_EVENT_END) {
		ended(vm);
	} else if (events & VM_EVENT_DEBUG) {
		tell_debugger(vm);
	}
}

void vm_stop(struct vm *vm, enum vm_end why)
{
	vm__ask_end(vm, why);
}

/* --- Making --- */

static int make_memory(struct vm *vm, struct err *e)
{
	uint64_t low = MIN(vm->conf.memory_bytes, LAYOUT_LOW_RAM_MAX);
	uint64_t high = vm->conf.memory_bytes - low;
	bool again = vm->conf.engine->memory_again && !vm->conf.xl.no_shadow;

	if (vm->conf.memory_file_fd > 0) {
		gmem_use_file(&vm->mem, vm->conf.memory_file_fd);
	}
	int r = gmem_add(&vm->mem, GPA(0), low, -1, 0, again, e);

	return r < 0 || high == 0 ? r : gmem_add(&vm->mem, GPA(LAYOUT_HIGH_RAM), high, -1, 0, again, e);
}

static int make_vcpu(struct vm *vm, unsigned id, struct err *e)
{
	const struct cpu_model_conf model = { .id = id, .n_vcpus = vm->conf.n_vcpus,
					      .tsc_hz = vm->engine->conf.tsc_hz };
	struct cpu_cpuid cpuid[CPU_MODEL_ENTRIES_MAX];
	struct vm_cpu *c = &vm->cpus[id];
	int r = vm->engine->ops->vcpu_new(vm->engine, id, &c->v, e);

	if (r < 0) {
		return r;
	}
	*c = (struct vm_cpu){ .vm = vm, .v = c->v, .id = id, .may_run = true };
	vm->n_cpus++;
	return vm->engine->ops->vcpu_cpuid(c->v, cpuid, cpu_model(&model, cpuid), e);
}

static int make_engine(struct vm *vm, struct err *e)
{
	vm->engine_bus = (struct engine_bus){ vm, mmio_read, mmio_write, pio_read, pio_write };
	const struct engine_conf conf = {
		.mem = &vm->mem, .bus = &vm->engine_bus, .n_vcpus = vm->conf.n_vcpus,
		.kvm_fd = vm->conf.kvm_fd, .deterministic = vm->conf.deterministic,
		.xl = vm->conf.xl,
	};
	int r = vm->conf.engine->new_(&conf, &vm->engine, e);

	for (unsigned i = 0; i < vm->conf.n_vcpus && r == 0; i++) {
		r = make_vcpu(vm, i, e);
	}
	return r;
}

static int make_buses(struct vm *vm, struct err *e)
{
	if (bus_new(&vm->mmio) < 0 || bus_new(&vm->pio) < 0) {
		return err_nomem(e);
	}
	vm->machine = (struct machine){
		.mem = &vm->mem, .loop = vm->loop, .mmio = vm->mmio, .pio = vm->pio,
		.irq = { .ctx = vm, .msi = on_msi, .line = on_line }, .ioevent = on_ioevent,
		.ctx = vm,
	};
	return pci_bus_new(&vm->machine, GPA(LAYOUT_ECAM), GPA(LAYOUT_PCI_MMIO),
			   LAYOUT_PCI_MMIO_SIZE, &vm->pci, e);
}

static int make_board(struct vm *vm, struct err *e)
{
	const struct power_conf power = {
		.sleep_port = LAYOUT_PORT_SLEEP, .reset_port = LAYOUT_PORT_RESET,
		.panic_port = LAYOUT_PORT_PANIC, .sleep_type = LAYOUT_SLEEP_S5,
		.reset_value = LAYOUT_RESET_VALUE, .button_gsi = LAYOUT_GSI_GED,
		.event = on_power, .ctx = vm,
	};
	int r = power_new(&vm->machine, &power, &vm->power, e);

	r = r < 0 ? r : serial_io_new(vm, vm->conf.serial_in_fd, vm->conf.serial_out_fd,
				      vm->conf.escape_key, &vm->serial_io, e);
	if (r < 0) {
		return r;
	}
	const struct serial_conf serial = {
		.port = SERIAL_COM1, .gsi = SERIAL_COM1_GSI, .send = serial_io_send,
		.drained = serial_io_drained, .ctx = vm->serial_io,
	};

	r = serial_new(&vm->machine, &serial, &vm->serial, e);
	return r < 0 ? r : serial_io_start(vm->serial_io, vm->serial, e);
}

static int make_loop(struct vm *vm, struct err *e)
{
	int r = loop_new(&vm->loop);

	if (r == 0) {
		vm->wake_fd = sys_eventfd(0, EFD_NONBLOCK);
		r = vm->wake_fd < 0 ? vm->wake_fd :
				      loop_fd_new(vm->loop, vm->wake_fd, LOOP_IN, on_wake, vm,
						  &vm->wake);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "event loop") : 0;
}

int vm_new(const struct vm_conf *conf, struct vm **ret, struct err *e)
{
	auto_(vm_freep) struct vm *vm = mem_new(struct vm);

	if (!vm) {
		return err_nomem(e);
	}
	vm->conf = *conf;
	vm->wake_fd = -1;
	gmem_init(&vm->mem);
	pthread_mutex_init(&vm->run_lock, NULL);
	pthread_cond_init(&vm->run_changed, NULL);
	int r = make_loop(vm, e);

	r = r < 0 ? r : make_memory(vm, e);
	r = r < 0 ? r : make_buses(vm, e);
	r = r < 0 ? r : make_engine(vm, e);
	r = r < 0 ? r : make_board(vm, e);
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&vm);
	return 0;
}

struct vm *vm_free(struct vm *vm)
{
	if (!vm) {
		return NULL;
	}
	vm__end_threads(vm);
	vm->helper = helper_free(vm->helper);
	vm->replay = vm__replay_free(vm->replay);
	vm__end_devices(vm);
	serial_free(vm->serial);
	serial_io_free(vm->serial_io);
	power_free(vm->power);
	pci_bus_free(vm->pci);
	if (vm->engine) {
		vm->engine->ops->free_(vm->engine);
	}
	bus_free(vm->mmio);
	bus_free(vm->pio);
	loop_fd_free(vm->wake);
	fd_close(&vm->wake_fd);
	loop_free(vm->loop);
	gmem_fini(&vm->mem);
	pthread_cond_destroy(&vm->run_changed);
	pthread_mutex_destroy(&vm->run_lock);
	free(vm);
	return NULL;
}

/* --- Boot --- */

static struct cpu_seg flat_segment(uint16_t selector, uint32_t type, bool long_mode)
{
	return (struct cpu_seg){
		.selector = selector, .limit = UINT32_MAX,
		.ar = type | CPU_AR_S | CPU_AR_P | CPU_AR_G |
		      (long_mode && (type & CPU_AR_CODE) ? CPU_AR_L : CPU_AR_DB),
	};
}

static void set_entry(struct cpu_state *s, const struct boot_entry *en)
{
	const uint32_t code = CPU_AR_CODE | CPU_AR_RW | CPU_AR_ACCESSED;

	s->rip = en->rip;
	s->gpr[CPU_RSI] = en->rsi;
	s->gpr[CPU_RBX] = en->rbx;
	s->rflags = CPU_FLAG_1;
	for (unsigned i = 0; i < CPU_SEG__COUNT; i++) {
		s->seg[i] = flat_segment(en->data, CPU_AR_RW | CPU_AR_ACCESSED, en->long_mode);
	}
	s->seg[CPU_CS] = flat_segment(en->code, code, en->long_mode);
	s->gdt = (struct cpu_table){ .base = en->gdt, .limit = en->gdt_limit };
	s->idt = (struct cpu_table){ 0 };
	/* A busy TSS of 32 or 64 bits: the PVH protocol asks for one. */
	s->tr = (struct cpu_seg){ .limit = 0x67, .ar = 0xb | CPU_AR_P };
	s->cr0 = CPU_CR0_PE | CPU_CR0_ET;
	if (en->long_mode) {
		s->cr0 |= CPU_CR0_PG | CPU_CR0_NE | CPU_CR0_WP;
		s->cr4 = CPU_CR4_PAE;
		s->cr3 = en->cr3;
		s->efer = CPU_EFER_LME | CPU_EFER_LMA;
	}
}

/* Memory that is filled with a kernel, from its begin, has its pages made from its end meanwhile:
 * that takes longer than to fill them. */
struct ahead {
	struct helper *helper;   /* NULL: it could not be had */
	struct iovec   at[KERNEL_SEGMENTS_MAX];
	unsigned       n;
};

#define AHEAD_BYTES ((size_t)512 << 10)   /* at a time */

static void make_pages(void *arg)
{
	const struct ahead *a = arg;

	for (unsigned i = a->n; i-- > 0;) {
		uint8_t *at = a->at[i].iov_base;
		size_t before = (uintptr_t)at % GMEM_PAGE_BYTES;
		size_t left = a->at[i].iov_len + before;

		left += -left % GMEM_PAGE_BYTES;
		while (left > 0) {
			size_t bytes = MIN(left, AHEAD_BYTES);

			left -= bytes;
			/* Without it they are made as they are filled. */
			ignore_result(sys_madvise(at - before + left, bytes, MADV_POPULATE_WRITE));
		}
	}
}

static void fills(void *ctx, const struct iovec *at, unsigned n)
{
	struct ahead *a = ctx;

	memcpy(a->at, at, n * sizeof(*at));
	a->n = n;
	if (a->helper) {
		helper_run(a->helper, make_pages, a);
	}
}

static int load(struct vm *vm, const struct kernel *k, const struct boot_conf *conf,
		struct boot_entry *ret, struct err *e)
{
	struct ahead a = { 0 };
	struct boot_conf with = *conf;
	struct err no_matter = ERR_INIT;
	int r = 0;

	ignore_result(helper_new(NULL, &a.helper, &no_matter));
	with.fills = fills;
	with.ctx = &a;
	r = boot_load(&vm->mem, k, &with, ret, e);
	helper_free(a.helper);
	return r;
}

int vm_load_kernel(struct vm *vm, const struct kernel *k, struct boot_conf *conf, struct err *e)
{
	const struct acpi_conf acpi = { .n_cpus = vm->n_cpus };
	struct cpu_state s;
	struct boot_entry entry;

	assert(vm->state == VM_CREATED);
	int r = acpi_load(&vm->mem, &acpi, &conf->rsdp, e);

	r = r < 0 ? r : load(vm, k, conf, &entry, e);
	r = r < 0 ? r : vm->engine->ops->vcpu_get(vm->cpus[0].v, &s, e);
	if (r < 0) {
		return r;
	}
	set_entry(&s, &entry);
	return vm->engine->ops->vcpu_set(vm->cpus[0].v, &s, e);
}

/* --- Running --- */

int vm_start_paused(struct vm *vm, struct err *e)
{
	assert(vm->state == VM_CREATED);
	vm->hold = true;
	int r = helper_new(vm->conf.helper_thread, &vm->helper, e);

	r = r < 0 ? r : vm__start_threads(vm, e);
	r = r < 0 ? r : vm__pause_devices(vm, e);
	vm->state = r < 0 ? VM_CREATED : VM_PAUSED;
	return r;
}

void vm_expect_load(struct vm *vm)
{
	assert(vm->state == VM_PAUSED);
	vm->expects_load = true;
}

int vm_start(struct vm *vm, struct err *e)
{
	int r = vm_start_paused(vm, e);

	return r < 0 ? r : vm_resume(vm, e);
}

static int wrong_state(const struct vm *vm, struct err *e)
{
	return err_set(e, EBUSY, ERR_CONFLICT, "the virtual machine is %s", vm_state_names[vm->state]);
}

int vm_pause(struct vm *vm, struct err *e)
{
	if (vm->state != VM_RUNNING) {
		return wrong_state(vm, e);
	}
	vm_hold(vm);
	int r = vm__pause_devices(vm, e);

	if (r < 0) {
		if (!vm->debugger_holds) {
			vm_let_go(vm, -1);
		}
		return r;
	}
	vm->state = VM_PAUSED;
	return 0;
}

int vm_resume(struct vm *vm, struct err *e)
{
	if (vm->state != VM_PAUSED) {
		return wrong_state(vm, e);
	}
	if (vm->expects_load) {
		return err_set(e, ENODATA, ERR_CONFLICT, "the virtual machine is empty: it waits for "
			       "\"restore\"");
	}
	vm->state = VM_RUNNING;
	vm__resume_devices(vm);
	if (!vm->debugger_holds) {
		vm_let_go(vm, -1);
	}
	return 0;
}

int vm_power_button(struct vm *vm, struct err *e)
{
	if (vm->state != VM_RUNNING) {
		return wrong_state(vm, e);
	}
	power_button(vm->power);
	return 0;
}

void vm_debug_hold(struct vm *vm)
{
	vm->debugger_holds = true;
	vm_hold(vm);
}

int vm_debug_go(struct vm *vm, int only, struct err *e)
{
	vm->debugger_holds = false;
	if (vm->state == VM_PAUSED) {
		vm->debugger_holds = true; /* the vCPUs below, not there */
		int r = vm_resume(vm, e);

		vm->debugger_holds = false;
		if (r < 0) {
			return r;
		}
	}
	if (vm->state != VM_RUNNING) {
		return wrong_state(vm, e);
	}
	vm_let_go(vm, only);
	return 0;
}

void vm_set_debugger(struct vm *vm, vm_debug_fn *fn, void *ctx)
{
	vm->debugger = fn;
	vm->debugger_ctx = ctx;
}

/* --- Parts --- */

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

enum vm_end vm_end(const struct vm *vm)
{
	return vm->end;
}

const char *vm_error(const struct vm *vm)
{
	return vm->error.msg;
}

struct loop *vm_loop(struct vm *vm)
{
	return vm->loop;
}

struct machine *vm_machine(struct vm *vm)
{
	return &vm->machine;
}

struct pci_bus *vm_pci(struct vm *vm)
{
	return vm->pci;
}

struct gmem *vm_mem(struct vm *vm)
{
	return &vm->mem;
}

struct engine *vm_engine(struct vm *vm)
{
	return vm->engine;
}

unsigned vm_n_vcpus(const struct vm *vm)
{
	return vm->n_cpus;
}

struct vcpu *vm_vcpu(struct vm *vm, unsigned i)
{
	assert(i < vm->n_cpus);
	return vm->cpus[i].v;
}
