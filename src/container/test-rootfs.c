/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real mounts in real namespaces: needs root, and makes all it makes in a folder of its own
 * and in namespaces that die with the test.
 */
#include "container/test-rootfs-box.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <linux/magic.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/idmap.h"
#include "container/rootfs.h"
#include "oci/spec.h"
#include "sys/file.h"
#include "sys/proc.h"

static bool is_fs(const char *path, long type)
{
	struct statfs s;

	return statfs(path, &s) == 0 && s.f_type == type;
}

static bool is_dev(const char *path, unsigned major, unsigned minor)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor);
}

static bool has_text(const char *path, const char *text)
{
	auto_buf struct buf b = BUF_INIT;

	return sys_read_file(AT_FDCWD, path, 1 << 20, &b) == 0 && str_eq(buf_str(&b), text);
}

static bool flags_are(const char *path, unsigned long want, unsigned long mask)
{
	struct statvfs s;

	return statvfs(path, &s) == 0 && (s.f_flag & mask) == want;
}

#define PROC "{'destination':'/proc','type':'proc','source':'proc'}"
#define DEV "{'destination':'/dev','type':'tmpfs','source':'tmpfs','options':['nosuid'," \
	    "'strictatime','mode=755','size=65536k']}"
#define PTS "{'destination':'/dev/pts','type':'devpts','source':'devpts','options':['nosuid'," \
	    "'noexec','newinstance','ptmxmode=0666','mode=0620','gid=5']}"
#define SHM "{'destination':'/dev/shm','type':'tmpfs','source':'shm','options':['nosuid'," \
	    "'noexec','nodev','mode=1777','size=65536k']}"
#define MQ "{'destination':'/dev/mqueue','type':'mqueue','source':'mqueue','options':['nosuid'," \
	   "'noexec','nodev']}"
#define SYS "{'destination':'/sys','type':'sysfs','source':'sysfs','options':['nosuid'," \
	    "'noexec','nodev','ro']}"
#define USUAL PROC "," DEV "," PTS "," SHM "," MQ "," SYS
#define MASKS ",'maskedPaths':['/proc/acpi','/proc/kcore','/proc/keys','/sys/firmware'," \
	      "'/nowhere/at/all','/etc/passwd'],'readonlyPaths':['/proc/sys','/proc/irq'," \
	      "'/proc/sysrq-trigger','/not/there']"

/* --- what is usual --- */

static const char *check_usual(void)
{
	struct stat st;
	char link[64] = "";

	CHECK(is_fs("/proc", PROC_SUPER_MAGIC));
	CHECK(is_fs("/sys", SYSFS_MAGIC));
	CHECK(is_fs("/dev", TMPFS_MAGIC));
	CHECK(is_fs("/dev/shm", TMPFS_MAGIC));
	CHECK(is_fs("/dev/pts", DEVPTS_SUPER_MAGIC));
	CHECK(flags_are("/sys", ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC,
			ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC));
	CHECK(flags_are("/dev", ST_NOSUID, ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC));
	CHECK(stat("/dev/shm", &st) == 0 && (st.st_mode & 07777) == 01777);
	CHECK(is_dev("/dev/null", 1, 3) && is_dev("/dev/zero", 1, 5) && is_dev("/dev/full", 1, 7));
	CHECK(is_dev("/dev/random", 1, 8) && is_dev("/dev/urandom", 1, 9) && is_dev("/dev/tty", 5, 0));
	CHECK(stat("/dev/null", &st) == 0 && (st.st_mode & 07777) == 0666);
	CHECK(readlink("/dev/ptmx", link, 63) > 0 && str_eq(link, "pts/ptmx"));
	CHECK(readlink("/dev/fd", link, 63) > 0);
	CHECK(access("/proc/1/stat", F_OK) == 0 && getpid() == 1);
	auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(null >= 0 && write(null, "x", 1) == 1);
	return NULL;
}

