/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attacks that the tests of this folder try from inside a container, as one static
 * program: `attack NAME [ARG...]`. Each prints one line per try,
 *
 *	held NAME: why            the wall held
 *	ESCAPED NAME: how         it did not
 *
 * and ends with "done NAME", so that a test can tell an attack that failed from one that
 * was never made.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <stdbool.h>
#include <stddef.h>

struct attack {
	const char *name;
	int       (*run)(int argc, char **argv);   /* argv[0] is the first argument */
	const char *help;
};

extern const struct attack attacks_files[], attacks_proc[], attacks_calls[];

void held(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void escaped(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* held() with errno where r < 0, else escaped(). */
void verdict(long r, const char *what);

/* True if the host's secret file can be read below or above an open folder. */
bool finds_secret(int dir_fd, const char *secret, const char *how);

#endif
