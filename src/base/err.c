/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct err_code_desc err_codes[ERR__COUNT] = {
	[ERR_NONE]        = { "none",        200, 0 },
	[ERR_INVALID]     = { "invalid",     400, 2 },
	[ERR_NOT_FOUND]   = { "not-found",   404, 3 },
	[ERR_CONFLICT]    = { "conflict",    409, 4 },
	[ERR_DENIED]      = { "denied",      403, 5 },
	[ERR_UNSUPPORTED] = { "unsupported", 501, 6 },
	[ERR_LIMIT]       = { "limit",       429, 7 },
	[ERR_UNAVAILABLE] = { "unavailable", 503, 8 },
	[ERR_HOST]        = { "host",        500, 1 },
};

static int fill(struct err *e, int errnum, enum err_code code)
{
	e->errnum = errnum > 0 ? errnum : EIO;
	e->code = code == ERR_NONE ? ERR_HOST : code;
	e->command = false;
	e->field[0] = '\0';
	return -e->errnum;
}

int err_set(struct err *e, int errnum, enum err_code code, const char *fmt, ...)
{
	int r = fill(e, errnum, code);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return r;
}

int err_field(struct err *e, const char *field, const char *fmt, ...)
{
	int r = fill(e, EINVAL, ERR_INVALID);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	(void)snprintf(e->field, sizeof(e->field), "%s", field);
	return r;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char context[sizeof(e->msg)];
	char whole[2 * sizeof(e->msg) + 2];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);

	(void)snprintf(whole, sizeof(whole), "%s: %s", context, e->msg);
	whole[sizeof(e->msg) - 1] = '\0';
	memcpy(e->msg, whole, sizeof(e->msg));
	if (e->errnum == 0) {
		(void)fill(e, EIO, ERR_HOST);
	}
	return -e->errnum;
}

void err_prefix_field(struct err *e, const char *prefix)
{
	char whole[2 * sizeof(e->field)];

	(void)snprintf(whole, sizeof(whole), "%s%s", prefix, e->field);
	whole[sizeof(e->field) - 1] = '\0';
	memcpy(e->field, whole, sizeof(e->field));
}

int err_nomem(struct err *e)
{
	return err_set(e, ENOMEM, ERR_HOST, "out of memory");
}

void err_clear(struct err *e)
{
	*e = (struct err)ERR_INIT;
}

const char *err_text(const struct err *e, char *out, size_t out_bytes)
{
	const char *sep = e->field[0] ? ": " : "";

	if (e->code == ERR_HOST && e->errnum > 0) {
		(void)snprintf(out, out_bytes, "%s%s%s: %s", e->field, sep, e->msg,
			       strerror(e->errnum));
	} else {
		(void)snprintf(out, out_bytes, "%s%s%s", e->field, sep, e->msg);
	}
	return out;
}

enum err_code err_code_of_errno(int errnum)
{
	switch (errnum) {
	case EINVAL:
	case ENAMETOOLONG:
		return ERR_INVALID;
	case ENOENT:
	case ESRCH:
		return ERR_NOT_FOUND;
	case EEXIST:
	case EBUSY:
		return ERR_CONFLICT;
	case EPERM:
	case EACCES:
		return ERR_DENIED;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	case EDQUOT:
	case E2BIG:
		return ERR_LIMIT;
	case EAGAIN:
	case ECONNREFUSED:
	case ETIMEDOUT:
		return ERR_UNAVAILABLE;
	default:
		return ERR_HOST;
	}
}

enum err_code err_code_parse(const char *name)
{
	enum err_code c = ERR_NONE;

	while (c < ERR__COUNT && strcmp(err_codes[c].name, name) != 0) {
		c++;
	}
	return c;
}

const char *err_reason(const struct err *e)
{
	return !e->command ? "other" :
	       e->errnum == ENOENT || e->errnum == ENOTDIR ? "command-not-found" :
							     "command-not-executable";
}
