/* SPDX-License-Identifier: Apache-2.0 */
/* The life of groups, and limits as each version of cgroups is told them. */
#include "container/test-cgroup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "container/cgroup-stats.h"
#include "sys/file.h"

#define SELF_V1 \
	"9:name=systemd:/\n8:pids:/\n7:blkio:/\n6:freezer:/\n5:devices:/\n4:memory:/own\n" \
	"3:cpuset:/\n2:cpu,cpuacct:/\n11:net_cls,net_prio:/\n12:rdma:/\n"
#define SELF_HYBRID SELF_V1 "0::/me\n"

static void ok(int r, const struct err *e)
{
	if (r < 0) {
		print_message("%s: %s\n", e->field, e->msg);
	}
	assert_true(r >= 0);
}

static void finds_hierarchies(void **state unused_arg)
{
	struct fake f;

	fake_init(&f, CGROUP_V1, SELF_HYBRID, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a/b");

	assert_int_equal(cgroup_mode(cg), CGROUP_HYBRID);
	assert_string_equal(cg__with(cg, CG_CPUACCT)->dir, "cpu,cpuacct");
	assert_string_equal(cg__with(cg, CG_SYSTEMD)->dir, "systemd");
	assert_null(cg__with(cg, CG_MISC));

	struct cgroup_hier h;
	unsigned n = 0;

	while (cgroup_hier(cg, n, &h)) {
		assert_string_equal(h.group, "/a/b");
		n++;
	}
	assert_int_equal(n, 11);
	assert_true(str_ends(cgroup_path(cg, "cpu"), "/cpu,cpuacct/a/b"));
	assert_true(str_ends(cgroup_path(cg, NULL), "/unified/a/b"));
	assert_null(cgroup_path(cg, "misc"));
	cgroup_free(cg);
	fake_fini(&f);

	fake_init(&f, CGROUP_V2, "0::/me/scope\n", fake_v2_files);
	cg = fake_open(&f, NULL);
	assert_int_equal(cgroup_mode(cg), CGROUP_V2);
	assert_string_equal(cg__v2(cg)->group, "/me/id1"); /* beside the caller, not below */
	assert_ptr_equal(cg__with(cg, CG_BLKIO), cg__v2(cg));
	cgroup_free(cg);
	fake_fini(&f);
}

static void names_groups(void **state unused_arg)
{
	struct fake f;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "rel/x");

	assert_string_equal(cg__with(cg, CG_MEMORY)->group, "/own/rel/x");
	assert_string_equal(cg__with(cg, CG_PIDS)->group, "/rel/x");
	cg = cgroup_free(cg);

	struct cgroup_conf conf = { .path = "/..", .id = "i", .host = &f.host };
	struct err e = ERR_INIT;

	assert_int_equal(cgroup_open(&conf, &cg, &e), -EINVAL);
	assert_string_equal(e.field, "/linux/cgroupsPath");
	conf.path = "/a\nb";
	assert_int_equal(cgroup_open(&conf, &cg, &e), -EINVAL);
	fake_fini(&f);
}

/* A bind mount of a part of the hierarchy: the own group's name leads nowhere below it. */
static void own_group_outside(void **state unused_arg)
{
	struct fake f;

	fake_init(&f, CGROUP_V1, "4:memory:/\n", fake_v1_files);
	f.host.self = "4:memory:/docker/0123\n";
	struct cgroup *cg = fake_open(&f, NULL);

	assert_string_equal(cg__with(cg, CG_MEMORY)->group, "/id1");
	cgroup_free(cg);
	fake_fini(&f);
}

static const char all_v1[] =
	"{\"memory\":{\"limit\":1000000,\"swap\":2000000,\"reservation\":500000,\"swappiness\":10,"
	"\"kernel\":5,\"kernelTCP\":4096,\"disableOOMKiller\":true,\"useHierarchy\":true},"
	"\"cpu\":{\"shares\":512,\"quota\":50000,\"period\":200000,\"burst\":1000,"
	"\"realtimeRuntime\":1000,\"realtimePeriod\":500000,\"cpus\":\"0-1\",\"mems\":\"0\"},"
	"\"pids\":{\"limit\":42},"
	"\"blockIO\":{\"weight\":300,\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":500}],"
	"\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}],"
	"\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":1,\"rate\":601}],"
	"\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":2,\"rate\":602}],"
	"\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":3,\"rate\":603}]},"
	"\"network\":{\"classID\":1048577,\"priorities\":[{\"name\":\"eth0\",\"priority\":500}]},"
	"\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":10000}},"
	"\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
	"{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":229,\"access\":\"rw\"}]}";

