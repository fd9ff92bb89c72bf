/* SPDX-License-Identifier: Apache-2.0 */
/* Futexes by the call itself, between threads and between processes. */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conform.h"

static long futex(_Atomic uint32_t *at, int op, uint32_t v, const void *timeout, _Atomic uint32_t *at2, uint32_t v3)
{
	return syscall(SYS_futex, at, op, v, timeout, at2, v3);
}

static void edges(void)
{
	_Atomic uint32_t word = 5, other = 0;
	struct timespec soon = { 0, 1000000 }, past = { 0, 0 };

	out("other value", "%s", outcome(futex(&word, FUTEX_WAIT, 6, NULL, NULL, 0)));
	out("too long", "%s", outcome(futex(&word, FUTEX_WAIT, 5, &soon, NULL, 0)));
	out("too late", "%s", outcome(futex(&word, FUTEX_WAIT_BITSET, 5, &past, NULL, 1)));
	out("no bits", "%s", outcome(futex(&word, FUTEX_WAIT_BITSET, 5, &soon, NULL, 0)));
	out("nobody", "%ld", futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0));
	out("not aligned", "%s", outcome(futex((void *)((uintptr_t)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0)));
	out("bad memory", "%s", outcome(futex((void *)64, FUTEX_WAIT, 0, NULL, NULL, 0)));
	out("unknown", "%s", outcome(futex(&word, 99, 0, NULL, NULL, 0)));
	out("requeue, changed", "%s", outcome(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 7)));
	out("priority, owned", "%s", outcome(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0)));
}

/* A lock as Drepper's: 0 free, 1 taken, 2 taken and waited for. */
struct shared {
	_Atomic uint32_t lock;
	_Atomic uint32_t turn;
	uint64_t         count;
	uint64_t         twin;
};

static void take(_Atomic uint32_t *l)
{
	uint32_t c = 0;

	if (atomic_compare_exchange_strong(l, &c, 1)) {
		return;
	}
	if (c != 2) {
		c = atomic_exchange(l, 2);
	}
	while (c != 0) {
		futex(l, FUTEX_WAIT, 2, NULL, NULL, 0);
		c = atomic_exchange(l, 2);
	}
}

static void give(_Atomic uint32_t *l)
{
	if (atomic_fetch_sub(l, 1) != 1) {
		atomic_store(l, 0);
		futex(l, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

static void work(struct shared *s)
{
	for (unsigned i = 0; i < 3000; i++) {
		take(&s->lock);
		s->count++;
		if (i % 64 == 0) {
			sched_yield();
		}
		s->twin += s->count & 1;
		give(&s->lock);
	}
}

static void in_processes(void)
{
	struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (unsigned i = 0; i < 4; i++) {
		if (fork() == 0) {
			work(s);
			_exit(0);
		}
	}
	while (wait(NULL) > 0) {
	}
	out("processes", "%llu %llu lock %u", (unsigned long long)s->count, (unsigned long long)s->twin, s->lock);
	munmap(s, 4096);
}

static struct shared here;

static void *in_thread(void *arg)
{
	work(arg);
	return NULL;
}

static void in_threads(void)
{
	pthread_t t[4];

	for (unsigned i = 0; i < 4; i++) {
		if (pthread_create(&t[i], NULL, in_thread, &here) != 0) {
			broken("pthread_create");
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
	}
	out("threads", "%llu %llu lock %u", (unsigned long long)here.count, (unsigned long long)here.twin, here.lock);
}

/* The word goes round: each waits for its number. */
static _Atomic uint32_t token;
enum { RING = 5, TURNS = 200 };

static void *ring(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	for (unsigned i = 0; i < TURNS; i++) {
		uint32_t v;

		while ((v = token) % RING != me) {
			futex(&token, FUTEX_WAIT_PRIVATE, v, NULL, NULL, 0);
		}
		token++;
		futex(&token, FUTEX_WAKE_PRIVATE, 1000, NULL, NULL, 0);
	}
	return NULL;
}

static void rings(void)
{
	pthread_t t[RING];

	for (uintptr_t i = 0; i < RING; i++) {
		if (pthread_create(&t[i], NULL, ring, (void *)i) != 0) {
			broken("pthread_create");
		}
	}
	for (unsigned i = 0; i < RING; i++) {
		pthread_join(t[i], NULL);
	}
	out("ring", "%u", token);
}

static _Atomic uint32_t gate, second_gate, through, waiting;

static void *at_gate(void *arg)
{
	(void)arg;
	waiting++;
	while (gate == 0) {
		futex(&gate, FUTEX_WAIT, 0, NULL, NULL, 0);
	}
	through++;
	return NULL;
}

/* Wake one, send the others to the second word, wake them there. */
static void requeued(void)
{
	pthread_t t[6];

	for (unsigned i = 0; i < 6; i++) {
		if (pthread_create(&t[i], NULL, at_gate, NULL) != 0) {
			broken("pthread_create");
		}
	}
	while (waiting < 6) {
		sched_yield();
	}
	/* Who is not asleep yet sees the gate open when he looks. */
	long moved = 0, n = 0;

	for (unsigned i = 0; i < 1000 && moved < 1; i++) {
		usleep(1000);
		moved = futex(&gate, FUTEX_CMP_REQUEUE, 0, (void *)100, &second_gate, 0);
	}
	gate = 1;
	futex(&gate, FUTEX_WAKE, 100, NULL, NULL, 0);
	while (through < 6 && n < 100000) {
		futex(&second_gate, FUTEX_WAKE, 100, NULL, NULL, 0);
		usleep(100);
		n++;
	}
	for (unsigned i = 0; i < 6; i++) {
		pthread_join(t[i], NULL);
	}
	out("requeue", "%s through %u", moved > 0 ? "moved" : "did not move", through);
}

/* With a barrier in all running threads the other one needs none of its own. */
static void barriers(void)
{
	long r = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);

	out("membarrier", "%s %s", outcome(r),
	    outcome(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)));
}

void conform_futex(void)
{
	section("futex");
	edges();
	in_processes();
	in_threads();
	rings();
	requeued();
	barriers();
}
