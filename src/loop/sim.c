/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/sim.h"

#include <errno.h>

#include "base/mem.h"
#include "loop/backend.h"

enum { FIRST_PID = 1000 };

enum sim_kind { SIM_FD, SIM_SIGNAL, SIM_EXIT };

/* One scripted happening. */
struct sim_event {
	struct list      link;
	enum sim_kind    kind;
	int              number;  /* descriptor, signal, process */
	unsigned         events;
	struct loop_exit exit;
};

struct sim_kill {
	struct list link;
	pid_t       pid;
	int         signo;
};

struct sim {
	struct loop  loop;
	uint64_t     now_ns;
	uint64_t     wall_offset_ns;
	struct list  fds, signals, script, kills;
	sim_spawn_fn spawn_fn;
	void        *spawn_ud;
	pid_t        next_pid;
};

static struct sim *of(struct loop *l)
{
	return container_of(l, struct sim, loop);
}

static void sim_clock(struct loop *l)
{
	l->now_ns = of(l)->now_ns;
	l->wall_ns = of(l)->now_ns + of(l)->wall_offset_ns;
}

static struct loop_fd *find_fd(struct loop *l, int fd)
{
	list_for_each (struct loop_fd, s, &of(l)->fds, sim_link) {
		if (s->fd == fd) {
			return s;
		}
	}
	return NULL;
}

static struct loop_signal *find_signal(struct loop *l, int signo)
{
	list_for_each (struct loop_signal, s, &of(l)->signals, sim_link) {
		if (s->signo == signo) {
			return s;
		}
	}
	return NULL;
}

static struct loop_child *find_child(struct loop *l, pid_t pid)
{
	list_for_each (struct loop_child, c, &l->children, link) {
		if (c->pid == pid && c->running) {
			return c;
		}
	}
	return NULL;
}

static int deliver(struct loop *l, const struct sim_event *ev)
{
	struct loop_fd *fd = NULL;
	struct loop_signal *sig = NULL;
	struct loop_child *child = NULL;

	switch (ev->kind) {
	case SIM_FD:
		fd = find_fd(l, ev->number);
		return fd ? loop__fd_call(fd, ev->events) : 0;
	case SIM_SIGNAL:
		sig = find_signal(l, ev->number);
		if (sig) {
			sig->fn(sig, sig->signo, sig->ud);
		}
		return sig ? 1 : 0;
	case SIM_EXIT:
		child = find_child(l, ev->number);
		if (child) {
			loop__child_ended(child, &ev->exit);
		}
		return child ? 1 : 0;
	}
	return 0;
}

static int sim_wait(struct loop *l, uint64_t timeout_ns)
{
	struct sim *s = of(l);
	struct list now = LIST_INIT(now);
	int n = 0;

	if (list_empty(&s->script)) {
		if (timeout_ns == UINT64_MAX) {
			return -EDEADLK; /* nothing would ever happen */
		}
		s->now_ns += timeout_ns;
		return 0;
	}
	now = s->script;
	now.next->prev = now.prev->next = &now;
	list_init(&s->script);
	list_for_each_safe (struct sim_event, ev, &now, link) {
		n += deliver(l, ev);
		free(ev);
	}
	return n;
}

static int sim_fd_add(struct loop *l, struct loop_fd *src)
{
	if (find_fd(l, src->fd)) {
		return -EEXIST;
	}
	list_add_tail(&of(l)->fds, &src->sim_link);
	return 0;
}

static int sim_fd_mod(struct loop *l, struct loop_fd *src)
{
	(void)l;
	(void)src;
	return 0;
}

static void sim_fd_del(struct loop *l, struct loop_fd *src)
{
	(void)l;
	list_del(&src->sim_link);
}

static int sim_signal_add(struct loop *l, struct loop_signal *s)
{
	list_add_tail(&of(l)->signals, &s->sim_link);
	return 0;
}

static void sim_signal_del(struct loop *l, struct loop_signal *s)
{
	(void)l;
	list_del(&s->sim_link);
}

static int sim_spawn(struct loop *l, const struct loop_spawn *spec, struct loop_child *c,
		     struct err *e)
{
	struct sim *s = of(l);
	pid_t pid = s->next_pid++;
	int r = s->spawn_fn ? s->spawn_fn(spec, pid, s->spawn_ud) : 0;

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "start %s: a new process", spec->argv[0]);
	}
	c->pid = pid;
	return 0;
}

