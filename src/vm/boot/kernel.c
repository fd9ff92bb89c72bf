/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/boot/kernel.h"

#include <ctype.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"
#include "vm/boot/bootparam.h"
#include "vm/boot/layout.h"

enum {
	HEAD_BYTES  = 1024,        /* of a bzImage: the setup header ends before */
	PIECE_BYTES = 256 << 10,
};

void kernel_fini(struct kernel *k)
{
	if (k->image_mapped) {
		ignore_result(munmap(k->image, k->image_bytes)); /* ours */
	} else {
		free(k->image);
	}
	*k = (struct kernel)KERNEL_INIT;
}

static int bad(struct err *e, const char *what)
{
	return err_set(e, EINVAL, ERR_INVALID, "the kernel's header: %s", what);
}

struct payload {
	const uint8_t *data;
	size_t         n;
};

/* Spec: Linux boot.rst, The Real-Mode Kernel Header. */
static int read_setup(struct kernel *k, const uint8_t *file, size_t n, struct payload *ret,
		      struct err *e)
{
	unsigned version = le16_get(file + BP_VERSION);
	size_t header_end = 0x202 + (size_t)file[0x201];
	size_t setup = ((size_t)(file[BP_SETUP_SECTS] ? file[BP_SETUP_SECTS] : 4) + 1) * 512;

	if (version < 0x20c) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "the kernel's boot protocol is older "
			       "than 2.12 (Linux 3.8)");
	}
	if (!(le16_get(file + BP_XLOADFLAGS) & BP_XLF_KERNEL_64)) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "the kernel is not a 64-bit one");
	}
	if (header_end < BP_INIT_SIZE + 4 || header_end > n) {
		return bad(e, "its length");
	}
	k->header_bytes = MIN(header_end - BP_HEADER, sizeof(k->header));
	memcpy(k->header, file + BP_HEADER, k->header_bytes);
	size_t off = le32_get(file + BP_PAYLOAD_OFFSET), len = le32_get(file + BP_PAYLOAD_LENGTH);

	if (setup > n || off > n - setup || len > n - setup - off || len < 8) {
		return bad(e, "the payload is outside");
	}
	k->cmdline_max = MIN(le32_get(file + BP_CMDLINE_SIZE), (uint32_t)LAYOUT_CMDLINE_MAX - 1);
	k->initrd_max = le32_get(file + BP_INITRD_MAX);
	k->align = file[BP_RELOCATABLE] ? MAX(le32_get(file + BP_ALIGNMENT), UINT32_C(0x200000)) : 0;
	if ((k->align & (k->align - 1)) != 0) {
		return bad(e, "its alignment");
	}
	*ret = (struct payload){ .data = file + setup + off, .n = len };
	return 0;
}

static bool is_bzimage(const uint8_t *file, size_t n)
{
	return n > 0x290 && le16_get(file + BP_BOOT_FLAG) == 0xaa55 &&
	       memcmp(file + BP_MAGIC, "HdrS", 4) == 0;
}

/* What is needed from the first byte on while the kernel starts: more than its segments. */
static int add_init_size(struct kernel *k, struct err *e)
{
	uint64_t init = le32_get(k->header + (BP_INIT_SIZE - BP_HEADER));

	k->end = MAX(k->end, k->first + init);
	if ((k->first & 0x1fffff) != 0 || (k->align && (k->first & (k->align - 1)) != 0)) {
		return bad(e, "its address is not aligned");
	}
	return 0;
}

static int finish(struct kernel *k, struct err *e)
{
	int r = kernel__parse_elf(k, e);

	return r < 0 || !k->linux_boot ? r : add_init_size(k, e);
}

/* The payload is an ELF file already where the kernel is not packed at all. */
static int unpack(struct kernel *k, const struct payload *p, struct err *e)
{
	if (memcmp(p->data, "\177ELF", 4) != 0) {
		return kernel_unpack(p->data, p->n, KERNEL_IMAGE_MAX, &k->image, &k->image_bytes, e);
	}
	k->image = mem_dup(p->data, p->n);
	k->image_bytes = p->n;
	return k->image ? 0 : err_nomem(e);
}

static int parse_start(struct kernel *k, const uint8_t *file, size_t n, struct payload *ret,
		       struct err *e)
{
	kernel_fini(k);
	k->linux_boot = is_bzimage(file, n);
	if (k->linux_boot) {
		return read_setup(k, file, n, ret, e);
	}
	if (n < 4 || memcmp(file, "\177ELF", 4) != 0) {
		return err_set(e, EINVAL, ERR_INVALID, "the kernel is neither a bzImage nor an ELF file");
	}
	k->cmdline_max = LAYOUT_CMDLINE_MAX - 1;
	k->initrd_max = UINT32_MAX;
	*ret = (struct payload){ .data = file, .n = n };
	return 0;
}

int kernel_parse(struct kernel *k, const uint8_t *file, size_t n, struct err *e)
{
	struct payload p = { 0 };
	int r = parse_start(k, file, n, &p, e);

	r = r < 0 ? r : unpack(k, &p, e);
	return r < 0 ? r : finish(k, e);
}

/* --- Files --- */

