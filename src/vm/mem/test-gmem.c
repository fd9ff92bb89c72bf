/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "sys/file.h"
#include "sys/map.h"
#include "vm/mem/gmem.h"

enum { PAGE = GMEM_PAGE_BYTES };

#define HIGH UINT64_C(0x100000000)

static struct gmem two_slots(void)
{
	struct gmem g;
	struct err e = ERR_INIT;

	memset(&g, 0x5a, sizeof(g));   /* as a stack may be */
	gmem_init(&g);
	/* The higher first: the map is ordered by address all the same. */
	assert_int_equal(gmem_add(&g, GPA(HIGH), 4 * PAGE, -1, 0, false, &e), 0);
	assert_int_equal(gmem_add(&g, GPA(0), 8 * PAGE, -1, 0, false, &e), 0);
	assert_int_equal(g.slots[0].first.raw, 0);
	assert_int_equal(g.slots[1].first.raw, HIGH);
	return g;
}

static void ranges(void **state)
{
	struct gmem g = two_slots();

	(void)state;
	assert_true(gmem_is_ram(&g, GPA(0), 8 * PAGE));
	assert_false(gmem_is_ram(&g, GPA(0), 8 * PAGE + 1));
	assert_true(gmem_is_ram(&g, GPA(8 * PAGE), 0));
	assert_false(gmem_is_ram(&g, GPA(8 * PAGE + 1), 0));
	assert_false(gmem_is_ram(&g, GPA(8 * PAGE), 1));
	assert_true(gmem_is_ram(&g, GPA(HIGH + 4 * PAGE - 1), 1));
	assert_false(gmem_is_ram(&g, GPA(HIGH), UINT64_MAX));
	assert_false(gmem_is_ram(&g, GPA(UINT64_MAX), 2));
	assert_false(gmem_is_ram(&g, GPA(PAGE), UINT64_MAX));
	assert_null(gmem_slot(&g, GPA(8 * PAGE)));
	assert_ptr_equal(gmem_slot(&g, GPA(HIGH + 5)), &g.slots[1]);
	gmem_fini(&g);
}

static void copies(void **state)
{
	struct gmem g = two_slots();
	uint8_t got[6] = { 0 };

	(void)state;
	assert_int_equal(gmem_write(&g, GPA(HIGH + PAGE - 3), "abcdef", 6), 0);
	assert_int_equal(gmem_read(&g, GPA(HIGH + PAGE - 3), got, 6), 0);
	assert_memory_equal(got, "abcdef", 6);
	assert_int_equal(gmem_write(&g, GPA(8 * PAGE - 3), "ABCDEF", 6), -EFAULT);
	assert_int_equal(gmem_read(&g, GPA(8 * PAGE - 3), got, 3), 0);
	assert_memory_equal(got, "\0\0\0", 3); /* nothing was written of what did not fit */
	assert_int_equal(gmem_read(&g, GPA(8 * PAGE - 3), got, 4), -EFAULT);
	gmem_fini(&g);
}

static void values(void **state)
{
	struct gmem g = two_slots();
	uint32_t v32 = 0;
	uint16_t v16 = 0;

	(void)state;
	assert_int_equal(gmem_store32(&g, GPA(16), 0x11223344), 0);
	assert_int_equal(gmem_load16(&g, GPA(18), &v16), 0);
	assert_int_equal(v16, 0x1122);
	assert_int_equal(gmem_store16(&g, GPA(16), 0x5566), 0);
	assert_int_equal(gmem_load32(&g, GPA(16), &v32), 0);
	assert_int_equal(v32, 0x11225566);
	assert_int_equal(gmem_load16(&g, GPA(17), &v16), -EFAULT);
	assert_int_equal(gmem_load32(&g, GPA(18), &v32), -EFAULT);
	assert_int_equal(gmem_store16(&g, GPA(8 * PAGE), 1), -EFAULT);
	assert_int_equal(gmem_store32(&g, GPA(8 * PAGE), 1), -EFAULT);
	gmem_fini(&g);
}

struct told {
	unsigned n;
	uint64_t first, bytes;
};

static void on_written(void *ctx, gpa_t first, uint64_t bytes)
{
	struct told *t = ctx;

	*t = (struct told){ .n = t->n + 1, .first = first.raw, .bytes = bytes };
}

static void views(void **state)
{
	struct gmem g = two_slots();
	struct told t = { 0 };
	struct iovec iov[2];
	unsigned n = 0;

	(void)state;
	gmem_watch(&g, on_written, &t);
	assert_int_equal(gmem_iov(&g, GPA(4), PAGE, iov, &n, 2), 0);
	assert_int_equal(gmem_iov(&g, GPA(HIGH + 8), 16, iov, &n, 2), 0);
	assert_int_equal(gmem_iov(&g, GPA(0), 1, iov, &n, 2), -ENOBUFS);
	assert_int_equal(gmem_iov(&g, GPA(8 * PAGE), 1, iov, &n, 2), -EFAULT);
	assert_int_equal(n, 2);
	assert_int_equal(iov[0].iov_len, PAGE);
	gmem_wrote(&g, iov + 1, 1);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.first, HIGH + 8);
	assert_int_equal(t.bytes, 16);
	assert_int_equal(gmem_store16(&g, GPA(2), 1), 0);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.first, 2);
	gmem_fini(&g);
}

