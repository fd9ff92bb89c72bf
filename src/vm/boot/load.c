/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/le.h"
#include "base/str.h"
#include "sys/file.h"
#include "vm/boot/boot.h"
#include "vm/boot/bootparam.h"
#include "vm/boot/layout.h"

enum {
	PTE_PRESENT = 1, PTE_WRITE = 2, PTE_LARGE = 0x80,
	GDT_CODE = 0x10, GDT_DATA = 0x18,
	PVH_MAGIC = 0x336ec578,
	PVH_INFO_BYTES = 56, PVH_MODULE_BYTES = 32, PVH_RANGE_BYTES = 24,
};

#define MIB2 UINT64_C(0x200000)
/* Where Linux links its kernel, and the space that it may lie in. */
#define KERNEL_MAP       UINT64_C(0xffffffff80000000)
#define KERNEL_MAP_BYTES (UINT64_C(1) << 30)

/* What is known of where things are put. */
struct plan {
	uint64_t phys_moved, virt_moved;
	uint64_t initrd, initrd_bytes;
	size_t   cmdline_bytes;          /* with its NUL */
	bool     randomized;
};

static int no_room(struct err *e)
{
	return err_set(e, ENOMEM, ERR_INVALID, "the kernel and its initrd do not fit into the guest's memory");
}

unsigned boot_map(const struct gmem *g, struct boot_range ret[BOOT_RANGES_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->n_slots; i++) {
		const struct gmem_slot *s = &g->slots[i];

		if (s->first.raw == 0 && s->bytes > LAYOUT_KERNEL_MIN) {
			ret[n++] = (struct boot_range){ 0, LAYOUT_BIOS_FIRST, BOOT_RAM };
			ret[n++] = (struct boot_range){ LAYOUT_BIOS_FIRST,
				LAYOUT_KERNEL_MIN - LAYOUT_BIOS_FIRST, BOOT_RESERVED };
			ret[n++] = (struct boot_range){ LAYOUT_KERNEL_MIN,
				s->bytes - LAYOUT_KERNEL_MIN, BOOT_RAM };
		} else {
			ret[n++] = (struct boot_range){ s->first.raw, s->bytes, BOOT_RAM };
		}
	}
	ret[n++] = (struct boot_range){ LAYOUT_ECAM, LAYOUT_ECAM_SIZE, BOOT_RESERVED };
	return n;
}

/* --- Planning --- */

/* A step of xorshift64*: places differ from boot to boot, and are the same for one seed. */
static uint64_t next_random(uint64_t *seed)
{
	uint64_t x = *seed ? *seed : 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*seed = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* The kernel's own unpacker picks both addresses so, each among all that are possible. */
static void randomize(const struct kernel *k, struct plan *p, uint64_t ram_end, uint64_t seed)
{
	uint64_t bytes = k->end - k->first;

	if (k->align == 0 || k->add32.n == 0) {
		return;
	}
	p->randomized = true;
	if (ram_end > k->end) {
		p->phys_moved = next_random(&seed) % ((ram_end - k->end) / k->align + 1) * k->align;
	}
	if (k->first + bytes < KERNEL_MAP_BYTES) {
		uint64_t slots = (KERNEL_MAP_BYTES - k->first - bytes) / k->align + 1;

		p->virt_moved = next_random(&seed) % slots * k->align;
	}
}

static int plan_initrd(const struct gmem *g, const struct kernel *k, int fd, struct plan *p,
		       struct err *e)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0 || !S_ISREG(st.st_mode)) {
		return err_set(e, r < 0 ? -r : EINVAL, r < 0 ? ERR_HOST : ERR_INVALID,
			       "the initrd is not a file that can be read");
	}
	uint64_t top = MIN(g->slots[0].bytes, k->initrd_max + 1);

	p->initrd_bytes = (uint64_t)st.st_size;
	if (p->initrd_bytes == 0 || p->initrd_bytes > top) {
		return p->initrd_bytes == 0 ? 0 : no_room(e);
	}
	p->initrd = (top - p->initrd_bytes) & ~(uint64_t)(GMEM_PAGE_BYTES - 1);
	return p->initrd < k->end ? no_room(e) : 0;
}

