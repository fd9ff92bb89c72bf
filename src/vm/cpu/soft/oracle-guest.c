/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"
#include "vm/cpu/soft/oracle-guest.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/test-translate.h"

enum {
	MEMORY = 4 << 20,
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT_CODE = 0x4000, PT_DATA = 0x5000,
	PDPT_KERNEL = 0x6000, PD_KERNEL = 0x7000, GDT = 0x8000, IDT = 0x9000, TSS = 0xa000,
	LDT = 0xb000, STUBS = 0xc000, STACK = 0x10000, CODE = 0x20000, DATA = 0x30000,
};

#define KERNEL UINT64_C(0xffff800000000000)

static struct gmem memory;
static struct engine *engine;
static struct vcpu *vcpu;
static struct soft_cpu *cpu;

static void mmio_read(unused_arg void *ctx, unused_arg gpa_t at, void *ret, unsigned bytes)
{
	memset(ret, 0xff, bytes);
}

static void mmio_write(unused_arg void *ctx, unused_arg gpa_t at, unused_arg const void *data,
		       unused_arg unsigned bytes)
{
}

static void pio_read(unused_arg void *ctx, unused_arg uint16_t port, void *ret, unsigned bytes)
{
	memset(ret, 0xff, bytes);
}

static void pio_write(unused_arg void *ctx, unused_arg uint16_t port, unused_arg const void *data,
		      unused_arg unsigned bytes)
{
	engine_soft.vcpu_kick(vcpu);
}

static uint8_t *at_gpa(uint64_t gpa)
{
	return memory.slots[0].host + gpa;
}

static void put64(uint64_t at, uint64_t v)
{
	memcpy(at_gpa(at), &v, 8);
}

static void tables(void)
{
	put64(PML4, PDPT | 7);
	put64(PML4 + 256 * 8, PDPT_KERNEL | 3);
	put64(PDPT_KERNEL, PD_KERNEL | 3);
	put64(PD_KERNEL, 0x83);
	put64(PDPT, PD | 7);
	put64(PD + 8 * (STEP_CODE >> 21), PT_CODE | 7);
	put64(PD + 8 * (STEP_DATA >> 21), PT_DATA | 7);
	for (unsigned k = 0; k + 1 < STEP_CODE_PAGES; k++) {
		put64(PT_CODE + 8 * ((STEP_CODE >> 12 & 511) + k), (CODE + 4096 * k) | 7);
	}
	for (unsigned k = 0; k < STEP_DATA_PAGES; k++) {
		uint64_t bits = step_data_pages[k] == STEP_WRITE ? 7 :
				step_data_pages[k] == STEP_READ ? 5 : 0;
		uint64_t at = PT_DATA + 8 * ((STEP_DATA >> 12 & 511) + k);

		put64(at, BIT(63) | (DATA + 4096 * k) | bits);
	}
	put64(GDT + 0x10, UINT64_C(0x00af9b000000ffff));
	put64(GDT + 0x18, UINT64_C(0x00cf93000000ffff));
	put64(GDT + 0x20, UINT64_C(0x00cffb000000ffff));
	put64(GDT + 0x28, UINT64_C(0x00cff3000000ffff));
	put64(GDT + 0x30, UINT64_C(0x00affb000000ffff));
	put64(GDT + 0x78, UINT64_C(0x0040f50000000000));
	put64(LDT, UINT64_C(0x1000fb100000ffff));
	put64(LDT + 8, UINT64_C(0x1000f32000000000) | STEP_DS_16_LIMIT);
	for (uint64_t v = 0; v < 256; v++) {
		uint64_t at = KERNEL + STUBS + 16 * v, dpl = v == CPU_BP || v == CPU_OF ? 3 : 0;

		put64(IDT + 16 * v, (at & 0xffff) | 0x10 << 16 | (0x8e | dpl << 5) << 40 |
				    (at >> 16 & 0xffff) << 48);
		put64(IDT + 16 * v + 8, at >> 32);
		memcpy(at_gpa(STUBS + 16 * v), "\xe6\xf4\xf4", 3);   /* OUT 0xf4, AL */
	}
	put64(TSS + 4, KERNEL + STACK);
	put64(TSS + 0x60, UINT64_C(0x68) << 48);   /* no I/O permissions */
}

