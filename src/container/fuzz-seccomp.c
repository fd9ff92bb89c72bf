/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seccomp section that is accepted compiles or is refused with a reason; the program that
 * comes out ends in bounds, and goes through the cache unchanged.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "container/seccomp-priv.h"
#include "sys/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char cache[] = "/tmp/holm-fuzz-seccomp-XXXXXX";
static int cache_fd = -1;

static void at_end(void)
{
	ignore_result(sys_remove_tree(AT_FDCWD, cache)); /* nothing more to do about it */
}

/* Every jump stays inside, and the last instruction does not fall off. */
static void check_program(const struct seccomp_filter *f)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct sock_filter *s = &f->insns[i];

		if (BPF_CLASS(s->code) == BPF_JMP && BPF_OP(s->code) == BPF_JA) {
			assert(i + 1 + s->k < f->n);
		} else if (BPF_CLASS(s->code) == BPF_JMP) {
			assert(i + 1 + s->jt < f->n && i + 1 + s->jf < f->n);
		}
	}
	assert(BPF_CLASS(f->insns[f->n - 1].code) == BPF_RET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_(seccomp_filter_fini) struct seccomp_filter f = SECCOMP_FILTER_INIT;
	auto_(seccomp_filter_fini) struct seccomp_filter again = SECCOMP_FILTER_INIT;
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	struct err e = ERR_INIT;
	struct oci_seccomp s;

	if (cache_fd < 0) {
		assert(mkdtemp(cache));
		atexit(at_end);
		log_setup("fuzz", 2, LOG_FORMAT_PLAIN, LOG_LEVEL_ERROR);
		assert(seccomp_cache_open(AT_FDCWD, cache, &cache_fd, &e) == 0);
	}
	if (size > 8192 || json_parse((const char *)data, size, &json_limits_request, "x", &doc, &e) < 0 ||
	    jtable_parse(&oci_seccomp_table, doc, &a, &s, &e) < 0) {
		return 0;
	}
	if (seccomp_compile(&s, cache_fd, &f, &e) < 0) {
		assert(e.errnum > 0 && e.msg[0] && !f.insns);
		return 0;
	}
	check_program(&f);
	assert(seccomp_compile(&s, cache_fd, &again, &e) == 0 && again.from_cache);
	assert(again.n == f.n && again.flags == f.flags && again.notify == f.notify &&
	       memcmp(again.insns, f.insns, f.n * sizeof(*f.insns)) == 0);
	return 0;
}
