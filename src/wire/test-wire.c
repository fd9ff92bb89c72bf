/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "wire/shim-proto.h"

static void tables_are_sound(void **state)
{
	(void)state;
	for (unsigned i = SHIM_HELLO; i < SHIM_MSG__COUNT; i++) {
		const char *fault = wire_msg_fault(&shim_msgs[i]);

		if (fault) {
			fail_msg("message %u: %s", i, fault);
		}
		assert_int_equal(shim_msgs[i].type, i);
		assert_true(shim_msgs[i].size <= sizeof(union shim_any));
		assert_ptr_equal(shim_msg((uint16_t)i), &shim_msgs[i]);
	}
	assert_null(shim_msg(0));
	assert_null(shim_msg(SHIM_MSG__COUNT));
	for (unsigned i = 0; i < SHIM_STATE__COUNT; i++) {
		assert_non_null(shim_state_names[i]);
	}
}

/* A pair of connections; [0] is the sender. */
static void pair(struct wire_conn c[2], int type)
{
	int s[2];

	assert_int_equal(sys_socketpair(type, s), 0);
	wire_conn_init(&c[0], s[0], 1);
	wire_conn_init(&c[1], s[1], 1);
}

static void receive(struct wire_conn *c, unsigned type, uint32_t serial, union shim_any *ret)
{
	struct wire_frame f;
	struct err e = ERR_INIT;
	int r = wire_conn_next(c, &f);

	while (r == 0) {
		assert_int_equal(wire_conn_fill(c), 1);
		r = wire_conn_next(c, &f);
	}
	assert_int_equal(r, 1);
	assert_int_equal(f.type, type);
	assert_int_equal(f.serial, serial);
	assert_int_equal(wire_decode(shim_msg(f.type), &f, ret, &e), 0);
}

static void round_trip(void **state)
{
	(void)state;
	struct wire_conn c[2];
	struct shim_exec m;
	union shim_any got;

	pair(c, SOCK_STREAM);
	wire_msg_init(&shim_msgs[SHIM_EXEC], &m);
	assert_int_equal(m.connection, -1);
	m.exec = (char *)(uintptr_t)"one";
	m.process = (char *)(uintptr_t)"{}";
	m.terminal = true;
	m.rows = 65535;
	m.stall_ms = 77;
	m.connection = c[0].fd;
	m.preread = (struct wire_bytes){ (uint8_t *)(uintptr_t)"a\0b", 3 };
	assert_int_equal(wire_conn_send(&c[0], &shim_msgs[SHIM_EXEC], 9, &m), 0);
	receive(&c[1], SHIM_EXEC, 9, &got);
	assert_string_equal(got.exec.exec, "one");
	assert_string_equal(got.exec.process, "{}");
	assert_true(got.exec.terminal);
	assert_false(got.exec.open_stdin);
	assert_int_equal(got.exec.rows, 65535);
	assert_int_equal(got.exec.stall_ms, 77);
	assert_int_equal(got.exec.preread.len, 3);
	assert_memory_equal(got.exec.preread.data, "a\0b", 3);
	assert_true(fcntl(got.exec.connection, F_GETFD) & FD_CLOEXEC);
	wire_msg_fini(&shim_msgs[SHIM_EXEC], &got);
	assert_int_equal(got.exec.connection, -1);

	struct shim_start s = { .network = STRV_INIT };

	assert_int_equal(strv_add(&s.network, "pasta"), 0);
	assert_int_equal(strv_add(&s.network, ""), 0);
	assert_int_equal(wire_conn_send(&c[0], &shim_msgs[SHIM_START], 10, &s), 0);
	receive(&c[1], SHIM_START, 10, &got);
	assert_int_equal(got.start.network.n, 2);
	assert_string_equal(got.start.network.v[0], "pasta");
	assert_string_equal(got.start.network.v[1], "");
	wire_msg_fini(&shim_msgs[SHIM_START], &got);
	strv_fini(&s.network);
	wire_conn_fini(&c[0]);
	wire_conn_fini(&c[1]);
}

