/* SPDX-License-Identifier: Apache-2.0 */
/* Between ctl.c (connections, requests) and ctl-vsock.c (those that are about vsock). */
#ifndef VM_CTL_PRIV_H
#define VM_CTL_PRIV_H

#include "vm/ctl.h"
#include "wire/vmm-proto.h"

struct ctl_conn {
	struct list      link;
	struct vm_ctl   *ctl;
	struct wire_conn wire;
	struct loop_fd  *source;
	uint32_t         serial;      /* of the request in hand */
	bool             broken;
};

struct vm_ctl {
	struct vm       *vm;
	struct vm_gdb   *gdb;
	struct list      conns;
	unsigned         n_conns;
	struct ctl_conn *parent;      /* the keeper, and who answers if nobody else wants to */
	struct ctl_conn *server;      /* who asked to be asked, last */
	struct list      waiting;     /* connections to the guest that it has not accepted yet */
};

/* What a handler says when its reply comes later, by ctl__reply(). */
enum { CTL_LATER = 1 };

/* Fills *ret (descriptors in it are closed after it was sent, strings freed). */
typedef int ctl_request_fn(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			   struct err *e);

void ctl__send(struct ctl_conn *c, enum vmm_msg_type type, uint32_t serial, const void *msg);
void ctl__reply(struct ctl_conn *c, uint32_t serial, int r, const struct vmm_reply *done,
		const struct err *e);

/* ctl-vsock.c */
int  ctl__vsock_connect(struct ctl_conn *c, uint32_t port, struct err *e);
int  ctl__vsock_serve(struct ctl_conn *c, struct err *e);
int  ctl__vsock_answer(struct ctl_conn *c, struct vmm_vsock_answer *m, struct err *e);
int  ctl__vsock_list(struct ctl_conn *c, struct vmm_reply *ret, struct err *e);
int  ctl__vsock_take(struct ctl_conn *c, const struct vmm_vsock_conn *m, struct vmm_reply *ret,
		     struct err *e);
int  ctl__vsock_give(struct ctl_conn *c, struct vmm_vsock_conn *m, struct err *e);
void ctl__vsock_conn_gone(struct ctl_conn *c);   /* the connection ends */
void ctl__vsock_fini(struct vm_ctl *c);

#endif
