/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/serial-io.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/serial.h"
#include "vm/escape.h"
#include "vm/vm.h"

enum {
	OUT_BYTES = 1 << 16, IN_BYTES = 1 << 10,
	WRITE_MAX = 4096,       /* a pipe that is ready takes that much without blocking */
	FLUSH_WAIT_MS = 200,
	FILE_MAX = SERIAL_IO_FILE_MAX,
};

struct serial_io {
	struct vm      *vm;
	struct serial  *port;
	int             in_fd, out_fd, wake_fd;
	bool            owned;               /* both descriptors are ours */
	struct escape   escape;
	struct loop_fd *in, *out, *wake;
	bool            out_always_ready;    /* a file */
	size_t          file_left;           /* that it may still grow */
	/* Input that the port did not take; the loop's own. */
	uint8_t         input[IN_BYTES];
	size_t          n_input;
	/* Under the lock: a ring. */
	pthread_mutex_t lock;
	uint8_t         ring[OUT_BYTES];
	size_t          first, n;
	bool            was_full;
};

static void wake(struct serial_io *s)
{
	uint64_t one = 1;

	ignore_result(sys_write(s->wake_fd, &one, sizeof(one))); /* full: it wakes anyway */
}

bool serial_io_send(void *ctx, uint8_t byte)
{
	struct serial_io *s = ctx;

	pthread_mutex_lock(&s->lock);
	if (s->out_fd < 0) {
		pthread_mutex_unlock(&s->lock);
		return true;
	}
	bool was_empty = s->n == 0, room = s->n < OUT_BYTES;

	if (room) {
		s->ring[(s->first + s->n++) % OUT_BYTES] = byte;
	} else {
		s->was_full = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (was_empty) {
		wake(s);
	}
	return room;
}

void serial_io_drained(void *ctx)
{
	wake(ctx);
}

/* --- Output --- */

/* A file is the host's room, which a guest does not get to fill: the last line says so. */
static ssize_t write_file(struct serial_io *s, const uint8_t *from, size_t n)
{
	static const char full[] = "\n[holm-vmm: this file is full]\n";
	size_t now = MIN(n, s->file_left);
	ssize_t done = now ? sys_write(s->out_fd, from, now) : 0;

	s->file_left -= done > 0 ? (size_t)done : 0;
	if (now > 0 && s->file_left == 0) {
		ignore_result(sys_write(s->out_fd, full, sizeof(full) - 1)); /* no room for it, either */
	}
	/* What does not fit is dropped. */
	return now == 0 ? (ssize_t)n : done;
}

/* Write one part. False: nothing is left, or it cannot be written now. */
static bool write_some(struct serial_io *s)
{
	pthread_mutex_lock(&s->lock);
	size_t n = MIN(s->n, MIN((size_t)OUT_BYTES - s->first, (size_t)WRITE_MAX));
	const uint8_t *from = s->ring + s->first;

	pthread_mutex_unlock(&s->lock);
	if (n == 0) {
		return false;
	}
	/* Only this thread moves `first`, so what is between stays. */
	ssize_t done = s->out_always_ready ? write_file(s, from, n) : sys_write(s->out_fd, from, n);

	if (done == -EAGAIN) {
		return false;
	}
	/* A reader that is gone: what it does not read goes nowhere. */
	size_t gone = done > 0 ? (size_t)done : n;

	pthread_mutex_lock(&s->lock);
	s->first = (s->first + gone) % OUT_BYTES;
	s->n -= gone;
	bool sent = s->was_full, more = s->n > 0;

	s->was_full = false;
	pthread_mutex_unlock(&s->lock);
	if (sent) {
		serial_sent(s->port);
	}
	return more;
}

static bool output_waits(struct serial_io *s)
{
	pthread_mutex_lock(&s->lock);
	bool waits = s->n > 0;

	pthread_mutex_unlock(&s->lock);
	return waits;
}

static void arm_output(struct serial_io *s)
{
	if (s->out_always_ready) {
		while (write_some(s)) {
		}
	} else if (s->out) {
		ignore_result(loop_fd_set(s->out, output_waits(s) ? LOOP_OUT : 0)); /* stays as it is */
	}
}

static void on_out(struct loop_fd *src, unsigned events, void *ud)
{
	struct serial_io *s = ud;

	(void)src, (void)events;
	write_some(s);
	arm_output(s);
}

void serial_io_flush(struct serial_io *s)
{
	struct pollfd p = { .fd = s->out_fd, .events = POLLOUT };

	while (s->out_fd >= 0 && output_waits(s) && poll(&p, 1, FLUSH_WAIT_MS) > 0) {
		write_some(s);
	}
}

/* --- Input --- */

/* Give the port what it takes, and read on only when all was taken. */
static void pass_input(struct serial_io *s)
{
	size_t took = serial_input(s->port, s->input, s->n_input);

	s->n_input -= took;
	memmove(s->input, s->input + took, s->n_input);
	if (s->in) {
		ignore_result(loop_fd_set(s->in, s->n_input == 0 ? LOOP_IN : 0)); /* stays as it is */
	}
}

/* Nobody is there any more. */
static void detach(struct serial_io *s)
{
	s->in = loop_fd_free(s->in);
	s->out = loop_fd_free(s->out);
	if (s->owned) {
		fd_close(&s->in_fd);
		fd_close(&s->out_fd);
	}
	s->owned = false;
	pthread_mutex_lock(&s->lock);
	s->in_fd = s->out_fd = -1;
	pthread_mutex_unlock(&s->lock);
	s->out_always_ready = false;
}

static void on_in(struct loop_fd *src, unsigned events, void *ud)
{
	struct serial_io *s = ud;

	(void)events;
	ssize_t n = sys_read(s->in_fd, s->input, sizeof(s->input));

	if (n == -EAGAIN) {
		return;
	}
	if (n <= 0) {
		s->in = loop_fd_free(src);
		if (s->owned) {
			detach(s);
		}
		return;
	}
	s->n_input = escape_filter(&s->escape, s->input, (size_t)n);
	pass_input(s);
}

static void on_wake(struct loop_fd *src, unsigned events, void *ud)
{
	struct serial_io *s = ud;
	uint64_t n = 0;

	(void)src, (void)events;
	ignore_result(sys_read(s->wake_fd, &n, sizeof(n))); /* only wakes */
	arm_output(s);
	if (s->n_input > 0) {
		pass_input(s);
	}
}

/* --- Making --- */

int serial_io_new(struct vm *vm, int in_fd, int out_fd, bool escape_key, struct serial_io **ret,
		  struct err *e)
{
	struct serial_io *s = mem_new(struct serial_io);

	if (!s) {
		return err_nomem(e);
	}
	*s = (struct serial_io){ .vm = vm, .in_fd = in_fd, .out_fd = out_fd, .wake_fd = -1 };
	escape_init(&s->escape, vm, escape_key);
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

/* What a file may still grow: what stands in it counts. */
static size_t room_in_file(int fd)
{
	struct stat st;

	if (sys_fstat(fd, &st) < 0) {
		return 0;
	}
	if (!S_ISREG(st.st_mode)) {
		return SIZE_MAX;
	}
	return st.st_size < FILE_MAX ? (size_t)(FILE_MAX - st.st_size) : 0;
}

static int watch(struct serial_io *s)
{
	struct loop *loop = vm_loop(s->vm);
	int r = 0;

	if (s->out_fd >= 0) {
		/* Asking for nothing would not tell a file from the rest. */
		r = loop_fd_new(loop, s->out_fd, LOOP_OUT, on_out, s, &s->out);
		s->out_always_ready = r == -EPERM;
		s->file_left = s->out_always_ready ? room_in_file(s->out_fd) : 0;
		r = r == -EPERM ? 0 : r;
	}
	if (r == 0 && s->in_fd >= 0) {
		r = loop_fd_new(loop, s->in_fd, LOOP_IN, on_in, s, &s->in);
		r = r == -EPERM ? 0 : r; /* a file: no input */
	}
	return r;
}

int serial_io_attach(struct serial_io *s, int own_fd, struct err *e)
{
	auto_close int in_fd = own_fd;
	auto_close int out_fd = sys_dup(own_fd);

	if (out_fd < 0) {
		return err_set(e, -out_fd, ERR_HOST, "console");
	}
	detach(s);
	s->owned = true;
	s->escape.on = false;
	s->in_fd = take_fd(&in_fd);
	pthread_mutex_lock(&s->lock);
	s->out_fd = take_fd(&out_fd);
	pthread_mutex_unlock(&s->lock);
	int r = watch(s);

	if (r < 0) {
		detach(s);
		return err_set(e, -r, ERR_HOST, "console");
	}
	return 0;
}

int serial_io_start(struct serial_io *s, struct serial *port, struct err *e)
{
	int r = 0;

	s->port = port;
	s->wake_fd = sys_eventfd(0, EFD_NONBLOCK);
	r = s->wake_fd < 0 ? s->wake_fd :
			     loop_fd_new(vm_loop(s->vm), s->wake_fd, LOOP_IN, on_wake, s, &s->wake);
	r = r < 0 ? r : watch(s);
	return r < 0 ? err_set(e, -r, ERR_HOST, "the serial port's descriptors") : 0;
}

struct serial_io *serial_io_free(struct serial_io *s)
{
	if (s) {
		escape_fini(&s->escape);
		detach(s);
		loop_fd_free(s->wake);
		fd_close(&s->wake_fd);
		pthread_mutex_destroy(&s->lock);
		free(s);
	}
	return NULL;
}
