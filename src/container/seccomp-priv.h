/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the seccomp part of this folder. */
#ifndef CONTAINER_SECCOMP_PRIV_H
#define CONTAINER_SECCOMP_PRIV_H

#include <linux/filter.h>

#include "container/seccomp.h"

struct buf;

/* Actions, operators and architectures of the document to libseccomp's; -1 if unknown. */
int64_t seccomp__action(const char *name, bool has_errno, uint64_t errno_ret);
int     seccomp__operator(const char *name);
int64_t seccomp__arch(const char *name);     /* 0: known, but not to the library */

/* The action takes an errno. */
bool seccomp__action_has_errno(const char *name);

/* The whole program of a section that seccomp_check() has passed, by libseccomp. */
int seccomp__generate(const struct oci_seccomp *s, struct seccomp_filter *ret,
		      struct err *e) must_check;

/* What a compiled filter depends on, as bytes: equal bytes, equal filter. */
int seccomp__key(const struct oci_seccomp *s, struct buf *ret) must_check;

/* 0 with *ret filled, -ENOENT if it is not there, other -errno if the file is not to be
 * trusted or damaged: then it is compiled and stored anew. */
int seccomp__cache_load(int cache_fd, const struct buf *key,
			struct seccomp_filter *ret) must_check;
void seccomp__cache_name(const struct buf *key, char out[static 48]);
int seccomp__cache_store(int cache_fd, const struct buf *key,
			 const struct seccomp_filter *f) must_check;

/*
 * Code that stands before libseccomp's: for each architecture, numbers beyond `last` get
 * ENOSYS, and where `no_socketcall` is set a 32-bit socketcall gets `deny`. Returns the
 * number of instructions written to `out` (room for SECCOMP__STUB_MAX).
 */
struct seccomp__stub_arch {
	uint32_t audit_arch;
	int64_t  last;          /* -1: no check */
	int64_t  last_x32;      /* of AUDIT_ARCH_X86_64 only: with the x32 bit; -1: no check */
	bool     no_socketcall;
};
enum { SECCOMP__ARCHS_MAX = 24, SECCOMP__STUB_MAX = 16 * SECCOMP__ARCHS_MAX };
size_t seccomp__stub(const struct seccomp__stub_arch *archs, size_t n, uint32_t deny,
		     struct sock_filter *out);

#endif
