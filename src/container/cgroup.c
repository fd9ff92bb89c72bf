/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a container's groups: names, making, joining, removing, and what state.json
 * keeps of them.
 */
#include "container/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"
#include "sys/path.h"

/* Linked in only by programs that name it (--systemd-cgroup); cgroup_load() finds it there. */
#pragma weak cgroup_systemd

static struct cgroup *cgroup_new(void)
{
	struct cgroup *cg = mem_new(struct cgroup);

	if (cg) {
		cg->fd = -1;
	}
	return cg;
}

struct cgroup *cgroup_free(struct cgroup *cg)
{
	if (!cg) {
		return NULL;
	}
	for (unsigned i = 0; i < cg->n; i++) {
		struct cg_hier *h = &cg->h[i];

		free(h->names);
		free(h->dir);
		free(h->own);
		free(h->group);
		free(h->path);
		fd_close(&h->root_fd);
	}
	fd_close(&cg->fd);
	free(cg->root);
	free(cg->unit);
	free(cg->slice);
	strv_fini(&cg->props);
	free(cg);
	return NULL;
}

enum cgroup_mode cgroup_mode(const struct cgroup *cg)
{
	return cg->mode;
}

/* Groups that the caller sees as its own but that are not below this mount: bind mounts of
 * a part of a hierarchy, as older engines make. Then the mount's root is where it is. */
static int fix_own(struct cg_hier *h)
{
	struct stat st;

	if (sys_fstatat(h->root_fd, cg__rel(h->own), &st, 0) == 0) {
		return 0;
	}
	char *own = str_dup("/");

	if (!own) {
		return -ENOMEM;
	}
	free(h->own);
	h->own = own;
	return 0;
}

static int name_groups(struct cgroup *cg, const struct cgroup_conf *conf, struct err *e)
{
	bool relative = !conf->path || conf->path[0] != '/';

	if (conf->path && strchr(conf->path, '\n')) {
		return err_field(e, "/linux/cgroupsPath", "no newlines");
	}
	for (unsigned i = 0; i < cg->n; i++) {
		struct cg_hier *h = &cg->h[i];
		int r = relative ? fix_own(h) : 0;
		auto_free char *group = r < 0 ? NULL : cg__group_of(h, conf->path, conf->id);

		if (!group) {
			return err_nomem(e);
		}
		if (str_eq(group, "/")) {
			return err_field(e, "/linux/cgroupsPath",
					 "the hierarchy's root cannot be a container's group");
		}
		r = cg__set_group(cg, h, group);
		if (r < 0) {
			return r == -ENOMEM ? err_nomem(e) :
			       err_field(e, "/linux/cgroupsPath", "it is too long");
		}
	}
	return 0;
}

int cgroup_open(const struct cgroup_conf *conf, struct cgroup **ret, struct err *e)
{
	auto_(cgroup_freep) struct cgroup *cg = cgroup_new();

	if (!cg) {
		return err_nomem(e);
	}
	cg->rootless = conf->rootless;
	cg->manager = conf->manager;

	int r = cg__discover(conf->host, cg, e);

	if (r >= 0) {
		r = cg->manager ? cg->manager->open(cg, conf, e) : name_groups(cg, conf, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&cg);
	return 0;
}

bool cgroup_needs_pid(const struct cgroup *cg)
{
	return cg->manager != NULL;
}

int cgroup_fd(const struct cgroup *cg)
{
	return cg->fd;
}

/* 1: made, 0: it was there. The parents come one by one only where the last is missing. */
static int make_path(int root_fd, const char *group)
{
	int r = sys_mkdirat(root_fd, cg__rel(group), 0755);

	if (r == -ENOENT) {
		const char *slash = strrchr(group, '/');
		auto_free char *parent = str_ndup(group, (size_t)(slash - group));

		if (!parent) {
			return -ENOMEM;
		}
		r = *parent ? make_path(root_fd, parent) : -ENOENT;
		if (r < 0) {
			return r;
		}
		r = sys_mkdirat(root_fd, cg__rel(group), 0755);
	}
	return r == -EEXIST ? 0 : r < 0 ? r : 1;
}

static int has_procs(const struct cg_hier *h, const char *group, void *ud unused_arg)
{
	auto_buf struct buf b = BUF_INIT;
	int r = cg__read_at(h, group, "cgroup.procs", &b);

	if (r == -EOPNOTSUPP) {
		r = cg__read_at(h, group, "cgroup.threads", &b);
	}
	return r < 0 ? 0 : b.len > 0 ? -EBUSY : 0;
}

/* A group that was there already: another container's, or an orphan that can be used. */
static int check_old(const struct cg_hier *h, struct err *e)
{
	auto_buf struct buf state = BUF_INIT;

	if (cg__walk(h, h->group, false, has_procs, NULL) == -EBUSY) {
		return err_set(e, EBUSY, ERR_CONFLICT, "the cgroup %s has processes already", h->path);
	}
	int r = cg__read(h, h->v2 ? "cgroup.freeze" : "freezer.state", &state);

	if (r == 0 && (str_after(buf_str(&state), "1") || str_after(buf_str(&state), "FR"))) {
		return err_set(e, EBUSY, ERR_CONFLICT, "the cgroup %s is frozen", h->path);
	}
	return 0;
}

static int make_group(struct cgroup *cg, struct cg_hier *h, struct err *e)
{
	int r = make_path(h->root_fd, h->group);

	if ((r == -EACCES || r == -EPERM || r == -EROFS) && cg->rootless) {
		free(h->group);
		h->group = NULL; /* best effort: no group here */
		return 0;
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "make the cgroup %s", h->path);
	}
	h->made = r == 1;
	if (!h->made && !cg->manager) {
		r = check_old(h, e);
		if (r < 0) {
			return r;
		}
	}
	r = h->v2 ? cg__v2_enable(h) : h->ctrls & BIT(CG_CPUSET) ? cg__v1_cpuset_inherit(h) : 0;
	if (r == -ENOENT || (r < 0 && cg->rootless)) {
		r = 0; /* not ours to hand down; a limit that is asked for will say so */
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "prepare the cgroup %s", h->path) : 0;
}

