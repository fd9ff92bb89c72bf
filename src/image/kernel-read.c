/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Debian package is an ar archive, whose member data.tar.* holds the files. The first pass
 * takes the kernel and notes each module with the modules that it depends on, the second
 * writes those that are needed, each after what it depends on.
 */
#include "image/kernel-private.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/archive-private.h"
#include "sys/file.h"

enum {
	KERNEL_BYTES_MAX  = 256 << 20,
	MODULE_BYTES_MAX  = 64 << 20,
	MODULES_MAX       = 20000,
	HEADER_BYTES      = 0x268,      /* of a bzImage: all that is looked at */
	HEADER_MAGIC      = 0x202,      /* "HdrS" */
	HEADER_VERSION    = 0x20e,      /* of the text, less 0x200 */
};

/* What holm-init needs of a kernel; what these need comes along. One that the kernel has
 * built in is not there, and not missed. */
static const char *const wanted[] = {
	"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
	"vmw_vsock_virtio_transport", "erofs", "overlay", "af_packet",
};

struct module {
	const char *name;       /* with '_' for '-' */
	const char *depends;    /* names, separated by commas */
	uint64_t    entry;      /* its number in the archive */
	int         state;      /* of the walk: 0 new, 1 entered, 2 written */
};

struct reading {
	struct arena    a;
	int             in_fd, kernel_fd;
	struct archive *out;             /* of modules */
	struct module  *v;
	size_t          n;
	char            name[KERNEL_NAME_MAX];
	struct buf      order;
	struct buf      bytes;           /* of the module that is read */
};

/* --- the package --- */

/* Two readers, one over the other: the member of the package, and the files in it. */
struct package {
	struct archive *outer, *inner;
	char            block[65536];
};

static la_ssize_t read_member(struct archive *ar, void *ud, const void **ret)
{
	struct package *p = ud;
	la_ssize_t n = archive_read_data(p->outer, p->block, sizeof(p->block));

	if (n < 0) {
		archive_set_error(ar, archive_errno(p->outer), "%s", archive_error_string(p->outer));
	}
	*ret = p->block;
	return n;
}

static void package_close(struct package *p)
{
	if (p->inner) {
		(void)archive_read_free(p->inner);   /* nothing of it is waited for */
	}
	if (p->outer) {
		(void)archive_read_free(p->outer);
	}
	free(p);
}

static int package_open(int fd, struct package **ret, struct err *e)
{
	struct package *p = mem_new(struct package);
	struct archive_entry *entry;
	int r = p && lseek(fd, 0, SEEK_SET) == 0 ? 0 : -EIO;

	if (p) {
		p->outer = archive_read_new();
		p->inner = archive_read_new();
	}
	if (r < 0 || !p->outer || !p->inner) {
		r = err_set(e, EIO, ERR_HOST, "the file cannot be read from its start");
	} else if (archive_read_support_format_ar(p->outer) != ARCHIVE_OK ||
		   archive_read_open_fd(p->outer, fd, sizeof(p->block)) != ARCHIVE_OK) {
		r = archive__fault(p->outer, NULL, e);
	}
	while (r == 0) {
		int next = archive_read_next_header(p->outer, &entry);
		const char *name = next == ARCHIVE_OK ? archive_entry_pathname(entry) : NULL;

		if (next != ARCHIVE_OK) {
			r = err_set(e, EBADMSG, ERR_INVALID, "not a Debian package: it has no data.tar");
		} else if (name && str_after(name, "data.tar")) {
			break;
		}
	}
	if (r == 0 && (archive__add_filters(p->inner) < 0 ||
		       archive_read_support_format_tar(p->inner) != ARCHIVE_OK ||
		       archive_read_open(p->inner, p, NULL, read_member, NULL) != ARCHIVE_OK)) {
		r = archive__fault(p->inner, "data.tar", e);
	}
	if (r < 0) {
		if (p) {
			package_close(p);
		}
		return r;
	}
	*ret = p;
	return 0;
}

/* The file that the reader stands at, at most `max` bytes of it. */
static int read_entry(struct archive *ar, size_t max, const char *name, struct buf *ret,
		      struct err *e)
{
	char block[65536];
	la_ssize_t n;