static void limits_v1(void **state unused_arg)
{
	static const char *const lines[] = {
		"memory/a/b/memory.memsw.limit_in_bytes=2000000", "memory/a/b/memory.limit_in_bytes=1000000",
		"memory/a/b/memory.soft_limit_in_bytes=500000", "memory/a/b/memory.swappiness=10",
		"memory/a/b/memory.oom_control=1", "memory/a/b/memory.kmem.tcp.limit_in_bytes=4096",
		"cpu,cpuacct/a/b/cpu.shares=512",
		"cpu,cpuacct/a/b/cpu.cfs_quota_us=50000", "cpu,cpuacct/a/b/cpu.cfs_period_us=200000",
		"cpu,cpuacct/a/b/cpu.cfs_burst_us=1000", "cpu,cpuacct/a/b/cpu.rt_runtime_us=1000",
		"cpu,cpuacct/a/b/cpu.rt_period_us=500000", "cpuset/a/b/cpuset.cpus=0-1",
		"cpuset/a/b/cpuset.mems=0", "pids/a/b/pids.max=42", "blkio/a/b/blkio.bfq.weight=300",
		"blkio/a/b/blkio.bfq.weight_device=8:0 500", "blkio/a/b/blkio.throttle.read_bps_device=8:0 600",
		"blkio/a/b/blkio.throttle.write_bps_device=8:1 601",
		"blkio/a/b/blkio.throttle.read_iops_device=8:2 602",
		"blkio/a/b/blkio.throttle.write_iops_device=8:3 603",
		"net_cls,net_prio/a/b/net_cls.classid=1048577",
		"net_cls,net_prio/a/b/net_prio.ifpriomap=eth0 500",
		"rdma/a/b/rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "devices/a/b/devices.deny=a",
		"devices/a/b/devices.allow=c 10:229 rw", "devices/a/b/devices.allow=c *:* m",
		"devices/a/b/devices.allow=c 136:* rwm",
		/* A v1 cpuset takes no process before it has its parent's. */
		"cpuset/a/cpuset.cpus=0-3", "cpuset/a/b/cpuset.cpus=0-3", "cpuset/a/b/cpuset.mems=0",
	};
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	fake_put(&f, "cpuset", "cpuset.cpus", "0-3");
	fake_put(&f, "cpuset", "cpuset.mems", "0");
	struct cgroup *cg = fake_open(&f, "/a/b");

	ok(fake_create(cg, all_v1, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_wrote(&f, lines[i]);
	}
	assert_null(strstr(buf_str(&f.log), "memory.kmem.limit")); /* deprecated and ignored */
	assert_int_equal(cgroup_fd(cg), -1);
	assert_int_equal(cgroup_join_self(cg, false), 0);
	assert_wrote(&f, "memory/a/b/tasks=0");
	assert_wrote(&f, "systemd/a/b/tasks=0");
	cgroup_free(cg);
	fake_fini(&f);
}

static const char all_v2[] =
	"{\"memory\":{\"limit\":1000000,\"swap\":1500000,\"reservation\":500000,\"kernel\":5},"
	"\"cpu\":{\"shares\":1024,\"quota\":50000,\"burst\":1000,\"cpus\":\"0-1\",\"mems\":\"0\"},"
	"\"pids\":{\"limit\":42},"
	"\"blockIO\":{\"weight\":10,\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":1000}],"
	"\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}],"
	"\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":1,\"rate\":0}],"
	"\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":2,\"rate\":602}],"
	"\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":3,\"rate\":603}]},"
	"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}],"
	"\"rdma\":{\"mlx5_1\":{\"hcaObjects\":7}},"
	"\"unified\":{\"memory.high\":\"900000\",\"io.max\":\"8:4 rbps=1\\n8:5 rbps=2\"}}";

