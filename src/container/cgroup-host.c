/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hierarchies this host has. /proc/self/mountinfo would say it all, but costs more
 * than the rest of a container's cgroups where many mounts are there; so the usual places
 * are looked at: /sys/fs/cgroup is a v2 tree, or it holds a folder for each line of
 * /proc/self/cgroup, named by the line's controllers, or by one of them.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/file.h"
#include "sys/path.h"

const char *const cgroup_mode_names[CGROUP_MODE__COUNT] = {
	[CGROUP_NONE] = "none", [CGROUP_V1] = "v1", [CGROUP_HYBRID] = "hybrid", [CGROUP_V2] = "v2",
};

const char *const cg__ctrl_names[CG_CTRL__COUNT] = {
	[CG_BLKIO] = "blkio", [CG_CPU] = "cpu", [CG_CPUACCT] = "cpuacct", [CG_CPUSET] = "cpuset",
	[CG_DEVICES] = "devices", [CG_FREEZER] = "freezer", [CG_HUGETLB] = "hugetlb",
	[CG_MEMORY] = "memory", [CG_MISC] = "misc", [CG_NET_CLS] = "net_cls",
	[CG_NET_PRIO] = "net_prio", [CG_PERF_EVENT] = "perf_event", [CG_PIDS] = "pids",
	[CG_RDMA] = "rdma", [CG_SYSTEMD] = "name=systemd",
};

static const struct cgroup_host this_host = { .root = "/sys/fs/cgroup" };

enum { SELF_MAX = 1 << 20, PATH_TEXT_MAX = 4096 };

static unsigned ctrl_parse(const char *name, size_t len, bool v2)
{
	if (v2 && len == 2 && memcmp(name, "io", 2) == 0) {
		return BIT(CG_BLKIO);
	}
	for (unsigned i = 0; i < CG_CTRL__COUNT; i++) {
		if (strlen(cg__ctrl_names[i]) == len && memcmp(cg__ctrl_names[i], name, len) == 0) {
			return (unsigned)BIT(i) | (v2 && i == CG_CPU ? (unsigned)BIT(CG_CPUACCT) : 0);
		}
	}
	return 0;
}

unsigned cg__ctrls_parse(const char *names, char sep, bool v2)
{
	unsigned ctrls = 0;
	const char *part;
	size_t len;

	while (str_split(&names, sep, &part, &len)) {
		while (len > 0 && part[len - 1] == '\n') {
			len--;
		}
		ctrls |= ctrl_parse(part, len, v2);
	}
	return ctrls;
}