/* A pipe has no start, and is read where it is. */
static int read_kernel(int fd, struct buf *ret, struct err *e)
{
	off_t at = lseek(fd, 0, SEEK_SET);
	int r = at < 0 && errno != ESPIPE ? -errno : sys_read_fd(fd, KERNEL_FILE_MAX, ret);

	return r < 0 ? err_set(e, -r, r == -EFBIG ? ERR_INVALID : ERR_HOST,
			       "cannot read the kernel") : 0;
}

/* For what is looked at: headers and relocations. Of segments this would make more mappings of pages
 * than it takes to copy them. */
static int map_image(struct kernel *k, int fd, struct err *e)
{
	struct stat st = { 0 };
	int r = sys_fstat(fd, &st);

	if (r == 0 && (!S_ISREG(st.st_mode) || st.st_size <= 4 || st.st_size > KERNEL_IMAGE_MAX)) {
		r = -EINVAL;
	}
	void *at = r < 0 ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (at == MAP_FAILED) {
		return err_set(e, r < 0 ? -r : errno, ERR_HOST, "the unpacked kernel");
	}
	k->image = at;
	k->image_bytes = (size_t)st.st_size;
	k->image_mapped = true;
	k->image_fd = fd;
	return 0;
}

/* Of a file whose image is known only the header is looked at. */
static int open_known(struct kernel *k, int fd, int image_fd, struct err *e)
{
	uint8_t head[HEAD_BYTES] = { 0 };
	struct payload not_read = { 0 };
	struct stat st = { 0 };
	ssize_t n = sys_pread(fd, head, sizeof(head), 0);
	int r = n < 0 ? (int)n : sys_fstat(fd, &st);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read the kernel");
	}
	r = parse_start(k, head, (size_t)n < sizeof(head) ? (size_t)n : (size_t)st.st_size, &not_read, e);
	r = r < 0 ? r : map_image(k, image_fd, e);
	return r < 0 ? r : finish(k, e);
}

int kernel_open(struct kernel *k, int fd, int image_fd, struct err *e)
{
	auto_buf struct buf file = BUF_INIT;
	struct payload p = { 0 };
	int r = 0;

	if (image_fd >= 0) {
		return open_known(k, fd, image_fd, e);
	}
	r = read_kernel(fd, &file, e);
	r = r < 0 ? r : parse_start(k, (const uint8_t *)buf_str(&file), file.len, &p, e);
	r = r < 0 ? r : unpack(k, &p, e);
	return r < 0 ? r : finish(k, e);
}

int kernel_unpack_file(int fd, int out_fd, struct err *e)
{
	auto_(kernel_fini) struct kernel k = KERNEL_INIT;
	auto_buf struct buf file = BUF_INIT;
	struct payload p = { 0 };
	int r = read_kernel(fd, &file, e);

	r = r < 0 ? r : parse_start(&k, (const uint8_t *)buf_str(&file), file.len, &p, e);
	if (r < 0 || !k.linux_boot || memcmp(p.data, "\177ELF", 4) == 0) {
		return r;
	}
	r = unpack(&k, &p, e);
	r = r < 0 ? r : finish(&k, e);
	if (r == 0) {
		kernel__trim(&k);
		r = sys_write_full(out_fd, k.image, k.image_bytes);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "the unpacked kernel") : 1;
	}
	return r;
}

/* In pieces that stay in the host's cache. */
static int hash_file(int fd, uint8_t digest[SHA256_DIGEST_SIZE], struct err *e)
{
	auto_free uint8_t *piece = mem_calloc(1, PIECE_BYTES);
	struct sha256_ctx h;
	off_t at = 0;
	ssize_t n = 0;

	if (!piece) {
		return err_nomem(e);
	}
	sha256_init(&h);
	while (at <= KERNEL_FILE_MAX && (n = sys_pread(fd, piece, PIECE_BYTES, at)) > 0) {
		sha256_update(&h, (size_t)n, piece);
		at += n;
	}
	sha256_digest(&h, SHA256_DIGEST_SIZE, digest);
	if (at > KERNEL_FILE_MAX) {
		return err_set(e, EFBIG, ERR_INVALID, "cannot read the kernel");
	}
	return n < 0 ? err_set(e, (int)-n, ERR_HOST, "cannot read the kernel") : 0;
}

int kernel_image_name(int fd, struct kernel_name *ret, struct err *e)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	char hex[2 * sizeof(digest) + 1];
	int r = hash_file(fd, digest, e);

	if (r == 0) {
		hex_format(digest, sizeof(digest), hex);
		snprintf(ret->text, sizeof(ret->text), "%s.elf", hex);
	}
	return r;
}

bool kernel_name_ok(const struct kernel_name *name)
{
	size_t n = strspn(name->text, "0123456789abcdef");

	return n == 2 * (size_t)SHA256_DIGEST_SIZE && strcmp(name->text + n, ".elf") == 0;
}

bool kernel_cmdline_has(const char *cmdline, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = strstr(cmdline, name); at; at = strstr(at + 1, name)) {
		char behind = at[n];

		if ((at == cmdline || isspace((unsigned char)at[-1])) &&
		    (behind == 0 || behind == '=' || isspace((unsigned char)behind))) {
			return true;
		}
	}
	return false;
}
