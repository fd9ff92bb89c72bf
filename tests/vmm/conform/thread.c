/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: the library's, each with a result that does not depend on who came first. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conform.h"

enum { THREADS = 6, ROUNDS = 4000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static uint64_t counter;
static atomic_uint_fast64_t atomic_counter;
static _Thread_local uint64_t own = 5;

/* fn in THREADS threads, each with its number; the sum of what they return. */
static uintptr_t all(void *(*fn)(void *))
{
	pthread_t t[THREADS];
	uintptr_t sum = 0;

	for (uintptr_t i = 0; i < THREADS; i++) {
		if (pthread_create(&t[i], NULL, fn, (void *)i) != 0) {
			broken("pthread_create");
		}
	}
	for (unsigned i = 0; i < THREADS; i++) {
		void *r = NULL;

		pthread_join(t[i], &r);
		sum += (uintptr_t)r;
	}
	return sum;
}

static void *with_mutex(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&lock);
		counter = counter * 1 + 3;
		pthread_mutex_unlock(&lock);
	}
	return (void *)1;
}

static void *with_atomics(void *arg)
{
	uint64_t seen = 0, want = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		atomic_fetch_add(&atomic_counter, 1);
		atomic_fetch_xor(&atomic_counter, (uint64_t)1 << (40 + (uintptr_t)arg));
		want = atomic_load(&atomic_counter);
		while (!atomic_compare_exchange_weak(&atomic_counter, &want, want + 2)) {
			seen++;
		}
	}
	return (void *)(uintptr_t)(seen * 0 + 1);
}

/* 16 bytes at once: both halves always belong together. */
static struct {
	uint64_t a, b;
} pair __attribute__((aligned(16)));

static void *with_pairs(void *arg)
{
	uintptr_t bad = 0;

	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t a = pair.a, b = pair.b;
		uint8_t ok = 0;

		while (!ok) {
			uint64_t na = a + 1, nb = b + 2;

			__asm__ volatile("lock cmpxchg16b %1; sete %0"
					 : "=q"(ok), "+m"(pair), "+a"(a), "+d"(b) : "b"(na), "c"(nb)
					 : "cc", "memory");
			bad += b != a * 2;
		}
	}
	return (void *)bad;
}

static void *with_own(void *arg)
{
	for (unsigned i = 0; i < 100; i++) {
		own += (uintptr_t)arg;
		sched_yield();
	}
	return (void *)(uintptr_t)own;
}

static pthread_barrier_t barrier;
static unsigned table[2][THREADS];

/* Each works on what all made in the round before. */
static void *with_barrier(void *arg)
{
	uintptr_t me = (uintptr_t)arg;

	table[0][me] = (unsigned)me;
	for (unsigned i = 0; i < 300; i++) {
		pthread_barrier_wait(&barrier);
		unsigned sum = i;

		for (unsigned k = 0; k < THREADS; k++) {
			sum = sum * 31 + table[i & 1][k];
		}
		table[!(i & 1)][me] = sum + (unsigned)me;
	}
	return (void *)(uintptr_t)table[0][me];
}

/* In turn: 0, 1, ... by a condition. */
static unsigned turn;

static void *in_turn(void *arg)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 100; i++) {
		pthread_mutex_lock(&lock);
		while (turn % THREADS != (uintptr_t)arg) {
			pthread_cond_wait(&cond, &lock);
		}
		counter = counter * 7 + (uintptr_t)arg;
		sum += counter;
		turn++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&lock);
	}
	return (void *)sum;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static uint64_t twin[2];

static void *with_rwlock(void *arg)
{
	uintptr_t bad = 0;

	for (unsigned i = 0; i < 1000; i++) {
		if ((i + (uintptr_t)arg) % 4 == 0) {
			pthread_rwlock_wrlock(&rwlock);
			twin[0]++;
			twin[1]++;
		} else {
			pthread_rwlock_rdlock(&rwlock);
			bad += twin[0] != twin[1];
		}
		pthread_rwlock_unlock(&rwlock);
	}
	return (void *)bad;
}

static sem_t slots, items;
static unsigned queue[8], head, tail;

