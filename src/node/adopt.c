/* SPDX-License-Identifier: Apache-2.0 */
#include "node/adopt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/store.h"
#include "node/instance.h"
#include "node/life.h"
#include "node/shim.h"
#include "sys/file.h"

enum { SWEEP_AGAIN_S = 5 };

/* Remove what is in a folder of instances and belongs to none; false if something stays. */
static bool sweep(struct node *n, const char *parent)
{
	auto_free char *path = str_printf("%s/instances", parent);
	DIR *dir = path ? opendir(path) : NULL;
	bool clean = dir != NULL || (path && errno == ENOENT);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		if (id_valid(d->d_name) && !instance_by_id(n, d->d_name) &&
		    sys_remove_tree(dirfd(dir), d->d_name) < 0) {
			log_warn("a leftover cannot be removed", "path", path, "name", d->d_name);
			clean = false;
		}
	}
	if (dir) {
		closedir(dir);
	}
	return clean;
}

static void on_sweep(struct loop_timer *t, void *ud)
{
	struct node *n = ud;
	bool run = sweep(n, n->conf.run_dir), state = sweep(n, n->conf.state_dir);

	if (!run || !state) {
		loop_timer_start(t, SWEEP_AGAIN_S * NS_PER_SEC);
	}
}

void adopt_sweep_later(struct node *n)
{
	if (n->sweep_timer || loop_timer_new(n->loop, on_sweep, n, &n->sweep_timer) == 0) {
		loop_timer_start(n->sweep_timer, SWEEP_AGAIN_S * NS_PER_SEC);
	}
}

/* Run-time folders of an earlier boot: what they speak of is gone. */
static void drop_run_time(struct node *n)
{
	static const char *const names[] = { "instances", "oci" };
	auto_close int fd = sys_openat(AT_FDCWD, n->conf.run_dir, O_RDONLY | O_DIRECTORY, 0);

	for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(names); i++) {
		if (sys_remove_tree(fd, names[i]) < 0) {
			log_warn("run-time folders of the last boot are left", "name", names[i]);
		}
	}
}

struct pins {
	struct node *node;
	struct strv  unknown;
};

static int on_pin(const char *user, const char *manifest, void *ud)
{
	struct pins *p = ud;

	(void)manifest;
	return id_valid(user) && !instance_by_id(p->node, user) ? strv_add(&p->unknown, user) : 0;
}

/* Pins of instances that are no more; and once more those of the instances that are. */
static void renew_pins(struct node *n)
{
	auto_free char *path = str_printf("%s/images", n->conf.state_dir);
	struct pins pins = { .node = n, .unknown = STRV_INIT };
	struct err e = ERR_INIT;
	struct store *s = NULL;

	if (!path || access(path, F_OK) < 0) {
		return;
	}
	int r = node_images(n, &s, &e);

	r = r < 0 ? r : store_pins(s, on_pin, &pins, &e);
	for (size_t i = 0; r == 0 && i < pins.unknown.n; i++) {
		r = store_unpin(s, pins.unknown.v[i], &e);
	}
	list_for_each (struct instance, i, &n->instances, link) {
		if (r == 0 && i->status.image_digest && i->spec.auto_remove) {
			r = store_pin(s, i->status.image_digest, i->id, false, &e);
		}
	}
	if (r < 0) {
		log_err(LOG_LEVEL_WARN, &e);
	}
	strv_fini(&pins.unknown);
}

static bool has_run_dir(const struct instance *i)
{
	auto_free char *dir = instance_run_dir(i);

	return dir && access(dir, F_OK) == 0;
}

static void adopt_one(struct instance *i)
{
	struct err e = ERR_INIT;
	bool active = instance_active(i);

	if (!active && !has_run_dir(i)) {
		return;
	}
	if (shim_adopt(i, &e) == 0) {
		return;
	}
	if (active) {
		log_warn("an instance's shim is gone", "instance", i->id);
	}
	/* Its record, if there is one, or that nobody knows; then what is left goes. */
	life_on_shim_end(i, &e);
}

/* Started instances wait for their restart again; those to be removed at their end go. */
static void resume_waiting(struct instance *i)
{
	bool next = i->status.state == INSTANCE_EXITED &&
		    (i->spec.auto_remove || i->spec.restart.policy != RESTART_NO);

	if ((next || i->status.state == INSTANCE_RESTARTING) && !i->shim && !i->cleanup) {
		loop_timer_start(i->timer, 0);
	}
}

int adopt_all(struct node *n, struct err *e)
{
	auto_free char *boot_id = NULL;
	int r = rstore_meta_get(n->rstore, "boot-id", &boot_id, e);

	if (r < 0) {
		return r;
	}
	/* Not known: a store of before it was kept there, or a new one. */
	bool rebooted = boot_id && !str_eq(boot_id, n->boot_id);

	if (rebooted) {
		drop_run_time(n);
	}
	renew_pins(n);
	list_for_each_safe (struct instance, i, &n->instances, link) {
		if (rebooted) {
			life_after_boot(i);
		} else {
			adopt_one(i);
		}
	}
	list_for_each_safe (struct instance, i, &n->instances, link) {
		resume_waiting(i);
	}
	bool run = sweep(n, n->conf.run_dir), state = sweep(n, n->conf.state_dir);

	if (!run || !state) {
		adopt_sweep_later(n);
	}
	return rebooted || !boot_id ? rstore_meta_put(n->rstore, "boot-id", n->boot_id, e) : 0;
}
