/* SPDX-License-Identifier: Apache-2.0 */
/* What an instruction does, by its row's name. */
#include "vm/cpu/soft/xl-parts.h"

static uint8_t ops[UINT16_MAX + 1];   /* enum xl_op, by row */

static void find_ops(void)
{
	static const char *const names[] = {
		[XO_ADD] = "add", [XO_OR] = "or", [XO_AND] = "and",
		[XO_SUB] = "sub", [XO_XOR] = "xor", [XO_CMP] = "cmp",
		[XO_TEST] = "test", [XO_NEG] = "neg", [XO_MOV] = "mov",
		[XO_MOVZX] = "movzx", [XO_MOVSX] = "movsx", [XO_MOVSXD] = "movsxd",
		[XO_IMUL] = "imul", [XO_MUL] = "mul", [XO_SHL] = "shl",
		[XO_SHR] = "shr", [XO_SAR] = "sar",
	};

	for (size_t row = 0; row < insn_table_len; row++) {
		for (unsigned op = XO_OTHER + 1; op < ARRAY_LEN(names); op++) {
			if (strcmp(insn_table[row].name, names[op]) == 0) {
				ops[row] = (uint8_t)op;
			}
		}
	}
}

enum xl_op xl_op(const struct insn *i)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, find_ops);
	return (enum xl_op)ops[i->row];
}
