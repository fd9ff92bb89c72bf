/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd's two conventions, without its library: sockets that it opened for us, and telling it
 * that we are ready. Both do nothing where systemd did not start us.
 */
#ifndef NODE_NOTIFY_H
#define NODE_NOTIFY_H

#include "base/def.h"

/* The first socket of LISTEN_FDS, close-on-exec; -1: none; -EINVAL: not one of ours. */
int notify_listen_fd(void) must_check;

/* READY=1 to NOTIFY_SOCKET. */
void notify_ready(void);

#endif
