/* SPDX-License-Identifier: Apache-2.0 */
/* The C library: memory, strings, printing, reading, sorting. */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "conform.h"

static void memory(void)
{
	static uint8_t from[8192], to[8192];
	struct sum s;

	sum_start(&s);
	fill(from, sizeof(from), 11);
	for (unsigned i = 0; i < 600; i++) {
		size_t a = rnd() % 97, b = rnd() % 97, n = rnd() % (i % 5 ? 300 : 8000);

		memset(to, (int)i, sizeof(to));
		memcpy(to + a, from + b, n);
		sum_add(&s, to, a + n);
		memmove(to + b, to + a, n);
		sum_add(&s, to, a + n);
		int c = memcmp(to + b, from + a, n);

		sum_u64(&s, (uint64_t)((c > 0) - (c < 0)));
		uint8_t *p = memchr(from + a, (int)i & 255, n), *q = memrchr(from + a, (int)i & 255, n);

		sum_u64(&s, p ? (uint64_t)(p - from) : 1);
		sum_u64(&s, q ? (uint64_t)(q - from) : 1);
		p = memmem(from, sizeof(from), from + a * 7, b % 20 + 2);
		sum_u64(&s, (uint64_t)(p - from));
	}
	out("memory", "%016" PRIx64, s.v);
}

static void strings(void)
{
	char a[600], b[600];
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < 600; i++) {
		size_t at = rnd() % 40, n = rnd() % 500;

		for (size_t k = 0; k < n; k++) {
			a[at + k] = (char)('a' + rnd() % 7);
		}
		a[at + n] = '\0';
		memcpy(b + at % 9, a + at, n + 1);
		sum_u64(&s, strlen(a + at));
		sum_u64(&s, strspn(a + at, "abcdef") << 32 | strcspn(a + at, "g"));
		if (n > 3) {
			b[at % 9 + n / 2] ^= 1;
		}
		int c = strcmp(a + at, b + at % 9), d = strncmp(a + at, b + at % 9, n / 2);
		int e = strcasecmp(a + at, b + at % 9);

		sum_u64(&s, (uint64_t)((c > 0) - (c < 0)) << 4 | (uint64_t)((d > 0) - (d < 0)) << 2 |
				    (uint64_t)((e > 0) - (e < 0)));
		const char *p = strstr(a + at, "abc"), *q = strrchr(a + at, 'e');

		sum_u64(&s, p ? (uint64_t)(p - a) : 0);
		sum_u64(&s, q ? (uint64_t)(q - a) : 0);
	}
	out("strings", "%016" PRIx64, s.v);
}

static void printing(void)
{
	static const double values[] = { 0, 1.0 / 3, 1e100, 123456789.987654321, 5e-324, -2.5, 1e15 };
	char line[512];
	struct sum s;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(line, sizeof(line), "%zu", i);
		out("print", "%s %.17g %a %.3f %e %G %10.2Lf", line, values[i], values[i], values[i],
		    values[i], values[i], (long double)values[i]);
	}
	out("print integers", "%d %+i %08x %#o %" PRIu64 " %hhd %5.3d|%-6d|", -7, 8, 48879, 8, UINT64_MAX,
	    (signed char)300, 5, 42);
	out("print others", "%s %.3s %c %5c %p %%", "text", "cut here", 'c', 'd',
	    (void *)0x1234);
	sum_start(&s);
	for (unsigned i = 0; i < 500; i++) {
		uint64_t bits = rnd();
		double v;

		memcpy(&v, &bits, sizeof(v));
		if (isnan(v)) {
			continue;
		}
		int n = snprintf(line, sizeof(line), "%.17g", v);

		sum_add(&s, line, (size_t)n);
		double back = strtod(line, NULL);

		sum_u64(&s, memcmp(&back, &v, sizeof(v)) == 0);
		n = snprintf(line, sizeof(line), "%.30Le", (long double)v * 3);
		sum_add(&s, line, (size_t)n);
	}
	out("print and read", "%016" PRIx64, s.v);
}

