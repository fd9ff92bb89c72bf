/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images as archives: OCI layouts (a folder, or a tar of it), docker's archives ("docker
 * save"), and plain root file systems as tar. Tars may be compressed with gzip, zstd, xz,
 * bzip2 or lz4.
 *
 * Everything is read, and written, by a confined child (image/worker.h). A warning of the
 * reader is a refusal; so are names that leave the archive, names that come twice, and
 * whatever passes a bound. The error names the entry.
 *
 * Spec: oci-image 1.1, image-layout.md.
 */
#ifndef IMAGE_ARCHIVE_H
#define IMAGE_ARCHIVE_H

#include "image/progress.h"
#include "image/store.h"

struct archive_load {
	int         fd;        /* of a file, pipe or folder; read from where it stands */
	const char *file;      /* its name, for messages */
	const char *name;      /* name the image so (the archive must hold one), or NULL */
	const char *platform;  /* where the archive has several; NULL: this host's */
};

/* An image that is now in the store. */
struct archive_image {
	const char *name;      /* normalised; NULL for none */
	const char *manifest;
};

struct archive_images {
	struct archive_image *v;
	size_t                n;
};

/* Load all images of an archive. ERR_INVALID: not an archive of images, or a hostile one. */
int archive_load(struct store *s, const struct archive_load *l, struct progress *p,
		 struct arena *a, struct archive_images *ret, struct err *e) must_check;

enum archive_compress {
	ARCHIVE_COMPRESS_ZSTD,
	ARCHIVE_COMPRESS_GZIP,
	ARCHIVE_COMPRESS_NONE,
	ARCHIVE_COMPRESS_KEEP,   /* as it comes, where a layer may be so; else zstd */
	ARCHIVE_COMPRESS__COUNT,
};

extern const char *const archive_compress_names[ARCHIVE_COMPRESS__COUNT + 1];

/* What becomes the config of an image made from a root file system. */
struct archive_import {
	int                        fd;
	const char                *file;
	const char                *name;       /* reference; NULL: none */
	enum archive_compress      compress;
	const struct oci_image_run *run;       /* NULL: nothing */
	const char                *platform;   /* "linux/amd64"; NULL: this host's */
	const char                *comment;    /* in the history */
	uint64_t                   created_ns; /* since the epoch; 0: now */

	/* For who makes the input by a program: see worker_run, and a last check once all is
	 * read, before the image is named. May be NULL. */
	int                       *watch_fd;
	void                     (*on_watch)(int *fd, void *ud);
	int                      (*check)(void *ud, struct err *e);
	void                      *ud;
};

int archive_import(struct store *s, const struct archive_import *i, struct progress *p,
		   struct arena *a, struct archive_images *ret, struct err *e) must_check;

enum archive_format {
	ARCHIVE_OCI,       /* a tar of a layout */
	ARCHIVE_DOCKER,    /* for docker load */
	ARCHIVE_OCI_DIR,   /* a folder */
	ARCHIVE_FORMAT__COUNT,
};

extern const char *const archive_format_names[ARCHIVE_FORMAT__COUNT + 1];

/*
 * Write images (found as by store_image_resolve()) to `fd`: a file or pipe, or an empty
 * folder for ARCHIVE_OCI_DIR. The same images give the same bytes.
 */
int archive_save(struct store *s, const char *const *images, size_t n, enum archive_format format,
		 int fd, struct progress *p, struct err *e) must_check;

#endif
