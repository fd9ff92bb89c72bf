/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "sys/file.h"
#include "sys/sys.h"

/* What the callbacks leave behind: one letter each. */
struct trace {
	struct loop       *loop;
	char               text[64];
	size_t             n;
	struct loop_timer *timer;
	struct loop_fd    *fd;
	struct loop_post   post;
	struct loop_child *child;
	struct loop_exit   exit;
	struct err         err;
	int                exits;
};

static void note(struct trace *t, char c)
{
	assert_true(t->n < sizeof(t->text) - 1);
	t->text[t->n++] = c;
}

static void on_timer(struct loop_timer *timer, void *ud)
{
	(void)timer;
	note(ud, 'T');
}

static void on_fd(struct loop_fd *fd, unsigned events, void *ud)
{
	char c;

	note(ud, events & LOOP_IN ? 'F' : 'H');
	if (events & LOOP_IN) {
		assert_int_equal(read(loop_fd_fd(fd), &c, 1), 1);
	}
}

static void on_post(struct loop_post *p, void *ud)
{
	(void)p;
	note(ud, 'P');
}

static void order_of_a_turn(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	int fds[2];
	struct loop_post post;

	assert_int_equal(loop_new(&t.loop), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(loop_fd_new(t.loop, fds[0], LOOP_IN, on_fd, &t, &t.fd), 0);
	assert_int_equal(loop_timer_new(t.loop, on_timer, &t, &t.timer), 0);
	loop_post_init(&post, on_post, &t);

	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_post(t.loop, &post);
	loop_post(t.loop, &post);
	loop_timer_start(t.timer, 0);
	assert_int_equal(loop_turn(t.loop, 0), 3);
	assert_string_equal(t.text, "TPF");
	assert_int_equal(loop_turn(t.loop, 0), 0);

	close(fds[1]);
	assert_int_equal(loop_turn(t.loop, UINT64_MAX), 1);
	assert_string_equal(t.text, "TPFH");
	assert_int_equal(loop_fd_set(t.fd, 0), 0);
	assert_int_equal(loop_turn(t.loop, 0), 0);
	assert_int_equal(loop_fd_set(t.fd, LOOP_IN), 0);
	assert_int_equal(loop_turn(t.loop, 0), 1);

	loop_fd_free(t.fd);
	loop_timer_free(t.timer);
	close(fds[0]);
	loop_free(t.loop);
}

/* Each frees the other: whoever comes second must not be called. */
struct pair {
	struct loop_fd *a, *b;
	int             calls;
};

static void free_both(struct loop_fd *fd, unsigned events, void *ud)
{
	struct pair *p = ud;

	(void)fd;
	(void)events;
	p->calls++;
	p->a = loop_fd_free(p->a);
	p->b = loop_fd_free(p->b);
}

static void free_inside_callback(void **state)
{
	(void)state;
	struct loop *l;
	struct pair p = { .calls = 0 };
	int x[2], y[2];

	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(pipe2(x, O_CLOEXEC), 0);
	assert_int_equal(pipe2(y, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_new(l, x[0], LOOP_IN, free_both, &p, &p.a), 0);
	assert_int_equal(loop_fd_new(l, y[0], LOOP_IN, free_both, &p, &p.b), 0);
	assert_int_equal(write(x[1], "x", 1), 1);
	assert_int_equal(write(y[1], "x", 1), 1);
	assert_int_equal(loop_turn(l, 0), 1);
	assert_int_equal(p.calls, 1);
	assert_int_equal(loop_turn(l, 0), 0);
	loop_free(l);
	for (int i = 0; i < 2; i++) {
		close(x[i]);
		close(y[i]);
	}
}

static void on_timer_again(struct loop_timer *timer, void *ud)
{
	note(ud, 'A');
	loop_timer_start(timer, 0);
}

static void timer_that_starts_itself(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };

	t.loop = sim_loop_new();
	assert_int_equal(loop_timer_new(t.loop, on_timer_again, &t, &t.timer), 0);
	loop_timer_start(t.timer, 0);
	assert_int_equal(loop_turn(t.loop, 0), 1);
	assert_int_equal(loop_turn(t.loop, 0), 1);
	assert_string_equal(t.text, "AA");
	loop_timer_free(t.timer);
	loop_free(t.loop);
}

struct numbered {
	struct trace      *t;
	char               c;
	struct loop_timer *timer;
};

static void on_numbered(struct loop_timer *timer, void *ud)
{
	struct numbered *n = ud;

	(void)timer;
	note(n->t, n->c);
}

static void timers_in_order(void **state)
{
	(void)state;
	static const unsigned delays[] = { 5, 1, 9, 3, 3, 7, 2, 8, 6, 4 };
	struct trace t = { .n = 0 };
	struct numbered n[ARRAY_LEN(delays)];

	t.loop = sim_loop_new();
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		n[i] = (struct numbered){ .t = &t, .c = (char)('a' + i) };
		assert_int_equal(loop_timer_new(t.loop, on_numbered, &n[i], &n[i].timer), 0);
		loop_timer_start(n[i].timer, delays[i] * NS_PER_SEC);
	}
	loop_timer_stop(n[9].timer);
	loop_timer_stop(n[0].timer);
	assert_false(loop_timer_active(n[0].timer));
	uint64_t start = loop_now_ns(t.loop);

	assert_int_equal(sim_run(t.loop, 60 * NS_PER_SEC), 0);
	assert_string_equal(t.text, "bgdeifhc");
	assert_int_equal(loop_now_ns(t.loop) - start, 60 * NS_PER_SEC);
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		loop_timer_free(n[i].timer);
	}
	loop_free(t.loop);
}