static int open_group(struct cgroup *cg)
{
	const struct cg_hier *h = cg__v2(cg);

	if (!h || cg->fd >= 0) {
		return 0;
	}
	cg->fd = sys_openat(h->root_fd, cg__rel(h->group), O_PATH | O_DIRECTORY, 0);
	return MIN(cg->fd, 0);
}

void cgroup_abandon(struct cgroup *cg)
{
	struct err ignored = ERR_INIT;

	if (cg->manager) {
		ignore_result(cg->manager->destroy(cg, &ignored)); /* the first failure counts */
	}
	for (unsigned i = 0; i < cg->n; i++) {
		if (cg->h[i].made && cg->h[i].group) {
			/* Empty, or a process of ours waits in it, which ends next. */
			int r = sys_unlinkat(cg->h[i].root_fd, cg__rel(cg->h[i].group),
					     AT_REMOVEDIR);

			cg->h[i].made = r == -EBUSY;
		}
	}
	fd_close(&cg->fd);
}

static int open_made(struct cgroup *cg, struct err *e)
{
	int r = open_group(cg);

	return r < 0 ? err_set(e, -r, ERR_HOST, "open the container's cgroup") : 0;
}

int cgroup_create_v2(struct cgroup *cg, struct err *e)
{
	int r = 0;

	assert(!cg->manager);
	for (unsigned i = 0; r >= 0 && i < cg->n; i++) {
		if (cg->h[i].group && cg->h[i].v2) {
			r = make_group(cg, &cg->h[i], e);
		}
	}
	r = r < 0 ? r : open_made(cg, e);
	if (r < 0) {
		cgroup_abandon(cg);
	}
	return r < 0 ? r : 0;
}

int cgroup_create(struct cgroup *cg, pid_t pid, const struct oci_resources *res, struct err *e)
{
	assert(pid > 0 || !cgroup_needs_pid(cg));
	int r = cg->manager ? cg->manager->create(cg, pid, res, e) : 0;

	if (r < 0) {
		return r; /* nothing was made; what has this name is another's */
	}
	for (unsigned i = 0; r >= 0 && i < cg->n; i++) {
		/* The open one is that of cgroup_create_v2(). */
		if (cg->h[i].group && !(cg->h[i].v2 && cg->fd >= 0)) {
			r = make_group(cg, &cg->h[i], e);
		}
	}
	if (r >= 0) {
		r = cg__apply(cg, res, false, e);
	}
	if (r >= 0 && pid > 0) {
		r = cgroup_add_pid(cg, pid, e);
	}
	r = r < 0 ? r : open_made(cg, e);
	if (r < 0) {
		cgroup_abandon(cg);
	}
	return r < 0 ? r : 0;
}

int cgroup_update(struct cgroup *cg, const struct oci_resources *res, struct err *e)
{
	int r = cg->manager ? cg->manager->update(cg, res, e) : 0;

	return r < 0 ? r : cg__apply(cg, res, true, e);
}

