/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/pump.h"

#include <errno.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"

struct pump {
	struct loop     *loop;
	int              src, dst;         /* owned; -1 once it is over */
	struct loop_fd  *src_ev, *dst_ev;  /* NULL: a file, always ready */
	struct loop_post again;            /* to read from a file */
	pump_fn          done;
	void            *ud;
	size_t           start, len;       /* of what waits in `bytes` */
	char             bytes[PUMP_BYTES];
};

static void stop(struct pump *p)
{
	p->src_ev = loop_fd_free(p->src_ev);
	p->dst_ev = loop_fd_free(p->dst_ev);
	loop_post_cancel(&p->again);
	if (p->dst >= 0) {
		/* One that is open elsewhere, too, does not end by being closed here. */
		ignore_result(sys_shutdown(p->dst, SHUT_WR)); /* not a socket: nothing to do */
	}
	fd_close(&p->src);
	fd_close(&p->dst);
}

struct pump *pump_free(struct pump *p)
{
	if (p) {
		stop(p);
		free(p);
	}
	return NULL;
}

static void over(struct pump *p)
{
	stop(p);
	p->done(p, p->ud); /* may free it */
}

/* Wait for what can go on. */
static void wait_next(struct pump *p)
{
	bool full = p->len > 0;
	int r = p->src_ev ? loop_fd_set(p->src_ev, full ? 0 : LOOP_IN) : 0;

	if (r == 0 && p->dst_ev) {
		r = loop_fd_set(p->dst_ev, full ? LOOP_OUT : 0);
	}
	if (r < 0) {
		over(p);
	} else if (!p->src_ev && !full) {
		loop_post(p->loop, &p->again);
	}
}

/* False: it is over. */
static bool drain(struct pump *p)
{
	while (p->len > 0) {
		ssize_t n = sys_write(p->dst, p->bytes + p->start, p->len);

		if (n == -EAGAIN) {
			return true;
		}
		if (n < 0) { /* nobody takes it any more */
			over(p);
			return false;
		}
		p->start += (size_t)n;
		p->len -= (size_t)n;
	}
	return true;
}

static void fill(struct pump *p)
{
	ssize_t n = sys_read(p->src, p->bytes, sizeof(p->bytes));

	if (n == -EAGAIN) {
		return;
	}
	if (n <= 0) { /* EIO: the terminal's last user is gone */
		over(p);
		return;
	}
	p->start = 0;
	p->len = (size_t)n;
	if (drain(p)) {
		wait_next(p);
	}
}

static void on_src(struct loop_fd *src, unsigned events, void *ud)
{
	(void)src;
	(void)events;
	fill(ud);
}

static void on_again(struct loop_post *post, void *ud)
{
	(void)post;
	fill(ud);
}

static void on_dst(struct loop_fd *src, unsigned events, void *ud)
{
	(void)src;
	(void)events;
	if (drain(ud)) {
		wait_next(ud);
	}
}

int pump_new(struct loop *l, int own_src, int own_dst, pump_fn done, void *ud, struct pump **ret)
{
	struct pump *p = mem_new(struct pump);

	if (!p) {
		fd_close(&own_src);
		fd_close(&own_dst);
		return -ENOMEM;
	}
	p->loop = l;
	p->src = own_src;
	p->dst = own_dst;
	p->done = done;
	p->ud = ud;
	loop_post_init(&p->again, on_again, p);
	int r = sys_set_nonblock(p->src);

	r = r < 0 ? r : sys_set_nonblock(p->dst);
	r = r < 0 ? r : loop_fd_new(l, p->src, LOOP_IN, on_src, p, &p->src_ev);
	if (r == -EPERM) {
		r = 0;
		loop_post(l, &p->again);
	}
	r = r < 0 ? r : loop_fd_new(l, p->dst, 0, on_dst, p, &p->dst_ev);
	if (r < 0 && r != -EPERM) {
		pump_free(p);
		return r;
	}
	*ret = p;
	return 0;
}
