/* SPDX-License-Identifier: Apache-2.0 */
#include "container/idmap.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "oci/spec.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/procfs.h"

char *idmap_format(const struct jvec *maps)
{
	auto_buf struct buf b = BUF_INIT;
	const struct oci_id_map *v = maps->v;

	buf_add_str(&b, "");
	for (size_t i = 0; i < maps->n; i++) {
		buf_printf(&b, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", v[i].container_id,
			   v[i].host_id, v[i].size);
	}
	return buf_take(&b);
}

static int write_map(int proc_fd, pid_t pid, const char *file, const struct jvec *maps)
{
	auto_free char *text = idmap_format(maps);
	char path[64];

	if (!text) {
		return -ENOMEM;
	}
	(void)snprintf(path, sizeof(path), "%d/%s", (int)pid, file); /* fits by far */
	return procfs_write(proc_fd, path, text, strlen(text));
}

static int open_userns(int proc_fd, pid_t pid)
{
	auto_close int dir_fd = -1;
	char path[64];

	(void)snprintf(path, sizeof(path), "%d/ns", (int)pid); /* fits by far */
	dir_fd = procfs_openat(proc_fd, path, O_PATH | O_DIRECTORY);
	/* A magic link, of a process that is ours, in a procfs that is ours. */
	return dir_fd < 0 ? dir_fd : sys_openat(dir_fd, "user", O_RDONLY, 0);
}

int idmap_userns_open(const struct jvec *uids, const struct jvec *gids, int *ret_fd,
		      struct err *e)
{
	auto_close int proc_fd = procfs_open(PROCFS_PID_ONLY);
	auto_close int pidfd = -1;
	auto_close int ns_fd = -1;

	if (proc_fd < 0) {
		return err_set(e, -proc_fd, ERR_HOST, "open procfs for an id mapping");
	}
	pid_t pid = sys_clone3(CLONE_NEWUSER, -1, &pidfd);

	if (pid == 0) {
		ignore_result(sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)); /* cannot fail */
		for (;;) {
			(void)pause(); /* until we are killed */
		}
	}
	if (pid < 0) {
		return err_set(e, (int)-pid, ERR_HOST, "make a user namespace for an id mapping");
	}

	const char *what = "uid_map";
	int r = write_map(proc_fd, pid, "uid_map", uids);

	if (r == 0) {
		what = "gid_map";
		r = write_map(proc_fd, pid, "gid_map", gids);
	}
	if (r == 0) {
		what = "ns/user";
		ns_fd = open_userns(proc_fd, pid);
		r = ns_fd < 0 ? ns_fd : 0;
	}
	ignore_result(sys_pidfd_send_signal(pidfd, SIGKILL)); /* it is there: we have not waited */
	ignore_result(sys_waitid(P_PIDFD, (id_t)pidfd, NULL, WEXITED)); /* nothing to do about it */
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "id mapping: %s", what);
	}
	*ret_fd = take_fd(&ns_fd);
	return 0;
}
