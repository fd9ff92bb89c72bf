/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities of a container's process.
 *
 * The parent turns the config's names into masks, where it can still warn; the container's
 * process applies them in two steps around its change of uid (see container/attrs.h, which
 * does both).
 *
 * Unknown names are warned of and ignored, as runc does: an engine may know capabilities
 * that this kernel does not have.
 */
#ifndef CONTAINER_CAPS_H
#define CONTAINER_CAPS_H

#include "base/err.h"
#include "oci/process.h"

/* Bit N is capability N. */
struct caps {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

/* "CAP_CHOWN" (in any case, with or without CAP_) to its number; -EINVAL if unknown. */
int caps_parse(const char *name) must_check;

/* The name of a number ("CAP_CHOWN"), or NULL. */
const char *caps_name(unsigned cap);

/* The last capability that this kernel has. */
unsigned caps_last(void);

/*
 * The masks of a config. Absent (`c` NULL): no capability in any set.
 *
 * @held  what the process can hold at most. In a user namespace of its own that is all
 *        (UINT64_MAX); else the caller's bounding set (caps_held()). What is asked for
 *        beyond it is left out with a warning, as it could only be refused.
 *
 * So is what the kernel would refuse within the config: effective beyond permitted,
 * inheritable beyond bounding, ambient that is not permitted and inheritable too.
 *
 * Spec: oci-runtime 1.3, config.md, Linux Process ("cannot be granted otherwise")
 */
int caps_resolve(const struct oci_caps *c, uint64_t held, struct caps *ret,
		 struct err *e) must_check;

/* The calling process's bounding set cut to its permitted set. */
int caps_held(uint64_t *ret) must_check;

/* In the container's process: drop from the bounding set what is not in c->bounding. */
int caps_drop_bounding(const struct caps *c) must_check;

/* After the change of uid: effective, permitted, inheritable, then ambient, exactly. */
int caps_apply(const struct caps *c) must_check;

#endif
