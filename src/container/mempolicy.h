/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On which memory nodes a container's process allocates (linux.memoryPolicy).
 *
 * Spec: oci-runtime 1.3, config-linux.md, Memory policy
 */
#ifndef CONTAINER_MEMPOLICY_H
#define CONTAINER_MEMPOLICY_H

#include "oci/spec.h"

/* Whether mode, flags and nodes are known and go together. */
int mempolicy_check(const struct oci_memory_policy *p, struct err *e) must_check;

/* For the calling process and what it executes. */
int mempolicy_set(const struct oci_memory_policy *p, struct err *e) must_check;

#endif
