/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/boot/aml.h"

#include "base/le.h"

enum {
	OP_ZERO = 0x00, OP_ONE = 0x01, OP_NAME = 0x08, OP_BYTE = 0x0a, OP_WORD = 0x0b,
	OP_DWORD = 0x0c, OP_STRING = 0x0d, OP_QWORD = 0x0e, OP_SCOPE = 0x10, OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12, OP_METHOD = 0x14, OP_DUAL_NAME = 0x2e, OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b, OP_ROOT = 0x5c, OP_DEVICE = 0x82, OP_NOTIFY = 0x86,
	METHOD_SERIALIZED = 8,
	SEGMENT = 4, END_TAG = 0x79,
};

static void byte(struct aml *a, unsigned v)
{
	buf_add_char(&a->b, (char)v);
}

static void word(struct aml *a, uint16_t v)
{
	buf_add(&a->b, &v, sizeof(v));
}

static void dword(struct aml *a, uint32_t v)
{
	buf_add(&a->b, &v, sizeof(v));
}

static void open_block(struct aml *a)
{
	assert(a->depth < AML_DEPTH_MAX);
	a->open[a->depth++] = a->b.len;
}

/* Put n bytes in before `at`. */
static void insert(struct aml *a, size_t at, const uint8_t *data, size_t n)
{
	if (buf_reserve(&a->b, n)) {
		size_t tail = a->b.len - at;

		buf_add(&a->b, data, n); /* makes it longer by n */
		memmove(a->b.data + at + n, a->b.data + at, tail);
		memcpy(a->b.data + at, data, n);
	}
}

/* ACPI 6.5, 20.2.4: the length counts its own bytes. */
static void close_block(struct aml *a)
{
	assert(a->depth > 0);
	size_t at = a->open[--a->depth], len = a->b.len - at;
	uint8_t enc[4] = { 0 };
	size_t n = len + 1 < 64 ? 1 : len + 2 < 4096 ? 2 : 3;

	len += n;
	assert(len < 1 << 20);
	if (n == 1) {
		enc[0] = (uint8_t)len;
	} else {
		enc[0] = (uint8_t)((n - 1) << 6 | (len & 15));
		enc[1] = (uint8_t)(len >> 4);
		enc[2] = (uint8_t)(len >> 12);
	}
	insert(a, at, enc, n);
}

static void name_string(struct aml *a, const char *path)
{
	unsigned n = 1;

	if (*path == '\\') {
		byte(a, OP_ROOT);
		path++;
	}
	for (const char *p = path; *p; p++) {
		n += *p == '.';
	}
	if (n == 2) {
		byte(a, OP_DUAL_NAME);
	} else if (n > 2) {
		byte(a, OP_MULTI_NAME);
		byte(a, n);
	}
	const char *cursor = path, *part = NULL;
	size_t len = 0;

	while (str_split(&cursor, '.', &part, &len)) {
		assert(len > 0 && len <= SEGMENT);
		buf_add(&a->b, part, len);
		for (; len < SEGMENT; len++) {
			byte(a, '_');
		}
	}
}

void aml_scope(struct aml *a, const char *path)
{
	byte(a, OP_SCOPE);
	open_block(a);
	name_string(a, path);
}

