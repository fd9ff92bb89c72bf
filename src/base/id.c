/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/str.h"

int id_new(struct id *ret)
{
	unsigned char bytes[ID_LEN / 2];
	ssize_t n = getrandom(bytes, sizeof(bytes), 0);

	if (n != (ssize_t)sizeof(bytes)) {
		return n < 0 ? -errno : -EIO;
	}
	hex_format(bytes, sizeof(bytes), ret->text);
	return 0;
}

bool id_valid(const char *s)
{
	return strlen(s) == ID_LEN && strspn(s, "0123456789abcdef") == ID_LEN;
}
