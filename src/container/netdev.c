/* SPDX-License-Identifier: Apache-2.0 */
#include "container/netdev.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/socket.h"

/* The kernel's macros step through a buffer of char; all steps keep NLMSG_ALIGNTO. */
#pragma GCC diagnostic ignored "-Wcast-align"

/* One request: header, family header, attributes. */
struct request {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
	};
	char            room[256];
};

static void add_attr(struct request *q, unsigned short type, const void *data, size_t n)
{
	struct rtattr *a = (struct rtattr *)(void *)((char *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	/* Names and addresses: all that comes here is small. */
	assert(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_SPACE(n) <= sizeof(*q));
	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), data, n);
	q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + (unsigned)RTA_ALIGN(a->rta_len);
}

static int send_request(int fd, const struct request *q)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)q, .iov_len = q->h.nlmsg_len };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r = sys_sendmsg(fd, &msg, 0);

	return r < 0 ? (int)r : 0;
}

static ssize_t receive(int fd, void *buf, size_t n)
{
	struct iovec iov = { .iov_base = buf, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sys_recvmsg(fd, &msg, 0);
}

/* Send, and wait for the kernel's answer. */
static int talk(int fd, struct request *q)
{
	union {
		struct nlmsghdr h;
		char            room[4096];
	} answer;
	int r;

	q->h.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	r = send_request(fd, q);
	if (r < 0) {
		return r;
	}

	ssize_t n = receive(fd, &answer, sizeof(answer));

	if (n < 0) {
		return (int)n;
	}
	if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.h.nlmsg_type != NLMSG_ERROR) {
		return -EPROTO;
	}
	return ((const struct nlmsgerr *)NLMSG_DATA(&answer.h))->error;
}

static int open_netlink(struct err *e)
{
	int fd = sys_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	return fd < 0 ? err_set(e, -fd, ERR_HOST, "cannot open a netlink socket") : fd;
}

static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= IFNAMSIZ || str_eq(s, ".") || str_eq(s, "..")) {
		return false;
	}
	return strcspn(s, "/: \t\n\v\f\r%") == n;
}

static const char *inside_name(const struct oci_linux *l, size_t i)
{
	const struct oci_net_device *d = l->net_devices.v;

	return d[i].name && *d[i].name ? d[i].name : l->net_devices.keys[i];
}

int netdevs_check(const struct oci_linux *l, struct err *e)
{
	if (l->net_devices.n == 0) {
		return 0;
	}
	if (!oci_linux_ns(l, OCI_NS_NETWORK)) {
		return err_field(e, "/linux/netDevices", "needs a network namespace in /linux/namespaces");
	}
	if (l->net_devices.n > NETDEV_MAX) {
		return err_field(e, "/linux/netDevices", "at most %d devices", NETDEV_MAX);
	}
	for (size_t i = 0; i < l->net_devices.n; i++) {
		if (!name_ok(l->net_devices.keys[i]) || !name_ok(inside_name(l, i))) {
			return err_field(e, "/linux/netDevices", "\"%.40s\" as \"%.40s\": no name of a "
					 "network device", l->net_devices.keys[i], inside_name(l, i));
		}
		for (size_t k = 0; k < i; k++) {
			if (str_eq(inside_name(l, i), inside_name(l, k))) {
				return err_field(e, "/linux/netDevices", "two devices named %s",
						 inside_name(l, i));
			}
		}
	}
	return 0;
}

/* One address of the dump, if it is of a device of ours and stays with it. */
static int keep_addr(struct netdevs *n, const struct ifaddrmsg *m, size_t len)
{
	struct netdev_addr a = { .family = m->ifa_family, .prefix = m->ifa_prefixlen,
				 .flags = m->ifa_flags, .scope = m->ifa_scope };
	const struct rtattr *rta = IFA_RTA(m);
	bool has_local = false;

	for (a.device = 0; a.device < n->n && n->v[a.device].index != m->ifa_index; a.device++) {
	}
	if (a.device == n->n || !(m->ifa_flags & IFA_F_PERMANENT) ||
	    m->ifa_scope != RT_SCOPE_UNIVERSE) {
		return 0;
	}
	for (; RTA_OK(rta, len); rta = RTA_NEXT(rta, len)) {
		size_t k = RTA_PAYLOAD(rta);

		if (k > sizeof(a.address) || (rta->rta_type != IFA_ADDRESS && rta->rta_type != IFA_LOCAL)) {
			continue;
		}
		a.len = (unsigned char)k;
		memcpy(rta->rta_type == IFA_LOCAL ? a.local : a.address, RTA_DATA(rta), k);
		has_local |= rta->rta_type == IFA_LOCAL;
	}
	if (!has_local) {
		memcpy(a.local, a.address, sizeof(a.local));
	}
	if (n->n_addrs == NETDEV_ADDR_MAX) {
		return -E2BIG;
	}
	n->addrs[n->n_addrs++] = a;
	return 0;
}

