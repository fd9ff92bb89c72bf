/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/net-filter.h"

#include <net/ethernet.h>
#include <string.h>

enum { TYPE_AT = 12, IP4_TO_AT = 30, IP6_TO_AT = 38, ETHERTYPE_QINQ = 0x88a8 };

static const uint8_t denied4[4] = { 169, 254, 169, 254 };
static const uint8_t denied6[16] = { 0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54 };

bool net_filter_denies(const uint8_t *frame, size_t n)
{
	if (n < TYPE_AT + 2) {
		return false;
	}
	switch (frame[TYPE_AT] << 8 | frame[TYPE_AT + 1]) {
	case ETHERTYPE_IP:
		return n >= IP4_TO_AT + sizeof(denied4) &&
		       memcmp(frame + IP4_TO_AT, denied4, sizeof(denied4)) == 0;
	case ETHERTYPE_IPV6:
		return n >= IP6_TO_AT + sizeof(denied6) &&
		       memcmp(frame + IP6_TO_AT, denied6, sizeof(denied6)) == 0;
	case ETHERTYPE_VLAN:
	case ETHERTYPE_QINQ:
		return true; /* the network has none, and the address would stand elsewhere */
	default:
		return false;
	}
}
