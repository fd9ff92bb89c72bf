/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the document to BPF, by libseccomp, and the code of our own that stands before it.
 */
#include "container/seccomp-priv.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

enum {
	API_LEVEL = 6,          /* what every kernel has that Holm runs on; saves probing it */
	SOCKETCALL_I386 = 102,
	X32_BIT = 0x40000000,
};

static void ctx_release(scmp_filter_ctx *ctx)
{
	if (*ctx) {
		seccomp_release(*ctx);
	}
}
#define auto_ctx auto_(ctx_release)

/* The calls of 32-bit x86 that socketcall(2) does too. */
static const char *const socket_calls[] = {
	"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername",
	"socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt",
	"getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
};

static bool is_socket_call(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(socket_calls); i++) {
		if (str_eq(socket_calls[i], name)) {
			return true;
		}
	}
	return false;
}

static bool permissive(const char *action)
{
	return str_eq(action, "SCMP_ACT_ALLOW") || str_eq(action, "SCMP_ACT_LOG") ||
	       str_eq(action, "SCMP_ACT_TRACE");
}

/*
 * libseccomp lets an argument-filtered rule for socket(2) stand for socketcall(SYS_SOCKET)
 * too, without the conditions, as they are in memory there: a profile that forbids one
 * address family would allow it to 32-bit programs. So where a socket call has conditions
 * and the profile does not itself allow socketcall, socketcall gets the default action.
 */
static bool closes_socketcall(const struct oci_seccomp *s)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	bool conditions = false;

	if (permissive(s->default_action)) {
		return false;
	}
	for (size_t i = 0; i < s->syscalls.n; i++) {
		for (size_t k = 0; k < rules[i].names.n; k++) {
			const char *name = rules[i].names.v[k];

			if (str_eq(name, "socketcall") && !str_eq(rules[i].action, s->default_action)) {
				return false;
			}
			conditions |= rules[i].args.n > 0 && is_socket_call(name);
		}
	}
	return conditions;
}

/* The greatest number that the profile names on an architecture, or -1. */
static int64_t last_call(const struct oci_seccomp *s, uint32_t arch)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	int64_t last = -1;

	for (size_t i = 0; i < s->syscalls.n; i++) {
		for (size_t k = 0; k < rules[i].names.n; k++) {
			int nr = seccomp_syscall_resolve_name_arch(arch, rules[i].names.v[k]);

			last = nr > last ? nr : last;
		}
	}
	return last;
}

size_t seccomp__stub(const struct seccomp__stub_arch *archs, size_t n, uint32_t deny,
		     struct sock_filter *out)
{
	const uint32_t enosys = SECCOMP_RET_ERRNO | ENOSYS;
	const uint32_t nr_off = offsetof(struct seccomp_data, nr);
	size_t len = 0, ends[2 * SECCOMP__ARCHS_MAX], n_ends = 0;

#define EMIT(...) (out[len++] = (struct sock_filter)__VA_ARGS__)
	EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	for (size_t i = 0; i < n; i++) {
		const struct seccomp__stub_arch *a = &archs[i];
		size_t head = len;

		EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a->audit_arch, 0, 0 /* set below */));
		EMIT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, nr_off));
		if (a->no_socketcall) {
			EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCKETCALL_I386, 0, 1));
			EMIT(BPF_STMT(BPF_RET | BPF_K, deny));
		}
		if (a->audit_arch == AUDIT_ARCH_X86_64) {
			size_t x32 = len;

			EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 0, 0 /* set below */));
			if (a->last_x32 >= 0) {
				EMIT(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)a->last_x32, 0, 1));
				EMIT(BPF_STMT(BPF_RET | BPF_K, enosys));
			}
			ends[n_ends++] = len;
			EMIT(BPF_STMT(BPF_JMP | BPF_JA, 0));
			out[x32].jf = (uint8_t)(len - x32 - 1);
		}
		if (a->last >= 0) {
			EMIT(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)a->last, 0, 1));
			EMIT(BPF_STMT(BPF_RET | BPF_K, enosys));
		}
		ends[n_ends++] = len;
		EMIT(BPF_STMT(BPF_JMP | BPF_JA, 0));
		out[head].jf = (uint8_t)(len - head - 1);
	}
