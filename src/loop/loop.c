/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all kinds of loop share: order of a turn, timers, posts, lifetime of sources.
 */
#include "loop/loop.h"

#include <errno.h>

#include "base/mem.h"
#include "loop/backend.h"

int loop__init(struct loop *l, const struct loop_ops *ops)
{
	l->ops = ops;
	list_init(&l->posts);
	list_init(&l->dead);
	list_init(&l->children);
	l->timers = NULL;
	ops->clock(l);
	return 0;
}

static void free_dead(struct loop *l)
{
	list_for_each_safe (struct loop_source, s, &l->dead, link) {
		list_del(&s->link);
		free(s);
	}
}

void loop__fini(struct loop *l)
{
	free_dead(l);
	free(l->timers);
}

struct loop *loop_free(struct loop *l)
{
	if (l) {
		assert(!l->in_turn);
		assert(l->n_sources == 0);
		l->ops->fini(l);
		loop__fini(l);
		free(l);
	}
	return NULL;
}

static void source_init(struct loop *l, struct loop_source *s)
{
	s->loop = l;
	list_init(&s->link);
	l->n_sources++;
}

/* The memory goes at the end of the turn: an event of this turn may still point to it. */
static void source_free(struct loop_source *s)
{
	struct loop *l = s->loop;

	assert(!s->dead);
	s->dead = true;
	l->n_sources--;
	if (l->in_turn) {
		list_add_tail(&l->dead, &s->link);
	} else {
		free(s);
	}
}

void loop_set_guard(struct loop *l, void (*guard)(void *ud, bool enter), void *ud)
{
	l->guard = guard;
	l->guard_ud = ud;
}

void loop__guard(struct loop *l, bool enter)
{
	if (l->guard) {
		l->guard(l->guard_ud, enter);
	}
}

uint64_t loop_now_ns(const struct loop *l)
{
	return l->now_ns;
}

uint64_t loop_wall_ns(const struct loop *l)
{
	return l->wall_ns;
}

/* --- Descriptors --- */

int loop_fd_new(struct loop *l, int fd, unsigned events, loop_fd_fn fn, void *ud,
		struct loop_fd **ret)
{
	struct loop_fd *src = mem_new(struct loop_fd);

	if (!src) {
		return -ENOMEM;
	}
	src->fd = fd;
	src->events = events;
	src->fn = fn;
	src->ud = ud;
	src->source.loop = l;
	list_init(&src->sim_link);

	int r = l->ops->fd_add(l, src);

	if (r < 0) {
		free(src);
		return r;
	}
	source_init(l, &src->source);
	*ret = src;
	return 0;
}

int loop_fd_set(struct loop_fd *src, unsigned events)
{
	struct loop *l = src->source.loop;
	unsigned old = src->events;

	if (old == events) {
		return 0;
	}
	src->events = events;
	int r = l->ops->fd_mod(l, src);

	if (r < 0) {
		src->events = old;
	}
	return r;
}

int loop_fd_fd(const struct loop_fd *src)
{
	return src->fd;
}

struct loop_fd *loop_fd_free(struct loop_fd *src)
{
	if (src) {
		src->source.loop->ops->fd_del(src->source.loop, src);
		source_free(&src->source);
	}
	return NULL;
}

int loop__fd_call(struct loop_fd *src, unsigned events)
{
	/* Its owner may have freed it, or asked for less, earlier in this turn. */
	events &= src->events ? src->events | LOOP_HUP : 0;
	if (src->source.dead || !events) {
		return 0;
	}
	src->fn(src, events, src->ud);
	return 1;
}

/* --- Timers: a binary heap --- */

static bool before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static void place(struct loop *l, struct loop_timer *t, size_t slot)
{
	l->timers[slot] = t;
	t->slot = slot;
}

static void sift_up(struct loop *l, struct loop_timer *t, size_t slot)
{
	while (slot > 1 && before(t, l->timers[slot / 2])) {
		place(l, l->timers[slot / 2], slot);
		slot /= 2;
	}
	place(l, t, slot);
}

