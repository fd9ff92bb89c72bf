/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/block/way.h"

enum { WORKERS = 4, STACK_BYTES = 64 << 10 };

struct threads {
	struct block    *block;
	pthread_t        workers[WORKERS];
	unsigned         n_workers;
	pthread_mutex_t  lock;           /* of the lists and of `end` */
	pthread_cond_t   work, returned;
	struct list      todo, done;
	bool             end;
	int              event_fd;
	struct loop_fd  *source;
};

int block__perform(int fd, const struct block_io *io)
{
	ssize_t r = -EINVAL;

	switch (io->kind) {
	case BLOCK_IO_READ:
		r = sys_preadv2(fd, io->iov, io->n_iov, (int64_t)io->offset, 0);
		break;
	case BLOCK_IO_WRITE:
		r = sys_pwritev2(fd, io->iov, io->n_iov, (int64_t)io->offset,
				 io->durable ? RWF_DSYNC : 0);
		break;
	case BLOCK_IO_SYNC:
		r = sys_fdatasync(fd);
		break;
	case BLOCK_IO_ALLOCATE:
		r = sys_fallocate(fd, io->mode, (int64_t)io->offset, (int64_t)io->bytes);
		break;
	}
	return (int)r;   /* the kernel moves at most INT_MAX bytes a call */
}

static struct block_req *take(struct list *l)
{
	struct block_req *r = list_empty(l) ? NULL : list_entry(l->next, struct block_req, link);

	if (r) {
		list_del(&r->link);
	}
	return r;
}

static void *worker(void *ud)
{
	struct threads *t = ud;
	uint64_t one = 1;

	if (t->block->in_worker) {
		t->block->in_worker();
	}
	(void)pthread_mutex_lock(&t->lock); /* ours: cannot fail */
	for (;;) {
		struct block_req *r = take(&t->todo);

		if (!r && t->end) {
			break;
		}
		if (!r) {
			(void)pthread_cond_wait(&t->work, &t->lock); /* as above */
			continue;
		}
		(void)pthread_mutex_unlock(&t->lock); /* as above */
		r->result = block__perform(t->block->fd, &r->io);
		(void)pthread_mutex_lock(&t->lock); /* as above */
		list_add_tail(&t->done, &r->link);
		(void)pthread_cond_signal(&t->returned); /* as above */
		ignore_result(sys_write(t->event_fd, &one, sizeof(one))); /* counts to 2^64 */
	}
	(void)pthread_mutex_unlock(&t->lock); /* as above */
	return NULL;
}

static void threads_start(void *way, struct block_req *r)
{
	struct threads *t = way;

	(void)pthread_mutex_lock(&t->lock); /* ours: cannot fail */
	list_add_tail(&t->todo, &r->link);
	(void)pthread_cond_signal(&t->work); /* as above */
	(void)pthread_mutex_unlock(&t->lock); /* as above */
}

static void threads_kick(void *way unused_arg)
{
}

/* Under the lock: until something is done, or that time of the monotonic clock. */
static void wait_done(struct threads *t, uint64_t end_ns)
{
	const struct timespec end = { .tv_sec = (time_t)(end_ns / 1000000000),
				      .tv_nsec = (long)(end_ns % 1000000000) };
	int r = 0;

	while (list_empty(&t->done) && r == 0) {
		r = end_ns ? pthread_cond_clockwait(&t->returned, &t->lock, CLOCK_MONOTONIC, &end) :
			     pthread_cond_wait(&t->returned, &t->lock);
	}
}

static void reap(struct threads *t, bool wait, uint64_t end_ns)
{
	struct block_req *r;

	(void)pthread_mutex_lock(&t->lock); /* ours: cannot fail */
	if (wait) {
		wait_done(t, end_ns);
	}
	while ((r = take(&t->done))) {
		(void)pthread_mutex_unlock(&t->lock); /* as above */
		block__returned(t->block, r, r->result);
		(void)pthread_mutex_lock(&t->lock); /* as above */
	}
	(void)pthread_mutex_unlock(&t->lock); /* as above */
}

static void threads_wait(void *way, uint64_t timeout_ns)
{
	reap(way, true, timeout_ns ? clock_now_ns() + timeout_ns : 0);
}

static void on_event(struct loop_fd *src, unsigned events unused_arg, void *ud)
{
	uint64_t count;

	ignore_result(sys_read(loop_fd_fd(src), &count, sizeof(count))); /* only to clear it */
	reap(ud, false, 0);
}

static void threads_close(void *way)
{
	struct threads *t = way;

	(void)pthread_mutex_lock(&t->lock); /* ours: cannot fail */
	t->end = true;
	(void)pthread_cond_broadcast(&t->work); /* as above */
	(void)pthread_mutex_unlock(&t->lock); /* as above */
	for (unsigned i = 0; i < t->n_workers; i++) {
		(void)pthread_join(t->workers[i], NULL); /* they end: todo is empty */
	}
	t->source = loop_fd_free(t->source);
	fd_close(&t->event_fd);
	(void)pthread_cond_destroy(&t->work); /* nobody waits */
	(void)pthread_cond_destroy(&t->returned); /* as above */
	(void)pthread_mutex_destroy(&t->lock); /* as above */
	free(t);
}

/* Workers take no signals: those are for the threads of the program. */
static int start_workers(struct threads *t)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = pthread_attr_init(&attr);

	if (r != 0) {
		return -r;
	}
	(void)sigfillset(&all); /* cannot fail */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old); /* as above */
	r = pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (r == 0 && t->n_workers < WORKERS) {
		r = pthread_create(&t->workers[t->n_workers], &attr, worker, t);
		t->n_workers += r == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* as above */
	(void)pthread_attr_destroy(&attr); /* as above */
	return -r;
}

static int threads_open(struct block *b, unsigned depth unused_arg, void **ret)
{
	struct threads *t = mem_new(struct threads);

	if (!t) {
		return -ENOMEM;
	}
	t->block = b;
	list_init(&t->todo);
	list_init(&t->done);
	(void)pthread_mutex_init(&t->lock, NULL); /* allocates nothing */
	(void)pthread_cond_init(&t->work, NULL); /* as above */
	(void)pthread_cond_init(&t->returned, NULL); /* as above */
	t->event_fd = sys_eventfd(0, EFD_NONBLOCK);

	int r = t->event_fd;

	if (r >= 0) {
		r = loop_fd_new(b->loop, t->event_fd, LOOP_IN, on_event, t, &t->source);
	}
	if (r >= 0) {
		r = start_workers(t);
	}
	if (r < 0) {
		threads_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

const struct block_way_ops block__threads = {
	.name = "threads",
	.now = true,
	.open = threads_open,
	.close = threads_close,
	.start = threads_start,
	.kick = threads_kick,
	.wait = threads_wait,
};
