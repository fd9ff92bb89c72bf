/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and keeps stubs: see native.h. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#include "base/fd.h"
#include "sys/file.h"
#include "sys/map.h"
#include "vm/cpu/soft/native.h"
#include "vm/cpu/soft/soft.h"

/*
 * The registers of stubs: RDI holds the context, R9 the address of the memory operand. The
 * numbers are chosen so that implicit RAX, RCX, RDX and XMM0 are free.
 */
enum {
	X_REG = 1, X_VVVV = 2, X_RM = 3, X_IS4 = 4,
	G_REG = 6 /* RSI */, G_VVVV = 10, G_RM = 8, R_MEM = 9, R_CTX = 7,
};

/* More than all encodings that rows can have need; pages are taken as they are used. */
enum { CODE_BYTES = 64 << 20, CODE_MAX = 512, HASH = 4096 };

static struct {
	pthread_mutex_t lock;
	uint8_t *rw;                 /* the same memory twice: here it is written, */
	const uint8_t *rx;           /* and here it runs */
	size_t   used;
	const uint8_t *fault_exit;   /* where a stub goes that raised SIGFPE */
	struct native_stub *hash[HASH];
} stubs = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- Emission --- */

struct emit {
	uint8_t  b[CODE_MAX];
	unsigned n;
};

static void put(struct emit *e, const void *bytes, unsigned n)
{
	assert(e->n + n <= CODE_MAX);
	memcpy(e->b + e->n, bytes, n);
	e->n += n;
}

#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ })
#define PUT(e, ...) put(e, BYTES(__VA_ARGS__), sizeof(BYTES(__VA_ARGS__)))

/* ModRM and displacement of a field of the context. */
static void put_field(struct emit *e, unsigned reg, size_t off)
{
	uint32_t disp = (uint32_t)off;

	PUT(e, (uint8_t)(0x80 | (reg & 7) << 3 | R_CTX));
	put(e, &disp, 4);
}

static void put_gpr(struct emit *e, bool load, unsigned reg, size_t off)
{
	PUT(e, (uint8_t)(0x48 | (reg & 8) >> 1), load ? 0x8b : 0x89);
	put_field(e, reg, off);
}

static void put_xmm(struct emit *e, bool vex, bool load, unsigned reg, size_t off)
{
	if (vex) {
		PUT(e, 0xc5, 0xfe, load ? 0x6f : 0x7f);     /* vmovdqu ymm */
	} else {
		PUT(e, 0x0f, load ? 0x10 : 0x11);           /* movups */
	}
	put_field(e, reg, off);
}

static void put_mxcsr(struct emit *e, bool load, size_t off)
{
	PUT(e, 0x0f, 0xae);
	put_field(e, load ? 2 : 3, off);
}

#define OFF(field) offsetof(struct native_ctx, field)

static const struct {
	uint16_t use;
	uint8_t  reg;
	bool     xmm;
	size_t   off;
} moves[] = {
	{ NATIVE_X_REG, X_REG, true, OFF(x_reg) }, { NATIVE_X_VVVV, X_VVVV, true, OFF(x_vvvv) },
	{ NATIVE_X_RM, X_RM, true, OFF(x_rm) },    { NATIVE_X_IS4, X_IS4, true, OFF(x_is4) },
	{ NATIVE_X_0, 0, true, OFF(x_0) },
	{ NATIVE_G_REG, G_REG, false, OFF(g_reg) }, { NATIVE_G_VVVV, G_VVVV, false, OFF(g_vvvv) },
	{ NATIVE_G_RM, G_RM, false, OFF(g_rm) },
	{ NATIVE_RAX, 0, false, OFF(rax) }, { NATIVE_RCX, 1, false, OFF(rcx) },
	{ NATIVE_RDX, 2, false, OFF(rdx) },
};

static void put_moves(struct emit *e, const struct native_stub *s, bool load)
{
	unsigned use = load ? s->in : s->out;

	for (unsigned k = 0; k < ARRAY_LEN(moves); k++) {
		if (!(use & moves[k].use)) {
			continue;
		}
		if (moves[k].xmm) {
			put_xmm(e, s->vex, load, moves[k].reg, moves[k].off);
		} else {
			put_gpr(e, load, moves[k].reg, moves[k].off);
		}
	}
}