static int plan(const struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
		struct plan *p, struct err *e)
{
	int r = 0;

	p->cmdline_bytes = strlen(conf->cmdline) + 1;
	if (p->cmdline_bytes > k->cmdline_max + 1) {
		return err_set(e, E2BIG, ERR_INVALID, "the command line is longer than the %llu bytes "
			       "that the kernel takes", (unsigned long long)k->cmdline_max);
	}
	if (g->n_slots == 0 || g->slots[0].first.raw != 0 || g->slots[0].bytes < k->end) {
		return no_room(e);
	}
	if (conf->initrd_fd >= 0) {
		r = plan_initrd(g, k, conf->initrd_fd, p, e);
	}
	if (r == 0 && conf->randomize && !kernel_cmdline_has(conf->cmdline, "nokaslr")) {
		randomize(k, p, p->initrd ? p->initrd : g->slots[0].bytes, conf->seed);
	}
	return r;
}

/* --- Filling memory --- */

static int put(struct gmem *g, uint64_t at, const void *data, size_t n, struct err *e)
{
	return gmem_write(g, GPA(at), data, n) == 0 ? 0 : no_room(e);
}

/* Of a file to where it belongs, with no copy between. */
static int read_to(struct gmem *g, uint64_t at, int fd, uint64_t off, size_t n, const char *what,
		   struct err *e)
{
	struct iovec to = { 0 };
	unsigned n_iov = 0;

	if (n == 0) {
		return 0;
	}
	if (gmem_iov(g, GPA(at), n, &to, &n_iov, 1) < 0) {
		return no_room(e);
	}
	for (size_t done = 0; done < n; ) {
		ssize_t got = sys_pread(fd, (uint8_t *)to.iov_base + done, n - done, (int64_t)(off + done));

		if (got <= 0) {
			return err_set(e, got < 0 ? (int)-got : EIO, ERR_HOST, "cannot read the %s", what);
		}
		done += (size_t)got;
	}
	gmem_wrote(g, &to, 1);
	return 0;
}

static void tell(struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
		 const struct plan *p)
{
	struct iovec all[KERNEL_SEGMENTS_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < k->n_segments; i++) {
		const struct kernel_segment *s = &k->segments[i];

		gpa_t at = GPA(s->phys + p->phys_moved);

		if (s->file_bytes > 0 &&
		    gmem_iov(g, at, s->file_bytes, all, &n, ARRAY_LEN(all)) < 0) {
			return;   /* whoever fills it says so */
		}
	}
	conf->fills(conf->ctx, all, n);
}

static int load_segments(struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
			 const struct plan *p, struct err *e)
{
	int r = 0;

	if (conf->fills) {
		tell(g, k, conf, p);
	}
	for (unsigned i = 0; i < k->n_segments && r == 0; i++) {
		const struct kernel_segment *s = &k->segments[i];
		uint64_t at = s->phys + p->phys_moved;

		r = k->image_fd < 0 ? put(g, at, k->image + s->off, s->file_bytes, e) :
				      read_to(g, at, k->image_fd, s->off, s->file_bytes,
					      "unpacked kernel", e);
	}
	return r;
}

/* One list: each value moves by `delta`. An address outside of the kernel, which is at `at`, is
 * refused. */
static int relocate_list(uint8_t *at, const struct kernel *k, const struct kernel_relocs *list,
			 unsigned width, uint64_t delta, struct err *e)
{
	for (size_t i = 0; i < list->n; i++) {
		uint32_t word = le32_get(k->image + list->off + 4 * i);
		uint64_t phys = (uint64_t)(int64_t)(int32_t)word - KERNEL_MAP;
		uint8_t *v = NULL;

		if (phys < k->first || phys > k->end - width) {
			return err_set(e, EINVAL, ERR_INVALID,
				       "the kernel's relocation table names %#x", word);
		}
		v = at + (phys - k->first);
		if (width == 8) {
			le64_put(v, le64_get(v) + delta);
		} else {
			le32_put(v, le32_get(v) + (uint32_t)delta);
		}
	}
	return 0;
}