static void limits_v2(void **state unused_arg)
{
	static const char *const lines[] = {
		"a/b/memory.max=1000000", "a/b/memory.swap.max=500000", "a/b/memory.low=500000",
		"a/b/cpu.weight=100", "a/b/cpu.max=50000 100000", "a/b/cpu.max.burst=1000",
		"a/b/cpuset.cpus=0-1", "a/b/cpuset.mems=0", "a/b/pids.max=42", "a/b/io.weight=default 1",
		"a/b/io.weight=8:0 10000", "a/b/io.max=8:0 rbps=600", "a/b/io.max=8:1 wbps=max",
		"a/b/io.max=8:2 riops=602", "a/b/io.max=8:3 wiops=603", "a/b/hugetlb.2MB.max=4194304",
		"a/b/hugetlb.2MB.rsvd.max=4194304", "a/b/rdma.max=mlx5_1 hca_object=7",
		"a/b/memory.high=900000", "a/b/io.max=8:4 rbps=1", "a/b/io.max=8:5 rbps=2",
	};
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V2, "0::/me\n", fake_v2_files);
	sys_fault_arm(SYS_CALL_bpf, 1, 0, EPERM); /* a folder takes no program */
	struct cgroup *cg = fake_open(&f, "/a/b");

	cg->rootless = true;
	ok(fake_create(cg, all_v2, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_wrote(&f, lines[i]);
	}
	assert_true(cgroup_fd(cg) >= 0);
	size_t before = fake_writes(&f);

	assert_int_equal(cgroup_join_self(cg, true), 0);
	assert_int_equal(fake_writes(&f), before);
	assert_int_equal(cgroup_join_self(cg, false), 0);
	assert_wrote(&f, "a/b/cgroup.procs=0");
	cgroup_free(cg);
	fake_fini(&f);
}

/* Controllers are handed down from the root to the group's parent. */
static void enables_controllers(void **state unused_arg)
{
	struct fake f;
	struct cg_hier h = { .v2 = true, .group = "/a/b" };

	fake_init(&f, CGROUP_V2, "0::/\n", fake_v2_files);
	fake_group(&f, "a");
	fake_group(&f, "a/b");
	fake_put(&f, "a/b", "cgroup.controllers", "");
	fake_put(&f, "a", "cgroup.subtree_control", "cpu io\n");
	h.root_fd = open(f.root, O_PATH | O_CLOEXEC);
	assert_int_equal(cg__v2_enable(&h), 0);
	assert_wrote(&f, "cgroup.subtree_control=+cpuset +cpu +io +memory +hugetlb +pids +rdma");
	assert_wrote(&f, "a/cgroup.subtree_control=+cpuset +memory +hugetlb +pids +rdma");
	assert_int_equal(fake_writes(&f), 2);

	/* One that the kernel refuses does not cost the others. */
	fake_put(&f, ".", "cgroup.subtree_control", "");
	fake_put(&f, "a", "cgroup.subtree_control", "cpuset cpu io memory hugetlb pids rdma\n");
	sys_fault_arm(SYS_CALL_write, 1, 2, EINVAL);
	assert_int_equal(cg__v2_enable(&h), 0);
	assert_wrote(&f, "cgroup.subtree_control=+cpu");
	assert_wrote(&f, "cgroup.subtree_control=+rdma");
	assert_false(fake_wrote(&f, "cgroup.subtree_control=+cpuset"));
	fd_close(&h.root_fd);
	fake_fini(&f);
}

/* A controller that only the v2 tree of a hybrid host has is told in v2's words. */
static void limits_hybrid(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_HYBRID, fake_v1_files);
	fake_put(&f, "unified", "cgroup.controllers", "hugetlb\n");
	struct cgroup *cg = fake_open(&f, "/a");

	fake_group(&f, "unified/a");
	fake_put(&f, "unified/a", "hugetlb.2MB.max", "max");
	fake_put(&f, "unified/a", "cgroup.controllers", "hugetlb\n");
	ok(fake_create(cg, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":7}],"
			   "\"memory\":{\"limit\":5}}", &e), &e);
	assert_wrote(&f, "unified/a/hugetlb.2MB.max=7");
	assert_wrote(&f, "memory/a/memory.limit_in_bytes=5");
	assert_wrote(&f, "devices/a/devices.deny=a");
	assert_true(cgroup_fd(cg) >= 0);
	cgroup_free(cg);
	fake_fini(&f);
}

