/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a machine (docs/formats/vmm-protocol.md): a listening socket, and the
 * connections of whoever may drive the machine. A handler for each message stands in a table.
 *
 * Context: the loop's thread.
 */
#ifndef VM_CTL_H
#define VM_CTL_H

#include "base/str.h"
#include "vm/vm.h"

struct vm_ctl;

struct vm_ctl_conf {
	/* Listens, non-blocking; borrowed; -1: none. Who can connect is served: see decision 093. */
	int   listen_fd;
	int   own_parent_fd;   /* a connection to who started us, owned, also on failure; -1: none */
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

#endif
