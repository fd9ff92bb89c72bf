/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions. With a REP prefix they run a part at a time and then begin again at the
 * same RIP, so that interrupts come in between; MOVS and STOS upwards inside pages of RAM go by
 * memory copies. A fault leaves the registers at the element that faulted.
 */
#include "vm/cpu/soft/handlers.h"
#include "vm/cpu/soft/priv.h"

enum {
	PART = 4096,        /* elements before interrupts are looked at */
};

static int64_t step(const struct soft_cpu *c, const struct insn *i)
{
	return c->s.rflags & CPU_FLAG_DF ? -(int64_t)i->op_bytes : i->op_bytes;
}

static uint64_t reg(const struct soft_cpu *c, const struct insn *i, unsigned r)
{
	return soft_cut(c->s.gpr[r], i->ad_bytes);
}

static uint64_t source(struct soft_cpu *c, const struct insn *i)
{
	return soft_linear(c, i->seg, reg(c, i, CPU_RSI), i->op_bytes, SOFT_READ);
}

static uint64_t target(struct soft_cpu *c, const struct insn *i, enum soft_access access)
{
	return soft_linear(c, CPU_ES, reg(c, i, CPU_RDI), i->op_bytes, access);
}

static void advance(struct soft_cpu *c, const struct insn *i, unsigned r, int64_t by)
{
	soft_reg_set(c, r, i->ad_bytes, c->s.gpr[r] + (uint64_t)by);
}

/* --- One element of each --- */

static bool one_movs(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = soft_load(c, source(c, i), i->op_bytes);

	soft_store(c, target(c, i, SOFT_WRITE), i->op_bytes, v);
	advance(c, i, CPU_RSI, step(c, i));
	advance(c, i, CPU_RDI, step(c, i));
	return true;
}

static bool one_stos(struct soft_cpu *c, const struct insn *i)
{
	soft_store(c, target(c, i, SOFT_WRITE), i->op_bytes, c->s.gpr[CPU_RAX]);
	advance(c, i, CPU_RDI, step(c, i));
	return true;
}

static bool one_lods(struct soft_cpu *c, const struct insn *i)
{
	uint64_t v = soft_load(c, source(c, i), i->op_bytes);

	soft_reg_set(c, CPU_RAX, i->op_bytes, v);
	advance(c, i, CPU_RSI, step(c, i));
	return true;
}

/* Flags of a - b. */
static void compare(struct soft_cpu *c, uint64_t a, uint64_t b, unsigned bytes)
{
	unsigned top = 8 * bytes - 1;
	uint64_t r = soft_cut(a - b, bytes);
	unsigned ah = 2;

	a = soft_cut(a, bytes);
	b = soft_cut(b, bytes);
	ah |= a < b ? 1 : 0;
	ah |= __builtin_parity((unsigned)(r & 0xff)) ? 0 : 4;
	ah |= (a ^ b ^ r) & 0x10;
	ah |= r == 0 ? 0x40 : 0;
	ah |= r >> top & 1 ? 0x80 : 0;
	c->flags = (uint16_t)(ah << 8 | (((a ^ b) & (a ^ r)) >> top & 1));
}

static bool repeats(const struct soft_cpu *c, const struct insn *i)
{
	bool zero = (c->flags & 0x4000) != 0;

	return i->prefix & INSN_REP ? zero : !zero;
}

static bool one_cmps(struct soft_cpu *c, const struct insn *i)
{
	uint64_t a = soft_load(c, source(c, i), i->op_bytes);
	uint64_t b = soft_load(c, target(c, i, SOFT_READ), i->op_bytes);

	compare(c, a, b, i->op_bytes);
	advance(c, i, CPU_RSI, step(c, i));
	advance(c, i, CPU_RDI, step(c, i));
	return repeats(c, i);
}

static bool one_scas(struct soft_cpu *c, const struct insn *i)
{
	uint64_t b = soft_load(c, target(c, i, SOFT_READ), i->op_bytes);

	compare(c, c->s.gpr[CPU_RAX], b, i->op_bytes);
	advance(c, i, CPU_RDI, step(c, i));
	return repeats(c, i);
}

static bool one_ins(struct soft_cpu *c, const struct insn *i)
{
	const struct engine_bus *bus = &c->eng->eng.bus;
	uint16_t port = (uint16_t)c->s.gpr[CPU_RDX];
	uint32_t v = 0;
	uint64_t to = target(c, i, SOFT_WRITE);

	soft_probe_write(c, to, i->op_bytes);
	bus->pio_read(bus->ctx, port, &v, i->op_bytes);
	soft_store(c, to, i->op_bytes, v);
	advance(c, i, CPU_RDI, step(c, i));
	return true;
}

static bool one_outs(struct soft_cpu *c, const struct insn *i)
{
	const struct engine_bus *bus = &c->eng->eng.bus;
	uint32_t v = (uint32_t)soft_load(c, source(c, i), i->op_bytes);

	bus->pio_write(bus->ctx, (uint16_t)c->s.gpr[CPU_RDX], &v, i->op_bytes);
	advance(c, i, CPU_RSI, step(c, i));
	return true;
}

/* --- Repetition --- */

typedef bool one_fn(struct soft_cpu *c, const struct insn *i);
/* Do up to n elements at once; 0: not here. */
typedef uint64_t many_fn(struct soft_cpu *c, const struct insn *i, uint64_t n);

static bool interrupted(const struct soft_cpu *c)
{
	return (!c->eng->counted &&
		atomic_load_explicit(&c->wants, memory_order_relaxed) != 0) ||
	       (c->s.rflags & CPU_FLAG_TF) || c->dr6_pending;
}

