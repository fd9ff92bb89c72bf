/* SPDX-License-Identifier: Apache-2.0 */
#include "container/test-cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/file.h"

const char *const fake_v1_files[] = {
	"cgroup.controllers", "\n", "cgroup.subtree_control", "\n", /* a hybrid host's v2 tree */
	"cgroup.procs", "", "tasks", "", "cpuset.cpus", "\n", "cpuset.mems", "\n", "cpu.shares", "1024\n",
	"cpu.cfs_quota_us", "-1\n", "cpu.cfs_period_us", "100000\n", "cpu.cfs_burst_us", "0\n",
	"cpu.rt_runtime_us", "0\n", "cpu.rt_period_us", "1000000\n", "cpu.idle", "0\n",
	"cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 99\n",
	"memory.limit_in_bytes", "9223372036854771712\n",
	"memory.memsw.limit_in_bytes", "9223372036854771712\n", "memory.usage_in_bytes", "4096\n",
	"memory.soft_limit_in_bytes", "0\n", "memory.swappiness", "60\n", "memory.use_hierarchy", "1\n",
	"memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	"memory.kmem.tcp.limit_in_bytes", "0\n", "memory.stat", "cache 8192\nrss 4096\n",
	"pids.max", "max\n", "pids.current", "5\n", "freezer.state", "THAWED\n", "devices.allow", "",
	"devices.deny", "", "blkio.bfq.weight", "100\n", "blkio.bfq.weight_device", "",
	"blkio.throttle.read_bps_device", "", "blkio.throttle.write_bps_device", "",
	"blkio.throttle.read_iops_device", "", "blkio.throttle.write_iops_device", "",
	"blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
	"net_cls.classid", "0\n", "net_prio.ifpriomap", "", "hugetlb.2MB.limit_in_bytes", "0\n",
	"hugetlb.2MB.rsvd.limit_in_bytes", "0\n", "rdma.max", "", "cpuacct.usage", "123\n",
	"cpuacct.usage_percpu", "100 23\n", NULL,
};

const char *const fake_v2_files[] = {
	"cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma\n", "cgroup.subtree_control", "\n",
	"cgroup.procs", "", "cgroup.freeze", "0\n", "cgroup.kill", "", "cgroup.events",
	"populated 0\nfrozen 1\n", "cpu.weight", "100\n", "cpu.max", "max 100000\n", "cpu.max.burst", "0\n",
	"cpu.idle", "0\n", "cpu.stat", "usage_usec 12\nuser_usec 5\nsystem_usec 7\nnr_periods 1\n",
	"cpuset.cpus", "\n", "cpuset.mems", "\n", "cpuset.cpus.effective", "0-2,5\n",
	"cpuset.mems.effective", "0\n", "memory.max", "max\n", "memory.low", "0\n", "memory.high", "max\n",
	"memory.swap.max", "max\n", "memory.current", "1048576\n", "memory.stat", "anon 1\nfile 4096\n",
	"memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n", "memory.pressure",
	"some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
	"pids.max", "max\n", "pids.current", "3\n", "io.weight", "default 100\n", "io.max", "", "io.stat",
	"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n", "hugetlb.2MB.max", "max\n",
	"hugetlb.2MB.rsvd.max", "max\n", "hugetlb.2MB.current", "0\n", "rdma.max", "", NULL,
};

