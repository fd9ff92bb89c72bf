/* SPDX-License-Identifier: Apache-2.0 */
/* Text is packed and unpacked by zlib. */
#include <stddef.h>
#include <string.h>
#include <zlib.h>

#include "guest.h"

enum { SIZE = 1 << 18, WORDS = 700, LONGEST = 9 };

static unsigned char text[SIZE], packed[SIZE + 1024], again[SIZE];

/* Words of a small vocabulary, the first ones far more often than the last. */
static void prepare(void)
{
	char words[WORDS][LONGEST + 1];
	size_t at = 0;

	memset(words, 0, sizeof(words));
	for (int i = 0; i < WORDS; i++) {
		for (unsigned n = 2 + random_next() % (LONGEST - 2); n > 0; n--) {
			words[i][n - 1] = (char)('a' + random_next() % 5 * (random_next() % 6));
		}
	}
	while (at < SIZE) {
		uint32_t r = random_next() % WORDS;
		const char *word = words[r * (random_next() % WORDS) / WORDS];

		for (; *word && at < SIZE; word++) {
			text[at++] = (unsigned char)*word;
		}
		if (at < SIZE) {
			text[at++] = random_next() % 12 ? ' ' : '\n';
		}
	}
}

static uint64_t one(void)
{
	z_stream out = { 0 }, in = { 0 };

	if (deflateInit2(&out, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
	    inflateInit2(&in, 15 + 16) != Z_OK) {
		give_up("zlib does not start");
	}
	out.next_in = text;
	out.avail_in = SIZE;
	out.next_out = packed;
	out.avail_out = sizeof(packed);
	if (deflate(&out, Z_FINISH) != Z_STREAM_END) {
		give_up("deflate");
	}
	in.next_in = packed;
	in.avail_in = (unsigned)out.total_out;
	in.next_out = again;
	in.avail_out = SIZE;
	if (inflate(&in, Z_FINISH) != Z_STREAM_END || memcmp(text, again, SIZE) != 0) {
		give_up("inflate");
	}
	uint64_t sum = crc32(0, packed, (unsigned)out.total_out) + ((uint64_t)out.total_out << 32);

	deflateEnd(&out);
	inflateEnd(&in);
	return sum;
}

static uint64_t run(unsigned work)
{
	uint64_t sum = 0;

	while (work--) {
		sum += one();
		text[work % SIZE] ^= 1;
	}
	return sum;
}

const struct program gzip_programs[] = {
	{ "gzip", run, 8, prepare },
	{ 0 },
};
