/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <elf.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#include "base/le.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"
#include "vm/boot/boot.h"
#include "vm/boot/bootparam.h"
#include "vm/boot/layout.h"

enum {
	PHYS = 0x1000000, TEXT_BYTES = 0x2000, MEMORY = 64 << 20,
	VALUE32 = 0x100, VALUE_SUB = 0x108, VALUE64 = 0x110,  /* offsets in the text */
	TEXT_OFF = 0x200,
};

#define VIRT UINT64_C(0xffffffff81000000)

/* An ELF file like a kernel's: one segment, one note, one section, and relocations behind. */
static void make_elf(struct buf *b, bool note, unsigned lists)
{
	uint8_t text[TEXT_BYTES] = "start";
	const uint32_t notes[] = { 4, 4, 18, 0x006e6558, PHYS + 0x10 };
	const Elf64_Phdr p[2] = {
		{ .p_type = PT_LOAD, .p_offset = TEXT_OFF, .p_vaddr = VIRT, .p_paddr = PHYS,
		  .p_filesz = sizeof(text), .p_memsz = 2 * sizeof(text) },
		{ .p_type = note ? PT_NOTE : PT_NULL, .p_offset = TEXT_OFF + sizeof(text),
		  .p_filesz = sizeof(notes) },
	};
	const Elf64_Shdr s = { .sh_type = SHT_PROGBITS, .sh_offset = TEXT_OFF, .sh_size = 16 };
	Elf64_Ehdr h = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 }, .e_type = ET_EXEC,
		.e_machine = EM_X86_64, .e_entry = PHYS, .e_phoff = sizeof(h),
		.e_phentsize = sizeof(p[0]), .e_phnum = 2, .e_shentsize = sizeof(s), .e_shnum = 1,
		.e_shoff = TEXT_OFF + sizeof(text) + sizeof(notes),
	};
	const uint32_t at = (uint32_t)VIRT;
	const uint32_t three[] = { 0, at + VALUE64, 0, at + VALUE_SUB, 0, at + VALUE32 };
	const uint32_t two[] = { 0, at + VALUE64, 0, at + VALUE32 };

	le32_put(text + VALUE32, (uint32_t)VIRT + 5);
	le32_put(text + VALUE_SUB, 0x40000000);
	le64_put(text + VALUE64, VIRT + 7);
	buf_add(b, &h, sizeof(h));
	buf_add(b, p, sizeof(p));
	while (b->len < TEXT_OFF) {
		buf_add_char(b, 0);
	}
	buf_add(b, text, sizeof(text));
	buf_add(b, notes, sizeof(notes));
	buf_add(b, &s, sizeof(s));
	buf_add(b, lists == 3 ? three : two, lists == 0 ? 0 : lists == 3 ? sizeof(three) :
								sizeof(two));
}

enum packing { PACK_NONE, PACK_GZIP, PACK_LZ4, PACK_XZ, PACK_ZSTD };

static void pack_gzip(struct buf *out, const struct buf *in)
{
	uint8_t data[65536];
	z_stream z = { .next_in = (Bytef *)in->data, .avail_in = (uInt)in->len, .next_out = data,
		       .avail_out = sizeof(data) };

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	buf_add(out, data, z.total_out);
	deflateEnd(&z);
}

static void pack(struct buf *out, const struct buf *in, enum packing how)
{
	static uint8_t data[65536];
	size_t at = 0, n = 0;
	uint32_t len = (uint32_t)in->len;

	switch (how) {
	case PACK_NONE:
		buf_add(out, in->data, in->len);
		return;
	case PACK_GZIP:
		pack_gzip(out, in);
		return;
	case PACK_LZ4:
		le32_put(data, 0x184c2102);
		n = (size_t)LZ4_compress_default(in->data, (char *)data + 8, (int)in->len,
						 sizeof(data) - 8);
		le32_put(data + 4, (uint32_t)n);
		buf_add(out, data, n + 8);
		break;
	case PACK_XZ:
		assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL,
							 (uint8_t *)in->data, in->len, data, &at,
							 sizeof(data)), LZMA_OK);
		buf_add(out, data, at);
		break;
	case PACK_ZSTD:
		n = ZSTD_compress(data, sizeof(data), in->data, in->len, 3);
		assert_false(ZSTD_isError(n));
		buf_add(out, data, n);
		break;
	}
	buf_add(out, &len, 4);
}

