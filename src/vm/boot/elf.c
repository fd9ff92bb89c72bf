/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ELF file of a kernel and the relocation table that Linux puts behind it.
 *
 * The table is made of 32-bit words, read from its end: addresses of 32-bit values, a zero,
 * (up to 6.14) addresses of 32-bit values that shrink as the kernel moves up, a zero,
 * addresses of 64-bit values, a zero. Behind that zero the ELF file has its end.
 */
#include <elf.h>
#include <errno.h>

#include "base/le.h"
#include "vm/boot/kernel.h"
#include "vm/boot/layout.h"

enum { NOTE_PHYS32_ENTRY = 18 };   /* Xen, XEN_ELFNOTE_PHYS32_ENTRY */

#define PHYS_MAX (UINT64_C(1) << 40)

static int bad(struct err *e, const char *what)
{
	return err_set(e, EINVAL, ERR_INVALID, "the kernel's ELF file: %s", what);
}

static int read_header(const struct kernel *k, Elf64_Ehdr *h, struct err *e)
{
	if (k->image_bytes < sizeof(*h)) {
		return bad(e, "too short");
	}
	memcpy(h, k->image, sizeof(*h));
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
	    h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64) {
		return bad(e, "not of 64-bit x86");
	}
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phoff > k->image_bytes ||
	    h->e_phnum > (k->image_bytes - h->e_phoff) / sizeof(Elf64_Phdr)) {
		return bad(e, "the program headers are outside");
	}
	return 0;
}

static int add_segment(struct kernel *k, const Elf64_Phdr *p, struct err *e)
{
	if (k->n_segments == KERNEL_SEGMENTS_MAX) {
		return bad(e, "too many segments");
	}
	if (p->p_paddr < LAYOUT_KERNEL_MIN || p->p_paddr > PHYS_MAX || p->p_memsz > PHYS_MAX) {
		return bad(e, "a segment's address");
	}
	k->segments[k->n_segments++] = (struct kernel_segment){
		.phys = p->p_paddr, .bytes = p->p_memsz, .off = p->p_offset,
		.file_bytes = p->p_filesz,
	};
	k->first = MIN(k->first, p->p_paddr);
	k->end = MAX(k->end, p->p_paddr + p->p_memsz);
	return 0;
}

/* The value of Xen's note, if the notes have it. */
static void find_pvh(struct kernel *k, const uint8_t *notes, size_t n)
{
	size_t at = 0;

	while (n - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;

		memcpy(&h, notes + at, sizeof(h));
		at += sizeof(h);
		uint64_t name = ((uint64_t)h.n_namesz + 3) & ~UINT64_C(3);
		uint64_t desc = ((uint64_t)h.n_descsz + 3) & ~UINT64_C(3);

		if (name > n - at || desc > n - at - name) {
			return;
		}
		if (h.n_type == NOTE_PHYS32_ENTRY && h.n_namesz == 4 &&
		    memcmp(notes + at, "Xen", 4) == 0 && h.n_descsz >= 4 && !k->linux_boot) {
			k->entry = h.n_descsz >= 8 ? le64_get(notes + at + name) :
						     le32_get(notes + at + name);
		}
		at += name + desc;
	}
}

static int read_segments(struct kernel *k, const Elf64_Ehdr *h, struct err *e)
{
	k->first = UINT64_MAX;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p;
		int r = 0;

		memcpy(&p, k->image + h->e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type != PT_LOAD && p.p_type != PT_NOTE) {
			continue;
		}
		if (p.p_offset > k->image_bytes || p.p_filesz > k->image_bytes - p.p_offset) {
			return bad(e, "a segment is outside");
		}
		if (p.p_type == PT_NOTE) {
			find_pvh(k, k->image + p.p_offset, p.p_filesz);
		} else if (p.p_memsz > 0) {
			r = p.p_filesz > p.p_memsz ? bad(e, "a segment's length") :
						     add_segment(k, &p, e);
		}
		if (r < 0) {
			return r;
		}
		k->elf_bytes = MAX(k->elf_bytes, (size_t)(p.p_offset + p.p_filesz));
	}
	return k->n_segments > 0 ? 0 : bad(e, "nothing to load");
}