void aml_device(struct aml *a, const char *name)
{
	byte(a, OP_EXT);
	byte(a, OP_DEVICE);
	open_block(a);
	name_string(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned n_args)
{
	byte(a, OP_METHOD);
	open_block(a);
	name_string(a, name);
	byte(a, n_args | METHOD_SERIALIZED);
}

void aml_package(struct aml *a, uint8_t n)
{
	byte(a, OP_PACKAGE);
	open_block(a);
	byte(a, n);
}

void aml_name(struct aml *a, const char *name)
{
	byte(a, OP_NAME);
	name_string(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		byte(a, v == 0 ? OP_ZERO : OP_ONE);
	} else if (v <= UINT8_MAX) {
		byte(a, OP_BYTE);
		byte(a, (unsigned)v);
	} else if (v <= UINT16_MAX) {
		byte(a, OP_WORD);
		word(a, (uint16_t)v);
	} else if (v <= UINT32_MAX) {
		byte(a, OP_DWORD);
		dword(a, (uint32_t)v);
	} else {
		byte(a, OP_QWORD);
		buf_add(&a->b, &v, sizeof(v));
	}
}

void aml_string(struct aml *a, const char *s)
{
	byte(a, OP_STRING);
	buf_add(&a->b, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	assert((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits each and four digits, most significant byte first. */
void aml_eisa_id(struct aml *a, const char *id)
{
	assert(strlen(id) == 7);
	unsigned letters = (unsigned)(id[0] - '@') << 10 | (unsigned)(id[1] - '@') << 5 |
			   (unsigned)(id[2] - '@');

	byte(a, OP_DWORD);
	byte(a, letters >> 8);
	byte(a, letters & 0xff);
	byte(a, hex_digit(id[3]) << 4 | hex_digit(id[4]));
	byte(a, hex_digit(id[5]) << 4 | hex_digit(id[6]));
}

void aml_notify(struct aml *a, const char *path, uint8_t v)
{
	byte(a, OP_NOTIFY);
	name_string(a, path);
	aml_int(a, v);
}

/* --- Resources --- */

/* Name(_CRS, Buffer(n) { ... }): the length inside is put in with the block's own. */
void aml_crs(struct aml *a)
{
	aml_name(a, "_CRS");
	byte(a, OP_BUFFER);
	open_block(a);
	open_block(a);
}

/* The buffer's size stands as a number before its bytes. */
static void end_crs(struct aml *a)
{
	size_t at = a->open[--a->depth];
	uint8_t enc[3] = { OP_WORD };

	byte(a, END_TAG);
	byte(a, 0); /* no checksum */
	le16_put(enc + 1, (uint16_t)(a->b.len - at));
	insert(a, at, enc, sizeof(enc));
	close_block(a);
}

void aml_end(struct aml *a)
{
	/* Only a resource template has two blocks that begin at one place. */
	if (a->depth >= 2 && a->open[a->depth - 1] == a->open[a->depth - 2]) {
		end_crs(a);
	} else {
		close_block(a);
	}
}

enum { FIXED = 0x0c /* both ends */, READ_WRITE = 1 };

void aml_crs_bus(struct aml *a, uint16_t first, uint16_t last)
{
	byte(a, 0x88);
	word(a, 0x0d);
	byte(a, 2); /* bus numbers */
	byte(a, FIXED);
	byte(a, 0);
	word(a, 0);
	word(a, first);
	word(a, last);
	word(a, 0);
	word(a, (uint16_t)(last - first + 1));
}

void aml_crs_window(struct aml *a, uint32_t first, uint32_t bytes)
{
	byte(a, 0x87);
	word(a, 0x17);
	byte(a, 0); /* memory */
	byte(a, FIXED);
	byte(a, READ_WRITE);
	dword(a, 0);
	dword(a, first);
	dword(a, first + bytes - 1);
	dword(a, 0);
	dword(a, bytes);
}

void aml_crs_memory(struct aml *a, uint32_t first, uint32_t bytes)
{
	byte(a, 0x86);
	word(a, 9);
	byte(a, READ_WRITE);
	dword(a, first);
	dword(a, bytes);
}

void aml_crs_io(struct aml *a, uint16_t first, uint8_t n)
{
	byte(a, 0x47);
	byte(a, 1); /* all 16 address lines */
	word(a, first);
	word(a, first);
	byte(a, 1);
	byte(a, n);
}

void aml_crs_irq(struct aml *a, uint32_t gsi)
{
	byte(a, 0x89);
	word(a, 6);
	byte(a, 3); /* consumer, edge */
	byte(a, 1);
	dword(a, gsi);
}
