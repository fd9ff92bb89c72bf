/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against capstone, a disassembler of others: lengths and memory operands, over
 * random and structured bytes in all three modes. Where the two differ, capstone is laxer than
 * the manuals or knows more instructions than we offer: the reasons stand in explained().
 *
 *	test-soft-decode [COUNT [SEED]]
 */
#include <capstone/capstone.h>
#include <errno.h>

#include "base/test.h"
#include "vm/cpu/soft/insn.h"
#include "vm/cpu/state.h"

static uint64_t random_state = 1;
static unsigned count = 300000;
static csh handles[3];

static uint32_t rnd(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 24) % below;
}

static bool one_of(const char *name, const char *const *names, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		if (strcmp(name, names[k]) == 0) {
			return true;
		}
	}
	return false;
}

/* Instructions that this CPU does not have: capstone knows them, we raise #UD. */
static const char *const not_offered[] = {
	"rsm", "vmread", "vmwrite", "getsec", "xend", "xbegin", "xabort", "xtest", "vmxoff",
	"vmlaunch", "vmresume", "vmclear", "vmptrld", "vmptrst", "vmxon", "vmfunc", "vmrun",
	"vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga", "invept", "invvpid", "monitor",
	"mwait", "monitorx", "mwaitx", "extrq", "insertq", "movntss", "movntsd", "femms", "clzero",
	"rdpkru", "wrpkru", "encls", "enclu", "enclv", "xrstors", "xsaves", "xsavec64", "xstors",
	"xrstors64", "xsaves64", "pcommit", "ptwrite", "incsspd", "incsspq", "rstorssp",
	"clrssbsy", "saveprevssp", "setssbsy", "wrssd", "wrssq", "wrussd", "wrussq", "movdiri",
	"movdir64b", "umonitor", "umwait", "tpause", "cldemote", "xcryptecb", "xcryptcbc",
	"xcryptctr", "xcryptcfb", "xcryptofb", "xstore", "xsha1", "xsha256", "montmul", "wbnoinvd",
	"pconfig", "gf2p8mulb", "gf2p8affineqb", "gf2p8affineinvqb", "vgf2p8mulb",
	"vgf2p8affineqb", "vgf2p8affineinvqb", "fstpnce", "rdrand", "jmpe",
	"xstorerng", "swapgs", "ud2b",
};

/* NOPs by their opcode of which capstone knows only some forms, and UD0, whose length
 * the makers of CPUs changed their minds about. */
static const char *const we_know_more[] = { "nop", "endbr", "prefetch", "ud0", "ud1", "adox",
	"salc", "fneni", "fndisi", "fnsetpm", "fcom", "fcomp", "fxch", "fstp", "ffreep",
	"test", "shl", "lzcnt", "tzcnt", "bsf", "bsr", "vmcall", "clwb", "movbe", "crc32",
	"serialize",
	"lfence", "mfence", "sfence" };

static bool has_prefix(const uint8_t *b, uint8_t prefix)
{
	for (unsigned k = 0; k < 6; k++) {
		if (b[k] == prefix) {
			return true;
		}
	}
	return false;
}

/* What capstone overlooks or takes one for the other. */
enum { NO_LOCK = 1, NO_REP = 2, NO_66_REX = 4, OTHER_W = 8, ASIZE_AS_66 = 16, CHANGES = 32 };

/* Its length after changes, with what was left out counted. */
static int length_changed(const uint8_t *b, enum insn_mode mode, unsigned changes)
{
	uint8_t  kept[18] = { 0 };
	unsigned n = 0, at = 0;
	struct insn i;
	int r = 0;

	for (; at < 15; at++) {
		bool rex = mode == INSN_MODE_64 && b[at] >> 4 == 4;
		bool drop = (changes & NO_LOCK && b[at] == 0xf0) ||
			    (changes & NO_REP && (b[at] == 0xf2 || b[at] == 0xf3)) ||
			    (changes & NO_66_REX && (b[at] == 0x66 || rex));

		if (drop) {
			continue;
		}
		if (b[at] == 0x67 && changes & ASIZE_AS_66) {
			kept[n++] = 0x66;
		} else if ((b[at] & 0xfe) == 0x66 || (b[at] & 0xe7) == 0x26 || rex ||
			   (b[at] & 0xfe) == 0x64 || (b[at] >= 0xf0 && b[at] <= 0xf3)) {
			kept[n++] = b[at];
		} else {
			break;
		}
	}
	memcpy(kept + n, b + at, 15 - at);
	if (kept[n] == 0xc4 && changes & OTHER_W) {
		kept[n + 2] ^= 0x80;
	}
	r = insn_decode(kept, 15, mode, &i);
	return r > 0 ? r + (int)(at - n) : r;
}