static void refuses_what_the_table_does_not_allow(void **state)
{
	(void)state;
	struct wire_conn c[2];
	struct shim_resize m = { .rows = 1, .cols = 1 };
	struct shim_update none = { .resources = NULL };
	char name[SHIM_SESSION_MAX + 2];

	pair(c, SOCK_STREAM);
	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	m.exec = name;
	assert_int_equal(wire_conn_send(&c[0], &shim_msgs[SHIM_RESIZE], 1, &m), -EMSGSIZE);
	assert_int_equal(wire_conn_send(&c[0], &shim_msgs[SHIM_UPDATE], 1, &none), -EINVAL);
	wire_conn_fini(&c[0]);
	wire_conn_fini(&c[1]);
}

/* Bodies of RESIZE (rows 1, cols 2, exec 3) and what must come of them. */
static void bad_bodies(void **state)
{
	(void)state;
#define ROWS "\1\0\0\0\4\0\0\0\1\0\0\0"
#define COLS "\2\0\0\0\4\0\0\0\1\0\0\0"
	static const struct {
		const char *body;
		size_t      len;
		const char *field;   /* NULL: accepted */
	} cases[] = {
#define CASE(text, field) { text, sizeof(text) - 1, field }
		CASE(ROWS COLS, NULL),
		CASE(COLS ROWS, NULL),
		CASE(ROWS COLS "\x63\0\0\0\1\0\0\0x", NULL),      /* unknown, skipped */
		CASE(ROWS COLS "\x63\x80\0\0\1\0\0\0x", ""),      /* unknown, must be known */
		CASE(ROWS, "cols"),
		CASE(ROWS ROWS COLS, "rows"),
		CASE(ROWS "\2\0\0\0\4\0\0\0\0\0\0\0", "cols"),    /* below its minimum */
		CASE(ROWS "\2\0\0\0\4\0\0\0\0\0\1\0", "cols"),    /* above its maximum */
		CASE(ROWS "\2\0\0\0\2\0\0\0\1\0", "cols"),        /* a wrong length */
		CASE(ROWS "\2\0\0\0\xff\xff\xff\xff\1\0", "cols"),/* longer than the body */
		CASE(ROWS "\2\0\1\0\4\0\0\0\1\0\0\0", "cols"),    /* reserved bytes set */
		CASE(ROWS COLS "\3\0\0", ""),                     /* a cut header */
		CASE(ROWS COLS "\3\0\0\0\2\0\0\0a\0", "exec"),    /* a NUL in a text */
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct wire_frame f = { .type = SHIM_RESIZE,
					.body = (const uint8_t *)cases[i].body,
					.body_len = cases[i].len };
		struct err e = ERR_INIT;
		struct shim_resize m;
		int r = wire_decode(&shim_msgs[SHIM_RESIZE], &f, &m, &e);

		wire_msg_fini(&shim_msgs[SHIM_RESIZE], &m);
		assert_int_equal(r, cases[i].field ? -EBADMSG : 0);
		if (cases[i].field) {
			assert_string_equal(e.field, cases[i].field);
		}
	}
}

static void bad_frames(void **state)
{
	(void)state;
	static const char *const frames[] = {
		"\x0f\0\0\0\1\0\1\0\0\0\0\0\0\0\0",     /* shorter than its header */
		"\xff\xff\xff\xff\1\0\1\0\0\0\0\0\0\0\0",
		"\x10\0\0\0\1\0\1\0\0\0\0\0\5\0\0",     /* too many descriptors */
		"\x10\0\0\0\1\0\1\0\0\0\0\0\1\0\0",     /* a descriptor that did not come */
		"\x10\0\0\0\1\0\1\0\0\0\0\0\0\0\1",     /* reserved bytes set */
	};

	for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
		struct wire_conn c[2];
		struct wire_frame f;

		pair(c, SOCK_STREAM);
		assert_int_equal(sys_write_full(c[0].fd, frames[i], 15), 0);
		assert_int_equal(sys_write_full(c[0].fd, i == 4 ? "\1" : "", 1), 0);
		assert_int_equal(wire_conn_fill(&c[1]), 1);
		assert_int_equal(wire_conn_next(&c[1], &f), -EBADMSG);
		wire_conn_fini(&c[0]);
		wire_conn_fini(&c[1]);
	}
}

