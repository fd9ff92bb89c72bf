/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: fork, exec, wait, what is inherited, what is not. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

static int end_with(void *arg)
{
	return *(int *)arg;
}

static int die_by(void *arg)
{
	signal(*(int *)arg, SIG_DFL);
	raise(*(int *)arg);
	return 0;
}

static void ends(void)
{
	static const int codes[] = { 0, 1, 42, 255 }, signals[] = { SIGTERM, SIGKILL, SIGUSR1, SIGSEGV,
								    SIGABRT, SIGPIPE };
	struct rlimit none = { 0, 0 };
	char name[32];

	setrlimit(RLIMIT_CORE, &none);
	for (size_t i = 0; i < 4; i++) {
		int code = codes[i];

		snprintf(name, sizeof(name), "exit %d", code);
		out(name, "%s", child(end_with, &code));
	}
	for (size_t i = 0; i < 6; i++) {
		int signo = signals[i];

		snprintf(name, sizeof(name), "end by %d", signo);
		out(name, "%s", child(die_by, &signo));
	}
}

/* What a child writes to memory is its own, but for what is shared. */
static int write_all(void *arg)
{
	uint8_t **m = arg;

	memset(m[0], 0xaa, 1 << 20);
	memset(m[1], 0xbb, 1 << 20);
	return sum_of(m[0], 1 << 20) & 0x7f;
}

static void memory(void)
{
	uint8_t *m[] = { mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			 mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) };

	fill(m[0], 1 << 20, 1);
	fill(m[1], 1 << 20, 2);
	out("child's memory", "%s", child(write_all, m));
	out("parent's memory", "%016llx %016llx", (unsigned long long)sum_of(m[0], 1 << 20),
	    (unsigned long long)sum_of(m[1], 1 << 20));
	munmap(m[0], 1 << 20);
	munmap(m[1], 1 << 20);
}

static int tree(int depth, int width)
{
	int n = 1;

	for (int i = 0; i < width && depth > 0; i++) {
		pid_t pid = fork();
		int status = 0;

		if (pid == 0) {
			_exit(tree(depth - 1, width));
		}
		waitpid(pid, &status, 0);
		n += WEXITSTATUS(status);
	}
	return n;
}

/* Many at a time. */
static void crowd(void)
{
	unsigned sum = 0, ended_well = 0;
	siginfo_t si;

	for (unsigned i = 0; i < 64; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (volatile unsigned k = 0; k < 20000; k++) {
			}
			_exit((int)i);
		}
	}
	for (unsigned i = 0; i < 64; i++) {
		if (waitid(P_ALL, 0, &si, WEXITED) == 0) {
			sum += (unsigned)si.si_status;
			ended_well += si.si_code == CLD_EXITED;
		}
	}
	out("crowd", "%u of 64, sum %u, then %s", ended_well, sum, outcome(wait(NULL)));
}

static int again(void *arg)
{
	char *const *argv = arg;
	char *const env[] = { (char *)"ONE=1", (char *)"EMPTY=", (char *)"LAST=last value", NULL };

	execve("/proc/self/exe", argv, env);
	return 97;
}

static void executions(void)
{
	char *words[] = { (char *)"conform", (char *)"--again", (char *)"show", (char *)"", (char *)"two words",
			  (char *)"\xff\x01", NULL };
	int fd = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int high = fcntl(fd, F_DUPFD, 50), high_closed = fcntl(closed, F_DUPFD_CLOEXEC, 60);

	out("exec", "%s", child(again, words));
	close(fd);
	close(closed);
	close(high);
	close(high_closed);
	signal(SIGUSR1, SIG_IGN);
	words[2] = (char *)"signals";
	words[3] = NULL;
	out("exec, signals", "%s", child(again, words));
	signal(SIGUSR1, SIG_DFL);
	words[2] = (char *)"big";
	char *big = malloc(100000);

	memset(big, 'b', 99999);
	big[99999] = '\0';
	words[3] = big;
	words[4] = NULL;
	out("exec, much", "%s", child(again, words));
	free(big);
	char *const nothing[] = { (char *)"x", NULL };

	out("exec of nothing", "%s", outcome(execv("./not-there", nothing)));
	int plain = open("plain", O_CREAT | O_WRONLY, 0644);

	close(plain);
	out("exec of a plain file", "%s", outcome(execv("./plain", nothing)));
	chmod("plain", 0755);
	out("exec of an empty file", "%s", outcome(execv("./plain", nothing)));
	unlink("plain");
	out("exec of a folder", "%s", outcome(execv("/", nothing)));
	pid_t pid = 0;
	char *const quit[] = { (char *)"conform", (char *)"--again", (char *)"quit", (char *)"33", NULL };
	int r = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, quit, NULL);

	out("spawn", "%d %s", r, ended(pid));
	pid = vfork();
	if (pid == 0) {
		execv("/proc/self/exe", quit);
		_exit(96);
	}
	out("vfork", "%s", ended(pid));
}