#undef EMIT
	for (size_t i = 0; i < n_ends; i++) {
		out[ends[i]].k = (uint32_t)(len - ends[i] - 1);
	}
	return len;
}

static uint32_t audit_arch(uint32_t arch)
{
	/* libseccomp's tokens are the audit architectures; only x32 has one of its own. */
	return arch == SCMP_ARCH_X32 ? (uint32_t)SCMP_ARCH_X86_64 : arch;
}

static size_t make_stub(const struct oci_seccomp *s, scmp_filter_ctx ctx, uint32_t deny,
			struct sock_filter *out)
{
	struct seccomp__stub_arch archs[SECCOMP__ARCHS_MAX];
	/* Who is asked about every other call is to be asked about new ones too. */
	bool enosys = !permissive(s->default_action) &&
		      !str_eq(s->default_action, "SCMP_ACT_NOTIFY") &&
		      !(str_eq(s->default_action, "SCMP_ACT_ERRNO") && s->has_default_errno_ret &&
			s->default_errno_ret == ENOSYS);
	bool close_socketcall = closes_socketcall(s);
	size_t n = 0;

	if (!enosys && !close_socketcall) {
		return 0;
	}
	for (size_t i = 0; i <= s->architectures.n && n < ARRAY_LEN(archs); i++) {
		uint32_t arch = i == s->architectures.n ? seccomp_arch_native() :
				(uint32_t)seccomp__arch(s->architectures.v[i]);
		uint32_t audit = audit_arch(arch);
		size_t k = 0;

		if (arch == 0 || seccomp_arch_exist(ctx, arch) < 0) {
			continue;
		}
		while (k < n && archs[k].audit_arch != audit) {
			k++;
		}
		if (k == n) {
			archs[n++] = (struct seccomp__stub_arch){ .audit_arch = audit, .last = -1,
								   .last_x32 = -1 };
		}
		if (enosys) {
			*(arch == SCMP_ARCH_X32 ? &archs[k].last_x32 : &archs[k].last) =
				last_call(s, arch);
		}
		archs[k].no_socketcall = close_socketcall && arch == SCMP_ARCH_X86;
	}
	return seccomp__stub(archs, n, deny, out);
}

static int add_archs(const struct oci_seccomp *s, scmp_filter_ctx ctx, struct err *e)
{
	for (size_t i = 0; i < s->architectures.n; i++) {
		uint32_t arch = (uint32_t)seccomp__arch(s->architectures.v[i]);
		int r = arch == 0 ? 0 : seccomp_arch_add(ctx, arch);

		/* -EDOM: of the other byte order, so nothing that could run here. */
		if (r < 0 && r != -EEXIST && r != -EDOM) {
			return err_set(e, -r, ERR_UNSUPPORTED, "seccomp architecture %s",
				       s->architectures.v[i]);
		}
	}
	return 0;
}

static int add_call(scmp_filter_ctx ctx, const char *name, uint32_t action,
		    const struct scmp_arg_cmp *args, unsigned n_args, bool alternatives,
		    struct err *e)
{
	int nr = seccomp_syscall_resolve_name(name);
	int r = 0;

	if (nr == __NR_SCMP_ERROR) {
		log_debug("seccomp: skipped a system call that libseccomp does not know",
			  "name", name);
		return 0;
	}
	if (!alternatives) {
		r = seccomp_rule_add_array(ctx, action, nr, n_args, args);
	}
	for (unsigned i = 0; alternatives && i < n_args && r == 0; i++) {
		r = seccomp_rule_add_array(ctx, action, nr, 1, &args[i]);
	}
	/* The same rule twice is no contradiction. */
	return r < 0 && r != -EEXIST ?
	       err_set(e, -r, ERR_INVALID, "seccomp rule for %s", name) : 0;
}