/* Frames cut anywhere, many in one read, descriptors in between. */
static void any_cut_of_the_stream(void **state)
{
	(void)state;
	struct shim_attach a;
	auto_buf struct buf b = BUF_INIT;
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;

	wire_msg_init(&shim_msgs[SHIM_ATTACH], &a);
	a.connection = 0;
	assert_int_equal(wire_encode(&shim_msgs[SHIM_ATTACH], 1, 5, &a, &b, fds, &n_fds), 0);
	assert_int_equal(n_fds, 1);
	for (size_t cut = 1; cut < b.len; cut++) {
		struct wire_conn c[2];
		union shim_any got;

		pair(c, SOCK_STREAM);
		for (int i = 0; i < 3; i++) {
			int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

			assert_int_equal(sock_send_fds(c[0].fd, b.data, cut, &null, 1), 0);
			assert_int_equal(sys_write_full(c[0].fd, b.data + cut, b.len - cut), 0);
			fd_close(&null);
		}
		for (int i = 0; i < 3; i++) {
			receive(&c[1], SHIM_ATTACH, 5, &got);
			assert_true(got.attach.connection >= 0);
			wire_msg_fini(&shim_msgs[SHIM_ATTACH], &got);
		}
		assert_int_equal(c[1].n_in_fds, 0);
		wire_conn_fini(&c[0]);
		assert_int_equal(wire_conn_fill(&c[1]), -EPIPE);
		wire_conn_fini(&c[1]);
	}
}

/* A peer that does not read: what waits is bounded, and arrives whole once it reads. */
static void slow_peer(void **state)
{
	(void)state;
	struct wire_conn c[2];
	auto_free char *text = mem_calloc(1, 400001);
	struct shim_reply m = { .text = text };
	unsigned sent = 0;
	int r;

	pair(c, SOCK_STREAM | SOCK_NONBLOCK);
	memset(text, 'x', 400000);
	while ((r = wire_conn_send(&c[0], &shim_msgs[SHIM_REPLY], sent + 1, &m)) == 0) {
		sent++;
		assert_true(sent < 100);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(wire_conn_pending(&c[0]) && c[0].out_bytes <= WIRE_OUT_MAX);
	for (unsigned i = 1; i <= sent; i++) {
		struct wire_frame f;
		union shim_any got;
		struct err e = ERR_INIT;

		while ((r = wire_conn_next(&c[1], &f)) == 0) {
			assert_int_equal(wire_conn_flush(&c[0]), 0);
			assert_int_equal(wire_conn_fill(&c[1]), 1);
		}
		assert_int_equal(r, 1);
		assert_int_equal(f.serial, i);
		assert_int_equal(wire_decode(&shim_msgs[SHIM_REPLY], &f, &got, &e), 0);
		assert_string_equal(got.reply.text, text);
		wire_msg_fini(&shim_msgs[SHIM_REPLY], &got);
	}
	assert_false(wire_conn_pending(&c[0]));
	wire_conn_fini(&c[0]);
	wire_conn_fini(&c[1]);
}

/* Out of memory anywhere leaves nothing behind (the sanitizer build sees leaks). */
static void memory_faults(void **state)
{
	(void)state;
	for (unsigned long nth = 1; nth < 20; nth++) {
		struct wire_conn c[2];
		struct shim_session m = { .exec = (char *)(uintptr_t)"abc" };
		struct wire_frame f = { .n_fds = 0 };
		struct err e = ERR_INIT;
		struct shim_session got = { .exec = NULL };

		pair(c, SOCK_STREAM);
		mem_fail_at(nth, false);
		int r = wire_conn_send(&c[0], &shim_msgs[SHIM_ACK], 1, &m);

		r = r < 0 ? r : wire_conn_fill(&c[1]);
		r = r < 0 ? r : wire_conn_next(&c[1], &f);
		r = r < 0 ? r : wire_decode(&shim_msgs[SHIM_ACK], &f, &got, &e);
		assert_int_equal(r, mem_failed() ? -ENOMEM : 0);
		mem_fail_at(0, false);
		wire_msg_fini(&shim_msgs[SHIM_ACK], &got);
		wire_conn_fini(&c[0]);
		wire_conn_fini(&c[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_sound),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(refuses_what_the_table_does_not_allow),
		cmocka_unit_test(bad_bodies),
		cmocka_unit_test(bad_frames),
		cmocka_unit_test(any_cut_of_the_stream),
		cmocka_unit_test(slow_peer),
		cmocka_unit_test(memory_faults),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
