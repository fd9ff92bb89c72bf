/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line of holm-vmm names, opened. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "base/log.h"
#include "guest/guest-proto.h"
#include "main/vmm.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

static int open_file(const char *path, int flags, const char *what, int *ret, struct err *e)
{
	int fd = path ? sys_openat(AT_FDCWD, path, flags, 0600) : -1;

	if (path && fd < 0) {
		return err_set(e, -fd, fd == -ENOENT ? ERR_NOT_FOUND : ERR_INVALID,
			       "cannot open the %s %s: %s", what, path, strerror(-fd));
	}
	*ret = fd;
	return 0;
}

/* --- Initial RAM file systems --- */

/* Append a file, and zeroes up to a multiple of 4, as Linux wants archives to begin. */
static int append(int to, int from, struct err *e)
{
	static const char zeroes[4];
	char chunk[65536];
	size_t total = 0;
	ssize_t n = 0;
	int r = 0;

	while (r == 0 && (n = sys_read(from, chunk, sizeof(chunk))) > 0) {
		r = sys_write_full(to, chunk, (size_t)n);
		total += (size_t)n;
	}
	r = r == 0 && n < 0 ? (int)n : r;
	r = r == 0 && total % 4 != 0 ? sys_write_full(to, zeroes, 4 - total % 4) : r;
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot put the initrds together") : 0;
}

static int open_initrds(const struct strv *paths, int *ret, struct err *e)
{
	if (paths->n <= 1) {
		return open_file(paths->n ? paths->v[0] : NULL, O_RDONLY, "initrd", ret, e);
	}
	auto_close int all = sys_memfd_create("initrd", 0);
	int r = all < 0 ? err_set(e, -all, ERR_HOST, "cannot put the initrds together") : 0;

	for (size_t i = 0; i < paths->n && r == 0; i++) {
		auto_close int fd = -1;

		r = open_file(paths->v[i], O_RDONLY, "initrd", &fd, e);
		r = r < 0 ? r : append(all, fd, e);
	}
	if (r == 0) {
		*ret = take_fd(&all);
	}
	return r;
}

/* --- Disks --- */

static int disk_part(struct vmm_disk *d, const char *part, char **path, struct err *e)
{
	const char *v = NULL;

	if ((v = str_after(part, "path="))) {
		free(*path);
		*path = str_dup(v);
		return *path ? 0 : err_nomem(e);
	}
	if ((v = str_after(part, "serial=")) && strlen(v) <= 20 && name_valid(v)) {
		snprintf(d->serial, sizeof(d->serial), "%s", v);
		return 0;
	}
	if (str_eq(part, "ro")) {
		d->read_only = true;
		return 0;
	}
	return err_set(e, EINVAL, ERR_INVALID, "--disk: '%s' is not understood: path=FILE[,ro][,serial=NAME]", part);
}

static int open_disk(const char *text, struct vmm_disk *d, struct err *e)
{
	auto_free char *path = NULL;
	const char *cursor = text, *part = NULL;
	size_t len = 0;

	*d = (struct vmm_disk){ .fd = -1 };
	while (str_split(&cursor, ',', &part, &len)) {
		auto_free char *one = str_ndup(part, len);
		int r = one ? disk_part(d, one, &path, e) : err_nomem(e);

		if (r < 0) {
			return r;
		}
	}
	if (!path) {
		return err_set(e, EINVAL, ERR_INVALID, "--disk: path=FILE is missing");
	}
	return open_file(path, d->read_only ? O_RDONLY : O_RDWR, "disk", &d->fd, e);
}

static int open_disks(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	int r = 0;

	if (o->disks.n > ARRAY_LEN(f->disks)) {
		return err_set(e, E2BIG, ERR_LIMIT, "at most %zu disks", ARRAY_LEN(f->disks));
	}
	for (size_t i = 0; i < o->disks.n && r == 0; i++) {
		r = open_disk(o->disks.v[i], &f->disks[i], e);
		f->n_disks += r == 0;
	}
	return r;
}

/* --- Sockets --- */

