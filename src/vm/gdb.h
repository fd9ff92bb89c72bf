/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDB's remote protocol: a debugger stops the guest, looks at and changes registers and memory,
 * sets breakpoints and steps. Each vCPU is a thread, numbered from 1.
 *
 *	gdb vmlinux -ex 'target remote SOCKET'
 *
 * SOCKET is a unix socket, or HOST:PORT of the loopback interface.
 *
 * One debugger at a time; while one is there the machine is stopped by it alone (requests of
 * the control socket to pause still work). Addresses are virtual, by the paging of the vCPU that
 * is looked at. Watchpoints are the processor's: four, of 1, 2, 4 or 8 bytes. A debugger that leaves
 * takes its breakpoints along, and the guest goes on; one that comes to a machine that is paused
 * (--paused) starts it with "continue".
 *
 * Spec: GDB manual, appendix E, The GDB Remote Serial Protocol.
 *
 * Context: the loop's thread.
 */
#ifndef VM_GDB_H
#define VM_GDB_H

#include "vm/vm.h"

struct vm_gdb;

int vm_gdb_new(struct vm *vm, struct vm_gdb **ret, struct err *e) must_check;

/* A debugger has connected (a socket that blocks); if one is there, it finds itself closed. */
void vm_gdb_connect(struct vm_gdb *g, int own_fd);

struct vm_gdb *vm_gdb_free(struct vm_gdb *g);
AUTO_PTR(struct vm_gdb, vm_gdb_free)

#endif
