/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fill an empty file system with what the folder below it has (the option tmpcopyup).
 */
#ifndef CONTAINER_COPYUP_H
#define CONTAINER_COPYUP_H

#include "base/err.h"

/*
 * Copy all that is in `from_fd` (O_PATH will do) into the empty folder `to_fd`, with owners,
 * modes, times and extended attributes: folders, files, links, FIFOs, device nodes where that
 * is allowed. Works on descriptors only; follows no link; does not enter other mounts, whose
 * folders are made empty.
 */
int copyup(int from_fd, int to_fd, struct err *e) must_check;

#endif