static void refuses(void **state unused_arg)
{
	static const struct {
		enum cgroup_mode mode;
		const char      *res, *field;
		enum err_code    code;
	} rows[] = {
		{ CGROUP_V1, "{\"unified\":{\"memory.high\":\"1\"}}", "/linux/resources/unified", ERR_INVALID },
		{ CGROUP_V1, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":7}]}",
		  "/linux/resources/hugepageLimits", ERR_UNSUPPORTED },
		{ CGROUP_V1, "{\"memory\":{\"limit\":9,\"swap\":8}}", "/linux/resources/memory/swap", ERR_INVALID },
		{ CGROUP_V1, "{\"blockIO\":{\"leafWeight\":20}}", "/linux/resources/blockIO/leafWeight",
		  ERR_UNSUPPORTED },
		{ CGROUP_V1, "{\"devices\":[{\"allow\":true,\"type\":\"c\",\"major\":4,\"access\":\"x\"}]}",
		  "/linux/resources/devices/0", ERR_INVALID },
		{ CGROUP_V2, "{\"memory\":{\"swappiness\":1}}", "/linux/resources/memory/swappiness",
		  ERR_UNSUPPORTED },
		{ CGROUP_V2, "{\"memory\":{\"disableOOMKiller\":true}}",
		  "/linux/resources/memory/disableOOMKiller", ERR_UNSUPPORTED },
		{ CGROUP_V2, "{\"memory\":{\"swap\":5}}", "/linux/resources/memory/swap", ERR_INVALID },
		{ CGROUP_V2, "{\"memory\":{\"limit\":9,\"swap\":5}}", "/linux/resources/memory/swap",
		  ERR_INVALID },
		{ CGROUP_V2, "{\"memory\":{\"limit\":9,\"checkBeforeUpdate\":true}}",
		  "/linux/resources/memory/limit", ERR_INVALID },
		{ CGROUP_V2, "{\"network\":{\"classID\":1}}", "/linux/resources/network", ERR_UNSUPPORTED },
		{ CGROUP_V2, "{\"cpu\":{\"realtimeRuntime\":1}}", "", ERR_UNSUPPORTED },
		{ CGROUP_V2, "{\"unified\":{\"cgroup.procs\":\"1\"}}",
		  "/linux/resources/unified/cgroup.procs", ERR_INVALID },
		{ CGROUP_V2, "{\"unified\":{\"../memory.max\":\"1\"}}",
		  "/linux/resources/unified/../memory.max", ERR_INVALID },
		{ CGROUP_V2, "{\"unified\":{\"misc.max\":\"1\"}}", "/linux/resources/unified/misc.max",
		  ERR_UNSUPPORTED },
		{ CGROUP_V2, "{\"rdma\":{\"a b\":{}}}", "/linux/resources/rdma", ERR_INVALID },
		{ CGROUP_V2, "{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":7}]}",
		  "/linux/resources/hugepageLimits/0", ERR_INVALID },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fake f;
		struct err e = ERR_INIT;
		bool v2 = rows[i].mode == CGROUP_V2;

		fake_init(&f, rows[i].mode, v2 ? "0::/me\n" : SELF_V1, v2 ? fake_v2_files : fake_v1_files);
		struct cgroup *cg = fake_open(&f, "/a");

		cg->rootless = v2;
		sys_fault_arm(SYS_CALL_bpf, 1, 0, EPERM);
		int r = fake_create(cg, rows[i].res, &e);

		if (r >= 0 || e.code != rows[i].code || !str_eq(e.field, rows[i].field)) {
			print_message("%s: %d code %d field \"%s\": %s\n", rows[i].res, r, e.code, e.field,
				      e.msg);
			fail();
		}
		cgroup_free(cg);
		fake_fini(&f);
	}
}

