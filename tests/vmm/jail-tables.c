/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the tables of src/vm/jail-tables.c, for the test that compares a monitor with them. */
#include <stdio.h>

#include "vm/dev/vdev.h"
#include "vm/jail.h"

static void numbers(const int *v, size_t n)
{
	printf("[");
	for (size_t i = 0; i < n; i++) {
		printf("%s%d", i ? "," : "", v[i]);
	}
	printf("]");
}

static void ioctls(enum jail_thread kind)
{
	bool any = false;

	printf("[");
	for (size_t i = 0; i < jail_ioctls_len; i++) {
		if (jail_ioctls[i].thread == kind) {
			printf("%s[%u,%u]", any ? "," : "", jail_ioctls[i].value, jail_ioctls[i].mask);
			any = true;
		}
	}
	printf("]");
}

int main(void)
{
	printf("{\"threads\":{");
	for (unsigned i = 0; i < JAIL_THREAD__COUNT; i++) {
		printf("%s\"%s\":{\"calls\":", i ? "," : "", jail_calls[i].name);
		numbers(jail_calls[i].calls, jail_calls[i].n);
		printf(",\"ioctls\":");
		ioctls((enum jail_thread)i);
		printf("}");
	}
	printf("},\"devices\":{");
	for (size_t i = 0; i < vdev_table_len; i++) {
		printf("%s\"%s\":", i ? "," : "", vdev_table[i]->name);
		numbers(vdev_table[i]->sandbox->syscalls, vdev_table[i]->sandbox->n_syscalls);
	}
	printf("},\"limits\":{");
	for (size_t i = 0; i < jail_limits_len; i++) {
		printf("%s\"%s\":%llu", i ? "," : "", jail_limits[i].name,
		       (unsigned long long)jail_limits[i].most);
	}
	printf("},\"namespaces\":[");
	for (size_t i = 0; i < jail_namespaces_len; i++) {
		printf("%s\"%s\"", i ? "," : "", jail_namespaces[i].name);
	}
	printf("]}\n");
	return 0;
}
