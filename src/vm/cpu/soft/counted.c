/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counted mode: time is a count of instructions, and a tape (struct engine_tape) says what
 * comes in from outside, or writes it down. The loop is in run.c.
 *
 * What makes a run the same as another one: the count is right wherever it is looked at; a timer
 * is due at an instruction; what calls for a look is looked at after the one that caused it.
 * So nothing depends on where blocks end, on what is cached, or on when another thread asked.
 * Several vCPUs run in turns of TURN instructions, each on its own thread; one that sleeps is left
 * out until it has a reason to run, and when all sleep the last one sleeps for all.
 * What other threads do they do while they hold the vCPUs (soft_hold()), and such a moment has a
 * place: the numbers of struct engine_pos, which nothing passes without changing one of them. Nor
 * is anything decided at such a place that depends on what comes in there: a decision changes the
 * numbers, too, for a replay has what came in before it decides (decision 139).
 */
#include <errno.h>

#include "base/clock.h"
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/priv.h"

enum { TURN = 20000 };

void soft_set_tape(struct engine *e, const struct engine_tape *t, const struct engine_pos *first)
{
	struct soft_engine *eng = soft_engine(e);

	assert(eng->counted);
	eng->tape = t;
	eng->next = *first;
	/* No thread of instructions runs on past it. */
	atomic_load(&eng->turn)->slow |= SOFT_SLOW_EVENT;
}

static struct engine_pos at(const struct soft_cpu *c)
{
	return (struct engine_pos){ c->count, c->events };
}

void soft_position(struct engine *e, struct engine_pos *ret)
{
	*ret = at(atomic_load(&soft_engine(e)->turn));
}

static bool fail(struct soft_cpu *c)
{
	c->stop = VCPU_STOP_FAILED;
	return false;
}

bool soft_counted_due(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;

	for (;;) {
		struct engine_pos here = at(c);

		if (!eng->tape || engine_pos_cmp(&here, &eng->next) < 0) {
			return true;
		}
		/* Whoever looks finds all of the state in c->s. */
		native_fpu_save(c);
		int r = eng->tape->due(eng->tape->ctx, &c->vcpu, &here, &eng->next, &c->stop,
				       c->err);

		if (r != 0) {
			return r < 0 ? fail(c) : false;
		}
	}
}

uint64_t soft_counted_room(const struct soft_cpu *c)
{
	const struct soft_engine *eng = c->eng;
	uint64_t timer = c->deadline_ns > eng->skipped_ns ? c->deadline_ns - eng->skipped_ns : 0;
	uint64_t end = MIN(MIN(timer, eng->next.insns), eng->turn_end);

	return end <= c->count ? 1 : end - c->count;
}

void soft_counted_apart(struct soft_cpu *c)
{
	if ((c->running || c->xl_out) && !c->single) {
		c->apart = true;
		c->fault_vector = SOFT_LEFT;
		siglongjmp(c->fault_jump, 1);
	}
}

/* --- Turns --- */

/* Has it a reason to run? What is kept out: wishes of other threads that do not come from the
 * tape (a kick), and what its loop only wants to look at. */
static bool has_reason(const struct soft_cpu *c)
{
	uint64_t now = soft_now_ns(c->eng);

	return c->s.mp_state == CPU_MP_RUNNABLE ||
	       (atomic_load(&c->wants) & SOFT_WANT_EVENT) != 0 ||
	       (c->s.mp_state == CPU_MP_HALTED && c->deadline_ns <= now);
}

/* The next one after c that has; NULL: none but perhaps c. */
static struct soft_cpu *next_cpu(const struct soft_cpu *c)
{
	const struct soft_engine *eng = c->eng;

	for (unsigned i = 1; i < eng->n_cpus; i++) {
		struct soft_cpu *o = eng->cpus[(c->vcpu.id + i) % eng->n_cpus];

		if (o && has_reason(o)) {
			return o;
		}
	}
	return NULL;
}

void soft_counted_wake(struct soft_engine *eng)
{
	pthread_mutex_lock(&eng->turn_lock);
	pthread_cond_broadcast(&eng->turn_changed);
	pthread_mutex_unlock(&eng->turn_lock);
}

bool soft_counted_turn(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;
	bool mine = false;

	pthread_mutex_lock(&eng->turn_lock);
	while (!(mine = atomic_load(&eng->turn) == c) &&
	       !(atomic_load(&c->wants) & SOFT_WANT_KICK)) {
		pthread_cond_wait(&eng->turn_changed, &eng->turn_lock);
	}
	pthread_mutex_unlock(&eng->turn_lock);
	if (!mine) {
		atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_KICK);
		c->stop = VCPU_STOP_KICKED;
	}
	return mine;
}