static void updates(void **state unused_arg)
{
	struct fake f;
	struct fake_res res;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V2, "0::/me\n", fake_v2_files);
	sys_fault_arm(SYS_CALL_bpf, 1, 0, EPERM);
	struct cgroup *cg = fake_open(&f, "/a");

	cg->rootless = true;
	ok(fake_create(cg, "{\"memory\":{\"limit\":1000},\"cpu\":{\"quota\":5000,\"period\":50000}}", &e),
	   &e);
	fake_res_init(&res, "{\"memory\":{\"swap\":1500},\"cpu\":{\"quota\":-1,\"idle\":1}}");
	ok(cgroup_update(cg, &res.res, &e), &e);
	assert_wrote(&f, "a/memory.swap.max=500"); /* against the limit that there is */
	assert_wrote(&f, "a/cpu.max=max 50000");   /* the period stays */
	assert_wrote(&f, "a/cpu.idle=1");
	assert_int_equal(sys_fault_hits(), 1);     /* device rules were not touched again */
	fake_res_fini(&res);
	cgroup_free(cg);
	fake_fini(&f);

	/* v1: memory <= memory+swap holds at every moment, growing and shrinking. */
	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	cg = fake_open(&f, "/a");
	ok(fake_create(cg, "{\"memory\":{\"limit\":1000,\"swap\":2000}}", &e), &e);
	buf_reset(&f.log);
	fake_res_init(&res, "{\"memory\":{\"limit\":5000,\"swap\":6000}}");
	ok(cgroup_update(cg, &res.res, &e), &e);
	fake_res_fini(&res);
	assert_string_equal(buf_str(&f.log), "memory/a/memory.memsw.limit_in_bytes=6000\n"
					     "memory/a/memory.limit_in_bytes=5000\n");
	buf_reset(&f.log);
	fake_res_init(&res, "{\"memory\":{\"limit\":300,\"swap\":400}}");
	ok(cgroup_update(cg, &res.res, &e), &e);
	fake_res_fini(&res);
	assert_string_equal(buf_str(&f.log), "memory/a/memory.limit_in_bytes=300\n"
					     "memory/a/memory.memsw.limit_in_bytes=400\n");
	cgroup_free(cg);
	fake_fini(&f);
}

static void refuses_used_groups(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	fake_group(&f, "memory/a/below");
	fake_put(&f, "memory/a/below", "cgroup.procs", "1\n");
	struct cgroup *cg = fake_open(&f, "/a");

	assert_int_equal(fake_create(cg, "{}", &e), -EBUSY);
	assert_int_equal(e.code, ERR_CONFLICT);
	fake_put(&f, "memory/a/below", "cgroup.procs", "");
	fake_group(&f, "freezer/a");
	fake_put(&f, "freezer/a", "freezer.state", "FREEZING\n");
	assert_int_equal(fake_create(cg, "{}", &e), -EBUSY);
	fake_put(&f, "freezer/a", "freezer.state", "THAWED\n");
	ok(fake_create(cg, "{}", &e), &e);
	cgroup_free(cg);
	fake_fini(&f);
}

static void rootless(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a");

	sys_fault_arm(SYS_CALL_mkdirat, 1, 0, EACCES);
	assert_int_equal(fake_create(cg, "{}", &e), -EACCES);
	cgroup_free(cg);

	err_clear(&e);
	cg = fake_open(&f, "/a");
	cg->rootless = true;
	ok(fake_create(cg, "{\"devices\":[{\"allow\":false}]}", &e), &e);
	assert_int_equal(fake_writes(&f), 0);
	assert_int_equal(cgroup_join_self(cg, false), 0);
	assert_false(cgroup_exists(cg));
	cgroup_free(cg);

	cg = fake_open(&f, "/a");
	cg->rootless = true;
	assert_int_equal(fake_create(cg, "{\"pids\":{\"limit\":3}}", &e), -EACCES);
	assert_string_equal(e.field, "/linux/resources/pids");
	assert_int_equal(e.code, ERR_DENIED);
	cgroup_free(cg);
	fake_fini(&f);
}

static void saves_and_loads(void **state unused_arg)
{
	static const char *const bad[] = {
		"{\"groups\":{\"memory\":\"/\"}}", "{\"groups\":{\"memory\":\"/a/../..\"}}",
		"{\"groups\":{\"memory\":\"a\"}}", "{\"groups\":{\"memory\":\"//a\"}}",
		"{\"manager\":\"other\",\"groups\":{}}", "{\"groups\":[]}",
	};
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_HYBRID, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a/b"), *again = NULL;

	ok(fake_create(cg, "{}", &e), &e);
	json_t *saved = cgroup_save(cg);

	ok(cg__load(saved, &f.host, &again, &e), &e);
	json_t *second = cgroup_save(again);

	assert_true(json_equal(saved, second));
	assert_true(cgroup_exists(again));
	assert_true(cgroup_fd(again) >= 0);
	json_decref(saved);
	json_decref(second);
	cgroup_free(cg);
	cgroup_free(again);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		json_t *j = NULL;

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), &json_limits_request, "x", &j, &e), 0);
		assert_true(cg__load(j, &f.host, &again, &e) < 0);
		json_decref(j);
	}
	fake_fini(&f);
}

