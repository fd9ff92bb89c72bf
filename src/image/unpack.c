/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking, the part that has rights: it starts the two children, moves the bytes between
 * them, and hashes what it moves.
 *
 *	blob -> [digest] -> decompressor -> [diff id, bounds] -> tar reader -> files
 *
 * No byte is looked at here, so none can do harm here.
 */
#include "image/unpack.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "image/digest.h"
#include "image/idmap.h"
#include "image/unpack-child.h"
#include "sys/userns.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

const char *const unpack_ids_names[UNPACK_IDS__COUNT] = {
	[UNPACK_IDS_MAPPED] = "mapped", [UNPACK_IDS_PLAIN] = "plain",
	[UNPACK_IDS_SQUASHED] = "squashed",
};

const struct unpack_limits unpack_limits_default = {
	.entries = 1000000,
	.bytes = UINT64_C(256) << 30,
	.file_bytes = UINT64_C(1) << 40,
	.ratio = 200,
	.ratio_from = UINT64_C(256) << 20,
	.depth = 256,
	.path_bytes = 4095,
	.xattrs = 64,
	.xattr_bytes = 65536,
};

enum { CHUNK_BYTES = 256 * 1024 };

/* A child and what it says at its end. */
struct child {
	pid_t pid;          /* 0: none */
	int   report_fd;
};

/* Bytes on their way from one descriptor to another. */
struct stage {
	int            from, to;      /* -1: closed */
	char          *data;
	size_t         begin, end;    /* what is in data and not written */
	bool           eof;           /* nothing more to read */
	struct digest *hash;          /* of what was read */
	struct digest *diff;          /* the same, where the diff id has another algorithm */
	uint64_t       bytes;
};

struct work {
	const struct unpack_job *job;
	const struct unpack_limits *limits;
	enum unpack_ids ids;
	int             userns_fd;
	struct child    inflate, tar;
	struct stage    stages[2];
	size_t          n_stages;     /* 1: the blob is a plain tar */
};

/* --- how owners get on disk --- */

static void announce(const char *text)
{
	static bool said;

	/* A library that logs: once, as it is degraded and nobody else can tell. */
	if (!said) {
		said = true;
		log_warn(text);
	}
}

/* How many ids from 0 up are our own to give; a host that does not say so is no reason to guess. */
static int own_ids(uint32_t *ret, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	unsigned inside, outside, count;

	*ret = 0;
	if (geteuid() != 0) {
		return 0;
	}
	int r = sys_read_file(AT_FDCWD, "/proc/self/uid_map", 4096, &text);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "reading /proc/self/uid_map");
	}
	if (sscanf(buf_str(&text), "%u %u %u", &inside, &outside, &count) == 3 && inside == 0) {
		*ret = count;
	}
	return 0;
}

static bool cannot_map(int r)
{
	return r == -EINVAL || r == -EOPNOTSUPP || r == -EPERM || r == -ENOSYS;
}

/* 1: the target can be mapped, with w->userns_fd; 0: it cannot. */
static int try_mapped(struct work *w, struct err *e)
{
	const struct idmap map = { .base = UNPACK_BASE, .count = UNPACK_COUNT };
	int r = idmap_userns(&map, &w->userns_fd, e);

	if (r < 0) {
		return cannot_map(r) ? 0 : r;
	}
	auto_close int probe = idmap_clone(w->job->dir_fd, w->userns_fd, 0);

	if (probe >= 0) {
		return 1;
	}
	fd_close(&w->userns_fd);
	return cannot_map(probe) ? 0 : err_set(e, -probe, ERR_HOST, "unpacking: the new layer");
}

static int choose_ids(struct work *w, struct err *e)
{
	uint32_t own;
	int r = own_ids(&own, e);

	if (r < 0) {
		return r;
	}
	if (own <= 1) {
		w->ids = UNPACK_IDS_SQUASHED;
		announce("images are unpacked without their owners: this needs root");
		return 0;
	}
	r = own > UNPACK_BASE ? try_mapped(w, e) : 0;
	if (r < 0) {
		return r;
	}
	w->ids = r ? UNPACK_IDS_MAPPED : UNPACK_IDS_PLAIN;
	if (r > 0) {
		return 0;
	}
	const struct idmap plain = { .base = 0, .count = MIN(own, (uint32_t)UNPACK_COUNT) };

	err_clear(e);
	announce("the image store's file system or kernel cannot map ids: "
		 "layers are unpacked in a user namespace that has the host's own ids");
	return idmap_userns(&plain, &w->userns_fd, e);
}