	buf_reset(ret);
	while ((n = archive_read_data(ar, block, sizeof(block))) > 0) {
		if (ret->len + (size_t)n > max) {
			return err_set(e, EFBIG, ERR_LIMIT, "\"%.200s\" is larger than %zu MiB", name,
				       max >> 20);
		}
		buf_add(ret, block, (size_t)n);
	}
	if (n < 0) {
		return archive__fault(ar, name, e);
	}
	return buf_failed(ret) ? err_nomem(e) : 0;
}

/* --- modules --- */

/* A module that is compressed in the package is not in the machine. */
static int inflate(struct buf *bytes, const char *name, struct err *e)
{
	auto_archive struct archive *ar = archive_read_new();
	auto_buf struct buf plain = BUF_INIT;
	struct archive_entry *entry;

	if (!ar) {
		return err_nomem(e);
	}
	if (archive__add_filters(ar) < 0 || archive_read_support_format_raw(ar) != ARCHIVE_OK ||
	    archive_read_open_memory(ar, bytes->data, bytes->len) != ARCHIVE_OK ||
	    archive_read_next_header(ar, &entry) != ARCHIVE_OK) {
		return archive__fault(ar, name, e);
	}
	int r = read_entry(ar, MODULE_BYTES_MAX, name, &plain, e);

	if (r == 0) {
		struct buf swap = *bytes;

		*bytes = plain;
		plain = swap;
	}
	return r;
}

/* The part of a path that names a module, NULL for another file; "-" becomes "_". */
static char *module_name(struct arena *a, const char *path, bool *ret_compressed)
{
	const char *base = strrchr(path, '/'), *end = strstr(base ? base : path, ".ko");

	if (!str_after(path, "lib/modules/") && !str_after(path, "usr/lib/modules/")) {
		return NULL;
	}
	if (!base || !end || (end[3] != '\0' && end[3] != '.')) {
		return NULL;
	}
	char *name = arena_strndup(a, base + 1, (size_t)(end - base) - 1);

	for (char *p = name; p && *p; p++) {
		*p = *p == '-' ? '_' : *p;
	}
	*ret_compressed = end[3] == '.';
	return name;
}

/* A module says in its section .modinfo, as text between NULs, what it depends on. */
static const char *depends_of(struct arena *a, const struct buf *bytes)
{
	static const char key[] = "\0depends=";
	const char *at = memmem(bytes->data, bytes->len, key, sizeof(key) - 1);

	if (!at) {
		return "";
	}
	at += sizeof(key) - 1;
	char *text = arena_strndup(a, at, strnlen(at, (size_t)(bytes->data + bytes->len - at)));

	for (char *p = text; p && *p; p++) {
		*p = *p == '-' ? '_' : *p;
	}
	return text;
}

static int note_module(struct reading *k, struct archive *ar, const char *path, uint64_t entry,
		       struct err *e)
{
	bool compressed = false;
	char *name = module_name(&k->a, path, &compressed);

	if (!name) {
		return 0;
	}
	if (k->n == MODULES_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT, "more than %d modules", MODULES_MAX);
	}
	int r = read_entry(ar, MODULE_BYTES_MAX, path, &k->bytes, e);

	r = r == 0 && compressed ? inflate(&k->bytes, path, e) : r;
	if (r < 0) {
		return r;
	}
	const char *depends = depends_of(&k->a, &k->bytes);

	if (!depends) {
		return err_nomem(e);
	}
	k->v[k->n++] = (struct module){ .name = name, .depends = depends, .entry = entry };
	return 0;
}

static int take_kernel(struct reading *k, struct archive *ar, const char *path, struct err *e)
{
	const char *release = str_after(path, "boot/vmlinuz-");

	if (!release) {
		return 0;
	}
	if (k->name[0]) {
		return err_set(e, EBADMSG, ERR_INVALID, "the package has more than one kernel");
	}
	if (!name_valid(release) || strlen(release) >= sizeof(k->name)) {
		return err_set(e, EBADMSG, ERR_INVALID, "\"%.100s\" is not a kernel's release", release);
	}
	int r = read_entry(ar, KERNEL_BYTES_MAX, path, &k->bytes, e);

	r = r < 0 ? r : sys_write_full(k->kernel_fd, k->bytes.data, k->bytes.len);
	if (r < 0) {
		return e->errnum ? r : err_set(e, -r, ERR_HOST, "writing the kernel");
	}
	(void)snprintf(k->name, sizeof(k->name), "%s", release);
	return 0;
}

