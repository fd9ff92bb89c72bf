/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf(2), as far as device rules of v2 cgroups need it. Conventions of sys/sys.h.
 */
#ifndef SYS_BPF_H
#define SYS_BPF_H

#include <linux/bpf.h>

#include "sys/sys.h"

/* Load a program; `log` (may be NULL) gets what the verifier says. A descriptor or -errno. */
int sys_bpf_prog_load(enum bpf_prog_type type, const struct bpf_insn *insns, size_t n,
		      char *log, size_t log_bytes) must_check;

/* Attach to a v2 cgroup beside what is there, or instead of `replace_fd` if that is not -1. */
int sys_bpf_attach(int cgroup_fd, int prog_fd, enum bpf_attach_type type, int replace_fd) must_check;
int sys_bpf_detach(int cgroup_fd, int prog_fd, enum bpf_attach_type type) must_check;

/* The ids of the programs attached to a cgroup itself; returns how many there are, which may
 * be more than `max`. */
int sys_bpf_query(int cgroup_fd, enum bpf_attach_type type, uint32_t *ret_ids, size_t max) must_check;

int sys_bpf_prog_open(uint32_t id) must_check;

#endif
