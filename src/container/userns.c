/* SPDX-License-Identifier: Apache-2.0 */
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/proc.h"

int userns_to_host(const struct jvec *maps, uint64_t id, uint64_t *ret)
{
	const struct oci_id_map *m = maps->v;

	if (maps->n == 0) {
		*ret = id;
		return 0;
	}
	for (size_t i = 0; i < maps->n; i++) {
		if (id >= m[i].container_id && id - m[i].container_id < m[i].size) {
			*ret = m[i].host_id + (id - m[i].container_id);
			return 0;
		}
	}
	return -ERANGE;
}

static int write_proc(pid_t pid, const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return sys_write_file(AT_FDCWD, path, text, strlen(text));
}

static void format_maps(const struct jvec *maps, struct buf *b)
{
	const struct oci_id_map *m = maps->v;

	for (size_t i = 0; i < maps->n; i++) {
		buf_printf(b, "%llu %llu %llu\n", (unsigned long long)m[i].container_id,
			   (unsigned long long)m[i].host_id, (unsigned long long)m[i].size);
	}
}

/* newuidmap PID INSIDE OUTSIDE COUNT ... */
static int run_helper(const char *helper, pid_t pid, const struct jvec *maps, struct err *e)
{
	const struct oci_id_map *m = maps->v;
	auto_strv struct strv argv = STRV_INIT;
	siginfo_t si;
	int r = strv_add(&argv, helper);

	r = r < 0 ? r : strv_addf(&argv, "%d", (int)pid);
	for (size_t i = 0; r == 0 && i < maps->n; i++) {
		r = strv_addf(&argv, "%llu", (unsigned long long)m[i].container_id);
		r = r < 0 ? r : strv_addf(&argv, "%llu", (unsigned long long)m[i].host_id);
		r = r < 0 ? r : strv_addf(&argv, "%llu", (unsigned long long)m[i].size);
	}
	if (r < 0) {
		return err_nomem(e);
	}

	pid_t child = sys_fork();

	if (child == 0) {
		char *const env[] = { NULL };
		static const char *const dirs[] = { "/usr/bin", "/bin", "/usr/local/bin" };

		for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
			char path[64];

			snprintf(path, sizeof(path), "%s/%s", dirs[i], helper);
			execve(path, argv.v, env);
		}
		_exit(127);
	}
	r = child < 0 ? child : sys_waitid(P_PID, (id_t)child, &si, WEXITED);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot run %s", helper);
	}

	int status = proc_exit_status(&si);

	if (status == 127) {
		return err_set(e, ENOENT, ERR_UNSUPPORTED,
			       "%s is not there; install the package uidmap", helper);
	}
	if (status != 0) {
		return err_set(e, EPERM, ERR_DENIED, "%s refused the id mappings; see %s", helper,
			       str_eq(helper, "newuidmap") ? "/etc/subuid" : "/etc/subgid");
	}
	return 0;
}

static bool only_own(const struct jvec *maps, uint64_t own)
{
	const struct oci_id_map *m = maps->v;

	return maps->n == 1 && m[0].size == 1 && m[0].host_id == own;
}

int userns_write_maps(pid_t pid, const struct oci_linux *l, bool *ret_setgroups, struct err *e)
{
	auto_buf struct buf uids = BUF_INIT, gids = BUF_INIT;
	int r;

	*ret_setgroups = true;
	format_maps(&l->uid_mappings, &uids);
	format_maps(&l->gid_mappings, &gids);
	if (buf_failed(&uids) || buf_failed(&gids)) {
		return err_nomem(e);
	}
	if (l->gid_mappings.n > 0) {
		r = write_proc(pid, "gid_map", buf_str(&gids));
		if (r == -EPERM && only_own(&l->gid_mappings, getegid())) {
			*ret_setgroups = false;
			r = write_proc(pid, "setgroups", "deny");
			r = r < 0 ? r : write_proc(pid, "gid_map", buf_str(&gids));
		} else if (r == -EPERM && geteuid() != 0) {
			r = run_helper("newgidmap", pid, &l->gid_mappings, e);
			if (r < 0) {
				return r;
			}
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot write the mapping of group ids");
		}
	}
	if (l->uid_mappings.n > 0) {
		r = write_proc(pid, "uid_map", buf_str(&uids));
		if (r == -EPERM && geteuid() != 0) {
			return run_helper("newuidmap", pid, &l->uid_mappings, e);
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot write the mapping of user ids");
		}
	}
	return 0;
}
