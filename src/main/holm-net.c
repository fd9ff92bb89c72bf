/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-net: gives the network namespace of a process the user network. Run by holm-shim between
 * the creation and the start of an instance, so that nothing of the instance runs yet:
 *
 *   1. pasta, which goes to the background once it serves
 *   2. routes to what an instance must not reach are taken away (threat model, rule 22)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cmd.h"
#include "base/fd.h"
#include "net/pasta.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/socket.h"

struct opts {
	const char *pasta, *pid_file;
};

#define IN(m) offsetof(struct opts, m)
static const struct cmd_opt opts[] = {
	{ 0, "pasta", CMD_STR, IN(pasta), "PATH", "the program", .dflt = "/usr/bin/pasta",
	  .complete = CMD_COMPLETE_FILE },
	{ 0, "pid-file", CMD_STR, IN(pid_file), "FILE", "where pasta writes its number",
	  .flags = CMD_REQUIRED, .complete = CMD_COMPLETE_FILE },
};
#undef IN

static int run_pasta(const struct opts *o, const char *pid, struct err *e)
{
	auto_strv struct strv args = STRV_INIT;
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	siginfo_t si;

	if (pasta_args(&args, o->pasta, pid, o->pid_file) < 0) {
		return err_nomem(e);
	}
	pid_t child = sys_fork();

	if (child == 0) {
		execve(args.v[0], args.v, env);
		_exit(errno == ENOENT ? 127 : 126);
	}
	int r = child < 0 ? child : sys_waitid(P_PID, (id_t)child, &si, WEXITED);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "start %s", o->pasta);
	}
	int status = proc_exit_status(&si);

	return status == 0 ? 0 : status == 127 ?
	       err_set(e, ENOENT, ERR_HOST, "%s is not installed: install passt, or use --network "
		       "none or host", o->pasta) :
	       err_set(e, EIO, ERR_HOST, "pasta failed (status %d): the host may have no network; "
		       "use --network none or host", status);
}

struct route_request {
	struct nlmsghdr head;
	struct rtmsg    msg;
	char            attrs[64];
};

/* A route that leads nowhere, more specific than the one that pasta made. */
static int deny(int nl_fd, const char *denied)
{
	struct route_request q = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
			  .nlmsg_type = RTM_NEWROUTE,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE },
		.msg = { .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
			 .rtm_type = RTN_BLACKHOLE },
	};
	char text[64], reply[512];
	uint64_t bits = 0;
	uint8_t addr[16];

	snprintf(text, sizeof(text), "%s", denied);
	char *slash = strchr(text, '/');

	if (!slash || parse_u64(slash + 1, 128, &bits) < 0) {
		return -EINVAL;
	}
	*slash = '\0';
	q.msg.rtm_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	q.msg.rtm_dst_len = (unsigned char)bits;
	if (inet_pton(q.msg.rtm_family, text, addr) != 1) {
		return -EINVAL;
	}
	struct rtattr *a = (struct rtattr *)(void *)((char *)&q + NLMSG_ALIGN(q.head.nlmsg_len));
	size_t n = q.msg.rtm_family == AF_INET6 ? 16 : 4;

	a->rta_type = RTA_DST;
	a->rta_len = (unsigned short)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), addr, n);
	q.head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q.head.nlmsg_len) + RTA_ALIGN(a->rta_len));

	struct iovec iov = { .iov_base = &q, .iov_len = q.head.nlmsg_len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r = sys_sendmsg(nl_fd, &msg, 0);

	iov = (struct iovec){ .iov_base = reply, .iov_len = sizeof(reply) };
	r = r < 0 ? r : sys_recvmsg(nl_fd, &msg, 0);
	if (r < (ssize_t)(sizeof(struct nlmsghdr) + sizeof(int))) {
		return r < 0 ? (int)r : -EPROTO;
	}
	const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)reply;

	return h->nlmsg_type == NLMSG_ERROR ?
	       ((const struct nlmsgerr *)NLMSG_DATA(h))->error : -EPROTO;
}

static int deny_all(const char *pid, struct err *e)
{
	auto_free char *path = str_printf("/proc/%s/ns/net", pid);
	auto_close int ns = path ? sys_openat(AT_FDCWD, path, O_RDONLY, 0) : -ENOMEM;
	int r = ns < 0 ? ns : sys_setns(ns, CLONE_NEWNET);
	auto_close int nl_fd = r < 0 ? -1 : sys_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	r = r < 0 ? r : nl_fd < 0 ? nl_fd : 0;
	for (size_t i = 0; r == 0 && net_denied[i]; i++) {
		r = deny(nl_fd, net_denied[i]);
		if ((r == -EOPNOTSUPP || r == -EAFNOSUPPORT || r == -ENODEV || r == -EACCES) &&
		    strchr(net_denied[i], ':')) {
			r = 0; /* IPv6 is off: nothing to deny */
		}
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "deny the metadata addresses") : 0;
}

static int run(const struct cmd_call *call, struct err *e)
{
	const char *pid = call->args[0];
	uint64_t n;

	if (parse_u64(pid, INT32_MAX, &n) < 0 || n < 2) {
		return err_set(e, EINVAL, ERR_INVALID, "PID: not a process: %s", pid);
	}
	int r = run_pasta(call->opts, pid, e);

	return r < 0 ? r : deny_all(pid, e);
}

static const struct cmd root = {
	.name = "holm-net", .args = "PID", .min_args = 1, .max_args = 1, .opts = opts,
	.n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct opts), .run = run,
	.help = "give a process's network namespace the user network",
	.text = "Starts pasta for it, and takes away the routes to addresses that an instance must "
		"not reach. Run by holm-shim.",
};

int main(int argc, char **argv)
{
	return cmd_main(&root, argc, argv, NULL);
}
