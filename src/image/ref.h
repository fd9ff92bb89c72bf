/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References, the names of images: "[HOST[:PORT]/]PATH[:TAG][@DIGEST]".
 *
 *	debian                         docker.io/library/debian:latest
 *	me/app:1.0                     docker.io/me/app:1.0
 *	host:5000/a/b:tag@sha256:...   as it stands
 *
 * A reference is normalised when it is parsed, by the rules that docker's users know: the
 * first part is a host where it holds a dot, a colon or an upper-case letter, or is
 * "localhost"; else the host is docker.io, and a single part there is below "library/".
 * Without a tag and a digest the tag is "latest".
 *
 * The struct is a plain value without pointers: it can be copied and sent.
 */
#ifndef IMAGE_REF_H
#define IMAGE_REF_H

#include "base/err.h"
#include "oci/image.h"

enum { REF_HOST_MAX = 255, REF_PATH_MAX = 255, REF_TAG_MAX = 128 };

struct ref {
	char host[REF_HOST_MAX + 1];   /* "docker.io", "localhost:5000", "[::1]:5000" */
	char path[REF_PATH_MAX + 1];   /* "library/debian" */
	char tag[REF_TAG_MAX + 1];     /* "" where only a digest was given */
	char digest[OCI_DIGEST_MAX];   /* "" unless given */
};

struct ref_text {
	char text[REF_HOST_MAX + REF_PATH_MAX + REF_TAG_MAX + OCI_DIGEST_MAX + 8];
};

/* Parse and normalise. The error says which part is wrong and what is allowed there. */
int ref_parse(const char *text, struct ref *ret, struct err *e) must_check;

/* Only a host, as "holm login" takes it; "index.docker.io" and "" become "docker.io". */
int ref_parse_host(const char *text, char ret[REF_HOST_MAX + 1], struct err *e) must_check;

/* "docker.io/library/debian:latest": host, path and tag, without the digest. */
struct ref_text ref_name(const struct ref *r);

/* With everything that is set. Parses back to the same reference. */
struct ref_text ref_format(const struct ref *r);

/* As people write it: "debian:latest". Parses back to the same reference. */
struct ref_text ref_familiar(const struct ref *r);

/* Host and path without tag and digest: "docker.io/library/debian". */
struct ref_text ref_repository(const struct ref *r);

/* What the registry calls it: the digest where there is one, else the tag. */
const char *ref_version(const struct ref *r);

bool ref_tag_valid(const char *s);
bool ref_path_valid(const char *s);

#endif
