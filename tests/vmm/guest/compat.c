/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program without a library: prints a few sums of integers, of doubles of x87 and SSE, and
 * what calls by pointers, 64-bit arithmetic and a segment register compute. Runs natively and in a
 * guest, which have to agree.
 *
 *	gcc -m32 -O2 -static -nostdlib -ffreestanding -fno-pic -no-pie -fno-stack-protector -msse2
 */
static unsigned words[4096];
static unsigned steps[256];

static int kernel(int number, int a, int b, int c)
{
	int ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return ret;
}

static void print(unsigned v)
{
	char text[9];

	for (int i = 0; i < 8; i++) {
		text[i] = "0123456789abcdef"[v >> (28 - 4 * i) & 15];
	}
	text[8] = '\n';
	kernel(4, 1, (int)text, sizeof(text));
}

static unsigned checksum(void)
{
	unsigned x = 12345, sum = ~0u;

	for (unsigned i = 0; i < 256; i++) {
		unsigned c = i;

		for (int k = 0; k < 8; k++) {
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
		}
		steps[i] = c;
	}
	for (unsigned i = 0; i < 4096; i++) {
		words[i] = x = x * 1664525u + 1013904223u;
	}
	for (unsigned round = 0; round < 20; round++) {
		const unsigned char *p = (const unsigned char *)words;

		for (unsigned i = 0; i < sizeof(words); i++) {
			sum = steps[(sum ^ p[i]) & 255] ^ sum >> 8;
		}
	}
	return sum;
}

static int calls(int n)
{
	return n < 2 ? n : calls(n - 1) + calls(n - 2);
}

static int twice(int n)
{
	return 2 * n;
}

static int (*volatile const by_pointer[])(int) = { calls, twice };

/* A thread's own memory, by GS. */
static unsigned own(void)
{
	static unsigned block[16];
	struct {
		unsigned entry, base, limit, bits;
	} area = { ~0u, (unsigned)block, 0xfffff, 0x51 };
	unsigned sum = 0;

	if (kernel(243, (int)&area, 0, 0) != 0) {
		return 0;
	}
	__asm__ volatile("movw %w0, %%gs" : : "r"(area.entry << 3 | 3));
	for (unsigned i = 0; i < 20000; i++) {
		__asm__ volatile("addl %1, %%gs:8\n\tmovl %%gs:8, %0" : "=r"(sum) : "r"(i) : "memory");
	}
	return sum ^ block[2];
}

void _start(void)
{
	double slow = 0;
	volatile float quick = 0;
	unsigned long long wide = 1;

	print(checksum());
	print((unsigned)(by_pointer[0](20) + by_pointer[1](21)));
	for (int i = 1; i < 50000; i++) {
		slow += 1.0 / i;
		quick = quick + 1.0f / (float)i;
		wide = wide * 6364136223846793005ull + (unsigned)i;
	}
	print((unsigned)(slow * 1e6));
	print((unsigned)(quick * 1e6f));
	print((unsigned)(wide >> 32));
	print(own());
	kernel(1, 0, 0, 0);
}
