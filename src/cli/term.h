/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal of the user: raw mode that is always undone, its size, and the keys that
 * detach from a session.
 */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdint.h>
#include <termios.h>

#include "base/err.h"

struct term_raw {
	int            fd;      /* -1: nothing to undo */
	struct termios saved;
};

#define TERM_RAW_INIT { .fd = -1 }

/* Put a terminal into raw mode; does nothing to what is none. 0 or -errno. */
int  term_raw_start(struct term_raw *t, int fd) must_check;
void term_raw_stop(struct term_raw *t);
#define auto_term_raw auto_(term_raw_stop)

/* Rows and columns; 0, or -errno with both 0. */
int term_size(int fd, uint16_t *ret_rows, uint16_t *ret_columns) must_check;

/*
 * The sequence of keys that detaches: "ctrl-p,ctrl-q". It is held back while it may still
 * come, and passed on when it does not.
 */
enum { DETACH_KEYS_MAX = 16 };

struct detach_keys {
	unsigned char keys[DETACH_KEYS_MAX];
	size_t        n;        /* 0: there is no such sequence */
	size_t        matched;
};

/* "ctrl-x" with a letter or one of @[\]^_, or a plain character; separated by commas. */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *e) must_check;

/*
 * Filter what was typed. Writes what is to be passed on to `out` (room for n + DETACH_KEYS_MAX
 * bytes) and its length to *ret_n. Returns true when the sequence is complete.
 */
bool detach_keys_feed(struct detach_keys *d, const unsigned char *in, size_t n,
		      unsigned char *out, size_t *ret_n);

#endif
