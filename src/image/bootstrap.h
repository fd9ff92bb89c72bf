/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a real image where there is no registry: mmdebstrap unpacks a Debian suite from the
 * host's own apt sources, and what it writes becomes an image of one layer.
 *
 * With the same packages and the same SOURCE_DATE_EPOCH (else: the start of the day) the
 * image has the same digest.
 */
#ifndef IMAGE_BOOTSTRAP_H
#define IMAGE_BOOTSTRAP_H

#include "image/archive.h"

struct bootstrap {
	const char              *what;      /* "debian" or "debian:SUITE" */
	const char              *name;      /* NULL: debian:SUITE */
	const char              *variant;   /* of mmdebstrap; NULL: minbase */
	const char              *mirror;    /* NULL: what apt here uses for the suite */
	const struct strv       *include;   /* packages; may be NULL */
	const char              *platform;  /* "linux/arm64"; NULL: this host's */
	enum archive_compress    compress;
	const struct oci_image_run *run;    /* NULL: bash, and a PATH */
};

/*
 * Blocks for a minute or so. ERR_UNSUPPORTED: mmdebstrap is not installed. Where no suite was
 * given the image is named debian:latest as well.
 */
int bootstrap_run(struct store *s, const struct bootstrap *b, struct progress *p, struct arena *a,
		  struct archive_images *ret, struct err *e) must_check;

#endif
