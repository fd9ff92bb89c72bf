/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net: a network interface, with one of two things behind it:
 *
 * - a tap device of the host, with checksums and segmentation left to whoever does them best
 *   (the tap must be made with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR);
 * - a stream socket on which each frame stands behind its length in four bytes, most
 *   significant first: what passt serves, in a process of its own. What net-filter.h denies is
 *   dropped.
 *
 * A packet that does not fit where the driver wants it is dropped, as a network may.
 *
 * Spec: virtio 1.2, 5.1 Network Device.
 */
#ifndef VM_DEV_NET_H
#define VM_DEV_NET_H

#include "vm/dev/vdev.h"

enum { NET_RX = 0, NET_TX = 1, NET_MAC_BYTES = 6 };

struct net_conf {
	int      fd;                   /* taken */
	bool     stream;               /* the socket, not the tap */
	uint8_t  mac[NET_MAC_BYTES];
	uint16_t mtu;                  /* told to the driver; 0: nothing is told */
};

extern const struct vdev_desc vdev_net;

struct net_counts {
	uint64_t rx_packets, rx_dropped, tx_packets, tx_dropped;
};

/* Since it was made. Context: any thread, without the lock. */
struct net_counts net_counts(struct vdev *d);

#endif
