/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) in plain C. */
#include <stddef.h>

#include "guest.h"

enum { SIZE = 1 << 16 };

static uint32_t k[64];
static uint8_t  data[SIZE];

static uint32_t rotated(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void block(uint32_t h[8], const uint8_t *in)
{
	uint32_t w[64], s[8];

	for (int i = 0; i < 16; i++) {
		w[i] = (uint32_t)in[4 * i] << 24 | (uint32_t)in[4 * i + 1] << 16 |
		       (uint32_t)in[4 * i + 2] << 8 | in[4 * i + 3];
	}
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
		       (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
	}
	for (int i = 0; i < 8; i++) {
		s[i] = h[i];
	}
	for (int i = 0; i < 64; i++) {
		uint32_t e = s[4], a = s[0];
		uint32_t t1 = s[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
			      ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
		uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
			      ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

		s[7] = s[6];
		s[6] = s[5];
		s[5] = e;
		s[4] = s[3] + t1;
		s[3] = s[2];
		s[2] = s[1];
		s[1] = a;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++) {
		h[i] += s[i];
	}
}

/* The first 32 bits behind the point of a small number's square or cube root. */
static uint32_t root_bits(uint64_t number, int power)
{
	unsigned __int128 limit = (unsigned __int128)number << 32 * power;
	uint64_t low = 0, high = (uint64_t)1 << 36;

	while (high - low > 1) {
		uint64_t middle = (low + high) / 2;
		unsigned __int128 raised = (unsigned __int128)middle * middle;

		if (power == 3) {
			raised *= middle;
		}
		if (raised <= limit) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return (uint32_t)low;
}

static void prepare(void)
{
	unsigned n = 0;

	for (uint64_t p = 2; n < 64; p++) {
		int prime = 1;

		for (uint64_t d = 2; d * d <= p; d++) {
			prime &= p % d != 0;
		}
		if (prime) {
			k[n++] = root_bits(p, 3);
		}
	}
	for (int i = 0; i < SIZE; i++) {
		data[i] = (uint8_t)random_next();
	}
}

static uint64_t run(unsigned work)
{
	uint32_t h[8] = { 0 };

	for (int i = 0; i < 8; i++) {
		static const uint8_t primes[] = { 2, 3, 5, 7, 11, 13, 17, 19 };

		h[i] = root_bits(primes[i], 2);
	}
	while (work--) {
		for (int i = 0; i < SIZE; i += 64) {
			block(h, data + i);
		}
	}
	return (uint64_t)h[0] << 32 | h[7];
}

const struct program sha256_programs[] = {
	{ "sha256", run, 400, prepare },
	{ 0 },
};