/* A listening unix socket with mode 0600 at a path; one that is there is replaced. */
static const char *name_in(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int open_folder_of(const char *path)
{
	auto_free char *dir = name_in(path) == path ? str_dup(".") :
						      str_ndup(path, (size_t)(name_in(path) - path));

	return dir ? sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
}

static int listen_at(const char *path, int *ret, struct err *e)
{
	auto_close int dir_fd = open_folder_of(path);
	int fd = dir_fd < 0 ? dir_fd : sock_listen_at(dir_fd, name_in(path), SOCK_NONBLOCK);

	if (fd < 0) {
		return err_set(e, -fd, ERR_INVALID, "cannot listen at %s: %s", path, strerror(-fd));
	}
	*ret = fd;
	return 0;
}

/* "tcp:HOST:PORT", "HOST:PORT" or ":PORT"; only the loopback interface, as nobody is asked who he
 * is. False: it is a path. */
static bool is_tcp(const char *text, const char **ret_host, const char **ret_port)
{
	const char *tcp = str_after(text, "tcp:"), *at = tcp ? tcp : text;
	const char *colon = strrchr(at, ':');

	*ret_host = at;
	*ret_port = colon ? colon + 1 : at;
	return tcp || (colon && !strchr(text, '/'));
}

static int listen_tcp(const char *host, const char *port_text, int *ret, struct err *e)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	auto_free char *name = str_ndup(host, port_text > host ? (size_t)(port_text - 1 - host) : 0);
	uint64_t port = 0;
	int on = 1;

	if (!name) {
		return err_nomem(e);
	}
	if (port_text == host || parse_u64(port_text, UINT16_MAX, &port) < 0 ||
	    inet_pton(AF_INET, name[0] == 0 || str_eq(name, "localhost") ? "127.0.0.1" : name,
		      &a.sin_addr) != 1 || ntohl(a.sin_addr.s_addr) >> 24 != 127) {
		return err_set(e, EINVAL, ERR_INVALID, "--gdb: a path, or tcp:HOST:PORT with a HOST of "
			       "the loopback interface");
	}
	a.sin_port = htons((uint16_t)port);
	auto_close int fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? fd : sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));

	/* What is accepted inherits it. */
	r = r < 0 ? r : sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	r = r < 0 ? r : sys_bind(fd, (const struct sockaddr *)&a, sizeof(a));
	r = r < 0 ? r : sys_listen(fd, 1);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "--gdb: cannot listen at port %s: %s", port_text,
			       strerror(-r));
	}
	*ret = take_fd(&fd);
	return 0;
}

static int open_gdb(const char *text, int *ret, struct err *e)
{
	const char *host = NULL, *port = NULL;

	return is_tcp(text, &host, &port) ? listen_tcp(host, port, ret, e) : listen_at(text, ret, e);
}

static int open_vsock(const char *text, struct vmm_files *f, struct err *e)
{
	const char *path = text ? str_after(text, "path=") : NULL, *comma = NULL;
	uint64_t cid = 3;

	if (!text) {
		return 0;
	}
	comma = path ? strchr(path, ',') : NULL;
	const char *number = comma ? str_after(comma, ",cid=") : NULL;

	if (!path || (comma && !number) ||
	    (number && (parse_u64(number, UINT32_MAX - 1, &cid) < 0 || cid < 3))) {
		return err_set(e, EINVAL, ERR_INVALID, "--vsock: path=SOCKET[,cid=N], N from 3 on");
	}
	auto_free char *only = str_ndup(path, comma ? (size_t)(comma - path) : strlen(path));
	int r = only ? listen_at(only, &f->vsock_fd, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	f->vsock_cid = (uint32_t)cid;
	f->vsock_name = str_dup(name_in(only));
	f->vsock_dir_fd = open_folder_of(only);
	return f->vsock_name && f->vsock_dir_fd >= 0 ?
		       0 : err_set(e, ENOMEM, ERR_HOST, "the folder of %s", only);
}

/* --- Network --- */

static int parse_mac(const char *text, uint8_t mac[6], struct err *e)
{
	unsigned v[6];
	char more = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
		   &more) != 6 || (v[0] & 1)) {
		return err_set(e, EINVAL, ERR_INVALID, "--net: '%s' is no address of one interface",
			       text);
	}
	for (unsigned i = 0; i < 6; i++) {
		mac[i] = (uint8_t)v[i];
	}
	return 0;
}

static int open_tap(const char *name, int *ret, struct err *e)
{
	struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	auto_close int fd = sys_openat(AT_FDCWD, "/dev/net/tun", O_RDWR | O_NONBLOCK, 0);

	if (strlen(name) >= sizeof(req.ifr_name)) {
		return err_set(e, EINVAL, ERR_INVALID, "--net: the tap's name is too long");
	}
	memcpy(req.ifr_name, name, strlen(name) + 1);
	if (if_nametoindex(name) == 0) { /* TUNSETIFF would make one, of which nobody knows */
		return err_set(e, ENODEV, ERR_NOT_FOUND,
			       "--net: there is no tap device %s; 'ip tuntap add %s mode tap' makes one",
			       name, name);
	}
	int r = fd < 0 ? fd : sys_ioctl(fd, TUNSETIFF, &req);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "tap device %s", name);
	}
	*ret = take_fd(&fd);
	return 0;
}

