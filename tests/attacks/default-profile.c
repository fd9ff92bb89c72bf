/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the default seccomp profile for the capabilities given, for the tests' configs. */
#include <stdio.h>

#include "oci/default.h"

int main(int argc, char **argv)
{
	auto_arena struct arena a = ARENA_INIT;
	struct oci_seccomp *s = NULL;
	struct jstrv caps = { 0 };
	struct err e = ERR_INIT;

	for (int i = 1; i < argc; i++) {
		if (oci_strv_add(&caps, &a, argv[i]) < 0) {
			return 1;
		}
	}
	if (oci_default_seccomp(&caps, &a, &s, &e) < 0) {
		return 1;
	}
	auto_json json_t *j = jtable_format(&oci_seccomp_table, s);
	auto_free char *text = j ? json_text(j) : NULL;

	if (!text) {
		return 1;
	}
	puts(text);
	return 0;
}
