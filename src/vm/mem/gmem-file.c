/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as a file: slot after slot, pages of zeroes left out. */
#include <errno.h>
#include <string.h>

#include "sys/file.h"
#include "vm/mem/gmem.h"

enum { CHUNK = 64 << 10 };

static bool all_zero(const uint8_t *p, size_t n)
{
	/* Equal to itself moved by one, and the first is zero. */
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int write_all(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	while (n > 0) {
		ssize_t done = sys_pwrite(fd, p, n, (int64_t)off);

		if (done <= 0) {
			return done < 0 ? (int)done : -EIO;
		}
		p += done;
		n -= (size_t)done;
		off += (uint64_t)done;
	}
	return 0;
}

uint64_t gmem_bytes(const struct gmem *g)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < g->n_slots; i++) {
		bytes += g->slots[i].bytes;
	}
	return bytes;
}

int gmem_save(const struct gmem *g, int fd, struct err *e)
{
	uint64_t at = 0;
	int r = sys_ftruncate(fd, (int64_t)gmem_bytes(g));

	for (unsigned i = 0; i < g->n_slots && r == 0; i++) {
		const struct gmem_slot *s = &g->slots[i];

		for (uint64_t off = 0; off < s->bytes && r == 0; off += CHUNK) {
			size_t n = (size_t)MIN(s->bytes - off, (uint64_t)CHUNK);

			r = all_zero(s->host + off, n) ? 0 : write_all(fd, s->host + off, n, at + off);
		}
		at += s->bytes;
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the memory file") : 0;
}
