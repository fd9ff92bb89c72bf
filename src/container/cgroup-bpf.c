/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device rules as a BPF program, for v2 groups.
 *
 * The kernel calls the program with the kind of the device, the accesses wanted and its
 * numbers; 1 lets it pass. The program goes through the rules from the last to the first,
 * with the accesses that no rule has decided yet in r5:
 *
 *	r2 = type, r5 = accesses wanted, r3 = major, r4 = minor
 *	for each rule, last first:
 *		if (r2 != type || r3 != major || r4 != minor) goto next    // as far as given
 *		deny:   if (r5 & access) return 0
 *		allow:  r5 &= ~access; if (r5 == 0) return 1
 *	next:
 *	return 0
 */
#include <errno.h>
#include <linux/bpf.h>

#include "base/mem.h"
#include "container/cgroup-priv.h"
#include "sys/bpf.h"
#include "sys/file.h"

static_assert(CG_DEV_READ == 1 && CG_DEV_WRITE == 2 && CG_DEV_MKNOD == 4, "see kernel_access()");

enum { R0, R1, R2, R3, R4, R5 };

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), \
						.off = (o), .imm = (i) })
#define LOAD(d, field)  INSN(BPF_LDX | BPF_MEM | BPF_W, d, R1, \
			     (int16_t)offsetof(struct bpf_cgroup_dev_ctx, field), 0)
#define MOV_IMM(d, i)   INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define MOV_REG(d, s)   INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define AND_IMM(d, i)   INSN(BPF_ALU64 | BPF_AND | BPF_K, d, 0, 0, i)
#define RSH_IMM(d, i)   INSN(BPF_ALU64 | BPF_RSH | BPF_K, d, 0, 0, i)
/* 32 bits, so that a number above INT32_MAX compares as it is. */
#define JNE_IMM(d, o, i) INSN(BPF_JMP32 | BPF_JNE | BPF_K, d, 0, o, i)
#define EXIT            INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* Instructions of one rule at most: three tests, three to decide, two to return. */
enum { PER_RULE_MAX = 8, PROLOGUE = 6, EPILOGUE = 2 };

static int32_t kernel_access(uint8_t access)
{
	return (access & CG_DEV_READ ? BPF_DEVCG_ACC_READ : 0) |
	       (access & CG_DEV_WRITE ? BPF_DEVCG_ACC_WRITE : 0) |
	       (access & CG_DEV_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0);
}

static size_t emit_rule(struct bpf_insn *p, const struct cg_dev_rule *rule)
{
	size_t n = 0, tests;

	if (rule->type != 'a') {
		p[n++] = JNE_IMM(R2, 0, rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	}
	if (rule->major != -1) {
		p[n++] = JNE_IMM(R3, 0, (int32_t)rule->major);
	}
	if (rule->minor != -1) {
		p[n++] = JNE_IMM(R4, 0, (int32_t)rule->minor);
	}
	tests = n;
	if (rule->allow) {
		p[n++] = AND_IMM(R5, ~kernel_access(rule->access));
		p[n++] = JNE_IMM(R5, 2, 0);
		p[n++] = MOV_IMM(R0, 1);
	} else {
		p[n++] = MOV_REG(R1, R5);
		p[n++] = AND_IMM(R1, kernel_access(rule->access));
		p[n++] = INSN(BPF_JMP32 | BPF_JEQ | BPF_K, R1, 0, 2, 0);
		p[n++] = MOV_IMM(R0, 0);
	}
	p[n++] = EXIT;
	for (size_t i = 0; i < tests; i++) {
		p[i].off = (int16_t)(n - i - 1);
	}
	return n;
}

int cg__bpf_program(const struct cg_dev_rules *rules, struct bpf_insn **ret, size_t *ret_n)
{
	struct bpf_insn *p = mem_calloc(PROLOGUE + EPILOGUE + PER_RULE_MAX * (rules->n + 1), sizeof(*p));
	size_t n = 0;

	if (!p) {
		return -ENOMEM;
	}
	p[n++] = LOAD(R2, access_type);
	p[n++] = LOAD(R3, major);
	p[n++] = LOAD(R4, minor);
	p[n++] = MOV_REG(R5, R2);
	p[n++] = RSH_IMM(R5, 16);
	p[n++] = AND_IMM(R2, 0xffff);
	for (size_t i = rules->n; i-- > 0;) {
		n += emit_rule(p + n, &rules->v[i]);
		if (rules->v[i].type == 'a' && rules->v[i].access == CG_DEV_ALL) {
			break; /* decides everything; the verifier refuses what none reaches */
		}
	}
	p[n++] = MOV_IMM(R0, 0);
	p[n++] = EXIT;
	*ret = p;
	*ret_n = n;
	return 0;
}

enum { ATTACHED_MAX = 64, LOG_BYTES = 16384 };

static int load(const struct cg_dev_rules *rules, struct err *e)
{
	struct bpf_insn *insns = NULL;
	size_t n = 0;

	if (cg__bpf_program(rules, &insns, &n) < 0) {
		return err_nomem(e);
	}
	int fd = sys_bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, insns, n, NULL, 0);

	free(insns);
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "load the program with the device rules");
	}
	return fd;
}

/*
 * The new program is attached beside the old ones and these are taken away then: in between
 * both must agree, so that at no time more is allowed than by one of them.
 */
int cg__bpf_attach(int group_fd, const struct cg_dev_rules *rules, struct err *e)
{
	uint32_t ids[ATTACHED_MAX] = { 0 };
	auto_close int prog_fd = load(rules, e);

	if (prog_fd < 0) {
		return prog_fd;
	}
	int old = sys_bpf_query(group_fd, BPF_CGROUP_DEVICE, ids, ATTACHED_MAX);

	if (old < 0 || old > ATTACHED_MAX) {
		return err_set(e, old < 0 ? -old : E2BIG, ERR_HOST, "look at the group's device programs");
	}
	int r = sys_bpf_attach(group_fd, prog_fd, BPF_CGROUP_DEVICE, -1);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "attach the device rules to the group");
	}
	for (int i = 0; i < old; i++) {
		auto_close int fd = sys_bpf_prog_open(ids[i]);

		r = fd < 0 ? fd : sys_bpf_detach(group_fd, fd, BPF_CGROUP_DEVICE);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "take the group's old device rules away");
		}
	}
	return 0;
}
