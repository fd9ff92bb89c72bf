/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call is made at once, on the loop's thread; that it is done is told in a later turn. Slow,
 * but guest memory changes at no other time, which a recording needs.
 */
#include <errno.h>

#include "base/mem.h"
#include "vm/block/way.h"

struct in_place {
	struct block    *block;
	struct list      done;
	struct loop_post tell;
};

static void reap(struct in_place *p)
{
	while (!list_empty(&p->done)) {
		struct block_req *r = list_entry(p->done.next, struct block_req, link);

		list_del(&r->link);
		block__returned(p->block, r, r->result);
	}
}

static void on_tell(struct loop_post *post unused_arg, void *ud)
{
	reap(ud);
}

static void in_place_start(void *way, struct block_req *r)
{
	struct in_place *p = way;

	r->result = block__perform(p->block->fd, &r->io);
	list_add_tail(&p->done, &r->link);
	loop_post(p->block->loop, &p->tell);
}

static void in_place_kick(void *way unused_arg)
{
}

static void in_place_wait(void *way, uint64_t timeout_ns unused_arg)
{
	reap(way);
}

static void in_place_close(void *way)
{
	struct in_place *p = way;

	loop_post_cancel(&p->tell);
	free(p);
}

static int in_place_open(struct block *b, unsigned depth unused_arg, void **ret)
{
	struct in_place *p = mem_new(struct in_place);

	if (!p) {
		return -ENOMEM;
	}
	p->block = b;
	list_init(&p->done);
	loop_post_init(&p->tell, on_tell, p);
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
