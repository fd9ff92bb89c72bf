/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little endian numbers at any address: for formats of files and devices.
 */
#ifndef BASE_LE_H
#define BASE_LE_H

#include <string.h>

#include "base/def.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hosts are little endian");

#define LE__DEFINE(bits) \
	static inline uint##bits##_t le##bits##_get(const void *p) \
	{ \
		uint##bits##_t v; \
\
		memcpy(&v, p, sizeof(v)); \
		return v; \
	} \
	static inline void le##bits##_put(void *p, uint##bits##_t v) \
	{ \
		memcpy(p, &v, sizeof(v)); \
	}

LE__DEFINE(16)
LE__DEFINE(32)
LE__DEFINE(64)

#endif
