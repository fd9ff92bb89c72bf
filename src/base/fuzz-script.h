/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzz target's input as a script: numbers are taken from its begin until it is empty. */
#ifndef HOLM_BASE_FUZZ_SCRIPT_H
#define HOLM_BASE_FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct in {
	const uint8_t *data;
	size_t         len;
};

/* The next bytes, little endian; those that are not there are zero. */
static inline uint64_t take(struct in *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->len > 0; i++) {
		v |= (uint64_t)*in->data << (8 * i);
		in->data++;
		in->len--;
	}
	return v;
}

#endif