static void on_signal(struct loop_signal *s, int signo, void *ud)
{
	struct trace *t = ud;

	(void)s;
	assert_int_equal(signo, SIGUSR1);
	note(t, 'S');
	loop_stop(t->loop);
}

static void signals(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	struct loop_signal *s;

	assert_int_equal(loop_new(&t.loop), 0);
	assert_int_equal(loop_signal_new(t.loop, SIGUSR1, on_signal, &t, &s), 0);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(loop_run(t.loop), 0);
	assert_string_equal(t.text, "S");
	loop_signal_free(s);
	loop_free(t.loop);
}

static void on_exit_of(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct trace *t = ud;

	assert_false(loop_child_running(c));
	t->exits++;
	t->exit = *x;
	if (x->err) {
		t->err = *x->err;
	}
	loop_stop(t->loop);
}

static struct loop_exit run(const struct loop_spawn *spec, struct trace *t)
{
	struct err e = ERR_INIT;

	t->exits = 0;
	assert_int_equal(loop_new(&t->loop), 0);
	assert_int_equal(loop_spawn(t->loop, spec, on_exit_of, t, &t->child, &e), 0);
	assert_int_equal(t->exits, 0);
	assert_int_equal(loop_run(t->loop), 0);
	assert_int_equal(t->exits, 1);
	assert_int_equal(loop_child_kill(t->child, SIGKILL), -ESRCH);
	loop_child_free(t->child);
	loop_free(t->loop);
	return t->exit;
}

static struct loop_exit run_sh(const char *script, const int *fds, size_t n_fds, struct trace *t)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
	struct loop_spawn spec = { .argv = argv, .fds = fds, .n_fds = n_fds };

	return run(&spec, t);
}

static void children(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	struct loop_exit x = run_sh("exit 7", NULL, 0, &t);

	assert_int_equal(x.kind, LOOP_EXITED);
	assert_int_equal(loop_exit_status(&x), 7);
	x = run_sh("kill -9 $$", NULL, 0, &t);
	assert_int_equal(x.kind, LOOP_KILLED);
	assert_int_equal(loop_exit_status(&x), 137);

	char *argv[] = { (char *)"/nonexistent/program", NULL };

	x = run(&(struct loop_spawn){ .argv = argv }, &t);
	assert_int_equal(x.kind, LOOP_NOT_STARTED);
	assert_int_equal(t.err.errnum, ENOENT);
	assert_int_equal(loop_exit_status(&x), 127);
}

