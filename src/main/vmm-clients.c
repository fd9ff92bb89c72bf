/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's door: it accepts who connects to the control socket and to the debugger's, and hands
 * them to the monitor if they may (docs/decisions/103). The monitor could not tell: in its user
 * namespace every user but its own looks the same.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "main/vmm.h"
#include "sys/socket.h"
#include "wire/vmm-proto.h"

enum { REST_MS = 100 };

bool vmm_link_listens(const struct vmm_link *l)
{
	return l->open && !wire_conn_pending(&l->wire);
}

/* Who connects by the loopback interface is nobody in particular: that is what was asked for. */
static bool may(struct vmm_link *l, int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	int domain = 0;
	socklen_t len = sizeof(domain);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_INET) {
		return true;
	}
	if (domain == AF_UNIX && sock_peer(fd, &peer) == 0 &&
	    (peer.uid == 0 || peer.uid == geteuid())) {
		return true;
	}
	if (!l->refused) {
		char uid[16];

		(void)snprintf(uid, sizeof(uid), "%u", peer.uid);
		log_warn("another user tried to drive this machine; more is not reported", "uid", uid);
		l->refused = true;
	}
	return false;
}

void vmm_link_accept(struct vmm_link *l, int listen_fd, bool debugger)
{
	/* The debugger's protocol is read as it comes, and written in one go. */
	auto_close int fd = sys_accept4(listen_fd, debugger ? 0 : SOCK_NONBLOCK);
	const struct vmm_client m = { .fd = fd, .debugger = debugger };

	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
		(void)poll(NULL, 0, REST_MS); /* it waits in the queue, and so do we */
	}
	if (fd >= 0 && may(l, fd) &&
	    wire_conn_send(&l->wire, &vmm_msgs[VMM_CLIENT], 1, &m) < 0) {
		vmm_link_close(l); /* the monitor ended */
	}
}
