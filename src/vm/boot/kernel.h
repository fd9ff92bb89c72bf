/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images: a Linux bzImage, or an ELF file that says where PVH enters it.
 *
 * A bzImage is unpacked here, on the host, and entered where its own unpacker would enter it,
 * relocated as that would do it. So it starts sooner, dirties less memory, and keeps the
 * randomisation of its addresses.
 *
 *	auto_(kernel_fini) struct kernel k = KERNEL_INIT;
 *	r = kernel_open(&k, fd, -1, e);
 *	r = boot_load(mem, &k, &conf, &entry, e);
 *
 * The file is not trusted: every number of it is checked before it is used.
 *
 * Spec: Linux, Documentation/arch/x86/boot.rst; ELF-64 Object File Format 1.5; the PVH start
 * of Xen, docs/misc/pvh.pandoc.
 */
#ifndef VM_BOOT_KERNEL_H
#define VM_BOOT_KERNEL_H

#include "base/err.h"

enum {
	KERNEL_SEGMENTS_MAX = 16,
	KERNEL_FILE_MAX     = 256 << 20,
	KERNEL_IMAGE_MAX    = 512 << 20,
	KERNEL_HEADER_MAX   = 0x290 - 0x1f1,   /* of a bzImage's setup header */
};

struct kernel_segment {
	uint64_t phys;         /* as linked */
	uint64_t bytes;        /* in memory */
	size_t   off, file_bytes;
};

/* A part of the relocation table: virtual addresses, 32 bits each, sign extended. */
struct kernel_relocs {
	size_t off, n;
};

struct kernel {
	uint8_t *image;        /* the ELF file, and behind it its relocation table */
	size_t   image_bytes;
	bool     image_mapped; /* it is a file, and cannot be written; read large parts from image_fd */
	int      image_fd;     /* borrowed; -1: none */
	size_t   elf_bytes;    /* of it */
	bool     linux_boot;   /* was a bzImage: enter by the 64-bit protocol, else PVH */
	uint8_t  header[KERNEL_HEADER_MAX];
	size_t   header_bytes;
	struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
	unsigned n_segments;
	uint64_t entry;        /* physical, as linked */
	uint64_t first, end;   /* physical range as linked, with what it needs while it starts */
	uint64_t align;        /* of its physical address; 0: it cannot be moved */
	uint64_t cmdline_max;  /* bytes without the NUL */
	uint64_t initrd_max;   /* highest address of the initrd's last byte */
	struct kernel_relocs add32, sub32, add64;
};

#define KERNEL_INIT { .image_fd = -1 }

/*
 * Read and check the file, from its start, and unpack it; or take for its content `image_fd` (-1:
 * none), which kernel_unpack_file() made of the same file. Both are borrowed; the image must not
 * change, and stay open, as long as k lives.
 */
int kernel_open(struct kernel *k, int fd, int image_fd, struct err *e) must_check;

/* The same of a file in memory. */
int kernel_parse(struct kernel *k, const uint8_t *file, size_t n, struct err *e) must_check;

void kernel_fini(struct kernel *k);

/*
 * For those who keep images: unpack the file into an empty one. Returns 1, or 0 if nothing in it
 * is packed, and nothing is written.
 */
int kernel_unpack_file(int fd, int out_fd, struct err *e) must_check;

struct kernel_name {
	char text[72];
};

/* What the image of the file is called where images are kept: by the hash of the file. */
int kernel_image_name(int fd, struct kernel_name *ret, struct err *e) must_check;
/* Is it one of those? */
bool kernel_name_ok(const struct kernel_name *name);

/* The command line's value of `name`: it begins a word. For "nokaslr". */
bool kernel_cmdline_has(const char *cmdline, const char *name);

/*
 * What a bzImage holds, by its magic: gzip, LZ4 (legacy frames), xz, zstd; others are refused
 * by name. *ret is `ret_bytes` bytes, which is the length that stands behind the payload, and
 * must be at most `max`. The caller frees it.
 */
int kernel_unpack(const uint8_t *payload, size_t n, size_t max, uint8_t **ret, size_t *ret_bytes,
		  struct err *e) must_check;

/* k->image: segments, entry, relocation table; k->linux_boot is set. Of kernel.c. */
int kernel__parse_elf(struct kernel *k, struct err *e) must_check;
/* Once that is done, in an image that can be written: zeros at the end of a segment are no part of
 * the file any more. Memory is that before it is filled. A segment that meets another one, or has
 * the file's headers in it, stays as it is. */
void kernel__trim(struct kernel *k);

#endif
