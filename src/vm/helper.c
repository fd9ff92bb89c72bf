/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/helper.h"

#include <pthread.h>
#include <signal.h>

#include "base/mem.h"

enum { STACK_BYTES = 64 << 10 };

struct helper {
	pthread_t       thread;
	void          (*confine)(void);
	pthread_mutex_t lock;         /* of all below */
	pthread_cond_t  changed;
	void          (*fn)(void *arg);   /* NULL: nothing to do, or it is done */
	void           *arg;
	bool            quit;
};

static void *helper_main(void *ud)
{
	struct helper *h = ud;

	if (h->confine) {
		h->confine();
	}
	pthread_mutex_lock(&h->lock);
	while (!h->quit) {
		if (!h->fn) {
			pthread_cond_wait(&h->changed, &h->lock);
			continue;
		}
		pthread_mutex_unlock(&h->lock);
		h->fn(h->arg); /* stands until it is done */
		pthread_mutex_lock(&h->lock);
		h->fn = NULL;
		pthread_cond_broadcast(&h->changed);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static int start(struct helper *h)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = pthread_attr_init(&attr);

	if (r != 0) {
		return -r;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = r != 0 ? r : pthread_create(&h->thread, &attr, helper_main, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int helper_new(void (*confine)(void), struct helper **ret, struct err *e)
{
	struct helper *h = mem_new(struct helper);

	if (!h) {
		return err_nomem(e);
	}
	h->confine = confine;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	int r = start(h);

	if (r < 0) {
		pthread_cond_destroy(&h->changed);
		pthread_mutex_destroy(&h->lock);
		free(h);
		return err_set(e, -r, ERR_HOST, "cannot start a thread");
	}
	*ret = h;
	return 0;
}

struct helper *helper_free(struct helper *h)
{
	if (h) {
		helper_wait(h);
		pthread_mutex_lock(&h->lock);
		h->quit = true;
		pthread_cond_broadcast(&h->changed);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
		pthread_cond_destroy(&h->changed);
		pthread_mutex_destroy(&h->lock);
		free(h);
	}
	return NULL;
}

void helper_run(struct helper *h, void (*fn)(void *arg), void *arg)
{
	if (!h) {
		fn(arg);
		return;
	}
	pthread_mutex_lock(&h->lock);
	assert(!h->fn);
	h->fn = fn;
	h->arg = arg;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

void helper_wait(struct helper *h)
{
	if (!h) {
		return;
	}
	pthread_mutex_lock(&h->lock);
	while (h->fn) {
		pthread_cond_wait(&h->changed, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}