static void put_at(int dir_fd, const char *file, const char *text)
{
	int fd = openat(dir_fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void fill(const struct fake *f, int parent_fd, const char *path)
{
	int fd = openat(parent_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t i = 0; f->files[i]; i += 2) {
		put_at(fd, f->files[i], f->files[i + 1]);
	}
	close(fd);
}

static void observe(const struct sys_change *c, void *ud)
{
	struct fake *f = ud;
	char link[32], path[PATH_MAX];

	if (c->call == SYS_CALL_mkdirat) {
		fill(f, c->fd, c->path);
	}
	if (c->call != SYS_CALL_write) {
		return;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", c->fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);

	assert_true(n > 0);
	path[n] = '\0';
	assert_int_equal(ftruncate(c->fd, (off_t)c->len), 0); /* a kernel's file holds the last write */
	buf_printf(&f->log, "%s=%.*s\n", path + strlen(f->root) + 1, (int)c->len, (const char *)c->data);
}

void fake_group(struct fake *f, const char *group)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", f->root, group);
	for (char *p = path + strlen(f->root) + 1; p; p = strchr(p + 1, '/')) {
		if (*p == '/') {
			*p = '\0';
		}
		if (mkdir(path, 0755) == 0) {
			fill(f, AT_FDCWD, path);
		}
		if (!*p) {
			*p = '/';
		}
	}
	if (mkdir(path, 0755) == 0) {
		fill(f, AT_FDCWD, path);
	}
}

void fake_put(struct fake *f, const char *group, const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s/%s", f->root, group, file);
	put_at(AT_FDCWD, path, text);
}

void fake_init(struct fake *f, enum cgroup_mode mode, const char *self, const char *const *files)
{
	*f = (struct fake){ .root = "/dev/shm/holm-test-cgroup-XXXXXX", .log = BUF_INIT, .files = files };
	assert_non_null(mkdtemp(f->root));
	f->host = (struct cgroup_host){ .root = f->root, .self = self, .mode = mode, .fake = true };

	const char *line;
	size_t len;

	while (str_split(&self, '\n', &line, &len)) {
		char names[64] = "", group[256] = "";

		if (sscanf(line, "%*d:%63[^:\n]:%255[^\n]", names, group) < 1 &&
		    sscanf(line, "%*d::%255[^\n]", group) < 1) {
			continue;
		}
		char path[512];
		const char *dir = !names[0] ? (mode == CGROUP_V2 ? "." : "unified") :
				  str_after(names, "name=") ? str_after(names, "name=") : names;

		snprintf(path, sizeof(path), "%s%s", dir, str_eq(group, "/") ? "" : group);
		fake_group(f, dir);
		fake_group(f, path);
	}
	if (mode == CGROUP_V2) {
		fill(f, AT_FDCWD, f->root);
	}
	sys_observe(observe, f);
}

void fake_fini(struct fake *f)
{
	sys_observe(NULL, NULL);
	sys_fault_clear();
	assert_int_equal(sys_remove_tree(AT_FDCWD, f->root), 0);
	buf_fini(&f->log);
}

bool fake_wrote(struct fake *f, const char *line)
{
	const char *rest = buf_str(&f->log), *one;
	size_t len;

	while (str_split(&rest, '\n', &one, &len)) {
		if (len == strlen(line) && memcmp(one, line, len) == 0) {
			return true;
		}
	}
	return false;
}

size_t fake_writes(const struct fake *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->log.len; i++) {
		n += f->log.data[i] == '\n';
	}
	return n;
}

void fake_res_init(struct fake_res *r, const char *text)
{
	struct err e = ERR_INIT;

	*r = (struct fake_res){ .arena = ARENA_INIT };
	assert_int_equal(json_parse(text, strlen(text), &json_limits_document, "test", &r->doc, &e), 0);
	int got = jtable_parse(&oci_resources_table, r->doc, &r->arena, &r->res, &e);

	if (got < 0) {
		print_message("%s: %s\n", e.field, e.msg);
	}
	assert_int_equal(got, 0);
}

void fake_res_fini(struct fake_res *r)
{
	json_decref(r->doc);
	arena_fini(&r->arena);
}

struct cgroup *fake_open(struct fake *f, const char *path)
{
	struct cgroup_conf conf = { .path = path, .id = "id1", .host = &f->host };
	struct cgroup *cg = NULL;
	struct err e = ERR_INIT;
	int r = cgroup_open(&conf, &cg, &e);

	if (r < 0) {
		print_message("%s: %s\n", e.field, e.msg);
	}
	assert_int_equal(r, 0);
	return cg;
}

int fake_create(struct cgroup *cg, const char *resources, struct err *e)
{
	struct fake_res res;

	fake_res_init(&res, resources);
	int r = cgroup_create(cg, 0, &res.res, e);

	fake_res_fini(&res);
	return r;
}
