/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu/engine.h"
#include "vm/cpu/soft/insn.h"

enum cpuid_reg { EAX, EBX, ECX, EDX };

/* Where CPUID shows each feature that the table names. Spec: SDM 2, CPUID; APM 3, E. */
static const struct {
	uint32_t leaf, subleaf;
	uint8_t  reg, bit;
} feature_bits[INSN_F__COUNT] = {
	[INSN_F_SSE3] = { 1, 0, ECX, 0 },       [INSN_F_PCLMUL] = { 1, 0, ECX, 1 },
	[INSN_F_SSSE3] = { 1, 0, ECX, 9 },      [INSN_F_FMA] = { 1, 0, ECX, 12 },
	[INSN_F_CX16] = { 1, 0, ECX, 13 },      [INSN_F_SSE41] = { 1, 0, ECX, 19 },
	[INSN_F_SSE42] = { 1, 0, ECX, 20 },     [INSN_F_MOVBE] = { 1, 0, ECX, 22 },
	[INSN_F_POPCNT] = { 1, 0, ECX, 23 },    [INSN_F_AES] = { 1, 0, ECX, 25 },
	[INSN_F_XSAVE] = { 1, 0, ECX, 26 },     [INSN_F_AVX] = { 1, 0, ECX, 28 },
	[INSN_F_F16C] = { 1, 0, ECX, 29 },      [INSN_F_RDRAND] = { 1, 0, ECX, 30 },
	[INSN_F_FSGSBASE] = { 7, 0, EBX, 0 },   [INSN_F_BMI1] = { 7, 0, EBX, 3 },
	[INSN_F_AVX2] = { 7, 0, EBX, 5 },       [INSN_F_BMI2] = { 7, 0, EBX, 8 },
	[INSN_F_INVPCID] = { 7, 0, EBX, 10 },   [INSN_F_RDSEED] = { 7, 0, EBX, 18 },
	[INSN_F_ADX] = { 7, 0, EBX, 19 },       [INSN_F_SMAP] = { 7, 0, EBX, 20 },
	[INSN_F_CLFLUSHOPT] = { 7, 0, EBX, 23 }, [INSN_F_CLWB] = { 7, 0, EBX, 24 },
	[INSN_F_SHA] = { 7, 0, EBX, 29 },       [INSN_F_RDPID] = { 7, 0, ECX, 22 },
	[INSN_F_SERIALIZE] = { 7, 0, EDX, 14 },
	[INSN_F_XSAVEOPT] = { 0xd, 1, EAX, 0 }, [INSN_F_XSAVEC] = { 0xd, 1, EAX, 1 },
	[INSN_F_LZCNT] = { 0x80000001, 0, ECX, 5 },
	[INSN_F_RDTSCP] = { 0x80000001, 0, EDX, 27 },
};

static uint32_t cpuid_reg(const struct cpu_cpuid *e, enum cpuid_reg reg)
{
	return reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
}

uint64_t insn_features(const struct cpu_cpuid *entries, size_t n)
{
	uint64_t features = BIT(INSN_F_NONE);

	for (size_t k = 0; k < n; k++) {
		const struct cpu_cpuid *e = &entries[k];

		for (unsigned f = 0; f < INSN_F__COUNT; f++) {
			uint32_t leaf = feature_bits[f].leaf, subleaf = feature_bits[f].subleaf;

			if (leaf && leaf == e->leaf && (!e->has_subleaf || subleaf == e->subleaf) &&
			    cpuid_reg(e, feature_bits[f].reg) & BIT(feature_bits[f].bit)) {
				features |= BIT(f);
			}
		}
	}
	return features;
}
