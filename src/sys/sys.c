/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/sys.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static const char *const names[SYS_CALL__COUNT] = {
#define X(name) [SYS_CALL_##name] = #name,
	SYS_CALLS(X)
#undef X
};

struct fault {
	unsigned countdown;  /* calls until the first failure; 0: not armed, or failing */
	unsigned left;       /* failures still to come; UINT_MAX: no end */
	int      errnum;
};

static struct fault faults[SYS_CALL__COUNT];
static struct fault any_fault;
static bool armed;           /* the one test on the way of every call */
static unsigned hits;
static sys_observe_fn observer;
static void *observer_ud;

const char *sys_call_name(enum sys_call call)
{
	return names[call];
}

static void arm(struct fault *f, unsigned nth, unsigned times, int errnum)
{
	assert(nth > 0 && errnum > 0);
	*f = (struct fault){ .countdown = nth, .left = times ? times : UINT32_MAX,
			     .errnum = errnum };
	hits = 0;
	armed = true;
}

void sys_fault_arm(enum sys_call call, unsigned nth, unsigned times, int errnum)
{
	arm(&faults[call], nth, times, errnum);
}

void sys_fault_arm_any(unsigned nth, int errnum)
{
	arm(&any_fault, nth, 1, errnum);
}

void sys_fault_clear(void)
{
	memset(faults, 0, sizeof(faults));
	memset(&any_fault, 0, sizeof(any_fault));
	armed = false;
}

unsigned sys_fault_hits(void)
{
	return hits;
}

static int fire(struct fault *f)
{
	if (f->errnum == 0 || f->left == 0 || (f->countdown > 0 && --f->countdown > 0)) {
		return 0;
	}
	if (f->left != UINT32_MAX) {
		f->left--;
	}
	hits++;
	return -f->errnum;
}

int sys__fault(enum sys_call call)
{
	if (!armed) {
		return 0;
	}
	int r = fire(&any_fault);
	int s = fire(&faults[call]);

	return r ? r : s;
}

static int errno_parse(const char *name)
{
	static const struct {
		const char *name;
		int         value;
	} table[] = {
		{ "EPERM", EPERM }, { "ENOENT", ENOENT }, { "EINTR", EINTR }, { "EIO", EIO },
		{ "EAGAIN", EAGAIN }, { "ENOMEM", ENOMEM }, { "EACCES", EACCES },
		{ "EBUSY", EBUSY }, { "EEXIST", EEXIST }, { "EINVAL", EINVAL },
		{ "EMFILE", EMFILE }, { "ENFILE", ENFILE }, { "ENOSPC", ENOSPC },
		{ "EROFS", EROFS }, { "ENOSYS", ENOSYS }, { "EOPNOTSUPP", EOPNOTSUPP },
		{ "EDQUOT", EDQUOT }, { "ESRCH", ESRCH }, { "EXDEV", EXDEV },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (str_eq(name, table[i].name)) {
			return table[i].value;
		}
	}
	return -EINVAL;
}

static int parse_one(const char *text, size_t len)
{
	char call[32], nth[16], err[16];

	if (len >= 64) {
		return -EINVAL;
	}
	char one[64];

	memcpy(one, text, len);
	one[len] = '\0';
	if (sscanf(one, "%31[a-z0-9_]:%15[0-9+]:%15[A-Z]", call, nth, err) != 3) {
		return -EINVAL;
	}

	size_t n = strlen(nth);
	bool forever = nth[n - 1] == '+';
	uint64_t count;
	int errnum = errno_parse(err);

	if (forever) {
		nth[n - 1] = '\0';
	}
	if (errnum < 0 || parse_u64(nth, 1000000, &count) < 0 || count == 0) {
		return -EINVAL;
	}
	if (str_eq(call, "any")) {
		arm(&any_fault, (unsigned)count, forever ? 0 : 1, errnum);
		return 0;
	}
	for (size_t i = 0; i < SYS_CALL__COUNT; i++) {
		if (str_eq(call, names[i])) {
			sys_fault_arm((enum sys_call)i, (unsigned)count, forever ? 0 : 1, errnum);
			return 0;
		}
	}
	return -EINVAL;
}

int sys_fault_parse(const char *text)
{
	const char *part;
	size_t len;

	while (str_split(&text, ',', &part, &len)) {
		int r = parse_one(part, len);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

void sys_observe(sys_observe_fn fn, void *ud)
{
	observer = fn;
	observer_ud = ud;
}

bool sys__observed(void)
{
	return observer != NULL;
}

void sys__note(const struct sys_change *c)
{
	if (observer) {
		observer(c, observer_ud);
	}
}

int sys__ret(int r)
{
	return r < 0 ? -errno : r;
}

ssize_t sys__retn(ssize_t r)
{
	return r < 0 ? -errno : r;
}