/* In turn, each executes the next. */
static void chain(void)
{
	char *words[] = { (char *)"conform", (char *)"--again", (char *)"count", (char *)"40", NULL };

	out("chain of exec", "%s", child(again, words));
}

static void groups(void)
{
	siginfo_t si;
	pid_t a = fork();

	if (a == 0) {
		setpgid(0, 0);
		raise(SIGSTOP);
		pause();
		_exit(1);
	}
	waitid(P_PID, (id_t)a, &si, WSTOPPED);
	out("stopped", "%d %d", si.si_code == CLD_STOPPED, si.si_status);
	out("group", "%d session %d", getpgid(a) == a, getsid(a) == getsid(0));
	kill(a, SIGCONT);
	waitid(P_PID, (id_t)a, &si, WCONTINUED);
	out("continued", "%d %d", si.si_code == CLD_CONTINUED, si.si_status);
	kill(-a, SIGTERM);
	out("group's end", "%s", ended(a));
	out("nobody there", "%s", outcome(kill(a, 0)));
}

static int on_stack(void *arg)
{
	int *v = arg;

	*v += 1;
	return 5;
}

static void clones(void)
{
	static uint8_t stack[65536] __attribute__((aligned(16)));
	int shared = 1;
	pid_t pid = clone(on_stack, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &shared);

	out("clone with memory", "%s %d", ended(pid), shared);
	pid = clone(on_stack, stack + sizeof(stack), SIGCHLD, &shared);
	out("clone without", "%s %d", ended(pid), shared);
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	out("pidfd", "%s", outcome(pidfd));
	close(pidfd);
}

static int few_files(void *arg)
{
	struct rlimit few = { 10, 10 };
	int n = 0;

	(void)arg;
	setrlimit(RLIMIT_NOFILE, &few);
	while (dup(0) >= 0) {
		n++;
	}
	return errno == EMFILE && n <= 7 ? 1 : 2;
}

/* It may not print: its output may be a file, too. */
static int small_files(void *arg)
{
	struct rlimit small = { 4096, 4096 };
	char data[8192] = { 0 };
	int fd = open("limited", O_CREAT | O_RDWR, 0600);

	(void)arg;
	setrlimit(RLIMIT_FSIZE, &small);
	signal(SIGXFSZ, SIG_IGN);
	bool cut = write(fd, data, sizeof(data)) == 4096;

	unlink("limited");
	return cut && write(fd, data, 1) < 0 && errno == EFBIG ? 1 : 2;
}

void conform_fork(void)
{
	section("fork");
	ends();
	memory();
	out("tree", "%d", tree(4, 3));
	crowd();
	executions();
	chain();
	groups();
	clones();
	out("too many files", "%s", child(few_files, NULL));
	out("too much in a file", "%s", child(small_files, NULL));
}

int conform_again(int argc, char **argv)
{
	section("again");
	const char *what = argc > 0 ? argv[0] : "";

	if (strcmp(what, "show") == 0) {
		for (int i = 1; i < argc; i++) {
			out("argument", "%zu %016llx", strlen(argv[i]),
			    (unsigned long long)sum_of(argv[i], strlen(argv[i])));
		}
		for (char **e = environ; *e; e++) {
			out("environment", "%s", *e);
		}
		out("open", "%d %d", fcntl(50, F_GETFD), fcntl(60, F_GETFD));
		return 7;
	}
	if (strcmp(what, "signals") == 0) {
		struct sigaction one, two;

		sigaction(SIGUSR1, NULL, &one);
		sigaction(SIGTERM, NULL, &two);
		out("signals", "%d %d", one.sa_handler == SIG_IGN, two.sa_handler == SIG_DFL);
		return 8;
	}
	if (strcmp(what, "big") == 0 && argc == 2) {
		out("big", "%zu", strlen(argv[1]));
		return 9;
	}
	if (strcmp(what, "quit") == 0 && argc == 2) {
		return (int)strtol(argv[1], NULL, 10);
	}
	if (strcmp(what, "count") == 0 && argc == 2) {
		int n = (int)strtol(argv[1], NULL, 10);
		char number[16];
		char *const next[] = { (char *)"conform", (char *)"--again", (char *)"count", number, NULL };

		snprintf(number, sizeof(number), "%d", n - 1);
		if (n == 0) {
			return 44;
		}
		execv("/proc/self/exe", next);
	}
	return 95;
}
