/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes from outside while a counted machine runs has a place in its life. Another thread
 * asks for the vCPUs at moments that the test chooses, the awkward ones among them, and sends an
 * NMI; the point at which it got them is written down, and a second run is given the NMI at that
 * point. Both must end with the same memory, page tables and all.
 */
#include <pthread.h>
#include <sched.h>

#include "base/test.h"
#include "vm/cpu/soft/priv.h"
#include "vm/cpu/soft/test-vm.h"
#include "vm/cpu/test-translate.h"

extern const uint8_t guest_counts[], guest_counts_end[], guest_finds[], guest_finds_end[],
	guest_first[], guest_first_end[], guest_second[], guest_second_end[], guest_nmi[],
	guest_nmi_end[];

enum {
	ROUNDS_AT = 0x700, SLEEPS_AT = 0x718, SECOND_AT = BASE + 0x400, NMI_AT = BASE + 0x800,
	SENT_MAX = 1 << 16, STEP_MAX = 3000,
};

struct sent {
	struct engine_pos at;
	unsigned cpu;
};

struct slept {
	struct engine_pos at;
	uint64_t ns;
};

/* What came in one run, to come in others. */
struct inputs {
	struct sent  sent[SENT_MAX];
	struct slept slept[SENT_MAX + 1];
	unsigned n_sent, n_slept;
};

struct run;
/* Is somebody to ask for the vCPUs here? *ret_to: whom the NMI is for. */
typedef bool moment_fn(struct run *x, const struct soft_cpu *c, unsigned *ret_to);

struct guest {
	const uint8_t *first, *first_end, *second, *second_end;
	uint64_t rounds;
	bool sleeps;
	moment_fn *now;
};

struct run {
	const struct guest *guest;
	struct vm *vm;
	struct inputs *in;
	bool     replay;
	unsigned random;
	uint64_t count;              /* of instructions, when due() was called last */
	struct engine_tape tape;
	unsigned next_sent, next_slept;
	bool     missed;             /* it did not come to a point that it should have come to */
	/* Of the first run: who asks for the vCPUs, each time that it is told to. */
	pthread_t holder;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool     asked, ends;
	unsigned to;
};

static unsigned number(struct run *x, unsigned below)
{
	x->random = x->random * 1103515245 + 12345;
	return (x->random >> 8) % below;
}

static void send_nmi(const struct run *x, unsigned cpu)
{
	assert_int_equal(engine_soft.msi(x->vm->eng, 0xfee00000 | (uint64_t)cpu << 12, 4 << 8), 0);
}

/* --- The first run --- */

static void *holder(void *arg)
{
	struct run *x = arg;

	pthread_mutex_lock(&x->lock);
	while (!x->ends) {
		if (!x->asked) {
			pthread_cond_wait(&x->changed, &x->lock);
			continue;
		}
		struct sent *s = &x->in->sent[x->in->n_sent++];

		s->cpu = x->to;
		engine_soft.hold(x->vm->eng, true);
		x->asked = false;
		engine_soft.position(x->vm->eng, &s->at);
		send_nmi(x, s->cpu);
		engine_soft.hold(x->vm->eng, false);
	}
	pthread_mutex_unlock(&x->lock);
	return NULL;
}

/* Returns when the other thread has asked the vCPU to let it in. */
static void ask(struct run *x, const struct soft_cpu *c, unsigned to)
{
	pthread_mutex_lock(&x->lock);
	x->asked = true;
	x->to = to;
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
	while (!(atomic_load(&c->wants) & SOFT_WANT_EXCLUSIVE)) {
		(void)sched_yield();
	}
}

static void due_first(struct run *x, const struct soft_cpu *c)
{
	unsigned to = 0;

	if (x->in->n_sent < SENT_MAX && x->guest->now(x, c, &to)) {
		ask(x, c, to);
	}
}

/* --- The others --- */

static void stop(struct vm *vm)
{
	atomic_store(&vm->log.stopped, true);
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		engine_soft.vcpu_kick(vm->cpu[i]);
	}
}

static void miss(struct run *x)
{
	x->missed = true;
	stop(x->vm);
}

static void due_again(struct run *x, const struct engine_pos *at)
{
	const struct inputs *in = x->in;

	while (x->next_sent < in->n_sent && engine_pos_cmp(at, &in->sent[x->next_sent].at) >= 0) {
		if (engine_pos_cmp(at, &in->sent[x->next_sent].at) != 0) {
			miss(x);
		}
		send_nmi(x, in->sent[x->next_sent++].cpu);
	}
}