static void emit_stub(struct emit *e, const struct native_stub *s)
{
	PUT(e, 0xf3, 0x0f, 0x1e, 0xfa);                     /* endbr64 */
	put_moves(e, s, true);
	if (s->mem_bytes) {
		PUT(e, 0x4c, 0x8d);                         /* lea r9, [rdi + mem] */
		put_field(e, R_MEM, OFF(mem));
	}
	if (s->in & NATIVE_MXCSR) {
		put_mxcsr(e, true, OFF(mxcsr));
	}
	if (s->in & NATIVE_FLAGS) {
		PUT(e, 0xff);                               /* push; popfq */
		put_field(e, 6, OFF(flags));
		PUT(e, 0x9d);
	}
	put(e, s->bytes, s->n);
	if (s->out & NATIVE_FLAGS) {
		PUT(e, 0x9c, 0x8f);                         /* pushfq; pop */
		put_field(e, 0, OFF(flags));
	}
	if (s->in & NATIVE_MXCSR) {
		put_mxcsr(e, false, OFF(mxcsr));
		put_mxcsr(e, true, OFF(host_mxcsr));
	}
	put_moves(e, s, false);
	if (s->vex && s->unit == NATIVE_AVX) {
		PUT(e, 0xc5, 0xf8, 0x77);                   /* vzeroupper */
	}
	PUT(e, 0xc3);
}

static const uint8_t *keep_code(const struct emit *e)
{
	const uint8_t *at = stubs.rx + stubs.used;

	assert(stubs.used + e->n <= CODE_BYTES);
	memcpy(stubs.rw + stubs.used, e->b, e->n);
	stubs.used += (e->n + 31u) & ~31u;
	return at;
}

/* --- From a decoded instruction to the bytes that run --- */

static void add_operand(struct native_stub *s, const struct insn *i, const struct insn_row *row,
			unsigned o, bool written)
{
	static const uint16_t x_uses[] = {
		[INSN_AT_RM] = NATIVE_X_RM, [INSN_AT_REG] = NATIVE_X_REG,
		[INSN_AT_VVVV] = NATIVE_X_VVVV, [INSN_AT_IS4] = NATIVE_X_IS4,
		[INSN_AT_FIXED] = NATIVE_X_0,
	};
	static const uint16_t g_uses[] = {
		[INSN_AT_RM] = NATIVE_G_RM, [INSN_AT_REG] = NATIVE_G_REG,
		[INSN_AT_VVVV] = NATIVE_G_VVVV, [INSN_AT_FIXED] = NATIVE_RAX,
	};
	const struct insn_operand_desc *d = &insn_operands[row->ops[o]];
	uint16_t use = 0;

	if (d->where == INSN_AT_RM && i->rm == INSN_NONE) {
		use = NATIVE_MEM;
	} else if (d->file == INSN_FILE_XMM) {
		use = x_uses[d->where];
	} else if (d->file == INSN_FILE_GPR) {
		use = g_uses[d->where];
		s->rm8 |= d->where == INSN_AT_RM && d->reg_bytes == 1;
	}
	/* What is written is loaded, too: some only change a part. */
	s->in |= use;
	if (written) {
		s->out |= use;
	}
	s->x87 |= d->file == INSN_FILE_MMX || d->file == INSN_FILE_ST;
}

static void add_uses(struct native_stub *s, const struct insn *i, const struct insn_row *row,
		     enum insn_mode mode)
{
	static const uint16_t imps[] = { NATIVE_RAX, NATIVE_RDX, NATIVE_RCX, NATIVE_X_0 };

	for (unsigned o = 0; o < ARRAY_LEN(row->ops) && row->ops[o]; o++) {
		bool written = (o == 0 && !(row->attr & INSN_A_NODST)) ||
			       (o == 1 && row->attr & INSN_A_DST2);

		add_operand(s, i, row, o, written);
		if (insn_operands[row->ops[o]].where == INSN_AT_RM && i->rm == INSN_NONE) {
			enum insn_operand op = (enum insn_operand)row->ops[o];

			s->mem_bytes = (uint8_t)insn_mem_bytes(i, mode, op);
		}
	}
	for (unsigned k = 0; k < ARRAY_LEN(imps); k++) {
		if (row->imp & 1u << k) {
			s->in |= imps[k];
			s->out |= imps[k] & (NATIVE_RCX | NATIVE_X_0);   /* the others only go in */
		}
	}
	if (row->fr || row->fu) {
		s->in |= NATIVE_FLAGS;
	}
	if (row->fw) {
		s->out |= NATIVE_FLAGS;
	}
	if (row->attr & INSN_A_MXCSR) {
		s->in |= NATIVE_MXCSR;
	}
}

