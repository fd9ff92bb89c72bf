/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images: "[HOST[:PORT]/]PATH[:TAG][@DIGEST]".
 *
 * A name without a host is one of docker.io's, and without a slash one of its library, so
 * that "debian" is docker.io/library/debian:latest. The first part is a host where it holds
 * a dot or a colon, or is "localhost".
 */
#ifndef IMAGE_REF_H
#define IMAGE_REF_H

#include "base/err.h"
#include "oci/image.h"

struct ref {
	char host[256];                /* "docker.io", "localhost:5000" */
	char path[256];                /* "library/debian" */
	char tag[129];                 /* "" where only a digest was given */
	char digest[OCI_DIGEST_MAX];   /* "" unless given */
};

/* Parse and normalise. The tag is "latest" where neither tag nor digest was given. */
int ref_parse(const char *text, struct ref *ret, struct err *e) must_check;

struct ref_text {
	char text[256 + 256 + 129 + OCI_DIGEST_MAX + 4];
};

/* "docker.io/library/debian:latest": host, path and tag, without the digest. */
struct ref_text ref_name(const struct ref *r);

/* With everything that is set. */
struct ref_text ref_format(const struct ref *r);

/* "docker.io/library/debian". */
struct ref_text ref_repository(const struct ref *r);

/* As people write it: "debian:latest". */
struct ref_text ref_familiar(const struct ref *r);

#endif
