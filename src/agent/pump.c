/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"

void pump_free(struct pump *p)
{
	struct session *x = p->session;

	list_del(&p->link);
	loop_fd_free(p->src_ev);
	loop_fd_free(p->dst_ev);
	/* A socket that is read from elsewhere, too, is not closed by close alone. */
	ignore_result(sys_shutdown(p->dst, SHUT_WR)); /* a pipe: nothing to do */
	fd_close(&p->src);
	fd_close(&p->dst);
	free(p);
	loop_post(x->agent->loop, &x->collect);
}

/* Wait for what can go on. A hang-up of the end that is not waited for is not told. */
static void wait_next(struct pump *p)
{
	bool full = p->len > 0;

	if (loop_fd_set(p->src_ev, full ? 0 : LOOP_IN) < 0 ||
	    loop_fd_set(p->dst_ev, full ? LOOP_OUT : 0) < 0) {
		pump_free(p);
	}
}

/* False: the pump is over. */
static bool drain(struct pump *p)
{
	while (p->len > 0) {
		ssize_t n = sys_write(p->dst, p->bytes + p->start, p->len);

		if (n == -EAGAIN) {
			return true;
		}
		if (n < 0) { /* nobody takes it any more */
			pump_free(p);
			return false;
		}
		p->start += (size_t)n;
		p->len -= (size_t)n;
	}
	return true;
}

static void on_src(struct loop_fd *src, unsigned events, void *ud)
{
	struct pump *p = ud;
	ssize_t n = sys_read(p->src, p->bytes, sizeof(p->bytes));

	(void)src;
	(void)events;
	if (n == -EAGAIN) {
		return;
	}
	if (n <= 0) { /* EIO: the terminal's last user is gone */
		pump_free(p);
		return;
	}
	p->start = 0;
	p->len = (size_t)n;
	if (drain(p)) {
		wait_next(p);
	}
}

static void on_dst(struct loop_fd *src, unsigned events, void *ud)
{
	struct pump *p = ud;

	(void)src;
	(void)events;
	if (drain(p)) {
		wait_next(p);
	}
}

int pump_start(struct session *x, int own_src, int own_dst, struct err *e)
{
	struct pump *p = mem_new(struct pump);

	if (!p) {
		fd_close(&own_src);
		fd_close(&own_dst);
		return err_nomem(e);
	}
	p->session = x;
	p->src = own_src;
	p->dst = own_dst;
	list_add_tail(&x->pumps, &p->link);
	int r = sys_fcntl(p->src, F_SETFL, O_RDWR | O_NONBLOCK);

	r = r < 0 ? r : sys_fcntl(p->dst, F_SETFL, O_RDWR | O_NONBLOCK);
	r = r < 0 ? r : loop_fd_new(x->agent->loop, p->src, LOOP_IN, on_src, p, &p->src_ev);
	r = r < 0 ? r : loop_fd_new(x->agent->loop, p->dst, 0, on_dst, p, &p->dst_ev);
	if (r < 0) {
		pump_free(p);
		return err_set(e, -r, ERR_HOST, "cannot carry a stream");
	}
	return 0;
}
