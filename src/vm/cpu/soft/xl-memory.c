/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of the code cache: how it is mapped and cut into segments, and where in it things are.
 */
#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/map.h"
#include "vm/cpu/soft/xl-cache.h"
#include "vm/cpu/soft/xl-stats.h"

enum {
	HWCAP2_FSGSBASE_BIT = 1 << 1,
	/* Of the bytes of a segment, so many of 8 may be lines of code, their ways, and records:
	 * how many are depends on the program. */
	LINES_OF_8 = 5, WAYS_OF_8 = 5, RECORDS_OF_8 = 6,
};

/* Shared memory without a name, which is what perf takes for code that was made at run time;
 * nowhere can it be written and run. */
static int map_code(struct xl_cache *x)
{
	void *rw = NULL, *rx = NULL;
	int r = sys_mmap(x->code_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &rw);

	x->rw = rw;
	r = r < 0 ? r : sys_mremap_again(rw, x->code_bytes, &rx);
	x->rx = rx;
	return r < 0 ? r : sys_mprotect(rx, x->code_bytes, PROT_READ | PROT_EXEC);
}

static void *records(size_t bytes)
{
	void *p = NULL;

	if (sys_mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		     -1, 0, &p) < 0) {
		return NULL;
	}
	ignore_result(sys_madvise(p, bytes, MADV_HUGEPAGE)); /* or slower */
	return p;
}

static void unmap(void *p, size_t bytes)
{
	if (p) {
		munmap(p, bytes);
	}
}

void xl_free(struct soft_engine *eng)
{
	struct xl_cache *x = eng->xl;

	if (!x) {
		return;
	}
	unmap(x->rw, x->code_bytes);
	unmap(x->rx, x->code_bytes);
	unmap(x->records, x->record_bytes);
	free(x->chunks);
	pthread_mutex_destroy(&x->lock);
	free(x);
	eng->xl = NULL;
}

const char *engine_soft_lacks(void)
{
	return !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) ? "FSGSBASE" :
	       !__builtin_cpu_supports("bmi2") ? "BMI2" :
	       !__builtin_cpu_supports("avx") ? "AVX" : NULL;
}

static void segments_init(struct xl_cache *x)
{
	struct xl_code e = { .at = x->rw, .end = x->rw + x->segment_code };

	for (unsigned i = 0; i < XL_SEGMENTS; i++) {
		x->segments[i].first = i * x->segment_code;
		x->segments[i].first_way = x->ways + i * x->segment_ways;
	}
	xl_write_routines(&e, x->rw, &x->routines);
	x->segments[0].first += (uint32_t)(e.at - x->rw);
	x->segments[0].records = XL_RECORD;   /* index 0 says that there is none */
}

int xl_new(struct soft_engine *eng, size_t bytes)
{
	struct xl_cache *x = NULL;
	size_t eighth = bytes / XL_SEGMENTS / 8 & ~(size_t)63;
	int r = 0;

	if (engine_soft_lacks()) {
		return -ENOTSUP;
	}
	if (bytes < XL_BYTES_MIN || bytes > XL_BYTES_MAX) {
		return -EINVAL;
	}
	x = mem_new(struct xl_cache);
	if (!x) {
		return -ENOMEM;
	}
	pthread_mutex_init(&x->lock, NULL);
	eng->xl = x;
	x->segment_bytes = (uint32_t)(eighth * 8);
	x->segment_code = (uint32_t)(eighth * LINES_OF_8);
	x->segment_ways = (uint32_t)(eighth * WAYS_OF_8);
	x->segment_records = (uint32_t)(eighth * RECORDS_OF_8);
	x->ways = x->segment_code * XL_SEGMENTS;
	x->code_bytes = x->ways + (size_t)x->segment_ways * XL_SEGMENTS;
	x->record_bytes = (size_t)x->segment_records * XL_SEGMENTS;
	x->usage.bytes = (size_t)x->segment_bytes * XL_SEGMENTS;
	r = map_code(x);
	x->records = records(x->record_bytes);
	x->chunks = mem_calloc((x->ways >> XL_CHUNK_SHIFT) + 1, sizeof(struct xl_block *));
	if (r < 0 || !x->records || !x->chunks) {
		xl_free(eng);
		return r < 0 ? r : -ENOMEM;
	}
	segments_init(x);
	xl_perf_begin(eng, x->segments[0].first);
	return 0;
}

/* --- What is there --- */

void xl_usage(const struct soft_engine *eng, struct xl_usage *ret)
{
	struct xl_cache *x = eng->xl;

	pthread_mutex_lock(&x->lock);
	*ret = x->usage;
	ret->emptied = x->epoch;
	ret->used = 0;
	for (unsigned i = 0; i < XL_SEGMENTS; i++) {
		ret->used += x->segments[i].code + x->segments[i].ways + x->segments[i].records;
	}
	pthread_mutex_unlock(&x->lock);
}

uint32_t xl_epoch(const struct soft_engine *eng)
{
	return xl_cache_epoch(eng->xl);
}

const void *xl_entry(const struct soft_engine *eng)
{
	return eng->xl->rx + eng->xl->routines.enter;
}

const uint8_t *xl_code_at(const struct soft_engine *eng, uint32_t off)
{
	return eng->xl->rx + off;
}

const uint8_t *xl_rw(const struct xl_cache *x, uint32_t off)
{
	return x->rw + off;
}

uint32_t xl_off(const struct xl_cache *x, const uint8_t *rw)
{
	return (uint32_t)(rw - x->rw);
}

const struct xl_routines *xl_routines(const struct xl_cache *x)
{
	return &x->routines;
}

struct xl_across *xl_across_of(struct xl_cache *x, bool user)
{
	return x->across[user];
}
