/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call is made on the loop's thread in a later turn, and that it is done is told at once.
 * Slow, but guest memory changes at no other time than when it is told, which a recording needs: a
 * guest that looks into its buffer meanwhile sees the same in a replay.
 */
#include <errno.h>

#include "base/mem.h"
#include "vm/block/way.h"

struct in_place {
	struct block    *block;
	struct list      started;
	struct loop_post turn;
};

static void perform_all(struct in_place *p)
{
	while (!list_empty(&p->started)) {
		struct block_req *r = list_entry(p->started.next, struct block_req, link);

		list_del(&r->link);
		block__returned(p->block, r, block__perform(p->block->fd, &r->io));
	}
}

static void on_turn(struct loop_post *post unused_arg, void *ud)
{
	perform_all(ud);
}

static void in_place_start(void *way, struct block_req *r)
{
	struct in_place *p = way;

	list_add_tail(&p->started, &r->link);
	loop_post(p->block->loop, &p->turn);
}

static void in_place_kick(void *way unused_arg)
{
}

static void in_place_wait(void *way, uint64_t timeout_ns unused_arg)
{
	perform_all(way);
}

static void in_place_close(void *way)
{
	struct in_place *p = way;

	loop_post_cancel(&p->turn);
	free(p);
}

static int in_place_open(struct block *b, unsigned depth unused_arg, void **ret)
{
	struct in_place *p = mem_new(struct in_place);

	if (!p) {
		return -ENOMEM;
	}
	p->block = b;
	list_init(&p->started);
	loop_post_init(&p->turn, on_turn, p);
	*ret = p;
	return 0;
}

const struct block_way_ops block__in_place = {
	.name = "in place",
	.open = in_place_open,
	.close = in_place_close,
	.start = in_place_start,
	.kick = in_place_kick,
	.wait = in_place_wait,
};
