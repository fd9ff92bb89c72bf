/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef VM_VM_PRIV_H
#define VM_VM_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "vm/dev/power.h"
#include "vm/dev/serial.h"
#include "vm/dev/virtio-pci.h"
#include "vm/helper.h"
#include "vm/serial-io.h"
#include "vm/vm.h"

/* What vCPU threads tell the loop. */
enum {
	VM_EVENT_DEBUG = 1u << 0,    /* a vCPU stopped for the debugger */
	VM_EVENT_END   = 1u << 1,    /* vm->end_asked */
};

struct vm_replay;

struct vm_cpu {
	struct vm      *vm;
	struct vcpu    *v;
	unsigned        id;
	pthread_t       thread;
	bool            has_thread;
	/* Under vm->run_lock. */
	bool            parked;
	bool            may_run;        /* the debugger lets it go */
	enum vcpu_stop  stop;           /* why it parked, for the debugger */
	bool            stop_told;
	struct err      err;
};

struct vm {
	struct vm_conf  conf;
	enum vm_state   state;
	enum vm_end     end;
	bool            expects_load;   /* it is empty */
	struct gmem     mem;
	struct loop    *loop;
	struct machine  machine;
	struct bus     *mmio, *pio;
	struct pci_bus *pci;
	struct engine  *engine;
	struct engine_bus engine_bus;
	struct serial  *serial;
	struct serial_io *serial_io;
	struct power   *power;
	struct virtio_pci *devices[VM_DEVICES_MAX];
	unsigned        n_devices;
	struct vm_cpu   cpus[VM_VCPUS_MAX];
	unsigned        n_cpus;
	struct err      error;

	int             wake_fd;        /* written by vCPU threads */
	struct loop_fd *wake;
	atomic_uint     events;         /* VM_EVENT_* */
	atomic_uint     end_asked;      /* enum vm_end; the first one counts */

	struct helper  *helper;         /* writes half of a snapshot's memory */

	pthread_mutex_t run_lock;
	pthread_cond_t  run_changed;
	bool            hold;           /* all park */
	bool            quit;

	struct vm_replay *replay;       /* it is recorded, or a replay; NULL: neither */
	vm_debug_fn    *debugger;
	bool            debugger_holds;
	void           *debugger_ctx;
};

/* Park all vCPUs, and let them, or one of them (-1: all), go. */
void vm_hold(struct vm *vm);
void vm_let_go(struct vm *vm, int only);
int  vm__start_threads(struct vm *vm, struct err *e) must_check;
void vm__end_threads(struct vm *vm);
void vm__post(struct vm *vm, unsigned event);
int  vm__pause_devices(struct vm *vm, struct err *e) must_check;
void vm__resume_devices(struct vm *vm);
void vm__end_devices(struct vm *vm);
void vm__ask_end(struct vm *vm, enum vm_end why);   /* any thread */

#endif
