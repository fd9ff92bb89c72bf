/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/store.h"
#include "node/adopt.h"
#include "node/api.h"
#include "node/events.h"
#include "node/instance.h"
#include "node/notify.h"
#include "node/op.h"
#include "node/shim.h"
#include "sys/file.h"
#include "sys/socket.h"

/* --- Shared services --- */

int node_images(struct node *n, struct store **ret, struct err *e)
{
	if (!n->images) {
		auto_free char *path = str_printf("%s/images", n->conf.state_dir);
		int r = path ? store_open(path, STORE_CREATE, &n->images, e) : err_nomem(e);

		if (r < 0) {
			return r;
		}
	}
	*ret = n->images;
	return 0;
}

int node_ids_take(struct node *n, uint64_t *ret_base, struct err *e)
{
	for (uint32_t k = 0; k < NODE_ID_RANGES; k++) {
		if (!(n->id_ranges[k / 8] & BIT(k % 8))) {
			n->id_ranges[k / 8] |= (uint8_t)BIT(k % 8);
			*ret_base = n->conf.id_base + (uint64_t)k * NODE_ID_RANGE;
			return 0;
		}
	}
	return err_set(e, ENOSPC, ERR_LIMIT, "all %d ranges of ids are in use: remove instances, or "
		       "use --userns host", NODE_ID_RANGES);
}

static uint32_t range_of(const struct node *n, uint64_t base)
{
	return base < n->conf.id_base ? NODE_ID_RANGES :
	       (uint32_t)MIN((base - n->conf.id_base) / NODE_ID_RANGE, (uint64_t)NODE_ID_RANGES);
}

void node_ids_mark(struct node *n, uint64_t base)
{
	uint32_t k = range_of(n, base);

	if (k < NODE_ID_RANGES) {
		n->id_ranges[k / 8] |= (uint8_t)BIT(k % 8);
	}
}

void node_ids_give(struct node *n, uint64_t base)
{
	uint32_t k = range_of(n, base);

	if (k < NODE_ID_RANGES) {
		n->id_ranges[k / 8] &= (uint8_t)~BIT(k % 8);
	}
}

/* --- Start --- */

static int make_dir(const char *path, mode_t mode, struct err *e)
{
	int r = sys_mkdir_p(AT_FDCWD, path, mode);

	r = r < 0 ? r : sys_fchmodat(AT_FDCWD, path, mode);
	return r < 0 ? err_set(e, -r, ERR_HOST, "the folder %s", path) : 0;
}

static int make_dirs(struct node *n, struct err *e)
{
	auto_free char *instances = str_printf("%s/instances", n->conf.run_dir);
	int r = make_dir(n->conf.state_dir, 0700, e);

	r = r < 0 ? r : make_dir(n->conf.run_dir, 0711, e);
	return r < 0 ? r : instances ? make_dir(instances, 0711, e) : err_nomem(e);
}

/*
 * One daemon for a run-time folder; the kernel frees the lock when it dies. It belongs to the
 * process and not to the open file, as a child that outlives us for a moment must not hold it.
 */
static int take_lock(struct node *n, struct err *e)
{
	auto_free char *path = str_printf("%s/holmd.lock", n->conf.run_dir);

	if (!path) {
		return err_nomem(e);
	}
	n->lock_fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int r = n->lock_fd < 0 ? n->lock_fd : sys_fcntl(n->lock_fd, F_SETLK, (long)&lock);

	return r == -EAGAIN || r == -EACCES ? err_set(e, EBUSY, ERR_CONFLICT, "another holmd uses %s",
					   n->conf.run_dir) :
	       r < 0 ? err_set(e, -r, ERR_HOST, "%s", path) : 0;
}

static int read_boot_id(struct node *n, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;

	if (n->conf.boot_id) {
		snprintf(n->boot_id, sizeof(n->boot_id), "%s", n->conf.boot_id);
		return 0;
	}
	int r = sys_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the boot id");
	}
	snprintf(n->boot_id, sizeof(n->boot_id), "%.36s", buf_str(&b));
	return 0;
}

/* Grows with each start, so that a shim can tell us from our predecessor. */
static int claim_epoch(struct node *n, struct err *e)
{
	auto_free char *text = NULL;
	char next[24];
	int r = rstore_meta_get(n->rstore, "epoch", &text, e);

	if (r < 0) {
		return r;
	}
	if (text && parse_u64(text, UINT64_MAX - 1, &n->epoch) < 0) {
		return err_set(e, EBADMSG, ERR_HOST, "the stored epoch is no number");
	}
	n->epoch++;
	snprintf(next, sizeof(next), "%llu", (unsigned long long)n->epoch);
	return rstore_meta_put(n->rstore, "epoch", next, e);
}