static const char *explained(const uint8_t *b, enum insn_mode mode, int ours, const struct insn *i,
			     const cs_insn *theirs)
{
	if (ours > 0 && theirs) {
		const char *name = insn_table[i->row].name;

		if (strcmp(name, "ud0") == 0 || strcmp(name, "ud1") == 0) {
			return "capstone takes no ModRM for some forms of UD";
		}
		if (mode == INSN_MODE_64 && insn_table[i->row].attr & INSN_A_F64 &&
		    (i->prefix & INSN_66 || has_prefix(b, 0x67))) {
			return "a branch with 66 in 64-bit mode: ours is Intel's way, 32 bits";
		}
		if (i->prefix & INSN_66 && i->prefix & (INSN_REP | INSN_REPNE)) {
			return "with F2 or F3 capstone does not see 66";
		}
		return NULL;
	}
	if (ours > 0) {
		const struct insn_row *row = &insn_table[i->row];

		if (row->pp > INSN_PP_NONE && row->enc == INSN_LEGACY) {
			return "capstone wants a mandatory prefix to be last, not in 16-bit mode";
		}
		if (row->ops[0] == INSN_O_Sw || row->ops[1] == INSN_O_Sw) {
			return "REX.R is ignored for segment registers";
		}
		if (row->ops[0] >= INSN_O_Ob || row->ops[1] >= INSN_O_Ob) {
			return "with F2 or F3 capstone does not know MOV of AL, AX";
		}
		return one_of(row->name, we_know_more, ARRAY_LEN(we_know_more)) ?
			"a form that capstone lacks" : NULL;
	}
	if (strstr(theirs->op_str, "cs, ") == theirs->op_str) {
		return "MOV to CS";
	}
	if (theirs->mnemonic[0] == 'k' || strstr(theirs->mnemonic, "gather")) {
		return "mask registers; a gather with the same register twice";
	}
	if (one_of(theirs->mnemonic, not_offered, ARRAY_LEN(not_offered))) {
		return "not offered";
	}
	if (cs_insn_group(handles[mode], theirs, X86_GRP_3DNOW) ||
	    cs_insn_group(handles[mode], theirs, X86_GRP_XOP) ||
	    cs_insn_group(handles[mode], theirs, X86_GRP_FMA4) ||
	    cs_insn_group(handles[mode], theirs, X86_GRP_TBM) ||
	    cs_insn_group(handles[mode], theirs, X86_GRP_AVX512)) {
		return "a set that is not offered";
	}
	if (strncmp(theirs->mnemonic, "mov", 3) == 0 && b[0] != 0xc4 &&
	    (strstr(theirs->op_str, "cr") || strstr(theirs->op_str, "dr"))) {
		return "control and debug registers that do not exist";
	}
	if (cs_insn_group(handles[mode], theirs, X86_GRP_JUMP) && has_prefix(b, 0xf0)) {
		return "LOCK of a branch, with 66";
	}
	for (unsigned changes = 1; changes < CHANGES; changes++) {
		if (length_changed(b, mode, changes) == theirs->size) {
			return "prefixes where they are illegal, or that select another form";
		}
	}
	return NULL;
}

static int reg_number(enum insn_mode mode, x86_reg reg)
{
	static const char *const names[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
	const char *s = cs_reg_name(handles[mode], reg);

	if (reg == X86_REG_INVALID || !s || reg == X86_REG_EIZ || reg == X86_REG_RIZ) {
		return INSN_NONE;
	}
	if (strcmp(s, "rip") == 0 || strcmp(s, "eip") == 0) {
		return INSN_BASE_RIP;
	}
	if (strstr(s, "mm")) {
		return (int)strtol(s + 3, NULL, 10);
	}
	if (s[0] == 'r' && s[1] >= '0' && s[1] <= '9') {
		return (int)strtol(s + 1, NULL, 10);
	}
	for (unsigned k = 0; k < ARRAY_LEN(names); k++) {
		if (strcmp(s + (strlen(s) > 2), names[k]) == 0) {
			return (int)k;
		}
	}
	return -1;
}

/* The memory operand that ModRM names is the same. */
static bool same_memory(enum insn_mode mode, const struct insn *i, const cs_insn *theirs)
{
	const cs_x86 *x = &theirs->detail->x86;

	if (i->rm != INSN_NONE || (i->base == INSN_NONE && i->index == INSN_NONE && !i->disp)) {
		return true;
	}
	for (unsigned o = 0; o < x->op_count; o++) {
		const x86_op_mem *m = &x->operands[o].mem;
		int64_t disp = i->ad_bytes == 2 ? (int16_t)(m->disp) : (int32_t)m->disp;

		if (x->operands[o].type == X86_OP_MEM) {
			return reg_number(mode, m->base) == i->base &&
			       reg_number(mode, m->index) == i->index && disp == i->disp &&
			       (i->index == INSN_NONE || m->scale == 1 << i->scale);
		}
	}
	return x->op_count == 0;   /* some NOPs come without operands */
}

static void random_bytes(uint8_t b[static 16], enum insn_mode mode)
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x64, 0x65 };
	unsigned at = 0;

	for (unsigned k = 0; k < 16; k++) {
		b[k] = (uint8_t)rnd(256);
	}
	while (rnd(2) && at < 4) {
		b[at++] = prefixes[rnd(sizeof(prefixes))];
	}
	if (mode == INSN_MODE_64 && rnd(2)) {
		b[at++] = (uint8_t)(0x40 | rnd(16));
	}
	switch (rnd(7)) {
	case 0: case 1: b[at++] = 0x0f; break;
	case 2: b[at++] = 0x0f; b[at] = rnd(2) ? 0x38 : 0x3a; break;
	case 3: b[at] = 0xc5; break;
	case 4:
		b[at++] = 0xc4;
		b[at] = (uint8_t)((b[at] & 0xe0) | (rnd(3) + 1));
		break;
	default: break;
	}
}

