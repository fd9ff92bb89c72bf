/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that makes code while it runs: small functions on a few pages, of which one is written
 * anew with other constants before it and some of its neighbours are called.
 */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

enum { SLOT = 64, SLOTS = 256 };

static unsigned char *code;

/* uint32_t f(uint32_t x): eight times x = (x ^ constant) rotated + constant. */
static void write_function(unsigned slot, uint32_t constant)
{
	unsigned char text[SLOT] = {
		0x89, 0xf8,                  /* mov eax, edi */
		0xb9, 8, 0, 0, 0,            /* mov ecx, 8 */
		0x35, 0, 0, 0, 0,            /* xor eax, constant */
		0xc1, 0xc0, 7,               /* rol eax, 7 */
		0x05, 0, 0, 0, 0,            /* add eax, constant */
		0xff, 0xc9,                  /* dec ecx */
		0x75, 0xef,                  /* jnz: the xor */
		0xc3,
	};

	memcpy(text + 8, &constant, 4);
	memcpy(text + 16, &constant, 4);
	memcpy(code + (size_t)slot * SLOT, text, sizeof(text));
}

static uint32_t call(unsigned slot, uint32_t x)
{
	uint32_t (*f)(uint32_t) = NULL;
	void *at = code + (size_t)(slot % SLOTS) * SLOT;

	memcpy(&f, &at, sizeof(f));
	return f(x);
}

static void prepare(void)
{
	code = mmap(NULL, (size_t)SLOTS * SLOT, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED) {
		give_up("no memory for code");
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		write_function(i, i);
	}
}

static uint64_t run(unsigned work)
{
	uint64_t sum = 0;
	uint32_t x = 1;

	for (unsigned i = 0; i < work * 1000; i++) {
		write_function(i % SLOTS, x);
		x = call(i, x);
		x ^= call(i + 1, x);
		x += call(i + 97, x);
		sum = sum * 3 + x;
	}
	return sum;
}

const struct program rewrite_programs[] = {
	{ "rewrite", run, 8, prepare },
	{ 0 },
};