/* 0660, whoever made it; one that a dead daemon left is replaced. */
static int listen_at(const char *path, struct err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(addr.sun_path)) {
		return err_set(e, ENAMETOOLONG, ERR_INVALID,
			       "the socket's path may have %zu bytes at most: %s",
			       sizeof(addr.sun_path) - 1, path);
	}
	memcpy(addr.sun_path, path, strlen(path));
	auto_close int fd = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? fd : sys_unlinkat(AT_FDCWD, path, 0);
	mode_t mask = umask(0117);

	r = r == -ENOENT ? 0 : r;
	r = r < 0 ? r : sys_bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	r = r < 0 ? r : sys_listen(fd, 1024);
	return r < 0 ? err_set(e, -r, ERR_HOST, "listen on %s", path) : take_fd(&fd);
}

static int open_all(struct node *n, struct err *e)
{
	int r = make_dirs(n, e);

	r = r < 0 ? r : take_lock(n, e);
	r = r < 0 ? r : read_boot_id(n, e);
	r = r < 0 ? r : rstore_open(n->conf.state_dir, &n->rstore, e);
	r = r < 0 ? r : claim_epoch(n, e);
	r = r < 0 ? r : instance_load_all(n, e);
	return r < 0 ? r : adopt_all(n, e);
}

static void on_end_signal(struct loop_signal *s, int signo, void *ud)
{
	(void)s;
	(void)signo;
	loop_stop(ud);
}

/* Children that were cancelled, and those of a shim's making that came to us. */
static void on_child_signal(struct loop_signal *s, int signo, void *ud)
{
	(void)s;
	(void)signo;
	loop_reap(ud, NULL, NULL);
}

static void close_all(struct node *n)
{
	n->api = api_free(n->api);
	ops_end(n);
	list_for_each_safe (struct instance, i, &n->instances, link) {
		shim_detach(i);
		instance_unload(i);
	}
	n->sweep_timer = loop_timer_free(n->sweep_timer);
	events_end(n);
	if (n->images) {
		store_close(n->images);
	}
	rstore_close(n->rstore);
	fd_close(&n->lock_fd);
}

struct sources {
	struct loop_signal *term, *intr, *chld;
};

static int serve(struct node *n, struct err *e)
{
	auto_close int own_fd = -1;
	int fd = n->conf.listen_fd;

	if (fd < 0) {
		own_fd = fd = listen_at(n->conf.socket, e);
	}
	int r = fd < 0 ? fd : api_new(n, n->loop, fd, &n->api, e);

	if (r < 0) {
		return r;
	}
	notify_ready();
	log_notice("ready", "socket", n->conf.socket);
	r = loop_run(n->loop);
	log_notice("ending; instances go on");
	n->api = api_free(n->api);
	return r < 0 ? err_set(e, -r, ERR_HOST, "wait for events") : 0;
}

int node_run(const struct node_conf *conf, struct err *e)
{
	auto_free struct node *n = mem_new(struct node);
	struct sources s = { .term = NULL };

	if (!n) {
		return err_nomem(e);
	}
	n->conf = *conf;
	n->lock_fd = -1;
	list_init(&n->instances);
	list_init(&n->ops);
	list_init(&n->event_readers);
	list_init(&n->event_log);
	n->started_ns = clock_wall_ns();
	signal(SIGPIPE, SIG_IGN);
	int r = loop_new(&n->loop);

	r = r < 0 ? r : loop_signal_new(n->loop, SIGTERM, on_end_signal, n->loop, &s.term);
	r = r < 0 ? r : loop_signal_new(n->loop, SIGINT, on_end_signal, n->loop, &s.intr);
	r = r < 0 ? r : loop_signal_new(n->loop, SIGCHLD, on_child_signal, n->loop, &s.chld);
	r = r < 0 ? err_set(e, -r, ERR_HOST, "the event loop") : open_all(n, e);
	r = r < 0 ? r : serve(n, e);
	close_all(n);
	loop_signal_free(s.term);
	loop_signal_free(s.intr);
	loop_signal_free(s.chld);
	loop_free(n->loop);
	return r;
}
