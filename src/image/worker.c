/* SPDX-License-Identifier: Apache-2.0 */
#include "image/worker-private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "image/cancel.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

/* A blob on its way, or a plain item of progress (without a writer). */
struct item {
	struct blob_writer *writer;
	char                digest[OCI_DIGEST_MAX];   /* "" not known */
	size_t              progress;
	uint64_t            done;
};

struct host {
	const struct worker_run *run;
	int                      sock;
	struct item             *items;
	size_t                   n_items, cap;
	size_t                   n_writers;
	struct arena            *arena;
	struct worker_images     images;
	size_t                   images_cap;
	bool                     finished;    /* the child said that all is well */
};

/* The largest message of the child. */
struct message {
	struct worker__head head;
	uint8_t             data[WORKER__DATA_MAX];
	uint8_t             end;   /* a NUL behind texts */
};

/* The child broke the protocol: it is not our program any more. */
static int broken(struct host *h, const char *what, struct err *e)
{
	return err_set(e, EPROTO, ERR_HOST, "%s: broken message (%s)", h->run->confine->name, what);
}

static int reply(struct host *h, const struct worker__head *head, const void *data, size_t n,
		 int fd, struct err *e)
{
	uint8_t out[sizeof(*head) + sizeof(struct err) + sizeof(struct blob_info)];

	memcpy(out, head, sizeof(*head));
	if (n > 0) {
		memcpy(out + sizeof(*head), data, n);
	}

	int r = sock_send_fds(h->sock, out, sizeof(*head) + n, &fd, fd >= 0 ? 1 : 0);

	return r < 0 ? err_set(e, -r, ERR_HOST, "%s: no reply", h->run->confine->name) : 0;
}

/* A failure that the child decides about. */
static int reply_err(struct host *h, const struct err *why, struct err *e)
{
	struct worker__head head = { .type = W_REPLY, .status = -why->errnum };

	return reply(h, &head, why, sizeof(*why), -1, e);
}

static int new_item(struct host *h, const struct worker__begin *b, struct item **ret,
		    uint32_t *ret_index, struct err *e)
{
	if (h->n_items >= WORKER__ITEMS_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "%s: more than %d blobs",
			       h->run->confine->name, WORKER__ITEMS_MAX);
	}
	if (h->n_items == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 16;
		struct item *items = mem_realloc(h->items, cap, sizeof(*items));

		if (!items) {
			return err_nomem(e);
		}
		h->items = items;
		h->cap = cap;
	}

	struct item *i = &h->items[h->n_items];

	*i = (struct item){ .writer = NULL };
	snprintf(i->digest, sizeof(i->digest), "%s", b->digest);
	i->progress = progress_add(h->run->progress, b->digest[0] ? b->digest : "-", b->what,
				   b->size == UINT64_MAX ? 0 : b->size);
	*ret_index = (uint32_t)h->n_items++;
	*ret = i;
	return 0;
}

static int take_begin(const struct message *m, size_t n, struct worker__begin *ret)
{
	if (n != sizeof(*ret)) {
		return -EPROTO;
	}
	memcpy(ret, m->data, sizeof(*ret));
	ret->digest[sizeof(ret->digest) - 1] = '\0';
	ret->what[sizeof(ret->what) - 1] = '\0';
	return 0;
}

static int on_begin(struct host *h, const struct message *m, size_t n, struct err *e)
{
	struct worker__head head = { .type = W_REPLY };
	struct worker__begin b;
	struct err why = ERR_INIT;
	struct item *i = NULL;

	if (take_begin(m, n, &b) < 0 || !h->run->store ||
	    (b.digest[0] != '\0' && !oci_digest_valid(b.digest))) {
		return broken(h, "begin", e);
	}

	int r = new_item(h, &b, &i, &head.index, e);

	if (r < 0) {
		return r;
	}
	if (b.digest[0] != '\0' && store_blob_has(h->run->store, b.digest, b.size)) {
		progress_set(h->run->progress, i->progress, PROGRESS_EXISTS, b.size);
		head.status = 1;
		return reply(h, &head, NULL, 0, -1, e);
	}
	if (h->n_writers >= WORKER__BLOBS_MAX) {
		return broken(h, "too many blobs at once", e);
	}
	r = blob_writer_open(h->run->store, b.digest[0] ? b.digest : NULL, b.size,
			     b.digest[0] && !b.at_hand ? BLOB_RESUME : 0, &i->writer, &why);
	if (r < 0) {
		i->writer = NULL;
		return reply_err(h, &why, e);
	}
	h->n_writers++;
	i->done = head.value = blob_writer_offset(i->writer);
	progress_set(h->run->progress, i->progress, PROGRESS_ACTIVE, i->done);
	return reply(h, &head, NULL, 0, -1, e);
}

static struct item *item_of(struct host *h, const struct message *m, bool writer)
{
	struct item *i = m->head.index < h->n_items ? &h->items[m->head.index] : NULL;

