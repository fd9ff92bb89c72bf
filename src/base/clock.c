/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts = { .tv_sec = 0 };

	(void)clock_gettime(id, &ts); /* cannot fail for these two clocks */
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

uint64_t clock_thread_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/*
 * Not by gmtime_r() and strftime(): they read the time zone's file first. The year is counted
 * from March, so that the leap day is its last.
 */
struct time_text time_format(uint64_t wall_ns)
{
	enum { ERA_DAYS = 146097, TO_1970 = 719468, DAY = 86400 };
	struct time_text t;
	uint64_t sec = wall_ns / NS_PER_SEC, days = sec / DAY + TO_1970;
	unsigned in_day = (unsigned)(sec % DAY), in_era = (unsigned)(days % ERA_DAYS);
	unsigned of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	unsigned in_year = in_era - (365 * of_era + of_era / 4 - of_era / 100);
	unsigned march = (5 * in_year + 2) / 153, day = in_year - (153 * march + 2) / 5 + 1;
	unsigned month = march < 10 ? march + 3 : march - 9;
	unsigned year = (unsigned)(days / ERA_DAYS) * 400 + of_era + (month <= 2);

	(void)snprintf(t.text, sizeof(t.text), "%04u-%02u-%02uT%02u:%02u:%02u.%09luZ", year % 10000,
		       month % 100, day % 100, in_day / 3600, in_day / 60 % 60, in_day % 60,
		       (unsigned long)(wall_ns % NS_PER_SEC));
	return t;
}

/* ".5" -> 500000000; *s moves behind the digits. */
static uint64_t parse_fraction(const char **s)
{
	uint64_t ns = 0, unit = NS_PER_SEC / 10;

	if (**s != '.') {
		return 0;
	}
	for ((*s)++; **s >= '0' && **s <= '9'; (*s)++) {
		ns += (uint64_t)(**s - '0') * unit;
		unit /= 10;
	}
	return ns;
}

static int parse_epoch(const char *s, uint64_t *ret_wall_ns)
{
	uint64_t sec = 0;

	if (*s < '0' || *s > '9') {
		return -EINVAL;
	}
	for (; *s >= '0' && *s <= '9'; s++) {
		sec = sec * 10 + (uint64_t)(*s - '0');
		if (sec > UINT64_C(18000000000)) {
			return -ERANGE;
		}
	}
	uint64_t ns = parse_fraction(&s);

	if (*s) {
		return -EINVAL;
	}
	*ret_wall_ns = sec * NS_PER_SEC + ns;
	return 0;
}

int time_parse(const char *s, uint64_t *ret_wall_ns)
{
	struct tm tm = { .tm_sec = 0 };
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t offset = 0;

	if (!p) {
		return parse_epoch(s, ret_wall_ns);
	}
	uint64_t ns = parse_fraction(&p);

	if (*p == '+' || *p == '-') {
		int hours, minutes, used = 0;

		if (sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || p[1 + used]) {
			return -EINVAL;
		}
		offset = (hours * 60 + minutes) * 60 * (*p == '-' ? -1 : 1);
	} else if (strcmp(p, "Z") != 0 && strcmp(p, "z") != 0) {
		return -EINVAL;
	}

	int64_t sec = (int64_t)timegm(&tm) - offset;

	if (sec < 0) {
		return -ERANGE;
	}
	*ret_wall_ns = (uint64_t)sec * NS_PER_SEC + ns;
	return 0;
}
