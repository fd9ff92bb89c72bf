/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as a guest's program, run by the translator and by the interpreter: they come to the same
 * registers and memory, and write nowhere else. Instructions are counted, so that both stop at the
 * same one.
 *
 * The first byte: bit 0: CPL 3; bits 1 and 2: how soon it is translated. The next 16 choose
 * registers. The rest is the program, which may change itself, its tables and its handlers. Those
 * skip a byte of what has faulted.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "vm/cpu/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	MEMORY = 512 << 10, CANARY = 64 << 10, CODE_MAX = 8192, INSNS = 4000, CACHE = 256 << 10,
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, GDT = 0x5000, IDT = 0x6000,
	TSS = 0x7000, STUBS = 0x8000, STACK = 0xb000, CODE = 0x10000, DATA = 0x20000,
	USER = 0x30000,
};

struct side {
	struct gmem       mem;
	struct engine    *eng;
	struct vcpu      *cpu;
	struct cpu_state  end;
	enum vcpu_stop    stop;
	uint8_t          *canary[2];
};

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz-xl: %s\n", what);
		abort();
	}
}

static void bus_mmio_read(unused_arg void *ctx, unused_arg gpa_t at, void *ret, unsigned n)
{
	memset(ret, 0x5a, n);
}

static void bus_mmio_write(unused_arg void *ctx, unused_arg gpa_t at, unused_arg const void *data,
			   unused_arg unsigned n)
{
}

static void bus_pio_read(unused_arg void *ctx, unused_arg uint16_t port, void *ret, unsigned n)
{
	memset(ret, 0xa5, n);
}

static void bus_pio_write(unused_arg void *ctx, unused_arg uint16_t port,
			  unused_arg const void *data, unused_arg unsigned n)
{
}

static int due(unused_arg void *ctx, unused_arg struct vcpu *v, const struct engine_pos *at,
	       struct engine_pos *ret_next, enum vcpu_stop *ret_stop, unused_arg struct err *e)
{
	*ret_next = (struct engine_pos){ INSNS, 0 };
	*ret_stop = VCPU_STOP_KICKED;
	return at->insns >= INSNS;
}

/* Nobody would wake it. */
static int slept(unused_arg void *ctx, unused_arg const struct engine_pos *at,
		 unused_arg uint64_t *ns, struct err *e)
{
	return err_set(e, EIO, ERR_HOST, "it sleeps");
}

/* --- The guest --- */

static void put64(struct side *s, uint64_t at, uint64_t v)
{
	memcpy(s->mem.slots[0].host + at, &v, sizeof(v));
}

static void page_tables(struct side *s)
{
	put64(s, PML4, PDPT | 7);
	put64(s, PDPT, PD | 7);
	put64(s, PD, PT | 7);
	/* RAM, then what is none; the tables are the kernel's. */
	for (uint64_t k = 0; k < 256; k++) {
		put64(s, PT + 8 * k, k << 12 | (k < CODE >> 12 ? 3 : 7));
	}
	put64(s, PT + 8 * ((DATA >> 12) + 1), (DATA + 0x1000) | 5);          /* read only */
	put64(s, PT + 8 * ((DATA >> 12) + 2), 0);
	put64(s, PT + 8 * ((DATA >> 12) + 3), (DATA + 0x3000) | 3);          /* the kernel's */
	put64(s, PT + 8 * ((DATA >> 12) + 4), CODE | 7);                    /* the program, again */
	put64(s, PT + 8 * ((DATA >> 12) + 5), BIT(63) | (DATA + 0x5000) | 7);
}

/* Skip a byte of what has faulted; with an error code, without one. */
static void handlers(struct side *s)
{
	static const uint8_t stub[] = { 0x48, 0xff, 0x04, 0x24, 0x48, 0xcf };
	static const uint8_t stub_error[] = { 0x48, 0x83, 0xc4, 0x08, 0x48, 0xff, 0x04, 0x24, 0x48,
					      0xcf };
	const uint32_t errors = 0x27d00;

	for (uint64_t v = 0; v < 32; v++) {
		bool error = errors >> v & 1;

		memcpy(s->mem.slots[0].host + STUBS + 16 * v, error ? stub_error : stub,
		       error ? sizeof(stub_error) : sizeof(stub));
	}
	for (uint64_t v = 0; v < 256; v++) {
		uint64_t at = STUBS + 16 * MIN(v, UINT64_C(31));

		put64(s, IDT + 16 * v, at | 0x10 << 16 | UINT64_C(1) << 32 | UINT64_C(0xee) << 40);
	}
	put64(s, TSS + 4, STACK);
	put64(s, TSS + 0x24, STACK);
	put64(s, GDT + 0x10, UINT64_C(0x00af9b000000ffff));
	put64(s, GDT + 0x18, UINT64_C(0x00cf93000000ffff));
	put64(s, GDT + 0x28, UINT64_C(0x00cff3000000ffff));
	put64(s, GDT + 0x30, UINT64_C(0x00affb000000ffff));
}

static uint64_t value(uint8_t what, unsigned reg)
{
	switch (what & 7) {
	case 0: return what >> 3;
	case 1: return ~(uint64_t)(what >> 3);
	case 2: return CODE + (what >> 3) * 8u;
	case 3: return DATA + 0x1000u * (what >> 5) + 0xff0u + (what >> 3 & 3) * 5u;
	case 4: return UINT64_C(0x8000000000000000) >> (what >> 3);
	case 5: return DATA + 0x1000u * (what >> 5) + (what >> 3 & 3) * 64u;
	case 6: return UINT64_C(0x0123456789abcdef) * (what + reg + 1u);
	default: return USER - 8u * (what >> 3);
	}
}