/* A hundred thousand values: in place, and told of once. */
static int relocate(struct gmem *g, const struct kernel *k, const struct plan *p, struct err *e)
{
	uint64_t d = p->virt_moved;
	struct iovec all = { 0 };
	unsigned n_iov = 0;

	if (d == 0) {
		return 0;
	}
	if (gmem_iov(g, GPA(k->first + p->phys_moved), k->end - k->first, &all, &n_iov, 1) < 0) {
		return no_room(e);
	}
	int r = relocate_list(all.iov_base, k, &k->add32, 4, d, e);

	r = r < 0 ? r : relocate_list(all.iov_base, k, &k->sub32, 4, 0 - d, e);
	r = r < 0 ? r : relocate_list(all.iov_base, k, &k->add64, 8, d, e);
	gmem_wrote(g, &all, 1);
	return r;
}

/* The first 4 GiB at their own addresses, in pages of 2 MiB. */
static int put_page_tables(struct gmem *g, struct err *e)
{
	uint64_t page[512] = { LAYOUT_PAGE_TABLES + 0x1000 + (PTE_PRESENT | PTE_WRITE) };
	int r = put(g, LAYOUT_PAGE_TABLES, page, sizeof(page), e);

	memset(page, 0, sizeof(page));
	for (uint64_t i = 0; i < 4; i++) {
		page[i] = (LAYOUT_PAGE_TABLES + (2 + i) * 0x1000) | PTE_PRESENT | PTE_WRITE;
	}
	r = r < 0 ? r : put(g, LAYOUT_PAGE_TABLES + 0x1000, page, sizeof(page), e);
	for (uint64_t table = 0; table < 4 && r == 0; table++) {
		for (uint64_t i = 0; i < 512; i++) {
			page[i] = (table * 512 + i) * MIB2 | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
		}
		r = put(g, LAYOUT_PAGE_TABLES + (2 + table) * 0x1000, page, sizeof(page), e);
	}
	return r;
}

static int put_gdt(struct gmem *g, bool long_mode, struct err *e)
{
	const uint64_t gdt[] = {
		0, 0,
		/* Execute and read, 4 GiB; 64-bit or 32-bit */
		long_mode ? UINT64_C(0x00af9b000000ffff) : UINT64_C(0x00cf9b000000ffff),
		UINT64_C(0x00cf93000000ffff),
	};

	return put(g, LAYOUT_GDT, gdt, sizeof(gdt), e);
}

static int put_boot_params(struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
			   const struct plan *p, struct err *e)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	uint8_t bp[BP_BYTES] = { 0 };
	unsigned n = boot_map(g, ranges);

	memcpy(bp + BP_HEADER, k->header, k->header_bytes);
	bp[BP_LOADER_TYPE] = BP_LOADER_OTHER;
	if (p->randomized) {
		bp[BP_LOADFLAGS] |= BP_FLAG_KASLR;
	}
	le64_put(bp + BP_ACPI_RSDP, conf->rsdp);
	le32_put(bp + BP_CMDLINE, LAYOUT_CMDLINE);
	le32_put(bp + BP_INITRD, (uint32_t)p->initrd);
	le32_put(bp + BP_INITRD_LEN, (uint32_t)p->initrd_bytes);
	bp[BP_E820_ENTRIES] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = bp + BP_E820 + i * BP_E820_BYTES;

		le64_put(at, ranges[i].first);
		le64_put(at + 8, ranges[i].bytes);
		le32_put(at + 16, ranges[i].kind);
	}
	return put(g, LAYOUT_BOOT_PARAMS, bp, sizeof(bp), e);
}

