/* SPDX-License-Identifier: Apache-2.0 */
#include "container/self.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/proc.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char **self_argv;

void self_init(char **argv)
{
	self_argv = argv;
}

bool self_writable_by(const struct oci_linux *l)
{
	const struct oci_namespace *user = oci_linux_ns(l, OCI_NS_USER);
	const struct oci_id_map *m = l ? l->uid_mappings.v : NULL;
	struct stat st;

	/* Of a namespace that is joined the mappings are not known here. */
	if (!user || user->path || l->uid_mappings.n == 0 ||
	    sys_fstatat(AT_FDCWD, "/proc/self/exe", &st, 0) < 0 || (st.st_mode & 0022)) {
		return true;
	}
	for (size_t i = 0; i < l->uid_mappings.n; i++) {
		if (st.st_uid >= m[i].host_id && st.st_uid - m[i].host_id < m[i].size) {
			return true;
		}
	}
	return false;
}

/* How much of the file is loaded: what follows (debug information) is not copied. */
static int loaded_bytes(int fd, size_t *ret)
{
	Elf64_Ehdr eh;
	struct stat st;
	size_t end = 0;
	int r = sys_fstat(fd, &st);

	if (r < 0) {
		return r;
	}
	if (sys_pread(fd, &eh, sizeof(eh), 0) != (ssize_t)sizeof(eh) ||
	    eh.e_phentsize != sizeof(Elf64_Phdr)) {
		return -ENOEXEC;
	}
	for (size_t i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		if (sys_pread(fd, &ph, sizeof(ph), (int64_t)(eh.e_phoff + i * sizeof(ph))) !=
		    (ssize_t)sizeof(ph)) {
			return -ENOEXEC;
		}
		end = MAX(end, (size_t)(ph.p_offset + ph.p_filesz));
	}
	*ret = MIN(end, (size_t)st.st_size);
	return 0;
}

static int copy(int from, int to, size_t n)
{
	off_t off = 0;

	while ((size_t)off < n) {
		ssize_t k = sendfile(to, from, &off, n - (size_t)off);

		if (k <= 0) {
			return k < 0 ? -errno : -EIO;
		}
	}
	return 0;
}

static int make_copy(int exe_fd, int *ret_fd)
{
	size_t n = 0;
	int r = loaded_bytes(exe_fd, &n);
	auto_close int fd = r < 0 ? r : sys_memfd_create("holm-oci", MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd == -EINVAL) {
		fd = sys_memfd_create("holm-oci", MFD_ALLOW_SEALING); /* before Linux 6.3 */
	}
	r = fd < 0 ? fd : copy(exe_fd, fd, n);
	r = r < 0 ? r : sys_fcntl(fd, F_ADD_SEALS, SEALS);
	if (r == 0) {
		*ret_fd = take_fd(&fd);
	}
	return r;
}

int self_seal(struct err *e)
{
	auto_close int exe_fd = sys_openat(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0);
	auto_close int fd = -1;
	char *no_args[] = { NULL };

	if (exe_fd < 0) {
		return err_set(e, -exe_fd, ERR_HOST, "cannot open /proc/self/exe");
	}
	/* Another file system than a memfd's does not know the question. */
	int seals = sys_fcntl(exe_fd, F_GET_SEALS, 0);

	if (seals >= 0 && (seals & SEALS) == SEALS) {
		return 0;
	}
	if (seals < 0 && seals != -EINVAL) {
		/* Not taken for a no: a copy that does not know itself would copy itself for ever. */
		return err_set(e, -seals, ERR_HOST, "cannot see whether this program is sealed");
	}
	int r = make_copy(exe_fd, &fd);

	if (r == 0) {
		r = sys_execveat(fd, "", self_argv ? self_argv : no_args, environ, AT_EMPTY_PATH);
	}
	return err_set(e, -r, ERR_HOST, "cannot execute a sealed copy of this program");
}