static void reading(void)
{
	int a = 0, n = 0;
	double d = 0;
	char word[32] = "", *end = NULL;

	n = sscanf("17 0x1.8p3 hello rest", "%d %lf %31s", &a, &d, word);
	out("scan", "%d: %d %g %s", n, a, d, word);
	errno = 0;
	long big = strtol("99999999999999999999", &end, 10);

	out("too big", "%ld %s", big, outcome(errno ? -1 : 0));
	out("base 36", "%ld", strtol("zz", NULL, 36));
	out("hexadecimal", "%lu", strtoul("-0x10", NULL, 0));
	out("float", "%a %a %a", strtod("1e-310", NULL), strtod("0.1", NULL), strtod("inf", NULL));
	out("long float", "%La", strtold("0.1", NULL));
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sorting(void)
{
	static uint32_t v[20000];
	unsigned found = 0;

	for (size_t i = 0; i < 20000; i++) {
		v[i] = (uint32_t)rnd() % 100000;
	}
	uint32_t first = v[0];

	qsort(v, 20000, sizeof(v[0]), by_value);
	for (uint32_t i = 0; i < 100000; i += 77) {
		found += bsearch(&i, v, 20000, sizeof(v[0]), by_value) != NULL;
	}
	out("sort", "%016" PRIx64 " %u %u", sum_of(v, sizeof(v)), found, first);
}

/* What was written there is there when it is freed. */
static void allocation(void)
{
	static struct {
		uint8_t *p;
		size_t   n;
	} held[256];
	unsigned bad = 0;

	for (unsigned i = 0; i < 20000; i++) {
		size_t k = rnd() % 256;

		for (size_t j = 0; j < held[k].n; j++) {
			bad += held[k].p[j] != (uint8_t)(k + j);
		}
		held[k].n = rnd() % (i % 100 ? 700 : 200000);
		if (i % 3) {
			free(held[k].p);
			held[k].p = malloc(held[k].n);
		} else {
			held[k].p = realloc(held[k].p, held[k].n);
		}
		for (size_t j = 0; j < held[k].n; j++) {
			held[k].p[j] = (uint8_t)(k + j);
		}
	}
	for (size_t k = 0; k < 256; k++) {
		free(held[k].p);
	}
	out("allocation", "%u bad", bad);
}

static void matching(void)
{
	static const char *const texts[] = { "one.c", "Makefile", "a/b.c", "x86_64", "" };
	regex_t re;
	char line[64] = "";

	if (regcomp(&re, "^([a-z]+)[._]([a-z0-9]*)$", REG_EXTENDED) != 0) {
		broken("regcomp");
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		regmatch_t m[3];
		int r = regexec(&re, texts[i], 3, m, 0);

		snprintf(line + strlen(line), sizeof(line) - strlen(line), " %d/%d/%d", r,
			 r == 0 ? m[2].rm_so : -1, fnmatch("*.c", texts[i], FNM_PATHNAME));
	}
	regfree(&re);
	out("matching", "%s", line);
	out("wide characters", "%zu %d %lc", wcslen(L"wide"), wcscmp(L"a", L"b") < 0, L'x');
	out("classes", "%d%d%d%d", !!isalpha('x'), !!isdigit('x'), toupper('q'), !!ispunct('!'));
}

static void streams(void)
{
	char *text = NULL, line[64] = "";
	size_t n = 0, sum = 0;
	FILE *f = open_memstream(&text, &n);

	for (int i = 0; f && i < 1000; i++) {
		fprintf(f, "line %d\n", i);
	}
	if (!f || fclose(f) != 0) {
		broken("open_memstream");
	}
	out("memory stream", "%zu %016" PRIx64, n, sum_of(text, n));
	f = fmemopen(text, n, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sum += strlen(line);
	}
	out("reading it", "%zu %s", sum, line + 5);
	if (f) {
		fclose(f);
	}
	free(text);
	f = fopen("stream", "w+");
	if (!f) {
		broken("stream");
	}
	for (int i = 0; i < 5000; i++) {
		fprintf(f, "%d ", i * i);
	}
	fseek(f, 100, SEEK_SET);
	fputs("here", f);
	rewind(f);
	for (int c; (c = getc(f)) != EOF;) {
		sum = sum * 31 + (size_t)c;
	}
	out("file stream", "%zx at %ld", sum, ftell(f));
	fclose(f);
	remove("stream");
}

void conform_libc(void)
{
	section("libc");
	memory();
	strings();
	printing();
	reading();
	sorting();
	allocation();
	matching();
	streams();
}
