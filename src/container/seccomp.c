/* SPDX-License-Identifier: Apache-2.0 */
#include "container/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "container/seccomp-priv.h"
#include "oci/spec.h"
#include "sys/cred.h"
#include "sys/proc.h"
#include "sys/socket.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

enum {
	ARGS_MAX = 24,          /* conditions of one rule */
	ERRNO_RET_MAX = 4095,   /* the greatest errno that a caller can see */
	DATA_MAX = 65535,       /* what SCMP_ACT_TRACE hands over */
};

#define HANDOFF_TIMEOUT_NS (10 * NS_PER_SEC)

const char *const seccomp_action_names[] = {
	"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
	"SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
	"SCMP_ACT_TRAP", NULL,
};

const char *const seccomp_operator_names[] = {
	"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
	"SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", NULL,
};

/* In the order of arch_tokens. */
const char *const seccomp_arch_names[] = {
	"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
	"SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
	"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC",
	"SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE",
	"SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH",
	"SCMP_ARCH_SHEB", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", NULL,
};

/* 0: Debian's libseccomp does not know it; no program of that kind can run here either. */
static const uint32_t arch_tokens[] = {
	SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, 0, 0, SCMP_ARCH_MIPS, SCMP_ARCH_MIPS64,
	SCMP_ARCH_MIPS64N32, SCMP_ARCH_MIPSEL, SCMP_ARCH_MIPSEL64, SCMP_ARCH_MIPSEL64N32,
	SCMP_ARCH_PARISC, SCMP_ARCH_PARISC64, SCMP_ARCH_PPC, SCMP_ARCH_PPC64, SCMP_ARCH_PPC64LE,
	SCMP_ARCH_RISCV64, SCMP_ARCH_S390, SCMP_ARCH_S390X, 0, 0, SCMP_ARCH_X32, SCMP_ARCH_X86,
	SCMP_ARCH_X86_64,
};
static_assert(ARRAY_LEN(arch_tokens) + 1 == ARRAY_LEN(seccomp_arch_names), "a token each");
static_assert(ARRAY_LEN(arch_tokens) < SECCOMP__ARCHS_MAX, "room in the stub");

const char *const seccomp_flag_names[] = {
	"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
	"SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", NULL,
};
static const unsigned flag_bits[] = {
	SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
};
static_assert(ARRAY_LEN(flag_bits) + 1 == ARRAY_LEN(seccomp_flag_names), "a bit each");

static int find(const char *const *names, const char *name)
{
	for (int i = 0; name && names[i]; i++) {
		if (str_eq(names[i], name)) {
			return i;
		}
	}
	return -1;
}

bool seccomp__action_has_errno(const char *name)
{
	return str_eq(name, "SCMP_ACT_ERRNO") || str_eq(name, "SCMP_ACT_TRACE");
}

int64_t seccomp__action(const char *name, bool has_errno, uint64_t errno_ret)
{
	uint32_t data = has_errno ? (uint32_t)errno_ret & DATA_MAX : EPERM;

	if (find(seccomp_action_names, name) < 0) {
		return -1;
	}
	return str_eq(name, "SCMP_ACT_ALLOW") ? SCMP_ACT_ALLOW :
	       str_eq(name, "SCMP_ACT_ERRNO") ? SCMP_ACT_ERRNO(data) :
	       str_eq(name, "SCMP_ACT_KILL_PROCESS") ? SCMP_ACT_KILL_PROCESS :
	       str_eq(name, "SCMP_ACT_LOG") ? SCMP_ACT_LOG :
	       str_eq(name, "SCMP_ACT_NOTIFY") ? SCMP_ACT_NOTIFY :
	       str_eq(name, "SCMP_ACT_TRACE") ? SCMP_ACT_TRACE(data) :
	       str_eq(name, "SCMP_ACT_TRAP") ? SCMP_ACT_TRAP : SCMP_ACT_KILL_THREAD;
}

