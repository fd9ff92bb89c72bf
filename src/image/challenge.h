/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registry asks for: the WWW-Authenticate header.
 *
 *	Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull"
 *	Basic realm="Registry"
 *
 * Spec: RFC 9110, 11.6.1 WWW-Authenticate.
 */
#ifndef IMAGE_CHALLENGE_H
#define IMAGE_CHALLENGE_H

#include "base/def.h"

enum challenge_kind {
	CHALLENGE_NONE,    /* no scheme that we know */
	CHALLENGE_BASIC,
	CHALLENGE_BEARER,  /* preferred where both are offered */
	CHALLENGE__COUNT,
};

struct challenge {
	enum challenge_kind kind;
	char realm[1024];
	char service[512];
	char scope[1024];
	char error[64];    /* "invalid_token", "insufficient_scope" */
};

/*
 * Read one header's value, which may hold several challenges, and merge it into *ret (zero
 * it before the first). -EBADMSG where the text breaks the grammar, or a part is too long.
 */
int challenge_parse(const char *value, size_t len, struct challenge *ret) must_check;

#endif