	return i && writer && !i->writer ? NULL : i;
}

static int on_data(struct host *h, struct item *i, const struct message *m, size_t n,
		   struct err *e)
{
	int r = blob_writer_write(i->writer, m->data, n, e);

	i->done += n;
	progress_set(h->run->progress, i->progress, PROGRESS_ACTIVE, i->done);
	return r;
}

static void drop_writer(struct host *h, struct item *i)
{
	blob_writer_free(i->writer);
	i->writer = NULL;
	h->n_writers--;
}

static int on_end(struct host *h, struct item *i, struct err *e)
{
	struct worker__head head = { .type = W_REPLY };
	struct blob_info info = { .size = 0 };
	struct err why = ERR_INIT;
	int r = blob_writer_commit(i->writer, &info, &why);

	drop_writer(h, i);
	if (r < 0) {
		return reply_err(h, &why, e);
	}
	progress_known(h->run->progress, i->progress, info.digest, info.size);
	progress_set(h->run->progress, i->progress, PROGRESS_DONE, info.size);
	return reply(h, &head, &info, sizeof(info), -1, e);
}

static int on_restart(struct host *h, struct item *i, struct err *e)
{
	struct worker__head head = { .type = W_REPLY };
	struct err why = ERR_INIT;
	int r = blob_writer_restart(i->writer, &why);

	if (r < 0) {
		return reply_err(h, &why, e);
	}
	i->done = 0;
	progress_set(h->run->progress, i->progress, PROGRESS_RETRYING, 0);
	return reply(h, &head, NULL, 0, -1, e);
}

static int on_open(struct host *h, const struct message *m, size_t n, struct err *e)
{
	struct worker__head head = { .type = W_REPLY };
	struct err why = ERR_INIT;
	const char *name = (const char *)m->data;

	if (!h->run->open || n == 0 || n > 256 || memchr(name, '\0', n) != name + n - 1) {
		return broken(h, "open", e);
	}

	auto_close int fd = h->run->open(name, &head.value, h->run->ud, &why);

	return fd < 0 ? reply_err(h, &why, e) : reply(h, &head, NULL, 0, fd, e);
}

static int on_image(struct host *h, const struct message *m, size_t n, struct err *e)
{
	struct worker_image image;

	if (n != sizeof(image) || !h->arena || h->images.n >= WORKER__IMAGES_MAX) {
		return broken(h, "image", e);
	}
	memcpy(&image, m->data, sizeof(image));
	image.name[sizeof(image.name) - 1] = '\0';
	image.manifest[sizeof(image.manifest) - 1] = '\0';
	image.media_type[sizeof(image.media_type) - 1] = '\0';
	image.source[sizeof(image.source) - 1] = '\0';
	if (!oci_digest_valid(image.manifest) ||
	    oci_kind_of(image.media_type) != OCI_KIND_MANIFEST ||
	    (image.source[0] != '\0' && !oci_digest_valid(image.source))) {
		return broken(h, "image", e);
	}
	if (h->images.n == h->images_cap) {
		size_t cap = h->images_cap ? h->images_cap * 2 : 4;
		struct worker_image *v = arena_alloc(h->arena, cap, sizeof(*v));

		if (!v) {
			return err_nomem(e);
		}
		if (h->images.n > 0) {
			memcpy(v, h->images.v, h->images.n * sizeof(*v));
		}
		h->images.v = v;
		h->images_cap = cap;
	}
	h->images.v[h->images.n++] = image;
	return 0;
}

static int on_item(struct host *h, const struct message *m, size_t n, struct err *e)
{
	struct worker__head head = { .type = W_REPLY };
	struct worker__begin b;
	struct item *i = NULL;

	if (take_begin(m, n, &b) < 0) {
		return broken(h, "item", e);
	}

	int r = new_item(h, &b, &i, &head.index, e);

	return r < 0 ? r : reply(h, &head, NULL, 0, -1, e);
}

static int on_fail(struct host *h, const struct message *m, size_t n, struct err *e)
{
	struct err said;

	if (n != sizeof(said)) {
		return broken(h, "fail", e);
	}
	memcpy(&said, m->data, sizeof(said));
	said.msg[sizeof(said.msg) - 1] = '\0';
	for (char *p = said.msg; *p != '\0'; p++) {
		*p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
	}
	if (said.errnum <= 0 || said.code <= ERR_NONE || said.code >= ERR__COUNT) {
		return broken(h, "fail", e);
	}
	return err_set(e, said.errnum, said.code, "%s", said.msg);
}

