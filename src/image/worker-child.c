/* SPDX-License-Identifier: Apache-2.0 */
#include "image/worker-private.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

struct worker {
	int sock;
};

static int gone(int r, struct err *e)
{
	return err_set(e, r < 0 ? -r : EPIPE, ERR_HOST, "the parent process is gone");
}

static int send_msg(struct worker *w, const struct worker__head *head, const void *data,
		    size_t n, struct err *e)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)head, .iov_len = sizeof(*head) },
		{ .iov_base = (void *)(uintptr_t)data, .iov_len = n },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n > 0 ? 2 : 1 };
	ssize_t r = sys_sendmsg(w->sock, &msg, 0);

	return r < 0 ? gone((int)r, e) : 0;
}

/* Wait for the reply. Its payload goes to `out` (n bytes); a descriptor to *ret_fd. */
static int get_reply(struct worker *w, struct worker__head *ret, void *out, size_t n, int *ret_fd,
		     struct err *e)
{
	struct {
		struct worker__head head;
		uint8_t             data[sizeof(struct err) + sizeof(struct blob_info)];
	} in;
	int fd = -1;
	size_t n_fds = 0;
	ssize_t r = sock_recv_fds(w->sock, &in, sizeof(in), &fd, 1, &n_fds);

	if (r < (ssize_t)sizeof(in.head)) {
		return gone(r < 0 ? (int)r : -EPIPE, e);
	}
	*ret = in.head;
	if (ret_fd && n_fds == 1) {
		*ret_fd = fd;
	} else if (n_fds == 1) {
		fd_close(&fd);
	}
	if (in.head.status < 0) {
		memcpy(e, in.data, sizeof(*e));
		return -e->errnum;
	}
	if (n > 0) {
		memcpy(out, in.data, n);
	}
	return in.head.status;
}

static int begin(struct worker *w, const char *digest, uint64_t size, const char *what,
		 bool at_hand, uint32_t *ret_blob, uint64_t *ret_offset, struct err *e)
{
	struct worker__head head = { .type = W_BEGIN }, reply;
	struct worker__begin b = { .size = size, .at_hand = at_hand };

	snprintf(b.digest, sizeof(b.digest), "%s", digest ? digest : "");
	snprintf(b.what, sizeof(b.what), "%s", what);

	int r = send_msg(w, &head, &b, sizeof(b), e);

	r = r < 0 ? r : get_reply(w, &reply, NULL, 0, NULL, e);
	if (r == 0) {
		*ret_blob = reply.index;
		*ret_offset = reply.value;
	}
	return r;
}

int worker_blob_begin(struct worker *w, const char *digest, uint64_t size, const char *what,
		      uint32_t *ret_blob, uint64_t *ret_offset, struct err *e)
{
	return begin(w, digest, size, what, false, ret_blob, ret_offset, e);
}

int worker_blob_data(struct worker *w, uint32_t blob, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;

	while (n > 0) {
		size_t part = MIN(n, (size_t)WORKER__DATA_MAX);
		struct worker__head head = { .type = W_DATA, .index = blob };
		int r = send_msg(w, &head, p, part, e);

		if (r < 0) {
			return r;
		}
		p += part;
		n -= part;
	}
	return 0;
}

int worker_blob_restart(struct worker *w, uint32_t blob, struct err *e)
{
	struct worker__head head = { .type = W_RESTART, .index = blob }, reply;
	int r = send_msg(w, &head, NULL, 0, e);

	return r < 0 ? r : get_reply(w, &reply, NULL, 0, NULL, e);
}

int worker_blob_end(struct worker *w, uint32_t blob, struct blob_info *ret, struct err *e)
{
	struct worker__head head = { .type = W_END, .index = blob }, reply;
	struct blob_info info;
	int r = send_msg(w, &head, NULL, 0, e);

	r = r < 0 ? r : get_reply(w, &reply, &info, sizeof(info), NULL, e);
	if (r == 0 && ret) {
		*ret = info;
	}
	return r;
}

int worker_blob_abandon(struct worker *w, uint32_t blob, struct err *e)
{
	struct worker__head head = { .type = W_ABANDON, .index = blob };

	return send_msg(w, &head, NULL, 0, e);
}

int worker_blob_put(struct worker *w, const char *digest, const char *what, const void *data,
		    size_t n, struct blob_info *ret, struct err *e)
{
	struct blob_info info = { .size = n };
	uint64_t offset;
	uint32_t blob;
	int r = begin(w, digest, n, what, true, &blob, &offset, e);

	if (r == 1) {
		snprintf(info.digest, sizeof(info.digest), "%s", digest);
	} else {
		r = r < 0 ? r : worker_blob_data(w, blob, data, n, e);
		r = r < 0 ? r : worker_blob_end(w, blob, &info, e);
	}
	if (r >= 0 && ret) {
		*ret = info;
	}
	return r < 0 ? r : 0;
}

