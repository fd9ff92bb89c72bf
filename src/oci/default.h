/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime config that Holm starts from where nobody says otherwise: what `holm-oci spec`
 * prints, and what holmd fills in for an instance.
 *
 *	auto_arena struct arena a = ARENA_INIT;
 *	struct oci_spec spec;
 *	r = oci_default_spec(OCI_DEFAULT_INSTANCE, 0, 0, &a, &spec, e);
 *	r = oci_strv_add(&spec.process->capabilities->bounding, &a, "CAP_NET_RAW"); ...
 *	r = oci_default_seccomp(&spec.process->capabilities->bounding, &a,
 *				&spec.linux->seccomp, e);
 *	json = jtable_format(&oci_spec_table, &spec);
 *
 * All of it lives in the arena and may be changed there. Every vector has room for nothing
 * more: add with the functions below.
 */
#ifndef OCI_DEFAULT_H
#define OCI_DEFAULT_H

#include <sys/types.h>

#include "oci/spec.h"

enum oci_default_kind {
	OCI_DEFAULT_TEMPLATE,   /* `spec`: a shell on a terminal, as runc's */
	OCI_DEFAULT_ROOTLESS,   /* `spec --rootless`: a user namespace with one id in it */
	OCI_DEFAULT_INSTANCE,   /* holmd: no args, no root, no mappings yet */
	OCI_DEFAULT__COUNT,
};

/*
 * @uid, @gid  the caller's, which OCI_DEFAULT_ROOTLESS maps to root
 *
 * An instance gets no seccomp section here: it depends on its capabilities.
 */
int oci_default_spec(enum oci_default_kind kind, uid_t uid, gid_t gid, struct arena *a,
		     struct oci_spec *ret, struct err *e) must_check;

/*
 * The default seccomp profile for a bounding set: an allow list for all three ABIs of x86.
 * Calls that only mean something with a capability are allowed with it. Never allowed:
 * io_uring, userfaultfd, keyrings, kexec, and sockets of the families ALG and VSOCK, also
 * by 32-bit socketcall.
 */
int oci_default_seccomp(const struct jstrv *bounding, struct arena *a, struct oci_seccomp **ret,
			struct err *e) must_check;

/* What the capabilities of an instance are at first ("CAP_CHOWN" ...), NULL-terminated;
 * what is hidden of /proc and /sys, and what of it can only be read. */
extern const char *const oci_default_caps[];
extern const char *const oci_default_masked_paths[];
extern const char *const oci_default_readonly_paths[];

/* Append to a vector of the arena's; 0 or -ENOMEM. `item` is copied (not what it points to). */
int oci_strv_add(struct jstrv *v, struct arena *a, const char *s) must_check;
int oci_vec_add(struct jvec *v, struct arena *a, const void *item, size_t size) must_check;

#endif
