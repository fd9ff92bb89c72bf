/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vCPUs ask of each other, and of themselves by other threads: requests that are served
 * between blocks, running alone, and sleep.
 *
 * in_guest says that a vCPU may hold host addresses of guest memory in its hands. Who enters
 * sets it and then looks at what was posted; who posts does so and then looks at in_guest; both
 * with sequential consistency, so one sees the other.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "vm/cpu/soft/priv.h"

static void futex_wake(atomic_uint *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void soft_want(struct soft_cpu *c, unsigned what)
{
	atomic_fetch_or(&c->wants, what);
	soft_xl_stop(c);
	if (atomic_load(&c->parked)) {
		atomic_store(&c->parked, 0);
		futex_wake(&c->parked);
	}
}

/* Sleeps only while nothing is wanted: parked is set first, then wants looked at. */
void soft_park(struct soft_cpu *c, uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns();
	struct timespec ts = { 0 }, *limit = NULL;

	if (deadline_ns <= now) {
		return;
	}
	if (deadline_ns != UINT64_MAX) {
		uint64_t left = deadline_ns - now;

		ts.tv_sec = (time_t)(left / NS_PER_SEC);
		ts.tv_nsec = (long)(left % NS_PER_SEC);
		limit = &ts;
	}
	atomic_store(&c->parked, 1);
	if (atomic_load(&c->wants) == 0) {
		(void)syscall(SYS_futex, &c->parked, FUTEX_WAIT_PRIVATE, 1, limit, NULL, 0);
	}
	atomic_store(&c->parked, 0);
}

void soft_guest_enter(struct soft_cpu *c)
{
	for (;;) {
		struct soft_cpu *alone = NULL;

		atomic_store(&c->in_guest, true);
		alone = atomic_load(&c->eng->alone);
		if (!alone || alone == c) {
			break;
		}
		atomic_store(&c->in_guest, false);
		pthread_mutex_lock(&c->eng->alone_lock);
		pthread_mutex_unlock(&c->eng->alone_lock);
	}
	atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_EXCLUSIVE);
	soft_inbox_serve(c);
}

void soft_guest_leave(struct soft_cpu *c)
{
	atomic_store(&c->in_guest, false);
}

void soft_inbox_serve(struct soft_cpu *c)
{
	struct soft_inbox *in = &c->inbox;

	if (atomic_load(&in->posted) == atomic_load(&in->served)) {
		return;
	}
	pthread_mutex_lock(&in->lock);
	atomic_fetch_and(&c->wants, ~(unsigned)SOFT_WANT_REQUEST);
	uint64_t posted = atomic_load(&in->posted);

	if (in->all_tlb) {
		soft_tlb_flush_all(c);
	}
	if (in->all_code) {
		soft_blocks_drop_all(c);
	}
	if (in->all_writes) {
		soft_tlb_drop_writes(c);
	}
	for (unsigned i = 0; i < in->n; i++) {
		uint64_t gpa = in->pages[i].gpa;
		struct soft_page *page = NULL;

		if (in->pages[i].what & SOFT_REQ_CODE) {
			soft_blocks_drop_page(c, gpa);
		}
		if (in->pages[i].what & SOFT_REQ_WRITES) {
			soft_tlb_drop_writes_page(c, gpa);
			if (soft_ram(c->eng, gpa, &page)) {
				atomic_fetch_and(&page->tagged, ~BIT(c->vcpu.id));
				atomic_fetch_and(&page->writers, ~BIT(c->vcpu.id));
			}
		}
	}
	in->n = 0;
	in->all_code = in->all_writes = in->all_tlb = false;
	atomic_store(&in->served, posted);
	pthread_mutex_unlock(&in->lock);
}

void soft_post_page(struct soft_cpu *to, uint64_t gpa, unsigned what)
{
	struct soft_inbox *in = &to->inbox;

	gpa &= ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	pthread_mutex_lock(&in->lock);
	for (unsigned i = 0; i < in->n; i++) {
		if (in->pages[i].gpa == gpa) {
			in->pages[i].what |= what;
			what = 0;
		}
	}
	if (what && in->n == SOFT_INBOX_PAGES) {
		in->all_code |= (what & SOFT_REQ_CODE) != 0;
		in->all_writes |= (what & SOFT_REQ_WRITES) != 0;
	} else if (what) {
		in->pages[in->n].gpa = gpa;
		in->pages[in->n++].what = what;
	}
	atomic_fetch_add(&in->posted, 1);
	soft_want(to, SOFT_WANT_REQUEST);
	pthread_mutex_unlock(&in->lock);
}

void soft_post_all(struct soft_cpu *to, bool code, bool writes, bool tlb)
{
	struct soft_inbox *in = &to->inbox;

	pthread_mutex_lock(&in->lock);
	in->all_code |= code;
	in->all_writes |= writes;
	in->all_tlb |= tlb;
	atomic_fetch_add(&in->posted, 1);
	soft_want(to, SOFT_WANT_REQUEST);
	pthread_mutex_unlock(&in->lock);
}

void soft_wait_served(struct soft_cpu *c, struct soft_cpu *other)
{
	uint64_t posted = atomic_load(&other->inbox.posted);

	while (atomic_load(&other->in_guest) && atomic_load(&other->inbox.served) < posted) {
		if (c) {
			soft_inbox_serve(c);
			if (atomic_load(&c->eng->alone)) {
				/* It runs alone, or wants to: out of its way. */
				soft_guest_leave(c);
				soft_guest_enter(c);
			}
		}
		(void)sched_yield();
	}
}

/* Everybody but c out of the guest; with alone_lock held. */
static void stop_others(struct soft_engine *eng, const struct soft_cpu *c)
{
	for (unsigned i = 0; i < eng->n_cpus; i++) {
		struct soft_cpu *o = eng->cpus[i];

		if (!o || o == c) {
			continue;
		}
		if (atomic_load(&o->in_guest)) {
			soft_want(o, SOFT_WANT_EXCLUSIVE);
		}
		while (atomic_load(&o->in_guest)) {
			(void)sched_yield();
		}
	}
}

/* In the place of a vCPU, for a thread that has none. */
static struct soft_cpu nobody;

void soft_hold(struct engine *e, bool on)
{
	struct soft_engine *eng = soft_engine(e);

	if (on) {
		pthread_mutex_lock(&eng->alone_lock);
		atomic_store(&eng->alone, &nobody);
		stop_others(eng, NULL);
	} else {
		atomic_store(&eng->alone, NULL);
		pthread_mutex_unlock(&eng->alone_lock);
	}
}

void soft_exclusive_begin(struct soft_cpu *c)
{
	struct soft_engine *eng = c->eng;

	if (eng->counted) {
		return; /* it is alone, as one vCPU runs at a time */
	}
	soft_guest_leave(c);
	pthread_mutex_lock(&eng->alone_lock);
	atomic_store(&eng->alone, c);
	c->alone = true;
	stop_others(eng, c);
	soft_guest_enter(c);
}

void soft_exclusive_end(struct soft_cpu *c)
{
	if (!c->alone) {
		return;
	}
	c->alone = false;
	atomic_store(&c->eng->alone, NULL);
	pthread_mutex_unlock(&c->eng->alone_lock);
}