/* --- children --- */

static void end_child(struct child *c)
{
	if (c->pid > 0) {
		sys_userns_reap(c->pid);
		c->pid = 0;
	}
	fd_close(&c->report_fd);
}

/* Descriptors of ours that a child must not keep: the far ends of its own pipes, and others'. */
static void close_stages(struct work *w)
{
	for (size_t i = 0; i < ARRAY_LEN(w->stages); i++) {
		fd_close(&w->stages[i].from);
		fd_close(&w->stages[i].to);
	}
	fd_close(&w->inflate.report_fd);
	fd_close(&w->tar.report_fd);
}

static int start_inflate(struct work *w, int in_fd, int out_fd, struct err *e)
{
	int report[2] = { -1, -1 };
	pid_t parent = getpid();
	int r = sys_pipe2(report, O_NONBLOCK);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "unpacking: a pipe");
	}
	w->inflate.report_fd = report[0];
	pid_t pid = sys_fork();

	if (pid == 0) {
		const struct inflate_child c = { .in_fd = in_fd, .out_fd = out_fd,
						 .report_fd = report[1], .kind = w->job->kind,
						 .parent = parent };

		close_stages(w);
		unpack__inflate_main(&c);
	}
	fd_close(&report[1]);
	if (pid < 0) {
		return err_set(e, (int)-pid, ERR_HOST, "unpacking: a process");
	}
	w->inflate.pid = pid;
	return 0;
}

static int start_tar(struct work *w, int in_fd, struct err *e)
{
	int report[2] = { -1, -1 };
	int r = sys_pipe2(report, O_NONBLOCK);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "unpacking: a pipe");
	}
	w->tar.report_fd = report[0];
	/* A user namespace of its own first, where only that gives the right to the others. */
	pid_t pid = sys_clone3(w->ids == UNPACK_IDS_SQUASHED ? 0 : CLONE_NEWPID, -1, NULL);

	if (pid == 0) {
		const struct tar_child c = { .in_fd = in_fd, .report_fd = report[1], .job = w->job,
					     .ids = w->ids, .userns_fd = w->userns_fd };

		close_stages(w);
		unpack__tar_main(&c);
	}
	fd_close(&report[1]);
	if (pid < 0) {
		return err_set(e, (int)-pid, ERR_HOST, "unpacking: a process");
	}
	w->tar.pid = pid;
	return 0;
}

/* Sockets, not pipes: a reader that is gone is then an error and not a signal. */
static int channel(int *ret_ours, int *ret_theirs, struct err *e)
{
	int fds[2];
	int r = sys_socketpair(SOCK_STREAM, fds);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "unpacking: a socket");
	}
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

static int start_children(struct work *w, struct err *e)
{
	auto_close int tar_in = -1, inflate_in = -1, inflate_out = -1;
	struct stage *last = &w->stages[w->n_stages - 1];
	int r = channel(&last->to, &tar_in, e);

	if (r == 0 && w->n_stages == 2) {
		r = channel(&w->stages[0].to, &inflate_in, e);
		if (r == 0) {
			r = channel(&last->from, &inflate_out, e);
		}
	}
	if (r == 0) {
		r = start_tar(w, tar_in, e);
	}
	fd_close(&tar_in); /* or the tar reader would never see that we have gone */
	if (r == 0 && w->n_stages == 2) {
		r = start_inflate(w, inflate_in, inflate_out, e);
	}
	return r;
}

/* --- moving bytes --- */

static int stage_init(struct stage *s, const char *algorithm, struct err *e)
{
	s->data = mem_calloc(1, CHUNK_BYTES);
	s->hash = digest_new(algorithm);
	return s->data && s->hash ? 0 : err_nomem(e);
}

static int stage_read(struct work *w, struct stage *s, struct err *e)
{
	ssize_t n = sys_read(s->from, s->data, CHUNK_BYTES);

	if (n == -EAGAIN) {
		return 0;
	}
	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "reading the layer");
	}
	s->begin = 0;
	s->end = (size_t)n;
	s->eof = n == 0;
	s->bytes += (uint64_t)n;
	digest_add(s->hash, s->data, (size_t)n);
	if (s->diff) {
		digest_add(s->diff, s->data, (size_t)n);
	}
	if (s == &w->stages[0] && w->job->progress) {
		w->job->progress(s->bytes, w->job->ud);
	}
	return 0;
}

