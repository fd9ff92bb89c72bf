/* SPDX-License-Identifier: Apache-2.0 */
#include "container/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "sys/cred.h"
#include "sys/proc.h"

#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif

#define CAP(name) [CAP_##name] = "CAP_" #name
static const char *const names[] = {
	CAP(CHOWN), CAP(DAC_OVERRIDE), CAP(DAC_READ_SEARCH), CAP(FOWNER), CAP(FSETID), CAP(KILL),
	CAP(SETGID), CAP(SETUID), CAP(SETPCAP), CAP(LINUX_IMMUTABLE), CAP(NET_BIND_SERVICE),
	CAP(NET_BROADCAST), CAP(NET_ADMIN), CAP(NET_RAW), CAP(IPC_LOCK), CAP(IPC_OWNER),
	CAP(SYS_MODULE), CAP(SYS_RAWIO), CAP(SYS_CHROOT), CAP(SYS_PTRACE), CAP(SYS_PACCT),
	CAP(SYS_ADMIN), CAP(SYS_BOOT), CAP(SYS_NICE), CAP(SYS_RESOURCE), CAP(SYS_TIME),
	CAP(SYS_TTY_CONFIG), CAP(MKNOD), CAP(LEASE), CAP(AUDIT_WRITE), CAP(AUDIT_CONTROL),
	CAP(SETFCAP), CAP(MAC_OVERRIDE), CAP(MAC_ADMIN), CAP(SYSLOG), CAP(WAKE_ALARM),
	CAP(BLOCK_SUSPEND), CAP(AUDIT_READ), CAP(PERFMON), CAP(BPF), CAP(CHECKPOINT_RESTORE),
};
#undef CAP

int caps_parse(const char *name)
{
	const char *n = strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		if (strcasecmp(names[i] + 4, n) == 0) {
			return (int)i;
		}
	}
	return -EINVAL;
}

const char *caps_name(unsigned cap)
{
	return cap < ARRAY_LEN(names) ? names[cap] : NULL;
}

unsigned caps_last(void)
{
	static unsigned last; /* the kernel's, which does not change */

	if (last == 0) {
		unsigned n = 0;

		/* Not from /proc: a container's may be there. 63 is what a mask can hold. */
		while (n < 63 && prctl(PR_CAPBSET_READ, n + 1, 0, 0, 0) >= 0) {
			n++;
		}
		last = n;
	}
	return last;
}

int caps_held(uint64_t *ret)
{
	struct sys_caps c;
	uint64_t bounding = 0;
	int r = sys_capget(&c);

	if (r < 0) {
		return r;
	}
	for (unsigned i = 0; i <= caps_last(); i++) {
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) {
			bounding |= BIT(i);
		}
	}
	*ret = bounding & c.permitted;
	return 0;
}

/* The names of one set as a mask; those that are not there are collected for one warning. */
static uint64_t set_mask(const struct jstrv *set, uint64_t held, struct strv *unknown,
			 struct strv *not_held, int *r)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < set->n && *r == 0; i++) {
		int cap = caps_parse(set->v[i]);

		if (cap < 0 || (unsigned)cap > caps_last()) {
			*r = strv_has(unknown, set->v[i]) ? 0 : strv_add(unknown, set->v[i]);
		} else if (!(held & BIT(cap))) {
			*r = strv_has(not_held, set->v[i]) ? 0 : strv_add(not_held, set->v[i]);
		} else {
			mask |= BIT(cap);
		}
	}
	return mask;
}

static void warn(const char *what, const struct strv *list)
{
	auto_buf struct buf b = BUF_INIT;

	if (list->n == 0) {
		return;
	}
	for (size_t i = 0; i < list->n; i++) {
		buf_printf(&b, "%s%s", i > 0 ? " " : "", list->v[i]);
	}
	log_warn(what, "capabilities", buf_str(&b));
}

/* Take out of a set what the kernel would refuse, and note the names. */
static int drop(uint64_t *set, uint64_t possible, struct strv *names_out, int r)
{
	for (unsigned i = 0; i <= caps_last() && r == 0; i++) {
		if ((*set & ~possible & BIT(i)) && caps_name(i) && !strv_has(names_out, names[i])) {
			r = strv_add(names_out, names[i]);
		}
	}
	*set &= possible;
	return r;
}

int caps_resolve(const struct oci_caps *c, uint64_t held, struct caps *ret, struct err *e)
{
	auto_strv struct strv unknown = STRV_INIT, not_held = STRV_INIT, refused = STRV_INIT;
	struct caps k = { 0 };
	int r = 0;

	if (!c) {
		*ret = k;
		return 0;
	}
	k.bounding = set_mask(&c->bounding, held, &unknown, &not_held, &r);
	k.effective = set_mask(&c->effective, held, &unknown, &not_held, &r);
	k.permitted = set_mask(&c->permitted, held, &unknown, &not_held, &r);
	k.inheritable = set_mask(&c->inheritable, held, &unknown, &not_held, &r);
	k.ambient = set_mask(&c->ambient, held, &unknown, &not_held, &r);
	r = drop(&k.effective, k.permitted, &refused, r);
	r = drop(&k.inheritable, k.bounding, &refused, r);
	r = drop(&k.ambient, k.permitted & k.inheritable, &refused, r);
	if (r < 0) {
		return err_nomem(e);
	}
	warn("ignored capabilities that this kernel does not know", &unknown);
	warn("left out capabilities that this process does not hold itself", &not_held);
	warn("left out effective capabilities that are not permitted, inheritable ones that are "
	     "not bounding, ambient ones that are not permitted and inheritable", &refused);
	*ret = k;
	return 0;
}

int caps_drop_bounding(const struct caps *c)
{
	int r = 0;

	for (unsigned i = 0; i <= caps_last() && r == 0; i++) {
		/* One that is gone already needs no right to be dropped. */
		if (!(c->bounding & BIT(i)) && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) {
			r = sys_prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
		}
	}
	return r;
}

int caps_apply(const struct caps *c)
{
	struct sys_caps s = { .effective = c->effective, .permitted = c->permitted,
			      .inheritable = c->inheritable };
	int r = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

	r = r < 0 ? r : sys_capset(&s);
	for (unsigned i = 0; i <= caps_last() && r >= 0; i++) {
		if (c->ambient & BIT(i)) {
			r = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
		}
	}
	return r < 0 ? r : 0;
}
