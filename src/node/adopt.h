/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a predecessor left: shims that run are adopted, ends that happened meanwhile recorded,
 * what died cleaned up; after a reboot nothing is said to run. Leftovers of no instance go.
 */
#ifndef NODE_ADOPT_H
#define NODE_ADOPT_H

#include "node/node.h"

/* After instance_load_all(), before the first request. */
int adopt_all(struct node *n, struct err *e) must_check;

/* Folders that could not be removed (no descriptors, a full disk) are tried again until they go. */
void adopt_sweep_later(struct node *n);

#endif