static void exec_groups(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_HYBRID, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a"), *x = NULL;

	ok(fake_create(cg, "{}", &e), &e);
	ok(cgroup_for_exec(cg, 0, NULL, &x, &e), &e);
	assert_string_equal(cg__with(x, CG_MEMORY)->group, "/a");
	x = cgroup_free(x);
	fake_group(&f, "unified/a/sub");
	ok(cgroup_for_exec(cg, 0, "sub", &x, &e), &e);
	assert_string_equal(cg__with(x, CG_MEMORY)->group, "/a/sub");
	x = cgroup_free(x);
	assert_int_equal(cgroup_for_exec(cg, 0, "../other", &x, &e), -EINVAL);
	assert_null(x);
	cgroup_free(cg);
	fake_fini(&f);
}

static void freezes(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a");

	ok(fake_create(cg, "{}", &e), &e);
	assert_int_equal(cgroup_frozen(cg), 0);
	ok(cgroup_freeze(cg, &e), &e);
	assert_int_equal(cgroup_frozen(cg), 1);
	ok(cgroup_thaw(cg, &e), &e);
	assert_int_equal(cgroup_frozen(cg), 0);

	/* Whatever is frozen, here or below, is thawed before it is killed. */
	ok(cgroup_freeze(cg, &e), &e);
	fake_group(&f, "freezer/a/below");
	fake_put(&f, "freezer/a/below", "freezer.state", "FROZEN\n");
	buf_reset(&f.log);
	ok(cgroup_kill(cg, SIGKILL, &e), &e);
	assert_string_equal(buf_str(&f.log), "freezer/a/freezer.state=THAWED\n"
					     "freezer/a/below/freezer.state=THAWED\n");

	/* A freezer that does not come to FROZEN is not left half way. */
	sys_fault_arm(SYS_CALL_read, 1, 0, EIO);
	assert_int_equal(cgroup_freeze(cg, &e), -EIO);
	sys_fault_clear();
	assert_int_equal(cgroup_frozen(cg), 0);
	cgroup_free(cg);
	fake_fini(&f);

	fake_init(&f, CGROUP_V2, "0::/me\n", fake_v2_files);
	sys_fault_arm(SYS_CALL_bpf, 1, 0, EPERM);
	cg = fake_open(&f, "/a");
	cg->rootless = true;
	ok(fake_create(cg, "{}", &e), &e);
	ok(cgroup_freeze(cg, &e), &e);
	assert_wrote(&f, "a/cgroup.freeze=1");
	assert_int_equal(cgroup_frozen(cg), 1);
	ok(cgroup_kill(cg, SIGKILL, &e), &e);
	assert_wrote(&f, "a/cgroup.kill=1");
	ok(cgroup_thaw(cg, &e), &e);
	assert_wrote(&f, "a/cgroup.freeze=0");
	cgroup_free(cg);
	fake_fini(&f);
}

static void lists_pids(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;
	struct cgroup_pids pids;

	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a");

	ok(fake_create(cg, "{}", &e), &e);
	fake_put(&f, "freezer/a", "cgroup.procs", "12\n0\n");
	fake_group(&f, "freezer/a/b");
	fake_put(&f, "freezer/a/b", "cgroup.procs", "13\n");
	ok(cgroup_pids(cg, &pids, &e), &e);
	assert_int_equal(pids.n, 2);
	assert_int_equal(pids.v[0] + pids.v[1], 25);
	free(pids.v);
	cgroup_free(cg);
	fake_fini(&f);
}

static double number_at(json_t *j, const char *a, const char *b, const char *c)
{
	j = json_object_get(j, a);
	j = json_object_get(j, b);
	return json_number_value(c ? json_object_get(j, c) : j);
}

