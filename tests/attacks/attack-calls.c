/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on the kernel by system calls that a container has no business with. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The 32-bit entry; arguments must fit. */
static long call32(long nr, long a, long b, long c)
{
	long r = nr;

	__asm__ volatile("int $0x80" : "+a"(r) : "b"(a), "c"(b), "d"(c), "S"(0L), "D"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
	if (r < 0) {
		errno = (int)-r;
		r = -1;
	}
	return r;
}

static long clone_flags(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		_exit(0);
	}
	if (pid > 0) {
		waitpid((pid_t)pid, NULL, 0);
	}
	return pid;
}

static long clone3_newuser(void)
{
	struct {
		uint64_t flags, rest[7];
	} args = { .flags = CLONE_NEWUSER };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0) {
		_exit(0);
	}
	return pid;
}

/* filter: what the default profile must refuse (rule 11), by all ABIs. */
static int run_filter(int argc, char **argv)
{
	char attr[128] = { 0 };
	unsigned *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	(void)argc;
	(void)argv;
	verdict(syscall(SYS_socket, 38, SOCK_SEQPACKET, 0), "AF_ALG");
	verdict(syscall(SYS_socket, 0x100000026, SOCK_SEQPACKET, 0), "AF_ALG with high bits");
	verdict(syscall(SYS_socket, 40, SOCK_STREAM, 0), "AF_VSOCK");
	verdict(syscall(SYS_socket, 0x7ffffff00000028, SOCK_STREAM, 0), "AF_VSOCK with high bits");
	verdict(call32(359, 38, SOCK_SEQPACKET, 0), "AF_ALG by 32-bit socket");
	verdict(call32(359, 40, SOCK_STREAM, 0), "AF_VSOCK by 32-bit socket");
	low[0] = 40;
	low[1] = SOCK_STREAM;
	low[2] = 0;
	verdict(call32(102, 1, (long)low, 0), "AF_VSOCK by socketcall");
	low[0] = AF_UNIX;
	verdict(call32(102, 1, (long)low, 0), "AF_UNIX by socketcall");
	verdict(clone_flags(CLONE_NEWUSER), "clone user");
	verdict(clone_flags(CLONE_NEWNS), "clone mount");
	verdict(clone3_newuser(), "clone3 user");
	verdict(syscall(SYS_io_uring_setup, 1, attr), "io_uring_setup");
	verdict(syscall(SYS_userfaultfd, 1), "userfaultfd");
	verdict(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), "keyctl");
	verdict(syscall(SYS_add_key, "user", "attack", "x", 1, KEY_SPEC_PROCESS_KEYRING), "add_key");
	verdict(syscall(SYS_bpf, 0, attr, sizeof(attr)), "bpf");
	verdict(syscall(SYS_perf_event_open, attr, 0, -1, -1, 0), "perf_event_open");
	verdict(syscall(SYS_kexec_load, 0, 0, NULL, 0), "kexec_load");
	verdict(syscall(SYS_open_by_handle_at, -1, attr, 0), "open_by_handle_at");
	verdict(syscall(SYS_init_module, attr, 0, ""), "init_module");
	verdict(mount("none", "/tmp", "tmpfs", 0, NULL), "mount");
	verdict(syscall(SYS_personality, 0x0040000), "personality without randomisation");
	/* Last, as what succeeds changes what we are. */
	verdict(syscall(0x40000000 | SYS_unshare, CLONE_NEWUSER), "unshare user, x32");
	verdict(call32(310, CLONE_NEWUSER, 0, 0), "unshare user, 32-bit");
	verdict(unshare(CLONE_NEWUSER), "unshare user");
	return 0;
}

/*
 * release-agent: a v1 hierarchy of our own with a release_agent (CVE-2022-0492). First with
 * what we have, then as root of a user and a cgroup namespace of our own.
 */
static void try_release_agent(const char *how)
{
	static const char *const controllers[] = { "rdma", "misc", "memory", "pids", "cpuset" };
	char path[64] = "/tmp/cg";

	(void)mkdir(path, 0755);
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
		if (mount("cgroup", path, "cgroup", 0, controllers[i]) < 0) {
			held("release-agent %s: mount %s: %s", how, controllers[i], strerror(errno));
			continue;
		}
		int fd = open("/tmp/cg/release_agent", O_WRONLY | O_CLOEXEC);
		ssize_t r = fd < 0 ? -1 : write(fd, "/evil", 5);

		verdict(r, "release-agent: write");
		(void)umount2(path, MNT_DETACH);
	}
}

static int run_release_agent(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	try_release_agent("as we are");
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) < 0) {
		held("release-agent: unshare: %s", strerror(errno));
		return 0;
	}
	try_release_agent("in namespaces of our own");
	return 0;
}

/* key SERIAL: a key of whoever started the container (class of CVE-2016-0728's setting). */
static int run_key(int argc, char **argv)
{
	char text[64] = "";
	long serial = argc > 0 ? strtol(argv[0], NULL, 10) : 0;
	long n = syscall(SYS_keyctl, KEYCTL_READ, serial, text, sizeof(text));

	verdict(n, "key: read by number");
	n = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "host-key", 0);
	verdict(n, "key: search in the session");
	return 0;
}

/* setns PATH...: namespaces that we find a name for. */
static int run_setns(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY | O_CLOEXEC);

		verdict(fd < 0 ? -1 : setns(fd, 0), argv[i]);
	}
	return 0;
}

/* vsock: the way to the host beside every network namespace. */
static int run_vsock(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	verdict(socket(40, SOCK_STREAM, 0), "vsock");
	return 0;
}

const struct attack attacks_calls[] = {
	{ "filter", run_filter, "" },
	{ "release-agent", run_release_agent, "" },
	{ "key", run_key, "SERIAL" },
	{ "setns", run_setns, "PATH..." },
	{ "vsock", run_vsock, "" },
	{ NULL, NULL, NULL },
};
