/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identifiers of resources: 256 random bits as 64 lower-case hexadecimal digits.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "base/def.h"

enum { ID_LEN = 64, ID_SHORT_LEN = 12 };

struct id {
	char text[ID_LEN + 1];
};

/* A new id from the kernel's random source. 0, or -errno. */
int id_new(struct id *ret) must_check;

/* True for exactly 64 lower-case hexadecimal digits. */
bool id_valid(const char *s);

#endif