static void *producer_consumer(void *arg)
{
	uintptr_t sum = 0;

	for (unsigned i = 0; i < 500; i++) {
		if ((uintptr_t)arg % 2) {
			sem_wait(&slots);
			pthread_mutex_lock(&lock);
			queue[head++ % 8] = i;
			pthread_mutex_unlock(&lock);
			sem_post(&items);
		} else {
			sem_wait(&items);
			pthread_mutex_lock(&lock);
			sum += queue[tail++ % 8];
			pthread_mutex_unlock(&lock);
			sem_post(&slots);
		}
	}
	return (void *)sum;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int n_once, n_cleaned, n_keys;
static pthread_key_t key;

static void only_once(void)
{
	n_once++;
}

static void at_the_end(void *v)
{
	n_keys += (int)(intptr_t)v;
}

static void clean(void *v)
{
	n_cleaned += (int)(intptr_t)v;
}

static void *cancelled(void *arg)
{
	pthread_once(&once, only_once);
	pthread_setspecific(key, (void *)((uintptr_t)arg + 1));
	pthread_cleanup_push(clean, (void *)10);
	for (;;) {
		pause();
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancellation(void)
{
	pthread_t t[THREADS];
	unsigned n = 0;

	pthread_key_create(&key, at_the_end);
	for (uintptr_t i = 0; i < THREADS; i++) {
		if (pthread_create(&t[i], NULL, cancelled, (void *)i) != 0) {
			broken("pthread_create");
		}
	}
	/* All must have come to their loop. */
	for (unsigned i = 0; i < THREADS; i++) {
		void *r = NULL;

		usleep(1000);
		pthread_cancel(t[i]);
		pthread_join(t[i], &r);
		n += r == PTHREAD_CANCELED;
	}
	out("cancelled", "%u once %d", n, n_once <= 1);
	pthread_key_delete(key);
}

static void *dies_with_it(void *arg)
{
	pthread_mutex_lock(arg);
	return NULL;
}

static void kinds_of_mutex(void)
{
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_t t;
	struct timespec soon = { 0, 0 };

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&m, &a);
	pthread_mutex_lock(&m);
	int r = pthread_mutex_lock(&m);

	out("error checking", "%s %s", strerrorname_np(r), strerrorname_np(pthread_mutex_trylock(&m)));
	pthread_mutex_unlock(&m);
	out("not ours", "%s", strerrorname_np(pthread_mutex_unlock(&m)));
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&m, &a);
	if (pthread_create(&t, NULL, dies_with_it, &m) != 0) {
		broken("pthread_create");
	}
	pthread_join(t, NULL);
	r = pthread_mutex_lock(&m);
	out("owner died", "%s", strerrorname_np(r));
	pthread_mutex_consistent(&m);
	out("again", "%d %d %d", pthread_mutex_lock(&m), pthread_mutex_unlock(&m), pthread_mutex_unlock(&m));
	pthread_mutex_lock(&lock);
	out("timed", "%s", strerrorname_np(pthread_mutex_timedlock(&lock, &soon)));
	pthread_mutex_unlock(&lock);
	pthread_mutexattr_destroy(&a);
}

static void *nothing(void *arg)
{
	return arg;
}

static void many(void)
{
	uintptr_t sum = 0;

	for (uintptr_t i = 0; i < 300; i++) {
		pthread_t t;
		void *r = NULL;

		if (pthread_create(&t, NULL, nothing, (void *)i) != 0 || pthread_join(t, &r) != 0) {
			broken("pthread_create");
		}
		sum += (uintptr_t)r;
	}
	out("one after another", "%zu", (size_t)sum);
}

/* Memory that one maps and unmaps while others work on theirs. */
static void *maps(void *arg)
{
	uintptr_t bad = 0;

	for (unsigned i = 0; i < 60; i++) {
		size_t size = (1 + (i * 7 + (uintptr_t)arg) % 16) * 4096;
		uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		memset(p, (int)((uintptr_t)arg + i), size);
		for (size_t k = 0; k < size; k += 509) {
			bad += p[k] != (uint8_t)((uintptr_t)arg + i);
		}
		mprotect(p, size, PROT_READ);
		bad += p[size - 1] != (uint8_t)((uintptr_t)arg + i);
		munmap(p, size);
	}
	return (void *)bad;
}

static double value_of(uintptr_t i)
{
	double v = 1 + (double)i;

	for (unsigned k = 0; k < 20000; k++) {
		v = v * 1.0000001 + 1.0 / (v + k);
	}
	return v;
}

static void *floating(void *arg)
{
	double v = value_of((uintptr_t)arg);
	uint64_t bits = 0;

	memcpy(&bits, &v, sizeof(bits));
	return (void *)bits;
}

void conform_thread(void)
{
	section("thread");
	uintptr_t n = all(with_mutex);

	out("mutex", "%zu %llu", (size_t)n, (unsigned long long)counter);
	n = all(with_atomics);
	out("atomics", "%zu %016llx", (size_t)n, (unsigned long long)atomic_counter);
	n = all(with_pairs);
	out("pairs", "%zu bad %llu %llu", (size_t)n, (unsigned long long)pair.a, (unsigned long long)pair.b);
	n = all(with_own);
	out("own memory", "%zu %llu", (size_t)n, (unsigned long long)own);
	pthread_barrier_init(&barrier, NULL, THREADS);
	out("barrier", "%zx", (size_t)all(with_barrier));
	counter = 0;
	out("in turn", "%zx", (size_t)all(in_turn));
	n = all(with_rwlock);
	out("readers and writers", "%zu bad %llu", (size_t)n, (unsigned long long)twin[1]);
	sem_init(&slots, 0, 8);
	sem_init(&items, 0, 0);
	out("producers and consumers", "%zu", (size_t)all(producer_consumer));
	cancellation();
	kinds_of_mutex();
	many();
	out("maps", "%zu bad", (size_t)all(maps));
	out("floating point", "%zx", (size_t)all(floating));
}
