/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: unpack one layer by hand.
 *
 *	test-image-unpack-tool KIND FILE DIR [LOWER...]
 *
 * KIND is tar, gzip or zstd; DIR gets "root" (and "work"); LOWER are folders, bottom first.
 * LIMITS in the environment: "entries=10,bytes=1000,...". DIFF_ID is compared where it is set;
 * BLOB_DIGEST is believed, and FILE may then be a FIFO.
 * Prints "entries=N bytes=N devices=N ids=NAME diff=DIGEST"; errors as every program.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "base/log.h"
#include "image/digest.h"
#include "image/unpack.h"
#include "sys/file.h"

enum { LOWER_MAX = 16, CHUNK = 65536 };

static enum oci_kind kind_of(const char *name)
{
	return str_eq(name, "gzip") ? OCI_KIND_LAYER_GZIP :
	       str_eq(name, "zstd") ? OCI_KIND_LAYER_ZSTD : OCI_KIND_LAYER;
}

static void set_limit(struct unpack_limits *l, const char *name, uint64_t v)
{
	if (str_eq(name, "entries")) {
		l->entries = v;
	} else if (str_eq(name, "bytes")) {
		l->bytes = v;
	} else if (str_eq(name, "file_bytes")) {
		l->file_bytes = v;
	} else if (str_eq(name, "ratio")) {
		l->ratio = v;
	} else if (str_eq(name, "ratio_from")) {
		l->ratio_from = v;
	} else if (str_eq(name, "depth")) {
		l->depth = (unsigned)v;
	} else if (str_eq(name, "path_bytes")) {
		l->path_bytes = (unsigned)v;
	} else if (str_eq(name, "xattrs")) {
		l->xattrs = (unsigned)v;
	}
}

static void limits_from_env(struct unpack_limits *l)
{
	const char *text = getenv("LIMITS");
	const char *part;
	size_t len;

	while (str_split(&text, ',', &part, &len)) {
		char name[32];
		unsigned long long v;

		if (sscanf(part, "%31[a-z_]=%llu", name, &v) == 2) {
			set_limit(l, name, v);
		}
	}
}

static struct digest_text hash_file(int fd, uint64_t *ret_size)
{
	auto_digest struct digest *d = digest_new("sha256");
	char chunk[CHUNK];
	ssize_t n;

	*ret_size = 0;
	while ((n = sys_read(fd, chunk, sizeof(chunk))) > 0) {
		digest_add(d, chunk, (size_t)n);
		*ret_size += (uint64_t)n;
	}
	(void)lseek(fd, 0, SEEK_SET);
	return digest_end(d);
}

int main(int argc, char **argv)
{
	struct unpack_limits limits = unpack_limits_default;
	struct unpack_result done;
	struct err e = ERR_INIT;
	int lower[LOWER_MAX];
	char text[700];

	if (argc < 4 || argc > 4 + LOWER_MAX) {
		return 2;
	}
	limits_from_env(&limits);
	for (int i = 4; i < argc; i++) {
		lower[i - 4] = sys_openat(AT_FDCWD, argv[i], O_RDONLY | O_DIRECTORY, 0);
	}
	auto_close int blob = sys_openat(AT_FDCWD, argv[2], O_RDONLY, 0);
	auto_close int dir = sys_openat(AT_FDCWD, argv[3], O_RDONLY | O_DIRECTORY, 0);

	if (blob < 0 || dir < 0 || sys_mkdirat(dir, "root", 0755) < 0 ||
	    sys_mkdirat(dir, "work", 0700) < 0) {
		return 2;
	}
	struct unpack_job job = {
		.blob_fd = blob, .kind = kind_of(argv[1]), .dir_fd = dir, .lower_fds = lower,
		.n_lower = (size_t)(argc - 4), .limits = &limits, .diff_id = getenv("DIFF_ID"),
	};
	struct digest_text digest = { .text = "" };

	if (!getenv("BLOB_DIGEST")) {
		digest = hash_file(blob, &job.blob_size);
	}

	job.blob_digest = getenv("BLOB_DIGEST") ? getenv("BLOB_DIGEST") : digest.text;
	if (unpack_layer(&job, &done, &e) < 0) {
		fprintf(stderr, "%s: %s\n", err_codes[e.code].name,
			err_text(&e, text, sizeof(text)));
		return err_codes[e.code].exit_code;
	}
	printf("entries=%llu bytes=%llu devices=%llu ids=%s diff=%s\n",
	       (unsigned long long)done.entries, (unsigned long long)done.bytes,
	       (unsigned long long)done.devices, unpack_ids_names[done.ids], done.diff_id);
	return 0;
}
