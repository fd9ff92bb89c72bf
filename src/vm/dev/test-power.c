/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "vm/dev/power.h"

struct seen {
	unsigned events[POWER_EVENT__COUNT];
	unsigned edges;
};

static void on_event(void *ctx, enum power_event ev)
{
	((struct seen *)ctx)->events[ev]++;
}

static void on_line(void *ctx, unsigned gsi, bool level)
{
	assert_int_equal(gsi, 9);
	((struct seen *)ctx)->edges += level;
}

static void registers(void **state)
{
	struct seen s = { 0 };
	struct bus *pio = NULL;
	struct err e = ERR_INIT;
	struct power *p = NULL, *second = NULL;
	const struct power_conf conf = { .sleep_port = 0x600, .reset_port = 0x604,
					 .panic_port = 0x505, .sleep_type = 5, .reset_value = 1,
					 .button_gsi = 9, .event = on_event, .ctx = &s };

	(void)state;
	assert_int_equal(bus_new(&pio), 0);
	struct machine m = { .pio = pio, .irq = { .ctx = &s, .line = on_line } };

	assert_int_equal(power_new(&m, &conf, &p, &e), 0);
	assert_true(power_new(&m, &conf, &second, &e) < 0);
	bus_write(pio, 0x600, 1, 5 << 2);            /* not enabled */
	bus_write(pio, 0x600, 1, 1 << 5 | 3 << 2);   /* another state */
	bus_write(pio, 0x601, 1, 1 << 5 | 5 << 2);   /* status */
	assert_int_equal(s.events[POWER_OFF], 0);
	bus_write(pio, 0x600, 1, 1 << 5 | 5 << 2);
	assert_int_equal(s.events[POWER_OFF], 1);
	assert_int_equal(bus_read(pio, 0x601, 1), 0);
	bus_write(pio, 0x604, 1, 2);
	assert_int_equal(s.events[POWER_RESET], 0);
	bus_write(pio, 0x604, 1, 1);
	bus_write(pio, 0x64, 1, 0xd1);
	bus_write(pio, 0x64, 1, 0xfe);
	assert_int_equal(s.events[POWER_RESET], 2);
	assert_int_equal(bus_read(pio, 0x505, 1), 3);
	bus_write(pio, 0x505, 1, 1);
	assert_int_equal(s.events[POWER_PANIC], 1);
	assert_int_equal(bus_read(pio, 0x64, 1), 0xff);
	power_button(p);
	assert_int_equal(s.edges, 1);
	power_free(p);
	bus_free(pio);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(registers) };

	return TEST_RUN(tests);
}