static void dirty_log(void **state)
{
	struct gmem g = two_slots();
	struct err e = ERR_INIT;
	uint64_t bits = 0;

	(void)state;
	assert_int_equal(gmem_write(&g, GPA(0), "x", 1), 0);
	assert_int_equal(gmem_log_start(&g, &e), 0);
	assert_int_equal(gmem_log_start(&g, &e), -EALREADY);
	gmem_log_take(&g, 0, &bits);
	assert_int_equal(bits, 0);
	assert_int_equal(gmem_write(&g, GPA(2 * PAGE - 1), "xy", 2), 0);
	gmem_mark_dirty(&g, GPA(7 * PAGE), 100 * PAGE); /* cut at the slot's end */
	gmem_mark_dirty(&g, GPA(100 * PAGE), 1);        /* not RAM */
	gmem_log_take(&g, 0, &bits);
	assert_int_equal(bits, BIT(1) | BIT(2) | BIT(7));
	gmem_log_take(&g, 0, &bits);
	assert_int_equal(bits, 0);
	gmem_log_take(&g, 1, &bits);
	assert_int_equal(bits, 0);
	gmem_log_stop(&g);
	assert_int_equal(gmem_write(&g, GPA(0), "x", 1), 0);
	gmem_log_take(&g, 0, &bits);
	assert_int_equal(bits, 0);
	gmem_fini(&g);
}

static void refused(void **state)
{
	struct gmem g = two_slots();
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(gmem_add(&g, GPA(7 * PAGE), PAGE, -1, 0, false, &e), -EEXIST);
	assert_int_equal(gmem_add(&g, GPA(9 * PAGE + 1), PAGE, -1, 0, false, &e), -EINVAL);
	assert_int_equal(gmem_add(&g, GPA(9 * PAGE), 0, -1, 0, false, &e), -EINVAL);
	assert_int_equal(gmem_add(&g, GPA(9 * PAGE), 5, -1, 0, false, &e), -EINVAL);
	assert_int_equal(gmem_add(&g, GPA(~UINT64_C(0) - PAGE + 1), PAGE, -1, 0, false, &e),
			 -EINVAL);
	for (unsigned i = 0; i < GMEM_SLOTS_MAX - 2; i++) {
		assert_int_equal(gmem_add(&g, GPA((10 + i) * PAGE), PAGE, -1, 0, false, &e), 0);
	}
	assert_int_equal(gmem_add(&g, GPA(50 * PAGE), PAGE, -1, 0, false, &e), -ENOSPC);
	gmem_fini(&g);
}

