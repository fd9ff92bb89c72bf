/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files cgroup*.c share, and what their tests see. Nobody else includes this.
 */
#ifndef CONTAINER_CGROUP_PRIV_H
#define CONTAINER_CGROUP_PRIV_H

#include "base/fd.h"
#include "base/str.h"
#include "container/cgroup.h"
#include "oci/resources.h"

/* The controllers, as v1 names them; those of v2 are mapped to them (io is blkio). */
enum cg_ctrl {
	CG_BLKIO,
	CG_CPU,
	CG_CPUACCT,
	CG_CPUSET,
	CG_DEVICES,
	CG_FREEZER,
	CG_HUGETLB,
	CG_MEMORY,
	CG_MISC,
	CG_NET_CLS,
	CG_NET_PRIO,
	CG_PERF_EVENT,
	CG_PIDS,
	CG_RDMA,
	CG_SYSTEMD,   /* the named hierarchy of systemd: no controller */
	CG_CTRL__COUNT,
};

extern const char *const cg__ctrl_names[CG_CTRL__COUNT];

/* One mounted hierarchy and the container's group in it. */
struct cg_hier {
	bool     v2;
	unsigned ctrls;     /* bits of enum cg_ctrl; on v2 what the root offers */
	char    *names;     /* "cpu,cpuacct", "name=systemd"; "" for v2 */
	char    *dir;       /* below the folder that holds the hierarchies; "" for itself */
	char    *own;       /* the caller's group: "/" or "/a/b" */
	int      root_fd;   /* O_PATH */
	char    *group;     /* the container's: "/a/b"; NULL: it has none here */
	char    *path;      /* root's path and group */
	bool     made;      /* by this struct cgroup; removed when creation fails */
};

enum { CG_HIER_MAX = 20 };

/*
 * Where a host's hierarchies are found. Tests let it point to folders of theirs, in which
 * an observer of sys/ puts the files that the kernel would make.
 */
struct cgroup_host {
	const char     *root;    /* "/sys/fs/cgroup" */
	const char     *self;    /* text of /proc/self/cgroup; NULL: the real one */
	enum cgroup_mode mode;   /* only where `fake` */
	bool            fake;    /* file systems are not checked to be cgroups */
};

struct cgroup {
	enum cgroup_mode mode;
	bool             rootless;
	bool             exec;       /* from cgroup_for_exec() */
	struct cg_hier   h[CG_HIER_MAX];
	unsigned         n;
	int              fd;         /* of the v2 group, or -1 */
	uint64_t         oom_seen;   /* kills that cgroup_oom_read() has told */
	char            *root;       /* path of the folder with the hierarchies */

	/* With systemd. */
	const struct cgroup_manager *manager;
	char            *unit;       /* "holm-ID.scope" */
	char            *slice;      /* "system.slice"; NULL for a unit that is a slice */
	struct strv      props;      /* "NAME", "VALUE", ... of the annotations */
};

struct cgroup_manager {
	const char *name;
	/* Decide the unit's name and the groups. */
	int (*open)(struct cgroup *cg, const struct cgroup_conf *conf, struct err *e);
	/* Make the unit around a process. On failure there is none of ours. */
	int (*create)(struct cgroup *cg, pid_t pid, const struct oci_resources *res,
		      struct err *e);
	int (*update)(struct cgroup *cg, const struct oci_resources *res, struct err *e);
	/* Move a process into the unit, or the group `sub` ("" or "/...") below its own. */
	int (*attach)(struct cgroup *cg, pid_t pid, const char *sub, struct err *e);
	/* The processes are dead: forget the unit. */
	int (*destroy)(struct cgroup *cg, struct err *e);
};

/* cgroup-host.c */
int cg__discover(const struct cgroup_host *host, struct cgroup *cg, struct err *e) must_check;

/* The hierarchy that has a controller, v1 first; NULL if none has, or has no group. */
const struct cg_hier *cg__with(const struct cgroup *cg, enum cg_ctrl c);
const struct cg_hier *cg__v2(const struct cgroup *cg);
unsigned cg__ctrls_parse(const char *names, char sep, bool v2);

/* cgroup.c: cgroup_load() from a host that a test made. */
int cg__load(const json_t *state, const struct cgroup_host *host, struct cgroup **ret,
	     struct err *e) must_check;

/* cgroup-path.c: lexical */

/* Absolute, of a length that can be opened, and as path_clean() leaves it. */
bool cg__clean_is(const char *path);

/* Is `path` `base` or below it? Both clean. */
bool cg__below(const char *path, const char *base);

/* The group below a hierarchy for cgroupsPath. NULL when memory is out. */
char *cg__group_of(const struct cg_hier *h, const char *path, const char *id) must_check;

/* "slice:prefix:name" into the slice and the unit's name. */
int cg__systemd_names(const char *path, const char *id, bool user, char **ret_slice,
		      char **ret_unit, struct err *e) must_check;

/* "/a.slice/a-b.slice" for "a-b.slice"; "" for "-.slice". */
int cg__slice_path(const char *slice, char **ret, struct err *e) must_check;

int cg__set_group(struct cgroup *cg, struct cg_hier *h, const char *group) must_check;