enum { SETUP_BYTES = 2 * 512 };

static void add_bzimage(struct buf *b, const struct buf *elf, enum packing how)
{
	auto_buf struct buf payload = BUF_INIT;
	uint8_t setup[SETUP_BYTES] = { 0 };

	pack(&payload, elf, how);
	setup[BP_SETUP_SECTS] = 1;
	le16_put(setup + BP_BOOT_FLAG, 0xaa55);
	setup[0x201] = 0x6a;
	memcpy(setup + BP_MAGIC, "HdrS", 4);
	le16_put(setup + BP_VERSION, 0x20f);
	le32_put(setup + BP_INITRD_MAX, 0x7fffffff);
	le32_put(setup + BP_ALIGNMENT, 0x200000);
	setup[BP_RELOCATABLE] = 1;
	le16_put(setup + BP_XLOADFLAGS, BP_XLF_KERNEL_64);
	le32_put(setup + BP_CMDLINE_SIZE, 255);
	le32_put(setup + BP_PAYLOAD_OFFSET, 16);
	le32_put(setup + BP_PAYLOAD_LENGTH, (uint32_t)payload.len);
	le32_put(setup + BP_INIT_SIZE, 0x10000);
	buf_add(b, setup, sizeof(setup));
	buf_add(b, "0123456789abcdef", 16);
	buf_add(b, payload.data, payload.len);
}

static void make_bzimage(struct buf *b, enum packing how, unsigned lists)
{
	auto_buf struct buf elf = BUF_INIT;

	make_elf(&elf, true, lists);
	add_bzimage(b, &elf, how);
}

static int parse(struct kernel *k, const struct buf *b, struct err *e)
{
	return kernel_parse(k, (const uint8_t *)b->data, b->len, e);
}

static struct gmem memory(void)
{
	struct err e = ERR_INIT;
	struct gmem g;

	gmem_init(&g);
	assert_int_equal(gmem_add(&g, GPA(0), MEMORY, -1, 0, false, &e), 0);
	return g;
}

static uint64_t peek(const struct gmem *g, uint64_t at, unsigned n)
{
	uint64_t v = 0;

	assert_int_equal(gmem_read(g, GPA(at), &v, n), 0);
	return v;
}

static void check_loaded(const struct gmem *g, const struct boot_entry *en, bool has_sub)
{
	char text[6] = "";

	assert_int_equal(gmem_read(g, GPA(en->phys), text, 5), 0);
	assert_string_equal(text, "start");
	assert_int_equal(en->rip, en->phys);
	assert_true(en->phys >= PHYS && en->phys % 0x200000 == 0);
	assert_true(en->virt_moved % 0x200000 == 0 && en->virt_moved < 1 << 30);
	assert_int_equal(peek(g, en->phys + VALUE32, 4), (uint32_t)(VIRT + 5 + en->virt_moved));
	assert_int_equal(peek(g, en->phys + VALUE64, 8), VIRT + 7 + en->virt_moved);
	assert_int_equal(peek(g, en->phys + VALUE_SUB, 4),
			 0x40000000 - (has_sub ? (uint32_t)en->virt_moved : 0));
}