static int due(void *ctx, struct vcpu *v, const struct engine_pos *at, struct engine_pos *ret_next,
	       unused_arg enum vcpu_stop *ret_stop, unused_arg struct err *e)
{
	const struct soft_cpu *c = container_of(v, struct soft_cpu, vcpu);
	struct run *x = ctx;

	if (x->replay) {
		due_again(x, at);
		*ret_next = (struct engine_pos){ UINT64_MAX, UINT64_MAX };
		if (x->next_sent < x->in->n_sent) {
			*ret_next = x->in->sent[x->next_sent].at;
		}
		return 0;
	}
	due_first(x, c);
	x->count = at->insns;
	/* One that sleeps is looked at at each instruction. */
	uint64_t by = x->guest->sleeps ? 0 : number(x, STEP_MAX) + 1;

	*ret_next = (struct engine_pos){ MIN(at->insns + by, MAX(c->eng->turn_end, at->insns)),
					 at->events + 1 };
	return 0;
}

static int slept(void *ctx, const struct engine_pos *at, uint64_t *ns, unused_arg struct err *e)
{
	struct run *x = ctx;
	struct inputs *in = x->in;

	if (!x->replay) {
		assert_true(in->n_slept < SENT_MAX);
		in->slept[in->n_slept++] = (struct slept){ *at, *ns };
		return 0;
	}
	const struct slept *s = &in->slept[MIN(x->next_slept++, (unsigned)SENT_MAX)];

	if (x->next_slept > in->n_slept || engine_pos_cmp(at, &s->at) != 0) {
		miss(x);
		*ns = 0;
		return 0;
	}
	*ns = s->ns;
	return 0;
}

/* --- A machine --- */

static void put(struct vm *vm, uint64_t at, const uint8_t *code, const uint8_t *end)
{
	vm_put(vm, at, code, (size_t)(end - code));
}

static void *run_cpu(void *arg)
{
	struct vcpu *v = arg;
	const struct vm *vm = v->eng->bus.ctx;
	enum vcpu_stop stop = VCPU_STOP_FAILED;
	struct err e = ERR_INIT;

	while (!atomic_load(&vm->log.stopped)) {
		assert_int_equal(engine_soft.vcpu_run(v, &stop, &e), 0);
		assert_int_equal(stop, VCPU_STOP_KICKED);
	}
	return NULL;
}

static void make(struct run *x, const struct engine_ops *engine)
{
	const struct engine_conf conf = { .n_vcpus = 2, .deterministic = true,
					  .xl = test_translate() };
	const struct guest *g = x->guest;
	struct vm *vm = x->vm = vm_new_on(engine, &conf);

	vm_long_mode(vm);
	vm_long_cpu(vm, 1, SECOND_AT, STACK - 4096);
	put(vm, BASE, g->first, g->first_end);
	put(vm, SECOND_AT, g->second, g->second_end);
	put(vm, NMI_AT, guest_nmi, guest_nmi_end);
	vm_put64(vm, IDT + 16 * 2, NMI_AT | 8 << 16 | UINT64_C(0x8e) << 40);
	vm_put64(vm, ROUNDS_AT, g->rounds);
	vm_put64(vm, SLEEPS_AT, g->sleeps);
	x->tape = (struct engine_tape){ .ctx = x, .replay = x->replay, .seed = 1, .due = due,
					.slept = slept };
	vm->eng->ops->set_tape(vm->eng, &x->tape, &(struct engine_pos){ 0, 0 });
}

/* Returns where it ended. */
static uint64_t go(struct run *x)
{
	struct engine_pos end;
	pthread_t other;

	assert_int_equal(pthread_create(&other, NULL, run_cpu, x->vm->cpu[1]), 0);
	run_cpu(x->vm->cpu[0]);
	assert_int_equal(pthread_join(other, NULL), 0);
	engine_soft.position(x->vm->eng, &end);
	return end.insns;
}

static void holder_end(struct run *x)
{
	pthread_mutex_lock(&x->lock);
	x->ends = true;
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
	assert_int_equal(pthread_join(x->holder, NULL), 0);
}