static const char *check_masks(void)
{
	char c;
	const char *wrong = check_usual();

	if (wrong) {
		return wrong;
	}
	auto_close int kcore = open("/proc/keys", O_RDONLY | O_CLOEXEC);
	auto_close int passwd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	CHECK(kcore >= 0 && read(kcore, &c, 1) == 0);
	CHECK(passwd >= 0 && read(passwd, &c, 1) == 0);
	CHECK(is_fs("/sys/firmware", TMPFS_MAGIC));
	CHECK(mkdir("/sys/firmware/x", 0755) < 0 && errno == EROFS);
	CHECK(flags_are("/proc/sys", ST_RDONLY, ST_RDONLY));
	CHECK(access("/proc/sys/kernel/domainname", W_OK) < 0);
	CHECK(flags_are("/proc/irq", ST_RDONLY, ST_RDONLY));
	return NULL;
}

static void usual(void **state)
{
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .check = check_masks);
	assert_runs(*state, .mounts = USUAL, .check = check_usual);
}

static void usual_userns(void **state)
{
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .userns = true, .check = check_masks);
}

/* The parent may not mount: all is done by the container's first process. */
static void usual_deferred(void **state)
{
	sys_fault_arm(SYS_CALL_open_tree_attr, 1, 0, ENOSYS);
	sys_fault_arm(SYS_CALL_open_tree, 1, 1, EPERM);
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .userns = true, .check = check_masks);
	assert_true(sys_fault_hits() > 0);
	sys_fault_clear();
}

/* Nobody may make nodes: the host's are bound, and masks are empty files. */
static void usual_without_mknod(void **state)
{
	sys_fault_arm(SYS_CALL_mknodat, 1, 0, EPERM);
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .check = check_masks);
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .userns = true, .check = check_masks);
	sys_fault_clear();
}

static const char *check_stored(void)
{
	char c;
	auto_close int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	CHECK(is_dev("/opt/zero", 1, 5));
	CHECK(fd >= 0 && read(fd, &c, 1) == 0);
	CHECK(mkdir("/sys/firmware/x", 0755) < 0 && errno == EROFS);
	CHECK(access("/proc/driver/d", F_OK) < 0 && access("/proc/driver/0", F_OK) < 0);
	return NULL;
}

/* What is bound from file systems of ours; these have no place in the container. */
static void stores(void **state)
{
	const char *nodes = ",'devices':[{'path':'/opt/zero','type':'c','major':1,'minor':5}],"
			    "'maskedPaths':['/etc/passwd','/sys/firmware']";

	box_own(*state);
	assert_runs(*state, .mounts = USUAL, .linux = nodes, .check = check_stored);
	assert_runs(*state, .mounts = USUAL, .linux = nodes, .check = check_stored, .userns = true);
	assert_runs(*state, .mounts = USUAL, .linux = nodes, .check = check_stored, .no_pivot = true);
}

/* The walk by components instead of openat2(). */
static void usual_without_openat2(void **state)
{
	sys_fault_arm(SYS_CALL_openat2, 1, 0, ENOSYS);
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .check = check_masks);
	sys_fault_clear();
}

static void usual_no_pivot(void **state)
{
	assert_runs(*state, .mounts = USUAL, .linux = MASKS, .no_pivot = true,
		    .check = check_masks);
}

static const char *check_no_host(void)
{
	auto_buf struct buf b = BUF_INIT;
	size_t lines = 0;

	CHECK(sys_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &b) == 0);
	for (const char *p = buf_str(&b); *p; p++) {
		lines += *p == '\n';
	}
	CHECK(lines == 2); /* the root and /proc */
	CHECK(access("/rootfs", F_OK) < 0);
	CHECK(mkdir("/x", 0755) < 0 && errno == EROFS);
	return NULL;
}

static void nothing_of_the_host_stays(void **state)
{
	assert_runs(*state, .mounts = PROC, .root = ",'readonly':true", .check = check_no_host);
	assert_runs(*state, .mounts = PROC, .root = ",'readonly':true",
		    .linux = ",'rootfsPropagation':'rprivate'", .check = check_no_host);
}

/* --- binds --- */

