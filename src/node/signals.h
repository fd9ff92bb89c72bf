/* SPDX-License-Identifier: Apache-2.0 */
/* Names of signals: "TERM", "SIGTERM", "15", "RTMIN+3". */
#ifndef NODE_SIGNALS_H
#define NODE_SIGNALS_H

#include "base/def.h"

/* The number, or -EINVAL. */
int signo_parse(const char *text) must_check;

#endif
