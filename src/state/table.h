/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this folder. */
#ifndef STATE_TABLE_H
#define STATE_TABLE_H

#include "state/state.h"

/* Append an object's fields. */
void state__save(const struct state_desc *d, const void *s, struct buf *b);

/* Fill the described members of `s` from fields that a table of that version wrote. On failure
 * part of them is filled. */
int state__load(const struct state_desc *d, uint16_t version, const uint8_t *data, size_t len,
		void *s, struct err *e) must_check;

/* Copy all that is described. */
void state__copy(const struct state_desc *d, void *to, const void *from);

/* Number of elements of a field that are in use. */
uint32_t state__count(const struct state_field *f, const void *s);

/* One element of a number. */
uint64_t state__get(const struct state_field *f, const void *s, uint32_t i);

/* Little endian. */
void     state__put_le(struct buf *b, uint64_t v, size_t bytes);
uint64_t state__get_le(const uint8_t *p, size_t bytes);

uint32_t state__crc(uint32_t crc, const void *data, size_t len);   /* CRC-32C */

/* In text form and in docs/formats/state.md. */
extern const char *const state__kind_names[STATE_KIND__COUNT];

#endif
