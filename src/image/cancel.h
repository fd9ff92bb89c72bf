/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT and SIGTERM as a wish to stop: long work looks here between its steps and ends
 * with -ECANCELED. A second signal ends the process at once.
 */
#ifndef IMAGE_CANCEL_H
#define IMAGE_CANCEL_H

#include "base/err.h"

void cancel_setup(void);

/* The signal that came, or 0. */
int cancel_signal(void);

/* 0, or -ECANCELED with its message. */
int cancel_check(struct err *e) must_check;

#endif