struct soft_cpu *guest_new(void)
{
	static const struct engine_bus bus = { .mmio_read = mmio_read, .mmio_write = mmio_write,
					       .pio_read = pio_read, .pio_write = pio_write };
	struct engine_conf conf = { .mem = &memory, .bus = &bus, .n_vcpus = 1,
				    .xl = test_translate() };
	struct err e = ERR_INIT;

	gmem_init(&memory);
	assert_int_equal(gmem_add(&memory, GPA(0), MEMORY, -1, 0, false, &e), 0);
	assert_int_equal(engine_soft.new_(&conf, &engine, &e), 0);
	assert_int_equal(engine_soft.vcpu_new(engine, 0, &vcpu, &e), 0);
	cpu = container_of(vcpu, struct soft_cpu, vcpu);
	tables();
	cpu->s.cr0 = CPU_CR0_PG | CPU_CR0_PE | CPU_CR0_WP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_MP |
		     CPU_CR0_AM;
	cpu->s.cr3 = PML4;
	cpu->s.cr4 = CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT |
		     CPU_CR4_OSXSAVE | CPU_CR4_FSGSBASE | CPU_CR4_SMEP | CPU_CR4_SMAP;
	cpu->s.efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE;
	cpu->s.xcr0 = 7;
	cpu->s.gdt = (struct cpu_table){ KERNEL + GDT, 0x7f };
	cpu->s.idt = (struct cpu_table){ KERNEL + IDT, 4095 };
	cpu->s.tr = (struct cpu_seg){ .base = KERNEL + TSS, .limit = 0x67, .ar = CPU_AR_P | 11,
				      .selector = 0x40 };
	cpu->s.ldt = (struct cpu_seg){ .base = KERNEL + LDT, .limit = 15, .ar = CPU_AR_P | 2,
				       .selector = 0x50 };
	cpu->s.mp_state = CPU_MP_RUNNABLE;
	return cpu;
}

void guest_free(void)
{
	engine_soft.free_(engine);
	gmem_fini(&memory);
}

uint8_t *guest_data(uint64_t at)
{
	return at_gpa(DATA + at - STEP_DATA);
}

void guest_code(uint64_t at, const uint8_t *code, size_t n)
{
	memcpy((void *)at, code, n);
	assert_int_equal(gmem_write(&memory, GPA(CODE + at - STEP_CODE), code, n), 0);
}

/* What the engine's kernel was given. */
static struct step_end ours_end(void)
{
	struct step_end e = { .vector = -1 };
	uint64_t at = cpu->s.rip - 2 - (KERNEL + STUBS), frame[5];
	uint64_t sp = cpu->s.gpr[CPU_RSP] - KERNEL;

	memcpy(e.gpr, cpu->s.gpr, sizeof(e.gpr));
	memcpy(e.xsave, cpu->s.xsave, sizeof(e.xsave));
	e.ds = cpu->s.seg[CPU_DS].selector;
	e.es = cpu->s.seg[CPU_ES].selector;
	e.cr2 = cpu->s.cr2;
	if (at >= 4096 || at % 16 || cpu->cpl != 0 || sp > STACK) {
		e.rip = cpu->s.rip;
		return e;   /* nowhere near */
	}
	e.vector = (int)(at / 16);
	if (STACK - sp == 48) {
		memcpy(&e.error, at_gpa(sp), 4);
		sp += 8;
	}
	memcpy(frame, at_gpa(sp), sizeof(frame));
	e.rip = frame[0];
	e.cs = (uint16_t)frame[1];
	e.rflags = frame[2];
	e.gpr[CPU_RSP] = frame[3];
	e.ss = (uint16_t)frame[4];
	return e;
}

void guest_run(struct step_end *ret)
{
	enum vcpu_stop stop = VCPU_STOP_FAILED;
	struct err e = ERR_INIT;

	cpu->s.cr2 = 0;
	cpu->s.events = (struct cpu_events){ .injected = CPU_EVENT_NONE };
	cpu->dr6_pending = 0;
	assert_int_equal(engine_soft.vcpu_run(vcpu, &stop, &e), 0);
	*ret = ours_end();
	if (stop != VCPU_STOP_KICKED) {
		ret->vector = -1;
	}
}
