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

static int open_ns(const char *pid, const char *name)
{
	auto_free char *path = str_printf("/proc/%s/ns/%s", pid, name);

	return path ? sys_openat(AT_FDCWD, path, O_RDONLY, 0) : -ENOMEM;
}

/* Its user namespace is another than ours. */
static bool is_other(int user_fd)
{
	struct stat a, b;

	return sys_fstat(user_fd, &a) < 0 ||
	       sys_fstatat(AT_FDCWD, "/proc/self/ns/user", &b, 0) < 0 || a.st_ino != b.st_ino;
}

/* In the child: the namespaces at the numbers that the vector names. */
static noreturn_fn void exec_pasta(char *const *args, int net_fd, int user_fd)
{
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };

	if (sys_fcntl(net_fd, F_SETFD, 0) < 0 || sys_fcntl(user_fd, F_SETFD, 0) < 0) {
		_exit(126);
	}
	execve(args[0], args, env);
	_exit(errno == ENOENT ? 127 : 126);
}

static int run_pasta(const struct opts *o, int net_fd, int user_fd, struct err *e)
{
	auto_strv struct strv args = STRV_INIT;
	siginfo_t si;

	if (pasta_args(&args, o->pasta, o->pid_file, net_fd, is_other(user_fd) ? user_fd : -1) < 0) {
		return err_nomem(e);
	}
	pid_t child = sys_fork();

	if (child == 0) {
		exec_pasta(args.v, net_fd, user_fd);
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

static int deny_all(int net_fd, struct err *e)
{
	int r = sys_setns(net_fd, CLONE_NEWNET);
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
	auto_close int net_fd = open_ns(pid, "net");
	auto_close int user_fd = open_ns(pid, "user");

	if (net_fd < 0 || user_fd < 0) {
		return err_set(e, net_fd < 0 ? -net_fd : -user_fd, ERR_HOST,
			       "namespaces of process %s", pid);
	}
	int r = run_pasta(call->opts, net_fd, user_fd, e);

	return r < 0 ? r : deny_all(net_fd, e);
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
