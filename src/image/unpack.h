/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking one layer into a folder.
 *
 * The bytes of a layer are parsed by processes that can do nothing else: one that
 * decompresses, one that reads tar and writes files. Both have no network, no other
 * processes, no capability on the host, a short list of system calls, and see no file but
 * the target. The caller's process only moves and hashes bytes between them, so what was
 * hashed is what was unpacked, and neither child can lie about a digest.
 *
 * docs/decisions/ holds why (layers-through-overlay.md) and what happens on hosts where
 * parts of this are missing.
 */
#ifndef IMAGE_UNPACK_H
#define IMAGE_UNPACK_H

#include "base/err.h"
#include "oci/image.h"

/* How owners get on disk. */
enum unpack_ids {
	UNPACK_IDS_MAPPED,   /* the image's own ids, through an idmapped mount of the target */
	UNPACK_IDS_PLAIN,    /* the image's own ids; the child's user namespace maps ids to
			      * themselves, because the file system cannot be idmapped */
	UNPACK_IDS_SQUASHED, /* everything belongs to the caller, who has no other ids */
	UNPACK_IDS__COUNT,
};

extern const char *const unpack_ids_names[UNPACK_IDS__COUNT];

struct unpack_limits {
	uint64_t entries;      /* headers in the archive; and again, folders that it only implies */
	uint64_t bytes;        /* uncompressed, headers included */
	uint64_t file_bytes;   /* apparent size of one file */
	uint64_t ratio;        /* uncompressed / compressed, once ratio_from bytes came out */
	uint64_t ratio_from;
	unsigned depth;        /* components of a path */
	unsigned path_bytes;
	unsigned xattrs;       /* of one entry */
	unsigned xattr_bytes;  /* of one value */
};

extern const struct unpack_limits unpack_limits_default;

struct unpack_job {
	int               blob_fd;      /* at its start */
	uint64_t          blob_size;
	const char       *blob_digest;  /* of the bytes in blob_fd */
	enum oci_kind     kind;         /* of a layer */
	const char       *diff_id;      /* of the uncompressed bytes; NULL: not checked */
	int               dir_fd;       /* folder with the empty folder "root", the new layer,
					 * and, where n_lower is not 0, the empty folder "work" */
	const int        *lower_fds;    /* layers below, bottom first */
	size_t            n_lower;
	const struct unpack_limits *limits;  /* NULL: the default */
	void            (*progress)(uint64_t done_bytes, void *ud);
	void             *ud;
};

struct unpack_result {
	uint64_t        entries;
	uint64_t        bytes;      /* uncompressed */
	uint64_t        devices;    /* device nodes, kept as placeholders */
	enum unpack_ids ids;
	char            diff_id[OCI_DIGEST_MAX];
};

/*
 * Unpack. ERR_INVALID names the entry and what is wrong with it; ERR_LIMIT the bound. On
 * failure "root" holds rubbish. Nothing is synced. Blocks; forks: one thread.
 */
int unpack_layer(const struct unpack_job *job, struct unpack_result *ret,
		 struct err *e) must_check;

/* The extended attribute of a device node's placeholder: "c 1:3". Not accepted from archives. */
#define UNPACK_DEVICE_XATTR "user.holm.device"

#endif