static bool pass_to(struct soft_cpu *c, struct soft_cpu *to)
{
	struct soft_engine *eng = c->eng;

	to->count = c->count;
	to->events = c->events + 1;
	native_fpu_save(c);
	pthread_mutex_lock(&eng->turn_lock);
	atomic_store(&eng->turn, to);
	/* Whoever holds the vCPUs now sees the point where the other one begins; and that one never
	 * has to wait for this one to leave, as it might do so between two of its own points. */
	soft_guest_leave(c);
	pthread_cond_broadcast(&eng->turn_changed);
	pthread_mutex_unlock(&eng->turn_lock);
	if (!soft_counted_turn(c)) {
		return false;
	}
	soft_guest_enter(c);
	c->slow |= SOFT_SLOW_EVENT;
	return true;
}

bool soft_counted_pass(struct soft_cpu *c)
{
	struct soft_cpu *to = NULL;

	if (c->eng->n_cpus == 1 || c->count < c->eng->turn_end) {
		return true;
	}
	/* What comes from outside from here on comes behind this look at the others. */
	c->events++;
	c->eng->turn_end = c->count + TURN;
	to = next_cpu(c);
	return !to || pass_to(c, to);
}

/* --- Sleep --- */

/* Awake again after so long? In a replay the tape says it, in a recording the host's clock. */
static int sleep_on(struct soft_cpu *c, uint64_t most_ns, uint64_t *ret_ns)
{
	const struct engine_tape *t = c->eng->tape;
	struct engine_pos here = at(c);
	uint64_t from = clock_now_ns();

	if (!t->replay) {
		soft_guest_leave(c);
		soft_park(c, most_ns > UINT64_MAX - from ? UINT64_MAX : from + most_ns);
		soft_guest_enter(c);
		*ret_ns = MIN(clock_now_ns() - from, most_ns);
	}
	return t->slept(t->ctx, &here, ret_ns, c->err);
}

/* The earliest of all timers. */
static uint64_t first_deadline(const struct soft_engine *eng)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < eng->n_cpus; i++) {
		const struct soft_cpu *c = eng->cpus[i];

		if (c && c->s.mp_state == CPU_MP_HALTED) {
			first = MIN(first, c->deadline_ns);
		}
	}
	return first;
}

bool soft_counted_halt(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;
	struct soft_cpu *to = next_cpu(c);

	if (to) {
		eng->turn_end = c->count + TURN;
		return pass_to(c, to);
	}
	uint64_t now = soft_now_ns(eng), ns = 0, deadline = first_deadline(eng);
	uint64_t most = deadline == UINT64_MAX ? UINT64_MAX : deadline > now ? deadline - now : 0;

	c->events++;
	if (!soft_counted_due(c)) {
		return false;
	}
	if (eng->tape) {
		if (sleep_on(c, most, &ns) < 0) {
			return fail(c);
		}
		eng->skipped_ns += ns;
	} else if (most != UINT64_MAX) {
		/* Counted time does not pass by itself: on to the deadline. */
		eng->skipped_ns += most;
	} else {
		soft_guest_leave(c);
		soft_park(c, UINT64_MAX);
		soft_guest_enter(c);
	}
	return true;
}

/* --- What instructions take from outside --- */

uint64_t soft_counted_wall_ns(const struct soft_engine *eng)
{
	return eng->tape ? eng->tape->boot_wall_ns : 0;
}

/* A number that follows from the seed and the instruction's count. */
static uint64_t scramble(uint64_t v)
{
	v += UINT64_C(0x9e3779b97f4a7c15);
	v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
	return v ^ v >> 31;
}

SOFT_FN(insn_random)
{
	const struct soft_engine *eng = c->eng;
	uint64_t seed = eng->tape ? eng->tape->seed : 0;

	if (!(c->features & BIT(insn_table[i->row].feature))) {
		soft_fault_no_error(c, CPU_UD);
	}
	soft_reg_set(c, i->rm, i->op_bytes, scramble(seed ^ scramble(c->count)));
	c->flags = 1 << 8;   /* CF; the others are cleared */
}

void soft_counted_bind(struct insn *i)
{
	unsigned feature = insn_table[i->row].feature;

	if (feature == INSN_F_RDRAND || feature == INSN_F_RDSEED) {
		i->fn = insn_random;
	}
}
