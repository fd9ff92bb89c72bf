/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's first process, from its clone to its program.
 */
#ifndef CONTAINER_INIT_H
#define CONTAINER_INIT_H

#include "container/process.h"
#include "container/record.h"
#include "container/rootfs.h"
#include "container/spawn.h"

struct netdevs;

struct init {
	const struct record *rec;
	struct rootfs       *fs;
	const struct netdevs *netdevs;
	struct process       process;
	uint64_t             make;         /* CLONE_NEW* that were made for it */
	bool                 runtime_hooks; /* the parent has hooks to run: ask it */
	int                  console_fd;   /* socket that gets the terminal's master, or -1 */
	int                  start_fd;     /* create: the pipe that `start` writes to; run: -1 */
	int                  result_fd;    /* create: the pipe for a failed execve; run: -1 */
	bool                 hurry;        /* run: nobody needs to know when it is ready */
};

/*
 * For spawn_conf.early: a network namespace, which takes the kernel as long as all else that
 * a process is cloned with, and its loopback interface. `make` is then without it.
 */
int init_make_network(void *ud, struct err *e) must_check;

/*
 * Everything. Failures before the container is ready go to the parent over me->sync_fd,
 * later ones to `start` over the result pipe.
 */
noreturn_fn void init_main(struct init *in, struct spawned *me);

#endif
