/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping, continuing and killing what runs in the groups.
 *
 * Two freezers exist. A process frozen by that of v2 can be killed; one frozen by that of v1
 * takes no signal until it is thawed, SIGKILL included. So v2 is used wherever the container
 * has a v2 group (hybrid hosts too), and whoever kills thaws every v1 group first: also
 * those that something else has frozen, and those that were made below the container's.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"
#include "sys/proc.h"

enum { FREEZE_WAIT_MS = 10000, KILL_ROUNDS = 64, PID_MAX = 1 << 22 };

static void pause_ns(uint64_t ns)
{
	struct timespec t = { .tv_nsec = (long)ns };

	(void)nanosleep(&t, NULL); /* shorter after a signal: the loop goes round once more */
}

static const struct cg_hier *v1_freezer(const struct cgroup *cg)
{
	const struct cg_hier *h = cg__with(cg, CG_FREEZER);

	return h && !h->v2 ? h : NULL;
}

/* Does the group's state say so? -errno, 0, 1. */
static int v2_frozen(const struct cg_hier *h)
{
	auto_buf struct buf b = BUF_INIT;
	uint64_t frozen = 0;
	int r = cg__read(h, "cgroup.events", &b);

	return r < 0 ? r : cg__keyed(buf_str(&b), "frozen", &frozen) && frozen == 1;
}

static int v1_state_is(const struct cg_hier *h, const char *state)
{
	auto_buf struct buf b = BUF_INIT;
	int r = cg__read(h, "freezer.state", &b);

	return r < 0 ? r : str_after(buf_str(&b), state) != NULL;
}

static int freeze_v2(const struct cg_hier *h)
{
	int r = cg__write(h, "cgroup.freeze", "1");
	uint64_t wait = 50000, until = clock_now_ns() + FREEZE_WAIT_MS * NS_PER_MS;

	while (r >= 0) {
		r = v2_frozen(h);
		if (r != 0) {
			return MIN(r, 0);
		}
		if (clock_now_ns() > until) {
			r = -ETIMEDOUT;
			break;
		}
		pause_ns(wait);
		wait = MIN(wait * 2, 10 * NS_PER_MS);
	}
	return r;
}

/*
 * The v1 freezer can stay at FREEZING, when a process was forked meanwhile or sits in an
 * uninterruptible sleep: writing again helps the first, thawing for a moment the second.
 */
static int freeze_v1(const struct cg_hier *h)
{
	uint64_t wait = 50000, until = clock_now_ns() + FREEZE_WAIT_MS * NS_PER_MS;

	for (unsigned i = 1;; i++) {
		int r = cg__write(h, "freezer.state", "FROZEN");

		r = r < 0 ? r : v1_state_is(h, "FROZEN");
		if (r != 0) {
			return MIN(r, 0);
		}
		if (clock_now_ns() > until) {
			return -ETIMEDOUT;
		}
		if (i % 32 == 0) {
			ignore_result(cg__write(h, "freezer.state", "THAWED")); /* tried again below */
		}
		pause_ns(wait);
		wait = MIN(wait * 2, 10 * NS_PER_MS);
	}
}

static int thaw_one(const struct cg_hier *h, const char *group, void *ud unused_arg)
{
	struct cg_hier at = *h;

	at.group = (char *)group;
	int r = h->v2 ? cg__write(&at, "cgroup.freeze", "0") :
			cg__write(&at, "freezer.state", "THAWED");

	return r == -ENOENT || r == -ENODEV ? 0 : r;
}

/* Thaw a v1 group and all below it: a group cannot run while its parent is frozen. */
static int thaw_v1(const struct cg_hier *h)
{
	return cg__walk(h, h->group, false, thaw_one, NULL);
}

int cgroup_freeze(struct cgroup *cg, struct err *e)
{
	const struct cg_hier *h = cg__v2(cg);
	int r;

	if (h && cg__has(h, "cgroup.freeze")) {
		r = freeze_v2(h);
	} else {
		h = v1_freezer(cg);
		if (!h) {
			return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
				       "pausing needs a freezer cgroup, which the container does not have");
		}
		r = freeze_v1(h);
	}
	if (r < 0) {
		ignore_result(thaw_one(h, h->group, NULL)); /* half frozen is worse; the failure is told */
		return err_set(e, -r, ERR_HOST, "freeze the cgroup %s", h->path);
	}
	return 0;
}

int cgroup_thaw(struct cgroup *cg, struct err *e)
{
	const struct cg_hier *h = cg__v2(cg);
	int r = h ? thaw_one(h, h->group, NULL) : 0;

	if (r == 0) {
		h = v1_freezer(cg);
		r = h ? thaw_one(h, h->group, NULL) : 0;
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "thaw the cgroup %s", h->path) : 0;
}

int cgroup_frozen(const struct cgroup *cg)
{
	auto_buf struct buf b = BUF_INIT;
	const struct cg_hier *h = cg__v2(cg);
	int r = h ? cg__read(h, "cgroup.freeze", &b) : 0;

	if (r < 0 && r != -ENOENT && r != -ENODEV) {
		return r;
	}
	if (buf_str(&b)[0] == '1') {
		return 1;
	}
	h = v1_freezer(cg);
	r = h ? v1_state_is(h, "THAWED") : 1;
	return r == -ENOENT || r == -ENODEV ? 0 : r < 0 ? r : !r;
}

struct collect {
	struct cgroup_pids *pids;
	size_t              cap;
};

