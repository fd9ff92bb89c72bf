/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of vCPUs, clocks and interrupt controllers. */
#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "sys/file.h"
#include "vm/cpu/state-desc.h"
#include "vm/irq/state-desc.h"

static void test_tables_are_sound(void **state)
{
	(void)state;
	const struct state_desc *const all[] = {
		&cpu_state_desc, &clock_state_desc, &lapic_state_desc, &ioapic_state_desc,
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct err e = ERR_INIT;

		if (state_desc_check(all[i], &e) < 0) {
			fail_msg("%s", e.msg);
		}
	}
}

/* A table and those of the structs in it, each once. */
static void doc_all(const struct state_desc *d, struct buf *b)
{
	char title[64];

	(void)snprintf(title, sizeof(title), "\n### %s\n", d->name);
	if (strstr(buf_str(b), title)) {
		return;
	}
	state_doc(d, b);
	for (size_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].sub) {
			doc_all(d->fields[i].sub, b);
		}
	}
}

/* docs/formats/state.md holds what the tables say; on failure the right text is printed. */
static void test_the_document(void **state)
{
	(void)state;
	const struct state_desc *const all[] = {
		&cpu_state_desc, &clock_state_desc, &lapic_state_desc, &ioapic_state_desc,
	};
	auto_buf struct buf want = BUF_INIT, have = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		doc_all(all[i], &want);
	}
	assert_int_equal(sys_read_file(AT_FDCWD, STATE_MD, 1 << 20, &have), 0);
	if (!strstr(buf_str(&have), buf_str(&want))) {
		(void)fputs(buf_str(&want), stdout);
		fail_msg("docs/formats/state.md is not what the tables say");
	}
}

static int check(const struct cpu_state *s)
{
	struct err e = ERR_INIT;

	return cpu_state_desc.check(s, &e);
}

static void test_states_that_cannot_be(void **state)
{
	(void)state;
	struct cpu_state good, s;
	uint32_t mxcsr = 0x10000;

	cpu_state_reset(&good, true);
	assert_int_equal(check(&good), 0);
#define BAD(change) do { s = good; change; assert_int_equal(check(&s), -EBADMSG); } while (0)
	BAD(s.cr0 |= CPU_CR0_PG);
	BAD(s.cr0 |= BIT(32));
	BAD(s.cr0 = CPU_CR0_NW);
	BAD(s.cr4 |= CPU_CR4_PCIDE);
	BAD(s.cr4 |= CPU_CR4_LA57);
	BAD(s.efer = CPU_EFER_LMA);
	BAD(s.efer = BIT(1));
	BAD(s.dr7 |= BIT(32));
	BAD(s.xcr0 = 0);
	BAD(s.xcr0 = CPU_XCR0_X87 | CPU_XCR0_AVX);
	BAD(s.rflags = 0);
	BAD(s.rflags |= BIT(3));
	BAD(s.msr.lstar = BIT(47));
	BAD(s.gdt.base = BIT(63));
	BAD(s.xsave[512 + 1] = 1);
	BAD(s.xsave[520] = 1);
	BAD(memcpy(s.xsave + 24, &mxcsr, sizeof(mxcsr)));
	BAD(s.events.exception_pending = true; s.events.vector = 32);
#undef BAD
}

static void test_ioapic(void **state)
{
	(void)state;
	struct ioapic_state s = { .redirection = { [3] = BIT(14) | BIT(15) } };
	struct err e = ERR_INIT;

	assert_int_equal(ioapic_state_desc.check(&s, &e), 0);
	s.redirection[3] = BIT(14);
	assert_int_equal(ioapic_state_desc.check(&s, &e), -EBADMSG);
	s.redirection[3] = BIT(20);
	assert_int_equal(ioapic_state_desc.check(&s, &e), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound),
		cmocka_unit_test(test_the_document),
		cmocka_unit_test(test_states_that_cannot_be),
		cmocka_unit_test(test_ioapic),
	};

	return TEST_RUN(tests);
}
