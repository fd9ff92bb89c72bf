/* SPDX-License-Identifier: Apache-2.0 */
/* Rule 14 of the threat model; CVE-2022-0811. */
#include "container/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

static void test_table(void **state)
{
	static const struct {
		const char *key;
		int         ns;
	} rows[] = {
		{ "net.ipv4.ip_forward", OCI_NS_NETWORK },
		{ "net/ipv4/ip_forward", OCI_NS_NETWORK },
		{ "net.ipv4.conf.eth0/1.forwarding", OCI_NS_NETWORK },
		{ "net/ipv4/conf/eth0.1/forwarding", OCI_NS_NETWORK },
		{ "net.core.somaxconn", OCI_NS_NETWORK },
		{ "kernel.shmmax", OCI_NS_IPC },
		{ "kernel.shm_rmid_forced", OCI_NS_IPC },
		{ "fs.mqueue.msg_max", OCI_NS_IPC },
		{ "kernel.domainname", OCI_NS_UTS },
		{ "user.max_net_namespaces", OCI_NS_USER },
		{ "kernel.core_pattern", -EPERM },
		{ "kernel/core_pattern", -EPERM },
		{ "kernel.sysrq", -EPERM },
		{ "kernel.modprobe", -EPERM },
		{ "kernel.shmmaxx", -EPERM },
		{ "kernel.sem.x", -EPERM },
		{ "vm.overcommit_memory", -EPERM },
		{ "fs.file-max", -EPERM },
		{ "fs.mqueue", -EPERM },
		{ "net", -EPERM },
		{ "net.ipv4", -EPERM },
		{ "netx.ipv4.x", -EPERM },
		{ "net.new_family.x", -EPERM },
		{ "", -EINVAL },
		{ ".", -EINVAL },
		{ "net..ipv4", -EINVAL },
		{ "net.ipv4.", -EINVAL },
		{ "/kernel/sem", -EINVAL },
		{ "net/../kernel/core_pattern", -EINVAL },
		{ "net.ipv4.//.kernel.core_pattern", -EINVAL }, /* slashes are dots: ".." */
		{ "net/ipv4/./x", -EINVAL },
		{ "kernel.shmmax\nkernel.core_pattern", -EINVAL },
		{ "kernel.shmmax=1+kernel.core_pattern", -EPERM },
		{ "kernel.shm rmid", -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (sysctl_namespace(rows[i].key) != rows[i].ns) {
			fail_msg("'%s' is %d", rows[i].key, sysctl_namespace(rows[i].key));
		}
	}
	char long_key[600] = "net.ipv4.";

	memset(long_key + 9, 'a', sizeof(long_key) - 10);
	assert_int_equal(sysctl_namespace(long_key), -EINVAL);
}

static void test_check(void **state)
{
	struct jpair pair = { .key = "net.ipv4.ip_forward", .value = "1" };
	struct oci_namespace ns = { .type = OCI_NS_NETWORK };
	struct oci_linux l = { .sysctl = { .v = &pair, .n = 1 } };
	struct err e = ERR_INIT;
	char big[5000];

	(void)state;
	assert_int_equal(sysctl_check(NULL, &e), 0);
	assert_int_equal(sysctl_check(&l, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "network"));
	l.namespaces = (struct jvec){ .v = &ns, .n = 1 };
	assert_int_equal(sysctl_check(&l, &e), 0);
	/* Joined, but our own: the host's. */
	ns.path = "/proc/self/ns/net";
	assert_int_equal(sysctl_check(&l, &e), -EINVAL);
	ns.path = "/proc/self/ns/none";
	assert_int_equal(sysctl_check(&l, &e), -EINVAL);
	ns.path = NULL;
	pair.key = "kernel.core_pattern";
	assert_int_equal(sysctl_check(&l, &e), -EINVAL);
	assert_string_equal(e.field, "/linux/sysctl");
	pair.key = "net.ipv4.ip_forward";
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	pair.value = big;
	assert_int_equal(sysctl_check(&l, &e), -EINVAL);
}

/* In a child with an IPC namespace of its own: what is written is read back, and nothing
 * outside the table is written even when the check was left out. */
static int apply_child(void)
{
	struct jpair good[] = { { "kernel.shmmni", "1234" }, { "fs/mqueue/msg_max", "77" } };
	struct jpair bad = { "kernel.core_pattern", "|/evil" };
	struct jpair wrong = { "kernel.shmmni", "1\nx" };
	struct jmap g = { .v = good, .n = 2 }, b = { .v = &bad, .n = 1 }, w = { .v = &wrong, .n = 1 };
	auto_close int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e = ERR_INIT;
	char text[32] = "";
	FILE *f = NULL;

	if (unshare(CLONE_NEWIPC) < 0 || sysctl_apply(proc, &g, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	f = fopen("/proc/sys/kernel/shmmni", "re");
	if (!f || !fgets(text, sizeof(text), f) || strcmp(text, "1234\n") != 0) {
		return 2;
	}
	fclose(f);
	if (sysctl_apply(proc, &b, &e) != -EINVAL) {
		return 3;
	}
	return sysctl_apply(proc, &w, &e) < 0 ? 0 : 4;
}

static void test_apply(void **state)
{
	int status = 0;
	pid_t pid = 0;

	(void)state;
	if (geteuid() != 0) {
		print_message("needs root\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		_exit(apply_child());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_apply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
