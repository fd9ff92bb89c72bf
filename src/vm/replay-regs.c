/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/replay-regs.h"

#include <stdio.h>
#include <string.h>

struct reg {
	const char *name;
	uint16_t    off;
	uint8_t     bytes;
};

#define AT(name_, m) { name_, offsetof(struct cpu_state, m), sizeof(((struct cpu_state *)0)->m) }
#define ONE(m) AT(#m, m)
#define SEG(name, m) \
	AT(name ".base", m.base), AT(name ".limit", m.limit), AT(name ".rights", m.ar), \
	AT(name, m.selector)

/* In the order in which a person wants to see them. */
static const struct reg regs[] = {
	ONE(rip),
	AT("rax", gpr[CPU_RAX]), AT("rcx", gpr[CPU_RCX]), AT("rdx", gpr[CPU_RDX]),
	AT("rbx", gpr[CPU_RBX]), AT("rsp", gpr[CPU_RSP]), AT("rbp", gpr[CPU_RBP]),
	AT("rsi", gpr[CPU_RSI]), AT("rdi", gpr[CPU_RDI]), AT("r8", gpr[CPU_R8]),
	AT("r9", gpr[CPU_R9]), AT("r10", gpr[CPU_R10]), AT("r11", gpr[CPU_R11]),
	AT("r12", gpr[CPU_R12]), AT("r13", gpr[CPU_R13]), AT("r14", gpr[CPU_R14]),
	AT("r15", gpr[CPU_R15]),
	ONE(rflags), ONE(cr0), ONE(cr2), ONE(cr3), ONE(cr4), ONE(cr8), ONE(efer),
	SEG("es", seg[CPU_ES]), SEG("cs", seg[CPU_CS]), SEG("ss", seg[CPU_SS]),
	SEG("ds", seg[CPU_DS]), SEG("fs", seg[CPU_FS]), SEG("gs", seg[CPU_GS]),
	SEG("ldt", ldt), SEG("tr", tr),
	AT("gdt.base", gdt.base), AT("gdt.limit", gdt.limit),
	AT("idt.base", idt.base), AT("idt.limit", idt.limit),
	ONE(pdptr[0]), ONE(pdptr[1]), ONE(pdptr[2]), ONE(pdptr[3]),
	ONE(xcr0), AT("dr0", dr[0]), AT("dr1", dr[1]), AT("dr2", dr[2]), AT("dr3", dr[3]),
	ONE(dr6), ONE(dr7), ONE(tsc), ONE(mp_state),
	ONE(events.injected), ONE(events.vector), ONE(events.has_error), ONE(events.error),
	ONE(events.exception_pending), ONE(events.nmi_pending), ONE(events.nmi_masked),
	ONE(events.shadow_sti), ONE(events.shadow_mov_ss), ONE(events.debug_held),
};

enum { XSAVE_WORDS = CPU_XSAVE_BYTES / 8, XSAVE_BV = 512 };

unsigned regs_count(void)
{
	unsigned n = (unsigned)(ARRAY_LEN(regs) + cpu_msr_table_len + XSAVE_WORDS);

	assert(n <= REGS_WORDS);
	return n;
}

void regs_get(const struct cpu_state *s, uint64_t ret[REGS_WORDS])
{
	unsigned n = 0;

	memset(ret, 0, REGS_WORDS * sizeof(*ret));
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		memcpy(&ret[n++], (const uint8_t *)s + regs[i].off, regs[i].bytes);
	}
	for (size_t i = 0; i < cpu_msr_table_len; i++) {
		memcpy(&ret[n++], (const uint8_t *)&s->msr + cpu_msr_table[i].off, 8);
	}
	memcpy(&ret[n], s->xsave, CPU_XSAVE_BYTES);
	/* Which parts are as after reset is how it is kept, and nothing that a guest sees. */
	ret[n + XSAVE_BV / 8] = 0;
}

struct regs_name regs_name(unsigned i)
{
	struct regs_name name = { .text = "" };
	size_t m = i - ARRAY_LEN(regs), x = m - cpu_msr_table_len;

	if (i < ARRAY_LEN(regs)) {
		ignore_result(snprintf(name.text, sizeof(name.text), "%s", regs[i].name)); /* short */
	} else if (m < cpu_msr_table_len) {
		ignore_result(snprintf(name.text, sizeof(name.text), "%s", cpu_msr_table[m].name));
		/* as above */
	} else {
		ignore_result(snprintf(name.text, sizeof(name.text), "xsave+0x%zx", 8 * x)); /* short */
	}
	return name;
}

uint64_t regs_hash(uint64_t h, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		h = (h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h;
}

uint64_t regs_layout(void)
{
	uint64_t h = 0;

	for (unsigned i = 0; i < regs_count(); i++) {
		struct regs_name name = regs_name(i);
		uint64_t words[REGS_NAME_MAX / 8];

		memcpy(words, name.text, sizeof(words));
		h = regs_hash(h, words, ARRAY_LEN(words));
	}
	return h;
}
