/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framed messages between our own processes, over unix stream sockets.
 *
 * A frame is a fixed header and a body of fields:
 *
 *	u32 length   of the whole frame, header included; at most WIRE_FRAME_MAX
 *	u16 type     of the message
 *	u16 version  of the protocol that the sender speaks
 *	u32 serial   chosen by who asks; its answer carries the same; 0 for events
 *	u16 fds      how many descriptors go with the frame (SCM_RIGHTS), at most WIRE_FDS_MAX
 *	u16 zero
 *
 *	field:  u16 id, u16 zero, u32 length, then that many bytes. All integers are little
 *	endian. A field that the receiver does not know is skipped, unless its id has the bit
 *	WIRE_MUST_KNOW: then the message is refused.
 *
 * What a message holds is a table: one table writes, reads, checks and frees it, and prints
 * its documentation. Decoding copies everything out; nothing sent has a pointer in it.
 *
 *	struct resize { uint32_t rows, cols; char *exec; };
 *
 *	#define IN(m) offsetof(struct resize, m)
 *	static const struct wire_field fields[] = {
 *		{ 1, "rows", WIRE_U32, IN(rows), WIRE_REQUIRED, 1, 65535, "lines" },
 *		{ 2, "cols", WIRE_U32, IN(cols), WIRE_REQUIRED, 1, 65535, "columns" },
 *		{ 3, "exec", WIRE_STR, IN(exec), .max = 64, .doc = "session; absent: the first" },
 *	};
 *	#undef IN
 *	static const struct wire_msg resize_msg = WIRE_MSG(14, "resize", struct resize, fields,
 *							   "set the terminal's size");
 *
 * A connection does not know of a loop: its owner calls wire_conn_fill() when the socket can
 * be read, wire_conn_next() until it says 0, and wire_conn_flush() when it can be written and
 * wire_conn_pending(). Its buffers are bounded and freed while they are empty.
 *
 * Context: one thread.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"

enum {
	WIRE_HEADER_BYTES = 16,
	WIRE_FIELD_BYTES  = 8,                 /* before each field's value */
	WIRE_FRAME_MAX    = 1024 * 1024,
	WIRE_FDS_MAX      = 4,                 /* with one message */
	WIRE_OUT_MAX      = 4 * 1024 * 1024,   /* waiting to be sent on one connection */
	WIRE_MUST_KNOW    = 0x8000,            /* in a field's id */
};

enum wire_kind {
	WIRE_BOOL,   /* bool; one byte, 0 or 1 */
	WIRE_U32,    /* uint32_t, min..max */
	WIRE_I32,    /* int32_t */
	WIRE_U64,    /* uint64_t, min..max */
	WIRE_STR,    /* char *, at most `max` bytes, no NUL inside; NULL: absent */
	WIRE_BYTES,  /* struct wire_bytes, at most `max` bytes */
	WIRE_STRV,   /* struct strv: the field repeated; at most `max` strings of 64 KiB */
	WIRE_FD,     /* int: a descriptor that goes with the message; -1: absent */
	WIRE_KIND__COUNT,
};

enum {
	WIRE_REQUIRED = 1,  /* a message without it is refused */
};

struct wire_bytes {
	uint8_t *data;   /* NULL: absent */
	size_t   len;
};

struct wire_field {
	uint16_t       id;     /* unique in its message, never used again for another meaning */
	const char    *name;
	enum wire_kind kind;
	size_t         off;    /* in the message's struct */
	unsigned       flags;
	uint64_t       min;
	uint64_t       max;    /* numbers: both 0: unbounded. Others: required, above 0 */
	const char    *doc;    /* one line */
};

struct wire_msg {
	uint16_t                 type;
	const char              *name;
	size_t                   size;
	const struct wire_field *fields;
	size_t                   n_fields;
	const char              *doc;
};

#define WIRE_MSG(msg_type, msg_name, type_of, field_array, msg_doc) \
	{ .type = (msg_type), .name = (msg_name), .size = sizeof(type_of), \
	  .fields = (field_array), .n_fields = ARRAY_LEN(field_array), .doc = (msg_doc) }

/* One received frame. */
struct wire_frame {
	uint16_t       type;
	uint16_t       version;
	uint32_t       serial;
	const uint8_t *body;                 /* view; valid until the next wire_conn_fill() */
	size_t         body_len;
	int            fds[WIRE_FDS_MAX];    /* owned; taken by wire_decode() */
	size_t         n_fds;
};

/* Close the descriptors that nobody took. */
void wire_frame_fini(struct wire_frame *f);
#define auto_frame auto_(wire_frame_fini)

/*
 * A message as one frame appended to *ret. Strings longer than the table allows are a fault of
 * the caller: -EMSGSIZE. Its descriptors (borrowed) are listed in ret_fds[WIRE_FDS_MAX].
 */
int wire_encode(const struct wire_msg *m, uint16_t version, uint32_t serial, const void *msg,
		struct buf *ret, int *ret_fds, size_t *ret_n_fds) must_check;

/*
 * Check a frame's body against the table and copy it out into *ret (m->size bytes, whatever
 * was there is overwritten), which the caller ends with wire_msg_fini(), also after a failure.
 * The frame's descriptors are moved or closed. -EBADMSG with e->field naming the field.
 */
int wire_decode(const struct wire_msg *m, struct wire_frame *f, void *ret,
		struct err *e) must_check;

/* An empty message: zero, descriptors -1. */
void wire_msg_init(const struct wire_msg *m, void *msg);

/* Free what a decoded message holds, close the descriptors that were not taken. */
void wire_msg_fini(const struct wire_msg *m, void *msg);

/* What is wrong with a table, or NULL. For tests. */
const char *wire_msg_fault(const struct wire_msg *m);

struct wire_conn {
	int         fd;          /* owned; -1 once closed */
	uint16_t    version;     /* written into frames that are sent */
	struct buf  in;
	size_t      in_used;     /* of `in`, already handed out */
	int         in_fds[2 * WIRE_FDS_MAX];
	size_t      n_in_fds;
	struct list out;         /* of frames not yet sent */
	size_t      out_bytes;
};

/* Takes the socket, which must be non-blocking (blocking works for a simple client). */
void wire_conn_init(struct wire_conn *c, int own_fd, uint16_t version);
void wire_conn_fini(struct wire_conn *c);

/*
 * Read what is there, once. 1: something came; 0: nothing now; -EPIPE: the other end is gone
 * (what came before can still be had by wire_conn_next()); other -errno: unusable.
 */
int wire_conn_fill(struct wire_conn *c) must_check;

/* The next whole frame. 1, 0 if none is complete, -EBADMSG if the stream is broken. */
int wire_conn_next(struct wire_conn *c, struct wire_frame *ret) must_check;

/*
 * Queue a message and send what the socket takes. -EPIPE, -ECONNRESET: the connection is over.
 * After any other error it is as it was: -EMSGSIZE (wire_encode()); -ENOBUFS when WIRE_OUT_MAX
 * waits already, as the other end does not read. Descriptors are duplicated when they must wait.
 */
int wire_conn_send(struct wire_conn *c, const struct wire_msg *m, uint32_t serial,
		   const void *msg) must_check;

/* Send what waits: 0 or -errno; then see wire_conn_pending(). */
int wire_conn_flush(struct wire_conn *c) must_check;

static inline bool wire_conn_pending(const struct wire_conn *c)
{
	return c->out_bytes > 0;
}

/* True if the process at the other end runs (ran, when it connected) as `uid`. */
bool wire_peer_is(int fd, unsigned uid);

#endif
