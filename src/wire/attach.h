/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames of an attached client's stream, docs/formats/attach.md: a head of eight bytes
 * (kind, three zeros, length big endian), then the payload. Kinds 1 to 3 are the multiplexed
 * stream that docker's clients know.
 */
#ifndef HOLM_WIRE_ATTACH_H
#define HOLM_WIRE_ATTACH_H

#include <stddef.h>
#include <stdint.h>

enum { ATTACH_HEAD = 8 };

/* To the client. */
enum attach_out {
	ATTACH_STDOUT  = 1,
	ATTACH_STDERR  = 2,
	ATTACH_MESSAGE = 3,  /* a word to the person */
	ATTACH_PLACED  = 4,  /* a piece of the log with its place */
	ATTACH_END     = 16, /* i32 big endian: the exit status, or -1 where it was detached */
};

/* From the client. */
enum attach_in {
	ATTACH_DATA   = 0,
	ATTACH_EOF    = 1,
	ATTACH_RESIZE = 2, /* u16 rows, u16 columns, big endian */
	ATTACH_SIGNAL = 3, /* u32 number, big endian */
	ATTACH_DETACH = 4,
};

/* Big endian, as everything in these frames. */
static inline void attach_put_u32(uint8_t out[4], uint32_t v)
{
	out[0] = (uint8_t)(v >> 24);
	out[1] = (uint8_t)(v >> 16);
	out[2] = (uint8_t)(v >> 8);
	out[3] = (uint8_t)v;
}

static inline uint32_t attach_get_u32(const uint8_t p[4])
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void attach_head(uint8_t head[ATTACH_HEAD], uint8_t kind, size_t len)
{
	head[0] = kind;
	head[1] = head[2] = head[3] = 0;
	attach_put_u32(head + 4, (uint32_t)len);
}

/*
 * Tells a client whose stream cannot begin why, and its exit status, and nothing more follows.
 * `fd` is a connected socket; what does not fit into it at once is dropped.
 */
void attach_refuse(int fd, const char *message, int32_t status);

#endif
