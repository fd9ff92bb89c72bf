/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder: whatever the bytes, it stays inside them and says things that fit together. */
#include "vm/cpu/soft/insn.h"
#include "vm/cpu/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 1;

	if (size < 2) {
		return 0;
	}
	while (at < size) {
		struct insn i;
		int r = insn_decode(data + at, size - at, (enum insn_mode)(data[0] % 3), &i);

		if (r <= 0) {
			at++;
			continue;
		}
		assert(r <= INSN_BYTES_MAX && (size_t)r <= size - at && i.len == r);
		assert(i.row < insn_table_len && i.fn);
		assert(i.rm == INSN_NONE || i.rm < 16);
		assert(i.base < 16 || i.base == INSN_NONE || i.base == INSN_BASE_RIP);
		assert(i.index < 16 || i.index == INSN_NONE);
		assert(i.reg < 16 && i.vvvv < 16 && i.scale < 4 && i.seg < CPU_SEG__COUNT);
		at += (size_t)r;
	}
	return 0;
}
