/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/replay-check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void check_put(struct check_chain *c, unsigned cpu, const uint64_t now[REGS_WORDS],
	       uint8_t buf[CHECK_DATA_MAX], struct rlog_rec *ret)
{
	uint64_t *last = c->last[cpu];
	size_t n = regs_count(), len = (n + 7) / 8;

	memset(buf, 0, len);
	for (size_t i = 0; i < n; i++) {
		if (now[i] != last[i]) {
			buf[i / 8] |= (uint8_t)(1u << i % 8);
			memcpy(buf + len, &now[i], 8);
			len += 8;
		}
	}
	memcpy(last, now, n * sizeof(*now));
	c->hash = regs_hash(c->hash, now, n);
	ret->cpu = cpu;
	ret->value = c->hash;
	ret->data = buf;
	ret->len = len;
}

int check_take(struct check_chain *c, const struct rlog_rec *rec, unsigned n_cpus)
{
	const uint8_t *data = rec->data;
	size_t n = regs_count(), at = (n + 7) / 8;

	if (rec->cpu >= n_cpus || rec->len < at) {
		return -EBADMSG;
	}
	for (size_t i = 0; i < n; i++) {
		if (data[i / 8] >> i % 8 & 1) {
			if (rec->len - at < 8) {
				return -EBADMSG;
			}
			memcpy(&c->last[rec->cpu][i], data + at, 8);
			at += 8;
		}
	}
	c->hash = regs_hash(c->hash, c->last[rec->cpu], n);
	return at == rec->len ? 0 : -EBADMSG;
}

struct check_text check_names(const uint64_t now[REGS_WORDS], const uint64_t was[REGS_WORDS])
{
	struct check_text list = { .text = "" };
	size_t used = 0;

	for (unsigned i = 0; i < regs_count(); i++) {
		if (now[i] == was[i]) {
			continue;
		}
		if (used + 90 > sizeof(list.text)) {
			memcpy(list.text + used, " and more", sizeof(" and more"));
			break;
		}
		used += (size_t)snprintf(list.text + used, sizeof(list.text) - used,
					 "%s%s 0x%llx (was 0x%llx)", used ? ", " : "",
					 regs_name(i).text, (unsigned long long)now[i],
					 (unsigned long long)was[i]);
	}
	return list;
}

struct rlog_words rlog_words(const struct rlog_rec *rec)
{
	static const char *const spaces[RLOG_SPACE__COUNT] = { "address", "port" };
	struct rlog_words w;

	if (!rec) {
		ignore_result(snprintf(w.text, sizeof(w.text), "the end")); /* short */
	} else if (rec->type == RLOG_READ) {
		ignore_result(snprintf(w.text, sizeof(w.text), "a read of %u bytes from %s 0x%llx",
				       rec->bytes, spaces[rec->space],
				       (unsigned long long)rec->addr)); /* short */
	} else if (rec->type == RLOG_WRITE) {
		ignore_result(snprintf(w.text, sizeof(w.text),
				       "a write of 0x%llx, %u bytes, to %s 0x%llx",
				       (unsigned long long)rec->value, rec->bytes, spaces[rec->space],
				       (unsigned long long)rec->addr)); /* short */
	} else if (rec->type == RLOG_SLEPT) {
		ignore_result(snprintf(w.text, sizeof(w.text), "a sleep")); /* short */
	} else {
		ignore_result(snprintf(w.text, sizeof(w.text), "%s at %llu instructions, %llu events",
				       rec->type == RLOG_CHECK ? "a check" : rec->type == RLOG_END ?
				       "the end" : "something from outside",
				       (unsigned long long)rec->insns,
				       (unsigned long long)rec->events)); /* short */
	}
	return w;
}
