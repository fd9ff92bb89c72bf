/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integer work of several kinds on small data. Compiled without vector instructions of the
 * compiler's own making; none of the loops is the C library's.
 */
#include <stddef.h>

#include "guest.h"

enum { WORDS = 1 << 14, TEXT = 1 << 16, NODES = 1 << 14, MATRIX = 64 };

static uint32_t words[WORDS], copy[WORDS], crc_table[256];
static char     text[TEXT];
static uint64_t a[MATRIX][MATRIX], b[MATRIX][MATRIX], product[MATRIX][MATRIX];

static struct node {
	struct node *left, *right;
	uint32_t     key, next;
} nodes[NODES];

/* --- Sorting --- */

static void quick(uint32_t *v, int n)
{
	while (n > 8) {
		uint32_t pivot = v[n / 2];
		int i = 0, j = n - 1;

		for (;;) {
			while (v[i] < pivot) {
				i++;
			}
			while (pivot < v[j]) {
				j--;
			}
			if (i >= j) {
				break;
			}
			uint32_t t = v[i];

			v[i++] = v[j];
			v[j--] = t;
		}
		quick(v, i);
		v += i;
		n -= i;
	}
	for (int i = 1; i < n; i++) {
		uint32_t t = v[i];
		int j = i;

		for (; j > 0 && v[j - 1] > t; j--) {
			v[j] = v[j - 1];
		}
		v[j] = t;
	}
}

static uint64_t sort(unsigned rounds)
{
	uint64_t sum = 0;

	while (rounds--) {
		for (int i = 0; i < WORDS; i++) {
			copy[i] = words[i] ^ rounds;
		}
		quick(copy, WORDS);
		sum += copy[WORDS / 2];
	}
	return sum;
}

/* --- Hashing: a table with open addresses --- */

static uint64_t hash(unsigned rounds)
{
	static uint32_t table[2 * WORDS];
	uint64_t found = 0;

	while (rounds--) {
		for (int i = 0; i < 2 * WORDS; i++) {
			table[i] = 0;
		}
		for (int i = 0; i < WORDS; i++) {
			uint32_t at = words[i] * 2654435761u >> 17;

			while (table[at] != 0 && table[at] != words[i]) {
				at = (at + 1) & (2 * WORDS - 1);
			}
			table[at] = words[i];
		}
		for (int i = 0; i < WORDS; i++) {
			uint32_t key = i & 1 ? words[i] : words[i] + 1;
			uint32_t at = key * 2654435761u >> 17;

			while (table[at] != 0 && table[at] != key) {
				at = (at + 1) & (2 * WORDS - 1);
			}
			found += table[at] == key;
		}
	}
	return found;
}

/* --- A cyclic sum by table, and a digest without one --- */

static uint64_t crc(unsigned rounds)
{
	uint32_t c = ~0u;

	while (rounds--) {
		for (int i = 0; i < TEXT; i++) {
			c = crc_table[(c ^ (uint8_t)text[i]) & 255] ^ c >> 8;
		}
	}
	return c;
}

static uint64_t digest(unsigned rounds)
{
	uint64_t v0 = 1, v1 = 2, v2 = 3, v3 = 4;

	while (rounds--) {
		for (int i = 0; i < WORDS; i++) {
			v3 ^= words[i];
			for (int k = 0; k < 2; k++) {
				v0 += v1;
				v1 = (v1 << 13 | v1 >> 51) ^ v0;
				v0 = v0 << 32 | v0 >> 32;
				v2 += v3;
				v3 = (v3 << 16 | v3 >> 48) ^ v2;
				v0 += v3;
				v3 = (v3 << 21 | v3 >> 43) ^ v0;
				v2 += v1;
				v1 = (v1 << 17 | v1 >> 47) ^ v2;
				v2 = v2 << 32 | v2 >> 32;
			}
			v0 ^= words[i];
		}
	}
	return v0 ^ v1 ^ v2 ^ v3;
}

/* --- Text: words, letters, numbers --- */

