/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.seccomp of an OCI runtime config, as the document has it; what it means to the
 * kernel is made in container/seccomp.h.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Seccomp
 */
#ifndef OCI_SECCOMP_H
#define OCI_SECCOMP_H

#include "json/table.h"

struct oci_seccomp_arg {
	uint64_t    index;      /* 0..5 */
	uint64_t    value;
	uint64_t    value_two;  /* of SCMP_CMP_MASKED_EQ */
	const char *op;         /* "SCMP_CMP_EQ" ... */
};

struct oci_seccomp_rule {
	struct jstrv names;
	const char  *action;    /* "SCMP_ACT_ALLOW" ... */
	bool         has_errno_ret;
	uint64_t     errno_ret;
	struct jvec  args;      /* struct oci_seccomp_arg; all must hold */
};

struct oci_seccomp {
	const char  *default_action;
	bool         has_default_errno_ret;
	uint64_t     default_errno_ret;
	struct jstrv architectures;     /* "SCMP_ARCH_X86_64" ... */
	struct jstrv flags;             /* "SECCOMP_FILTER_FLAG_LOG" ... */
	const char  *listener_path;
	const char  *listener_metadata;
	struct jvec  syscalls;          /* struct oci_seccomp_rule */
};

extern const struct jtable oci_seccomp_table;

#endif