static noreturn_fn void exec_passt(const char *number, const char *dns)
{
	/*
	 * Outgoing only, as an instance's: no port comes in, the host's loopback is not reached.
	 * Without an address of ours for names, DHCP tells the host's resolvers. Not both: with one,
	 * answers of the host's resolver come from it, also to who asked that one itself.
	 */
	const char *const args[] = {
		"passt", "--quiet", "--fd", number, "--ipv4-only", "--no-map-gw", "-t", "none", "-u",
		"none", "--address", GUEST_USER_ADDRESS, "--netmask", GUEST_USER_PREFIX, "--gateway",
		GUEST_USER_GATEWAY, dns ? "--dns-forward" : NULL, dns, NULL,
	};

	execv("/usr/bin/passt", (char *const *)(uintptr_t)args);
	_exit(127);
}

/* passt serves one end of a socket pair, in the background, until that closes. */
static int start_passt(const char *dns, int *ret, struct err *e)
{
	int fds[2] = { -1, -1 };
	siginfo_t si = { 0 };
	char number[16];
	int r = sys_socketpair(SOCK_STREAM, fds);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "socket for passt");
	}
	snprintf(number, sizeof(number), "%d", fds[1]);
	pid_t pid = sys_fork();

	if (pid == 0) {
		if (sys_fcntl(fds[1], F_SETFD, 0) < 0) {
			_exit(126);
		}
		exec_passt(number, dns);
	}
	fd_close(&fds[1]);
	r = pid < 0 ? pid : sys_waitid(P_PID, (id_t)pid, &si, WEXITED);
	if (r < 0 || proc_exit_status(&si) != 0) {
		fd_close(&fds[0]);
		return r < 0 ? err_set(e, -r, ERR_HOST, "start passt") : proc_exit_status(&si) == 127 ?
		       err_set(e, ENOENT, ERR_HOST, "/usr/bin/passt is not installed: install passt, "
			       "or run without a network") :
		       err_set(e, EIO, ERR_HOST, "passt failed (status %d): the host may have no "
			       "network; run without one", proc_exit_status(&si));
	}
	*ret = fds[0];
	return 0;
}

static int open_net(const char *text, struct vmm_files *f, struct err *e)
{
	const char *name = text ? str_after(text, "tap=") : NULL;
	const char *comma = text ? strchr(text, ',') : NULL;
	const char *mac = comma ? str_after(comma, ",mac=") : NULL;
	const char *dns = text ? str_after(text, "user,dns=") : NULL;
	static const uint8_t default_mac[6] = { 0x52, 0x54, 0x00, 0x48, 0x4d, 0x01 };
	int r = 0;

	memcpy(f->net_mac, default_mac, sizeof(default_mac));
	if (!text) {
		return 0;
	}
	if ((comma && !mac && !dns) || (!name && !str_eq(text, "user") && !str_after(text, "user,"))) {
		return err_set(e, EINVAL, ERR_INVALID, "--net: tap=NAME[,mac=MAC], user[,mac=MAC] or user,dns=ADDRESS");
	}
	r = mac ? parse_mac(mac, f->net_mac, e) : 0;
	if (r < 0) {
		return r;
	}
	if (!name) {
		f->net_stream = true;
		return start_passt(dns, &f->net_fd, e);
	}
	auto_free char *only = str_ndup(name, comma ? (size_t)(comma - name) : strlen(name));

	return only ? open_tap(only, &f->net_fd, e) : err_nomem(e);
}

