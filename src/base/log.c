/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

const char *const log_level_names[LOG_LEVEL__COUNT] = {
	[LOG_LEVEL_ERROR]  = "error",
	[LOG_LEVEL_WARN]   = "warning",
	[LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO]   = "info",
	[LOG_LEVEL_DEBUG]  = "debug",
};

static struct {
	const char     *program;
	int             fd;
	enum log_format format;
	enum log_level  level;
} sink = { "holm", STDERR_FILENO, LOG_FORMAT_PLAIN, LOG_LEVEL_NOTICE };

void log_setup(const char *program, int fd, enum log_format format, enum log_level level)
{
	sink.program = program;
	sink.fd = fd;
	sink.format = format;
	sink.level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= sink.level;
}

/* A value on a line of text: quoted if it holds anything that could be taken for structure. */
static void add_text(struct buf *b, const char *s, bool quote)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f) {
			buf_printf(b, "\\x%02x", c);
		} else if (quote && (c == '"' || c == '\\')) {
			buf_printf(b, "\\%c", c);
		} else {
			buf_add_char(b, (char)c);
		}
	}
}

static void add_json(struct buf *b, const char *s)
{
	buf_add_char(b, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f) {
			buf_printf(b, "\\u%04x", c);
		} else if (c == '"' || c == '\\') {
			buf_printf(b, "\\%c", c);
		} else {
			buf_add_char(b, (char)c);
		}
	}
	buf_add_char(b, '"');
}

static void add_pair(struct buf *b, const char *key, const char *value)
{
	if (sink.format == LOG_FORMAT_JSON) {
		buf_add_char(b, ',');
		add_json(b, key);
		buf_add_char(b, ':');
		add_json(b, value);
		return;
	}
	bool quote = value[0] == '\0' || strpbrk(value, " \t\n\"\\=") != NULL;

	buf_printf(b, quote ? " %s=\"" : " %s=", key);
	add_text(b, value, quote);
	buf_add_str(b, quote ? "\"" : "");
}

static void add_head(struct buf *b, enum log_level level, const char *msg)
{
	struct time_text now = time_format(clock_wall_ns());

	switch (sink.format) {
	case LOG_FORMAT_TEXT:
		buf_printf(b, "%s %s %s: ", now.text, log_level_names[level], sink.program);
		add_text(b, msg, false);
		break;
	case LOG_FORMAT_JSON:
		buf_printf(b, "{\"level\":\"%s\",\"time\":\"%s\",\"msg\":",
			   log_level_names[level], now.text);
		add_json(b, msg);
		break;
	case LOG_FORMAT_PLAIN:
		buf_printf(b, "%s: ", sink.program);
		if (level == LOG_LEVEL_WARN || level == LOG_LEVEL_DEBUG) {
			buf_printf(b, "%s: ", log_level_names[level]);
		}
		add_text(b, msg, false);
		break;
	}
}

void log_event(enum log_level level, const char *msg, ...)
{
	if (!log_enabled(level)) {
		return;
	}
	auto_buf struct buf b = BUF_INIT;
	const char *key;
	va_list ap;

	add_head(&b, level, msg);
	va_start(ap, msg);
	while ((key = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);

		add_pair(&b, key, value ? value : "");
	}
	va_end(ap);
	buf_add_str(&b, sink.format == LOG_FORMAT_JSON ? "}\n" : "\n");
	if (b.len > 0) {
		/* One write keeps lines whole; there is nowhere to report a failing log. */
		ignore_result(write(sink.fd, b.data, b.len));
	}
}

void log_err(enum log_level level, const struct err *e)
{
	char text[sizeof(e->msg) + sizeof(e->field) + 128];

	log_event(level, err_text(e, text, sizeof(text)), NULL);
}
