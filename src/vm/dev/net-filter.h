/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest must not send into the user network: frames to the metadata services of clouds
 * (threat model, rule 22). The process behind the socket sends for the guest with the host's own
 * address, and a guest's routes are the guest's to change, so the frames are looked at here.
 */
#ifndef VM_DEV_NET_FILTER_H
#define VM_DEV_NET_FILTER_H

#include "base/def.h"

enum { NET_FILTER_BYTES = 54 };    /* Ethernet's header and that of IPv6: all that is looked at */

/* `n`: bytes of the frame's begin that are there; less than NET_FILTER_BYTES only if it is short. */
bool net_filter_denies(const uint8_t *frame, size_t n);

#endif