static void differences(const struct vm *a, const struct vm *b)
{
	const uint8_t *p = a->mem.slots[0].host, *q = b->mem.slots[0].host;

	for (size_t at = 0; at < MEM_BYTES; at += 8) {
		if (memcmp(p + at, q + at, 8) != 0) {
			print_error("0x%zx differs\n", at);
		}
	}
	assert_memory_equal(p, q, MEM_BYTES);
}

static void again(const struct run *first, uint64_t end, const struct engine_ops *engine)
{
	struct run x = { .guest = first->guest, .in = first->in, .replay = true };

	make(&x, engine);
	uint64_t its_end = go(&x);

	assert_false(x.missed);
	assert_true(its_end == end);
	differences(first->vm, x.vm);
	assert_int_equal(x.next_sent, x.in->n_sent);
	assert_int_equal(x.next_slept, x.in->n_slept);
	vm_free(x.vm);
}

static void run(const struct guest *g, unsigned least)
{
	static struct inputs in;
	struct run x = { .guest = g, .in = &in, .random = 1, .lock = PTHREAD_MUTEX_INITIALIZER,
			 .changed = PTHREAD_COND_INITIALIZER };

	in.n_sent = in.n_slept = 0;
	make(&x, &engine_soft);
	assert_int_equal(pthread_create(&x.holder, NULL, holder, &x), 0);
	uint64_t end = go(&x);

	holder_end(&x);
	assert_in_range(in.n_sent, least, SENT_MAX);
	assert_int_equal(in.n_slept > 0, g->sleeps);
	again(&x, end, &engine_soft);
	again(&x, end, &engine_interp);
	vm_free(x.vm);
}

/* --- The tests --- */

#define PROGRAM(name) guest_##name, guest_##name##_end

/* Just before it is looked whether the other one is to have the next turn. */
static bool at_end_of_turn(struct run *x, const struct soft_cpu *c, unsigned *ret_to)
{
	*ret_to = 1;
	return x->in->n_sent == 0 && c->vcpu.id == 0 && c->count > 200000 &&
	       c->count == c->eng->turn_end;
}

static void test_end_of_turn(unused_arg void **state)
{
	run(&(struct guest){ PROGRAM(counts), PROGRAM(finds), .now = at_end_of_turn }, 1);
}

/* At any moment, ends of turns the likeliest; and now and then a vCPU is kicked. */
static bool at_random(struct run *x, const struct soft_cpu *c, unsigned *ret_to)
{
	if (number(x, 8) == 0) {
		engine_soft.vcpu_kick(x->vm->cpu[number(x, 2)]);
	}
	*ret_to = number(x, 2);
	return number(x, c->count == c->eng->turn_end ? 2 : 24) == 0;
}

static void test_any_moment(unused_arg void **state)
{
	run(&(struct guest){ PROGRAM(first), PROGRAM(second), .rounds = 20000, .now = at_random },
	    100);
}

/* When one that has halted is looked at again, as there is no other. */
static bool asleep(struct run *x, const struct soft_cpu *c, unsigned *ret_to)
{
	*ret_to = number(x, 2);
	return ((c->slow & SOFT_SLOW_HALT) && c->count == x->count) || number(x, 4096) == 0;
}

static void test_asleep(unused_arg void **state)
{
	run(&(struct guest){ PROGRAM(first), PROGRAM(second), .rounds = 2000, .sleeps = true,
			     .now = asleep }, 60);
}

/* Does vCPU 0 find an end of interrupt in memory that it may take? */
static bool offers(bool counted)
{
	struct vm *vm = vm_new(1, counted);
	struct irq_chip *chip = soft_engine(vm->eng)->chip;
	struct lapic *l = irq_lapic(chip, 0);
	bool ret = false;

	lapic_mmio_write(l, 0xf0, 4, 0x1ff, (struct irq_now){ 0 });   /* SVR: on */
	assert_int_equal(lapic_set_pv_eoi(l, DATA | 1), 0);
	irq_msi(chip, LAPIC_BASE, 0x41);
	assert_int_equal(lapic_next(l), 0x41);
	lapic_accept(l, 0x41);
	ret = vm_get64(vm, DATA) & 1;
	vm_free(vm);
	return ret;
}

/* What is offered is taken back when somebody saves the machine, and no log says when. */
static void test_offers_nothing(void **state unused_arg)
{
	assert_true(offers(false));
	assert_false(offers(true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offers_nothing),
		cmocka_unit_test(test_end_of_turn),
		cmocka_unit_test(test_any_moment),
		cmocka_unit_test(test_asleep),
	};

	return TEST_RUN(tests);
}
