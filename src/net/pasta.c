/* SPDX-License-Identifier: Apache-2.0 */
#include "net/pasta.h"

const char *const net_denied[] = { "169.254.169.254/32", "fd00:ec2::254/128", NULL };

int pasta_helper_args(struct strv *ret, const char *helper, const char *pasta)
{
	const char *const args[] = { helper, "--pasta", pasta, "--pid-file", "{pidfile}", "{pid}" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(args) && r == 0; i++) {
		r = strv_add(ret, args[i]);
	}
	return r;
}

/*
 * No port is forwarded in, neither from outside nor from the host's loopback, and the host itself
 * is not reachable through its gateway's address. Namespaces go as descriptors that it inherits:
 * it gives up capabilities before it opens anything, and then may not look at another's.
 */
int pasta_args(struct strv *ret, const char *pasta, const char *pid_file, int net_fd, int user_fd)
{
	const char *const args[] = {
		pasta, "--quiet", "--runas", "0:0", "--config-net", "--no-map-gw", "-t", "none",
		"-u", "none", "-T", "none", "-U", "none", "--dns-forward", PASTA_DNS, "--pid",
		pid_file, "--netns",
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(args) && r == 0; i++) {
		r = strv_add(ret, args[i]);
	}
	r = r < 0 ? r : strv_addf(ret, "/proc/self/fd/%d", net_fd);
	if (r == 0 && user_fd >= 0) {
		r = strv_add(ret, "--userns");
		r = r < 0 ? r : strv_addf(ret, "/proc/self/fd/%d", user_fd);
	}
	return r;
}
