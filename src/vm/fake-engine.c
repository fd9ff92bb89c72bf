/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/fake-engine.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

struct fake_engine {
	struct engine    eng;
	struct irq_state irq;
	struct engine_clock clock;
	atomic_uint      edges[ENGINE_GSIS];
	struct vcpu     *vcpus[ENGINE_VCPUS_MAX];
};

struct fake_vcpu {
	struct vcpu      v;
	struct cpu_state s;
	fake_run_fn     *run;
	sem_t            kicks;
	atomic_uint      runs;
};

static fake_run_fn *next_run;

void fake_set_run(fake_run_fn *fn)
{
	next_run = fn;
}

static struct fake_vcpu *of(struct vcpu *v)
{
	return container_of(v, struct fake_vcpu, v);
}

void fake_wait(struct vcpu *v)
{
	while (sem_wait(&of(v)->kicks) < 0) {
	}
}

unsigned fake_runs(const struct vcpu *v)
{
	return atomic_load(&of((struct vcpu *)v)->runs);
}

unsigned fake_lines(const struct engine *eng, unsigned gsi)
{
	return atomic_load(&container_of((struct engine *)eng, struct fake_engine, eng)->edges[gsi]);
}

static int probe(struct err *e)
{
	(void)e;
	return 0;
}

static int make(const struct engine_conf *conf, struct engine **ret, struct err *e)
{
	struct fake_engine *f = mem_new(struct fake_engine);

	if (!f) {
		return err_nomem(e);
	}
	f->eng = (struct engine){ .ops = &engine_fake, .conf = *conf, .bus = *conf->bus };
	f->irq.n_lapics = conf->n_vcpus;
	f->clock.tsc_hz = 1000000000;
	for (unsigned i = 0; i < conf->n_vcpus; i++) {
		f->irq.lapic[i].apic_base = LAPIC_BASE | LAPIC_BASE_ENABLE;
		f->irq.lapic[i].apic_base |= i == 0 ? LAPIC_BASE_BSP : 0;
	}
	*ret = &f->eng;
	return 0;
}

static void end(struct engine *eng)
{
	struct fake_engine *f = container_of(eng, struct fake_engine, eng);

	for (unsigned i = 0; i < ENGINE_VCPUS_MAX; i++) {
		if (f->vcpus[i]) {
			sem_destroy(&of(f->vcpus[i])->kicks);
			free(of(f->vcpus[i]));
		}
	}
	free(f);
}

static int vcpu_make(struct engine *eng, unsigned id, struct vcpu **ret, struct err *e)
{
	struct fake_engine *f = container_of(eng, struct fake_engine, eng);
	/* Its state is aligned to more than the heap gives. */
	struct fake_vcpu *v = aligned_alloc(64, (sizeof(*v) + 63) & ~(size_t)63);

	if (!v) {
		return err_nomem(e);
	}
	memset(v, 0, sizeof(*v));
	v->v = (struct vcpu){ .ops = &engine_fake, .eng = eng, .id = id };
	v->run = next_run;
	sem_init(&v->kicks, 0, 0);
	f->vcpus[id] = &v->v;
	*ret = &v->v;
	return 0;
}

static int cpuid(struct vcpu *v, const struct cpu_cpuid *entries, size_t n, struct err *e)
{
	(void)v, (void)entries, (void)n, (void)e;
	return 0;
}

static int run(struct vcpu *v, enum vcpu_stop *ret, struct err *e)
{
	atomic_fetch_add(&of(v)->runs, 1);
	*ret = VCPU_STOP_KICKED;
	return of(v)->run(v, &v->eng->bus, ret, e);
}

static void kick(struct vcpu *v)
{
	sem_post(&of(v)->kicks);
}

static int get(struct vcpu *v, struct cpu_state *ret, struct err *e)
{
	(void)e;
	*ret = of(v)->s;
	return 0;
}

static int set(struct vcpu *v, const struct cpu_state *s, struct err *e)
{
	(void)e;
	of(v)->s = *s;
	return 0;
}

static int debug(struct vcpu *v, const struct vcpu_debug *d, struct err *e)
{
	(void)v, (void)d, (void)e;
	return 0;
}

static int translate(struct vcpu *v, uint64_t va, gpa_t *ret)
{
	(void)v;
	*ret = GPA(va);
	return 0;
}

static int msi(struct engine *eng, uint64_t addr, uint32_t data)
{
	(void)eng, (void)addr, (void)data;
	return 0;
}

static int line(struct engine *eng, unsigned gsi, bool level)
{
	struct fake_engine *f = container_of(eng, struct fake_engine, eng);

	atomic_fetch_add(&f->edges[gsi], level);
	return 0;
}

static int irq_get(struct engine *eng, struct irq_state *ret, struct err *e)
{
	(void)e;
	*ret = container_of(eng, struct fake_engine, eng)->irq;
	return 0;
}

static int irq_set(struct engine *eng, const struct irq_state *s, struct err *e)
{
	(void)e;
	container_of(eng, struct fake_engine, eng)->irq = *s;
	return 0;
}

static int clock_get(struct engine *eng, struct engine_clock *ret, struct err *e)
{
	(void)e;
	*ret = container_of(eng, struct fake_engine, eng)->clock;
	return 0;
}

static int clock_set(struct engine *eng, const struct engine_clock *c, struct err *e)
{
	(void)e;
	container_of(eng, struct fake_engine, eng)->clock = *c;
	return 0;
}

static int dirty_log(struct engine *eng, bool on, struct err *e)
{
	(void)eng, (void)on, (void)e;
	return 0;
}

static int log_sync(struct engine *eng, struct err *e)
{
	(void)eng, (void)e;
	return 0;
}

const struct engine_ops engine_fake = {
	.name = "fake", .probe = probe, .new_ = make, .free_ = end, .vcpu_new = vcpu_make,
	.vcpu_cpuid = cpuid, .vcpu_run = run, .vcpu_kick = kick, .vcpu_get = get, .vcpu_set = set,
	.vcpu_debug = debug, .vcpu_translate = translate, .msi = msi, .line = line,
	.irq_get = irq_get, .irq_set = irq_set, .clock_get = clock_get, .clock_set = clock_set,
	.log = dirty_log, .log_sync = log_sync,
};
