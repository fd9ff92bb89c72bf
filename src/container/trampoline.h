/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last program of ours in a container's first process.
 *
 * This file is shared by the runtime and the trampoline, which is a program of a few hundred
 * bytes without a C library, kept inside the runtime as bytes and executed from a sealed
 * memory file. From there on /proc/PID/exe leads to that file: nothing inside ever sees a
 * process whose program is the runtime's file on the host (see container/self.h). It is
 * executed before anything else can be in the container: before `start`, before the program.
 *
 *	argv: "holm", the control descriptor in decimal, the program's path, its argv ...
 *
 * It does what is left to do: tell the runtime that the container is ready, wait for `start`,
 * install the seccomp filter, execute the program; or report why that failed.
 */
#ifndef CONTAINER_TRAMPOLINE_H
#define CONTAINER_TRAMPOLINE_H

#include <stdint.h>

enum {
	TRAMPOLINE_REPORTS = 4,          /* messages by errno: as trampoline_report_of() */
	TRAMPOLINE_REPORT_BYTES = 1024,
	TRAMPOLINE_FILTER_MAX = 4096,    /* instructions: the kernel's bound */
};

struct trampoline_control {
	int32_t  ready_fd;               /* gets ready[]; -1: nobody */
	int32_t  wait_fd;                /* read once before going on; -1: at once */
	int32_t  report_fd;              /* gets one of reports[] on failure */
	uint32_t first_fd;               /* from this one on all are closed at the execve */
	uint32_t ready_bytes;
	uint32_t report_bytes;
	uint32_t errnum_offset;          /* of an int32_t errno in each report */
	uint32_t filter_flags;
	uint32_t filter_len;             /* instructions of filter[]; 0: none */
	uint32_t hide;                   /* nobody inside may look at it while it waits */
	uint8_t  ready[TRAMPOLINE_REPORT_BYTES];
	uint8_t  reports[TRAMPOLINE_REPORTS][TRAMPOLINE_REPORT_BYTES];
	uint64_t filter[TRAMPOLINE_FILTER_MAX];  /* struct sock_filter, 8 bytes each */
};

/* Which report tells of an errno: ENOENT, EACCES, ENOEXEC, others; and of the filter. */
static inline unsigned trampoline_report_of(int errnum)
{
	return errnum == 2 ? 1 : errnum == 13 ? 2 : errnum == 8 ? 3 : 0;
}

#endif