static int write_pid(const struct cg_hier *h, const char *file, pid_t pid)
{
	char path[PATH_MAX], text[16];
	int n = snprintf(path, sizeof(path), "%s/%s", cg__rel(h->group), file);

	if (n < 0 || n >= (int)sizeof(path)) {
		return -ENAMETOOLONG;
	}
	snprintf(text, sizeof(text), "%d", (int)pid);
	return sys_write_file(h->root_fd, path, text, strlen(text));
}

/*
 * `tasks` moves one thread and so takes no lock over the thread group, which after some quiet
 * costs an RCU grace period; a process with one thread is moved whole by it.
 */
int cgroup_join_self(const struct cgroup *cg, bool cloned)
{
	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];

		if (!h->group || (h->v2 && cloned)) {
			continue;
		}
		int r = write_pid(h, h->v2 ? "cgroup.procs" : "tasks", 0);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int cgroup_add_pid(const struct cgroup *cg, pid_t pid, struct err *e)
{
	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];
		int r = h->group ? write_pid(h, "cgroup.procs", pid) : 0;

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "move process %d to the cgroup %s", (int)pid,
				       h->path);
		}
	}
	return 0;
}

/* The v2 group of a process as /proc tells it. */
static char *v2_group_of(pid_t pid)
{
	auto_buf struct buf b = BUF_INIT;
	char path[32];
	const char *line;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (sys_read_file(AT_FDCWD, path, 1 << 20, &b) < 0) {
		return NULL;
	}
	const char *rest = buf_str(&b);

	while (str_split(&rest, '\n', &line, &len)) {
		if (len > 3 && memcmp(line, "0::", 3) == 0) {
			return str_ndup(line + 3, len - 3);
		}
	}
	return NULL;
}

/* The group that takes new processes: the container's, or its init's if it is an inner node. */
static int exec_group(const struct cg_hier *h, pid_t init, const char *sub, char **ret)
{
	auto_buf struct buf enabled = BUF_INIT;

	if (*sub) {
		auto_free char *joined = str_printf("%s/%s", h->group, sub);

		*ret = joined ? path_clean(joined) : NULL;
		return *ret ? 0 : -ENOMEM;
	}
	if (h->v2 && init > 0 && cg__read(h, "cgroup.subtree_control", &enabled) == 0 &&
	    buf_str(&enabled)[0] && buf_str(&enabled)[0] != '\n') {
		auto_free char *group = v2_group_of(init);

		if (group && cg__clean_is(group) && cg__below(group, h->group)) {
			*ret = take_ptr(&group);
			return 0;
		}
	}
	*ret = str_dup(h->group);
	return *ret ? 0 : -ENOMEM;
}

static int copy_hier(struct cgroup *to, const struct cg_hier *h, pid_t init, const char *sub)
{
	auto_free char *group = NULL;
	int r = exec_group(h, init, sub, &group);

	if (r < 0 || !group) {
		return -ENOMEM;
	}
	if (!cg__below(group, h->group)) {
		return -EXDEV;
	}
	struct cg_hier *c = &to->h[to->n];

	*c = (struct cg_hier){ .v2 = h->v2, .ctrls = h->ctrls, .names = str_dup(h->names),
			       .dir = str_dup(h->dir), .own = str_dup(h->own), .root_fd = -1 };
	to->n++;
	if (!c->names || !c->dir || !c->own) {
		return -ENOMEM;
	}
	c->root_fd = sys_dup(h->root_fd);
	return c->root_fd < 0 ? c->root_fd : cg__set_group(to, c, group);
}

int cgroup_for_exec(const struct cgroup *cg, pid_t init, const char *sub, struct cgroup **ret,
		    struct err *e)
{
	auto_(cgroup_freep) struct cgroup *to = cgroup_new();
	int r = to ? 0 : -ENOMEM;

	if (r == 0) {
		to->mode = cg->mode;
		to->rootless = cg->rootless;
		to->exec = true;
		to->root = str_dup(cg->root);
		r = to->root ? 0 : -ENOMEM;
	}
	for (unsigned i = 0; r == 0 && i < cg->n; i++) {
		r = cg->h[i].group ? copy_hier(to, &cg->h[i], init, sub ? sub : "") : 0;
	}
	if (r == -EXDEV) {
		return err_set(e, EINVAL, ERR_INVALID, "the cgroup \"%.100s\" is outside the container's",
			       sub);
	}
	if (r == 0) {
		r = open_group(to);
	}
	if (r < 0) {
		return r == -ENOMEM ? err_nomem(e) :
		       err_set(e, -r, ERR_HOST, "open the container's cgroup");
	}
	*ret = take_ptr(&to);
	return 0;
}

