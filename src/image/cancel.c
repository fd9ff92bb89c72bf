/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cancel.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t came;

static void on_signal(int sig)
{
	came = sig;
}

void cancel_setup(void)
{
	/* Without SA_RESTART, so that a poll() ends; the second one finds the default. */
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

	sigemptyset(&sa.sa_mask);
	(void)sigaction(SIGINT, &sa, NULL);    /* fails for bad numbers only */
	(void)sigaction(SIGTERM, &sa, NULL);
}

int cancel_signal(void)
{
	return came;
}

int cancel_check(struct err *e)
{
	return came ? err_set(e, ECANCELED, ERR_UNAVAILABLE, "stopped by %s",
			      came == SIGINT ? "an interrupt" : "a signal") : 0;
}
