/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "vm/cpu/soft/oracle-compare.h"

bool differ(struct difference *d, const char *what, const void *ours, const void *theirs, size_t n)
{
	char hex[2][80] = { "", "" };

	if (memcmp(ours, theirs, n) == 0) {
		return false;
	}
	for (size_t k = 0; k < n && k < 32; k++) {
		(void)snprintf(hex[0] + 2 * k, 3, "%02x", ((const uint8_t *)ours)[k]);
		(void)snprintf(hex[1] + 2 * k, 3, "%02x", ((const uint8_t *)theirs)[k]);
	}
	(void)snprintf(d->text, sizeof(d->text), "%s: ours %.64s host %.64s", what, hex[0], hex[1]);
	return true;
}

bool differ64(struct difference *d, const char *what, uint64_t ours, uint64_t theirs)
{
	if (ours == theirs) {
		return false;
	}
	(void)snprintf(d->text, sizeof(d->text), "%s: ours %llx host %llx", what,
		       (unsigned long long)ours, (unsigned long long)theirs);
	return true;
}

bool differ_xsave(struct difference *d, uint8_t *ours, uint8_t *theirs)
{
	char name[16];

	if (!(theirs[512] & 4)) {
		memset(theirs + 576, 0, 256);
	}
	if (differ(d, "fcw", ours, theirs, 2) || differ(d, "fsw", ours + 2, theirs + 2, 2) ||
	    differ(d, "ftw", ours + 4, theirs + 4, 1) ||
	    differ(d, "fop", ours + 6, theirs + 6, 2) ||
	    differ(d, "fip", ours + 8, theirs + 8, 8) ||
	    differ(d, "fdp", ours + 16, theirs + 16, 8) ||
	    differ(d, "mxcsr", ours + 24, theirs + 24, 4)) {
		return true;
	}
	for (unsigned k = 0; k < 8; k++) {
		(void)snprintf(name, sizeof(name), "st%u", k);
		if (differ(d, name, ours + 32 + 16 * k, theirs + 32 + 16 * k, 10)) {
			return true;
		}
	}
	for (unsigned k = 0; k < 16; k++) {
		(void)snprintf(name, sizeof(name), "vector %u", k);
		if (differ(d, name, ours + 160 + 16 * k, theirs + 160 + 16 * k, 16) ||
		    differ(d, name, ours + 576 + 16 * k, theirs + 576 + 16 * k, 16)) {
			return true;
		}
	}
	return false;
}
