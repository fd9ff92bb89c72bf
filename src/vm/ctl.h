/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who drives a machine (docs/formats/vmm-protocol.md): connections, which the machine's keeper
 * accepts and hands in. A handler for each message stands in a table.
 *
 * Context: the loop's thread.
 */
#ifndef VM_CTL_H
#define VM_CTL_H

#include "base/str.h"
#include "vm/vm.h"

struct vm_ctl;
struct vm_gdb;

struct vm_ctl_conf {
	/* To the keeper, who vouches for the others (decision 103); owned, also on failure; -1: none. */
	int            own_parent_fd;
	struct vm_gdb *gdb;    /* gets the debuggers; borrowed; NULL: none */
};

int vm_ctl_new(struct vm *vm, const struct vm_ctl_conf *conf, struct vm_ctl **ret,
	       struct err *e) must_check;
struct vm_ctl *vm_ctl_free(struct vm_ctl *c);
AUTO_PTR(struct vm_ctl, vm_ctl_free)

/* Tell every connection the state. */
void vm_ctl_state_changed(struct vm_ctl *c);

/*
 * The guest connects to a port of the host: the ask() of struct vsock_conf. `c` may be NULL, when
 * everything is refused. With the device's lock held.
 */
void vm_ctl_vsock_ask(struct vm_ctl *c, struct vdev *d, uint32_t port, uint64_t ticket);

/* Counters as a JSON object. */
void vm_stats(struct vm *vm, struct buf *b);

/* Those of the engine as text, a line each, group after group; those that are 0 are left out. */
void vm_engine_stats(struct vm *vm, struct buf *b);

#endif
