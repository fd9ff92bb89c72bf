/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "state/state.h"
#include "vm/dev/serial.h"

struct host {
	struct bus    *pio;
	struct machine m;
	struct serial *port;
	uint8_t        sent[64];
	size_t         n_sent, room;
	unsigned       drains;
	bool           level;
	unsigned       edges;
};

static bool on_send(void *ctx, uint8_t byte)
{
	struct host *h = ctx;

	if (h->n_sent == h->room) {
		return false;
	}
	h->sent[h->n_sent++] = byte;
	return true;
}

static void on_drained(void *ctx)
{
	((struct host *)ctx)->drains++;
}

static void on_line(void *ctx, unsigned gsi, bool level)
{
	struct host *h = ctx;

	assert_int_equal(gsi, SERIAL_COM1_GSI);
	assert_int_not_equal(level, h->level);
	h->edges += level;
	h->level = level;
}

static void setup(struct host *h)
{
	struct err e = ERR_INIT;
	const struct serial_conf conf = { .port = SERIAL_COM1, .gsi = SERIAL_COM1_GSI,
					  .send = on_send, .drained = on_drained, .ctx = h };

	*h = (struct host){ .room = sizeof(h->sent) };
	assert_int_equal(bus_new(&h->pio), 0);
	h->m = (struct machine){ .pio = h->pio, .irq = { .ctx = h, .line = on_line } };
	assert_int_equal(serial_new(&h->m, &conf, &h->port, &e), 0);
}

static void teardown(struct host *h)
{
	serial_free(h->port);
	bus_free(h->pio);
}

static uint8_t in(struct host *h, unsigned reg)
{
	return (uint8_t)bus_read(h->pio, SERIAL_COM1 + reg, 1);
}

static void out(struct host *h, unsigned reg, uint8_t v)
{
	bus_write(h->pio, SERIAL_COM1 + reg, 1, v);
}

static void sends(void **state)
{
	struct host h;

	(void)state;
	setup(&h);
	assert_int_equal(in(&h, 5), 0x60);
	out(&h, 0, 'a');
	out(&h, 3, 0x83); /* the divisor latch hides data */
	out(&h, 0, 1);
	out(&h, 1, 2);
	assert_int_equal(in(&h, 0), 1);
	assert_int_equal(in(&h, 1), 2);
	out(&h, 3, 0x03);
	out(&h, 0, 'b');
	assert_int_equal(h.n_sent, 2);
	assert_memory_equal(h.sent, "ab", 2);
	teardown(&h);
}

/* The host takes nothing: the transmitter is busy until it does, and nothing is lost. */
static void waits_for_host(void **state)
{
	struct host h;

	(void)state;
	setup(&h);
	h.room = 0;
	out(&h, 1, 2);
	assert_int_equal(in(&h, 2), 0x02);
	assert_int_equal(in(&h, 2), 0x01);
	out(&h, 0, 'x');
	assert_int_equal(in(&h, 5), 0);
	assert_false(h.level);
	serial_sent(h.port);
	assert_false(h.level);
	h.room = 8;
	serial_sent(h.port);
	assert_true(h.level);
	assert_int_equal(in(&h, 2), 0x02);
	assert_false(h.level);
	assert_memory_equal(h.sent, "x", 1);
	serial_sent(h.port);
	assert_int_equal(h.n_sent, 1);
	teardown(&h);
}

static void receives(void **state)
{
	struct host h;

	(void)state;
	setup(&h);
	out(&h, 2, 0x01);
	out(&h, 1, 0x01);
	assert_int_equal(serial_input(h.port, (const uint8_t *)"0123456789abcdefXY", 18), 16);
	assert_true(h.level);
	assert_int_equal(in(&h, 2), 0xc4);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(in(&h, 5) & 1, 1);
		assert_int_equal(h.drains, 1); /* from switching the FIFOs on */
		assert_int_equal(in(&h, 0), "0123456789abcdef"[i]);
	}
	assert_int_equal(h.drains, 2);
	assert_int_equal(in(&h, 5) & 1, 0);
	assert_false(h.level);
	assert_int_equal(in(&h, 2), 0xc1);
	teardown(&h);
}

/* What Linux does to find out whether there is a port. */
static void loopback(void **state)
{
	struct host h;

	(void)state;
	setup(&h);
	out(&h, 4, 0x1a);
	assert_int_equal(in(&h, 6) & 0xf0, 0x90);
	out(&h, 0, 'l');
	assert_int_equal(in(&h, 0), 'l');
	assert_int_equal(h.n_sent, 0);
	assert_int_equal(serial_input(h.port, (const uint8_t *)"z", 1), 0);
	out(&h, 4, 0x08);
	assert_int_equal(in(&h, 6) & 0xf0, 0xb0);
	out(&h, 7, 0x5a);
	assert_int_equal(in(&h, 7), 0x5a);
	teardown(&h);
}

static void wide_accesses(void **state)
{
	struct host h;

	(void)state;
	setup(&h);
	bus_write(h.pio, SERIAL_COM1 + 6, 2, 0x7700);
	assert_int_equal(bus_read(h.pio, SERIAL_COM1 + 7, 1), 0x77);
	assert_int_equal(bus_read(h.pio, SERIAL_COM1 + 4, 4) >> 24, 0x77);
	teardown(&h);
}

/* In the middle of everything: the one that is loaded goes on where the other was. */
static void saved(void **state)
{
	struct state_writer w = STATE_WRITER_INIT;
	auto_(state_closep) struct state_reader *in_stream = NULL;
	auto_free void *data = NULL;
	struct err e = ERR_INIT;
	struct host a, b;
	size_t len = 0;

	(void)state;
	assert_int_equal(state_desc_check(&serial_state, &e), 0);
	setup(&a);
	setup(&b);
	a.room = 0;
	out(&a, 1, 3);
	out(&a, 7, 0x42);
	out(&a, 0, 't');
	assert_int_equal(serial_input(a.port, (const uint8_t *)"in", 2), 2);
	serial_save(a.port, "/serial", &w);
	assert_int_equal(state_finish(&w, &data, &len), 0);
	assert_int_equal(state_open(data, len, &in_stream, &e), 0);
	assert_int_equal(serial_load(b.port, "/serial", in_stream, &e), 0);
	assert_int_equal(state_commit(in_stream, &e), 0);
	assert_int_equal(in(&b, 7), 0x42);
	assert_int_equal(in(&b, 5), 1);       /* data, and the transmitter is busy */
	serial_sent(b.port);
	assert_int_equal(b.n_sent, 1);
	assert_int_equal(b.sent[0], 't');
	assert_int_equal(in(&b, 0), 'i');
	assert_int_equal(in(&b, 0), 'n');
	teardown(&a);
	teardown(&b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends),    cmocka_unit_test(waits_for_host),
		cmocka_unit_test(receives), cmocka_unit_test(loopback),
		cmocka_unit_test(wide_accesses), cmocka_unit_test(saved),
	};

	return TEST_RUN(tests);
}