static struct cpu_seg segment(uint16_t selector, uint32_t type, unsigned dpl, bool code)
{
	return (struct cpu_seg){ .selector = selector, .limit = UINT32_MAX,
				 .ar = type | CPU_AR_S | CPU_AR_P | CPU_AR_G |
				       dpl << CPU_AR_DPL_SHIFT | (code ? CPU_AR_L : CPU_AR_DB) };
}

static void registers(struct cpu_state *c, const uint8_t *data)
{
	bool user = data[0] & 1;
	unsigned dpl = user ? 3 : 0;

	c->cr0 = CPU_CR0_PG | CPU_CR0_PE | CPU_CR0_WP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_MP;
	c->cr3 = PML4;
	c->cr4 = CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE |
		 CPU_CR4_FSGSBASE;
	c->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE;
	c->xcr0 = 7;
	c->gdt = (struct cpu_table){ GDT, 0x7f };
	c->idt = (struct cpu_table){ IDT, 4095 };
	c->tr = (struct cpu_seg){ .base = TSS, .limit = 0x67, .ar = CPU_AR_P | 11,
				  .selector = 0x40 };
	c->seg[CPU_CS] = segment((uint16_t)(user ? 0x33 : 0x10), 11, dpl, true);
	for (unsigned k = 0; k < CPU_SEG__COUNT; k++) {
		if (k != CPU_CS) {
			c->seg[k] = segment((uint16_t)(user ? 0x2b : 0x18), 3, dpl, false);
		}
	}
	for (unsigned k = 0; k < CPU_REG__COUNT; k++) {
		c->gpr[k] = value(data[1 + k], k);
	}
	c->rip = CODE;
	c->rflags = 2;
}

static void canaries(struct side *s, bool make)
{
	uint8_t *at[2] = { s->mem.slots[0].host - CANARY, s->mem.slots[0].host + MEMORY };

	for (unsigned k = 0; k < 2; k++) {
		if (make) {
			void *p = mmap(at[k], CANARY, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			s->canary[k] = p == MAP_FAILED ? NULL : p;   /* there is something */
		} else if (s->canary[k]) {
			for (size_t i = 0; i < CANARY; i++) {
				must(s->canary[k][i] == 0, "a write beside the guest's memory");
			}
			munmap(s->canary[k], CANARY);
		}
	}
}

static void run(struct side *s, const struct engine_ops *ops, const uint8_t *data, size_t size)
{
	static const struct engine_bus bus = {
		.mmio_read = bus_mmio_read, .mmio_write = bus_mmio_write,
		.pio_read = bus_pio_read, .pio_write = bus_pio_write,
	};
	static const struct engine_tape tape = {
		.replay = true, .seed = 1, .due = due, .slept = slept,
	};
	const struct engine_pos first = { INSNS, 0 };
	struct err e = ERR_INIT;
	struct engine_conf conf = { .mem = &s->mem, .bus = &bus, .n_vcpus = 1,
				    .deterministic = true,
				    .xl = { .after = 1 + (data[0] >> 1 & 3), .bytes = CACHE } };

	gmem_init(&s->mem);
	must(gmem_add(&s->mem, GPA(0), MEMORY, -1, 0, false, &e) == 0, e.msg);
	canaries(s, true);
	page_tables(s);
	handlers(s);
	memcpy(s->mem.slots[0].host + CODE, data + 17, MIN(size - 17, (size_t)CODE_MAX));
	must(ops->new_(&conf, &s->eng, &e) == 0, e.msg);
	must(ops->vcpu_new(s->eng, 0, &s->cpu, &e) == 0, e.msg);
	must(ops->vcpu_get(s->cpu, &s->end, &e) == 0, e.msg);
	registers(&s->end, data);
	must(ops->vcpu_set(s->cpu, &s->end, &e) == 0, e.msg);
	ops->set_tape(s->eng, &tape, &first);
	must(ops->vcpu_run(s->cpu, &s->stop, &e) == 0, e.msg);
	must(ops->vcpu_get(s->cpu, &s->end, &e) == 0, e.msg);
	ops->free_(s->eng);
	canaries(s, false);
}

static void same(const struct side *a, const struct side *b)
{
	must(a->stop == b->stop, "they stop differently");
	must(a->end.rip == b->end.rip, "RIP");
	must(memcmp(a->end.gpr, b->end.gpr, sizeof(a->end.gpr)) == 0, "registers");
	must(a->end.rflags == b->end.rflags, "flags");
	must(a->end.cr0 == b->end.cr0 && a->end.cr2 == b->end.cr2 && a->end.cr3 == b->end.cr3 &&
	     a->end.cr4 == b->end.cr4 && a->end.efer == b->end.efer, "control registers");
	for (unsigned k = 0; k < CPU_SEG__COUNT; k++) {
		must(a->end.seg[k].selector == b->end.seg[k].selector &&
		     a->end.seg[k].base == b->end.seg[k].base &&
		     a->end.seg[k].limit == b->end.seg[k].limit &&
		     a->end.seg[k].ar == b->end.seg[k].ar, "segments");
	}
	must(memcmp(a->end.xsave, b->end.xsave, sizeof(a->end.xsave)) == 0,
	     "x87 and vector registers");
	must(memcmp(a->mem.slots[0].host, b->mem.slots[0].host, MEMORY) == 0, "memory");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct side soft, interp;

	if (size < 18) {
		return 0;
	}
	run(&soft, &engine_soft, data, size);
	run(&interp, &engine_interp, data, size);
	same(&soft, &interp);
	gmem_fini(&soft.mem);
	gmem_fini(&interp.mem);
	return 0;
}
