/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of archive.h share. */
#ifndef IMAGE_ARCHIVE_PRIVATE_H
#define IMAGE_ARCHIVE_PRIVATE_H

#include <archive.h>
#include <archive_entry.h>

#include "image/archive.h"
#include "image/worker.h"

enum {
	ARCHIVE__DOC_MAX = 4 << 20,       /* one document */
	ARCHIVE__DOCS_MAX = 64 << 20,     /* all documents of an archive */
	ARCHIVE__ENTRIES_MAX = 10000,     /* of an archive of images */
	ARCHIVE__NAME_MAX = 512,
	ARCHIVE__BLOCK = 256 * 1024,
};

extern const struct confine archive__confine;

AUTO_PTR(struct archive, archive_read_free)
#define auto_archive auto_(archive_read_freep)

/* A reader of tar over `fd`, with the filters that the library does itself. */
int archive__open_tar(int fd, struct archive **ret, struct err *e) must_check;

/* Every filter that needs no other program. */
int archive__add_filters(struct archive *ar) must_check;

/* The library's last words about `entry` (may be NULL), as ERR_INVALID. */
int archive__fault(struct archive *ar, const char *entry, struct err *e) must_check;

/*
 * The next header: 1 and its name, with "./" and trailing slashes cut off; 0 at the end.
 * Refuses warnings, and names that are absolute, too long, or have ".." or control
 * characters in them.
 */
int archive__next(struct archive *ar, struct archive_entry **ret, const char **ret_name,
		  struct err *e) must_check;

/*
 * ERR_LIMIT once more comes out of a compressed input than any honest one holds, by the
 * bounds that layers have too. `entry` (may be NULL) is named.
 */
int archive__check_ratio(uint64_t in_bytes, uint64_t out_bytes, const char *entry,
			 struct err *e) must_check;

/*
 * The tail that load and import share: put the worker's images into the store. The caller
 * holds a use. `name` (may be NULL) is what the one image is to be called.
 */
int archive__put_images(struct store *s, const struct worker_images *in, const char *name,
			struct progress *p, struct arena *a, struct archive_images *ret,
			struct err *e) must_check;

/* In the child: load from the folder whose files archive__open_in_layout() opens. */
int archive__load_dir(struct worker *w, const char *platform, struct err *e) must_check;

/* In the parent: open a file of the folder `ud`, a struct archive_load, for the child. */
int archive__open_in_layout(const char *name, uint64_t *ret_size, void *ud,
			    struct err *e) must_check;

#endif
