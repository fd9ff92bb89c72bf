/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <stdio.h>

#include "base/le.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vm/boot/acpi.h"
#include "vm/boot/aml.h"
#include "vm/boot/layout.h"

static struct buf build(unsigned n_cpus)
{
	const struct acpi_conf conf = { .n_cpus = n_cpus };
	struct buf b = BUF_INIT;
	struct err e = ERR_INIT;

	assert_int_equal(acpi_build(&conf, &b, &e), 0);
	return b;
}

static uint8_t sum_of(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n-- > 0) {
		s = (uint8_t)(s + *p++);
	}
	return s;
}

/* The table with this signature, reached as a kernel reaches it, its sum checked. */
static const uint8_t *table(const struct buf *b, const char *signature)
{
	const uint8_t *base = (const uint8_t *)b->data;
	const uint8_t *xsdt = base + (le64_get(base + 24) - LAYOUT_ACPI);

	for (const uint8_t *p = xsdt + 36; p < xsdt + le32_get(xsdt + 4); p += 8) {
		const uint8_t *t = base + (le64_get(p) - LAYOUT_ACPI);

		assert_int_equal(sum_of(t, le32_get(t + 4)), 0);
		if (memcmp(t, signature, 4) == 0) {
			return t;
		}
	}
	return NULL;
}

static void pointers(void **state)
{
	struct buf b = build(4);
	const uint8_t *base = (const uint8_t *)b.data;

	(void)state;
	assert_memory_equal(base, "RSD PTR ", 8);
	assert_int_equal(sum_of(base, 20), 0);
	assert_int_equal(sum_of(base, 36), 0);
	const uint8_t *fadt = table(&b, "FACP"), *madt = table(&b, "APIC");

	assert_non_null(fadt);
	assert_int_equal(le32_get(fadt + 4), 276);
	const uint8_t *dsdt = base + (le64_get(fadt + 140) - LAYOUT_ACPI);

	assert_memory_equal(dsdt, "DSDT", 4);
	assert_int_equal(sum_of(dsdt, le32_get(dsdt + 4)), 0);
	assert_int_equal(le32_get(madt + 4), 44 + 4 * 8 + 12);
	assert_int_equal(madt[44 + 3 * 8 + 3], 3);
	assert_int_equal(le64_get(table(&b, "MCFG") + 44), LAYOUT_ECAM);
	assert_null(table(&b, "HPET"));
	buf_fini(&b);
}

static void lengths(void **state)
{
	struct aml a = AML_INIT;

	(void)state;
	/* One, two and three bytes of length, around each border. */
	static const struct { size_t fill, total; } cases[] = {
		{ 58, 1 + 1 + 4 + 58 }, { 59, 1 + 2 + 4 + 59 }, { 4089, 1 + 2 + 4 + 4089 },
		{ 4090, 1 + 3 + 4 + 4090 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		buf_reset(&a.b);
		aml_scope(&a, "ABC");
		for (size_t n = 0; n < cases[i].fill; n++) {
			aml_int(&a, 1);
		}
		aml_end(&a);
		assert_int_equal(a.b.len, cases[i].total);
		const uint8_t *p = (const uint8_t *)a.b.data + 1;
		size_t extra = p[0] >> 6, len = extra ? p[0] & 15 : p[0] & 63;

		for (size_t n = 0; n < extra; n++) {
			len |= (size_t)p[1 + n] << (4 + 8 * n);
		}
		assert_int_equal(len, a.b.len - 1);
		assert_memory_equal(p + 1 + extra, "ABC_", 4);
	}
	buf_fini(&a.b);
}

/* The status of a program run in the folder, its output thrown away. */
static int run(const char *dir, char *const argv[])
{
	siginfo_t si = { 0 };
	pid_t pid = sys_fork();

	if (pid == 0) {
		int null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);

		if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || sys_chdir(dir) < 0) {
			_exit(126);
		}
		execv(argv[0], argv);
		_exit(127);
	}
	assert_true(pid > 0);
	assert_int_equal(sys_waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
	return proc_exit_status(&si);
}

/* Every table, taken apart by Intel's compiler, and the DSDT compiled again from that. */
static void understood_by_iasl(void **state)
{
	static const char *const names[] = { "FACP", "APIC", "MCFG" };
	char dir[] = "/tmp/holm-test-acpi-XXXXXX", iasl[] = "/usr/bin/iasl";
	struct buf b = build(2);

	(void)state;
	if (access(iasl, X_OK) < 0) {
		print_message("no iasl here (acpica-tools)\n");
		buf_fini(&b);
		skip();
	}
	assert_non_null(mkdtemp(dir));
	auto_close int dir_fd = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const uint8_t *t = table(&b, names[i]);
		char file[16], d[] = "-d";
		char *argv[] = { iasl, d, file, NULL };

		snprintf(file, sizeof(file), "%s.dat", names[i]);
		assert_int_equal(sys_replace_file(dir_fd, file, t, le32_get(t + 4), 0600), 0);
		assert_int_equal(run(dir, argv), 0);
	}
	const uint8_t *dsdt = (const uint8_t *)b.data +
			      (le64_get(table(&b, "FACP") + 140) - LAYOUT_ACPI);
	char d[] = "-d", dat[] = "DSDT.dat", we[] = "-we", dsl[] = "DSDT.dsl";
	char *apart[] = { iasl, d, dat, NULL }, *again[] = { iasl, we, dsl, NULL };
	auto_buf struct buf aml = BUF_INIT;

	assert_int_equal(sys_replace_file(dir_fd, dat, dsdt, le32_get(dsdt + 4), 0600), 0);
	assert_int_equal(run(dir, apart), 0);
	assert_int_equal(run(dir, again), 0);
	assert_true(sys_read_file(dir_fd, "DSDT.aml", 1 << 20, &aml) >= 0);
	assert_true(aml.len > 1000);
	assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
	buf_fini(&b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pointers), cmocka_unit_test(lengths),
		cmocka_unit_test(understood_by_iasl),
	};

	return TEST_RUN(tests);
}
