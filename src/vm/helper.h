/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that helps another one with work that two CPUs do faster, and sleeps until then.
 *
 *	r = helper_new(confine, &h, e);
 *	helper_run(h, fn, arg);     // fn(arg) there, while the caller does its own share
 *	helper_wait(h);
 *	helper_free(h);
 *
 * It is made early: once the machine is confined no thread can be made any more.
 *
 * Context: all calls from one thread. It takes no signals.
 */
#ifndef VM_HELPER_H
#define VM_HELPER_H

#include "base/err.h"

struct helper;

/* confine: the first thing on the new thread, which cannot fail; NULL: nothing. */
int helper_new(void (*confine)(void), struct helper **ret, struct err *e) must_check;

/* Waits for what runs. NULL is fine; returns NULL. */
struct helper *helper_free(struct helper *h);
AUTO_PTR(struct helper, helper_free)

/* One at a time: each is waited for. Without a helper (NULL) it is done here and now. */
void helper_run(struct helper *h, void (*fn)(void *arg), void *arg);
void helper_wait(struct helper *h);

#endif