static const char *check_binds(void)
{
	CHECK(has_text("/mnt/dir/file", "from the host\n"));
	CHECK(has_text("/mnt/one", "from the host\n"));
	CHECK(flags_are("/mnt/dir", ST_RDONLY | ST_NOSUID, ST_RDONLY | ST_NOSUID | ST_NODEV));
	CHECK(flags_are("/mnt/one", ST_NOEXEC, ST_RDONLY | ST_NOEXEC));
	CHECK(flags_are("/mnt/all", ST_RDONLY | ST_NODEV, ST_RDONLY | ST_NODEV));
	CHECK(access("/mnt/all/sub", F_OK) == 0);
	CHECK(mkdir("/mnt/all/sub/x", 0755) < 0 && errno == EROFS);
	return NULL;
}

static const char binds[] =
	"{'destination':'/mnt/dir','source':'src','type':'bind','options':['ro','nosuid']},"
	"{'destination':'mnt/one','source':'src/file','options':['bind','rprivate','noexec']},"
	"{'destination':'/mnt/all','source':'src','options':['rbind','rslave','rro','nodev']}";

static void binds_work(void **state)
{
	assert_runs(*state, .mounts = binds, .check = check_binds);
	sys_fault_arm(SYS_CALL_open_tree_attr, 1, 0, ENOSYS);
	assert_runs(*state, .mounts = binds, .check = check_binds);
	sys_fault_clear();
	box_own(*state);
	assert_runs(*state, .mounts = binds, .check = check_binds, .userns = true);
}

static void binds_refused(void **state)
{
	assert_refused(*state, "/mounts/0: mount on /a: source nosuch: no such file or folder",
		       .mounts = "{'destination':'/a','source':'nosuch','options':['bind']}");
	assert_refused(*state, "/mounts/1: mount on /etc: a file cannot be mounted on a folder",
		       .mounts = PROC ",{'destination':'/etc','source':'src/file','options':['bind']}");
	assert_refused(*state, "a folder cannot be mounted on a file",
		       .mounts = "{'destination':'/etc/passwd','source':'src','options':['bind']}");
	assert_refused(*state, "\"wibble\" is no option of a bind",
		       .mounts = "{'destination':'/a','source':'src','options':['bind','wibble']}");
	assert_refused(*state, "wibble", .mounts = "{'destination':'/a','source':'tmpfs','type':'tmpfs',"
						   "'options':['wibble=1']}");
	assert_refused(*state, "no file system \"nosuchfs\"",
		       .mounts = "{'destination':'/a','source':'x','type':'nosuchfs'}");
	assert_refused(*state, "neither a type", .mounts = "{'destination':'/a','source':'x'}");
	assert_refused(*state, "/linux/rootfsPropagation",
		       .linux = ",'rootfsPropagation':'sideways'");
}

/* --- a /proc that lies --- */

static void proc_is_guarded(void **state)
{
	const struct box *b = *state;

	assert_refused(b, "only a procfs may be /proc",
		       .mounts = "{'destination':'/proc','source':'tmpfs','type':'tmpfs'}");
	assert_refused(b, "only a procfs may be /proc",
		       .mounts = "{'destination':'/x/../proc/.','source':'src','options':['bind']}");
	assert_refused(b, "inside /proc", .mounts = PROC ",{'destination':'/proc/self/attr',"
							 "'source':'src','options':['bind']}");
	assert_runs(b, .mounts = PROC ",{'destination':'/proc/cpuinfo','source':'src/file',"
				      "'options':['bind']}");

	/* The image chooses where a link leads. */
	assert_int_equal(symlinkat("/proc", b->dir_fd, "rootfs/to-proc"), 0);
	assert_int_equal(symlinkat("proc/self", b->dir_fd, "rootfs/to-self"), 0);
	assert_int_equal(symlinkat("..", b->dir_fd, "rootfs/to-root"), 0);
	assert_int_equal(symlinkat("/etc", b->dir_fd, "rootfs/to-etc"), 0);
	assert_refused(b, "leads to /proc through a link",
		       .mounts = "{'destination':'/to-proc','source':'src','options':['bind']}");
	assert_refused(b, "leads into /proc through a link",
		       .mounts = PROC ",{'destination':'/to-proc','source':'tmpfs','type':'tmpfs'}");
	assert_refused(b, "leads into /proc through a link",
		       .mounts = PROC ",{'destination':'/to-self/attr','source':'src',"
				      "'options':['bind']}");
	assert_refused(b, "leads to the root through a link",
		       .mounts = "{'destination':'/to-root','source':'src','options':['bind']}");
	assert_refused(b, "not through a link",
		       .mounts = "{'destination':'/to-etc','source':'proc','type':'proc'}");
	assert_runs(b, .mounts = PROC ",{'destination':'/to-proc/uptime','source':'src/file',"
				      "'options':['bind']}");
}