/* cgroup-io.c: files of a group. `file` is a plain name. -errno. */
int cg__open(const struct cg_hier *h, const char *file, int flags) must_check;
int cg__write(const struct cg_hier *h, const char *file, const char *text) must_check;
int cg__write_u64(const struct cg_hier *h, const char *file, uint64_t v) must_check;
int cg__write_i64(const struct cg_hier *h, const char *file, int64_t v) must_check;
int cg__read(const struct cg_hier *h, const char *file, struct buf *ret) must_check;
int cg__read_at(const struct cg_hier *h, const char *group, const char *file,
		struct buf *ret) must_check;
int cg__read_u64(const struct cg_hier *h, const char *file, uint64_t *ret) must_check;
bool cg__has(const struct cg_hier *h, const char *file);

/* The value of `key` in lines of "key value". false: not there. */
bool cg__keyed(const char *text, const char *key, uint64_t *ret);

/* `group` as openat() takes it relative to the root. */
static inline const char *cg__rel(const char *group)
{
	return group[0] == '/' && group[1] ? group + 1 : ".";
}

/*
 * Call fn for a group and all below it (the parent first, or last with `depth_first`);
 * stops at its first negative result. A group that goes away meanwhile is skipped.
 */
typedef int (*cg_walk_fn)(const struct cg_hier *h, const char *group, void *ud);
int cg__walk(const struct cg_hier *h, const char *group, bool depth_first, cg_walk_fn fn,
	     void *ud) must_check;

/* cgroup-conv.c: from the numbers of v1 to those of v2 */
uint64_t cg__weight_of_shares(uint64_t shares);
uint64_t cg__io_weight_of_blkio(uint64_t weight);

/* Of memory+swap to swap; *ret is -1 for "max". *ret_set false: leave as it is. */
int cg__swap_of(const struct oci_memory *m, bool *ret_set, int64_t *ret, struct err *e) must_check;

/* The members of a hugepage size's files: "2MB" as the kernel writes it. */
bool cg__page_size_valid(const char *s);

/* cgroup-device.c */
enum { CG_DEV_READ = 1, CG_DEV_WRITE = 2, CG_DEV_MKNOD = 4, CG_DEV_ALL = 7 };

struct cg_dev_rule {
	char    type;           /* 'c', 'b', 'a': both */
	uint8_t access;         /* CG_DEV_* */
	bool    allow;
	int64_t major, minor;   /* -1: all */
};

struct cg_dev_rules {
	struct cg_dev_rule *v;
	size_t              n;
};

void cg__dev_rules_fini(struct cg_dev_rules *r);

/* The rules of a config, checked, and behind them those that every container gets. */
int cg__dev_rules(const struct oci_resources *res, struct cg_dev_rules *ret,
		  struct err *e) must_check;

/*
 * The same for the v1 controller, which knows a default and exceptions to it: the order no
 * longer matters and nothing is said twice. ERR_UNSUPPORTED where it cannot be said.
 */
int cg__dev_reduce(const struct cg_dev_rules *rules, bool *ret_default_allow,
		   struct cg_dev_rules *ret, struct err *e) must_check;

/* What the rules say of one access; the reference for both forms. */
bool cg__dev_allowed(const struct cg_dev_rules *rules, char type, int64_t major, int64_t minor,
		     unsigned access);

/* cgroup-bpf.c */
struct bpf_insn;
int cg__bpf_program(const struct cg_dev_rules *rules, struct bpf_insn **ret, size_t *ret_n) must_check;
int cg__bpf_attach(int group_fd, const struct cg_dev_rules *rules, struct err *e) must_check;

/* cgroup-apply.c, cgroup-v1.c, cgroup-v2.c */
struct cg_apply {
	struct cgroup              *cg;
	const struct cg_hier       *h;     /* the hierarchy with the controller */
	const struct oci_resources *res;
	bool                        update;
};

int cg__apply(struct cgroup *cg, const struct oci_resources *res, bool update,
	      struct err *e) must_check;

/* Report a failed write of `value` to `file` for a field of linux.resources. */
int cg__refused(int r, const struct cg_hier *h, const char *field, const char *file,
		const char *value, struct err *e) must_check;
/* Write and report; the latter two formats the number ("max" for -1 on v2). */
int cg__set(const struct cg_hier *h, const char *field, const char *file, const char *value,
	    struct err *e) must_check;
int cg__set_i64(const struct cg_hier *h, const char *field, const char *file, int64_t v,
		struct err *e) must_check;

int cg__v1_memory(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_cpu(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_cpuset(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_blkio(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_net_cls(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_net_prio(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_devices(const struct cg_apply *a, struct err *e) must_check;
int cg__v1_cpuset_inherit(const struct cg_hier *h) must_check;

int cg__v2_memory(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_cpu(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_io(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_unified(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_devices(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_enable(const struct cg_hier *h) must_check;

/* Both alike. */
int cg__any_pids(const struct cg_apply *a, struct err *e) must_check;
int cg__any_hugetlb(const struct cg_apply *a, struct err *e) must_check;
int cg__any_rdma(const struct cg_apply *a, struct err *e) must_check;
int cg__v2_cpuset(const struct cg_apply *a, struct err *e) must_check;

#endif
