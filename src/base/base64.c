/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <errno.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t n, struct buf *ret)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
			     (left > 2 ? (uint32_t)p[i + 2] : 0);
		char out[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63],
				left > 1 ? alphabet[v >> 6 & 63] : '=',
				left > 2 ? alphabet[v & 63] : '=' };

		buf_add(ret, out, sizeof(out));
	}
}

int base64_decode(const char *text, size_t n, struct buf *ret)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t pad = 0;

	while (n > 0 && pad < 2 && text[n - 1] == '=') {
		n--;
		pad++;
	}
	if (n % 4 == 1 || (pad > 0 && (n + pad) % 4 != 0)) {
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;

		if (!at) {
			return -EINVAL;
		}
		bits = bits << 6 | (uint32_t)(at - alphabet);
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_add_char(ret, (char)(uint8_t)(bits >> have));
			bits &= (1u << have) - 1;
		}
	}
	if (bits != 0) {
		return -EINVAL;
	}
	return buf_failed(ret) ? -ENOMEM : 0;
}