/* --- the archive of modules --- */

static int add_file(struct reading *k, const char *path, mode_t mode, const struct buf *bytes,
		    struct err *e)
{
	struct archive_entry *entry = archive_entry_new();
	size_t n = bytes ? bytes->len : 0;

	if (!entry) {
		return err_nomem(e);
	}
	archive_entry_set_pathname(entry, path);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_size(entry, (la_int64_t)n);
	bool bad = archive_write_header(k->out, entry) != ARCHIVE_OK ||
		   (n > 0 && archive_write_data(k->out, bytes->data, n) != (la_ssize_t)n);

	archive_entry_free(entry);
	return bad ? err_set(e, EIO, ERR_HOST, "writing modules: %s", archive_error_string(k->out)) : 0;
}

/* What number `entry` of the package is, if it is chosen. */
static int write_chosen(struct reading *k, struct archive *ar, const char *path, uint64_t entry,
			struct err *e)
{
	for (size_t i = 0; i < k->n; i++) {
		if (k->v[i].entry == entry && k->v[i].state == 2) {
			auto_free char *to = str_printf("lib/modules/%s.ko", k->v[i].name);
			int r = to ? read_entry(ar, MODULE_BYTES_MAX, path, &k->bytes, e) : err_nomem(e);

			r = r == 0 && !str_ends(path, ".ko") ? inflate(&k->bytes, path, e) : r;
			return r < 0 ? r : add_file(k, to, S_IFREG | 0644, &k->bytes, e);
		}
	}
	return 0;
}

static struct module *find_module(struct reading *k, const char *name, size_t len)
{
	for (size_t i = 0; i < k->n; i++) {
		if (strlen(k->v[i].name) == len && memcmp(k->v[i].name, name, len) == 0) {
			return &k->v[i];
		}
	}
	return NULL;
}

/* Depth is bounded by the number of modules; a ring of dependencies is left where it closes. */
static void choose(struct reading *k, struct module *m, unsigned depth)
{
	const char *cursor = m->depends, *part;
	size_t len;

	if (m->state || depth > 64) {
		return;
	}
	m->state = 1;
	while (str_split(&cursor, ',', &part, &len)) {
		struct module *other = find_module(k, part, len);

		if (other) {
			choose(k, other, depth + 1);
		}
	}
	m->state = 2;
	buf_printf(&k->order, "%s.ko\n", m->name);
}

typedef int (*entry_fn)(struct reading *k, struct archive *ar, const char *path, uint64_t entry,
			struct err *e);

static int first_pass(struct reading *k, struct archive *ar, const char *path, uint64_t entry,
		      struct err *e)
{
	int r = take_kernel(k, ar, path, e);

	return r < 0 ? r : note_module(k, ar, path, entry, e);
}

/* Every regular file of the package. */
static int each_file(struct reading *k, entry_fn fn, struct err *e)
{
	struct package *p = NULL;
	struct archive_entry *entry;
	const char *path;
	uint64_t number = 0;
	int r = package_open(k->in_fd, &p, e);

	while (r == 0 && (r = archive__next(p->inner, &entry, &path, e)) > 0) {
		number++;
		r = archive_entry_filetype(entry) == AE_IFREG ? fn(k, p->inner, path, number, e) : 0;
	}
	if (p) {
		package_close(p);
	}
	return r;
}

