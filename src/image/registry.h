/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registries: pulling and pushing by the OCI distribution specification.
 *
 * The network and everything that comes from it is handled by a confined child
 * (image/worker.h); the parent reads credentials and certificates, and keeps what arrives.
 *
 * - TLS always, except for hosts that the caller names. CAs beside the system's, and client
 *   certificates, come from flags and from HOST[:PORT] folders as /etc/docker/certs.d has
 *   them (*.crt, *.cert with *.key).
 * - What fails for a reason that may pass (no connection, 5xx, 429) is tried again, with
 *   growing pauses, or after what Retry-After says. A broken layer goes on where it ended,
 *   also in a later call.
 * - The Authorization header goes to the registry's own origin only, not where it redirects.
 *
 * Spec: oci-distribution 1.1.
 */
#ifndef IMAGE_REGISTRY_H
#define IMAGE_REGISTRY_H

#include "image/auth.h"
#include "image/progress.h"
#include "image/ref.h"
#include "image/store.h"

struct registry_conf {
	const struct strv *plain_hosts; /* spoken to without TLS; may be NULL */
	bool               plain;       /* this one too */
	bool               no_verify;   /* any certificate is taken */
	const char        *ca_file;     /* beside the system's; may be NULL */
	const char        *cert_file, *key_file;
	const char        *certs_dir;   /* folder of HOST folders; NULL: the usual ones */
	const char        *auth_file;   /* as auth_file_path() takes it */
	const char        *user;        /* "NAME:PASSWORD" instead of the file; may be NULL */
	unsigned           parallel;    /* layers at a time; 0: 4 */
	unsigned           retries;     /* tries after the first; 0: 5 */
	unsigned           retry_ms;    /* the first pause; 0: 500 */
	unsigned           stall_seconds; /* without a byte; 0: 30 */
	uint64_t           chunk_bytes; /* a larger blob is pushed in parts; 0: 32 MiB */
};

/*
 * Pull an image into the store and name it. `platform` chooses from an index; NULL: this
 * host's. `ret_manifest` gets the digest of the manifest.
 *
 * ERR_NOT_FOUND: no such image. ERR_DENIED: unauthorised. ERR_UNAVAILABLE: the network, TLS
 * or the registry; each says what to do.
 */
int registry_pull(struct store *s, const struct ref *ref, const char *platform,
		  const struct registry_conf *conf, struct progress *p,
		  char ret_manifest[OCI_DIGEST_MAX], struct err *e) must_check;

/* Push an image of the store (found as by resolve) under a name. */
int registry_push(struct store *s, const char *image, const struct ref *ref,
		  const struct registry_conf *conf, struct progress *p, struct err *e) must_check;

/* The tags of a repository (without its tag), or the repositories of a host (path ""),
 * sorted. */
int registry_list(const struct ref *ref, const struct registry_conf *conf, struct strv *ret,
		  struct err *e) must_check;

/* Whether the host takes the credentials. ERR_DENIED: no. */
int registry_login(const char *host, const struct credential *cred,
		   const struct registry_conf *conf, struct err *e) must_check;

#endif
