/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What small controllers do, in one mix: a linked list is searched, reversed and sorted by two
 * orders, a small matrix multiplied, numbers in a text recognised by a state machine; every
 * result goes into a cyclic sum of 16 bits.
 */
#include <stddef.h>

#include "guest.h"

enum { ITEMS = 96, SIDE = 12, TEXT = 1024 };

struct item {
	struct item *next;
	int16_t      key, index;
};

static struct item items[ITEMS];
static int16_t     left[SIDE][SIDE], right[SIDE][SIDE];
static int32_t     product[SIDE][SIDE];
static char        text[TEXT];

static uint16_t crc16(uint16_t crc, uint32_t value)
{
	for (int i = 0; i < 32; i++) {
		unsigned bit = (crc ^ value) & 1;

		crc >>= 1;
		value >>= 1;
		if (bit) {
			crc ^= 0xa001;
		}
	}
	return crc;
}

/* --- The list --- */

static int by_key(const struct item *a, const struct item *b)
{
	return a->key - b->key;
}

static int by_index(const struct item *a, const struct item *b)
{
	return a->index - b->index;
}

static struct item *merge(struct item *a, struct item *b,
			  int (*compare)(const struct item *, const struct item *))
{
	struct item *head = NULL, **tail = &head;

	while (a && b) {
		struct item **less = compare(a, b) <= 0 ? &a : &b;

		*tail = *less;
		tail = &(*tail)->next;
		*less = *tail;
	}
	*tail = a ? a : b;
	return head;
}

static struct item *sorted(struct item *list,
			   int (*compare)(const struct item *, const struct item *))
{
	struct item *slow = list, *fast = NULL;

	if (!list || !list->next) {
		return list;
	}
	for (fast = list->next; fast && fast->next; fast = fast->next->next) {
		slow = slow->next;
	}
	fast = slow->next;
	slow->next = NULL;
	return merge(sorted(list, compare), sorted(fast, compare), compare);
}

static struct item *reversed(struct item *list)
{
	struct item *head = NULL;

	while (list) {
		struct item *next = list->next;

		list->next = head;
		head = list;
		list = next;
	}
	return head;
}

static uint16_t work_list(unsigned round, uint16_t crc)
{
	struct item *list = items;

	for (int i = 0; i < ITEMS - 1; i++) {
		items[i].next = &items[i + 1];
	}
	items[ITEMS - 1].next = NULL;
	for (int wanted = 0; wanted < 16; wanted++) {
		int steps = 0;

		for (const struct item *at = list; at; at = at->next, steps++) {
			if ((at->key & 63) == ((wanted * 4 + (int)round) & 63)) {
				break;
			}
		}
		list = reversed(list);
		crc = crc16(crc, (uint32_t)steps);
	}
	list = sorted(list, by_key);
	crc = crc16(crc, (uint32_t)(list->index + list->next->index));
	list = sorted(list, by_index);
	return crc16(crc, (uint32_t)list->key);
}

/* --- The matrix --- */

static uint16_t work_matrix(unsigned round, uint16_t crc)
{
	int32_t sum = 0;

	for (int i = 0; i < SIDE; i++) {
		for (int j = 0; j < SIDE; j++) {
			int32_t v = 0;

			for (int k = 0; k < SIDE; k++) {
				v += left[i][k] * right[k][j];
			}
			product[i][j] = v;
		}
	}
	for (int i = 0; i < SIDE; i++) {
		for (int j = 0; j < SIDE; j++) {
			int32_t v = product[i][j];

			sum += (v >> 2 & 15) * (v >> 5 & 127);
			sum += v > 4000 ? 10 : sum > v;
		}
	}
	left[round % SIDE][1] ^= 1;
	return crc16(crc, (uint32_t)sum);
}

/* --- The text: which of its words are numbers of which kind --- */

enum state { START, SIGN, INTEGER, FRACTION, EXPONENT, EXPONENT_SIGN, POWER, OTHER, STATES };

static enum state step(enum state s, char c)
{
	int digit = c >= '0' && c <= '9';

	switch (s) {
	case START: return digit ? INTEGER : c == '-' || c == '+' ? SIGN : c == '.' ? FRACTION : OTHER;
	case SIGN: return digit ? INTEGER : c == '.' ? FRACTION : OTHER;
	case INTEGER: return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : OTHER;
	case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : OTHER;
	case EXPONENT: return c == '-' || c == '+' ? EXPONENT_SIGN : digit ? POWER : OTHER;
	case EXPONENT_SIGN: return digit ? POWER : OTHER;
	case POWER: return digit ? POWER : OTHER;
	case OTHER: return OTHER;
	case STATES: break;
	}
	return OTHER;
}

static uint16_t work_text(unsigned round, uint16_t crc)
{
	uint32_t ended[STATES] = { 0 };
	enum state s = START;

	text[round % TEXT] ^= 1;
	for (int i = 0; i < TEXT; i++) {
		if (text[i] == ',' || text[i] == '-') {
			ended[s]++;
			s = START;
		} else {
			s = step(s, text[i]);
		}
	}
	text[round % TEXT] ^= 1;
	for (int i = 0; i < STATES; i++) {
		crc = crc16(crc, ended[i]);
	}
	return crc;
}

static void prepare(void)
{
	static const char letters[] = "0123456789,,+.e-x123,.7";

	for (int i = 0; i < ITEMS; i++) {
		items[i].key = (int16_t)(random_next() & 0x3fff);
		items[i].index = (int16_t)i;
	}
	for (int i = 0; i < SIDE * SIDE; i++) {
		left[i / SIDE][i % SIDE] = (int16_t)(random_next() & 127);
		right[i / SIDE][i % SIDE] = (int16_t)(random_next() & 127);
	}
	for (int i = 0; i < TEXT; i++) {
		text[i] = letters[random_next() % (sizeof(letters) - 1)];
	}
}

static uint64_t run(unsigned work)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < work * 100; i++) {
		uint16_t crc = work_list(i, (uint16_t)i);

		crc = work_matrix(i, crc);
		crc = work_text(i, crc);
		sum = sum * 3 + crc;
	}
	return sum;
}

const struct program core_programs[] = {
	{ "coremark", run, 180, prepare },
	{ 0 },
};
