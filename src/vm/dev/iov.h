/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scattered memory as a stream of bytes. A request's parts lie in guest memory however the
 * driver likes to cut them, so devices never look at entries, only at offsets. What is copied
 * out of guest memory is copied once; what is checked is the copy.
 */
#ifndef VM_DEV_IOV_H
#define VM_DEV_IOV_H

#include <sys/uio.h>

#include "base/def.h"

size_t iov_bytes(const struct iovec *iov, unsigned n);

/* Copy between a buffer and the stream at `off`; returns the bytes that were there. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *ret, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *data, size_t len);

/*
 * The part [off, off + len) of a stream, as entries in ret (room for `max`; as many as the
 * stream has are always enough). Returns how many; less than `len` if the stream ends before.
 */
unsigned iov_slice(const struct iovec *iov, unsigned n, size_t off, size_t len,
		   struct iovec *ret, unsigned max);

#endif
