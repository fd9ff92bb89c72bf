/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: a small machine on the software engine, and its page tables and descriptors. A guest
 * writes values to port 0xe9 for the log, and port 0xf4 ends the run.
 */
#ifndef VM_CPU_SOFT_TEST_VM_H
#define VM_CPU_SOFT_TEST_VM_H

#include <stdatomic.h>

#include "vm/cpu/engine.h"

enum {
	MEM_BYTES = 8 << 20,
	BASE = 0x8000, STUBS = 0x20000, AP = 0x9000,
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x5000, GDT = 0x6000, IDT = 0x10000,
	TSS = 0x6800, STACK = 0x80000, STACK0 = 0x90000,
	LOG_MAX = 4096, DATA = 0x600000,
};

struct machine_log {
	uint32_t v[LOG_MAX];
	atomic_uint n;
	atomic_bool stopped;
};

struct vm {
	struct gmem mem;
	struct engine *eng;
	struct vcpu *cpu[4];
	unsigned n_cpus;
	struct machine_log log;
	enum vcpu_stop stop;
};

struct vm *vm_new(unsigned n_cpus, bool deterministic);
/* On engine_soft or engine_interp. */
struct vm *vm_new_on(const struct engine_ops *engine, const struct engine_conf *conf);
/* Translated in this way, and not as the environment says. */
struct vm *vm_new_xl(unsigned n_cpus, bool deterministic, struct engine_xl_conf xl);
void vm_free(struct vm *vm);

/* Guest memory; it must be RAM. */
void vm_put(struct vm *vm, uint64_t at, const void *data, size_t n);
void vm_put64(struct vm *vm, uint64_t at, uint64_t v);
uint64_t vm_get64(struct vm *vm, uint64_t at);

/* vCPU 0 is to begin in long mode at BASE; others by SIPI, or with vm_long_cpu(). */
void vm_long_mode(struct vm *vm);
void vm_long_cpu(struct vm *vm, unsigned cpu, uint64_t rip, uint64_t rsp);

/* With HOLM_TEST_DIRECT it is to begin at CPL 3, with the right to use ports. */
void vm_direct_cpu(struct vm *vm, unsigned cpu);

/* vCPU 0 is to begin in real mode at BASE. */
void vm_real_mode(struct vm *vm);

/* Until the guest ends it; vm->stop is how vCPU 0 stopped. */
void vm_run(struct vm *vm);

/* The log is this. */
void vm_expect(const struct vm *vm, const uint32_t *want, size_t n);

#endif
