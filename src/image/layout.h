/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an archive's own documents say: index.json of an OCI layout, manifest.json of
 * docker's. Runs in the confined child; everything read here is hostile.
 */
#ifndef IMAGE_LAYOUT_H
#define IMAGE_LAYOUT_H

#include "image/worker.h"

/* Where the documents and blobs come from. */
struct layout_source {
	/* A document of at most 4 MiB by its digest: borrowed, and already checked. */
	int (*doc)(struct layout_source *src, const char *digest, const char **ret_text,
		   size_t *ret_len, struct err *e);

	/* See to it that the parent has a blob. */
	int (*blob)(struct layout_source *src, const struct oci_desc *d, const char *what,
		    struct err *e);

	/* An image is complete. */
	int (*image)(struct layout_source *src, const struct worker_image *image, struct err *e);

	const char   *platform;
	struct arena *arena;
};

/* Announce every image of an OCI index document. */
int layout_oci(struct layout_source *src, const char *text, size_t len, struct err *e) must_check;

/* One image of docker's manifest.json. */
struct layout_docker {
	const char  *config;     /* name of an entry */
	struct jstrv repo_tags;
	struct jstrv layers;     /* names of entries, bottom first */
};

struct layout_dockers {
	struct layout_docker *v;
	size_t                n;
};

/* Parse manifest.json. Names are as they stand there. */
int layout_docker_parse(const char *text, size_t len, struct arena *a, struct layout_dockers *ret,
			struct err *e) must_check;

/* The text of a manifest over a config and layers; the caller frees. */
char *layout_manifest(const struct oci_desc *config, const struct oci_desc *layers,
		      size_t n) must_check;

#endif
