/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "image/progress.h"
#include "json/json.h"
#include "sys/file.h"

static const char digest[] =
	"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* Run `fn` with progress in a mode; what it wrote is appended to *out. */
static void record(enum progress_mode mode, void (*fn)(struct progress *p), struct buf *out)
{
	auto_close int fd = sys_memfd_create("progress", 0);
	struct progress *p = progress_new(mode, fd);

	assert_true(fd >= 0);
	assert_non_null(p);
	fn(p);
	progress_free(p);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(sys_read_fd(fd, 1 << 20, out), 0);
}

static void story(struct progress *p)
{
	size_t a = progress_add(p, digest, "layer", 2048);
	size_t b = progress_add(p, "x\x1b[31m", "config", 0);

	progress_set(p, a, PROGRESS_ACTIVE, 1024);
	progress_set(p, b, PROGRESS_EXISTS, 0);
	progress_text(p, "a\x1b]0;title\x07 text");
	progress_set(p, a, PROGRESS_DONE, 2048);
	progress_set(p, 77, PROGRESS_DONE, 1);   /* no such item: nothing */
	progress_image(p, "n:1", digest);

	struct err e = ERR_INIT;

	ignore_result(err_set(&e, ENOENT, ERR_NOT_FOUND, "gone")); /* only to fill it */
	progress_error(p, &e);
}

static void as_json(unused_arg void **state)
{
	auto_buf struct buf out = BUF_INIT;
	const char *cursor, *part;
	size_t len, items = 0, last_done = 0;
	char types[128] = "";

	record(PROGRESS_JSON, story, &out);
	cursor = buf_str(&out);
	while (str_split(&cursor, '\n', &part, &len) && len > 0) {
		auto_json json_t *line = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(json_parse(part, len, &json_limits_request, "line", &line, &e), 0);

		const char *type = json_string_value(json_object_get(line, "type"));

		assert_non_null(type);
		types[strlen(types)] = type[0] == 'i' && type[1] == 'm' ? 'I' : type[0];
		if (str_eq(type, "item")) {
			items++;
			last_done = (size_t)json_integer_value(json_object_get(line, "done"));
		}
	}
	assert_true(items >= 3);
	assert_int_equal(last_done, 2048);
	assert_non_null(strchr(types, 't'));
	/* The image and the error come last, in this order. */
	assert_true(str_ends(types, "Ie"));
}

static void as_lines(unused_arg void **state)
{
	auto_buf struct buf out = BUF_INIT;

	record(PROGRESS_PLAIN, story, &out);
	assert_null(strchr(buf_str(&out), '\x1b'));
	assert_non_null(strstr(buf_str(&out), "0123456789ab  layer     done  2KiB\n"));
	assert_non_null(strstr(buf_str(&out), "config    exists\n"));
	assert_non_null(strstr(buf_str(&out), "n:1  sha256:0123"));
}

/* Bars are erased before what is above them is written; nothing from outside escapes. */
static void as_bars(unused_arg void **state)
{
	auto_buf struct buf out = BUF_INIT;

	record(PROGRESS_TERMINAL, story, &out);
	assert_null(strstr(buf_str(&out), "\x1b[31m"));
	assert_null(strstr(buf_str(&out), "\x1b]0"));
	assert_non_null(strstr(buf_str(&out), "layer     done"));
}

static void as_nothing(unused_arg void **state)
{
	auto_buf struct buf out = BUF_INIT;

	record(PROGRESS_SILENT, story, &out);
	assert_int_equal(out.len, 0);
	story(NULL);
	for (size_t i = 0; i < PROGRESS_STATE__COUNT; i++) {
		assert_non_null(progress_state_names[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_json), cmocka_unit_test(as_lines), cmocka_unit_test(as_bars),
		cmocka_unit_test(as_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