static int sim_watch(struct loop *l, pid_t pid, struct loop_child *c)
{
	(void)l;
	c->pid = pid;
	return 0;
}

static struct sim_kill *find_kill(struct loop *l, pid_t pid)
{
	list_for_each (struct sim_kill, k, &of(l)->kills, link) {
		if (k->pid == pid) {
			return k;
		}
	}
	return NULL;
}

static int sim_kill(struct loop *l, struct loop_child *c, int signo)
{
	struct sim_kill *k = find_kill(l, c->pid);

	if (!k) {
		k = mem_new(struct sim_kill);
		if (!k) {
			return -ENOMEM;
		}
		k->pid = c->pid;
		list_add_tail(&of(l)->kills, &k->link);
	}
	k->signo = signo;
	return 0;
}

static void sim_child_del(struct loop *l, struct loop_child *c)
{
	(void)l;
	(void)c;
}

static void sim_fini(struct loop *l)
{
	list_for_each_safe (struct sim_event, ev, &of(l)->script, link) {
		free(ev);
	}
	list_for_each_safe (struct sim_kill, k, &of(l)->kills, link) {
		free(k);
	}
}

static const struct loop_ops sim_ops = {
	.clock = sim_clock,
	.wait = sim_wait,
	.fd_add = sim_fd_add,
	.fd_mod = sim_fd_mod,
	.fd_del = sim_fd_del,
	.signal_add = sim_signal_add,
	.signal_del = sim_signal_del,
	.spawn = sim_spawn,
	.watch = sim_watch,
	.kill = sim_kill,
	.child_del = sim_child_del,
	.fini = sim_fini,
};

struct loop *sim_loop_new(void)
{
	struct sim *s = mem_new(struct sim);

	if (!s) {
		return NULL;
	}
	s->now_ns = UINT64_C(1000000000);
	s->wall_offset_ns = UINT64_C(1767225600000000000) - s->now_ns;
	s->next_pid = FIRST_PID;
	list_init(&s->fds);
	list_init(&s->signals);
	list_init(&s->script);
	list_init(&s->kills);
	ignore_result(loop__init(&s->loop, &sim_ops)); /* allocates nothing */
	return &s->loop;
}

int sim_run(struct loop *l, uint64_t duration_ns)
{
	uint64_t end_ns = of(l)->now_ns + duration_ns;
	int r = 0;

	l->stopping = false;
	while (!l->stopping && r >= 0) {
		uint64_t left = end_ns - of(l)->now_ns;

		r = loop_turn(l, left);
		if (left == 0 && r == 0 && list_empty(&of(l)->script)) {
			break;
		}
	}
	return r < 0 ? r : 0;
}

static int script(struct loop *l, const struct sim_event *ev)
{
	struct sim_event *copy = mem_dup(ev, sizeof(*ev));

	if (!copy) {
		return -ENOMEM;
	}
	list_add_tail(&of(l)->script, &copy->link);
	return 0;
}

int sim_fd_event(struct loop *l, int fd, unsigned events)
{
	return !find_fd(l, fd) ? -ENOENT :
	       script(l, &(struct sim_event){ .kind = SIM_FD, .number = fd, .events = events });
}

unsigned sim_fd_watched(struct loop *l, int fd)
{
	struct loop_fd *s = find_fd(l, fd);

	return s ? s->events : 0;
}

int sim_signal(struct loop *l, int signo)
{
	return !find_signal(l, signo) ? -ENOENT :
	       script(l, &(struct sim_event){ .kind = SIM_SIGNAL, .number = signo });
}

void sim_on_spawn(struct loop *l, sim_spawn_fn fn, void *ud)
{
	of(l)->spawn_fn = fn;
	of(l)->spawn_ud = ud;
}

int sim_child_exit(struct loop *l, pid_t pid, const struct loop_exit *x)
{
	return !find_child(l, pid) ? -ESRCH :
	       script(l, &(struct sim_event){ .kind = SIM_EXIT, .number = pid, .exit = *x });
}

int sim_child_signal(struct loop *l, pid_t pid)
{
	struct sim_kill *k = find_kill(l, pid);

	return k ? k->signo : 0;
}