/* -EPIPE, without a message: the child knows why. */
static int stage_write(struct stage *s, struct err *e)
{
	struct iovec iov = { .iov_base = s->data + s->begin, .iov_len = s->end - s->begin };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = sys_sendmsg(s->to, &msg, MSG_DONTWAIT);

	if (n == -EAGAIN) {
		return 0;
	}
	if (n == -EPIPE || n == -ECONNRESET) {
		return -EPIPE;
	}
	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "handing on the layer");
	}
	s->begin += (size_t)n;
	return 0;
}

static int check_bounds(const struct work *w, struct err *e)
{
	const struct unpack_limits *l = w->limits;
	uint64_t in = w->stages[0].bytes, out = w->stages[w->n_stages - 1].bytes;

	if (out > l->bytes) {
		return err_set(e, E2BIG, ERR_LIMIT, "the layer is larger than %llu bytes",
			       (unsigned long long)l->bytes);
	}
	if (out > l->ratio_from && out / l->ratio > in) {
		return err_set(e, E2BIG, ERR_LIMIT, "the layer is a bomb: %llu bytes became %llu",
			       (unsigned long long)in, (unsigned long long)out);
	}
	return 0;
}

/* One step of a stage that poll() says can take one. */
static int stage_step(struct work *w, struct stage *s, bool can_read, bool can_write,
		      struct err *e)
{
	int r = 0;

	if (can_write && s->begin < s->end) {
		r = stage_write(s, e);
	}
	if (r == 0 && can_read && s->begin == s->end && !s->eof) {
		r = stage_read(w, s, e);
		r = r < 0 ? r : check_bounds(w, e);
	}
	if (r == 0 && s->eof && s->to >= 0) {
		fd_close(&s->to); /* the end, for whoever reads */
	}
	return r;
}

static int pump(struct work *w, struct err *e)
{
	for (;;) {
		struct pollfd p[4] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
		bool done = true;

		for (size_t i = 0; i < w->n_stages; i++) {
			struct stage *s = &w->stages[i];
			bool empty = s->begin == s->end;

			p[2 * i] = (struct pollfd){ .fd = empty && !s->eof ? s->from : -1,
						    .events = POLLIN };
			p[2 * i + 1] = (struct pollfd){ .fd = empty ? -1 : s->to,
							.events = POLLOUT };
			done = done && s->eof && s->to < 0;
		}
		if (done) {
			return 0;
		}
		if (poll(p, 2 * w->n_stages, -1) < 0 && errno != EINTR) {
			return err_set(e, errno, ERR_HOST, "handing on the layer");
		}
		for (size_t i = 0; i < w->n_stages; i++) {
			int r = stage_step(w, &w->stages[i], p[2 * i].revents != 0,
					   p[2 * i + 1].revents != 0, e);

			if (r < 0) {
				return r;
			}
		}
	}
}

/* --- the end --- */

/* What a child said, made harmless. -ENODATA: it died without a word. */
static int read_report(struct child *c, struct unpack_report *ret)
{
	siginfo_t si;

	if (c->pid <= 0) {
		*ret = (struct unpack_report){ .errnum = 0 };
		return 0;
	}
	int r = sys_waitid(P_PID, (id_t)c->pid, &si, WEXITED);

	if (r < 0) {
		return r;
	}
	c->pid = 0;
	ssize_t n = sys_read(c->report_fd, ret, sizeof(*ret));

	if (n != (ssize_t)sizeof(*ret)) {
		return -ENODATA;
	}
	ret->msg[sizeof(ret->msg) - 1] = '\0';
	for (char *p = ret->msg; *p; p++) {
		*p = *p >= 0x20 && *p < 0x7f ? *p : '?';
	}
	if (ret->errnum < 0 || ret->errnum > 4095 || ret->code < 0 || ret->code >= ERR__COUNT) {
		ret->errnum = EBADMSG;
		ret->code = ERR_INVALID;
	}
	return 0;
}

static int child_error(const struct unpack_report *rep, int r, const char *what, struct err *e)
{
	if (r < 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "the %s died over the layer", what);
	}
	return rep->errnum ?
		       err_set(e, rep->errnum, (enum err_code)(rep->code ? rep->code : ERR_HOST),
			       "%s", rep->msg) :
		       0;
}

