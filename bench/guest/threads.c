/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads: a lock between them, a counter of both, and work that each does alone. */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "guest.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t        guarded;
static _Atomic uint64_t shared, greatest;

struct thread {
	pthread_t id;
	unsigned  work;
	uint64_t  sum;
};

static uint64_t together(unsigned threads, unsigned work, void *(*run)(void *))
{
	struct thread t[2] = { { .work = work }, { .work = work } };
	uint64_t sum = 0;

	for (unsigned i = 0; i < threads; i++) {
		if (pthread_create(&t[i].id, NULL, run, &t[i])) {
			give_up("no thread");
		}
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(t[i].id, NULL);
		sum += t[i].sum;
	}
	return sum;
}

static void *locking(void *arg)
{
	struct thread *t = arg;

	for (unsigned i = 0; i < t->work * 1000; i++) {
		pthread_mutex_lock(&lock);
		guarded++;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static uint64_t mutex(unsigned work)
{
	return together(2, work, locking) + guarded;
}

static void *counting(void *arg)
{
	struct thread *t = arg;

	for (uint64_t i = 0; i < t->work * 1000u; i++) {
		atomic_fetch_add(&shared, 1);

		uint64_t seen = atomic_load(&greatest);

		while (seen < i && !atomic_compare_exchange_weak(&greatest, &seen, i)) {
		}
	}
	return NULL;
}

static uint64_t atomics(unsigned work)
{
	return together(2, work, counting) + shared + greatest;
}

static void *alone(void *arg)
{
	struct thread *t = arg;
	uint32_t table[256], x = 1;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i * 2654435761u;
	}
	for (unsigned i = 0; i < t->work * 1000000; i++) {
		x = table[x & 255] ^ (x >> 3) ^ i;
		table[i & 255] += x;
		t->sum += x;
		KEEP(x);
	}
	return NULL;
}

static uint64_t one_alone(unsigned work)
{
	return together(1, work, alone);
}

static uint64_t two_alone(unsigned work)
{
	return together(2, work, alone);
}

const struct program thread_programs[] = {
	{ "mutex", mutex, 3000, NULL },
	{ "atomics", atomics, 8000, NULL },
	{ "parallel1", one_alone, 40, NULL },
	{ "parallel2", two_alone, 40, NULL },
	{ 0 },
};