static void stats(void **state unused_arg)
{
	struct fake f;
	struct err e = ERR_INIT;

	assert_null(jtable_fault(&cgroup_stats_table));
	fake_init(&f, CGROUP_V1, SELF_V1, fake_v1_files);
	struct cgroup *cg = fake_open(&f, "/a");

	ok(fake_create(cg, "{}", &e), &e);
	json_t *j = cgroup_stats_json(cg, &e);

	assert_non_null(j);
	assert_true(number_at(j, "cpu", "usage", "total") == 123);
	assert_int_equal(json_array_size(json_object_get(json_object_get(json_object_get(j, "cpu"), "usage"),
							 "percpu")), 2);
	assert_true(number_at(j, "cpu", "throttling", "throttledPeriods") == 3);
	assert_true(number_at(j, "memory", "usage", "usage") == 4096);
	assert_true(number_at(j, "memory", "raw", "rss") == 4096);
	assert_true(number_at(j, "memory", "cache", NULL) == 8192);
	assert_true(number_at(j, "pids", "current", NULL) == 5);
	assert_int_equal(json_array_size(json_object_get(json_object_get(j, "blkio"),
							 "ioServiceBytesRecursive")), 2);
	assert_int_equal(cgroup_oom_kills(cg), 2);
	json_decref(j);
	cgroup_free(cg);
	fake_fini(&f);

	fake_init(&f, CGROUP_V2, "0::/me\n", fake_v2_files);
	sys_fault_arm(SYS_CALL_bpf, 1, 0, EPERM);
	cg = fake_open(&f, "/a");
	cg->rootless = true;
	ok(fake_create(cg, "{}", &e), &e);
	j = cgroup_stats_json(cg, &e);
	assert_true(number_at(j, "cpu", "usage", "kernel") == 7000);
	assert_true(number_at(j, "memory", "usage", "usage") == 1048576);
	assert_true(number_at(j, "memory", "usage", "failcnt") == 4);
	assert_true(json_number_value(json_object_get(json_object_get(json_object_get(
		    json_object_get(j, "memory"), "psi"), "some"), "avg10")) == 1.5);
	assert_int_equal(json_array_size(json_object_get(json_object_get(j, "cpuset"), "cpus")), 4);
	assert_int_equal(json_array_size(json_object_get(json_object_get(j, "blkio"),
							 "ioServicedRecursive")), 2);
	json_decref(j);
	cgroup_free(cg);
	fake_fini(&f);
}

/* Whatever call fails, creation says so or succeeds; it never crashes or leaks (ASan). */
static void survives_faults(void **state unused_arg)
{
	static const char *const few[] = {
		"cgroup.procs", "", "cpuset.cpus", "0", "cpuset.mems", "0", "memory.limit_in_bytes", "9",
		"memory.memsw.limit_in_bytes", "9", "devices.allow", "", "devices.deny", "",
		"cgroup.controllers", "pids", "cgroup.subtree_control", "", "pids.max", "", NULL,
	};
	struct fake_res res;

	fake_res_init(&res, "{\"memory\":{\"limit\":10,\"swap\":20},\"pids\":{\"limit\":3},"
			    "\"cpu\":{\"cpus\":\"0\"}}");
	for (unsigned nth = 1, done = 0; !done; nth++) {
		struct fake f;
		struct cgroup *cg = NULL;
		struct err e = ERR_INIT;

		fake_init(&f, CGROUP_V1, "5:devices:/\n4:memory:/\n3:cpuset:/\n0::/\n", few);
		struct cgroup_conf conf = { .path = "/a", .id = "i", .host = &f.host };

		sys_fault_arm_any(nth, EIO);
		int r = cgroup_open(&conf, &cg, &e);

		r = r < 0 ? r : cgroup_create(cg, 0, &res.res, &e);
		done = sys_fault_hits() == 0;
		if (r < 0) {
			assert_true(e.errnum > 0 && e.msg[0]);
		}
		if (done) {
			ok(r, &e);
		}
		cgroup_free(cg);
		fake_fini(&f);
		assert_true(nth < 2000);
	}
	fake_res_fini(&res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_hierarchies), cmocka_unit_test(names_groups),
		cmocka_unit_test(own_group_outside), cmocka_unit_test(limits_v1), cmocka_unit_test(limits_v2),
		cmocka_unit_test(enables_controllers), cmocka_unit_test(limits_hybrid),
		cmocka_unit_test(refuses), cmocka_unit_test(updates), cmocka_unit_test(refuses_used_groups),
		cmocka_unit_test(rootless), cmocka_unit_test(saves_and_loads), cmocka_unit_test(exec_groups),
		cmocka_unit_test(freezes), cmocka_unit_test(lists_pids), cmocka_unit_test(stats),
		cmocka_unit_test(survives_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
