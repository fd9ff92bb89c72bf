/* SPDX-License-Identifier: Apache-2.0 */
/* A loop, calls that nest, calls by pointer, and an interpreter of a small language. */
#include <stddef.h>

#include "guest.h"

/* --- A loop of dependent arithmetic and one branch that is hard to foresee --- */

static uint64_t loop(unsigned work)
{
	uint64_t x = 0x9e3779b97f4a7c15u, sum = 0;

	for (uint64_t i = 0; i < (uint64_t)work * 1000000; i++) {
		x ^= x << 7;
		x ^= x >> 9;
		sum += (x & 64) ? x : i;
		KEEP(sum);
	}
	return sum;
}

/* --- Calls --- */

static __attribute__((noinline, noclone)) unsigned fibonacci(unsigned n)
{
	if (n < 2) {
		return n;
	}

	unsigned sum = fibonacci(n - 1);

	KEEP(sum);
	sum += fibonacci(n - 2);
	KEEP(sum);   /* or the second call would be a jump */
	return sum;
}

static uint64_t calls(unsigned work)
{
	uint64_t sum = 0;

	while (work--) {
		sum += fibonacci(24);
	}
	return sum;
}

/* --- Calls by pointer: which of eight functions is in data --- */

#define FUNCTION(name, expression) \
	static uint64_t name(uint64_t x, uint64_t i) \
	{ \
		(void)i; \
		return expression; \
	}

FUNCTION(f_add, x + i)
FUNCTION(f_xor, x ^ i << 3)
FUNCTION(f_mul, x * 5 + 1)
FUNCTION(f_rotate, x << 9 | x >> 55)
FUNCTION(f_sub, x - (i << 1))
FUNCTION(f_mix, x ^ x >> 17)
FUNCTION(f_not, ~x + i)
FUNCTION(f_swap, __builtin_bswap64(x) + 1)

typedef uint64_t (*function)(uint64_t x, uint64_t i);

static function order[64];

static void prepare_order(void)
{
	static const function all[] = { f_add, f_xor, f_mul, f_rotate, f_sub, f_mix, f_not, f_swap };

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		order[i] = all[random_next() % 8];
	}
}

static uint64_t indirect(unsigned work)
{
	uint64_t x = 1;

	for (uint64_t i = 0; i < (uint64_t)work * 100000; i++) {
		x = order[i % 64](x, i);
	}
	return x;
}

/* --- An interpreter: byte code for a machine of 16 registers and 64 KiB --- */

enum op { SET, MOVE, ADD, SUB, MUL, SHR, LESS, LOAD, STORE, JUMP, JUMP_IF, JUMP_NOT, OUT, STOP };

struct code {
	uint8_t op, a, b, c;
	int32_t value;
};

/* Primes below 2^16 by sieve, their number and their sum. */
static const struct code sieve[] = {
	{ SET, 0, 0, 0, 0 },        /*  0: clear: r0 = 0 */
	{ SET, 1, 0, 0, 65536 },    /*  1: r1 = the end */
	{ SET, 2, 0, 0, 1 },
	{ SET, 9, 0, 0, 0 },
	{ STORE, 0, 9, 0, 0 },      /*  4: memory[r0] = 0 */
	{ ADD, 0, 0, 2, 0 },
	{ LESS, 3, 0, 1, 0 },
	{ JUMP_IF, 3, 0, 0, 4 },
	{ SET, 0, 0, 0, 2 },        /*  8: r0 = candidate */
	{ SET, 4, 0, 0, 0 },        /*     r4 = number, r5 = sum */
	{ SET, 5, 0, 0, 0 },
	{ LOAD, 6, 0, 0, 0 },       /* 11: crossed out? */
	{ JUMP_IF, 6, 0, 0, 21 },
	{ ADD, 4, 4, 2, 0 },
	{ ADD, 5, 5, 0, 0 },
	{ MUL, 7, 0, 0, 0 },        /* 15: r7 = its square */
	{ LESS, 3, 7, 1, 0 },
	{ JUMP_NOT, 3, 0, 0, 21 },
	{ STORE, 7, 2, 0, 0 },      /* 18 */
	{ ADD, 7, 7, 0, 0 },
	{ JUMP, 0, 0, 0, 16 },
	{ ADD, 0, 0, 2, 0 },        /* 21 */
	{ LESS, 3, 0, 1, 0 },
	{ JUMP_IF, 3, 0, 0, 11 },
	{ OUT, 4, 0, 0, 0 },
	{ OUT, 5, 0, 0, 0 },
	{ STOP, 0, 0, 0, 0 },
};

static uint8_t memory[1 << 16];

static __attribute__((noinline)) uint64_t interpret(const struct code *program)
{
	uint64_t r[16] = { 0 }, out = 0;

	for (const struct code *at = program;; at++) {
		switch ((enum op)at->op) {
		case SET: r[at->a] = (uint64_t)at->value; break;
		case MOVE: r[at->a] = r[at->b]; break;
		case ADD: r[at->a] = r[at->b] + r[at->c]; break;
		case SUB: r[at->a] = r[at->b] - r[at->c]; break;
		case MUL: r[at->a] = r[at->b] * r[at->c]; break;
		case SHR: r[at->a] = r[at->b] >> (at->value & 63); break;
		case LESS: r[at->a] = r[at->b] < r[at->c]; break;
		case LOAD: r[at->a] = memory[r[at->b] & 0xffff]; break;
		case STORE: memory[r[at->a] & 0xffff] = (uint8_t)r[at->b]; break;
		case JUMP: at = program + at->value - 1; break;
		case JUMP_IF: at = r[at->a] ? program + at->value - 1 : at; break;
		case JUMP_NOT: at = r[at->a] ? at : program + at->value - 1; break;
		case OUT: out = out * 31 + r[at->a]; break;
		case STOP: return out;
		}
	}
}

static uint64_t bytecode(unsigned work)
{
	uint64_t sum = 0;

	while (work--) {
		sum = sum * 3 + interpret(sieve);
	}
	return sum;
}

const struct program int_programs[] = {
	{ "intloop", loop, 200, NULL },
	{ "calls", calls, 600, NULL },
	{ "indirect", indirect, 150, prepare_order },
	{ "bytecode", bytecode, 75, NULL },
	{ 0 },
};