/* Swapped descriptors, one beyond the three, nothing else inherited, signals at default. */
static void descriptors_of_children(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	int p[2], leak;
	char out[64] = "";
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	leak = fcntl(p[1], F_DUPFD, 10); /* without close-on-exec */
	assert_true(leak >= 10);
	assert_int_equal(sigaction(SIGPIPE, &ignore, &old), 0);

	int fds[] = { -1, p[1], -1, p[1] };
	struct loop_exit x = run_sh("read x; echo -n one; echo -n two >&3; "
				    "for f in /proc/$$/fd/*; do echo -n \" ${f##*/}\"; done; "
				    "grep -q '^SigIgn:.0*$' /proc/$$/status", fds, 4, &t);

	assert_int_equal(loop_exit_status(&x), 0);
	close(p[1]);
	close(leak);
	assert_true(read(p[0], out, sizeof(out) - 1) > 0);
	assert_string_equal(out, "onetwo 0 1 2 3 4"); /* 4 is the shell reading the folder */
	close(p[0]);
	assert_int_equal(sigaction(SIGPIPE, &old, NULL), 0);
}

static int refuse(void *ud, struct err *e)
{
	return err_set(e, EPERM, ERR_DENIED, "%s", (const char *)ud);
}

static void prepare_fails(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	char *argv[] = { (char *)"/bin/true", NULL };
	struct loop_spawn spec = { .argv = argv, .prepare = refuse, .prepare_ud = (void *)"no" };
	struct loop_exit x = run(&spec, &t);

	assert_int_equal(x.kind, LOOP_NOT_STARTED);
	assert_int_equal(t.err.code, ERR_DENIED);
	assert_string_equal(t.err.msg, "no");
}

static void on_orphan(pid_t pid, const struct loop_exit *x, void *ud)
{
	struct trace *t = ud;

	(void)pid;
	note(t, (char)('0' + x->code));
}

static void on_sigchld(struct loop_signal *s, int signo, void *ud)
{
	struct trace *t = ud;

	(void)s;
	(void)signo;
	loop_reap(t->loop, on_orphan, t);
	if (t->exits == 1 && t->n == 1) {
		loop_stop(t->loop);
	}
}

static void on_exit_quietly(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct trace *t = ud;

	(void)c;
	t->exits++;
	t->exit = *x;
	if (t->n == 1) {
		loop_stop(t->loop);
	}
}

