/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of a stream of bytes: "sha256:<hex>", "sha512:<hex>".
 *
 *	auto_digest struct digest *d = digest_new("sha256");
 *	digest_add(d, data, n);
 *	struct digest_text t = digest_end(d);
 */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

#include "oci/image.h"

struct digest;

struct digest_text {
	char text[OCI_DIGEST_MAX];
};

/* By an algorithm's name, or by a digest whose algorithm is meant. NULL: no such, no memory. */
struct digest *digest_new(const char *algorithm_or_digest) must_check;
void digest_free(struct digest *d);
AUTO_PTR(struct digest, digest_free)
#define auto_digest auto_(digest_freep)

void digest_add(struct digest *d, const void *data, size_t n);

/* What was added so far; may be called again after adding more. */
struct digest_text digest_end(const struct digest *d);

/* Of `n` bytes at once, with sha256. */
struct digest_text digest_of(const void *data, size_t n);

/* The hexadecimal part of a valid digest. */
const char *digest_hex(const char *digest);

/*
 * The chain id of the layers up to and including `diff_id` on top of `parent` (NULL or "" for
 * the bottom layer). Spec: oci-image 1.1, config.md, Layer ChainID.
 */
struct digest_text digest_chain(const char *parent, const char *diff_id);

#endif