static void add_unit(struct native_stub *s, const struct insn *i, const struct insn_row *row)
{
	bool xmm = s->in & (NATIVE_X_REG | NATIVE_X_VVVV | NATIVE_X_RM | NATIVE_X_0);
	bool aligned = row->attr & INSN_A_ALIGN;

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		xmm |= insn_operands[row->ops[o]].file == INSN_FILE_XMM;
		aligned |= (row->ops[o] == INSN_O_W || row->ops[o] == INSN_O_Wo) &&
			   row->enc == INSN_LEGACY && !(row->attr & INSN_A_UNAL);
	}
	s->x87 |= row->attr & (INSN_A_X87 | INSN_A_MMX);
	s->unit = row->attr & INSN_A_X87 ? NATIVE_X87 : s->vex && xmm ? NATIVE_AVX :
		  xmm ? NATIVE_SSE : s->x87 ? NATIVE_MMX : NATIVE_INT;
	if (row->feature == INSN_F_SHA && __builtin_cpu_is("amd")) {
		aligned = false;   /* there SHA wants no alignment */
	}
	s->align = aligned && s->mem_bytes ? s->mem_bytes : 1;
	/* Where CPUs differ whether they look at pending exceptions, SIGFPE tells. */
	s->waits = s->x87 && !(row->attr & INSN_A_X87NW) &&
		   !(row->attr & INSN_A_MMXREG && i->rm == INSN_NONE);
	s->control = row->attr & INSN_A_X87CTL || s->unit != NATIVE_X87;
}

static bool has_size(const struct insn_row *row, unsigned size)
{
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		if (insn_operands[row->ops[o]].reg_bytes == size) {
			return true;
		}
	}
	return false;
}

/* Number of ModRM.reg, ModRM.rm or vvvv in the stub. */
static unsigned field_of(const struct insn *i, const struct insn_row *row, unsigned where,
			 unsigned guest)
{
	static const uint8_t x[] = {
		[INSN_AT_RM] = X_RM, [INSN_AT_REG] = X_REG, [INSN_AT_VVVV] = X_VVVV,
	};
	static const uint8_t g[] = {
		[INSN_AT_RM] = G_RM, [INSN_AT_REG] = G_REG, [INSN_AT_VVVV] = G_VVVV,
	};

	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		const struct insn_operand_desc *d = &insn_operands[row->ops[o]];

		if (d->where != where) {
			continue;
		}
		if (where == INSN_AT_RM && i->rm == INSN_NONE) {
			return R_MEM;
		}
		return d->file == INSN_FILE_XMM ? x[where] :
		       d->file == INSN_FILE_GPR ? g[where] : guest;
	}
	return guest;
}

static void add_immediate(struct native_stub *s, const struct insn *i, const struct insn_row *row)
{
	for (unsigned o = 0; o < ARRAY_LEN(row->ops); o++) {
		if (row->ops[o] == INSN_O_L) {
			s->bytes[s->n++] = X_IS4 << 4;
		} else if (insn_operands[row->ops[o]].where == INSN_AT_IMM) {
			s->bytes[s->n++] = (uint8_t)i->imm;
		}
	}
}

static void encode(struct native_stub *s, const struct insn *i, const struct insn_row *row,
		   enum insn_mode mode)
{
	unsigned reg = field_of(i, row, INSN_AT_REG, (i->modrm >> 3) & 7);
	unsigned rm = field_of(i, row, INSN_AT_RM, i->modrm & 7);
	unsigned vvvv = field_of(i, row, INSN_AT_VVVV, 0);
	bool mem = i->modrm < 0xc0 && rm == R_MEM;
	bool y8 = has_size(row, INSN_SZ_Y) && insn_reg_bytes(i, mode, INSN_O_Gy) == 8;
	/* PCMPESTRx: RAX, RDX */
	bool lengths = row->map == INSN_MAP_0F3A && (row->opcode & ~1) == 0x60;
	bool w = row->w || (lengths && mode == INSN_MODE_64) ? i->prefix & INSN_W :
		 y8 || (has_size(row, INSN_SZ_V) && i->op_bytes == 8);
	uint8_t modrm = (uint8_t)((mem ? 0 : 0xc0) | (reg & 7) << 3 | (rm & 7));
	static const uint8_t pps[] = { 0, 0, 0x66, 0xf3, 0xf2 };
	static const uint8_t vex_pps[] = { 0, 0, 1, 2, 3 };

	if (s->vex) {
		uint8_t l = i->prefix & INSN_VEX_L ? 4 : 0;

		s->bytes[s->n++] = 0xc4;
		s->bytes[s->n++] = (uint8_t)((reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) |
					     row->map);
		s->bytes[s->n++] = (uint8_t)((w ? 0x80 : 0) | (~vvvv & 15) << 3 | l |
					     vex_pps[row->pp]);
		s->bytes[s->n++] = i->opcode;
		s->bytes[s->n++] = modrm;
		add_immediate(s, i, row);
		return;
	}
	if (has_size(row, INSN_SZ_V) && i->op_bytes == 2) {
		s->bytes[s->n++] = 0x66;
	}
	if (pps[row->pp]) {
		s->bytes[s->n++] = pps[row->pp];
	}
	if (w || reg & 8 || rm & 8) {
		s->bytes[s->n++] = (uint8_t)(0x40 | (w ? 8 : 0) | (reg & 8) >> 1 | (rm & 8) >> 3);
	}
	if (row->map != INSN_MAP_1) {
		s->bytes[s->n++] = 0x0f;
	}
	if (row->map > INSN_MAP_0F) {
		s->bytes[s->n++] = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
	}
	s->bytes[s->n++] = i->opcode;
	if (insn__rows(row->enc, (enum insn_map)row->map, row->opcode).modrm) {
		s->bytes[s->n++] = modrm;
	}
	add_immediate(s, i, row);
}

