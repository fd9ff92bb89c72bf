/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/map.h"

#include <errno.h>
#include <sys/mman.h>

int sys_mmap(size_t bytes, int prot, int flags, int fd, uint64_t offset, void **ret)
{
	int r = sys__fault(SYS_CALL_mmap);

	if (r < 0) {
		return r;
	}
	void *at = mmap(NULL, bytes, prot, flags, fd, (off_t)offset);

	if (at == MAP_FAILED) {
		return -errno;
	}
	*ret = at;
	return 0;
}

static int map_at(void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
	int r = sys__fault(SYS_CALL_mmap);

	if (r < 0) {
		return r;
	}
	return mmap(at, bytes, prot, flags, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}

int sys_mmap_over(void *at, size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
	return map_at(at, bytes, prot, flags | MAP_FIXED, fd, offset);
}

int sys_mmap_free(void *at, size_t bytes, int prot, int flags)
{
	return map_at(at, bytes, prot, flags | MAP_FIXED_NOREPLACE, -1, 0);
}

int sys_mremap_again(void *at, size_t bytes, void **ret)
{
	void *again = mremap(at, 0, bytes, MREMAP_MAYMOVE);

	if (again == MAP_FAILED) {
		return -errno;
	}
	*ret = again;
	return 0;
}

int sys_mprotect(void *at, size_t bytes, int prot)
{
	return sys__ret(mprotect(at, bytes, prot));
}

int sys_munmap(void *at, size_t bytes)
{
	return sys__ret(munmap(at, bytes));
}

int sys_madvise(void *at, size_t bytes, int advice)
{
	int r = sys__fault(SYS_CALL_madvise);

	return r < 0 ? r : sys__ret(madvise(at, bytes, advice));
}