static void loads_each_packing(void **state)
{
	(void)state;
	for (enum packing how = PACK_NONE; how <= PACK_ZSTD; how++) {
		auto_buf struct buf b = BUF_INIT;
		struct err e = ERR_INIT;
		struct kernel k = KERNEL_INIT;
		struct boot_conf conf = { .cmdline = "console=ttyS0", .initrd_fd = -1, .rsdp = 0xe0000,
					  .randomize = true, .seed = 1234 + how };
		struct boot_entry en = { 0 };
		struct gmem g = memory();

		make_bzimage(&b, how, how == PACK_XZ ? 2 : 3);
		assert_int_equal(parse(&k, &b, &e), 0);
		assert_int_equal(boot_load(&g, &k, &conf, &en, &e), 0);
		check_loaded(&g, &en, how != PACK_XZ);
		assert_true(en.long_mode);
		assert_int_equal(en.rsi, LAYOUT_BOOT_PARAMS);
		assert_int_equal(peek(&g, LAYOUT_BOOT_PARAMS + BP_LOADFLAGS, 1), BP_FLAG_KASLR);
		assert_int_equal(peek(&g, LAYOUT_BOOT_PARAMS + BP_ACPI_RSDP, 8), 0xe0000);
		assert_int_equal(peek(&g, LAYOUT_BOOT_PARAMS + BP_E820_ENTRIES, 1), 4);
		assert_int_equal(peek(&g, LAYOUT_CMDLINE + 13, 1), 0);
		assert_int_equal(peek(&g, LAYOUT_RESET_VECTOR, 6), UINT64_C(0xee0604ba01b0));
		/* 3 GiB + 5 at its own address */
		uint64_t pd = peek(&g, (peek(&g, en.cr3, 8) & ~0xfffu) + 8 * 3, 8) & ~UINT64_C(0xfff);

		assert_int_equal(peek(&g, pd + 8, 8), UINT64_C(0xc0200083));
		gmem_fini(&g);
		kernel_fini(&k);
	}
}

static void addresses_differ(void **state)
{
	auto_buf struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct kernel k = KERNEL_INIT;
	struct boot_entry en[3] = { 0 };

	(void)state;
	make_bzimage(&b, PACK_NONE, 3);
	assert_int_equal(parse(&k, &b, &e), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct boot_conf conf = { .cmdline = i == 2 ? "quiet nokaslr" : "", .initrd_fd = -1,
					  .randomize = true, .seed = i + 1 };
		struct gmem g = memory();

		assert_int_equal(boot_load(&g, &k, &conf, &en[i], &e), 0);
		check_loaded(&g, &en[i], true);
		gmem_fini(&g);
	}
	assert_int_not_equal(en[0].virt_moved, en[1].virt_moved);
	assert_int_equal(en[2].virt_moved, 0);
	assert_int_equal(en[2].phys, PHYS);
	kernel_fini(&k);
}

static void pvh(void **state)
{
	auto_buf struct buf b = BUF_INIT, none = BUF_INIT;
	struct err e = ERR_INIT;
	struct kernel k = KERNEL_INIT;
	struct boot_entry en = { 0 };
	auto_close int initrd = sys_memfd_create("initrd", 0);
	struct boot_conf conf = { .cmdline = "quiet", .initrd_fd = initrd, .rsdp = 0xe0000,
				  .randomize = true, .seed = 1 };
	struct gmem g = memory();

	(void)state;
	assert_int_equal(sys_pwrite(initrd, "cpio", 4, 0), 4);
	make_elf(&b, true, 0);
	assert_int_equal(parse(&k, &b, &e), 0);
	assert_int_equal(boot_load(&g, &k, &conf, &en, &e), 0);
	assert_false(en.long_mode);
	assert_int_equal(en.rip, PHYS + 0x10);
	assert_int_equal(en.rbx, LAYOUT_PVH);
	assert_int_equal(peek(&g, en.rbx, 4), 0x336ec578);
	uint64_t module = peek(&g, en.rbx + 16, 8);

	assert_int_equal(peek(&g, module + 8, 8), 4);
	assert_int_equal(peek(&g, peek(&g, module, 8), 4), le32_get("cpio"));
	kernel_fini(&k);
	gmem_fini(&g);

	make_elf(&none, false, 0);
	assert_int_equal(parse(&k, &none, &e), -EOPNOTSUPP);
	kernel_fini(&k);
}