bool cgroup_needs_attach(const struct cgroup *cg)
{
	return cg->manager && cg->rootless;
}

int cgroup_attach(struct cgroup *cg, const struct cgroup *to, pid_t pid, struct err *e)
{
	const struct cg_hier *base = cg__v2(cg), *h = cg__v2(to);
	const char *sub = base && h ? str_after(h->group, base->group) : NULL;

	return cg->manager->attach(cg, pid, sub ? sub : "", e);
}

static int give(const struct cg_hier *h, const char *file, uid_t uid, gid_t gid)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", cg__rel(h->group), file);

	if (n < 0 || n >= (int)sizeof(path)) {
		return -ENAMETOOLONG;
	}
	int r = sys_fchownat(h->root_fd, path, uid, gid, AT_SYMLINK_NOFOLLOW);

	return r == -ENOENT ? 0 : r;
}

static int delegate_v2(const struct cg_hier *h, uid_t uid, gid_t gid)
{
	auto_buf struct buf list = BUF_INIT;
	const char *name;
	size_t len;

	if (sys_read_file(AT_FDCWD, "/sys/kernel/cgroup/delegate", 1 << 16, &list) < 0) {
		buf_reset(&list);
		buf_add_str(&list, "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
	}
	const char *rest = buf_str(&list);
	int r = give(h, ".", uid, gid);

	while (r == 0 && str_split(&rest, '\n', &name, &len)) {
		auto_free char *file = str_ndup(name, len);

		if (!file) {
			return -ENOMEM;
		}
		r = len > 0 && !strchr(file, '/') ? give(h, file, uid, gid) : 0;
	}
	return r;
}

int cgroup_delegate(const struct cgroup *cg, uid_t uid, gid_t gid, struct err *e)
{
	static const char *const systemd_files[] = { ".", "cgroup.procs", "tasks" };

	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];
		int r = 0;

		if (!h->group) {
			continue;
		}
		if (h->v2) {
			r = delegate_v2(h, uid, gid);
		} else if (h->ctrls == BIT(CG_SYSTEMD)) {
			for (size_t j = 0; r == 0 && j < ARRAY_LEN(systemd_files); j++) {
				r = give(h, systemd_files[j], uid, gid);
			}
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "give the cgroup %s to user %u", h->path,
				       (unsigned)uid);
		}
	}
	return 0;
}

bool cgroup_exists(const struct cgroup *cg)
{
	struct stat st;

	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];

		if (h->group && sys_fstatat(h->root_fd, cg__rel(h->group), &st, 0) == 0) {
			return true;
		}
	}
	return false;
}

static int remove_one(const struct cg_hier *h, const char *group, void *ud unused_arg)
{
	int r = sys_unlinkat(h->root_fd, cg__rel(group), AT_REMOVEDIR);

	return r == -ENOENT ? 0 : r;
}

static void pause_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	(void)nanosleep(&t, NULL); /* shorter after a signal: the loop goes round once more */
}

enum { DELETE_WAIT_MS = 2000 };

static int remove_group(const struct cg_hier *h)
{
	uint64_t wait = 100000, waited = 0;
	int r = remove_one(h, h->group, NULL); /* usually there is nothing below */

	while (r == -EBUSY || r == -ENOTEMPTY) {
		r = cg__walk(h, h->group, true, remove_one, NULL);
		if ((r != -EBUSY && r != -ENOTEMPTY) || waited > DELETE_WAIT_MS * UINT64_C(1000000)) {
			break;
		}
		pause_ns(wait);
		waited += wait;
		wait = MIN(wait * 2, UINT64_C(20000000));
	}
	return r;
}

int cgroup_delete(struct cgroup *cg, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];
		int one = h->group && !str_eq(h->group, "/") ? remove_group(h) : 0;

		if (one < 0 && r == 0) {
			r = one == -EBUSY ?
			    err_set(e, EBUSY, ERR_CONFLICT, "processes are left in the cgroup %s",
				    h->path) :
			    err_set(e, -one, ERR_HOST, "remove the cgroup %s", h->path);
		}
	}
	if (r == 0 && cg->manager) {
		r = cg->manager->destroy(cg, e);
	}
	return r;
}

const char *cgroup_path(const struct cgroup *cg, const char *controller)
{
	const struct cg_hier *h = NULL;

	if (!controller || !*controller) {
		h = cg__v2(cg);
	} else {
		unsigned ctrl = cg__ctrls_parse(controller, ',', false);

		for (unsigned i = 0; ctrl && !h && i < cg->n; i++) {
			if (!cg->h[i].v2 && (cg->h[i].ctrls & ctrl) && cg->h[i].group) {
				h = &cg->h[i];
			}
		}
	}
	return h ? h->path : NULL;
}