/* Where the file ends, were there nothing behind it. */
static int find_end(struct kernel *k, const Elf64_Ehdr *h, struct err *e)
{
	uint64_t bytes = (uint64_t)h->e_shnum * h->e_shentsize;

	k->elf_bytes = MAX(k->elf_bytes, (size_t)h->e_phoff + h->e_phnum * sizeof(Elf64_Phdr));
	if (h->e_shnum == 0) {
		return 0;
	}
	if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff > k->image_bytes ||
	    bytes > k->image_bytes - h->e_shoff) {
		return bad(e, "the section headers are outside");
	}
	k->elf_bytes = MAX(k->elf_bytes, (size_t)(h->e_shoff + bytes));
	for (unsigned i = 0; i < h->e_shnum; i++) {
		Elf64_Shdr s;

		memcpy(&s, k->image + h->e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_type == SHT_NOBITS || s.sh_type == SHT_NULL) {
			continue;
		}
		if (s.sh_offset > k->image_bytes || s.sh_size > k->image_bytes - s.sh_offset) {
			return bad(e, "a section is outside");
		}
		k->elf_bytes = MAX(k->elf_bytes, (size_t)(s.sh_offset + s.sh_size));
	}
	return 0;
}

/* One list from its end (at) down to the zero before it, which becomes the new end. */
static bool read_list(const struct kernel *k, size_t *at, struct kernel_relocs *ret)
{
	size_t end = *at;

	while (*at >= k->elf_bytes + 4) {
		*at -= 4;
		if (le32_get(k->image + *at) == 0) {
			*ret = (struct kernel_relocs){ .off = *at + 4, .n = (end - *at - 4) / 4 };
			return true;
		}
	}
	return false;
}

static int read_relocs(struct kernel *k, struct err *e)
{
	struct kernel_relocs lists[3] = { 0 };
	size_t at = k->image_bytes;
	unsigned n = 0;

	while (n < ARRAY_LEN(lists) && at > k->elf_bytes && read_list(k, &at, &lists[n])) {
		n++;
	}
	if (at != k->elf_bytes || n < 2) {
		return bad(e, "the relocation table behind it");
	}
	k->add32 = lists[0];
	k->sub32 = n == 3 ? lists[1] : (struct kernel_relocs){ 0 };
	k->add64 = lists[n - 1];
	return 0;
}

int kernel__parse_elf(struct kernel *k, struct err *e)
{
	Elf64_Ehdr h;
	int r = read_header(k, &h, e);

	if (r < 0) {
		return r;
	}
	k->entry = k->linux_boot ? h.e_entry : 0;
	r = read_segments(k, &h, e);
	r = r < 0 ? r : find_end(k, &h, e);
	if (r < 0) {
		return r;
	}
	if (k->entry == 0 && !k->linux_boot) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "the kernel's ELF file has no PVH entry; use its bzImage");
	}
	if (k->entry < k->first || k->entry >= k->end) {
		return bad(e, "its entry is outside");
	}
	return k->linux_boot && k->elf_bytes < k->image_bytes ? read_relocs(k, e) : 0;
}

static bool meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

/* Nothing else is at its bytes in memory, and its bytes of the file are not the headers. */
static bool alone(const struct kernel *k, const Elf64_Ehdr *h, const Elf64_Phdr *p)
{
	unsigned there = 0;

	for (unsigned i = 0; i < k->n_segments; i++) {
		const struct kernel_segment *s = &k->segments[i];

		there += meet(s->phys, s->file_bytes, p->p_paddr, p->p_filesz);
	}
	return there == 1 && !meet(0, sizeof(*h), p->p_offset, p->p_filesz) &&
	       !meet(h->e_phoff, h->e_phnum * sizeof(*p), p->p_offset, p->p_filesz);
}

void kernel__trim(struct kernel *k)
{
	Elf64_Ehdr h;

	memcpy(&h, k->image, sizeof(h));
	for (unsigned i = 0; i < h.e_phnum; i++) {
		uint8_t *at = k->image + h.e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr p;

		memcpy(&p, at, sizeof(p));
		/* Where the file ends the relocation table begins. */
		if (p.p_type != PT_LOAD || p.p_offset + p.p_filesz >= k->elf_bytes ||
		    !alone(k, &h, &p)) {
			continue;
		}
		while (p.p_filesz > 0 && k->image[p.p_offset + p.p_filesz - 1] == 0) {
			p.p_filesz--;
		}
		memcpy(at, &p, sizeof(p));
	}
}
