/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers of v1, in which the specification speaks, as those of v2.
 */
#include <math.h>

#include "container/cgroup-priv.h"

/*
 * CPU shares 2..262144 (default 1024) to weight 1..10000 (default 100). As runc since 1.4:
 * the curve through these three points that is quadratic between the logarithms, so that a
 * container that asks for the default gets the default.
 */
uint64_t cg__weight_of_shares(uint64_t shares)
{
	if (shares == 0) {
		return 0; /* not set */
	}
	if (shares <= 2) {
		return 1;
	}
	if (shares >= 262144) {
		return 10000;
	}
	double l = log2((double)shares);

	return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

/* 10..1000 to 1..10000, linear. */
uint64_t cg__io_weight_of_blkio(uint64_t weight)
{
	if (weight == 0) {
		return 0; /* not set */
	}
	weight = MIN(MAX(weight, UINT64_C(10)), UINT64_C(1000));
	return 1 + (weight - 10) * 9999 / 990;
}

int cg__swap_of(const struct oci_memory *m, bool *ret_set, int64_t *ret, struct err *e)
{
	*ret_set = false;
	*ret = 0;
	int64_t limit = m->has_limit ? m->limit : 0;
	int64_t swap = m->has_swap ? m->swap : 0;

	if (swap < 0 || (swap == 0 && limit < 0)) {
		*ret_set = true;
		*ret = -1; /* without a limit for memory there is none for both */
		return 0;
	}
	if (swap == 0) {
		return 0;
	}
	if (limit <= 0) {
		return err_field(e, "/linux/resources/memory/swap",
				 "it is memory and swap together, so it needs a memory limit");
	}
	if (swap < limit) {
		return err_field(e, "/linux/resources/memory/swap",
				 "it is memory and swap together, so it cannot be below the memory limit");
	}
	*ret_set = true;
	*ret = swap - limit;
	return 0;
}

bool cg__page_size_valid(const char *s)
{
	size_t digits = strspn(s, "0123456789");

	return digits > 0 && digits < 10 &&
	       (str_eq(s + digits, "KB") || str_eq(s + digits, "MB") || str_eq(s + digits, "GB"));
}
