/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/http.h"
#include "sys/file.h"
#include "sys/socket.h"

/* A server that takes one request and sends one canned reply, a few bytes at a time. */
struct server {
	char        dir[32];
	char        path[64];
	int         fd;
	const char *reply;
	struct buf  request;
	pthread_t   thread;
};

static void *serve(void *ud)
{
	struct server *s = ud;
	int fd = sys_accept4(s->fd, 0);
	char data[4096];

	for (;;) {
		ssize_t n = sys_read(fd, data, sizeof(data));

		if (n <= 0) {
			break;
		}
		buf_add(&s->request, data, (size_t)n);
		const char *head_end = strstr(buf_str(&s->request), "\r\n\r\n");

		if (head_end && (!strstr(buf_str(&s->request), "chunked") || strstr(head_end, "\r\n0\r\n\r\n"))) {
			break;
		}
	}
	for (const char *p = s->reply; *p;) {
		size_t n = strlen(p) < 7 ? strlen(p) : 7;

		if (sys_write_full(fd, p, n) < 0) {
			break;
		}
		p += n;
	}
	fd_close(&fd);
	return NULL;
}

static void start(struct server *s, const char *reply)
{
	*s = (struct server){ .dir = "/tmp/holm-test-XXXXXX", .fd = -1, .reply = reply };
	assert_non_null(mkdtemp(s->dir));
	auto_close int dir = sys_openat(AT_FDCWD, s->dir, O_RDONLY | O_DIRECTORY, 0);

	(void)snprintf(s->path, sizeof(s->path), "%s/s", s->dir);
	s->fd = sock_listen_at(dir, "s", 0);
	assert_true(s->fd >= 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	fd_close(&s->fd);
	buf_fini(&s->request);
	assert_int_equal(sys_remove_tree(AT_FDCWD, s->dir), 0);
}

static int get(struct server *s, const char *reply, json_t **ret, struct err *e)
{
	start(s, reply);
	struct http_call call = { .socket = s->path, .method = "GET", .path = "/v1/x" };

	return http_json(&call, ret, e);
}

static void test_bodies_of_every_kind(void **state)
{
	(void)state;
	static const char *const replies[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}ignored",
		("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n"
		 "4;ext=1\r\n\":1}\r\n0\r\n\r\n"),
		"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:7\r\n\r\n{\"a\":1}",
	};

	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		auto_json json_t *j = NULL;
		struct err e = ERR_INIT;
		struct server s;

		assert_int_equal(get(&s, replies[i], &j, &e), 0);
		assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
		stop(&s);
	}
}

static void test_no_body(void **state)
{
	(void)state;
	auto_json json_t *j = NULL;
	struct err e = ERR_INIT;
	struct server s;

	assert_int_equal(get(&s, "HTTP/1.1 204 No Content\r\n\r\n", &j, &e), 0);
	assert_null(j);
	stop(&s);
}

static void test_an_error_reply_is_an_err(void **state)
{
	(void)state;
	auto_json json_t *j = NULL;
	struct err e = ERR_INIT;
	struct server s;
	char text[256];

	assert_true(get(&s, "HTTP/1.1 409 Conflict\r\n\r\n"
			"{\"error\":{\"code\":\"conflict\",\"message\":\"it runs\",\"field\":\"/name\"}}", &j,
			&e) < 0);
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_string_equal(err_text(&e, text, sizeof(text)), "/name: it runs");
	stop(&s);
}

static void test_broken_replies(void **state)
{
	(void)state;
	static const char *const replies[] = {
		"", "HTTP/1.1 200", "nonsense\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
	};

	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		auto_json json_t *j = NULL;
		struct err e = ERR_INIT;
		struct server s;

		assert_true(get(&s, replies[i], &j, &e) < 0);
		assert_true(e.msg[0] != '\0');
		stop(&s);
	}
}

static void test_nobody_listens(void **state)
{
	(void)state;
	struct http_call call = { .socket = "/tmp/holm-no-such-socket", .method = "GET", .path = "/" };
	auto_json json_t *j = NULL;
	struct err e = ERR_INIT;

	assert_true(http_json(&call, &j, &e) < 0);
	assert_int_equal(e.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(e.msg, "/tmp/holm-no-such-socket; start it with"));
}

static void test_a_streamed_body(void **state)
{
	(void)state;
	auto_http struct http_reply *r = NULL;
	struct err e = ERR_INIT;
	struct server s;
	int fds[2];
	const char *line = NULL;

	assert_int_equal(sys_pipe2(fds, 0), 0);
	assert_int_equal(sys_write_full(fds[1], "hello", 5), 0);
	fd_close(&fds[1]);
	start(&s, "HTTP/1.1 200 OK\r\nX-Thing: v\r\n\r\none\ntwo\nend");
	struct http_call call = { .socket = s.path, .method = "PUT", .path = "/", .body_fd = fds[0] };

	assert_int_equal(http_open(&call, &r, &e), 0);
	assert_string_equal(http_header(r, "x-thing"), "v");
	assert_null(http_header(r, "x-other"));
	assert_int_equal(http_line(r, &line), 1);
	assert_string_equal(line, "one");
	assert_int_equal(http_line(r, &line), 1);
	assert_int_equal(http_line(r, &line), 1);
	assert_string_equal(line, "end");
	assert_int_equal(http_line(r, &line), 0);
	assert_non_null(strstr(buf_str(&s.request), "5\r\nhello\r\n0\r\n\r\n"));
	fd_close(&fds[0]);
	stop(&s);
}

static void test_upgrade_keeps_early_bytes(void **state)
{
	(void)state;
	auto_http struct http_reply *r = NULL;
	auto_buf struct buf early = BUF_INIT;
	struct err e = ERR_INIT;
	struct server s;

	start(&s, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: holm-attach\r\n\r\n");
	struct http_call call = { .socket = s.path, .method = "POST", .path = "/",
				  .upgrade = "holm-attach" };

	assert_int_equal(http_open(&call, &r, &e), 0);
	auto_close int fd = http_take_fd(r, &early);

	assert_true(fd >= 0);
	assert_non_null(strstr(buf_str(&s.request), "Upgrade: holm-attach"));
	stop(&s);
}

static void test_paths_are_escaped(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;

	buf_add_str(&b, "/v1");
	http_segment(&b, "a/b c");
	http_query(&b, "x", "1&2");
	http_query(&b, "none", NULL);
	http_query(&b, "y", "\xc3\xa4");
	assert_string_equal(buf_str(&b), "/v1/a%2Fb%20c?x=1%262&y=%C3%A4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies_of_every_kind),
		cmocka_unit_test(test_no_body),
		cmocka_unit_test(test_an_error_reply_is_an_err),
		cmocka_unit_test(test_broken_replies),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_a_streamed_body),
		cmocka_unit_test(test_upgrade_keeps_early_bytes),
		cmocka_unit_test(test_paths_are_escaped),
	};

	/* A client that has seen enough closes while the server still writes. */
	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail */
	return TEST_RUN(tests);
}
