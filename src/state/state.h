/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versioned state: one table describes what of a struct is saved. It drives save, load, the
 * JSON dump, docs/formats/state.md and the check that two versions go together.
 *
 *	struct rng { struct vdev base; uint64_t quota; uint8_t seed[16]; int fd; };
 *
 *	static const struct state_field rng_fields[] = {
 *		STATE_U64(1, struct rng, quota, .max = 1 << 20),
 *		STATE_BYTES(2, struct rng, seed, .since = 2),
 *		STATE_HOST_ONLY(struct rng, base, "saved by its own table"),
 *		STATE_HOST_ONLY(struct rng, fd, "reopened when the device is made"),
 *	};
 *	const struct state_desc rng_state = STATE_DESC("virtio-rng", struct rng, rng_fields,
 *		.version = 2, .oldest = 1, .check = rng_check);
 *
 * A stream is a header, sections, and an end mark. A section is one object: its path
 * ("/pci/3/virtio-rng", the last part being the table's name), the table's version, its fields
 * by id, and a checksum.
 *
 *	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
 *	state_write(&w, "/pci/3/virtio-rng", &rng_state, rng);
 *	r = state_finish(&w, &data, &len);           // -ENOMEM, once for all
 *
 *	r = state_open(data, len, &reader, e);
 *	r = state_read(reader, "/pci/3/virtio-rng", &rng_state, rng, e);   // each object
 *	r = state_commit(reader, e);                 // only now is any of them changed
 *	state_close(reader);
 *
 * Rules
 * - Ids are never used again for something else. A field that is new in version n says
 *   .since = n; streams before that give it .dflt. Fields that a reader may skip without
 *   harm say .optional; any other field, or a section, that a reader does not know is refused
 *   by name.
 * - Every member is described, or named host-only with a reason: state_desc_check(), which a
 *   unit test calls for each table, finds a forgotten one as a gap.
 * - Every value has bounds: the type's, or .min and .max. check() is pure and looks at what
 *   fields say together. A struct is loaded into a copy; one that fails leaves no trace.
 * - The stream is hostile input.
 *
 * Context: any thread; one object by one thread at a time.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/err.h"
#include "base/str.h"

enum state_kind {
	STATE_KIND_HOST_ONLY,   /* not saved */
	STATE_KIND_BOOL,
	STATE_KIND_U8,
	STATE_KIND_U16,
	STATE_KIND_U32,
	STATE_KIND_U64,
	STATE_KIND_ENUM,        /* as U32 */
	STATE_KIND_BYTES,
	STATE_KIND_STRUCT,
	STATE_KIND__COUNT,
};

struct state_desc;

/* Made by the macros below; those members that stand behind a macro's name are the table
 * author's: .min, .max, .dflt, .since, .optional. */
struct state_field {
	uint16_t        id;         /* 1 to STATE_ID_MAX; 0: host-only */
	enum state_kind kind;
	bool            array;      /* also with one element */
	bool            optional;   /* a reader that does not know it skips it */
	bool            has_len;    /* only the first elements count: as the member at len_off says */
	uint16_t        since;      /* version of the table that brought it; 0: all */
	uint32_t        off, bytes; /* of the member */
	uint32_t        elem, count, align;
	uint32_t        len_off;    /* of a uint32_t */
	uint64_t        min, max;   /* inclusive, each element; max 0: the type's */
	uint64_t        dflt;       /* each element, where a stream does not have it */
	const char     *name;
	const char     *why;        /* host-only */
	const struct state_desc *sub;
};

struct state_desc {
	const char *name;           /* last part of its sections' paths; name_valid() */
	uint16_t    version;        /* we write this; from 1 */
	uint16_t    oldest;         /* we still read this */
	uint32_t    size;           /* of the struct */
	const struct state_field *fields;
	size_t      n_fields;
	/* What the fields have to be together; 0, or filled *e. Pure; NULL: nothing to say. */
	int       (*check)(const void *s, struct err *e);
};

enum { STATE_ID_MAX = 4095, STATE_FIELDS_MAX = 128, STATE_DEPTH_MAX = 4 };

#define STATE_DESC(name_, T, fields_, ...) \
	{ .name = (name_), .size = sizeof(T), .fields = (fields_), \
	  .n_fields = ARRAY_LEN(fields_), __VA_ARGS__ }

/* 0; does not compile if the member is of another type. */
#define STATE__IS(T, m, type) \
	(0 * sizeof(struct { int wrong_type : 1 - 2 * !__builtin_types_compatible_p( \
				     __typeof__(((T *)0)->m), type); }))
#define STATE__AT(T, m) \
	.name = #m, .off = offsetof(T, m), .bytes = sizeof(((T *)0)->m), \
	.align = __alignof__(((T *)0)->m)
#define STATE__ONE(id_, T, m, kind_, type, ...) \
	{ .id = (id_), .kind = (kind_), STATE__AT(T, m), .elem = sizeof(type), \
	  .count = 1 + STATE__IS(T, m, type), ##__VA_ARGS__ }
#define STATE__MANY(id_, T, m, kind_, type, ...) \
	{ .id = (id_), .kind = (kind_), .array = true, STATE__AT(T, m), .elem = sizeof(type), \
	  .count = ARRAY_LEN(((T *)0)->m) + STATE__IS(T, m[0], type), ##__VA_ARGS__ }
#define STATE__LEN(T, n) .has_len = true, .len_off = offsetof(T, n) + STATE__IS(T, n, uint32_t)

/* One value. */
#define STATE_BOOL(id, T, m, ...) STATE__ONE(id, T, m, STATE_KIND_BOOL, bool, ##__VA_ARGS__)
#define STATE_U8(id, T, m, ...)   STATE__ONE(id, T, m, STATE_KIND_U8, uint8_t, ##__VA_ARGS__)
#define STATE_U16(id, T, m, ...)  STATE__ONE(id, T, m, STATE_KIND_U16, uint16_t, ##__VA_ARGS__)
#define STATE_U32(id, T, m, ...)  STATE__ONE(id, T, m, STATE_KIND_U32, uint32_t, ##__VA_ARGS__)
#define STATE_U64(id, T, m, ...)  STATE__ONE(id, T, m, STATE_KIND_U64, uint64_t, ##__VA_ARGS__)

/* An enum with values from 0 to count_ - 1. */
#define STATE_ENUM(id_, T, m, count_, ...) \
	{ .id = (id_), .kind = STATE_KIND_ENUM, STATE__AT(T, m), .elem = 4, \
	  .count = 1 + 0 * sizeof(struct { int no_enum : sizeof(((T *)0)->m) == 4 ? 1 : -1; }), \
	  .max = (count_) - 1, ##__VA_ARGS__ }

/* Arrays, whole. */
#define STATE_BOOLS(id, T, m, ...) STATE__MANY(id, T, m, STATE_KIND_BOOL, bool, ##__VA_ARGS__)
#define STATE_U16S(id, T, m, ...) STATE__MANY(id, T, m, STATE_KIND_U16, uint16_t, ##__VA_ARGS__)
#define STATE_U32S(id, T, m, ...) STATE__MANY(id, T, m, STATE_KIND_U32, uint32_t, ##__VA_ARGS__)
#define STATE_U64S(id, T, m, ...) STATE__MANY(id, T, m, STATE_KIND_U64, uint64_t, ##__VA_ARGS__)
#define STATE_BYTES(id, T, m, ...) STATE__MANY(id, T, m, STATE_KIND_BYTES, uint8_t, ##__VA_ARGS__)

/* A struct with a table of its own, and an array of them. */
#define STATE_STRUCT(id, T, m, type, desc, ...) \
	STATE__ONE(id, T, m, STATE_KIND_STRUCT, type, .sub = (desc), ##__VA_ARGS__)
#define STATE_STRUCTS(id, T, m, type, desc, ...) \
	STATE__MANY(id, T, m, STATE_KIND_STRUCT, type, .sub = (desc), ##__VA_ARGS__)

/* Arrays of which the first n elements are in use, n being a member of type uint32_t; the field
 * describes both. The rest is zero after a load. */
#define STATE_BYTES_N(id, T, m, n, ...) \
	STATE__MANY(id, T, m, STATE_KIND_BYTES, uint8_t, STATE__LEN(T, n), ##__VA_ARGS__)
#define STATE_U64S_N(id, T, m, n, ...) \
	STATE__MANY(id, T, m, STATE_KIND_U64, uint64_t, STATE__LEN(T, n), ##__VA_ARGS__)
#define STATE_STRUCTS_N(id, T, m, n, type, desc, ...) \
	STATE__MANY(id, T, m, STATE_KIND_STRUCT, type, STATE__LEN(T, n), .sub = (desc), \
		    ##__VA_ARGS__)

/* A member that is not saved, and why not. */
#define STATE_HOST_ONLY(T, m, why_) \
	{ .kind = STATE_KIND_HOST_ONLY, STATE__AT(T, m), .why = (why_) }

/* --- Writing --- */

struct state_writer {
	struct buf b;
	uint32_t   sections;
};

#define STATE_WRITER_INIT { .b = BUF_INIT, .sections = 0 }

void state_writer_fini(struct state_writer *w);

/* Add an object; its path is unique in the stream, and ends with the table's name. */
void state_write(struct state_writer *w, const char *path, const struct state_desc *d,
		 const void *s);

/* As state_write(), for one that a reader may leave aside. */
void state_write_optional(struct state_writer *w, const char *path, const struct state_desc *d,
			  const void *s);

/* A section of bytes with a format of their own (a configuration). */
void state_write_bytes(struct state_writer *w, const char *path, const void *data, size_t len);

/* The whole stream; the caller frees it. 0 or -ENOMEM; the writer is empty afterwards. */
int state_finish(struct state_writer *w, void **ret, size_t *ret_len) must_check;

/* --- Reading --- */

enum { STATE_STREAM_MAX = 64 << 20, STATE_SECTIONS_MAX = 1024, STATE_PATH_MAX = 127 };

struct state_reader;

/* Check the stream's form, lengths and sums. `data` is borrowed until state_close(). */
int  state_open(const void *data, size_t len, struct state_reader **ret, struct err *e) must_check;
struct state_reader *state_close(struct state_reader *r);

AUTO_PTR(struct state_reader, state_close)

bool state_has(const struct state_reader *r, const char *path);

/* Load an object into a copy of *s and check it; *s changes with state_commit(). */
int state_read(struct state_reader *r, const char *path, const struct state_desc *d, void *s,
	       struct err *e) must_check;

/* Load an object into *s at once, and let it be read again. For what decides whether the rest is
 * wanted. */
int state_peek(struct state_reader *r, const char *path, const struct state_desc *d, void *s,
	       struct err *e) must_check;

/* The bytes of a section, borrowed from the stream. */
int state_read_bytes(struct state_reader *r, const char *path, const void **ret, size_t *ret_len,
		     struct err *e) must_check;

/* Every section was read, but for optional ones: put all objects in place. Else name one that
 * nobody wanted, and change nothing. */
int state_commit(struct state_reader *r, struct err *e) must_check;

/* --- Other uses of a table --- */

/* Append the object as JSON: an object with the fields' names, bytes in hexadecimal. */
void state_dump(const struct state_desc *d, const void *s, struct buf *b);

/* Equal in all that is saved. */
bool state_equal(const struct state_desc *d, const void *a, const void *b);

/* Append the table's part of docs/formats/state.md. */
void state_doc(const struct state_desc *d, struct buf *b);

/*
 * The table is sound: ids and names are unique, bounds fit, versions make sense, and every byte
 * of the struct belongs to a member that is described, to a host-only one, or to padding that
 * alignment explains. For unit tests.
 */
int state_desc_check(const struct state_desc *d, struct err *e) must_check;

#endif