/* --- links in the image --- */

static const char *check_links_inside(void)
{
	CHECK(has_text("/etc/over/file", "from the host\n"));
	CHECK(has_text("/run/new/file", "from the host\n"));
	return NULL;
}

static void links_stay_inside(void **state)
{
	const struct box *b = *state;
	auto_free char *outside = str_printf("%s/outside", b->dir);

	assert_int_equal(mkdir(outside, 0755), 0);
	assert_int_equal(symlinkat("/etc", b->dir_fd, "rootfs/abs"), 0);
	assert_int_equal(symlinkat("../../../../../run", b->dir_fd, "rootfs/dots"), 0);
	assert_int_equal(symlinkat(outside, b->dir_fd, "rootfs/host"), 0);
	assert_runs(b, .mounts = "{'destination':'/abs/over','source':'src','options':['bind']},"
				 "{'destination':'/dots/new','source':'src','options':['bind']},"
				 "{'destination':'/host/made','source':'src','options':['bind']}",
		    .check = check_links_inside);
	assert_int_equal(faccessat(b->dir_fd, "outside/made", F_OK, 0), -1);
}

static const char *check_dev_link(void)
{
	CHECK(is_dev("/elsewhere/null", 1, 3));
	CHECK(is_dev("/dev/null", 1, 3));
	return NULL;
}

/* An image may have no folders at all. */
static void bare_image(void **state)
{
	const struct box *b = *state;
	static const char *const dirs[] = { "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		assert_int_equal(unlinkat(b->dir_fd, dirs[i], AT_REMOVEDIR), 0);
	}
	assert_runs(b, .mounts = USUAL, .linux = MASKS, .check = check_masks);
}

/* CVE-2021-30465: someone swaps a folder of the root for a link out of it, all the time. */
static void target_is_swapped(void **state)
{
	const struct box *b = *state;
	pid_t pid = 0;
	int status = 0;
	unsigned done = 0;

	box_dir(b, "outside");
	box_dir(b, "rootfs/vol");
	box_dir(b, "rootfs/vol/swap");
	assert_int_equal(symlinkat("../../outside", b->dir_fd, "rootfs/vol/link"), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			ignore_result(sys_renameat2(b->dir_fd, "rootfs/vol/swap", b->dir_fd,
						    "rootfs/vol/link", RENAME_EXCHANGE));
			/* as often as it can */
		}
	}
	for (unsigned i = 0; i < 25; i++) {
		const char *said = box_run(b, &(struct run){
			.mounts = "{'destination':'/vol/swap/x','source':'src','options':['bind']}" });

		done += said[0] == '\0';
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(done > 0);
	assert_int_equal(faccessat(b->dir_fd, "outside/x", F_OK, 0), -1);
}