static int read_addrs(int fd, struct netdevs *n)
{
	struct request q = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
				    .nlmsg_type = RTM_GETADDR,
				    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	int r = send_request(fd, &q);

	while (r == 0) {
		union {
			struct nlmsghdr h;
			char            room[32768];
		} buf;
		ssize_t got = receive(fd, &buf, sizeof(buf));

		if (got <= 0) {
			return got < 0 ? (int)got : -EPROTO;
		}
		unsigned left = (unsigned)got;

		for (const struct nlmsghdr *h = &buf.h; r == 0 && NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE) {
				return 0;
			}
			if (h->nlmsg_type == NLMSG_ERROR) {
				return -EIO;
			}
			if (h->nlmsg_type == RTM_NEWADDR &&
			    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifaddrmsg))) {
				r = keep_addr(n, NLMSG_DATA(h), IFA_PAYLOAD(h));
			}
		}
	}
	return r;
}

int netdevs_take(const struct oci_linux *l, struct netdevs *ret, struct err *e)
{
	*ret = (struct netdevs){ .n = 0 };
	if (l->net_devices.n == 0) {
		return 0;
	}
	for (size_t i = 0; i < l->net_devices.n; i++) {
		struct netdev *d = &ret->v[ret->n++];

		snprintf(d->host, sizeof(d->host), "%s", l->net_devices.keys[i]);
		snprintf(d->name, sizeof(d->name), "%s", inside_name(l, i));
		d->index = if_nametoindex(d->host);
		if (d->index == 0) {
			return err_field(e, "/linux/netDevices", "there is no network device %s",
					 d->host);
		}
	}

	auto_close int fd = open_netlink(e);
	int r = fd < 0 ? fd : read_addrs(fd, ret);

	return r == 0 || fd < 0 ? r : err_set(e, -r, ERR_HOST,
					      "cannot read the addresses of /linux/netDevices");
}

int netdevs_move(const struct netdevs *n, int netns_fd, struct err *e)
{
	auto_close int fd = n->n ? open_netlink(e) : -1;
	uint32_t ns = (uint32_t)netns_fd;

	for (size_t i = 0; i < n->n && fd >= 0; i++) {
		struct request q = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
					    .nlmsg_type = RTM_NEWLINK },
				     .link = { .ifi_index = (int)n->v[i].index,
					       .ifi_change = IFF_UP } };
		int r = talk(fd, &q); /* down: only then it can be renamed */

		if (r == 0) {
			q.link.ifi_change = 0;
			add_attr(&q, IFLA_NET_NS_FD, &ns, sizeof(ns));
			add_attr(&q, IFLA_IFNAME, n->v[i].name, strlen(n->v[i].name) + 1);
			r = talk(fd, &q);
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot move the network device %s",
				       n->v[i].host);
		}
	}
	return n->n && fd < 0 ? fd : 0;
}

int netdevs_up(const struct netdevs *n, struct err *e)
{
	auto_close int fd = n->n ? open_netlink(e) : -1;
	unsigned index[NETDEV_MAX] = { 0 };
	int r = 0;

	for (size_t i = 0; i < n->n && fd >= 0 && r == 0; i++) {
		struct request q = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
					    .nlmsg_type = RTM_NEWLINK },
				     .link = { .ifi_change = IFF_UP, .ifi_flags = IFF_UP } };

		index[i] = if_nametoindex(n->v[i].name);
		q.link.ifi_index = (int)index[i];
		r = index[i] ? talk(fd, &q) : -ENODEV;
	}
	for (size_t i = 0; i < n->n_addrs && fd >= 0 && r == 0; i++) {
		const struct netdev_addr *a = &n->addrs[i];
		struct request q = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
					    .nlmsg_type = RTM_NEWADDR,
					    .nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL },
				     .addr = { .ifa_family = a->family, .ifa_prefixlen = a->prefix,
					       .ifa_flags = a->flags, .ifa_scope = a->scope,
					       .ifa_index = index[a->device] } };

		add_attr(&q, IFA_LOCAL, a->local, a->len);
		add_attr(&q, IFA_ADDRESS, a->address, a->len);
		r = talk(fd, &q);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot set up /linux/netDevices in the container");
	}
	return n->n && fd < 0 ? fd : 0;
}
