/* SPDX-License-Identifier: Apache-2.0 */
#include "node/events.h"

#include <errno.h>
#include <stdarg.h>

#include "base/clock.h"
#include "base/mem.h"
#include "node/node.h"

struct event {
	uint64_t    seq, time_ns;
	const char *kind, *action, *id, *name;
	struct jmap attributes;
};

#define IN(m) offsetof(struct event, m)
static const struct jfield event_fields[] = {
	{ "seq", JK_UINT, IN(seq), .flags = JF_REQUIRED, .doc = "counts events since the daemon began" },
	{ "time", JK_TIME, IN(time_ns), .flags = JF_REQUIRED, .doc = "when" },
	{ "kind", JK_STR, IN(kind), .flags = JF_REQUIRED, .doc = "instance, image or operation" },
	{ "action", JK_STR, IN(action), .flags = JF_REQUIRED,
	  .doc = "create, start, die, pause, resume, rename, update, remove, pull ..." },
	{ "id", JK_STR, IN(id), .flags = JF_REQUIRED, .doc = "of what it happened to" },
	{ "name", JK_STR, IN(name), .doc = "of what it happened to" },
	{ "attributes", JK_MAP, IN(attributes), .doc = "more, by action" },
};
#undef IN
const struct jtable event_table = JTABLE("Event", struct event, event_fields);

struct events_query {
	uint64_t    since, until;
	const char *kind, *instance;
	bool        no_follow;
};

#define IN(m) offsetof(struct events_query, m)
static const struct jfield query_fields[] = {
	{ "since", JK_TIME, IN(since), .doc = "begin with those after that time, as far as kept" },
	{ "until", JK_TIME, IN(until), .doc = "end with those before that time" },
	{ "kind", JK_STR, IN(kind), .max = 32, .doc = "only of that kind" },
	{ "instance", JK_STR, IN(instance), .max = 128, .doc = "only of the thing of that id or name" },
	{ "no_follow", JK_BOOL, IN(no_follow), .doc = "end after what is kept" },
};
#undef IN
const struct jtable events_query_table = JTABLE("EventsQuery", struct events_query, query_fields);

/* A kept event, as text; in node->event_log. */
struct kept {
	struct list link;
	uint64_t    time_ns;
	char       *kind, *id, *name, *text;
};

/* A client that listens. */
struct reader {
	struct list            link;
	struct api_call       *call;
	struct events_query    query;
};

static void kept_free(struct kept *k)
{
	list_del(&k->link);
	free(k->kind);
	free(k->id);
	free(k->name);
	free(k->text);
	free(k);
}

static bool wanted(const struct events_query *q, const struct kept *k)
{
	return (!q->kind || str_eq(q->kind, k->kind)) &&
	       (!q->instance || str_eq(q->instance, k->name) || str_after(k->id, q->instance)) &&
	       (!q->since || k->time_ns >= q->since) && (!q->until || k->time_ns <= q->until);
}

static void reader_free(struct reader *r)
{
	list_del(&r->link);
	free(r);
}

/* A client that does not read is dropped: its connection breaks. */
static void send_to(struct reader *r, const struct kept *k)
{
	if (wanted(&r->query, k) && api_write(r->call, k->text, strlen(k->text)) < 0) {
		struct api_call *c = r->call;

		reader_free(r);
		api_abort(c);
	}
}

static int keep(struct node *n, const struct event *ev, struct kept **ret)
{
	auto_json json_t *j = jtable_format(&event_table, ev);
	auto_free char *text = j ? json_text(j) : NULL;
	struct kept *k = mem_new(struct kept);

	if (k) {
		list_init(&k->link);
		k->time_ns = ev->time_ns;
		k->kind = str_dup(ev->kind);
		k->id = str_dup(ev->id);
		k->name = str_dup(ev->name ? ev->name : "");
		k->text = text ? str_printf("%s\n", text) : NULL;
	}
	if (!k || !k->kind || !k->id || !k->name || !k->text) {
		if (k) {
			kept_free(k);
		}
		return -ENOMEM;
	}
	list_add_tail(&n->event_log, &k->link);
	if (++n->n_events > EVENTS_KEPT) {
		kept_free(list_entry(n->event_log.next, struct kept, link));
		n->n_events--;
	}
	*ret = k;
	return 0;
}

void node_event(struct node *n, const char *kind, const char *action, const char *id,
		const char *name, ...)
{
	struct jpair pairs[8];
	struct event ev = { .seq = ++n->event_seq, .time_ns = clock_wall_ns(), .kind = kind,
			    .action = action, .id = id, .name = name };
	const char *key;
	va_list ap;

	va_start(ap, name);
	while (ev.attributes.n < ARRAY_LEN(pairs) && (key = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);

		if (value) {
			pairs[ev.attributes.n++] = (struct jpair){ .key = key, .value = value };
		}
	}
	va_end(ap);
	ev.attributes.v = pairs;
	struct kept *k = NULL;

	if (keep(n, &ev, &k) < 0) {
		return; /* memory is out: what happened is in the store */
	}
	list_for_each_safe (struct reader, r, &n->event_readers, link) {
		send_to(r, k);
	}
}

static void on_gone(struct api_call *c)
{
	reader_free(c->ud);
}

int h_events(struct api_call *c, struct err *e)
{
	struct node *n = c->node;
	struct reader *r = mem_new(struct reader);

	if (!r) {
		return err_nomem(e);
	}
	r->call = c;
	r->query = *(struct events_query *)c->query;
	list_init(&r->link);
	api_stream(c);
	int w = 0;

	list_for_each (struct kept, k, &n->event_log, link) {
		if ((r->query.since || r->query.no_follow) && wanted(&r->query, k) && w == 0) {
			w = api_write(c, k->text, strlen(k->text));
		}
	}
	if (r->query.no_follow || w < 0 ||
	    (r->query.until && r->query.until < loop_wall_ns(n->loop))) {
		free(r);
		api_end(c);
		return 0;
	}
	c->cancel = on_gone;
	c->ud = r;
	list_add_tail(&n->event_readers, &r->link);
	return 0;
}

void events_end(struct node *n)
{
	list_for_each_safe (struct kept, k, &n->event_log, link) {
		kept_free(k);
	}
}
