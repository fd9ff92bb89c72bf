/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow mappings: which address space is mapped, the owner. It is one that computes; by that it
 * earns what its mappings cost, and one that cannot pay is not the owner for a while.
 */
#include <limits.h>

#include "base/clock.h"
#include "vm/cpu/soft/xl-shadow-priv.h"
#include "vm/cpu/soft/xl-stats.h"
#include "vm/cpu/soft/xl.h"

enum {
	/* To become the one that is mapped: interrupts that no other one had. */
	SAMPLES = 3, SCORE_MAX = 6,
	FAULTS_MAX = 64,   /* of the guest's between two of them: it takes its memory only now */
};

/* What it may cost: at first, in all, and of the time between two samples. */
#define CREDIT_FIRST_NS INT64_C(1500000)
#define CREDIT_MAX_NS   INT64_C(40000000)
#define CREDIT_SHARE    8
#define SAMPLE_MAX_NS   UINT64_C(20000000)
#define SWITCH_NS       5000
#define BAN_NS          UINT64_C(200000000)
#define BAN_DOUBLINGS   7

static struct shadow_ban *ban_of(struct shadow *s, uint64_t root)
{
	for (unsigned i = 0; i < SHADOW_BANNED; i++) {
		if (s->bans[i].root == root) {
			return &s->bans[i];
		}
	}
	return NULL;
}

/* With the lock held: nobody's any more. vCPUs that still run its code find nothing there. */
static void give_up(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = atomic_load(&c->eng->shadow_root);
	struct shadow_ban *b = ban_of(s, root);

	if (!b) {
		b = &s->bans[s->next_ban++ % SHADOW_BANNED];
		*b = (struct shadow_ban){ .root = root };
	}
	b->until_ns = clock_now_ns() + (BAN_NS << MIN(b->times, (unsigned)BAN_DOUBLINGS));
	b->times++;
	atomic_store(&c->eng->shadow_root, SHADOW_NOBODY);
	s->last = SHADOW_NOBODY;
	shadow_clear(s);
	xl_add(&c->counts->n[XC_SHADOW_GIVEN_UP], 1);
}

void shadow_release(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = atomic_load(&c->eng->shadow_root);

	if (root == SHADOW_NOBODY || c->eng->eng.conf.xl.direct_now) {
		return;
	}
	s->candidate = root;
	s->samples = SAMPLES - 1;
	s->score = 0;
	atomic_store(&c->eng->shadow_root, SHADOW_NOBODY);
}

void shadow_charge(struct soft_cpu *c, struct shadow *s, uint64_t since_ns, unsigned more_ns)
{
	if (c->eng->eng.conf.xl.direct_now) {
		return;
	}
	s->credit_ns -= (int64_t)(clock_now_ns() - since_ns + more_ns);
	if (s->credit_ns < 0 && atomic_load(&c->eng->shadow_root) != SHADOW_NOBODY) {
		give_up(c, s);
	}
}

/* The owner's code is left for another one's, which looks for its blocks anew. */
static void switched(struct soft_cpu *c)
{
	struct shadow *s = c->eng->shadow;

	pthread_mutex_lock(&s->lock);
	shadow_charge(c, s, clock_now_ns(), SWITCH_NS);
	pthread_mutex_unlock(&s->lock);
}

void shadow_update(struct soft_cpu *c)
{
	uint64_t owner = atomic_load_explicit(&c->eng->shadow_root, memory_order_relaxed);
	bool direct = c->eng->shadow && soft_long(c) && !c->check_access &&
		      owner == shadow_root_of(c);

	if (direct != c->xl_direct) {
		c->xl_direct = direct;
		c->xl_loose = false;
		xl_forget(c, true);
		if (!direct) {
			switched(c);
		}
	}
}

/* All others are out of the code of the old one when anything of the new one is mapped. */
static void take(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;
	struct shadow *s = eng->shadow;
	const struct shadow_ban *b = NULL;

	soft_exclusive_begin(c);
	pthread_mutex_lock(&s->lock);
	shadow_clear(s);
	b = ban_of(s, shadow_root_of(c));
	if (s->last != shadow_root_of(c)) {
		s->credit_ns = CREDIT_FIRST_NS << (b ? MIN(b->times, (unsigned)BAN_DOUBLINGS) : 0);
		s->last = shadow_root_of(c);
	}
	s->sampled_ns = clock_now_ns();
	s->score = SCORE_MAX / 2;
	s->samples = 0;
	atomic_store(&eng->shadow_root, shadow_root_of(c));
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		if (eng->cpus[i]) {
			shadow_update(eng->cpus[i]);
		}
	}
	soft_exclusive_end(c);
	xl_add(&c->counts->n[XC_SHADOW_TAKEN], 1);
}

bool shadow_take_now(struct soft_cpu *c)
{
	if (!c->eng->shadow || !soft_long(c) || c->cpl != 3 || c->check_access ||
	    atomic_load(&c->eng->shadow_root) == shadow_root_of(c) ||
	    !gmem_can_map_again(c->eng->eng.conf.mem)) {
		return false;
	}
	take(c);
	return true;
}

static void earn(struct shadow *s)
{
	uint64_t now = clock_now_ns();

	if (s->credit_ns < CREDIT_MAX_NS) {
		s->credit_ns += (int64_t)(MIN(now - s->sampled_ns, SAMPLE_MAX_NS) / CREDIT_SHARE);
	}
	s->sampled_ns = now;
}

/* Where the guest maps page after page each would be mapped here by itself, for more than it is
 * worth. */
static bool is_growing(struct soft_cpu *c)
{
	uint64_t faults = atomic_load_explicit(&c->counts->n[XC_READ_FAULT], memory_order_relaxed) +
			  atomic_load_explicit(&c->counts->n[XC_WRITE_FAULT], memory_order_relaxed);
	uint64_t more = faults - c->xl_sample_faults;

	c->xl_sample_faults = faults;
	return more > FAULTS_MAX;
}

/* With the lock held. Is it time for the vCPU's address space? */
static bool sampled(struct soft_cpu *c, struct shadow *s)
{
	uint64_t root = shadow_root_of(c), owner = atomic_load(&c->eng->shadow_root);
	const struct shadow_ban *b = NULL;
	bool growing = is_growing(c);

	if (root == owner && growing) {
		earn(s);
		shadow_clear(s);
		shadow_release(c, s);
		return false;
	}
	if (root == owner) {
		earn(s);
		s->score = MIN(s->score + 1, (unsigned)SCORE_MAX);
		s->samples = 0;
		return false;
	}
	if (s->samples == 0) {
		s->candidate = root;
	}
	s->samples += s->candidate == root ? s->samples < 2 * SAMPLES : UINT_MAX;
	s->score -= s->score > 0;
	if (growing || s->samples < SAMPLES || (s->score > 0 && owner != SHADOW_NOBODY)) {
		return false;
	}
	b = ban_of(s, root);
	return !b || clock_now_ns() >= b->until_ns;
}

void shadow_sample(struct soft_cpu *c)
{
	struct shadow *s = c->eng->shadow;
	bool now = false;

	if (!s || c->cpl != 3 || !soft_long(c) || c->mode != INSN_MODE_64) {
		return;
	}
	pthread_mutex_lock(&s->lock);
	now = sampled(c, s);
	pthread_mutex_unlock(&s->lock);
	if (now && gmem_can_map_again(c->eng->eng.conf.mem)) {
		take(c);
	} else {
		shadow_update(c);
	}
}