static void sift_down(struct loop *l, struct loop_timer *t, size_t slot)
{
	for (;;) {
		size_t child = 2 * slot;

		if (child > l->n_timers) {
			break;
		}
		if (child < l->n_timers && before(l->timers[child + 1], l->timers[child])) {
			child++;
		}
		if (!before(l->timers[child], t)) {
			break;
		}
		place(l, l->timers[child], slot);
		slot = child;
	}
	place(l, t, slot);
}

int loop_timer_new(struct loop *l, loop_timer_fn fn, void *ud, struct loop_timer **ret)
{
	struct loop_timer *t = mem_new(struct loop_timer);
	struct loop_timer **heap =
		mem_realloc(l->timers, l->n_reserved + 2, sizeof(struct loop_timer *));

	if (heap) {
		l->timers = heap;
	}
	if (!t || !heap) {
		free(t);
		return -ENOMEM;
	}
	l->n_reserved++;
	t->fn = fn;
	t->ud = ud;
	source_init(l, &t->source);
	*ret = t;
	return 0;
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop *l = t->source.loop;
	size_t slot = t->slot;

	if (slot == 0) {
		return;
	}
	struct loop_timer *last = l->timers[l->n_timers--];

	t->slot = 0;
	if (last != t) {
		if (slot > 1 && before(last, l->timers[slot / 2])) {
			sift_up(l, last, slot);
		} else {
			sift_down(l, last, slot);
		}
	}
}

void loop_timer_start(struct loop_timer *t, uint64_t delay_ns)
{
	struct loop *l = t->source.loop;

	loop_timer_stop(t);
	t->due_ns = delay_ns > UINT64_MAX - l->now_ns ? UINT64_MAX : l->now_ns + delay_ns;
	t->seq = ++l->seq;
	sift_up(l, t, ++l->n_timers);
}

bool loop_timer_active(const struct loop_timer *t)
{
	return t->slot != 0;
}

struct loop_timer *loop_timer_free(struct loop_timer *t)
{
	if (t) {
		loop_timer_stop(t);
		t->source.loop->n_reserved--;
		source_free(&t->source);
	}
	return NULL;
}

/* Only those started before this turn's timers began: one that starts itself again waits. */
static int run_timers(struct loop *l)
{
	uint64_t last = l->seq;
	int n = 0;

	while (l->n_timers > 0 && l->timers[1]->due_ns <= l->now_ns && l->timers[1]->seq <= last) {
		struct loop_timer *t = l->timers[1];

		loop_timer_stop(t);
		t->fn(t, t->ud);
		n++;
	}
	return n;
}

static uint64_t until_timer(const struct loop *l)
{
	if (l->n_timers == 0) {
		return UINT64_MAX;
	}
	uint64_t due = l->timers[1]->due_ns;

	return due > l->now_ns ? due - l->now_ns : 0;
}

/* --- Posts --- */

void loop_post_init(struct loop_post *p, void (*fn)(struct loop_post *p, void *ud), void *ud)
{
	list_init(&p->link);
	p->fn = fn;
	p->ud = ud;
}

void loop_post(struct loop *l, struct loop_post *p)
{
	if (list_empty(&p->link)) {
		list_add_tail(&l->posts, &p->link);
	}
}

void loop_post_cancel(struct loop_post *p)
{
	list_del(&p->link);
}

static int run_posts(struct loop *l)
{
	struct list now = LIST_INIT(now);
	int n = 0;

	if (!list_empty(&l->posts)) {
		now = l->posts;
		now.next->prev = now.prev->next = &now;
		list_init(&l->posts);
	}
	while (!list_empty(&now)) {
		struct loop_post *p = list_entry(now.next, struct loop_post, link);

		list_del(&p->link);
		p->fn(p, p->ud);
		n++;
	}
	return n;
}

/* --- Signals --- */

int loop_signal_new(struct loop *l, int signo, loop_signal_fn fn, void *ud,
		    struct loop_signal **ret)
{
	struct loop_signal *s = mem_new(struct loop_signal);

	if (!s) {
		return -ENOMEM;
	}
	s->signo = signo;
	s->fd = -1;
	s->fn = fn;
	s->ud = ud;
	s->source.loop = l;
	list_init(&s->sim_link);

