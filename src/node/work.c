/* SPDX-License-Identifier: Apache-2.0 */
#include "node/work.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"

struct work {
	struct work_spec   spec;
	struct loop       *loop;
	struct loop_child *child;
	struct loop_fd    *out_src, *in_src;
	int                out_fd, in_fd;     /* our ends */
	int                child_in, child_out; /* its ends */
	struct buf         result;
	bool               exited, drained, calling;
	struct err         why;
	void             (*writable)(void *ud);
};

static int in_child(void *ud, struct err *e)
{
	struct work *w = ud;
	int r;

	signal(SIGPIPE, SIG_IGN);
	fd_close(&w->out_fd);
	fd_close(&w->in_fd);
	r = w->spec.run(w->spec.run_ud, w->child_in, w->child_out, e);
	if (r < 0) {
		return r;
	}
	_exit(0);
}

static void work_free(struct work *w)
{
	loop_fd_free(w->out_src);
	loop_fd_free(w->in_src);
	loop_child_free(w->child);
	fd_close(&w->out_fd);
	fd_close(&w->in_fd);
	buf_fini(&w->result);
	free(w);
}

static void maybe_done(struct work *w)
{
	if (!w->exited || !w->drained) {
		return;
	}
	w->spec.done(w->spec.ud, &w->result, w->why.errnum ? &w->why : NULL);
	work_free(w);
}

static void on_exit_of(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct work *w = ud;

	(void)c;
	w->exited = true;
	if (x->kind == LOOP_NOT_STARTED) {
		w->why = *x->err;
	} else if (loop_exit_status(x) != 0 && !w->why.errnum) {
		ignore_result(err_set(&w->why, EIO, ERR_HOST, "a worker ended with status %d",
				      loop_exit_status(x))); /* kept for done() */
	}
	maybe_done(w);
}

static void drained(struct work *w)
{
	w->out_src = loop_fd_free(w->out_src);
	fd_close(&w->out_fd);
	w->drained = true;
	maybe_done(w);
}

static void too_much(struct work *w)
{
	ignore_result(err_set(&w->why, EFBIG, ERR_LIMIT, "the result is too large"));
	/* kept for done() */
	ignore_result(loop_child_kill(w->child, SIGKILL)); /* it may have ended */
	drained(w);
}

static void on_out(struct loop_fd *src, unsigned events, void *ud)
{
	struct work *w = ud;
	char buf[65536];
	ssize_t n = sys_read(w->out_fd, buf, w->spec.data ? 32768 : sizeof(buf));

	(void)src;
	(void)events;
	if (n == -EAGAIN) {
		return;
	}
	if (n <= 0) {
		drained(w);
		return;
	}
	if (w->spec.data) {
		if (!w->spec.data(w->spec.ud, buf, (size_t)n)) {
			ignore_result(loop_fd_set(src, 0)); /* at worst one more buffer comes */
		}
		return;
	}
	buf_add(&w->result, buf, (size_t)n);
	if (w->result.len > WORK_RESULT_MAX || buf_failed(&w->result)) {
		too_much(w);
	}
}

void work_resume(struct work *w)
{
	if (w->out_src) {
		ignore_result(loop_fd_set(w->out_src, LOOP_IN)); /* it was so before */
	}
}

static void on_in(struct loop_fd *src, unsigned events, void *ud)
{
	struct work *w = ud;

	(void)events;
	ignore_result(loop_fd_set(src, 0)); /* being called once more does no harm */
	if (w->writable) {
		w->writable(w->spec.ud);
	}
}

size_t work_input(struct work *w, const void *data, size_t n, void (*writable)(void *ud))
{
	if (w->in_fd < 0) {
		return n; /* it takes no more: its end says why */
	}
	ssize_t r = sys_write(w->in_fd, data, n);

	if (r < 0 && r != -EAGAIN) {
		work_input_end(w);
		return n;
	}
	size_t took = r < 0 ? 0 : (size_t)r;

	if (took < n) {
		w->writable = writable;
		if (!w->in_src ? loop_fd_new(w->loop, w->in_fd, LOOP_OUT, on_in, w, &w->in_src) < 0 :
		    loop_fd_set(w->in_src, LOOP_OUT) < 0) {
			work_input_end(w);
			return n;
		}
	}
	return took;
}

void work_input_end(struct work *w)
{
	w->in_src = loop_fd_free(w->in_src);
	fd_close(&w->in_fd);
}

static int make_pipes(struct work *w)
{
	int p[2];
	int r = sys_pipe2(p, 0);

	if (r < 0) {
		return r;
	}
	w->out_fd = p[0];
	w->child_out = p[1];
	r = sys_fcntl(w->out_fd, F_SETFL, O_NONBLOCK);
	if (r < 0 || !w->spec.input) {
		return r;
	}
	r = sys_pipe2(p, 0);
	if (r < 0) {
		return r;
	}
	w->child_in = p[0];
	w->in_fd = p[1];
	return sys_fcntl(w->in_fd, F_SETFL, O_NONBLOCK);
}

int work_start(struct loop *l, const struct work_spec *spec, struct work **ret, struct err *e)
{
	struct work *w = mem_new(struct work);
	char *argv[] = { (char *)"worker", NULL };

	if (!w) {
		return err_nomem(e);
	}
	w->spec = *spec;
	w->loop = l;
	w->out_fd = w->in_fd = w->child_in = w->child_out = -1;
	int r = make_pipes(w);

	if (r == 0) {
		r = loop_fd_new(l, w->out_fd, LOOP_IN, on_out, w, &w->out_src);
	}
	if (r < 0) {
		r = err_set(e, -r, ERR_HOST, "a pipe");
	} else {
		struct loop_spawn s = {
			.argv = argv, .prepare = in_child, .prepare_ud = w,
			.parent_death_signal = SIGKILL,
			.clone_flags = spec->new_mounts ? CLONE_NEWNS : 0,
		};

		r = loop_spawn(l, &s, on_exit_of, w, &w->child, e);
	}
	fd_close(&w->child_in);
	fd_close(&w->child_out);
	if (r < 0) {
		work_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void work_cancel(struct work *w)
{
	if (w) {
		if (loop_child_running(w->child)) {
			ignore_result(loop_child_kill(w->child, SIGKILL)); /* it may have ended */
		}
		/* What is not collected here is collected by the loop's owner on SIGCHLD. */
		work_free(w);
	}
}
