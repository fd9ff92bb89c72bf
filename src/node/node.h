/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon as a library: what its files share. main/holmd.c makes a configuration of its
 * arguments and runs it.
 *
 *	http.c api.c openapi.c   requests, routes, the document
 *	instance.c spec.c load.c the object, its tables, its way out of the store
 *	life.c                   start, exit, restart, stop
 *	shim.c                   the connection to one instance's shim
 *	bundle.c                 config.json and files for an instance, in a child
 *	adopt.c                  what a predecessor left: shims that run, leftovers
 *	op.c                     operations: the only asynchronous job
 *	work.c                   short work in a child of ours, with its result
 *	h-*.c                    handlers, with their tables
 *
 * Context: one thread, one loop; whatever blocks happens in a child.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"
#include "store/rstore.h"

struct api;
struct store;
struct instance;

struct node_conf {
	const char *state_dir;      /* persistent */
	const char *run_dir;        /* goes with a reboot */
	const char *socket;         /* path; NULL with listen_fd */
	int         listen_fd;      /* -1: made by us at `socket` */
	const char *oci;            /* path of the runtime */
	const char *vm;             /* of holm-vm, the runtime of virtual machines */
	const char *shim;           /* of holm-shim */
	const char *image;          /* of holm-image */
	const char *init;           /* of a small init for --init; NULL: none */
	const char *net;            /* of holm-net */
	const char *pasta;
	const char *boot_id;        /* NULL: the kernel's */
	uint32_t    id_base;        /* first host id that instances may get */
	bool        systemd_cgroup;
	bool        debug;
	const char *cgroup_parent;  /* "/holm" */
};

struct node {
	struct node_conf conf;
	struct loop     *loop;
	struct loop_timer *sweep_timer; /* folders that could not be removed; NULL until needed */
	struct rstore   *rstore;
	struct store    *images;     /* NULL until first used */
	struct api      *api;
	struct list      instances;
	size_t           n_instances;
	struct list      ops;
	size_t           n_ops;
	struct list      event_readers;
	struct list      event_log;
	size_t           n_events;
	uint64_t         event_seq;
	char             boot_id[40];
	uint64_t         epoch;       /* of this daemon's claim: grows with each start */
	uint64_t         started_ns;
	uint8_t          id_ranges[4096 / 8]; /* in use, one bit each */
	int              lock_fd;
};

enum {
	NODE_ID_RANGE  = 65536,      /* ids of one instance */
	NODE_ID_RANGES = 4096,
};

/* Runs until SIGTERM or SIGINT. 0 or -errno. */
int node_run(const struct node_conf *conf, struct err *e) must_check;

/* The image store, opened when first needed. */
int node_images(struct node *n, struct store **ret, struct err *e) must_check;

/* A free range of host ids, and back. */
int  node_ids_take(struct node *n, uint64_t *ret_base, struct err *e) must_check;
void node_ids_mark(struct node *n, uint64_t base);
void node_ids_give(struct node *n, uint64_t base);

/*
 * Tell those who listen to events; attributes are pairs ended by NULL.
 * {"time","kind","action","id","name","attributes"}
 */
void node_event(struct node *n, const char *kind, const char *action, const char *id,
		const char *name, ...) __attribute__((sentinel));

#endif
