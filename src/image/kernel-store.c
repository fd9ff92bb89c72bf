/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of kernels: what is in it, and taking out of it. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/kernel-private.h"
#include "image/kernel.h"
#include "sys/file.h"

bool kernel__name_valid(const char *name)
{
	return name_valid(name) && !str_eq(name, KERNEL_DEFAULT);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int kernel__names(int dir_fd, bool (*keep)(const char *name), struct strv *ret, struct err *e)
{
	DIR *dir = NULL;
	const struct dirent *entry;
	int r = sys_opendir(dir_fd, ".", &dir);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "reading the folder of kernels");
	}
	while (r == 0 && (entry = readdir(dir))) {
		r = keep(entry->d_name) && strv_add(ret, entry->d_name) < 0 ? err_nomem(e) : 0;
	}
	(void)closedir(dir); /* only read */
	if (ret->n > 1) {
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	}
	return r;
}

int kernel_list(int dir_fd, struct strv *ret, char **ret_default, struct err *e)
{
	char target[KERNEL_NAME_MAX + 64];
	ssize_t n = sys_readlinkat(dir_fd, KERNEL_DEFAULT, target, sizeof(target) - 1);
	int r = kernel__names(dir_fd, kernel__name_valid, ret, e);

	*ret_default = NULL;
	if (r == 0 && n > 0) {
		target[n] = '\0';
		*ret_default = strv_has(ret, target) ? str_dup(target) : NULL;
	}
	return r;
}

int kernel_remove(int dir_fd, const char *name, struct err *e)
{
	auto_strv struct strv all = STRV_INIT;
	auto_free char *dflt = NULL;
	int r = kernel_list(dir_fd, &all, &dflt, e);

	if (r < 0) {
		return r;
	}
	if (!strv_has(&all, name)) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "no kernel %.60s", name);
	}
	if (str_eq0(dflt, name)) {
		r = sys_unlinkat(dir_fd, KERNEL_DEFAULT, 0);
	}
	/* Away in one step, then piece by piece. */
	r = r < 0 ? r : sys_renameat2(dir_fd, name, dir_fd, KERNEL__NEW "removed", 0);
	r = r < 0 ? r : sys_fsync(dir_fd);
	r = r < 0 ? r : sys_remove_tree(dir_fd, KERNEL__NEW "removed");
	return r < 0 ? err_set(e, -r, ERR_HOST, "removing the kernel %s", name) : 0;
}
