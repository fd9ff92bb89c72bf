/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a long image operation tells while it works: to a person as bars that are redrawn or
 * as plain lines, to a program as JSON lines (docs/formats/image-progress.md).
 *
 *	size_t i = progress_add(p, digest, "layer", size);
 *	progress_set(p, i, PROGRESS_ACTIVE, done);     // as often as one likes
 *	progress_set(p, i, PROGRESS_DONE, size);
 *
 * Text may come from outside: control characters are not passed on.
 */
#ifndef IMAGE_PROGRESS_H
#define IMAGE_PROGRESS_H

#include "base/err.h"

enum progress_mode {
	PROGRESS_SILENT,
	PROGRESS_PLAIN,     /* a line for each thing that is finished */
	PROGRESS_TERMINAL,  /* bars */
	PROGRESS_JSON,
};

/* In the order in which an item goes through them; it may skip and step back. */
enum progress_state {
	PROGRESS_WAITING,
	PROGRESS_ACTIVE,
	PROGRESS_RETRYING,
	PROGRESS_EXISTS,    /* was there already: nothing to do */
	PROGRESS_MOUNTED,   /* pushed without moving bytes */
	PROGRESS_DONE,
	PROGRESS_STATE__COUNT,
};

extern const char *const progress_state_names[PROGRESS_STATE__COUNT];

struct progress;

/* `fd` is borrowed. NULL when memory is out; every function here takes NULL as silence. */
struct progress *progress_new(enum progress_mode mode, int fd) must_check;

/* Terminal or plain lines on standard error, whichever it is. */
enum progress_mode progress_mode_for_person(void);

void progress_free(struct progress *p);
AUTO_PTR(struct progress, progress_free)
#define auto_progress auto_(progress_freep)

/*
 * One more thing to follow. `id` is a digest or a short name, `what` a word ("layer",
 * "config", "unpack"). `total` 0: not known. Returns its number; SIZE_MAX when memory is
 * out, which progress_set() takes for nothing.
 */
size_t progress_add(struct progress *p, const char *id, const char *what, uint64_t total);
void   progress_set(struct progress *p, size_t item, enum progress_state state, uint64_t done);

/* What was not known at first: the digest and the size of what has come. */
void   progress_known(struct progress *p, size_t item, const char *id, uint64_t total);

void progress_text(struct progress *p, const char *fmt, ...) printf_like(2, 3);

/* An image is in the store, or in the registry. */
void progress_image(struct progress *p, const char *name, const char *digest);

/* JSON only: a person gets the error from the program's last line. */
void progress_error(struct progress *p, const struct err *e);

/* Draw what has changed; at most ten times a second unless `force`. */
void progress_draw(struct progress *p, bool force);

#endif