int seccomp__operator(const char *name)
{
	static const int ops[] = { SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT,
				   SCMP_CMP_MASKED_EQ, SCMP_CMP_NE };
	int i = find(seccomp_operator_names, name);

	return i < 0 ? -1 : ops[i];
}

int64_t seccomp__arch(const char *name)
{
	int i = find(seccomp_arch_names, name);

	return i < 0 ? -1 : (int64_t)arch_tokens[i];
}

const char *seccomp_library_version(void)
{
	static char text[24]; /* always the same */
	const struct scmp_version *v = seccomp_version();

	if (v) {
		snprintf(text, sizeof(text), "%u.%u.%u", v->major, v->minor, v->micro);
	}
	return text;
}

void seccomp_filter_fini(struct seccomp_filter *f)
{
	free(f->insns);
	*f = (struct seccomp_filter)SECCOMP_FILTER_INIT;
}

static int check_action(const char *field, const char *action, bool has_errno, uint64_t errno_ret,
			struct err *e)
{
	if (find(seccomp_action_names, action) < 0) {
		return err_field(e, field, "no such action: '%.40s'", action ? action : "");
	}
	if (has_errno && !seccomp__action_has_errno(action)) {
		return err_field(e, field, "%s takes no errno", action);
	}
	if (has_errno && errno_ret > (str_eq(action, "SCMP_ACT_ERRNO") ? ERRNO_RET_MAX : DATA_MAX)) {
		return err_field(e, field, "errno %llu is above %d", (unsigned long long)errno_ret,
				 str_eq(action, "SCMP_ACT_ERRNO") ? ERRNO_RET_MAX : DATA_MAX);
	}
	return 0;
}

static int check_rule(size_t i, const struct oci_seccomp_rule *rule, struct err *e)
{
	const struct oci_seccomp_arg *args = rule->args.v;
	char field[64];
	int r = 0;

	snprintf(field, sizeof(field), "/linux/seccomp/syscalls/%zu", i);
	r = check_action(field, rule->action, rule->has_errno_ret, rule->errno_ret, e);
	if (r < 0) {
		return r;
	}
	if (rule->names.n == 0) {
		return err_field(e, field, "names no system call");
	}
	if (rule->args.n > ARGS_MAX) {
		return err_field(e, field, "has more than %d conditions", ARGS_MAX);
	}
	for (size_t k = 0; k < rule->args.n; k++) {
		if (find(seccomp_operator_names, args[k].op) < 0) {
			return err_field(e, field, "no such operator: '%.40s'",
					 args[k].op ? args[k].op : "");
		}
		if (args[k].index > 5) {
			return err_field(e, field, "a system call has no argument %llu",
					 (unsigned long long)args[k].index);
		}
	}
	return 0;
}

static bool is_notify(const char *action)
{
	return str_eq(action, "SCMP_ACT_NOTIFY");
}

static bool notifies(const struct oci_seccomp *s)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	bool any = is_notify(s->default_action);

	for (size_t i = 0; i < s->syscalls.n; i++) {
		any |= is_notify(rules[i].action);
	}
	return any;
}

int seccomp_check(const struct oci_seccomp *s, struct err *e)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	int r = check_action("/linux/seccomp/defaultAction", s->default_action,
			     s->has_default_errno_ret, s->default_errno_ret, e);

	for (size_t i = 0; i < s->architectures.n && r == 0; i++) {
		if (find(seccomp_arch_names, s->architectures.v[i]) < 0) {
			r = err_field(e, "/linux/seccomp/architectures", "no such architecture: '%.40s'",
				      s->architectures.v[i]);
		}
	}
	for (size_t i = 0; i < s->flags.n && r == 0; i++) {
		if (find(seccomp_flag_names, s->flags.v[i]) < 0) {
			r = err_field(e, "/linux/seccomp/flags", "no such flag: '%.60s'", s->flags.v[i]);
		}
	}
	for (size_t i = 0; i < s->syscalls.n && r == 0; i++) {
		r = check_rule(i, &rules[i], e);
	}
	if (r < 0) {
		return r;
	}
	if (notifies(s) && (!s->listener_path || !*s->listener_path)) {
		return err_field(e, "/linux/seccomp/listenerPath",
				 "is missing, and SCMP_ACT_NOTIFY needs someone to notify");
	}
	if (s->listener_metadata && *s->listener_metadata && (!s->listener_path || !*s->listener_path)) {
		return err_field(e, "/linux/seccomp/listenerMetadata", "stands there without listenerPath");
	}
	return 0;
}

