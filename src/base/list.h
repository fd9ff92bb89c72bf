/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doubly linked lists whose links live in the elements.
 *
 *	struct job { struct list link; ... };
 *	struct list jobs = LIST_INIT(jobs);
 *
 *	list_add_tail(&jobs, &job->link);
 *	list_for_each (struct job, j, &jobs, link) { ... }
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/def.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name) { &(name), &(name) }

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static inline void list_add_head(struct list *head, struct list *l)
{
	list_add_tail(head->next, l);
}

/* Take an element off its list; it may be taken off twice. */
static inline void list_del(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

#define list_entry(l, type, member) container_of(l, type, member)

#define list_for_each(type, var, head, member) \
	for (type *var = list_entry((head)->next, type, member); &var->member != (head); \
	     var = list_entry(var->member.next, type, member))

/* The body may take `var` off the list and free it. */
#define list_for_each_safe(type, var, head, member) \
	for (type *var = list_entry((head)->next, type, member), \
		  *var##_next = list_entry(var->member.next, type, member); \
	     &var->member != (head); \
	     var = var##_next, var##_next = list_entry(var->member.next, type, member))

#endif
