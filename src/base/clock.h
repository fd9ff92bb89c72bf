/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time. Code that runs in a loop takes its time from the loop; this is for the rest.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/def.h"

#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MS  UINT64_C(1000000)

/* Host monotonic time, nanoseconds; and since the Unix epoch. */
uint64_t clock_now_ns(void);
uint64_t clock_wall_ns(void);

/* What the calling thread has had of the CPUs. */
uint64_t clock_thread_ns(void);

/* RFC 3339 in UTC with nanoseconds: "2026-01-02T03:04:05.000000006Z". */
struct time_text {
	char text[40];
};
struct time_text time_format(uint64_t wall_ns);

/* RFC 3339 with any offset, or seconds since the epoch ("1700000000", "1700000000.5"). */
int time_parse(const char *s, uint64_t *ret_wall_ns) must_check;

#endif
