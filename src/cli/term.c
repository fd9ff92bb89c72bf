/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/term.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/str.h"

int term_raw_start(struct term_raw *t, int fd)
{
	struct termios raw;

	if (!isatty(fd)) {
		return 0;
	}
	if (tcgetattr(fd, &t->saved) < 0) {
		return -errno;
	}
	raw = t->saved;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
		return -errno;
	}
	t->fd = fd;
	return 0;
}

void term_raw_stop(struct term_raw *t)
{
	if (t->fd >= 0) {
		(void)tcsetattr(t->fd, TCSADRAIN, &t->saved); /* the terminal may be gone */
		t->fd = -1;
	}
}

int term_size(int fd, uint16_t *ret_rows, uint16_t *ret_columns)
{
	struct winsize ws = { .ws_row = 0 };

	*ret_rows = *ret_columns = 0;
	if (ioctl(fd, TIOCGWINSZ, &ws) < 0) {
		return -errno;
	}
	*ret_rows = ws.ws_row;
	*ret_columns = ws.ws_col;
	return 0;
}

static int key_value(const char *s, size_t len)
{
	if (len == 1) {
		return (unsigned char)s[0];
	}
	if (len == 6 && memcmp(s, "ctrl-", 5) == 0) {
		char c = s[5];

		if (c >= 'a' && c <= 'z') {
			return c - 'a' + 1;
		}
		if (c >= '@' && c <= '_') {
			return c - '@';
		}
	}
	return -EINVAL;
}

int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *e)
{
	const char *cursor = text, *part;
	struct detach_keys d = { .n = 0 };
	size_t len;

	while (*text && str_split(&cursor, ',', &part, &len)) {
		int key = key_value(part, len);

		if (key < 0 || d.n == DETACH_KEYS_MAX) {
			return err_set(e, EINVAL, ERR_INVALID,
				       "--detach-keys: '%s' is not a list such as ctrl-p,ctrl-q", text);
		}
		d.keys[d.n++] = (unsigned char)key;
	}
	*ret = d;
	return 0;
}

bool detach_keys_feed(struct detach_keys *d, const unsigned char *in, size_t n,
		      unsigned char *out, size_t *ret_n)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		if (d->n > 0 && in[i] == d->keys[d->matched]) {
			if (++d->matched == d->n) {
				d->matched = 0;
				*ret_n = len;
				return true;
			}
			continue;
		}
		memcpy(out + len, d->keys, d->matched);
		len += d->matched;
		d->matched = 0;
		if (d->n > 0 && in[i] == d->keys[0]) {
			d->matched = 1; /* it may begin anew here */
		} else {
			out[len++] = in[i];
		}
	}
	*ret_n = len;
	return false;
}
