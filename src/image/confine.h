/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving up rights. A process that parses bytes from outside first becomes one that can do
 * little else: its own uid and no capability (where it was started as root), no access to
 * files but the listed ones (Landlock), a list of system calls, bounds on memory and
 * descriptors, and it dies with its parent.
 *
 * What a kernel without Landlock or seccomp cannot do is left out, and said in *ret_missing;
 * uid and capabilities are never optional.
 */
#ifndef IMAGE_CONFINE_H
#define IMAGE_CONFINE_H

#include <sys/types.h>

#include "base/err.h"

struct confine {
	const char        *name;        /* for messages */
	bool               network;     /* may open internet sockets, and start threads */
	const char *const *read_paths;  /* may read at and below these; NULL-terminated, or NULL */
	uint64_t           memory_bytes;
	unsigned           files;       /* most descriptors open */
	uint64_t           file_bytes;  /* a file it was given may grow to this; else none */
};

/* The uid and gid of confined processes, where root started them. */
enum { CONFINE_UID = 64711 };

enum { CONFINE_NO_LANDLOCK = 1, CONFINE_NO_SECCOMP = 2 };

/*
 * Confine this process, which has one thread. Descriptors are the caller's affair: those
 * that are open stay usable. There is no way back.
 *
 * @parent       the process to die with
 * @ret_missing  CONFINE_NO_* bits; may be NULL
 */
int confine_enter(const struct confine *c, pid_t parent, unsigned *ret_missing,
		  struct err *e) must_check;

/*
 * For a process that works on files of any owner below descriptors that it has: of the
 * capabilities it keeps those over files, of the system calls those on files, and it gains
 * nothing by executing a program. There is no way back.
 */
int confine_files(const char *name, struct err *e) must_check;

#endif
