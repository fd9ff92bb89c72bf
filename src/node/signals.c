/* SPDX-License-Identifier: Apache-2.0 */
#include "node/signals.h"

#include <errno.h>
#include <signal.h>
#include <strings.h>

#include "base/str.h"

/* Real-time signals of the kernel, as runc counts them: 34 to 64. */
enum { RT_MIN = 34, RT_MAX = 64 };

static int parse_realtime(const char *s)
{
	uint64_t n = 0;

	if (strncasecmp(s, "RTMIN", 5) == 0) {
		return !s[5] ? RT_MIN : s[5] == '+' && parse_u64(s + 6, 30, &n) == 0 ?
		       RT_MIN + (int)n : -EINVAL;
	}
	if (strncasecmp(s, "RTMAX", 5) == 0) {
		return !s[5] ? RT_MAX : s[5] == '-' && parse_u64(s + 6, 30, &n) == 0 ?
		       RT_MAX - (int)n : -EINVAL;
	}
	return -EINVAL;
}

int signo_parse(const char *text)
{
	uint64_t n = 0;

	if (parse_u64(text, RT_MAX, &n) == 0) {
		return n > 0 ? (int)n : -EINVAL;
	}
	const char *s = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;

	for (int i = 1; i < 32; i++) {
		const char *name = sigabbrev_np(i);

		if (name && strcasecmp(name, s) == 0) {
			return i;
		}
	}
	return parse_realtime(s);
}