/* CVE-2026-41579: /dev itself is a link. It leads nowhere but in the root. */
static void dev_is_a_link(void **state)
{
	const struct box *b = *state;
	auto_free char *outside = str_printf("%s/elsewhere", b->dir);

	assert_int_equal(mkdir(outside, 0755), 0);
	assert_int_equal(unlinkat(b->dir_fd, "rootfs/dev", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("../elsewhere", b->dir_fd, "rootfs/dev"), 0);
	assert_runs(b, .check = check_dev_link);
	box_own(b);
	assert_runs(b, .check = check_dev_link, .userns = true);
	assert_int_equal(faccessat(b->dir_fd, "elsewhere/null", F_OK, 0), -1);
}

static const char *check_real_null(void)
{
	char c;
	auto_close int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	CHECK(is_dev("/dev/null", 1, 3));
	CHECK(is_dev("/dev/zero", 1, 5));
	CHECK(fd >= 0 && read(fd, &c, 1) == 0);
	return NULL;
}

/* CVE-2025-31133: the image's /dev/null is a link to what masking should then show. */
static void null_is_a_link(void **state)
{
	const struct box *b = *state;

	assert_int_equal(symlinkat("/etc/secret", b->dir_fd, "rootfs/dev/null"), 0);
	box_put(b, "rootfs/etc/secret", "secret\n");
	box_put(b, "rootfs/dev/zero", "no device\n");
	assert_runs(b, .linux = MASKS, .check = check_real_null);
	box_own(b);
	assert_runs(b, .linux = MASKS, .check = check_real_null, .userns = true);
}

/* --- terminals --- */

static const char *check_console(void)
{
	struct stat a, b;
	auto_close int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

	CHECK(fd >= 0 && isatty(fd));
	CHECK(stat("/dev/console", &a) == 0 && stat("/dev/pts/0", &b) == 0);
	CHECK(a.st_rdev == b.st_rdev && a.st_dev == b.st_dev);
	return NULL;
}

#define TERMINAL ",'process':{'terminal':true,'cwd':'/','args':['x'],'user':{'uid':0,'gid':0}}"

static void console(void **state)
{
	const struct box *b = *state;

	assert_runs(b, .mounts = USUAL, .more = TERMINAL, .check = check_console);
	assert_runs(b, .mounts = USUAL, .more = TERMINAL, .check = check_console, .userns = true);
	assert_refused(b, "mount of type devpts", .mounts = PROC, .more = TERMINAL);
}

/* --- tmpfs --- */

static const char *check_copyup(void)
{
	struct stat st;
	char link[64] = "";

	CHECK(is_fs("/etc", TMPFS_MAGIC));
	CHECK(has_text("/etc/passwd", "root:x:0:0::/:/bin/sh\n"));
	CHECK(stat("/etc", &st) == 0 && (st.st_mode & 07777) == 0751);
	CHECK(stat("/etc/deep/er", &st) == 0 && (st.st_mode & 07777) == 02711);
	CHECK(readlink("/etc/link", link, 63) == 7 && str_eq(link, "nowhere"));
	CHECK(stat("/etc/owned", &st) == 0 && st.st_uid == 12 && st.st_gid == 34);
	CHECK(flags_are("/etc", ST_RDONLY, ST_RDONLY));
	CHECK(has_text("/etc/sub/file", "from the host\n"));
	return NULL;
}

static void copy_up(void **state)
{
	const struct box *b = *state;

	box_dir(b, "rootfs/etc/deep");
	box_dir(b, "rootfs/etc/deep/er");
	box_put(b, "rootfs/etc/owned", "x");
	assert_int_equal(fchownat(b->dir_fd, "rootfs/etc/owned", 12, 34, 0), 0);
	assert_int_equal(fchmodat(b->dir_fd, "rootfs/etc/deep/er", 02711, 0), 0);
	assert_int_equal(fchmodat(b->dir_fd, "rootfs/etc", 0751, 0), 0);
	assert_int_equal(symlinkat("nowhere", b->dir_fd, "rootfs/etc/link"), 0);
	assert_runs(b, .mounts = "{'destination':'/etc','source':'tmpfs','type':'tmpfs',"
				 "'options':['tmpcopyup','ro']},"
				 "{'destination':'/etc/sub','source':'src','options':['bind']}",
		    .check = check_copyup);
	assert_refused(b, "tmpcopyup is for tmpfs",
		       .mounts = "{'destination':'/etc','source':'src','options':['bind',"
				 "'tmpcopyup']}");
}

static const char *check_devices(void)
{
	struct stat st;

	CHECK(is_dev("/dev/fuse", 10, 229));
	CHECK(stat("/dev/fuse", &st) == 0 && (st.st_mode & 07777) == 0640 && st.st_gid == 7);
	CHECK(stat("/dev/deep/er/pipe", &st) == 0 && S_ISFIFO(st.st_mode));
	CHECK(is_dev("/opt/zero", 1, 5));
	CHECK(stat("/dev/null", &st) == 0 && (st.st_mode & 07777) == 0600);
	return NULL;
}

static void devices(void **state)
{
	assert_runs(*state, .mounts = USUAL, .check = check_devices,
		    .linux = ",'devices':["
			     "{'path':'/dev/fuse','type':'c','major':10,'minor':229,'fileMode':416,"
			     "'uid':0,'gid':7},"
			     "{'path':'/dev/deep/er/pipe','type':'p'},"
			     "{'path':'/opt/zero','type':'u','major':1,'minor':5},"
			     "{'path':'/dev/null','type':'c','major':1,'minor':3,'fileMode':384}]");
	assert_refused(*state, "/linux/devices/0/type",
		       .linux = ",'devices':[{'path':'/dev/x','type':'q','major':1,'minor':3}]");
}

/* --- id mappings --- */

static const char *check_idmap(void)
{
	struct stat st;

	CHECK(stat("/mnt/file", &st) == 0 && st.st_uid == 0 && st.st_gid == 0);
	auto_close int fd = open("/mnt/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	return NULL;
}

static void idmap(void **state)
{
	const struct box *b = *state;
	struct stat st;

	box_own(b);
	assert_runs(b, .userns = true, .check = check_idmap,
		    .mounts = "{'destination':'/mnt','source':'src','options':['bind','idmap']}");
	assert_int_equal(fstatat(b->dir_fd, "src/new", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(unlinkat(b->dir_fd, "src/new", 0), 0);

	/* The mount's own mapping: the host's 4242 is the container's 0. */
	assert_int_equal(fchownat(b->dir_fd, "src/file", 4242, 4242, 0), 0);
	assert_int_equal(fchownat(b->dir_fd, "src", 4242, 4242, 0), 0);
	assert_runs(b, .userns = true, .check = check_idmap,
		    .mounts = "{'destination':'/mnt','source':'src','options':['rbind','ridmap'],"
			      "'uidMappings':[{'containerID':4242,'hostID':200000,'size':1}],"
			      "'gidMappings':[{'containerID':4242,'hostID':200000,'size':1}]}");
	assert_int_equal(fstatat(b->dir_fd, "src/new", &st, 0), 0);
	assert_int_equal(st.st_uid, 4242);
	assert_refused(b, "idmap needs mappings",
		       .mounts = "{'destination':'/mnt','source':'src','options':['bind','idmap']}");
}

/* --- faults --- */

/* Whichever call fails first, preparing fails with a message and leaves no descriptor. */
static void faults(void **state)
{
	const struct box *b = *state;
	unsigned before, after;

	for (unsigned n = 1; n < 200; n++) {
		before = (unsigned)dup(0);
		close((int)before);
		sys_fault_arm_any(n, EIO);
		const char *said = box_run(b, &(struct run){ .mounts = binds, .linux = MASKS });
		bool hit = sys_fault_hits() > 0;

		sys_fault_clear();
		after = (unsigned)dup(0);
		close((int)after);
		assert_int_equal(before, after);
		if (!hit && said[0] == '\0') {
			assert_true(n > 10);
			return;
		}
	}
	fail_msg("never succeeded");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BOX(f) cmocka_unit_test_setup_teardown(f, box_new, box_free)
		BOX(usual), BOX(usual_userns), BOX(usual_no_pivot),
		BOX(stores), BOX(usual_without_mknod), BOX(usual_without_openat2),
		BOX(nothing_of_the_host_stays), BOX(binds_refused),
		BOX(proc_is_guarded), BOX(links_stay_inside), BOX(bare_image),
		BOX(target_is_swapped), BOX(dev_is_a_link),
		BOX(null_is_a_link), BOX(console), BOX(copy_up), BOX(devices), BOX(idmap),
		/* From here on without open_tree_attr(), which they take away. */
		BOX(binds_work), BOX(usual_deferred), BOX(faults),
#undef BOX
	};

	if (geteuid() != 0) {
		(void)printf("skipped: mounting needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