static unsigned hash_of(const struct native_stub *s)
{
	uint32_t h = s->row * 2654435761u;

	for (unsigned k = 0; k < s->n; k++) {
		h = (h ^ s->bytes[k]) * 16777619u;
	}
	return (h ^ h >> 15) % HASH;
}

/* The stub of an encoding, made if there is none yet; NULL without memory. */
static const struct native_stub *stub_get(const struct native_stub *want)
{
	unsigned h = hash_of(want);
	struct native_stub *s = NULL;

	pthread_mutex_lock(&stubs.lock);
	for (s = stubs.hash[h]; s; s = s->next) {
		if (s->row == want->row && s->n == want->n && s->mem_bytes == want->mem_bytes &&
		    memcmp(s->bytes, want->bytes, s->n) == 0) {
			break;
		}
	}
	if (!s && stubs.rw) {
		s = malloc(sizeof(*s));
		if (s) {
			struct emit e = { .n = 0 };

			*s = *want;
			emit_stub(&e, s);
			s->code = (void (*)(struct native_ctx *))(uintptr_t)keep_code(&e);
			s->next = stubs.hash[h];
			stubs.hash[h] = s;
		}
	}
	pthread_mutex_unlock(&stubs.lock);
	return s;
}

const struct native_stub *native__stub(const struct insn *i, enum insn_mode mode)
{
	const struct insn_row *row = &insn_table[i->row];
	struct native_stub s = { .row = i->row, .vex = row->enc == INSN_IS_VEX };

	s.feature = (uint8_t)insn_feature(i);
	add_uses(&s, i, row, mode);
	add_unit(&s, i, row);
	encode(&s, i, row, mode);
	return stub_get(&s);
}

bool native__is_stub(uint64_t rip)
{
	return rip - (uintptr_t)stubs.rx < CODE_BYTES;
}

/* --- SIGFPE --- */

bool native_signal(int sig, void *ucontext)
{
	ucontext_t *uc = ucontext;
	greg_t *regs = uc->uc_mcontext.gregs;
	uint64_t at = (uint64_t)regs[REG_RIP] - (uintptr_t)stubs.rx;
	struct native_ctx *ctx = (struct native_ctx *)regs[REG_RDI];

	if (sig != SIGFPE || !stubs.rx || at >= CODE_BYTES) {
		return false;
	}
	ctx->mxcsr = uc->uc_mcontext.fpregs->mxcsr;
	uc->uc_mcontext.fpregs->mxcsr = ctx->host_mxcsr;
	ctx->fault = (uint32_t)regs[REG_TRAPNO];   /* #XM; or #MF, where MMX waits */
	regs[REG_RIP] = (greg_t)(uintptr_t)stubs.fault_exit;
	return true;
}

static void on_fpe(int sig, unused_arg siginfo_t *info, void *ucontext)
{
	if (!native_signal(sig, ucontext)) {
		signal(SIGFPE, SIG_DFL);   /* somebody else's: it comes again, and ends us */
	}
}

static int map_code(void)
{
	auto_close int fd = sys_memfd_create("holm-stubs", 0);
	void *rw = NULL, *rx = NULL;
	int r = fd < 0 ? fd : 0;

	if (r == 0 && ftruncate(fd, CODE_BYTES) < 0) {
		r = -errno;
	}
	if (r == 0) {
		r = sys_mmap(CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			     fd, 0, &rw);
	}
	if (r == 0) {
		r = sys_mmap(CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE,
			     fd, 0, &rx);
	}
	if (r < 0) {
		if (rw) {
			munmap(rw, CODE_BYTES);
		}
		return r;
	}
	stubs.rx = rx;
	stubs.rw = rw;
	return 0;
}

int native_init(void)
{
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct emit e = { .n = 0 };
	int r = 0;

	pthread_mutex_lock(&stubs.lock);
	if (!stubs.rw) {
		r = map_code();
		if (r == 0) {
			if (__builtin_cpu_supports("avx")) {
				PUT(&e, 0xc5, 0xf8, 0x77);   /* vzeroupper */
			}
			PUT(&e, 0xc3);
			stubs.fault_exit = keep_code(&e);
			sigaction(SIGFPE, &sa, NULL);
		}
	}
	pthread_mutex_unlock(&stubs.lock);
	return r;
}