static int collect_text(struct collect *c, const char *text)
{
	const char *line;
	size_t len;

	while (str_split(&text, '\n', &line, &len)) {
		char number[16];
		uint64_t pid;

		if (len == 0 || len >= sizeof(number)) {
			continue;
		}
		memcpy(number, line, len);
		number[len] = '\0';
		if (parse_u64(number, PID_MAX, &pid) < 0 || pid == 0) {
			continue; /* 0: a process of another pid namespace */
		}
		if (c->pids->n == c->cap) {
			size_t cap = c->cap ? c->cap * 2 : 64;
			pid_t *v = mem_realloc(c->pids->v, cap, sizeof(*v));

			if (!v) {
				return -ENOMEM;
			}
			c->pids->v = v;
			c->cap = cap;
		}
		c->pids->v[c->pids->n++] = (pid_t)pid;
	}
	return 0;
}

static int collect_group(const struct cg_hier *h, const char *group, void *ud)
{
	auto_buf struct buf b = BUF_INIT;
	int r = cg__read_at(h, group, "cgroup.procs", &b);

	if (r == -EOPNOTSUPP) { /* below a threaded group */
		r = cg__read_at(h, group, "cgroup.threads", &b);
	}
	if (r < 0) {
		return r == -ENOENT || r == -ENODEV ? 0 : r;
	}
	return collect_text(ud, buf_str(&b));
}

/* The hierarchy that tells best who belongs to the container. */
static const struct cg_hier *census(const struct cgroup *cg)
{
	static const enum cg_ctrl order[] = { CG_FREEZER, CG_DEVICES, CG_PIDS, CG_MEMORY, CG_SYSTEMD };
	const struct cg_hier *h = cg__v2(cg);
	struct stat st;

	if (h && sys_fstatat(h->root_fd, cg__rel(h->group), &st, 0) == 0) {
		return h;
	}
	h = NULL;
	for (size_t i = 0; !h && i < ARRAY_LEN(order); i++) {
		h = cg__with(cg, order[i]);
	}
	for (unsigned i = 0; !h && i < cg->n; i++) {
		h = cg->h[i].group ? &cg->h[i] : NULL;
	}
	return h;
}

int cgroup_pids(const struct cgroup *cg, struct cgroup_pids *ret, struct err *e)
{
	const struct cg_hier *h = census(cg);
	struct cgroup_pids pids = { .v = NULL };
	struct collect c = { .pids = &pids };
	int r = h ? cg__walk(h, h->group, false, collect_group, &c) : 0;

	if (r < 0) {
		free(pids.v);
		return err_set(e, -r, ERR_HOST, "list the processes of the cgroup %s", h->path);
	}
	*ret = pids;
	return 0;
}

/* One signal to each process. How many there were, or -errno. */
static int signal_all(const struct cgroup *cg, int sig, struct err *e)
{
	struct cgroup_pids pids = { .v = NULL };
	int r = cgroup_pids(cg, &pids, e);
	int n = (int)pids.n;

	for (size_t i = 0; r >= 0 && i < pids.n; i++) {
		r = sys_kill(pids.v[i], sig);
		r = r == -ESRCH ? 0 : r < 0 ? err_set(e, -r, ERR_HOST, "signal process %d",
						      (int)pids.v[i]) : 0;
	}
	free(pids.v);
	return r < 0 ? r : n;
}

/*
 * Everything at once with cgroup.kill; the rest, and v1, in rounds until nobody is left that
 * has not been signalled: a process forks at most once before its own signal arrives.
 */
static int kill_rounds(struct cgroup *cg, struct err *e)
{
	uint64_t wait = 200000;

	for (unsigned i = 0; i < KILL_ROUNDS; i++) {
		int r = signal_all(cg, SIGKILL, e);

		if (r <= 0) {
			return r;
		}
		pause_ns(wait);
		wait = MIN(wait * 2, 20 * NS_PER_MS);
	}
	return 0; /* dying, or zombies that their parent has not reaped: cgroup_delete() tells */
}

static int kill_hard(struct cgroup *cg, struct err *e)
{
	const struct cg_hier *v1 = v1_freezer(cg), *v2 = cg__v2(cg);
	int r = v1 ? thaw_v1(v1) : 0;

	if (r < 0 && r != -EINVAL) { /* EINVAL: the container's group hangs below a frozen one */
		return err_set(e, -r, ERR_HOST, "thaw the cgroup %s", v1->path);
	}
	if (v2) {
		r = cg__write(v2, "cgroup.kill", "1");
		if (r == 0 && cg->mode == CGROUP_V2) {
			return 0;
		}
		if (r == -EOPNOTSUPP || r == -ENOENT || r == -ENODEV) {
			r = 0; /* threaded, or before 5.14, or gone: one by one */
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "kill the cgroup %s", v2->path);
		}
	}
	return kill_rounds(cg, e);
}

/* Any other signal: with everything frozen, so that nobody forks past it. */
static int signal_frozen(struct cgroup *cg, int sig, struct err *e)
{
	struct err ignored = ERR_INIT;
	bool was = cgroup_frozen(cg) == 1;
	bool froze = !was && cgroup_freeze(cg, &ignored) == 0; /* without a freezer: as well as it goes */
	int r = signal_all(cg, sig, e);

	if (froze) {
		int t = cgroup_thaw(cg, r < 0 ? &ignored : e);

		r = r < 0 ? r : t;
	}
	return MIN(r, 0);
}

int cgroup_kill(struct cgroup *cg, int sig, struct err *e)
{
	return sig == SIGKILL ? kill_hard(cg, e) : signal_frozen(cg, sig, e);
}