/* Spec: Xen, docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h, version 1. */
static int put_pvh_info(struct gmem *g, const struct boot_conf *conf, const struct plan *p,
			struct err *e)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	uint8_t b[PVH_INFO_BYTES + PVH_MODULE_BYTES + BOOT_RANGES_MAX * PVH_RANGE_BYTES] = { 0 };
	unsigned n = boot_map(g, ranges);
	uint8_t *module = b + PVH_INFO_BYTES, *map = module + PVH_MODULE_BYTES;

	le32_put(b, PVH_MAGIC);
	le32_put(b + 4, 1);
	le32_put(b + 12, p->initrd_bytes ? 1 : 0);
	le64_put(b + 16, LAYOUT_PVH + PVH_INFO_BYTES);
	le64_put(b + 24, LAYOUT_CMDLINE);
	le64_put(b + 32, conf->rsdp);
	le64_put(b + 40, LAYOUT_PVH + PVH_INFO_BYTES + PVH_MODULE_BYTES);
	le32_put(b + 48, n);
	le64_put(module, p->initrd);
	le64_put(module + 8, p->initrd_bytes);
	for (unsigned i = 0; i < n; i++) {
		le64_put(map + i * PVH_RANGE_BYTES, ranges[i].first);
		le64_put(map + i * PVH_RANGE_BYTES + 8, ranges[i].bytes);
		le32_put(map + i * PVH_RANGE_BYTES + 16, ranges[i].kind);
	}
	return put(g, LAYOUT_PVH, b, sizeof(b), e);
}

/*
 * What is at the place where a BIOS begins: kernels that find hardware-reduced ACPI and no EFI
 * reset a machine by a jump there, in real mode. It writes the reset register.
 */
static int put_reset_vector(struct gmem *g, struct err *e)
{
	static const uint8_t code[] = {
		0xb0, LAYOUT_RESET_VALUE,                                  /* mov al, value */
		0xba, LAYOUT_PORT_RESET & 0xff, LAYOUT_PORT_RESET >> 8,    /* mov dx, port */
		0xee,                                                      /* out dx, al */
		0xf4,                                                      /* hlt */
		0xeb, 0xfd,                                                /* jmp to hlt */
	};

	return put(g, LAYOUT_RESET_VECTOR, code, sizeof(code), e);
}

static struct boot_entry entry_of(const struct kernel *k, const struct plan *p)
{
	return (struct boot_entry){
		.long_mode = k->linux_boot,
		.rip = k->entry + p->phys_moved,
		.rsi = k->linux_boot ? LAYOUT_BOOT_PARAMS : 0,
		.rbx = k->linux_boot ? 0 : LAYOUT_PVH,
		.cr3 = k->linux_boot ? LAYOUT_PAGE_TABLES : 0,
		.gdt = LAYOUT_GDT, .gdt_limit = 4 * 8 - 1,
		.code = GDT_CODE, .data = GDT_DATA,
		.phys = k->first + p->phys_moved, .virt_moved = p->virt_moved,
	};
}

int boot_load(struct gmem *g, const struct kernel *k, const struct boot_conf *conf,
	      struct boot_entry *ret, struct err *e)
{
	struct plan p = { 0 };
	int r = plan(g, k, conf, &p, e);

	r = r < 0 ? r : load_segments(g, k, conf, &p, e);
	r = r < 0 ? r : relocate(g, k, &p, e);
	r = r < 0 ? r : read_to(g, p.initrd, conf->initrd_fd, 0, p.initrd_bytes, "initrd", e);
	r = r < 0 ? r : put(g, LAYOUT_CMDLINE, conf->cmdline, p.cmdline_bytes, e);
	r = r < 0 ? r : put_gdt(g, k->linux_boot, e);
	r = r < 0 ? r : put_reset_vector(g, e);
	if (r == 0 && k->linux_boot) {
		r = put_page_tables(g, e);
		r = r < 0 ? r : put_boot_params(g, k, conf, &p, e);
	} else if (r == 0) {
		r = put_pvh_info(g, conf, &p, e);
	}
	if (r == 0) {
		*ret = entry_of(k, &p);
	}
	return r;
}
