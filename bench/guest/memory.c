/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's memcpy, on memory that no cache holds and on memory that all do. */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

enum { BIG = 16 << 20, SMALL = 16 << 10, PAGE = 4096, APART = 37 * PAGE };

static unsigned char *from, *to;

/* Not a power of two apart, which translation caches of some emulators cannot bear. */
static void prepare(void)
{
	size_t size = 2 * BIG + APART;

	from = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (from == MAP_FAILED) {
		give_up("no memory");
	}
	to = from + BIG + APART;
	for (size_t i = 0; i < size; i += 64) {
		uint32_t value = random_next();

		memcpy(from + i, &value, sizeof(value));
	}
}

static uint64_t copy(unsigned times, size_t size)
{
	for (unsigned i = 0; i < times; i++) {
		from[i % size] ^= (unsigned char)i;
		memcpy(to, from, size);
		KEEP(to);
	}

	uint64_t sum = 0;

	for (size_t i = 0; i < size; i += 1021) {
		sum = sum * 31 + to[i];
	}
	return sum;
}

static uint64_t copy_big(unsigned work)
{
	return copy(work, BIG);
}

static uint64_t copy_small(unsigned work)
{
	return copy(work * 100, SMALL);
}

const struct program memory_programs[] = {
	{ "memcpy16m", copy_big, 40, prepare },
	{ "memcpy16k", copy_small, 2000, prepare },
	{ 0 },
};
