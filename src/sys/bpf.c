/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/bpf.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int call(enum bpf_cmd cmd, union bpf_attr *attr)
{
	int r = sys__fault(SYS_CALL_bpf);

	return r ? r : sys__ret((int)syscall(SYS_bpf, cmd, attr, sizeof(*attr)));
}

static uint64_t address(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

int sys_bpf_prog_load(enum bpf_prog_type type, const struct bpf_insn *insns, size_t n, char *log,
		      size_t log_bytes)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr)); /* padding too: the kernel checks it */
	attr.prog_type = type;
	attr.insns = address(insns);
	attr.insn_cnt = (uint32_t)n;
	attr.license = address("Apache-2.0");
	if (log && log_bytes) {
		attr.log_buf = address(log);
		attr.log_size = (uint32_t)log_bytes;
		attr.log_level = 1;
	}
	return call(BPF_PROG_LOAD, &attr);
}

int sys_bpf_attach(int cgroup_fd, int prog_fd, enum bpf_attach_type type, int replace_fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)prog_fd;
	attr.attach_type = type;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	if (replace_fd >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)replace_fd;
	}
	return call(BPF_PROG_ATTACH, &attr);
}

int sys_bpf_detach(int cgroup_fd, int prog_fd, enum bpf_attach_type type)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)prog_fd;
	attr.attach_type = type;
	return call(BPF_PROG_DETACH, &attr);
}

int sys_bpf_query(int cgroup_fd, enum bpf_attach_type type, uint32_t *ret_ids, size_t max)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = (uint32_t)cgroup_fd;
	attr.query.attach_type = type;
	attr.query.prog_ids = address(ret_ids);
	attr.query.prog_cnt = (uint32_t)max;

	int r = call(BPF_PROG_QUERY, &attr);

	return r < 0 && r != -ENOSPC ? r : (int)attr.query.prog_cnt;
}

int sys_bpf_prog_open(uint32_t id)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	return call(BPF_PROG_GET_FD_BY_ID, &attr);
}
