/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* What one event writes in a format. */
static void logged(enum log_format format, char *out, size_t out_bytes)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	log_setup("test", fds[1], format, LOG_LEVEL_INFO);
	log_debug("not shown");
	log_info("line\none", "key", "two words", "plain", "v", "none", (const char *)NULL);
	close(fds[1]);
	ssize_t n = read(fds[0], out, out_bytes - 1);

	close(fds[0]);
	assert_true(n > 0);
	out[n] = '\0';
}

static void test_a_line_stays_one_line(void **state)
{
	(void)state;
	char out[512];

	logged(LOG_FORMAT_PLAIN, out, sizeof(out));
	assert_string_equal(out, "test: line\\x0aone key=\"two words\" plain=v none=\"\"\n");
	logged(LOG_FORMAT_TEXT, out, sizeof(out));
	assert_non_null(strstr(out, "Z info test: line\\x0aone key="));
	logged(LOG_FORMAT_JSON, out, sizeof(out));
	assert_non_null(strstr(out, "\"msg\":\"line\\u000aone\",\"key\":\"two words\""));
	assert_int_equal(strncmp(out, "{\"level\":\"info\",\"time\":\"", 24), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_stays_one_line),
	};

	return TEST_RUN(tests);
}
