/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only process 1 of a machine does. The initramfs holds this program, the OCI runtime and
 * the modules, named in the order in which they load by MODULES_ORDER.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <linux/reboot.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/machine.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/socket.h"

#define MODULES_FOLDER "/lib/modules"
#define MODULES_ORDER  "/lib/modules/order"
#define RUNTIME        "/bin/holm-oci"
#define ROOT           "/run/holm/root"     /* the container's; in its config, too */

enum { DEVICE_WAIT_MS = 10000, ORDER_MAX = 65536 };

struct fs {
	const char   *type, *target, *options;
	unsigned long flags;
};

static const struct fs file_systems[] = {
	{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID },
	{ "tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV },
	{ "devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
	{ "cgroup2", "/sys/fs/cgroup", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC },
};

static int mount_all(struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(file_systems); i++) {
		const struct fs *f = &file_systems[i];
		int r = sys_mkdir_p(AT_FDCWD, f->target, 0755);

		if (r == 0) {
			r = sys_mount(f->type, f->target, f->type, f->flags, f->options);
		}
		if (r < 0 && r != -EBUSY) { /* the kernel has mounted /dev itself */
			return err_set(e, -r, ERR_HOST, "cannot mount %s", f->target);
		}
	}
	return 0;
}

static int load_module(const char *name, size_t len, struct err *e)
{
	auto_free char *path = str_printf(MODULES_FOLDER "/%.*s", (int)len, name);
	auto_close int fd = path ? sys_openat(AT_FDCWD, path, O_RDONLY, 0) : -ENOMEM;
	int r = fd < 0 ? fd : sys_finit_module(fd, "");

	if (r == -EEXIST) {
		return 0;
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot load the module %.*s", (int)len, name) : 0;
}

/* All that are named; one that fails is told, and missed only by who needs it. */
static int load_modules(struct err *e)
{
	auto_buf struct buf order = BUF_INIT;
	int r = sys_read_file(AT_FDCWD, MODULES_ORDER, ORDER_MAX, &order);
	const char *cursor = buf_str(&order), *part;
	size_t len;

	if (r < 0 && r != -ENOENT) {
		return err_set(e, -r, ERR_HOST, "cannot read " MODULES_ORDER);
	}
	while (str_split(&cursor, '\n', &part, &len)) {
		if (len > 0 && load_module(part, len, e) < 0) {
			log_err(LOG_LEVEL_WARN, e);
			err_clear(e);
		}
	}
	return 0;
}

/* Every controller, so that the runtime can limit what it makes. */
static void enable_controllers(void)
{
	static const char *const names[] = { "+cpu", "+cpuset", "+io", "+memory", "+pids" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		/* One that this kernel lacks is not missed. */
		ignore_result(sys_write_file(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control",
					     names[i], strlen(names[i])));
	}
}

static void loopback_up(void)
{
	struct ifreq q = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	auto_close int fd = sys_socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || sys_ioctl(fd, SIOCSIFFLAGS, &q) < 0) {
		log_warn("lo stays down");
	}
}

static int copy_file(const char *from, const char *to)
{
	static char block[65536];
	auto_close int in = sys_openat(AT_FDCWD, from, O_RDONLY, 0);
	auto_close int out = sys_openat(AT_FDCWD, to, O_WRONLY | O_CREAT | O_EXCL, 0755);
	int r = in < 0 ? in : out < 0 ? out : 0;
	ssize_t n = 0;

	while (r == 0 && (n = sys_read(in, block, sizeof(block))) > 0) {
		r = sys_write_full(out, block, (size_t)n);
	}
	return r < 0 ? r : (int)MIN(n, (ssize_t)0);
}

/*
 * The initramfs cannot be the old root of a pivot_root, which the runtime needs: what is still
 * needed of it moves to a file system of its own, the rest gives its memory back.
 */
static int leave_initramfs(struct err *e)
{
	static const char *const gone[] = { "/lib", RUNTIME, "/init" };
	int r = sys_mkdir_p(AT_FDCWD, "/new", 0755);

	r = r < 0 ? r : sys_mount("root", "/new", "tmpfs", 0, "mode=0755");
	r = r < 0 ? r : sys_mkdir_p(AT_FDCWD, "/new/bin", 0755);
	r = r < 0 ? r : copy_file(RUNTIME, "/new" RUNTIME);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(gone); i++) {
		r = sys_remove_tree(AT_FDCWD, gone[i]);
	}
	r = r < 0 ? r : sys_chdir("/new");
	r = r < 0 ? r : sys_mount(".", "/", NULL, MS_MOVE, NULL);
	r = r < 0 ? r : sys_chroot(".");
	r = r < 0 ? r : sys_chdir("/");
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot leave the initramfs") : 0;
}

int machine_boot(struct err *e)
{
	int r = load_modules(e);

	r = r < 0 ? r : leave_initramfs(e);
	r = r < 0 ? r : mount_all(e);
	if (r < 0) {
		return r;
	}
	enable_controllers();
	loopback_up();
	return 0;
}

int machine_listen(int *ret_fd, struct err *e)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY,
				  .svm_port = GUEST_PORT };
	auto_close int fd = sys_socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? fd : sys_bind(fd, (struct sockaddr *)(void *)&at, sizeof(at));

	r = r < 0 ? r : sys_listen(fd, 64);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot listen on vsock port %d", GUEST_PORT);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static void add_entropy(const struct wire_bytes *seed)
{
	/* struct rand_pool_info ends with the bytes themselves. */
	auto_free struct rand_pool_info *pool = mem_calloc(1, sizeof(*pool) + seed->len);
	auto_close int fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDWR, 0);

	if (!pool || fd < 0) {
		log_warn("the machine's random numbers are not seeded");
		return;
	}
	pool->entropy_count = (int)seed->len * 8;
	pool->buf_size = (int)seed->len;
	memcpy(pool->buf, seed->data, seed->len);
	if (sys_ioctl(fd, RNDADDENTROPY, pool) < 0 || sys_ioctl(fd, RNDRESEEDCRNG, NULL) < 0) {
		log_warn("the machine's random numbers are not seeded");
	}
}