/* A private mapping leaves its file alone; a shared one does not; a short one is refused. */
static void files(void **state)
{
	struct err e = ERR_INIT;
	struct gmem g;
	char c = 0;
	auto_close int fd = sys_memfd_create("test", 0);

	(void)state;
	assert_int_equal(sys_ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(sys_pwrite(fd, "f", 1, PAGE), 1);
	gmem_init(&g);
	assert_int_equal(gmem_add(&g, GPA(0), 3 * PAGE, sys_dup(fd), PAGE, false, &e), -EINVAL);
	assert_int_equal(gmem_add(&g, GPA(0), PAGE, sys_dup(fd), PAGE, false, &e), 0);
	assert_int_equal(gmem_add(&g, GPA(PAGE), PAGE, sys_dup(fd), 2 * PAGE, true, &e), 0);
	assert_int_equal(gmem_read(&g, GPA(0), &c, 1), 0);
	assert_int_equal(c, 'f');
	assert_int_equal(gmem_write(&g, GPA(0), "p", 1), 0);
	assert_int_equal(gmem_write(&g, GPA(PAGE), "s", 1), 0);
	assert_int_equal(sys_pread(fd, &c, 1, PAGE), 1);
	assert_int_equal(c, 'f');
	assert_int_equal(sys_pread(fd, &c, 1, 2 * PAGE), 1);
	assert_int_equal(c, 's');
	gmem_fini(&g);
}

/* Anonymous memory lies where huge pages can be; a host that refuses them does not matter. */
static void huge_pages(void **state)
{
	struct err e = ERR_INIT;
	struct gmem g;

	(void)state;
	gmem_init(&g);
	for (unsigned i = 0; i < 3; i++) {
		if (i == 2) {
			sys_fault_arm(SYS_CALL_madvise, 1, 1, EINVAL);
		}
		assert_int_equal(gmem_add(&g, GPA(i * 8 * PAGE), (i + 1) * PAGE, -1, 0, false, &e), 0);
		assert_int_equal((uintptr_t)g.slots[i].host % (2 << 20), 0);
		g.slots[i].host[(i + 1) * PAGE - 1] = 1;
	}
	sys_fault_clear();
	gmem_fini(&g);
}

/* The same memory at a second address, where that was wanted and no file is. */
static void mapped_again(void **state)
{
	struct err e = ERR_INIT;
	struct gmem g;
	void *at = NULL;
	uint8_t *p = NULL;

	(void)state;
	gmem_init(&g);
	assert_false(gmem_can_map_again(&g));
	assert_int_equal(gmem_add(&g, GPA(0), 8 * PAGE, -1, 0, true, &e), 0);
	assert_true(gmem_can_map_again(&g));
	assert_int_equal(sys_mmap(4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &at), 0);
	p = at;
	assert_int_equal(gmem_map_again(&g, GPA(2 * PAGE), 2 * PAGE, p + PAGE, true), 0);
	p[PAGE + 5] = 0x55;
	assert_int_equal(g.slots[0].host[2 * PAGE + 5], 0x55);
	assert_int_equal(gmem_map_again(&g, GPA(2 * PAGE), PAGE, p, false), 0);
	g.slots[0].host[2 * PAGE + 5] = 0x66;
	assert_int_equal(p[5], 0x66);
	assert_int_equal(gmem_map_again(&g, GPA(7 * PAGE), 2 * PAGE, p, false), -EFAULT);
	sys_fault_arm(SYS_CALL_mmap, 1, 1, ENOMEM);
	assert_int_equal(gmem_map_again(&g, GPA(0), PAGE, p, false), -ENOMEM);
	sys_fault_clear();
	g.slots[0].restored = true;
	assert_false(gmem_can_map_again(&g));
	assert_int_equal(gmem_map_again(&g, GPA(0), PAGE, p, false), -ENOTSUP);
	assert_int_equal(gmem_add(&g, GPA(HIGH), PAGE, -1, 0, false, &e), 0);
	assert_int_equal(gmem_map_again(&g, GPA(HIGH), PAGE, p, false), -ENOTSUP);

	/* Without memory files it is memory nevertheless. */
	sys_fault_arm(SYS_CALL_memfd_create, 1, 1, ENOSYS);
	assert_int_equal(gmem_add(&g, GPA(2 * HIGH), PAGE, -1, 0, true, &e), 0);
	sys_fault_clear();
	g.slots[2].host[0] = 1;
	assert_int_equal(gmem_map_again(&g, GPA(2 * HIGH), PAGE, p, false), -ENOTSUP);
	assert_int_equal(sys_munmap(at, 4 * PAGE), 0);
	gmem_fini(&g);
}

/* All parts share the file that they were given, and nothing in it. */
static void mapped_from_a_file(void **state)
{
	struct err e = ERR_INIT;
	struct gmem g;
	struct stat st;
	void *at = NULL;
	uint8_t *p = NULL;
	auto_close int fd = sys_memfd_create("test", 0);

	(void)state;
	gmem_init(&g);
	gmem_use_file(&g, fd);
	assert_int_equal(gmem_add(&g, GPA(0), PAGE, -1, 0, true, &e), 0);
	assert_int_equal(gmem_add(&g, GPA(HIGH), 2 * PAGE, -1, 0, true, &e), 0);
	assert_true(gmem_can_map_again(&g));
	assert_int_equal(sys_fstat(fd, &st), 0);
	assert_true(st.st_size >= 3 * PAGE);
	fd_close(&fd);
	assert_int_equal(sys_mmap(2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &at), 0);
	p = at;
	assert_int_equal(gmem_map_again(&g, GPA(0), PAGE, p, true), 0);
	assert_int_equal(gmem_map_again(&g, GPA(HIGH + PAGE), PAGE, p + PAGE, true), 0);
	p[1] = 0x11;
	p[PAGE + 1] = 0x22;
	assert_int_equal(g.slots[0].host[1], 0x11);
	assert_int_equal(g.slots[1].host[1], 0);
	assert_int_equal(g.slots[1].host[PAGE + 1], 0x22);
	assert_int_equal(sys_munmap(at, 2 * PAGE), 0);
	gmem_fini(&g);
}

static void out_of_memory(void **state)
{
	struct err e = ERR_INIT;
	struct gmem g;

	(void)state;
	gmem_init(&g);
	mem_fail_at(1, false);
	assert_int_equal(gmem_add(&g, GPA(0), PAGE, -1, 0, false, &e), -ENOMEM);
	mem_fail_at(0, false);
	sys_fault_arm(SYS_CALL_mmap, 1, 1, ENOMEM);
	assert_int_equal(gmem_add(&g, GPA(0), PAGE, -1, 0, false, &e), -ENOMEM);
	sys_fault_clear();
	assert_int_equal(g.n_slots, 0);
	gmem_fini(&g);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),    cmocka_unit_test(copies),
		cmocka_unit_test(values),    cmocka_unit_test(views),
		cmocka_unit_test(dirty_log), cmocka_unit_test(refused),
		cmocka_unit_test(files),     cmocka_unit_test(huge_pages),
		cmocka_unit_test(mapped_again), cmocka_unit_test(mapped_from_a_file),
		cmocka_unit_test(out_of_memory),
	};

	return TEST_RUN(tests);
}