static int dispatch(struct host *h, struct message *m, size_t n, struct err *e)
{
	enum worker__type type = m->head.type < W__COUNT ? (enum worker__type)m->head.type :
							   W__COUNT;
	bool needs_writer = type == W_DATA || type == W_RESTART || type == W_END ||
			    type == W_ABANDON;
	struct item *i = item_of(h, m, needs_writer);

	if ((needs_writer || type == W_SET) && !i) {
		return broken(h, "number", e);
	}
	((uint8_t *)m->data)[n] = '\0';
	switch (type) {
	case W_BEGIN:
		return on_begin(h, m, n, e);
	case W_DATA:
		return on_data(h, i, m, n, e);
	case W_RESTART:
		return on_restart(h, i, e);
	case W_END:
		return on_end(h, i, e);
	case W_ABANDON:
		drop_writer(h, i);
		return 0;
	case W_OPEN:
		return on_open(h, m, n, e);
	case W_IMAGE:
		return on_image(h, m, n, e);
	case W_ITEM:
		return on_item(h, m, n, e);
	case W_SET:
		if (m->head.status < 0 || m->head.status >= PROGRESS_STATE__COUNT) {
			return broken(h, "state", e);
		}
		progress_set(h->run->progress, i->progress, (enum progress_state)m->head.status,
			     m->head.value);
		return 0;
	case W_TEXT:
		progress_text(h->run->progress, "%s", (const char *)m->data);
		return 0;
	case W_LINE:
		if (!h->run->lines || h->run->lines->n >= WORKER__LINES_MAX) {
			return broken(h, "line", e);
		}
		return strv_add(h->run->lines, (const char *)m->data) < 0 ? err_nomem(e) : 0;
	case W_FAIL:
		return on_fail(h, m, n, e);
	case W_FINISH:
		h->finished = true;
		if (m->head.value & CONFINE_NO_LANDLOCK) {
			log_debug("no Landlock on this kernel", "worker", h->run->confine->name);
		}
		return 0;
	case W_REPLY:
	case W__COUNT:
		break;
	}
	return broken(h, "type", e);
}

/* Serve until the child is done, fails, or shuts its socket. */
static int serve(struct host *h, struct message *m, struct err *e)
{
	while (!h->finished) {
		struct pollfd p[2] = {
			{ .fd = h->sock, .events = POLLIN },
			{ .fd = h->run->watch_fd ? *h->run->watch_fd : -1, .events = POLLIN },
		};
		int r = cancel_check(e);

		if (r < 0) {
			return r;
		}
		progress_draw(h->run->progress, false);
		r = poll(p, 2, 100);
		if (r < 0 && errno != EINTR) {
			return err_set(e, errno, ERR_HOST, "poll");
		}
		if (r > 0 && p[1].revents) {
			h->run->on_watch(h->run->watch_fd, h->run->watch_ud);
		}
		if (r <= 0 || !p[0].revents) {
			continue;
		}

		ssize_t n = recv(h->sock, &m->head, sizeof(m->head) + sizeof(m->data), 0);

		if (n < (ssize_t)sizeof(m->head)) {
			return n > 0 ? broken(h, "short", e) : 0;   /* its end says why */
		}
		r = dispatch(h, m, (size_t)n - sizeof(m->head), e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int reap(struct host *h, pid_t pid, int r, struct err *e)
{
	siginfo_t si;

	if (r < 0) {
		ignore_result(sys_kill(pid, SIGKILL)); /* ours, and not yet waited for */
	}

	int s = sys_waitid(P_PID, (id_t)pid, &si, WEXITED);

	if (r < 0) {
		return r;
	}
	if (s < 0) {
		return err_set(e, -s, ERR_HOST, "%s: lost", h->run->confine->name);
	}
	if (!h->finished) {
		return err_set(e, EIO, ERR_HOST, "%s: ended unexpectedly with status %d",
			       h->run->confine->name, proc_exit_status(&si));
	}
	return 0;
}

int worker_run(const struct worker_run *run, struct arena *a, struct worker_images *ret,
	       struct err *e)
{
	struct host h = { .run = run, .sock = -1, .arena = a };
	auto_free struct message *m = mem_new(struct message);
	int socks[2];

	if (!m) {
		return err_nomem(e);
	}

	int r = sys_socketpair(SOCK_SEQPACKET, socks);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s: socket", run->confine->name);
	}
	(void)fflush(NULL);   /* so that nothing is written twice */

	pid_t parent = getpid(), pid = sys_fork();

	if (pid == 0) {
		worker__child(run, socks[1], parent);
	}
	fd_close(&socks[1]);
	h.sock = socks[0];
	r = pid < 0 ? err_set(e, -pid, ERR_HOST, "%s: no process", run->confine->name) :
		      serve(&h, m, e);
	fd_close(&h.sock);
	if (pid > 0) {
		r = reap(&h, pid, r, e);
	}
	for (size_t i = 0; i < h.n_items; i++) {
		if (h.items[i].writer) {
			drop_writer(&h, &h.items[i]);
		}
	}
	free(h.items);
	if (r == 0 && ret) {
		*ret = h.images;
	}
	return r;
}
