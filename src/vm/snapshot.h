/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as three files: two of its memory, which can be mapped, and the state of everything
 * else (src/state; docs/formats/snapshot.md).
 *
 *	r = vm_pause(vm, e);
 *	r = vm_save(vm, &files, e);
 *
 * and in another process, of a machine that is made with the same options:
 *
 *	r = vm_new(&conf, &vm, e);                // its devices
 *	r = vm_start_paused(vm, e);
 *	vm_expect_load(vm);
 *	r = vm_load(vm, &files, e);               // the memory is mapped privately
 *	r = vm_resume(vm, e);
 *
 * All files are hostile input. What the host gives a machine (files, sockets) comes from its
 * options, never from a snapshot.
 *
 * Context: the loop's thread; the machine is paused.
 */
#ifndef VM_SNAPSHOT_H
#define VM_SNAPSHOT_H

#include "vm/vm.h"

/* Descriptors stay the caller's. */
struct snapshot_files {
	int state_fd;
	int memory_fds[GMEM_PARTS];
};

/* Into empty files. */
int vm_save(struct vm *vm, const struct snapshot_files *f, struct err *e) must_check;

/*
 * Of a machine that expects it. After a failure it still does, so nothing runs that is half there.
 */
int vm_load(struct vm *vm, const struct snapshot_files *f, struct err *e) must_check;

extern const struct state_desc vm_machine_state;

#endif