static void test_capstone(unused_arg void **state)
{
	unsigned decoded = 0, differ = 0;

	for (unsigned k = 0; k < count; k++) {
		enum insn_mode mode = (enum insn_mode)rnd(3);
		uint8_t b[16];
		struct insn i;
		cs_insn *theirs = NULL;

		random_bytes(b, mode);
		int    ours = insn_decode(b, 15, mode, &i);
		size_t got = cs_disasm(handles[mode], b, 15, 0x1000, 1, &theirs);
		bool   same = ours > 0 ? got && theirs->size == ours : !got;

		decoded += ours > 0;
		if (ours > 0 && same && !same_memory(mode, &i, theirs)) {
			same = false;
		}
		if (!same && (!explained(b, mode, ours, &i, theirs) ||
			      (ours > 0 && got && theirs->size == ours))) {
			differ++;
			printf("%2d-bit:", 16 << mode);
			for (unsigned x = 0; x < 15; x++) {
				printf(" %02x", b[x]);
			}
			printf("  ours %d %s, capstone %d %s %s\n", ours,
			       ours > 0 ? insn_table[i.row].name : "", got ? theirs->size : 0,
			       got ? theirs->mnemonic : "", got ? theirs->op_str : "");
		}
		if (got) {
			cs_free(theirs, got);
		}
	}
	printf("%u of %u decoded, %u differ\n", decoded, count, differ);
	assert_true(decoded > count / 4);
	assert_int_equal(differ, 0);
}

/* Every prefix of an instruction needs more bytes, and none of them is anything else. */
static void test_partial(unused_arg void **state)
{
	for (unsigned k = 0; k < 20000; k++) {
		enum insn_mode mode = (enum insn_mode)rnd(3);
		uint8_t b[16];
		struct insn i;

		random_bytes(b, mode);
		int len = insn_decode(b, 15, mode, &i);

		for (int n = 0; n < len; n++) {
			assert_int_equal(insn_decode(b, (size_t)n, mode, &i), 0);
		}
	}
}

static void test_length_limit(unused_arg void **state)
{
	struct insn i;
	uint8_t b[16];

	memset(b, 0x66, sizeof(b));
	assert_int_equal(insn_decode(b, 15, INSN_MODE_64, &i), -E2BIG);
	assert_int_equal(insn_decode(b, 14, INSN_MODE_64, &i), 0);
	b[14] = 0x90;
	assert_int_equal(insn_decode(b, 15, INSN_MODE_64, &i), 15);
	b[13] = 0x81;   /* add dword [rax], imm32 would end behind the fifteenth byte */
	b[14] = 0x00;
	assert_int_equal(insn_decode(b, 15, INSN_MODE_64, &i), -E2BIG);
}

