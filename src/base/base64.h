/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 with the standard alphabet (RFC 4648, section 4).
 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/str.h"

/* Append the text of `n` bytes, padded. */
void base64_encode(const void *data, size_t n, struct buf *ret);

/*
 * Append the bytes of a text of `n` characters. Padding may be missing; anything outside of
 * the alphabet, and bits left over, are refused with -EINVAL. -ENOMEM when memory is out.
 */
int base64_decode(const char *text, size_t n, struct buf *ret) must_check;

#endif