static void refuses_by_name(void **state)
{
	static const struct { const char *magic, *name; } cases[] = {
		{ "BZh91AY....", "bzip2" }, { "\x5d\0\0\x80....", "LZMA" }, { "\x89LZO....", "LZO" },
		{ "what is this", "unknown" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = ERR_INIT;
		uint8_t *out = NULL;
		size_t n = 0;

		assert_true(kernel_unpack((const uint8_t *)cases[i].magic, 11, 1 << 20, &out, &n, &e) < 0);
		assert_non_null(strstr(e.msg, cases[i].name));
	}
}

/* Every byte of the header and many of the rest, changed: refused or loaded, never worse. */
static void damaged(void **state)
{
	(void)state;
	for (enum packing how = PACK_NONE; how <= PACK_ZSTD; how++) {
		auto_buf struct buf b = BUF_INIT;
		struct gmem g = memory();

		make_bzimage(&b, how, 3);
		size_t step = how == PACK_NONE ? 3 : 1;

		for (size_t at = 0; at < MIN(b.len, (size_t)SETUP_BYTES + 900); at += step) {
			struct err e = ERR_INIT;
			struct kernel k = KERNEL_INIT;
			struct boot_conf conf = { .cmdline = "", .initrd_fd = -1, .randomize = true,
						  .seed = at };
			struct boot_entry en;
			char was = b.data[at];

			b.data[at] = (char)(was ^ (at % 2 ? 0xff : 0x41));
			if (parse(&k, &b, &e) == 0) {
				ignore_result(boot_load(&g, &k, &conf, &en, &e)); /* either */
			}
			b.data[at] = was;
			kernel_fini(&k);
		}
		gmem_fini(&g);
	}
}

static void cut(void **state)
{
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	make_bzimage(&b, PACK_NONE, 3);
	for (size_t n = 0; n < b.len; n += 7) {
		struct err e = ERR_INIT;
		struct kernel k = KERNEL_INIT;
		uint8_t *copy = mem_dup(b.data, n ? n : 1); /* so that reading behind it is seen */

		assert_non_null(copy);
		assert_true(kernel_parse(&k, copy, n, &e) < 0);
		free(copy);
		kernel_fini(&k);
	}
}

static void too_little_memory(void **state)
{
	auto_buf struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct kernel k = KERNEL_INIT;
	struct boot_conf conf = { .cmdline = "", .initrd_fd = -1 };
	struct boot_entry en;
	struct gmem g;

	(void)state;
	gmem_init(&g);
	assert_int_equal(gmem_add(&g, GPA(0), 16 << 20, -1, 0, false, &e), 0);
	make_bzimage(&b, PACK_NONE, 3);
	assert_int_equal(parse(&k, &b, &e), 0);
	assert_int_equal(boot_load(&g, &k, &conf, &en, &e), -ENOMEM);
	conf.cmdline = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	assert_int_equal(boot_load(&g, &k, &conf, &en, &e), -E2BIG);
	kernel_fini(&k);
	gmem_fini(&g);
}

struct told {
	unsigned     times, n;
	struct iovec at[KERNEL_SEGMENTS_MAX];
};

static void fills(void *ctx, const struct iovec *at, unsigned n)
{
	struct told *t = ctx;

	assert_true(n <= ARRAY_LEN(t->at));
	t->times++;
	t->n = n;
	memcpy(t->at, at, n * sizeof(*at));
}

/* Each segment that the file has something of, in their order, and nothing between. */
static void check_told(const struct told *t, const struct gmem *g, const struct kernel *k,
		       const struct boot_entry *en)
{
	unsigned n = 0;

	assert_int_equal(t->times, 1);
	for (unsigned i = 0; i < k->n_segments; i++) {
		const struct kernel_segment *s = &k->segments[i];

		if (s->file_bytes == 0) {
			continue;
		}
		assert_true(n < t->n);
		assert_ptr_equal(t->at[n].iov_base,
				 g->slots[0].host + en->phys + (s->phys - k->first));
		assert_int_equal(t->at[n++].iov_len, s->file_bytes);
	}
	assert_int_equal(t->n, n);
}

/* One that is read from its file is in memory what the other one is. */
static void same_when_loaded(const struct kernel *k, const struct kernel *from_file)
{
	const struct kernel *const ks[] = { k, from_file };
	static uint8_t loaded[2][2 * TEXT_BYTES];

	for (unsigned i = 0; i < 2; i++) {
		struct told told = { 0 };
		struct boot_conf conf = { .cmdline = "", .initrd_fd = -1, .randomize = true, .seed = 5,
					  .fills = fills, .ctx = &told };
		struct err e = ERR_INIT;
		struct boot_entry en = { 0 };
		struct gmem g = memory();

		assert_int_equal(boot_load(&g, ks[i], &conf, &en, &e), 0);
		check_told(&told, &g, ks[i], &en);
		check_loaded(&g, &en, true);
		assert_int_equal(gmem_read(&g, GPA(en.phys), loaded[i], sizeof(loaded[i])), 0);
		gmem_fini(&g);
	}
	assert_memory_equal(loaded[0], loaded[1], sizeof(loaded[0]));
}

/* The second time the packed data is not looked at. What is kept of a kernel is what is in it,
 * under a name that says of which. */
static void keeps(void **state)
{
	auto_(kernel_fini) struct kernel k = KERNEL_INIT, again = KERNEL_INIT;
	auto_buf struct buf b = BUF_INIT;
	struct err e = ERR_INIT;
	struct kernel_name name, other;
	auto_close int file = sys_memfd_create("kernel", 0), image = sys_memfd_create("image", 0);

	(void)state;
	make_bzimage(&b, PACK_LZ4, 3);
	assert_int_equal(sys_write_full(file, b.data, b.len), 0);
	assert_int_equal(kernel_open(&k, file, -1, &e), 0);
	assert_int_equal(kernel_unpack_file(file, image, &e), 1);
	assert_int_equal(kernel_open(&again, file, image, &e), 0);
	assert_true(again.image_mapped && !k.image_mapped);
	assert_int_equal(again.image_bytes, k.image_bytes);
	assert_memory_equal(again.image + TEXT_OFF, k.image + TEXT_OFF, k.image_bytes - TEXT_OFF);
	assert_int_equal(again.n_segments, 1);
	/* But for the zeros at the end of its memory. */
	assert_int_equal(k.segments[0].file_bytes, TEXT_BYTES);
	assert_int_equal(again.segments[0].file_bytes, VALUE64 + 8);
	assert_int_equal(again.segments[0].bytes, k.segments[0].bytes);
	assert_int_equal(again.entry, k.entry);

	same_when_loaded(&k, &again);

	assert_int_equal(kernel_image_name(file, &name, &e), 0);
	assert_int_equal(strlen(name.text), 64 + strlen(".elf"));
	assert_true(kernel_name_ok(&name));
	other = name;
	other.text[0] = '/';
	assert_false(kernel_name_ok(&other));
	other = name;
	other.text[63] = 0;
	assert_false(kernel_name_ok(&other));
	assert_int_equal(sys_write_full(file, "x", 1), 0);
	assert_int_equal(kernel_image_name(file, &other, &e), 0);
	assert_string_not_equal(name.text, other.text);
}

enum strange { FAR_APART, OVER_ANOTHER, WITH_HEADERS, STRANGE__COUNT };

/* A kernel that no linker makes: with a segment far above, or with one above another one's begin
 * that holds zeros, or with one that has the file's own headers in it. */
static void make_strange(struct buf *b, enum strange what)
{
	auto_buf struct buf elf = BUF_INIT;
	Elf64_Phdr p[2];
	char *at = NULL;

	make_elf(&elf, true, 3);
	at = elf.data + sizeof(Elf64_Ehdr);
	memcpy(p, at, sizeof(p));
	p[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = TEXT_OFF + TEXT_BYTES / 2,
			     .p_filesz = TEXT_BYTES / 2, .p_memsz = TEXT_BYTES / 2,
			     .p_paddr = PHYS + (what == FAR_APART ? 16 << 20 : TEXT_BYTES / 4) };
	if (what == WITH_HEADERS) {
		p[1].p_type = PT_NULL;
		p[0].p_offset = 0;
		p[0].p_filesz = TEXT_OFF + TEXT_BYTES;
	}
	memset(elf.data + TEXT_OFF + TEXT_BYTES / 4, 'x', 16);   /* under the other's zeros */
	memcpy(at, p, sizeof(p));
	add_bzimage(b, &elf, PACK_LZ4);
}

/* What is kept of it is in memory what the file itself is. */
static void keeps_strange_ones(void **state)
{
	(void)state;
	for (enum strange what = 0; what < STRANGE__COUNT; what++) {
		struct kernel k[2] = { KERNEL_INIT, KERNEL_INIT };
		auto_buf struct buf b = BUF_INIT;
		struct err e = ERR_INIT;
		auto_close int file = sys_memfd_create("kernel", 0);
		auto_close int image = sys_memfd_create("image", 0);
		static uint8_t loaded[2][32 << 20];

		make_strange(&b, what);
		assert_int_equal(sys_write_full(file, b.data, b.len), 0);
		assert_int_equal(kernel_unpack_file(file, image, &e), 1);
		for (unsigned i = 0; i < 2; i++) {
			struct told told = { 0 };
			struct boot_conf conf = { .cmdline = "", .initrd_fd = -1,
						  .fills = fills, .ctx = &told };
			struct boot_entry en = { 0 };
			struct gmem g = memory();

			assert_int_equal(kernel_open(&k[i], file, i == 0 ? -1 : image, &e), 0);
			assert_int_equal(boot_load(&g, &k[i], &conf, &en, &e), 0);
			check_told(&told, &g, &k[i], &en);
			assert_int_equal(gmem_read(&g, GPA(PHYS), loaded[i], sizeof(loaded[i])), 0);
			gmem_fini(&g);
		}
		assert_memory_equal(loaded[0], loaded[1], sizeof(loaded[0]));
		kernel_fini(&k[0]);
		kernel_fini(&k[1]);
	}
}

/* Nothing is kept of one that nobody has to unpack, nor of one that cannot be unpacked. */
static void keeps_only_what_is_packed(void **state)
{
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	for (int broken = 0; broken < 2; broken++) {
		auto_buf struct buf b = BUF_INIT;
		auto_close int file = sys_memfd_create("kernel", 0);
		auto_close int image = sys_memfd_create("image", 0);

		make_bzimage(&b, broken ? PACK_LZ4 : PACK_NONE, 3);
		size_t n = broken ? b.len / 2 : b.len;

		assert_int_equal(sys_write_full(file, b.data, n), 0);
		int r = kernel_unpack_file(file, image, &e);

		assert_true(broken ? r < 0 : r == 0);
		assert_int_equal(sys_fstat(image, &st), 0);
		assert_int_equal(st.st_size, 0);
	}
}

/* What lies there and is no image is told, not believed. */
static void refuses_images(void **state)
{
	static const char *const texts[] = { "", "none", "\177ELF and nothing behind it at all......." };
	auto_buf struct buf b = BUF_INIT;
	auto_close int file = sys_memfd_create("kernel", 0);

	(void)state;
	make_bzimage(&b, PACK_LZ4, 3);
	assert_int_equal(sys_write_full(file, b.data, b.len), 0);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		auto_(kernel_fini) struct kernel k = KERNEL_INIT;
		auto_close int image = sys_memfd_create("image", 0);
		struct err e = ERR_INIT;

		assert_int_equal(sys_write_full(image, texts[i], strlen(texts[i])), 0);
		assert_true(kernel_open(&k, file, image, &e) < 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_each_packing), cmocka_unit_test(addresses_differ),
		cmocka_unit_test(pvh),                cmocka_unit_test(refuses_by_name),
		cmocka_unit_test(damaged),            cmocka_unit_test(cut),
		cmocka_unit_test(too_little_memory),  cmocka_unit_test(keeps),
		cmocka_unit_test(refuses_images),
		cmocka_unit_test(keeps_only_what_is_packed), cmocka_unit_test(keeps_strange_ones),
	};

	return TEST_RUN(tests);
}