/* Row 15 of the traps: prefixes. */
static void test_prefixes(unused_arg void **state)
{
	static const struct {
		uint8_t bytes[8];
		enum insn_mode mode;
		int     len;
		uint8_t seg, op_bytes, ad_bytes;
	} cases[] = {
		{ { 0x64, 0x65, 0x8b, 0x00 }, INSN_MODE_64, 4, CPU_GS, 4, 8 },
		{ { 0x2e, 0x36, 0x8b, 0x00 }, INSN_MODE_32, 4, CPU_SS, 4, 4 },
		{ { 0x64, 0x2e, 0x8b, 0x00 }, INSN_MODE_64, 4, CPU_FS, 4, 8 },
		{ { 0x67, 0x67, 0x8b, 0x00 }, INSN_MODE_64, 4, CPU_DS, 4, 4 },
		{ { 0x48, 0x66, 0x8b, 0x00 }, INSN_MODE_64, 4, CPU_DS, 2, 8 },   /* REX not last */
		{ { 0x66, 0x48, 0x8b, 0x00 }, INSN_MODE_64, 4, CPU_DS, 8, 8 },
		{ { 0xf0, 0x8b, 0x00 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },
		{ { 0xf0, 0x01, 0xc0 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },
		{ { 0xf0, 0x01, 0x00 }, INSN_MODE_64, 3, CPU_DS, 4, 8 },
		{ { 0xf0, 0x39, 0x00 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },
		{ { 0x66, 0xc5, 0xf8, 0x58, 0xc0 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },
		{ { 0x66, 0x50 }, INSN_MODE_64, 2, CPU_DS, 2, 8 },
		/* Ports have at most 32 bits. */
		{ { 0x48, 0xed }, INSN_MODE_64, 2, CPU_DS, 4, 8 },
		{ { 0x48, 0xe5, 0x10 }, INSN_MODE_64, 3, CPU_DS, 4, 8 },
		{ { 0x48, 0xef }, INSN_MODE_64, 2, CPU_DS, 4, 8 },
		{ { 0x48, 0xe7, 0x10 }, INSN_MODE_64, 3, CPU_DS, 4, 8 },
		{ { 0x48, 0x6d }, INSN_MODE_64, 2, CPU_DS, 4, 8 },
		{ { 0x48, 0x6f }, INSN_MODE_64, 2, CPU_DS, 4, 8 },
		{ { 0x50 }, INSN_MODE_64, 1, CPU_DS, 8, 8 },
		{ { 0x8b, 0x45, 0x00 }, INSN_MODE_64, 3, CPU_SS, 4, 8 },
		{ { 0x8e, 0xc8 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },              /* MOV CS */
		{ { 0x8e, 0xf0 }, INSN_MODE_64, -EINVAL, 0, 0, 0 },              /* segment 6 */
	};

	for (unsigned k = 0; k < ARRAY_LEN(cases); k++) {
		struct insn i;

		assert_int_equal(insn_decode(cases[k].bytes, 8, cases[k].mode, &i), cases[k].len);
		if (cases[k].len > 0) {
			assert_int_equal(i.seg, cases[k].seg);
			assert_int_equal(i.op_bytes, cases[k].op_bytes);
			assert_int_equal(i.ad_bytes, cases[k].ad_bytes);
		}
	}
}

/* Rows of one opcode must not hide each other, and say only what the decoder can use. */
static void test_table(unused_arg void **state)
{
	for (size_t r = 0; r < insn_table_len; r++) {
		const struct insn_row *row = &insn_table[r];

		assert_true(row->opcode + row->n_opcodes <= 256);
		assert_true((row->fu & ~row->fw) == 0);
		assert_true(!(row->attr & INSN_A_LOCK) || row->attr & INSN_A_RMW);
		assert_false(row->fn && row->pick);
		for (size_t q = 0; q < r; q++) {
			const struct insn_row *o = &insn_table[q];

			if (o->map == row->map && o->enc == row->enc && o->opcode <= row->opcode &&
			    row->opcode < o->opcode + o->n_opcodes && o->pp == row->pp &&
			    o->reg == row->reg && o->rm == row->rm && o->mod == row->mod &&
			    o->w == row->w && o->l == row->l &&
			    (o->attr & (INSN_A_I64 | INSN_A_O64)) ==
			    (row->attr & (INSN_A_I64 | INSN_A_O64))) {
				fail_msg("rows %s and %s are the same", o->name, row->name);
			}
		}
	}
}

/* REX.W makes a port no wider than the four bytes that there are. */
static void test_ports(unused_arg void **state)
{
	static const uint8_t codes[][2] = {
		{ 0xe5, 0x71 }, { 0xe7, 0x71 }, { 0xed }, { 0xef }, { 0x6d }, { 0x6f },
	};

	for (size_t k = 0; k < ARRAY_LEN(codes); k++) {
		uint8_t b[] = { 0x48, codes[k][0], codes[k][1], 0x90 };
		struct insn i;

		assert_true(insn_decode(b, sizeof(b), INSN_MODE_64, &i) > 0);
		assert_int_equal(i.op_bytes, 4);
	}
}

int main(int argc, char **argv)
{
	static const cs_mode modes[] = { CS_MODE_16, CS_MODE_32, CS_MODE_64 };
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capstone),
		cmocka_unit_test(test_partial),
		cmocka_unit_test(test_length_limit),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_ports),
	};
	int r = 0;

	if (argc > 1) {
		count = (unsigned)strtoul(argv[1], NULL, 0);
	}
	if (argc > 2) {
		random_state = strtoull(argv[2], NULL, 0) | 1;
	}
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		assert(cs_open(CS_ARCH_X86, modes[m], &handles[m]) == CS_ERR_OK);
		assert(cs_option(handles[m], CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK);
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		cs_close(&handles[m]);
	}
	return r;
}