static bool is_fs(const struct cgroup_host *host, int fd, bool v2)
{
	struct statfs st;

	if (host->fake) {
		return true;
	}
	if (sys_fstatfs(fd, &st) < 0) {
		return false;
	}
	return st.f_type == (v2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

/* Take over a hierarchy whose folder `dir` below root_fd may be. 1: done, 0: not there. */
static int try_dir(const struct cgroup_host *host, struct cgroup *cg, int root_fd, const char *dir,
		   struct cg_hier *h)
{
	auto_close int fd = sys_openat(root_fd, *dir ? dir : ".", O_PATH | O_DIRECTORY, 0);

	if (fd < 0) {
		return fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES ? 0 : fd;
	}
	if (!is_fs(host, fd, h->v2)) {
		return 0;
	}
	h->dir = str_dup(dir);
	h->root_fd = take_fd(&fd);
	cg->h[cg->n++] = *h; /* freed with cg from here on */
	*h = (struct cg_hier){ .root_fd = -1 };
	return cg->h[cg->n - 1].dir ? 1 : -ENOMEM;
}

static int find_v1(const struct cgroup_host *host, struct cgroup *cg, int root_fd,
		   struct cg_hier *h)
{
	const char *named = str_after(h->names, "name=");
	const char *parts = h->names, *part;
	size_t len;
	int r = try_dir(host, cg, root_fd, named ? named : h->names, h);

	while (r == 0 && !named && str_split(&parts, ',', &part, &len)) {
		auto_free char *one = str_ndup(part, len);

		r = one ? try_dir(host, cg, root_fd, one, h) : -ENOMEM;
	}
	return r;
}

/* What the v2 tree offers: its root's controllers, and what needs none. */
static int v2_ctrls(struct cg_hier *h)
{
	auto_buf struct buf b = BUF_INIT;
	int r = cg__read_at(h, "/", "cgroup.controllers", &b);

	if (r < 0) {
		return r;
	}
	h->ctrls = cg__ctrls_parse(buf_str(&b), ' ', true);
	return 0;
}

static int find_v2(const struct cgroup_host *host, struct cgroup *cg, int root_fd, bool whole,
		   struct cg_hier *h)
{
	int r = try_dir(host, cg, root_fd, whole ? "" : "unified", h);

	return r == 1 ? v2_ctrls(&cg->h[cg->n - 1]) : r;
}

/* A line of /proc/self/cgroup: "4:cpu,cpuacct:/a/b", "1:name=systemd:/", "0::/a". */
static int add_line(const struct cgroup_host *host, struct cgroup *cg, int root_fd, bool whole_v2,
		    const char *line, size_t line_len)
{
	auto_free char *copy = str_ndup(line, line_len);

	if (!copy) {
		return -ENOMEM;
	}
	char *names = strchr(copy, ':');
	char *own = names ? strchr(names + 1, ':') : NULL;

	if (!own || own[1] != '/' || cg->n == CG_HIER_MAX) {
		return 0;
	}
	*own++ = '\0';
	names++;

	struct cg_hier h = { .v2 = !*names, .root_fd = -1 };

	if (whole_v2 && !h.v2) {
		return 0; /* a v1 hierarchy that is not mounted */
	}
	h.names = str_dup(names);
	h.own = path_clean(own);
	h.ctrls = cg__ctrls_parse(names, ',', false);

	int r = !h.names || !h.own ? -ENOMEM :
		h.v2 ? find_v2(host, cg, root_fd, whole_v2, &h) : find_v1(host, cg, root_fd, &h);

	free(h.names);
	free(h.own);
	return r < 0 ? r : 0;
}

static enum cgroup_mode mode_of(const struct cgroup *cg, bool whole_v2)
{
	bool v1 = false, v2 = false;

	for (unsigned i = 0; i < cg->n; i++) {
		v1 |= !cg->h[i].v2;
		v2 |= cg->h[i].v2;
	}
	if (whole_v2) {
		return v2 ? CGROUP_V2 : CGROUP_NONE;
	}
	return v1 ? (v2 ? CGROUP_HYBRID : CGROUP_V1) : CGROUP_NONE;
}

int cg__discover(const struct cgroup_host *host, struct cgroup *cg, struct err *e)
{
	auto_buf struct buf self = BUF_INIT;
	int r = 0;

	host = host ? host : &this_host;
	cg->root = str_dup(host->root);
	if (!cg->root) {
		return err_nomem(e);
	}
	if (host->self) {
		buf_add_str(&self, host->self);
	} else {
		r = sys_read_file(AT_FDCWD, "/proc/self/cgroup", SELF_MAX, &self);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "read /proc/self/cgroup");
	}

	auto_close int root_fd = sys_openat(AT_FDCWD, host->root, O_PATH | O_DIRECTORY, 0);

	if (root_fd == -ENOENT || root_fd == -ENOTDIR || root_fd == -EACCES) {
		return 0; /* no cgroups: CGROUP_NONE */
	}
	if (root_fd < 0) {
		return err_set(e, -root_fd, ERR_HOST, "open %s", host->root);
	}
	bool whole_v2 = host->fake ? host->mode == CGROUP_V2 : is_fs(host, root_fd, true);
	const char *rest = buf_str(&self), *line;
	size_t len;

	while (str_split(&rest, '\n', &line, &len)) {
		r = add_line(host, cg, root_fd, whole_v2, line, len);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "look for the cgroups below %s", host->root);
		}
	}
	cg->mode = mode_of(cg, whole_v2);
	return 0;
}

const struct cg_hier *cg__with(const struct cgroup *cg, enum cg_ctrl c)
{
	const struct cg_hier *v2 = NULL;

	for (unsigned i = 0; i < cg->n; i++) {
		const struct cg_hier *h = &cg->h[i];

		if (!h->group || !(h->ctrls & BIT(c))) {
			continue;
		}
		if (!h->v2) {
			return h;
		}
		v2 = h;
	}
	return v2;
}

const struct cg_hier *cg__v2(const struct cgroup *cg)
{
	for (unsigned i = 0; i < cg->n; i++) {
		if (cg->h[i].v2) {
			return cg->h[i].group ? &cg->h[i] : NULL;
		}
	}
	return NULL;
}
