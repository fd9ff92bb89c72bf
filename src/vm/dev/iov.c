/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/iov.h"

#include <string.h>

size_t iov_bytes(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		sum += iov[i].iov_len;
	}
	return sum;
}

/* One side of the copy is `flat`; `out` says which way. */
static size_t copy(const struct iovec *iov, unsigned n, size_t off, uint8_t *out,
		   const uint8_t *in, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(iov[i].iov_len - off, len - done);
		uint8_t *at = (uint8_t *)iov[i].iov_base + off;

		if (out) {
			memcpy(out + done, at, part);
		} else {
			memcpy(at, in + done, part);
		}
		done += part;
		off = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *ret, size_t len)
{
	return copy(iov, n, off, ret, NULL, len);
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *data, size_t len)
{
	return copy(iov, n, off, NULL, data, len);
}

unsigned iov_slice(const struct iovec *iov, unsigned n, size_t off, size_t len,
		   struct iovec *ret, unsigned max)
{
	unsigned made = 0;

	for (unsigned i = 0; i < n && len > 0 && made < max; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN(iov[i].iov_len - off, len);

		ret[made++] = (struct iovec){ (uint8_t *)iov[i].iov_base + off, part };
		len -= part;
		off = 0;
	}
	return made;
}
