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

/* The socket listens, non-blocking; borrowed. Peers of another user than `uid` are refused. */
int vm_ctl_new(struct vm *vm, int listen_fd, uid_t uid, struct vm_ctl **ret,
	       struct err *e) must_check;
struct vm_ctl *vm_ctl_free(struct vm_ctl *c);
AUTO_PTR(struct vm_ctl, vm_ctl_free)

/* Tell every connection the state. */
void vm_ctl_state_changed(struct vm_ctl *c);

/* Counters as a JSON object. */
void vm_stats(struct vm *vm, struct buf *b);

#endif
