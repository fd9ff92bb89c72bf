/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices of the host that a container takes over (linux.netDevices).
 *
 *	parent  netdevs_take(linux, &n, e);      // which they are, and their addresses
 *	parent  netdevs_move(&n, netns_fd, e);   // into the container's network namespace
 *	init    netdevs_up(&n, e);               // addresses again, and up
 *
 * A device goes back to the host when the namespace ends if it is hardware; a virtual one
 * ends with it. That is the kernel's doing.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Network Devices
 */
#ifndef CONTAINER_NETDEV_H
#define CONTAINER_NETDEV_H

#include <net/if.h>

#include "oci/spec.h"

enum { NETDEV_MAX = 32, NETDEV_ADDR_MAX = 128 };

struct netdev_addr {
	unsigned char family, prefix, flags, scope;
	unsigned char len;                  /* 4 or 16 */
	unsigned      device;               /* index into netdevs.v */
	unsigned char address[16], local[16];
};

struct netdev {
	char     host[IFNAMSIZ], name[IFNAMSIZ];   /* outside, inside */
	unsigned index;                            /* on the host */
};

struct netdevs {
	struct netdev      v[NETDEV_MAX];
	size_t             n;
	struct netdev_addr addrs[NETDEV_ADDR_MAX];
	size_t             n_addrs;
};

/* Names that can be, no two the same inside, and a network namespace to take them to. */
int netdevs_check(const struct oci_linux *l, struct err *e) must_check;

int netdevs_take(const struct oci_linux *l, struct netdevs *ret, struct err *e) must_check;
int netdevs_move(const struct netdevs *n, int netns_fd, struct err *e) must_check;
int netdevs_up(const struct netdevs *n, struct err *e) must_check;

#endif