/* As runc: no list of flags at all means SPEC_ALLOW; an empty list means none. */
static unsigned filter_flags(const struct oci_seccomp *s, bool notify)
{
	unsigned flags = s->flags.v ? 0 : SECCOMP_FILTER_FLAG_SPEC_ALLOW;

	for (size_t i = 0; i < s->flags.n; i++) {
		flags |= flag_bits[find(seccomp_flag_names, s->flags.v[i])];
	}
	if (notify) {
		flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
		if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
			/* Without it the result could be a thread's id instead of a descriptor. */
			flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
		}
	} else {
		/* It says how a listener waits. */
		flags &= ~(unsigned)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	}
	return flags;
}

int seccomp_compile(const struct oci_seccomp *s, int cache_fd, struct seccomp_filter *ret,
		    struct err *e)
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	auto_buf struct buf key = BUF_INIT;
	int r = 0;

	if (!s) {
		*ret = f;
		return 0;
	}
	r = seccomp_check(s, e);
	if (r < 0) {
		return r;
	}
	if (seccomp__key(s, &key) < 0) {
		return err_nomem(e);
	}
	if (cache_fd < 0 || seccomp__cache_load(cache_fd, &key, &f) < 0) {
		r = seccomp__generate(s, &f, e);
		if (r < 0) {
			return r;
		}
		f.notify = notifies(s);
		f.flags = filter_flags(s, f.notify);
		r = cache_fd < 0 ? 0 : seccomp__cache_store(cache_fd, &key, &f);
		if (r < 0) {
			log_debug("seccomp: the compiled filter was not kept", "error", strerror(-r));
		}
	}
	*ret = f;
	f.insns = NULL;
	return 0;
}

enum handoff_state { HANDOFF_WAITING, HANDOFF_INSTALLED, HANDOFF_TAKEN, HANDOFF_FAILED };

struct seccomp_handoff_page {
	/* The child writes INSTALLED (after fd) or FAILED, the parent TAKEN. */
	_Atomic int state;
	int         fd;
};

int seccomp_handoff_init(struct seccomp_handoff *h, const struct seccomp_filter *f, struct err *e)
{
	h->page = NULL;
	if (f->notify) {
		void *p = mmap(NULL, sizeof(*h->page), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			return err_set(e, errno, ERR_HOST, "map a page");
		}
		h->page = p;
	}
	return 0;
}

void seccomp_handoff_fini(struct seccomp_handoff *h)
{
	if (h->page) {
		munmap(h->page, sizeof(*h->page));
		h->page = NULL;
	}
}

/*
 * Wait without a system call: each could be one that the filter notifies, with no one there
 * to answer yet. The clock is the processor's, about 10 s of it.
 */
static int wait_taken(const struct seccomp_handoff_page *page)
{
#if defined(__x86_64__)
	uint64_t start = __builtin_ia32_rdtsc();

	/* Pairs with the parent's release in seccomp_handoff_take(). */
	while (atomic_load_explicit(&page->state, memory_order_acquire) != HANDOFF_TAKEN) {
		if (__builtin_ia32_rdtsc() - start > UINT64_C(30000000000)) {
			return -ETIMEDOUT;
		}
		__builtin_ia32_pause();
	}
#else
	uint64_t turns = 0;

	while (atomic_load_explicit(&page->state, memory_order_acquire) != HANDOFF_TAKEN) {
		if (++turns > UINT64_C(10000000000)) {
			return -ETIMEDOUT;
		}
	}
#endif
	return 0;
}

