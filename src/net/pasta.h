/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user network: outgoing connections only, by Debian's pasta, which the shim starts in
 * between the instance's creation and its start.
 *
 * The vector runs our helper `holm-net`, which starts pasta for the process {pid}, waits until it
 * serves, and then takes away the routes to addresses that an instance must not reach (threat
 * model, rule 22: the metadata services of clouds).
 */
#ifndef NET_PASTA_H
#define NET_PASTA_H

#include "base/str.h"

/* Where an instance finds the host's name server, whatever address that has. */
#define PASTA_DNS "169.254.1.1"

/* The argument vector of the shim's network helper. @helper: path of holm-net. 0 or -ENOMEM. */
int pasta_helper_args(struct strv *ret, const char *helper, const char *pasta) must_check;

/*
 * The vector of pasta itself. @pid_file: where it writes its number; @net_fd, @user_fd: the
 * instance's namespaces, as numbers in pasta; user_fd -1: it has no user namespace of its own.
 */
int pasta_args(struct strv *ret, const char *pasta, const char *pid_file, int net_fd,
	       int user_fd) must_check;

/* Addresses no instance may reach, as "address/prefix", NULL-terminated. */
extern const char *const net_denied[];

#endif