static int read_package(struct reading *k, struct err *e)
{
	k->v = arena_alloc(&k->a, MODULES_MAX, sizeof(*k->v));
	int r = k->v ? each_file(k, first_pass, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	if (!k->name[0]) {
		return err_set(e, EBADMSG, ERR_INVALID, "the package has no kernel (boot/vmlinuz-*); "
			       "a linux-image package with a version in its name is wanted");
	}
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		struct module *m = find_module(k, wanted[i], strlen(wanted[i]));

		if (m) {
			choose(k, m, 0);
		}
	}
	if (buf_failed(&k->order)) {
		return err_nomem(e);
	}
	r = add_file(k, "lib", S_IFDIR | 0755, NULL, e);
	r = r < 0 ? r : add_file(k, "lib/modules", S_IFDIR | 0755, NULL, e);
	r = r < 0 ? r : add_file(k, "lib/modules/order", S_IFREG | 0644, &k->order, e);
	return r < 0 ? r : each_file(k, write_chosen, e);
}

/* --- a bare kernel --- */

/* Its release is the first word of a text in the header, for a bzImage. */
static int bare_name(const uint8_t *head, size_t n, int fd, char ret[KERNEL_NAME_MAX])
{
	char text[KERNEL_NAME_MAX] = "";

	if (n < HEADER_BYTES || memcmp(head + HEADER_MAGIC, "HdrS", 4) != 0) {
		return -EINVAL;
	}
	int64_t at = 0x200 + (head[HEADER_VERSION] | head[HEADER_VERSION + 1] << 8);
	ssize_t got = sys_pread(fd, text, sizeof(text) - 1, at);

	text[got < 0 ? 0 : got] = '\0';
	text[strcspn(text, " ")] = '\0';
	if (!name_valid(text)) {
		return -EINVAL;
	}
	memcpy(ret, text, sizeof(text));
	return 0;
}

static int read_bare(struct reading *k, const uint8_t *head, size_t n, struct err *e)
{
	if (n >= 4 && memcmp(head, "\177ELF", 4) == 0) {
		(void)snprintf(k->name, sizeof(k->name), "vmlinux");
	} else if (bare_name(head, n, k->in_fd, k->name) < 0) {
		return err_set(e, EBADMSG, ERR_INVALID, "neither a Debian package nor a Linux kernel "
			       "(bzImage or ELF)");
	}
	static char block[65536];
	int64_t at = 0;
	ssize_t got;

	while ((got = sys_pread(k->in_fd, block, sizeof(block), at)) > 0) {
		int r = at + got > KERNEL_BYTES_MAX ? -EFBIG :
						      sys_write_full(k->kernel_fd, block, (size_t)got);

		if (r < 0) {
			return err_set(e, -r, r == -EFBIG ? ERR_LIMIT : ERR_HOST, "the kernel's file");
		}
		at += got;
	}
	return got < 0 ? err_set(e, (int)-got, ERR_HOST, "reading the kernel") : 0;
}

static int read_any(struct reading *k, struct err *e)
{
	uint8_t head[HEADER_BYTES];
	ssize_t n = sys_pread(k->in_fd, head, sizeof(head), 0);

	if (n < 0) {
		return err_set(e, (int)-n, ERR_HOST, "reading the file");
	}
	if (n >= 8 && memcmp(head, "!<arch>\n", 8) == 0) {
		return read_package(k, e);
	}
	return read_bare(k, head, (size_t)n, e);
}

int kernel_read(int in_fd, int kernel_fd, int modules_fd, char ret_name[KERNEL_NAME_MAX],
		struct err *e)
{
	struct reading k = { .a = ARENA_INIT, .in_fd = in_fd, .kernel_fd = kernel_fd,
			     .order = BUF_INIT, .bytes = BUF_INIT, .out = archive_write_new() };
	int r = 0;

	if (!k.out || archive_write_set_format_cpio_newc(k.out) != ARCHIVE_OK ||
	    archive_write_open_fd(k.out, modules_fd) != ARCHIVE_OK) {
		r = err_nomem(e);
	}
	r = r < 0 ? r : read_any(&k, e);
	if (k.out) {
		bool bad = archive_write_close(k.out) != ARCHIVE_OK;

		(void)archive_write_free(k.out);   /* it is closed */
		r = r == 0 && bad ? err_set(e, EIO, ERR_HOST, "writing modules") : r;
	}
	if (r == 0) {
		memcpy(ret_name, k.name, sizeof(k.name));
	}
	buf_fini(&k.order);
	buf_fini(&k.bytes);
	arena_fini(&k.a);
	return r;
}
