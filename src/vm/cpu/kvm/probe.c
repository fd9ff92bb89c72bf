/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is KVM here worth using? A loop is run in the guest's kernel mode and in its user mode. Where
 * the hardware runs both, an iteration takes less than a nanosecond; where kernel mode is
 * emulated instruction by instruction, about a microsecond. There is nothing in between, so the
 * limit need not be exact, and the best of a few runs is not fooled by a busy host.
 */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "vm/cpu/model.h"

enum {
	ITERATIONS = 4000, LIMIT_NS = 50,
	TRIES = 8, TRIES_HOPELESS = 2,   /* more than ten times the limit */
	MEMORY = 64 << 10, CODE = 0x1000, PML4 = 0x2000, PDPT = 0x3000, PD = 0x4000,
	RESULT = 0x5a17, DONE_PORT = 0xf4,
};

struct probe {
	struct vcpu *vcpu;
	uint32_t     result;
};

static void done(void *ctx, uint16_t port, const void *data, unsigned bytes)
{
	struct probe *p = ctx;

	if (port == DONE_PORT && bytes == 4) {
		memcpy(&p->result, data, 4);
	}
	p->vcpu->ops->vcpu_kick(p->vcpu);
}

static void no_read(void *ctx, uint16_t port, void *ret, unsigned bytes)
{
	(void)ctx;
	(void)port;
	memset(ret, 0xff, bytes);
}

static void no_mmio_read(void *ctx, gpa_t at, void *ret, unsigned bytes)
{
	(void)ctx;
	(void)at;
	memset(ret, 0xff, bytes);
}

static void no_mmio_write(void *ctx, gpa_t at, const void *data, unsigned bytes)
{
	(void)ctx;
	(void)at;
	(void)data;
	(void)bytes;
}

/* 1: dec ecx; jnz 1b; mov eax, RESULT; out DONE_PORT, eax; 2: jmp 2b */
static const uint8_t code[] = {
	0xff, 0xc9, 0x75, 0xfc, 0xb8, RESULT & 0xff, RESULT >> 8, 0, 0, 0xe7, DONE_PORT, 0xeb, 0xfe,
};

static int fill(struct gmem *mem, struct err *e)
{
	const uint64_t user = 7, page_2m = 0x80;
	uint64_t pml4 = PDPT | user, pdpt = PD | user, pd = user | page_2m;
	int r = gmem_add(mem, GPA(0), MEMORY, -1, 0, false, e);

	if (r < 0) {
		return r;
	}
	r = gmem_write(mem, GPA(CODE), code, sizeof(code));
	r = r < 0 ? r : gmem_write(mem, GPA(PML4), &pml4, sizeof(pml4));
	r = r < 0 ? r : gmem_write(mem, GPA(PDPT), &pdpt, sizeof(pdpt));
	r = r < 0 ? r : gmem_write(mem, GPA(PD), &pd, sizeof(pd));
	return r < 0 ? err_set(e, -r, ERR_HOST, "memory of the probe") : 0;
}

/* Long mode at the loop; with IOPL 3, so that user mode can tell its result, too. */
static void enter(struct cpu_state *s, bool user)
{
	uint32_t dpl = user ? 3u << CPU_AR_DPL_SHIFT : 0, ar = CPU_AR_P | CPU_AR_S | CPU_AR_RW |
							      CPU_AR_ACCESSED | CPU_AR_G | dpl;
	uint16_t rpl = user ? 3 : 0;

	cpu_state_reset(s, true);
	for (unsigned i = 0; i < CPU_SEG__COUNT; i++) {
		s->seg[i] = (struct cpu_seg){ .limit = UINT32_MAX, .ar = ar | CPU_AR_DB,
					      .selector = (uint16_t)(16 | rpl) };
	}
	s->seg[CPU_CS].ar = ar | CPU_AR_CODE | CPU_AR_L;
	s->seg[CPU_CS].selector = (uint16_t)(8 | rpl);
	s->tr.ar = CPU_AR_P | 11;
	s->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_PG;
	s->cr4 = CPU_CR4_PAE;
	s->cr3 = PML4;
	s->efer = CPU_EFER_LME | CPU_EFER_LMA;
	s->rip = CODE;
	s->rflags = CPU_FLAG_1 | CPU_FLAG_IOPL;
	s->gpr[CPU_RCX] = ITERATIONS;
}

static int run_once(struct probe *p, bool user, uint64_t *ret_ns, struct err *e)
{
	struct cpu_state s;
	enum vcpu_stop stop;
	const struct engine_ops *ops = p->vcpu->ops;

	enter(&s, user);
	p->result = 0;
	int r = ops->vcpu_set(p->vcpu, &s, e);
	uint64_t start = clock_now_ns();

	r = r < 0 ? r : ops->vcpu_run(p->vcpu, &stop, e);
	*ret_ns = clock_now_ns() - start;
	if (r == 0 && (stop != VCPU_STOP_KICKED || p->result != RESULT)) {
		return err_set(e, EIO, ERR_UNSUPPORTED, "KVM does not run a guest's %s mode here",
			       user ? "user" : "kernel");
	}
	return r;
}

static int measure(struct probe *p, struct err *e)
{
	for (unsigned mode = 0; mode < 2; mode++) {
		uint64_t best = UINT64_MAX;

		for (unsigned i = 0; i < TRIES && best > ITERATIONS * LIMIT_NS; i++) {
			if (i >= TRIES_HOPELESS && best > UINT64_C(10) * ITERATIONS * LIMIT_NS) {
				break;
			}
			uint64_t ns;
			int r = run_once(p, mode == 1, &ns, e);

			if (r < 0) {
				return r;
			}
			best = MIN(best, ns);
		}
		if (best > ITERATIONS * LIMIT_NS) {
			return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
				       "KVM here emulates the guest's %s mode instruction by "
				       "instruction (%llu ns for a loop of two)",
				       mode ? "user" : "kernel",
				       (unsigned long long)best / ITERATIONS);
		}
	}
	return 0;
}

static int probe_with(struct gmem *mem, struct err *e)
{
	struct probe p = { 0 };
	const struct engine_bus bus = { .ctx = &p, .mmio_read = no_mmio_read,
					.mmio_write = no_mmio_write, .pio_read = no_read,
					.pio_write = done };
	const struct engine_conf conf = { .mem = mem, .bus = &bus, .n_vcpus = 1 };
	struct engine *eng = NULL;
	int r = fill(mem, e);

	r = r < 0 ? r : engine_kvm.new_(&conf, &eng, e);
	r = r < 0 ? r : engine_kvm.vcpu_new(eng, 0, &p.vcpu, e);
	if (r == 0) {
		struct cpu_cpuid cpuid[CPU_MODEL_ENTRIES_MAX];
		const struct cpu_model_conf model = { .n_vcpus = 1, .tsc_hz = 1000000000 };

		r = engine_kvm.vcpu_cpuid(p.vcpu, cpuid, cpu_model(&model, cpuid), e);
	}
	r = r < 0 ? r : measure(&p, e);
	engine_kvm.free_(eng);
	return r;
}

const struct engine_ops *engine_auto(struct err *why)
{
	struct gmem mem;

	if (engine_kvm.probe(why) < 0) {
		return &engine_soft;
	}
	gmem_init(&mem);
	int r = probe_with(&mem, why);

	gmem_fini(&mem);
	return r < 0 ? &engine_soft : &engine_kvm;
}
