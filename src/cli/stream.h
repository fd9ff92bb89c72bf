/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An attached session: bytes between this process's standard streams and the instance
 * (docs/formats/attach.md), window changes, signals and detach keys.
 */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "base/err.h"
#include "base/str.h"

struct stream_conf {
	int         fd;           /* the connection; borrowed */
	const char *early;        /* bytes that came already */
	size_t      early_len;
	bool        tty;          /* the process has a terminal */
	bool        stdin_open;   /* send standard input */
	bool        sig_proxy;    /* pass signals on (without a terminal) */
	const char *detach_keys;  /* NULL: ctrl-p,ctrl-q */
};

enum { STREAM_DETACHED = -1 };

/*
 * Signals that will be passed on are held from here on, so that none is lost between the
 * start of the process and stream_run(). Call it before.
 */
void stream_hold_signals(void);

/* Behind it: those that end a program end this one again. What came too late is dropped. */
void stream_release_signals(void);

/*
 * Until the process ends, its exit status in *ret_status, or STREAM_DETACHED. The terminal is
 * as before when it returns. Messages of the shim go to standard error, or, if `messages` is
 * not NULL, there.
 */
int stream_run(const struct stream_conf *conf, int *ret_status, struct buf *messages,
	       struct err *e) must_check;

#endif
