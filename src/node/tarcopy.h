/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files between a tar stream and a root that someone else controls. Blocks; for a child that has
 * entered the instance's user namespace, so that ids in the stream are those inside, and nothing
 * of the host's is in reach but by descriptors.
 *
 * Every path goes through sys/path.h: links are followed inside the root only, and what is made is
 * made with O_EXCL relative to its parent's descriptor.
 */
#ifndef NODE_TARCOPY_H
#define NODE_TARCOPY_H

#include "base/err.h"

/* {"name","type","size","mode","link"} of what `path` is, to out_fd. */
int tarcopy_stat(int root_fd, const char *path, bool follow, int out_fd, struct err *e) must_check;

/*
 * What `path` is (a folder with all in it), under its last name, as a tar. `follow`: a link at
 * the end is followed.
 */
int tarcopy_out(int root_fd, const char *path, bool follow, int out_fd, struct err *e) must_check;

/*
 * Unpack into the folder `path`. Names with ".." are refused; devices and FIFOs too. What is
 * there is replaced, but a folder by nothing else than a folder.
 */
int tarcopy_in(int root_fd, const char *path, int in_fd, struct err *e) must_check;

#endif