static int add_rule(scmp_filter_ctx ctx, const struct oci_seccomp_rule *rule,
		    uint32_t default_action, struct err *e)
{
	const struct oci_seccomp_arg *args = rule->args.v;
	uint32_t action = (uint32_t)seccomp__action(rule->action, rule->has_errno_ret,
						    rule->errno_ret);
	struct scmp_arg_cmp cmp[6 * 4];
	bool alternatives = false;
	unsigned seen = 0;
	int r = 0;

	if (action == default_action) {
		return 0; /* libseccomp refuses what changes nothing */
	}
	for (size_t i = 0; i < rule->args.n; i++) {
		cmp[i] = (struct scmp_arg_cmp){
			.arg = (unsigned)args[i].index,
			.op = (enum scmp_compare)seccomp__operator(args[i].op),
			.datum_a = args[i].value, .datum_b = args[i].value_two,
		};
		alternatives |= seen & 1u << args[i].index;
		seen |= 1u << args[i].index;
	}
	for (size_t i = 0; i < rule->names.n && r == 0; i++) {
		r = add_call(ctx, rule->names.v[i], action, cmp, (unsigned)rule->args.n, alternatives,
			     e);
	}
	return r;
}

/* libseccomp writes programs to descriptors only. */
static int export(scmp_filter_ctx ctx, const struct sock_filter *stub, size_t n_stub,
		  struct seccomp_filter *ret, struct err *e)
{
	auto_close int fd = sys_memfd_create("seccomp", 0);
	size_t n = 0;
	struct stat st;
	int r = fd < 0 ? fd : seccomp_export_bpf(ctx, fd);

	r = r < 0 ? r : sys_fstat(fd, &st);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "compile the seccomp filter");
	}
	n = (size_t)st.st_size / sizeof(*ret->insns);
	if (n == 0 || n + n_stub > BPF_MAXINSNS) {
		return err_set(e, E2BIG, ERR_LIMIT, "the seccomp filter has %zu instructions; the "
			       "kernel takes %d", n + n_stub, BPF_MAXINSNS);
	}
	ret->insns = mem_calloc(n + n_stub, sizeof(*ret->insns));
	if (!ret->insns) {
		return err_nomem(e);
	}
	if (n_stub > 0) {
		memcpy(ret->insns, stub, n_stub * sizeof(*stub));
	}
	if (sys_pread(fd, ret->insns + n_stub, n * sizeof(*ret->insns), 0) !=
	    (ssize_t)(n * sizeof(*ret->insns))) {
		return err_set(e, EIO, ERR_HOST, "read the compiled seccomp filter");
	}
	ret->n = (uint16_t)(n + n_stub);
	return 0;
}

int seccomp__generate(const struct oci_seccomp *s, struct seccomp_filter *ret, struct err *e)
{
	const struct oci_seccomp_rule *rules = s->syscalls.v;
	struct sock_filter stub[SECCOMP__STUB_MAX];
	uint32_t deny = (uint32_t)seccomp__action(s->default_action, s->has_default_errno_ret,
						  s->default_errno_ret);
	auto_ctx scmp_filter_ctx ctx = NULL;
	int r = 0;

	ignore_result(seccomp_api_set(API_LEVEL)); /* a newer library may have more */
	ctx = seccomp_init(deny);
	if (!ctx) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED, "libseccomp refuses the default action %s",
			       s->default_action);
	}
	/* A tree of comparisons instead of a list: fewer steps for each call. */
	ignore_result(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2)); /* else it is slower */
	r = add_archs(s, ctx, e);
	for (size_t i = 0; i < s->syscalls.n && r == 0; i++) {
		r = add_rule(ctx, &rules[i], deny, e);
	}
	if (r < 0) {
		return r;
	}
	return export(ctx, stub, make_stub(s, ctx, deny, stub), ret, e);
}