static uint64_t strings(unsigned rounds)
{
	uint64_t sum = 0;

	while (rounds--) {
		unsigned n = 0, number = 0;

		for (const char *p = text; p < text + TEXT; p++) {
			char c = *p;

			if (c >= 'a' && c <= 'z') {
				n++;
			} else if (c >= '0' && c <= '9') {
				number = number * 10 + (unsigned)(c - '0');
			} else if (c == ' ' || c == '\n') {
				sum += n ^ number;
				n = number = 0;
			} else {
				sum++;
			}
		}
	}
	return sum;
}

/* --- Matrices --- */

static uint64_t matrix(unsigned rounds)
{
	uint64_t sum = 0;

	while (rounds--) {
		for (int i = 0; i < MATRIX; i++) {
			for (int j = 0; j < MATRIX; j++) {
				uint64_t v = 0;

				for (int k = 0; k < MATRIX; k++) {
					v += a[i][k] * b[k][j];
				}
				product[i][j] = v;
			}
		}
		a[rounds % MATRIX][3]++;
		sum += product[5][7];
	}
	return sum;
}

/* --- Pointers: a tree that is built and searched, a list that is followed --- */

static uint64_t pointers(unsigned rounds)
{
	uint64_t sum = 0;

	while (rounds--) {
		struct node *root = NULL;

		for (int i = 0; i < NODES; i++) {
			struct node **at = &root;

			nodes[i].left = nodes[i].right = NULL;
			nodes[i].key = words[i];
			while (*at) {
				at = words[i] < (*at)->key ? &(*at)->left : &(*at)->right;
			}
			*at = &nodes[i];
		}
		for (uint32_t at = 0, i = 0; i < 4 * NODES; i++) {
			sum += nodes[at].key;
			at = nodes[at].next;
		}
	}
	return sum;
}

/* --- Branches: a machine of eight instructions runs a program --- */

static uint64_t branches(unsigned rounds)
{
	static const uint8_t program[] = { 0, 3, 5, 1, 6, 2, 4, 1, 5, 3, 6, 0, 2, 7 };
	uint64_t r0 = 1, r1 = 2, sum = 0;

	while (rounds--) {
		for (unsigned steps = 0, pc = 0; steps < 100000; steps++) {
			switch (program[pc++]) {
			case 0: r0 += r1; break;
			case 1: r1 ^= r0 >> 3; break;
			case 2: r0 = r0 * 5 + 1; break;
			case 3: r1 -= r0; break;
			case 4: sum += r0 & 0xff; break;
			case 5: pc += (r0 & 1) != 0; break;
			case 6: r1 = r1 << 1 | r1 >> 63; break;
			default: pc = 0; break;
			}
			if (pc >= sizeof(program)) {
				pc = 0;
			}
		}
	}
	return sum + r0 + r1;
}

static void prepare(void)
{
	static const char letters[] = "abcdefgh 0123 xyz, 45 UV\n678";

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++) {
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
		}
		crc_table[i] = c;
	}
	for (int i = 0; i < WORDS; i++) {
		words[i] = random_next() | 1;
	}
	for (int i = 0; i < TEXT; i++) {
		text[i] = letters[random_next() % (sizeof(letters) - 1)];
	}
	for (int i = 0; i < MATRIX; i++) {
		for (int j = 0; j < MATRIX; j++) {
			a[i][j] = random_next();
			b[i][j] = random_next();
		}
	}
	/* One cycle through all nodes: a step of odd length. */
	for (uint32_t i = 0; i < NODES; i++) {
		nodes[i].next = (i + 5701) % NODES;
	}
}

const struct program small_programs[] = {
	{ "sort", sort, 100, prepare },
	{ "hash", hash, 300, prepare },
	{ "crc", crc, 400, prepare },
	{ "digest", digest, 600, prepare },
	{ "strings", strings, 200, prepare },
	{ "intmatrix", matrix, 120, prepare },
	{ "pointers", pointers, 48, prepare },
	{ "branches", branches, 150, prepare },
	{ 0 },
};
