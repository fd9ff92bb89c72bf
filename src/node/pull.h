/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching an image, for whoever needs it: the operation behind /v1/images/pull. */
#ifndef NODE_PULL_H
#define NODE_PULL_H

#include "node/op.h"

struct pull_in {
	const char *reference, *image, *platform, *creds, *authfile;
	bool        plain_http, no_verify;
};

/* How the image of a new instance is fetched: "never", "missing", "always". */
enum { PULL_NEVER, PULL_MISSING, PULL_ALWAYS };

/* Begin to fetch in->reference. What `in` points to is not kept. */
int pull_start(struct node *n, const struct pull_in *in, struct op **ret, struct err *e) must_check;

#endif
