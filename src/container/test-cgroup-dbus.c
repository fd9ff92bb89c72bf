/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format; talking to a real systemd is tested in a virtual machine (tests/vm). */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "container/cgroup-dbus.h"

/* A signal JobRemoved(u, o, s, s), as systemd writes it. */
static void make_signal(struct dbus_out *o)
{
	struct dbus_out body = DBUS_OUT_INIT;

	dbus_put_u32(&body, 7);
	dbus_put_str(&body, "/job/7");
	dbus_put_str(&body, "x.scope");
	dbus_put_str(&body, "done");

	dbus_put_u8(o, 'l');
	dbus_put_u8(o, DBUS_SIGNAL);
	dbus_put_u8(o, 0);
	dbus_put_u8(o, 1);
	dbus_put_u32(o, (uint32_t)body.b.len);
	dbus_put_u32(o, 99);
	struct dbus_array a = dbus_array_begin(o, 8);

	dbus_put_struct(o);
	dbus_put_u8(o, 3);
	dbus_put_sig(o, "s");
	dbus_put_str(o, "JobRemoved");
	dbus_put_struct(o);
	dbus_put_u8(o, 5);
	dbus_put_sig(o, "u");
	dbus_put_u32(o, 4);
	dbus_put_struct(o);
	dbus_put_u8(o, 8);
	dbus_put_sig(o, "g");
	dbus_put_sig(o, "uoss");
	dbus_array_end(o, a);
	dbus_put_struct(o);
	buf_add(&o->b, body.b.data, body.b.len);
	dbus_out_fini(&body);
}

static void reads_what_is_written(void **state unused_arg)
{
	struct dbus_out o = DBUS_OUT_INIT;
	struct dbus_msg m;

	make_signal(&o);
	for (size_t n = 0; n < o.b.len; n++) {
		assert_int_equal(dbus_msg_parse(o.b.data, n, &m), 0);
	}
	buf_add_str(&o.b, "more");
	assert_int_equal(dbus_msg_parse(o.b.data, o.b.len, &m), o.b.len - 4);
	assert_int_equal(m.type, DBUS_SIGNAL);
	assert_int_equal(m.serial, 99);
	assert_int_equal(m.reply_serial, 4);
	assert_string_equal(m.member, "JobRemoved");
	assert_string_equal(m.sig, "uoss");

	struct dbus_in in = dbus_in(&m);

	assert_int_equal(dbus_get_u32(&in), 7);
	assert_string_equal(dbus_get_str(&in), "/job/7");
	assert_string_equal(dbus_get_str(&in), "x.scope");
	assert_string_equal(dbus_get_str(&in), "done");
	assert_true(in.ok);
	assert_string_equal(dbus_get_str(&in), "");
	assert_false(in.ok);
	free(m.data);
	dbus_out_fini(&o);
}

/* Any byte changed: refused, incomplete, or read without stepping outside (ASan). */
static void survives_damage(void **state unused_arg)
{
	struct dbus_out o = DBUS_OUT_INIT;

	make_signal(&o);
	for (size_t i = 0; i < o.b.len; i++) {
		for (unsigned v = 0; v < 256; v += 15) {
			char old = o.b.data[i];
			struct dbus_msg m;

			o.b.data[i] = (char)v;
			if (dbus_msg_parse(o.b.data, o.b.len, &m) > 0) {
				struct dbus_in in = dbus_in(&m);

				while (in.ok) {
					(void)dbus_get_str(&in);
				}
				free(m.data);
			}
			o.b.data[i] = old;
		}
	}
	dbus_out_fini(&o);
}

static void aligns(void **state unused_arg)
{
	struct dbus_out o = DBUS_OUT_INIT;

	dbus_put_u8(&o, 1);
	struct dbus_array a = dbus_array_begin(&o, 8);

	dbus_put_u64(&o, 5);
	dbus_array_end(&o, a);
	assert_int_equal(o.b.len, 16);
	assert_memory_equal(o.b.data, "\1\0\0\0\10\0\0\0\5\0\0\0\0\0\0\0", 16);
	dbus_out_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_written), cmocka_unit_test(survives_damage),
		cmocka_unit_test(aligns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