int seccomp_prepare(const struct oci_seccomp *s, int root_fd, struct seccomp_filter *ret,
		    struct seccomp_handoff *ret_handoff, struct err *e)
{
	auto_close int cache_fd = -1;
	struct err ignored = ERR_INIT;

	if (!s) {
		return 0;
	}
	/* The name is none that a container's id can have. */
	ignore_result(seccomp_cache_open(root_fd, "seccomp:cache", &cache_fd, &ignored));

	int r = seccomp_compile(s, cache_fd, ret, e);

	return r < 0 ? r : seccomp_handoff_init(ret_handoff, ret, e);
}

int seccomp_install(const struct seccomp_filter *f, struct seccomp_handoff *h)
{
	int r = 0;

	if (!f->insns) {
		return 0;
	}
	if (f->notify && (!h || !h->page)) {
		return -EINVAL;
	}
	r = sys_seccomp_filter(f->flags, f->insns, f->n);
	if (!f->notify) {
		return r < 0 ? r : 0;
	}
	h->page->fd = r;
	/* Pairs with the parent's acquire in seccomp_handoff_take(). */
	atomic_store_explicit(&h->page->state, r < 0 ? HANDOFF_FAILED : HANDOFF_INSTALLED,
			      memory_order_release);
	return r < 0 ? r : wait_taken(h->page);
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

int seccomp_handoff_take(struct seccomp_handoff *h, int pidfd, int *ret_fd, struct err *e)
{
	uint64_t deadline = clock_now_ns() + HANDOFF_TIMEOUT_NS;
	struct timespec pause = { .tv_nsec = 20000 };
	int state = HANDOFF_WAITING;
	int fd = -1;

	while ((state = atomic_load_explicit(&h->page->state, memory_order_acquire)) ==
	       HANDOFF_WAITING) {
		if (has_ended(pidfd)) {
			return err_set(e, ESRCH, ERR_HOST,
				       "the process ended before its seccomp filter was installed");
		}
		if (clock_now_ns() > deadline) {
			return err_set(e, ETIMEDOUT, ERR_HOST, "wait for the seccomp filter");
		}
		nanosleep(&pause, NULL);
	}
	if (state == HANDOFF_FAILED) {
		return err_set(e, -h->page->fd, ERR_HOST, "install the seccomp filter");
	}
	fd = sys_pidfd_getfd(pidfd, h->page->fd);
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "take the seccomp listener out of the process");
	}
	atomic_store_explicit(&h->page->state, HANDOFF_TAKEN, memory_order_release);
	*ret_fd = fd;
	return 0;
}

/* The container process state of the specification. NULL when memory is out. */
static char *process_state(const struct oci_seccomp *s, pid_t pid, json_t *state)
{
	auto_json json_t *j = json_object();
	int r = json_put(j, "ociVersion", json_string(OCI_SPEC_VERSION));

	r = r < 0 ? r : json_put(j, "fds", json_pack("[s]", "seccompFd"));
	r = r < 0 ? r : json_put(j, "pid", json_integer(pid));
	if (r == 0 && s->listener_metadata && *s->listener_metadata) {
		r = json_put(j, "metadata", json_string(s->listener_metadata));
	}
	r = r < 0 ? r : json_put(j, "state", json_incref(state));
	return r < 0 ? NULL : json_text(j);
}

int seccomp_listener_send(const struct oci_seccomp *s, pid_t pid, json_t *state, int fd,
			  struct err *e)
{
	auto_free char *text = process_state(s, pid, state);
	auto_close int sock = -1;
	int r = 0;

	if (!text) {
		return err_nomem(e);
	}
	sock = sock_connect_path(s->listener_path);
	r = sock < 0 ? sock : sock_send_fds(sock, text, strlen(text), &fd, 1);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "hand the seccomp listener to %s", s->listener_path);
	}
	return 0;
}