/* The child's status goes to the child's owner, the orphan's to the sub-reaper. */
static void reaping(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	struct loop_signal *s;
	struct err e = ERR_INIT;
	char *argv[] = { (char *)"/bin/sh", (char *)"-c",
			 (char *)"sh -c 'sleep 0.05; exit 5' & exit 3", NULL };

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(loop_new(&t.loop), 0);
	assert_int_equal(loop_signal_new(t.loop, SIGCHLD, on_sigchld, &t, &s), 0);
	assert_int_equal(loop_spawn(t.loop, &(struct loop_spawn){ .argv = argv }, on_exit_quietly,
				    &t, &t.child, &e), 0);
	assert_int_equal(loop_run(t.loop), 0);
	assert_int_equal(t.exits, 1);
	assert_int_equal(t.exit.code, 3);
	assert_string_equal(t.text, "5");
	loop_child_free(t.child);
	loop_signal_free(s);
	loop_free(t.loop);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static void watch_others(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(loop_new(&t.loop), 0);
	assert_int_equal(loop_child_watch(t.loop, pid, on_exit_of, &t, &t.child), 0);
	assert_int_equal(loop_child_kill(t.child, SIGTERM), 0);
	assert_int_equal(loop_run(t.loop), 0);
	assert_int_equal(t.exit.kind, LOOP_KILLED);
	assert_int_equal(t.exit.code, SIGTERM);
	loop_child_free(t.child);
	assert_int_equal(loop_child_watch(t.loop, pid, on_exit_of, &t, &t.child), -ESRCH);
	loop_free(t.loop);
}

/* Whatever call fails, nothing is left behind: no descriptor, no child, no memory. */
static void failures(void **state)
{
	(void)state;
	char *argv[] = { (char *)"/bin/true", NULL };
	int probe = dup(0);
	unsigned nth = 1;
	bool done = false;

	close(probe);
	for (; !done; nth++) {
		struct trace t = { .n = 0 };
		struct loop_signal *s = NULL;
		struct err e = ERR_INIT;

		assert_true(nth < 30);
		t.loop = NULL;
		sys_fault_arm_any(nth, EMFILE);
		int r = loop_new(&t.loop);

		if (r == 0) {
			r = loop_signal_new(t.loop, SIGUSR1, on_signal, &t, &s);
		}
		if (r == 0) {
			r = loop_spawn(t.loop, &(struct loop_spawn){ .argv = argv }, on_exit_of,
				       &t, &t.child, &e);
		}
		done = r == 0 && sys_fault_hits() == 0;
		sys_fault_clear();
		assert_true(done || r == -EMFILE);
		if (done) {
			assert_int_equal(loop_run(t.loop), 0);
		}
		loop_child_free(t.child);
		loop_signal_free(s);
		loop_free(t.loop);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(errno, ECHILD);
		int fd = dup(0);

		assert_int_equal(fd, probe);
		close(fd);
	}
	assert_true(nth > 6);
}

static int on_sim_spawn(const struct loop_spawn *spec, pid_t pid, void *ud)
{
	note(ud, spec->argv[0][0]);
	*(pid_t *)(void *)((struct trace *)ud)->err.msg = pid;
	return str_eq(spec->argv[0], "bad") ? -EAGAIN : 0;
}

static void simulated(void **state)
{
	(void)state;
	struct trace t = { .n = 0 };
	struct loop_child *bad;
	struct loop_signal *s;
	struct err e = ERR_INIT;
	char *argv[] = { (char *)"good", NULL }, *bad_argv[] = { (char *)"bad", NULL };

	t.loop = sim_loop_new();
	assert_int_equal(loop_run(t.loop), -EDEADLK);
	sim_on_spawn(t.loop, on_sim_spawn, &t);
	assert_int_equal(loop_spawn(t.loop, &(struct loop_spawn){ .argv = bad_argv }, on_exit_of,
				    &t, &bad, &e), -EAGAIN);
	assert_int_equal(loop_spawn(t.loop, &(struct loop_spawn){ .argv = argv }, on_exit_of, &t,
				    &t.child, &e), 0);
	pid_t pid = loop_child_pid(t.child);

	assert_int_equal(loop_child_kill(t.child, SIGTERM), 0);
	assert_int_equal(sim_child_signal(t.loop, pid), SIGTERM);
	assert_int_equal(sim_child_exit(t.loop, pid, &(struct loop_exit){ .kind = LOOP_EXITED,
									  .code = 4 }), 0);
	assert_int_equal(loop_run(t.loop), 0);
	assert_int_equal(t.exit.code, 4);
	assert_int_equal(sim_child_exit(t.loop, pid, &t.exit), -ESRCH);
	loop_child_free(t.child);

	assert_int_equal(sim_signal(t.loop, SIGUSR1), -ENOENT);
	assert_int_equal(loop_signal_new(t.loop, SIGUSR1, on_signal, &t, &s), 0);
	assert_int_equal(sim_signal(t.loop, SIGUSR1), 0);
	assert_int_equal(loop_run(t.loop), 0);
	loop_signal_free(s);

	assert_int_equal(sim_fd_event(t.loop, 5, LOOP_HUP), -ENOENT);
	assert_int_equal(loop_fd_new(t.loop, 5, LOOP_IN, on_fd, &t, &t.fd), 0);
	assert_int_equal(sim_fd_watched(t.loop, 5), LOOP_IN);
	assert_int_equal(sim_fd_event(t.loop, 5, LOOP_HUP), 0);
	assert_int_equal(sim_run(t.loop, NS_PER_SEC), 0);
	loop_fd_free(t.fd);
	assert_string_equal(t.text, "bgSH");
	loop_free(t.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_of_a_turn),
		cmocka_unit_test(free_inside_callback),
		cmocka_unit_test(timer_that_starts_itself),
		cmocka_unit_test(timers_in_order),
		cmocka_unit_test(signals),
		cmocka_unit_test(children),
		cmocka_unit_test(descriptors_of_children),
		cmocka_unit_test(prepare_fails),
		cmocka_unit_test(reaping),
		cmocka_unit_test(watch_others),
		cmocka_unit_test(failures),
		cmocka_unit_test(simulated),
	};

	return TEST_RUN(tests);
}
