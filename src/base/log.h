/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a process: one line an event, as text or JSON, to one descriptor.
 *
 * Only the edges of a program log above debug (see base/err.h). Ids are fields, not prose:
 *
 *	log_warn("exit status lost", "instance", id, "shim", pid_text);
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR,   /* action needed */
	LOG_LEVEL_WARN,    /* degraded; says what was done instead */
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL__COUNT,
};

enum log_format {
	LOG_FORMAT_TEXT,   /* time level message key=value ... */
	LOG_FORMAT_JSON,   /* {"level":...,"msg":...,"time":...}: what runc's callers read */
	LOG_FORMAT_PLAIN,  /* program: message key=value ... : for a person at a terminal */
};

extern const char *const log_level_names[LOG_LEVEL__COUNT];

/*
 * Where lines go from now on. `fd` is borrowed and stays open; `program` is a literal.
 * Before the first call: plain text, level notice, standard error.
 */
void log_setup(const char *program, int fd, enum log_format format, enum log_level level);

bool log_enabled(enum log_level level);

/* `...`: pairs of const char * (key, value), ended by NULL. A NULL value prints as "". */
void log_event(enum log_level level, const char *msg, ...) __attribute__((sentinel));

#define log_error(...)  log_event(LOG_LEVEL_ERROR, __VA_ARGS__, NULL)
#define log_warn(...)   log_event(LOG_LEVEL_WARN, __VA_ARGS__, NULL)
#define log_notice(...) log_event(LOG_LEVEL_NOTICE, __VA_ARGS__, NULL)
#define log_info(...)   log_event(LOG_LEVEL_INFO, __VA_ARGS__, NULL)
#define log_debug(...)  log_event(LOG_LEVEL_DEBUG, __VA_ARGS__, NULL)

/* Log an error as err_text() shows it. */
void log_err(enum log_level level, const struct err *e);

#endif
