/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors that a person or a client can see.
 *
 * Functions return int: 0 or positive on success, -errno on failure. Those whose failure
 * a person sees also take a last parameter `struct err *e`, never NULL, which whoever
 * detects the failure fills and whoever passes it on may wrap:
 *
 *	int image_open(const char *name, struct err *e)
 *	{
 *		int fd = open(name, O_RDONLY | O_CLOEXEC);
 *		if (fd < 0)
 *			return err_set(e, errno, ERR_NOT_FOUND, "image %s", name);
 *		...
 *		r = manifest_read(fd, e);
 *		if (r < 0)
 *			return err_wrap(e, "image %s", name);
 *
 * A function reports or returns, never both: library folders do not log their errors, the
 * edge (a command's main, an API reply) does, once, with err_text().
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/def.h"

enum err_code {
	ERR_NONE,
	ERR_INVALID,      /* the caller's input is wrong */
	ERR_NOT_FOUND,    /* the named object does not exist */
	ERR_CONFLICT,     /* the object's state forbids the operation */
	ERR_DENIED,       /* authenticated, but not allowed */
	ERR_UNSUPPORTED,  /* valid, but Holm or this host does not do it */
	ERR_LIMIT,        /* a quota or bound is reached */
	ERR_UNAVAILABLE,  /* a part is down; try again */
	ERR_HOST,         /* the host refused or failed */
	ERR__COUNT,
};

struct err {
	int           errnum;     /* positive errno, never 0 once set */
	enum err_code code;       /* picks the HTTP status and the exit code */
	bool          command;    /* the command that was to be run is not there (ENOENT,
				   * ENOTDIR) or cannot be: set by who finds that out */
	char          field[80];  /* JSON pointer of the bad input, or "" */
	char          msg[512];   /* outermost context first, cut at the tail */
};

#define ERR_INIT { .errnum = 0, .code = ERR_NONE, .command = false, .field = "", .msg = "" }

/* What each code means to the outside. */
struct err_code_desc {
	const char *name;        /* in API replies: "not-found" */
	int         http_status;
	int         exit_code;   /* of management commands */
};

extern const struct err_code_desc err_codes[ERR__COUNT];

/*
 * Fill *e. The message says what failed and what to do, without the errno's text, which
 * err_text() appends where the code is ERR_HOST. Returns -errnum (-EIO for errnum <= 0).
 */
int err_set(struct err *e, int errnum, enum err_code code, const char *fmt, ...)
	printf_like(4, 5) must_check;

/* As err_set(e, EINVAL, ERR_INVALID), naming the field by its JSON pointer. */
int err_field(struct err *e, const char *field, const char *fmt, ...)
	printf_like(3, 4) must_check;

/* Put context before the message: "CONTEXT: message". Returns -e->errnum. */
int err_wrap(struct err *e, const char *fmt, ...) printf_like(2, 3) must_check;

/* Put `prefix` before the field's JSON pointer. */
void err_prefix_field(struct err *e, const char *prefix);

/* -ENOMEM with its message. */
int err_nomem(struct err *e) must_check;

/* Forget what *e holds. */
void err_clear(struct err *e);

/*
 * The whole error as one line for a person. `out` is always terminated and returned.
 */
const char *err_text(const struct err *e, char *out, size_t out_bytes);

/*
 * Why a command did not run, for programs that start a runtime (docs/formats/runtime-log.md):
 * "command-not-found", "command-not-executable" or "other".
 */
const char *err_reason(const struct err *e);

/* The code for a bare errno, where no one said more. */
enum err_code err_code_of_errno(int errnum);

/* The code named `name` in an API reply, or ERR__COUNT. */
enum err_code err_code_parse(const char *name);

#endif