int worker_open(struct worker *w, const char *name, uint64_t *ret_size, struct err *e)
{
	struct worker__head head = { .type = W_OPEN }, reply;
	int fd = -1;
	int r = send_msg(w, &head, name, strlen(name) + 1, e);

	r = r < 0 ? r : get_reply(w, &reply, NULL, 0, &fd, e);
	if (r < 0) {
		return r;
	}
	if (ret_size) {
		*ret_size = reply.value;
	}
	return fd;
}

int worker_image(struct worker *w, const struct worker_image *image, struct err *e)
{
	struct worker__head head = { .type = W_IMAGE };

	return send_msg(w, &head, image, sizeof(*image), e);
}

int worker_line(struct worker *w, const char *text, struct err *e)
{
	struct worker__head head = { .type = W_LINE };

	return send_msg(w, &head, text, MIN(strlen(text) + 1, (size_t)WORKER__DATA_MAX), e);
}

int worker_item(struct worker *w, const char *id, const char *what, uint64_t total,
		uint32_t *ret_item, struct err *e)
{
	struct worker__head head = { .type = W_ITEM }, reply;
	struct worker__begin b = { .size = total };

	snprintf(b.digest, sizeof(b.digest), "%s", id);
	snprintf(b.what, sizeof(b.what), "%s", what);

	int r = send_msg(w, &head, &b, sizeof(b), e);

	r = r < 0 ? r : get_reply(w, &reply, NULL, 0, NULL, e);
	if (r == 0) {
		*ret_item = reply.index;
	}
	return r;
}

int worker_set(struct worker *w, uint32_t item, enum progress_state state, uint64_t done,
	       struct err *e)
{
	struct worker__head head = { .type = W_SET, .index = item, .value = done,
				     .status = (int32_t)state };

	return send_msg(w, &head, NULL, 0, e);
}

int worker_text(struct worker *w, struct err *e, const char *fmt, ...)
{
	struct worker__head head = { .type = W_TEXT };
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return send_msg(w, &head, text, strlen(text) + 1, e);
}

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return x < y ? -1 : x > y;
}

/*
 * Leave open: 0..2 (standard input and output as /dev/null), the socket, and the listed
 * descriptors, of which there are few.
 */
static int keep_only(int sock, const int *keep, size_t n_keep)
{
	auto_close int null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
	int fds[40];
	size_t n = 0;

	if (null < 0 || n_keep + 1 > ARRAY_LEN(fds)) {
		return null < 0 ? null : -E2BIG;
	}
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0) {
		return -errno;
	}
	fds[n++] = sock;
	for (size_t i = 0; i < n_keep; i++) {
		fds[n++] = keep[i];
	}
	qsort(fds, n, sizeof(fds[0]), compare_ints);

	unsigned from = 3;

	for (size_t i = 0; i < n; i++) {
		unsigned fd = (unsigned)fds[i];

		if (fd > from) {
			int r = sys_close_range(from, fd - 1, 0);

			if (r < 0) {
				return r;
			}
		}
		from = MAX(from, fd + 1);
	}

	int r = sys_close_range(from, ~0u, 0);

	null = null >= 3 ? -1 : null;   /* closed with the others */
	return r;
}

void worker__child(const struct worker_run *run, int sock, pid_t parent)
{
	struct worker w = { .sock = sock };
	struct err e = ERR_INIT;
	unsigned missing = 0;

	(void)signal(SIGPIPE, SIG_IGN);  /* known signals: cannot fail */
	(void)signal(SIGINT, SIG_IGN);   /* the parent ends us, after it has stopped itself */
	(void)signal(SIGTERM, SIG_DFL);

	int r = keep_only(sock, run->keep_fds, run->n_keep_fds);

	if (r < 0) {
		r = err_set(&e, -r, ERR_HOST, "%s: descriptors", run->confine->name);
	}
	r = r < 0 ? r : confine_enter(run->confine, parent, &missing, &e);
	r = r < 0 ? r : run->main(&w, run->job, &e);

	struct worker__head head = { .type = r < 0 ? W_FAIL : W_FINISH, .value = missing };
	struct err ignored = ERR_INIT;

	r = send_msg(&w, &head, r < 0 ? &e : NULL, r < 0 ? sizeof(e) : 0, &ignored);
	_exit(r < 0 ? 1 : 0);
}
