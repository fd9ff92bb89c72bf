/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: memory, buses, devices, an engine with its vCPUs, and the threads that
 * run them.
 *
 *	r = vm_new(&conf, &vm, e);              // everything that needs rights
 *	r = vm_load_kernel(vm, &boot, e);       // parses what is not trusted
 *	r = vm_start(vm, e);                    // vCPU threads
 *	r = loop_run(vm_loop(vm));              // until conf.ended
 *	vm_free(vm);
 *
 * States:
 *
 *	             vm_start()           vm_pause()
 *	VM_CREATED -------------> VM_RUNNING <--------> VM_PAUSED
 *	                               |     vm_resume()    |
 *	                               +-----> VM_ENDED <---+
 *
 *	CREATED   no vCPU has run; memory, registers and device state may be set
 *	RUNNING   vCPU threads run the guest, unless the debugger holds them
 *	PAUSED    every vCPU thread is parked, no device touches guest memory, time stands
 *	ENDED     parked for good; vm_end() says why
 *
 * Threads: one a vCPU; all else is the loop's, whom one helps to save (snapshot.h). What a vCPU's thread finds out (the guest
 * switched itself off) it posts to the loop. A vCPU thread holds no lock while it runs the guest.
 *
 * Context: the loop's thread.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "loop/loop.h"
#include "vm/boot/boot.h"
#include "vm/cpu/engine.h"
#include "vm/dev/vdev.h"

enum { VM_VCPUS_MAX = ENGINE_VCPUS_MAX, VM_DEVICES_MAX = PCI_SLOTS - 1 };

enum vm_state { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_ENDED, VM_STATE__COUNT };

extern const char *const vm_state_names[VM_STATE__COUNT];

enum vm_end {
	VM_END_NONE,
	VM_END_OFF,            /* the guest switched itself off */
	VM_END_RESET,          /* it asked for a reset */
	VM_END_PANIC,          /* its kernel panicked */
	VM_END_TRIPLE_FAULT,
	VM_END_STOPPED,        /* from outside */
	VM_END_FAILED,         /* an engine cannot go on: vm_error() */
	VM_END__COUNT,
};

struct vm_end_desc {
	const char *name;      /* "off" */
	const char *text;      /* for a person */
	int         status;    /* exit status of the monitor */
};

extern const struct vm_end_desc vm_ends[VM_END__COUNT];

struct vm_conf {
	const struct engine_ops *engine;
	int         kvm_fd;             /* /dev/kvm, borrowed; 0: the KVM engine opens it */
	uint64_t    memory_bytes;       /* a multiple of 4 KiB */
	int         memory_file_fd;     /* gmem_use_file(), borrowed; 0: none */
	unsigned    n_vcpus;
	bool        deterministic;
	struct engine_xl_conf xl;
	/* The serial port's host side: descriptors, borrowed; -1: none. */
	int         serial_in_fd, serial_out_fd;
	bool        escape_key;         /* in the serial port's input: Ctrl-A */
	/* The first thing on each vCPU's thread: it is confined there. NULL: it is not. */
	int       (*vcpu_thread)(struct err *e);
	void      (*helper_thread)(void);       /* the same of the helper's */
	/* The end of the VM, once. */
	void      (*ended)(void *ctx, enum vm_end end);
	void       *ctx;
};

struct vm;

int vm_new(const struct vm_conf *conf, struct vm **ret, struct err *e) must_check;
struct vm *vm_free(struct vm *vm);   /* ends the threads; NULL is fine. Returns NULL */
AUTO_PTR(struct vm, vm_free)

/*
 * A virtio device; `conf` is its kind's own, `name` tells it from others of its kind and is a
 * part of paths in a snapshot. Before the start. Descriptors in `conf` as with vdev_new().
 */
int vm_add_device(struct vm *vm, const struct vdev_desc *desc, const char *name, void *conf,
		  struct err *e) must_check;

/* The nth (from 0) device of a kind; NULL: there is none. */
struct vdev *vm_device(struct vm *vm, const struct vdev_desc *desc, unsigned nth);

/* ACPI tables, kernel, initrd, and the boot processor's registers. conf->rsdp is set here. */
int vm_load_kernel(struct vm *vm, const struct kernel *k, struct boot_conf *conf,
		   struct err *e) must_check;

int  vm_start(struct vm *vm, struct err *e) must_check;     /* or, with `paused`, parked */
int  vm_start_paused(struct vm *vm, struct err *e) must_check;

/* What runs in it comes by vm_load(), and until then it cannot go on. Of a paused machine. */
void vm_expect_load(struct vm *vm);

int  vm_pause(struct vm *vm, struct err *e) must_check;
int  vm_resume(struct vm *vm, struct err *e) must_check;
void vm_stop(struct vm *vm, enum vm_end why);
int  vm_power_button(struct vm *vm, struct err *e) must_check;

enum vm_state   vm_state(const struct vm *vm);
enum vm_end     vm_end(const struct vm *vm);
const char     *vm_error(const struct vm *vm);    /* of VM_END_FAILED */
struct loop    *vm_loop(struct vm *vm);
struct machine *vm_machine(struct vm *vm);
struct pci_bus *vm_pci(struct vm *vm);
struct gmem    *vm_mem(struct vm *vm);
struct engine  *vm_engine(struct vm *vm);
unsigned        vm_n_vcpus(const struct vm *vm);

/* A vCPU's registers; while all are parked or none was started. */
struct vcpu *vm_vcpu(struct vm *vm, unsigned i);

/* --- For the debugger: vCPUs that stop by themselves --- */

/* A vCPU reached a breakpoint or made its step; all are parked by then. */
typedef void vm_debug_fn(void *ctx, unsigned vcpu, enum vcpu_stop stop);

void vm_set_debugger(struct vm *vm, vm_debug_fn *fn, void *ctx);

/*
 * Park all vCPUs: the state stays, and they stay parked also if the machine is paused and resumed
 * meanwhile. Let them, or one of them (-1: all), go; a machine that is paused is resumed.
 */
void vm_debug_hold(struct vm *vm);
int  vm_debug_go(struct vm *vm, int only, struct err *e) must_check;

#endif
