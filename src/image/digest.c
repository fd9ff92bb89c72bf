/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

struct digest {
	gnutls_hash_hd_t          hash;
	const char               *name;
	gnutls_digest_algorithm_t alg;
};

enum { RAW_MAX = 64 };

struct digest *digest_new(const char *algorithm_or_digest)
{
	static const struct {
		const char               *name;
		gnutls_digest_algorithm_t alg;
	} table[] = { { "sha256", GNUTLS_DIG_SHA256 }, { "sha512", GNUTLS_DIG_SHA512 } };

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const char *rest = str_after(algorithm_or_digest, table[i].name);

		if (!rest || (*rest != '\0' && *rest != ':')) {
			continue;
		}
		struct digest *d = mem_new(struct digest);

		if (!d) {
			return NULL;
		}
		d->name = table[i].name;
		d->alg = table[i].alg;
		if (gnutls_hash_init(&d->hash, d->alg) < 0) {
			free(d);
			return NULL;
		}
		return d;
	}
	return NULL;
}

void digest_free(struct digest *d)
{
	if (d) {
		gnutls_hash_deinit(d->hash, NULL);
		free(d);
	}
}

void digest_add(struct digest *d, const void *data, size_t n)
{
	int r = gnutls_hash(d->hash, data, n);

	assert(r == 0); /* it fails only for a hash that was not set up */
	(void)r;
}

static struct digest_text text_of(const char *name, const void *raw, size_t n)
{
	struct digest_text t;
	int used = snprintf(t.text, sizeof(t.text), "%s:", name);

	hex_format(raw, n, t.text + used);
	return t;
}

struct digest_text digest_end(const struct digest *d)
{
	unsigned char raw[RAW_MAX];
	gnutls_hash_hd_t copy = gnutls_hash_copy(d->hash);

	if (!copy) {
		return (struct digest_text){ .text = "" }; /* no memory: equal to no digest */
	}
	gnutls_hash_deinit(copy, raw);
	return text_of(d->name, raw, gnutls_hash_get_len(d->alg));
}

struct digest_text digest_of(const void *data, size_t n)
{
	unsigned char raw[RAW_MAX];

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, data, n, raw) < 0) {
		return (struct digest_text){ .text = "" };
	}
	return text_of("sha256", raw, 32);
}

const char *digest_hex(const char *digest)
{
	const char *colon = strchr(digest, ':');

	return colon ? colon + 1 : digest;
}

struct digest_text digest_chain(const char *parent, const char *diff_id)
{
	struct digest_text t;
	char both[2 * OCI_DIGEST_MAX];

	if (!parent || !*parent) {
		(void)snprintf(t.text, sizeof(t.text), "%s", diff_id);
		return t;
	}
	int n = snprintf(both, sizeof(both), "%s %s", parent, diff_id);

	return digest_of(both, (size_t)n);
}