static void repeat(struct soft_cpu *c, const struct insn *i, one_fn *one, many_fn *many)
{
	if (!(i->prefix & (INSN_REP | INSN_REPNE))) {
		(void)one(c, i);
		return;
	}
	uint64_t left = reg(c, i, CPU_RCX);

	if (left == 0) {
		if (i->ad_bytes == 4) {
			soft_reg_set(c, CPU_RCX, 4, 0);
		}
		return;
	}
	/* In counted mode a part is so many elements, however they were moved. */
	bool counted = c->eng->counted;

	for (uint64_t done = 0; left > 0; ) {
		uint64_t n = many ? many(c, i, counted ? MIN(left, PART - done) : left) : 0;
		bool more = true, part = n > 0 && c->xl_part;

		if (n == 0) {
			more = one(c, i);
			n = 1;
		}
		left -= n;
		soft_reg_set(c, CPU_RCX, i->ad_bytes, left);
		done += counted ? n : 1;
		if (!more) {
			return;
		}
		if (left > 0 && (done >= PART || part || interrupted(c))) {
			c->next_rip = c->s.rip;
			return;
		}
	}
}

/* Elements from a linear address to the end of its page. */
static uint64_t to_page_end(uint64_t linear, unsigned bytes)
{
	return (GMEM_PAGE_BYTES - (linear & (GMEM_PAGE_BYTES - 1))) / bytes;
}

static bool flat_upwards(const struct soft_cpu *c, const struct insn *i)
{
	return c->mode == INSN_MODE_64 && i->ad_bytes == 8 && !(c->s.rflags & CPU_FLAG_DF) &&
	       !(c->s.rflags & CPU_FLAG_TF);
}

static uint64_t many_movs(struct soft_cpu *c, const struct insn *i, uint64_t n)
{
	if (!flat_upwards(c, i)) {
		return 0;
	}
	uint64_t from = source(c, i), to = target(c, i, SOFT_WRITE);
	const struct soft_tlb_entry *f = soft__tlb(c, from), *t = soft__tlb(c, to);

	n = MIN(n, MIN(to_page_end(from, i->op_bytes), to_page_end(to, i->op_bytes)));
	if (n == 0 || from - f->tag_read >= GMEM_PAGE_BYTES ||
	    to - t->tag_write >= GMEM_PAGE_BYTES) {
		return 0;
	}
	const uint8_t *src = (const uint8_t *)soft_tlb_host(f, from);
	uint8_t *dst = (uint8_t *)soft_tlb_host(t, to);
	size_t bytes = n * i->op_bytes;

	if (dst <= src || dst >= src + bytes) {
		memmove(dst, src, bytes);
	} else {
		/* Overlapping upwards repeats a pattern: as the elements do. */
		for (size_t k = 0; k < bytes; k += i->op_bytes) {
			memmove(dst + k, src + k, i->op_bytes);
		}
	}
	c->s.gpr[CPU_RSI] += bytes;
	c->s.gpr[CPU_RDI] += bytes;
	return n;
}

static uint64_t many_stos(struct soft_cpu *c, const struct insn *i, uint64_t n)
{
	if (!flat_upwards(c, i)) {
		return 0;
	}
	uint64_t to = target(c, i, SOFT_WRITE), v = c->s.gpr[CPU_RAX];
	const struct soft_tlb_entry *t = soft__tlb(c, to);

	n = MIN(n, to_page_end(to, i->op_bytes));
	if (n == 0 || to - t->tag_write >= GMEM_PAGE_BYTES) {
		return 0;
	}
	uint8_t *dst = (uint8_t *)soft_tlb_host(t, to);
	size_t bytes = n * i->op_bytes;

	if (i->op_bytes == 1 || soft_cut(v, i->op_bytes) == 0) {
		memset(dst, (int)(v & 0xff), bytes);
	} else {
		for (size_t k = 0; k < bytes; k += i->op_bytes) {
			memcpy(dst + k, &v, i->op_bytes);
		}
	}
	c->s.gpr[CPU_RDI] += bytes;
	return n;
}

void op_movs(struct soft_cpu *c, const struct insn *i)
{
	repeat(c, i, one_movs, many_movs);
}

void op_stos(struct soft_cpu *c, const struct insn *i)
{
	repeat(c, i, one_stos, many_stos);
}

void op_lods(struct soft_cpu *c, const struct insn *i)
{
	repeat(c, i, one_lods, NULL);
}

void op_cmps(struct soft_cpu *c, const struct insn *i)
{
	repeat(c, i, one_cmps, NULL);
}

void op_scas(struct soft_cpu *c, const struct insn *i)
{
	repeat(c, i, one_scas, NULL);
}

static void check_port(struct soft_cpu *c, const struct insn *i)
{
	if (!soft_io_allowed(c, (uint16_t)c->s.gpr[CPU_RDX], i->op_bytes)) {
		soft_fault(c, CPU_GP, 0);
	}
}

void op_ins(struct soft_cpu *c, const struct insn *i)
{
	check_port(c, i);
	repeat(c, i, one_ins, NULL);
}

void op_outs(struct soft_cpu *c, const struct insn *i)
{
	check_port(c, i);
	repeat(c, i, one_outs, NULL);
}

void op_xlat(struct soft_cpu *c, const struct insn *i)
{
	uint64_t ea = soft_cut(c->s.gpr[CPU_RBX] + (c->s.gpr[CPU_RAX] & 0xff), i->ad_bytes);

	soft_reg_set(c, CPU_RAX, 1, soft_load(c, soft_linear(c, i->seg, ea, 1, SOFT_READ), 1));
}