bool cgroup_hier(const struct cgroup *cg, unsigned i, struct cgroup_hier *ret)
{
	if (i >= cg->n) {
		return false;
	}
	const struct cg_hier *h = &cg->h[i];

	assert(h->group || !cg->manager); /* the caller's own group is then not the container's */
	*ret = (struct cgroup_hier){ .dir = h->dir, .group = h->group ? h->group : h->own,
				     .v1_name = h->v2 ? NULL : h->names, .root_fd = h->root_fd };
	return true;
}

/* What state.json keeps. The hierarchies themselves are found again. */
struct saved {
	bool        rootless;
	const char *manager, *unit, *slice;
	struct jmap groups;   /* names of the hierarchy to the group */
};

#define IN(m) offsetof(struct saved, m)
static const struct jfield saved_fields[] = {
	{ "rootless", JK_BOOL, IN(rootless), .doc = "groups were best effort" },
	{ "manager",  JK_STR, IN(manager), .doc = "\"systemd\", or absent for cgroupfs" },
	{ "unit",     JK_STR, IN(unit), .doc = "of systemd" },
	{ "slice",    JK_STR, IN(slice), .doc = "of systemd" },
	{ "groups",   JK_MAP, IN(groups), .flags = JF_EMPTY,
	  .doc = "the group in each hierarchy, by its controllers; \"\" is v2" },
};
#undef IN
static const struct jtable saved_table = JTABLE_OPEN("CgroupState", struct saved, saved_fields);

json_t *cgroup_save(const struct cgroup *cg)
{
	struct jpair pairs[CG_HIER_MAX];
	struct saved s = { .rootless = cg->rootless, .unit = cg->unit, .slice = cg->slice,
			   .manager = cg->manager ? cg->manager->name : NULL,
			   .groups = { .v = pairs } };

	for (unsigned i = 0; i < cg->n; i++) {
		if (cg->h[i].group) {
			pairs[s.groups.n++] = (struct jpair){ cg->h[i].names, cg->h[i].group };
		}
	}
	return jtable_format(&saved_table, &s);
}

static int load_groups(struct cgroup *cg, const struct saved *s, struct err *e)
{
	size_t found = 0;

	for (unsigned i = 0; i < cg->n; i++) {
		const char *group = jmap_get(&s->groups, cg->h[i].names);

		if (!group) {
			continue;
		}
		if (!cg__clean_is(group) || str_eq(group, "/")) {
			return err_set(e, EINVAL, ERR_INVALID, "the state's cgroup \"%.100s\" is no group",
				       group);
		}
		if (cg__set_group(cg, &cg->h[i], group) < 0) {
			return err_nomem(e);
		}
		found++;
	}
	/* Taken for nothing, a group would be left behind, and what is in it. */
	if (found < s->groups.n) {
		return err_set(e, ENOENT, ERR_HOST,
			       "the container has groups in hierarchies that are not mounted here");
	}
	return 0;
}

static int load_manager(struct cgroup *cg, const struct saved *s, struct err *e)
{
	if (!s->manager) {
		return 0;
	}
	if (!str_eq(s->manager, "systemd") || !&cgroup_systemd || !s->unit) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "no cgroup manager \"%.20s\" here",
			       s->manager);
	}
	cg->manager = &cgroup_systemd;
	cg->unit = str_dup(s->unit);
	cg->slice = s->slice ? str_dup(s->slice) : NULL;
	return cg->unit && (cg->slice || !s->slice) ? 0 : err_nomem(e);
}

int cgroup_load(const json_t *state, struct cgroup **ret, struct err *e)
{
	return cg__load(state, NULL, ret, e);
}

int cg__load(const json_t *state, const struct cgroup_host *host, struct cgroup **ret,
	     struct err *e)
{
	auto_(cgroup_freep) struct cgroup *cg = cgroup_new();
	auto_arena struct arena a = ARENA_INIT;
	struct saved s;
	int r = cg ? jtable_parse(&saved_table, state, &a, &s, e) : err_nomem(e);

	if (r >= 0) {
		cg->rootless = s.rootless;
		r = cg__discover(host, cg, e);
	}
	if (r >= 0) {
		r = load_groups(cg, &s, e);
	}
	if (r >= 0) {
		r = load_manager(cg, &s, e);
	}
	if (r >= 0 && open_group(cg) < 0) {
		cg->fd = -1; /* the group is gone; what can be asked of it says so */
	}
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&cg);
	return 0;
}