/* After the pump: how did it end? `pumped` is what pump() returned. */
static int judge(struct work *w, int pumped, struct unpack_result *ret, struct err *e)
{
	struct unpack_report tar, inflate;

	if (pumped < 0 && pumped != -EPIPE) {
		return pumped;
	}
	/* Without their channels both come to an end, if they have not yet. */
	for (size_t i = 0; i < w->n_stages; i++) {
		fd_close(&w->stages[i].to);
		if (i > 0) {
			fd_close(&w->stages[i].from);
		}
	}
	int r_inflate = read_report(&w->inflate, &inflate);
	int r_tar = read_report(&w->tar, &tar);

	/*
	 * A decompressor that stopped because nobody took its bytes has nothing to tell, and a
	 * tar that broke off because the decompressor did, neither.
	 */
	bool cut = r_inflate == 0 && (inflate.errnum == EPIPE || inflate.errnum == ECONNRESET);
	int r = cut ? 0 : child_error(&inflate, r_inflate, "decompressor", e);

	if (r == 0) {
		r = child_error(&tar, r_tar, "tar reader", e);
	}
	if (r < 0) {
		return r;
	}
	if (pumped < 0) {
		return err_set(e, EPIPE, ERR_HOST, "the layer was not read to its end");
	}
	if (tar.missing | inflate.missing) {
		announce("this kernel lacks Landlock or seccomp: images are unpacked with less of "
			 "a wall");
	}
	*ret = (struct unpack_result){ .entries = tar.entries,
				       .devices = tar.devices,
				       .ids = w->ids,
				       .bytes = w->stages[w->n_stages - 1].bytes };
	return 0;
}

/* The bytes that were used are the bytes that were meant. */
static int check_digests(struct work *w, struct unpack_result *ret, struct err *e)
{
	const struct unpack_job *job = w->job;
	struct digest_text blob = digest_end(w->stages[0].hash);
	const struct stage *last = &w->stages[w->n_stages - 1];
	struct digest_text diff = digest_end(last->diff ? last->diff : last->hash);

	if (!str_eq(blob.text, job->blob_digest)) {
		return err_set(e, EBADMSG, ERR_HOST, "the blob is damaged on disk: it is %s",
			       blob.text);
	}
	if (job->diff_id && !str_eq(diff.text, job->diff_id)) {
		return err_set(e, EBADMSG, ERR_INVALID, "the layer is not the one that the image's "
			       "config names: it is %s instead of %s", diff.text, job->diff_id);
	}
	(void)snprintf(ret->diff_id, sizeof(ret->diff_id), "%s", diff.text);
	return 0;
}

static int run(struct work *w, struct unpack_result *ret, struct err *e)
{
	const struct unpack_job *job = w->job;
	int r = stage_init(&w->stages[0], job->blob_digest, e);

	if (r == 0 && w->n_stages == 2) {
		r = stage_init(&w->stages[1], job->diff_id ? job->diff_id : "sha256", e);
	}
	if (r == 0 && w->n_stages == 1 && job->diff_id &&
	    strncmp(job->diff_id, job->blob_digest, 7) != 0) {
		w->stages[0].diff = digest_new(job->diff_id);
		r = w->stages[0].diff ? 0 : err_nomem(e);
	}
	if (r == 0) {
		r = choose_ids(w, e);
	}
	if (r == 0) {
		r = start_children(w, e);
	}
	if (r == 0) {
		w->stages[0].from = sys_dup(job->blob_fd);
		r = w->stages[0].from < 0 ? err_set(e, -w->stages[0].from, ERR_HOST, "the blob") :
					    0;
	}
	if (r < 0) {
		return r;
	}
	r = judge(w, pump(w, e), ret, e);
	return r < 0 ? r : check_digests(w, ret, e);
}

int unpack_layer(const struct unpack_job *job, struct unpack_result *ret, struct err *e)
{
	struct work w = {
		.job = job, .limits = job->limits ? job->limits : &unpack_limits_default,
		.userns_fd = -1, .inflate = { .report_fd = -1 }, .tar = { .report_fd = -1 },
		.stages = { { .from = -1, .to = -1 }, { .from = -1, .to = -1 } },
		.n_stages = job->kind == OCI_KIND_LAYER ? 1 : 2,
	};

	assert(oci_kind_is_layer(job->kind));
	int r = run(&w, ret, e);

	end_child(&w.inflate);
	end_child(&w.tar);
	for (size_t i = 0; i < ARRAY_LEN(w.stages); i++) {
		fd_close(&w.stages[i].from);
		fd_close(&w.stages[i].to);
		free(w.stages[i].data);
		digest_free(w.stages[i].hash);
		digest_free(w.stages[i].diff);
	}
	fd_close(&w.userns_fd);
	return r;
}