	int r = l->ops->signal_add(l, s);

	if (r < 0) {
		free(s);
		return r;
	}
	source_init(l, &s->source);
	*ret = s;
	return 0;
}

struct loop_signal *loop_signal_free(struct loop_signal *s)
{
	if (s) {
		s->source.loop->ops->signal_del(s->source.loop, s);
		source_free(&s->source);
	}
	return NULL;
}

/* --- Children --- */

int loop_exit_status(const struct loop_exit *x)
{
	switch (x->kind) {
	case LOOP_EXITED:
		return x->code;
	case LOOP_KILLED:
		return 128 + x->code;
	case LOOP_NOT_STARTED:
	case LOOP_UNKNOWN:
	case LOOP_EXIT_KIND__COUNT:
		break;
	}
	return x->kind == LOOP_NOT_STARTED ? 127 : 255;
}

static struct loop_child *child_new(struct loop *l, loop_child_fn fn, void *ud)
{
	struct loop_child *c = mem_new(struct loop_child);

	if (c) {
		c->source.loop = l;
		c->pidfd = c->error_fd = -1;
		c->running = true;
		c->fn = fn;
		c->ud = ud;
		list_init(&c->link);
	}
	return c;
}

static void child_add(struct loop *l, struct loop_child *c)
{
	source_init(l, &c->source);
	list_add_tail(&l->children, &c->link);
}

int loop_spawn(struct loop *l, const struct loop_spawn *spec, loop_child_fn fn, void *ud,
	       struct loop_child **ret, struct err *e)
{
	struct loop_child *c = child_new(l, fn, ud);

	if (!c) {
		return err_nomem(e);
	}
	int r = l->ops->spawn(l, spec, c, e);

	if (r < 0) {
		free(c);
		return r;
	}
	child_add(l, c);
	*ret = c;
	return 0;
}

int loop_child_watch(struct loop *l, pid_t pid, loop_child_fn fn, void *ud,
		     struct loop_child **ret)
{
	struct loop_child *c = child_new(l, fn, ud);

	if (!c) {
		return -ENOMEM;
	}
	int r = l->ops->watch(l, pid, c);

	if (r < 0) {
		free(c);
		return r;
	}
	child_add(l, c);
	*ret = c;
	return 0;
}

pid_t loop_child_pid(const struct loop_child *c)
{
	return c->pid;
}

int loop_child_pidfd(const struct loop_child *c)
{
	return c->pidfd;
}

bool loop_child_running(const struct loop_child *c)
{
	return c->running;
}

int loop_child_kill(struct loop_child *c, int signo)
{
	return c->running ? c->source.loop->ops->kill(c->source.loop, c, signo) : -ESRCH;
}

void loop__child_ended(struct loop_child *c, const struct loop_exit *x)
{
	assert(c->running && !c->source.dead);
	c->running = false;
	c->fn(c, x, c->ud);
}

struct loop_child *loop_child_free(struct loop_child *c)
{
	if (c) {
		c->source.loop->ops->child_del(c->source.loop, c);
		list_del(&c->link);
		source_free(&c->source);
	}
	return NULL;
}

/* --- Turns --- */

int loop_turn(struct loop *l, uint64_t timeout_ns)
{
	assert(!l->in_turn);
	l->in_turn = true;
	l->ops->clock(l);

	bool due = until_timer(l) == 0 || !list_empty(&l->posts);

	if (due) {
		loop__guard(l, true);
	}
	int n = run_timers(l);

	n += run_posts(l);
	if (due) {
		loop__guard(l, false);
	}

	bool wait_not = l->stopping || n > 0 || !list_empty(&l->posts);
	uint64_t wait_ns = wait_not ? 0 : MIN(timeout_ns, until_timer(l));
	int r = l->ops->wait(l, wait_ns);

	l->in_turn = false;
	free_dead(l);
	return r < 0 ? r : n + r;
}

int loop_run(struct loop *l)
{
	int r = 0;

	l->stopping = false;
	while (!l->stopping && r >= 0) {
		r = loop_turn(l, UINT64_MAX);
	}
	return r < 0 ? r : 0;
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}