/* One memory file, `memory`, is what a snapshot had before it had two. */
static int snapshot_misses(int dir_fd, const char *dir, const char *name, int r, struct err *e)
{
	struct stat st;

	if (r == -ENOENT && sys_fstatat(dir_fd, "memory", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		return err_set(e, EBADMSG, ERR_UNSUPPORTED, "the snapshot in %s is of an older form, "
			       "which is not read any more", dir);
	}
	return err_set(e, -r, ERR_NOT_FOUND, "snapshot in %s: %s: %s", dir, name, strerror(-r));
}

static int open_snapshot(const char *dir, struct vmm_files *f, struct err *e)
{
	const struct {
		const char *name;
		int        *fd;
	} files[] = {
		{ "state", &f->state_fd }, { "memory-low", &f->memory_low_fd },
		{ "memory-high", &f->memory_high_fd },
	};
	auto_close int dir_fd = dir ? sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0) : -1;

	if (dir && dir_fd < 0) {
		return err_set(e, -dir_fd, ERR_NOT_FOUND, "snapshot in %s: %s", dir, strerror(-dir_fd));
	}
	for (size_t i = 0; dir && i < ARRAY_LEN(files); i++) {
		*files[i].fd = sys_openat(dir_fd, files[i].name, O_RDONLY, 0);
		if (*files[i].fd < 0) {
			return snapshot_misses(dir_fd, dir, files[i].name, *files[i].fd, e);
		}
	}
	return 0;
}

/* --- The console --- */

/*
 * A standard stream for the console, which may not block. The flag belongs to what was opened, and
 * so to everybody who has inherited it; terminals and pipes are therefore opened once more. What
 * cannot be (a socket, a terminal of another user) is shared, and the keeper puts its flags back.
 */
static int open_stdio(int std_fd, int flags)
{
	char path[32];
	struct stat st;
	int number = 0, r = sys_fstat(std_fd, &st);

	if (r < 0) {
		return -1; /* closed: there is no such stream */
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", std_fd);
	/* The master of a terminal would become another terminal's. */
	if (S_ISFIFO(st.st_mode) ||
	    (isatty(std_fd) && sys_ioctl(std_fd, TIOCGPTN, &number) < 0)) {
		r = sys_openat(AT_FDCWD, path, flags | O_NOCTTY | O_NONBLOCK, 0);
		if (r >= 0) {
			return r;
		}
	}
	return sys_dup(std_fd);
}

static void open_console(const struct vmm_opts *o, struct vmm_files *f)
{
	if (o->console == VMM_CONSOLE_VIRTIO) {
		f->console_in_fd = open_stdio(STDIN_FILENO, O_RDONLY);
		f->console_out_fd = open_stdio(STDOUT_FILENO, O_WRONLY);
	}
}

/* --- Recordings --- */

static int open_recording(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	if (o->replay && (o->disks.n || o->initrds.n || o->net || o->vsock)) {
		return err_set(e, EINVAL, ERR_INVALID, "a replay has no devices");
	}
	if ((o->replay || o->record) && o->engine == VMM_ENGINE_KVM) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED,
			       "only the software engine records and replays");
	}
	if (o->record && !o->kernel && !o->restore && !o->replay) {
		return err_set(e, EINVAL, ERR_INVALID, "--record: with --kernel, --restore or --replay");
	}
	if (o->stop_at && !o->replay) {
		return err_set(e, EINVAL, ERR_INVALID, "--stop-at: only with --replay");
	}
	if (o->record && o->replay && str_eq(o->record, o->replay)) {
		return err_set(e, EINVAL, ERR_INVALID, "--record: another file than that of --replay");
	}
	if ((o->check_from || o->check_to) && !(o->record && o->replay)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "--check-from, --check-to: only with --replay and --record");
	}
	int r = open_file(o->record, O_WRONLY | O_CREAT | O_TRUNC, "recording", &f->record_fd, e);

	return r < 0 ? r : open_file(o->replay, O_RDONLY, "recording", &f->replay_fd, e);
}

/* --- The engine --- */

static int check_code_cache(uint64_t bytes, struct err *e)
{
	return bytes >= ENGINE_CODE_CACHE_MIN && bytes <= ENGINE_CODE_CACHE_MAX ? 0 :
	       err_set(e, EINVAL, ERR_INVALID, "--code-cache: from 1m to 1g");
}

/* Probed here, where no guest is near, as the monitor's process cannot open it any more. */
static int pick_engine(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	struct err why = ERR_INIT;
	int r = 0;

	if (o->engine == VMM_ENGINE_AUTO && (o->record || o->replay)) {
		f->engine = &engine_soft;
	} else if (o->engine == VMM_ENGINE_AUTO) {
		f->engine = engine_auto(&why);
		if (f->engine != &engine_kvm) {
			log_notice("the software engine runs the guest", "why", why.msg);
		}
	} else {
		f->engine = o->engine == VMM_ENGINE_SOFT ? &engine_soft :
			    o->engine == VMM_ENGINE_INTERP ? &engine_interp : &engine_kvm;
	}
	if (f->engine == &engine_soft && engine_soft_lacks()) {
		log_notice("the guest is interpreted: this host cannot translate", "lacks",
			   engine_soft_lacks());
	}
	r = f->engine->probe(e);
	return r < 0 || f->engine != &engine_kvm ? r :
						   open_file("/dev/kvm", O_RDWR, "device", &f->kvm_fd, e);
}

