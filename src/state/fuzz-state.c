/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream as it is, and the same bytes as the fields of one object, which no checksum guards.
 * What loads is saved and loads again to the same.
 */
#include "base/mem.h"
#include "state/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct part {
	uint8_t  kind;
	uint64_t value;
};

struct whole {
	uint32_t    n_parts, used;
	struct part parts[4], first;
	uint8_t     text[16];
	uint64_t    words[2];
	bool        flag;
};

static const struct state_field part_fields[] = {
	STATE_U8(1, struct part, kind, .max = 7),
	STATE_U64(2, struct part, value, .optional = true, .dflt = 3),
};
static const struct state_desc part_desc = STATE_DESC("part", struct part, part_fields,
						      .version = 2, .oldest = 1);
static const struct state_field whole_fields[] = {
	STATE_STRUCTS_N(1, struct whole, parts, n_parts, struct part, &part_desc),
	STATE_STRUCT(2, struct whole, first, struct part, &part_desc, .optional = true),
	STATE_BYTES_N(3, struct whole, text, used, .optional = true),
	STATE_U64S(4, struct whole, words, .max = 1000, .optional = true),
	STATE_BOOL(5, struct whole, flag, .optional = true),
};
static const struct state_desc whole_desc = STATE_DESC("whole", struct whole, whole_fields,
						       .version = 1, .oldest = 1);

static void again(const struct whole *w)
{
	auto_(state_writer_fini) struct state_writer out = STATE_WRITER_INIT;
	auto_(state_closep) struct state_reader *r = NULL;
	struct whole back = { 0 };
	void *data = NULL;
	size_t len;
	struct err e = ERR_INIT;

	state_write(&out, "/whole", &whole_desc, w);
	bool ok = state_finish(&out, &data, &len) == 0 && state_open(data, len, &r, &e) == 0 &&
		  state_read(r, "/whole", &whole_desc, &back, &e) == 0 &&
		  state_commit(r, &e) == 0 && state_equal(&whole_desc, w, &back);

	assert(ok);
	free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_(state_closep) struct state_reader *r = NULL;
	struct whole w = { 0 }, other = { 0 };
	struct err e = ERR_INIT;

	if (state_open(data, size, &r, &e) == 0 &&
	    state_read(r, "/whole", &whole_desc, &other, &e) == 0 && state_commit(r, &e) == 0) {
		again(&other);
	}
	if (state__load(&whole_desc, 1, data, size, &w, &e) == 0) {
		again(&w);
	}
	return 0;
}
