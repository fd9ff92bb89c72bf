/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor that a guest sees: x86-64-v3 as far as the host has it, and nothing that one of
 * the engines cannot do. It calls itself an Intel processor that is not subject to the known
 * speculation faults, so that kernels turn off their slow defences; under the software engine
 * that is simply true, and under KVM the host's own kernel defends the host.
 */
#ifndef VM_CPU_MODEL_H
#define VM_CPU_MODEL_H

#include "vm/cpu/engine.h"

enum {
	CPU_MODEL_ENTRIES_MAX = 48,
	CPU_MODEL_PHYS_BITS   = 40,
	CPU_MODEL_SIGNATURE   = 0x000806f8,   /* CPUID.1:EAX */
};

/* Of IA32_ARCH_CAPABILITIES: none of the known faults. */
#define CPU_MODEL_ARCH_CAPS UINT64_C(0x400000000d10e17b)

struct cpu_model_conf {
	unsigned id, n_vcpus;
	uint64_t tsc_hz;
};

/*
 * The entries of one vCPU, by what the host can do (the software engine runs vector instructions
 * on it, so they are limited by it).
 *
 * @ret  room for CPU_MODEL_ENTRIES_MAX
 *
 * Returns how many.
 */
size_t cpu_model(const struct cpu_model_conf *conf, struct cpu_cpuid *ret);

/* The entry that answers, by the rules of CPUID for leaves that are not there; NULL: zeroes. */
const struct cpu_cpuid *cpu_model_find(const struct cpu_cpuid *entries, size_t n, uint32_t leaf,
				       uint32_t subleaf);

#endif