static int wait_device(const char *path, struct err *e)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	struct stat st;

	for (int ms = 0; ms < DEVICE_WAIT_MS; ms += 5) {
		if (sys_fstatat(AT_FDCWD, path, &st, 0) == 0) {
			return 0;
		}
		(void)nanosleep(&pause, NULL); /* woken early: asks again */
	}
	return err_set(e, ENODEV, ERR_HOST, "no disk %s", path);
}

/* The image below, a layer in memory above. */
static int mount_root(const struct guest_setup *m, struct err *e)
{
	static const char *const folders[] = { "/run/holm/lower", "/run/holm/layer", ROOT };
	auto_free char *bound = m->upper_bytes ? str_printf("mode=0755,size=%llu",
							    (unsigned long long)m->upper_bytes)
					       : str_dup("mode=0755");
	int r = wait_device(m->root, e);

	if (r < 0 || !bound) {
		return r < 0 ? r : err_nomem(e);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(folders); i++) {
		r = sys_mkdir_p(AT_FDCWD, folders[i], 0755);
	}
	r = r < 0 ? r : sys_mount(m->root, folders[0], "erofs", MS_RDONLY, NULL);
	r = r < 0 ? r : sys_mount("tmpfs", folders[1], "tmpfs", 0, bound);
	r = r < 0 ? r : sys_mkdir_p(AT_FDCWD, "/run/holm/layer/upper", 0755);
	r = r < 0 ? r : sys_mkdir_p(AT_FDCWD, "/run/holm/layer/work", 0755);
	r = r < 0 ? r : sys_mount("overlay", ROOT, "overlay", 0,
				  "lowerdir=/run/holm/lower,upperdir=/run/holm/layer/upper,"
				  "workdir=/run/holm/layer/work");
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot mount the image from %s", m->root) : 0;
}

/* "10.0.2.15/24" as two addresses in network order. */
static int parse_address(const char *text, struct sockaddr_in *ret, struct sockaddr_in *ret_mask)
{
	const char *slash = strchr(text, '/');
	auto_free char *host = slash ? str_ndup(text, (size_t)(slash - text)) : NULL;
	uint64_t bits = 0;

	ret->sin_family = ret_mask->sin_family = AF_INET;
	if (!host || parse_u64(slash + 1, 32, &bits) < 0 ||
	    inet_pton(AF_INET, host, &ret->sin_addr) != 1) {
		return -EINVAL;
	}
	ret_mask->sin_addr.s_addr = bits ? htonl(UINT32_MAX << (32 - bits)) : 0;
	return 0;
}

static int set_address(int fd, const struct guest_setup *m)
{
	struct sockaddr_in address = { 0 }, mask = { 0 };
	struct ifreq q = { .ifr_name = "eth0" };
	int r = parse_address(m->address, &address, &mask);

	memcpy(&q.ifr_addr, &address, sizeof(address));
	r = r < 0 ? r : sys_ioctl(fd, SIOCSIFADDR, &q);
	memcpy(&q.ifr_netmask, &mask, sizeof(mask));
	r = r < 0 ? r : sys_ioctl(fd, SIOCSIFNETMASK, &q);
	q.ifr_flags = IFF_UP;
	return r < 0 ? r : sys_ioctl(fd, SIOCSIFFLAGS, &q);
}

static int set_route(int fd, const char *gateway)
{
	struct sockaddr_in any = { .sin_family = AF_INET }, to = { .sin_family = AF_INET };
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	if (inet_pton(AF_INET, gateway, &to.sin_addr) != 1) {
		return -EINVAL;
	}
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	memcpy(&route.rt_gateway, &to, sizeof(to));
	return sys_ioctl(fd, SIOCADDRT, &route);
}

static int set_network(const struct guest_setup *m, struct err *e)
{
	auto_close int fd = sys_socket(AF_INET, SOCK_DGRAM, 0);
	int r = fd < 0 ? fd : set_address(fd, m);

	if (r == 0 && m->gateway) {
		r = set_route(fd, m->gateway);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot set the address %s", m->address) : 0;
}

int machine_setup(const struct agent_conf *conf, const struct guest_setup *m, struct err *e)
{
	(void)conf;
	add_entropy(&m->seed);
	if (m->wall_ns) {
		struct timespec t = { .tv_sec = (time_t)(m->wall_ns / NS_PER_SEC),
				      .tv_nsec = (long)(m->wall_ns % NS_PER_SEC) };

		if (sys_clock_settime(CLOCK_REALTIME, &t) < 0) {
			log_warn("the clock is not set");
		}
	}
	if (m->hostname && sys_sethostname(m->hostname, strlen(m->hostname)) < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "not a host name: %s", m->hostname);
	}
	int r = m->root ? mount_root(m, e) : 0;

	return r == 0 && m->address ? set_network(m, e) : r;
}

noreturn_fn void machine_off(void)
{
	sync();
	for (;;) {
		if (sys_reboot(LINUX_REBOOT_CMD_POWER_OFF) < 0) {
			log_error("the machine cannot be switched off");
		}
		(void)sleep(1); /* it goes off any moment */
	}
}
