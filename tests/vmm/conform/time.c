/* SPDX-License-Identifier: Apache-2.0 */
/* Time: what does not depend on when and where this runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "conform.h"

static int64_t now(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) < 0) {
		broken("clock_gettime");
	}
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void calendar(void)
{
	static const time_t times[] = { 0, 951782400, 1711846800, -1, 4102444800, 1099511627776 };
	char text[128], line[64];
	struct sum s;

	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct tm tm;

		localtime_r(&times[i], &tm);
		strftime(text, sizeof(text), "%F %T %z %a %j %U", &tm);
		snprintf(line, sizeof(line), "calendar %zu", i);
		out(line, "%s back %d", text, mktime(&tm) == times[i]);
	}
	sum_start(&s);
	for (unsigned i = 0; i < 500; i++) {
		time_t t = (time_t)(rnd() >> 30);
		struct tm tm;

		gmtime_r(&t, &tm);
		sum_u64(&s, (uint64_t)(tm.tm_year * 400 + tm.tm_yday) << 20 | (uint64_t)tm.tm_sec);
		sum_u64(&s, timegm(&tm) == t);
	}
	out("calendar", "%016llx", (unsigned long long)s.v);
	unsetenv("TZ");
}

/* Through the library (vDSO) and by the call itself. */
static void clocks(void)
{
	static const struct {
		const char *name;
		clockid_t   clock;
	} all[] = { { "monotonic", CLOCK_MONOTONIC }, { "raw", CLOCK_MONOTONIC_RAW },
		    { "boot", CLOCK_BOOTTIME }, { "coarse", CLOCK_MONOTONIC_COARSE },
		    { "process", CLOCK_PROCESS_CPUTIME_ID }, { "thread", CLOCK_THREAD_CPUTIME_ID } };

	for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
		int64_t last = now(all[k].clock);
		unsigned back = 0, apart = 0;

		for (unsigned i = 0; i < 3000; i++) {
			struct timespec t;
			int64_t a = now(all[k].clock), b;

			syscall(SYS_clock_gettime, all[k].clock, &t);
			b = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
			back += a < last;
			apart += b < a;
			last = b;
		}
		out(all[k].name, "%u back %u apart", back, apart);
	}
}

/* Never too early. */
static void sleeps(void)
{
	static const long lengths[] = { 1, 1000, 1000000, 20000000 };
	unsigned early = 0;

	for (size_t i = 0; i < 4; i++) {
		struct timespec t = { 0, lengths[i] };
		int64_t start = now(CLOCK_MONOTONIC);

		nanosleep(&t, NULL);
		early += now(CLOCK_MONOTONIC) - start < lengths[i];
	}
	out("sleep", "%u early", early);
	int64_t end = now(CLOCK_MONOTONIC) + 5000000;
	struct timespec at = { end / 1000000000, end % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	out("sleep until", "%s", now(CLOCK_MONOTONIC) >= end ? "then" : "early");
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
	uint64_t count = 0, n = 0;
	int64_t start = now(CLOCK_MONOTONIC);

	timerfd_settime(fd, 0, &every, NULL);
	while (count < 20 && read(fd, &n, sizeof(n)) == sizeof(n)) {
		count += n;
	}
	int64_t took = now(CLOCK_MONOTONIC) - start;

	out("timer", "%s %s", count >= 20 ? "enough" : "missing",
	    took >= (int64_t)count * 1000000 ? "in time" : "early");
	close(fd);
}

void conform_time(void)
{
	section("time");
	calendar();
	clocks();
	sleeps();
}
