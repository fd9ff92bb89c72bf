/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters of a container.
 *
 * The parent compiles the config's section to BPF (about 10 ms, or a read of a file when it
 * was compiled before); the container's process installs the bytes with one system call.
 *
 *	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
 *	r = seccomp_compile(spec->linux->seccomp, cache_fd, &f, e);
 *	r = seccomp_handoff_init(&h, &f, e);                 only maps if f.notify
 *	... clone ...
 *	init:    r = seccomp_install(&f, &h);
 *	parent:  r = seccomp_handoff_take(&h, pidfd, &listener, e);   if f.notify
 *	parent:  r = seccomp_listener_send(path, metadata, pid, state, listener, e);
 *
 * As runc does it: names that libseccomp does not know are skipped; a rule whose action is
 * the default one is skipped; several conditions on one argument are alternatives, else
 * all must hold; a call with a number beyond every named one gets ENOSYS instead of the
 * default action, so that a libc newer than the profile falls back.
 *
 * Unlike runc, every call may be notified, `write` and the default action too: the
 * listener is handed over without a system call by the filtered process.
 *
 * Spec: oci-runtime 1.3, config-linux.md, Seccomp
 */
#ifndef CONTAINER_SECCOMP_H
#define CONTAINER_SECCOMP_H

#include <stdatomic.h>

#include "base/err.h"
#include "json/json.h"
#include "oci/seccomp.h"

struct sock_filter;

struct seccomp_filter {
	struct sock_filter *insns;      /* NULL: nothing to install */
	uint16_t            n;
	unsigned            flags;      /* of seccomp(2), the listener's among them */
	bool                notify;     /* a rule notifies: there will be a listener */
	bool                from_cache;
};

#define SECCOMP_FILTER_INIT { .insns = NULL, .n = 0 }

void seccomp_filter_fini(struct seccomp_filter *f);

/* Everything that can be wrong with a section, by field. */
int seccomp_check(const struct oci_seccomp *s, struct err *e) must_check;

/*
 * Compile a section, or take it from the cache. `s` NULL gives an empty filter.
 *
 * @cache_fd  folder of compiled filters from seccomp_cache_open(), or -1. A file there is
 *            used only if it is a regular file of ours that no one else can write, whole,
 *            and made from exactly this section by this libseccomp. Failing to write there
 *            is no error.
 */
int seccomp_compile(const struct oci_seccomp *s, int cache_fd, struct seccomp_filter *ret,
		    struct err *e) must_check;

/* Open the cache folder, made with mode 0700 if it is not there. Refuses one that is not
 * ours or that others may write. */
int seccomp_cache_open(int dir_fd, const char *path, int *ret_fd, struct err *e) must_check;

/* One page shared by parent and child, through which the listener goes over. */
struct seccomp_handoff {
	struct seccomp_handoff_page *page;      /* NULL: no listener */
};

int  seccomp_handoff_init(struct seccomp_handoff *h, const struct seccomp_filter *f,
			  struct err *e) must_check;
void seccomp_handoff_fini(struct seccomp_handoff *h);

/*
 * seccomp_compile() with the cache that lies in `root_fd`, the folder of all containers, and
 * seccomp_handoff_init(). Without a cache it only takes longer.
 */
int seccomp_prepare(const struct oci_seccomp *s, int root_fd, struct seccomp_filter *ret,
		    struct seccomp_handoff *ret_handoff, struct err *e) must_check;

/*
 * In the container's process: install. With a listener it then waits, without a system call,
 * until the parent has taken it (10 s at most: -ETIMEDOUT); `h` may be NULL only if
 * f->notify is not set. Without no_new_privs this needs CAP_SYS_ADMIN.
 */
int seccomp_install(const struct seccomp_filter *f, struct seccomp_handoff *h) must_check;

/*
 * In the parent: wait until the child has installed its filter, take the listener out of it
 * and let it go on. Fails when the child ends, reports a failure or takes over 10 s.
 */
int seccomp_handoff_take(struct seccomp_handoff *h, int pidfd, int *ret_fd,
			 struct err *e) must_check;

/*
 * Send the listener to the agent that waits at `path`, with the container process state.
 *
 * @pid    of the filtered process, in the runtime's namespace
 * @state  the container's state object; borrowed
 */
int seccomp_listener_send(const struct oci_seccomp *s, pid_t pid, json_t *state, int fd,
			  struct err *e) must_check;

/* Names for `features`: NULL-terminated. */
extern const char *const seccomp_action_names[];
extern const char *const seccomp_operator_names[];
extern const char *const seccomp_arch_names[];
extern const char *const seccomp_flag_names[];

/* "2.5.4", of the library that is linked. */
const char *seccomp_library_version(void);

#endif
