/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any file as a recording; and, without its head and compression, any bytes as records of one
 * part: a fuzzer finds no zstd frame by itself.
 */
#include <unistd.h>

#include "base/fd.h"
#include "base/le.h"
#include "sys/file.h"
#include "vm/replay/rlog-priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(int own_fd)
{
	auto_(rlog_reader_freep) struct rlog_reader *in = NULL;
	struct err e = ERR_INIT;
	struct rlog_rec rec;
	int r = lseek(own_fd, 0, SEEK_SET) == 0 ? rlog_reader_new(own_fd, &in, &e) : -1;
	volatile uint8_t sum = 0;

	while (r == 0 && rlog_next(in, &rec, &e) > 0) {
		for (size_t i = 0; i < rec.len; i++) {
			sum = (uint8_t)(sum + ((const uint8_t *)rec.data)[i]);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A zstd frame of one block that is not compressed, without a sum. */
	uint8_t head[RLOG_HEAD_BYTES + RLOG_PART_HEAD_BYTES + 12] = RLOG_MAGIC;
	uint8_t *part = head + RLOG_HEAD_BYTES, *frame = part + RLOG_PART_HEAD_BYTES;
	auto_close int whole = sys_memfd_create("log", 0);
	auto_close int fd = sys_memfd_create("log", 0);

	if (whole < 0 || fd < 0 || size > 100000) {
		return 0;
	}
	if (sys_write_full(whole, data, size) == 0) {
		read_all(take_fd(&whole));
	}
	le32_put(head + 8, RLOG_VERSION);
	le32_put(part, RLOG_PART_MAGIC);
	le32_put(part + 4, (uint32_t)size + 12);
	le32_put(part + 8, (uint32_t)size);
	le32_put(frame, 0xfd2fb528);
	frame[4] = 0xa0;                         /* one segment, its size in four bytes */
	le32_put(frame + 5, (uint32_t)size);
	frame[9] = (uint8_t)(size << 3 | 1);     /* the last block, raw */
	le16_put(frame + 10, (uint16_t)(size >> 5));
	if (sys_write_full(fd, head, sizeof(head)) == 0 &&
	    sys_write_full(fd, data, size) == 0) {
		read_all(take_fd(&fd));
	}
	return 0;
}