int vmm_open_files(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	/* What whoever started us left open is not for a monitor. */
	int r = sys_close_range(STDERR_FILENO + 1, UINT_MAX, 0);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "closing what was inherited");
	}

	if (!!o->kernel + !!o->restore + !!o->replay > 1) {
		return err_set(e, EINVAL, ERR_INVALID, "only one of --kernel, --restore and --replay");
	}
	if (!o->kernel && !o->restore && !o->replay && !(o->paused && o->control)) {
		return err_set(e, EINVAL, ERR_INVALID, "one of --kernel, --restore and --replay is needed, "
			       "or --paused with --control, to restore there");
	}
	if (o->memory == 0 || o->memory % GMEM_PAGE_BYTES != 0) {
		return err_set(e, EINVAL, ERR_INVALID, "--memory: %llu is not a multiple of %d bytes",
			       (unsigned long long)o->memory, GMEM_PAGE_BYTES);
	}
	r = open_file(o->kernel, O_RDONLY, "kernel", &f->kernel_fd, e);
	r = r < 0 ? r : open_snapshot(o->restore, f, e);
	r = r < 0 ? r : open_recording(o, f, e);

	r = r < 0 ? r : open_initrds(&o->initrds, &f->initrd_fd, e);
	r = r < 0 ? r : open_file(o->cache, O_RDONLY | O_DIRECTORY, "cache", &f->cache_fd, e);
	r = r < 0 ? r : open_file("/dev/urandom", O_RDONLY, "random source", &f->random_fd, e);
	r = r < 0 ? r : open_disks(o, f, e);
	r = r < 0 ? r : open_vsock(o->vsock, f, e);
	r = r < 0 ? r : open_net(o->net, f, e);
	r = r < 0 ? r : pick_engine(o, f, e);
	r = r < 0 ? r : check_code_cache(o->code_cache, e);
	r = r < 0 ? r : open_file(o->perf_map, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
				  "file for perf", &f->perf_map_fd, e);
	r = r < 0 || !o->gdb ? r : open_gdb(o->gdb, &f->gdb_fd, e);
	/* The last of the sockets: who can connect to it finds the others listening. */
	r = r < 0 || !o->control ? r : listen_at(o->control, &f->control_fd, e);
	open_console(o, f);
	f->escape_key = (o->console == VMM_CONSOLE_VIRTIO ||
			 (o->console == VMM_CONSOLE_SERIAL && !o->serial_file)) && isatty(STDIN_FILENO);
	if (r < 0 || o->serial_file) {
		return r < 0 ? r : open_file(o->serial_file, O_WRONLY | O_CREAT | O_APPEND,
					     "serial port's file", &f->serial_out_fd, e);
	}
	if (o->console == VMM_CONSOLE_SERIAL) {
		f->serial_in_fd = o->replay ? -1 : sys_dup(STDIN_FILENO);
		f->serial_out_fd = sys_dup(STDOUT_FILENO);
	}
	return 0;
}

void vmm_close_loaded(struct vmm_files *f)
{
	fd_close(&f->kernel_fd);
	fd_close(&f->initrd_fd);
	fd_close(&f->image_fd);
	fd_close(&f->cache_fd);
	fd_close(&f->kvm_fd);
	fd_close(&f->random_fd);
	fd_close(&f->state_fd);
	fd_close(&f->memory_low_fd);
	fd_close(&f->memory_high_fd);
	fd_close(&f->memory_file_fd);
	fd_close(&f->record_fd);
	fd_close(&f->replay_fd);
	fd_close(&f->vsock_fd);
	fd_close(&f->vsock_dir_fd);
	fd_close(&f->parent_fd);
	free(f->vsock_name);
	f->vsock_name = NULL;
	fd_close(&f->net_fd);
	fd_close(&f->console_in_fd);
	fd_close(&f->console_out_fd);
	while (f->n_disks > 0) {
		fd_close(&f->disks[--f->n_disks].fd);
	}
}

void vmm_close_files(struct vmm_files *f)
{
	vmm_close_loaded(f);
	fd_close(&f->serial_in_fd);
	fd_close(&f->serial_out_fd);
	fd_close(&f->perf_map_fd);
	fd_close(&f->control_fd);
	fd_close(&f->gdb_fd);
}
