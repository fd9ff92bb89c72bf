/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much D-Bus as talking to systemd needs, and no library: the runtime is linked
 * statically, where sd-bus cannot be loaded. Only container/cgroup-systemd.c includes this.
 *
 * A call is written into a struct dbus_out in the order of its signature, and answered by a
 * body that is read the same way. As with struct buf, errors are asked for once at the end.
 *
 *	struct dbus_out body = DBUS_OUT_INIT;
 *	dbus_put_str(&body, unit);
 *	dbus_put_str(&body, "replace");
 *	r = dbus_call(bus, &(struct dbus_call){ .path = ..., .member = "StopUnit", .sig = "ss",
 *						 .body = &body }, &reply, e);
 */
#ifndef CONTAINER_CGROUP_DBUS_H
#define CONTAINER_CGROUP_DBUS_H

#include "base/err.h"
#include "base/str.h"

struct dbus_out {
	struct buf b;
};
#define DBUS_OUT_INIT { .b = BUF_INIT }

void dbus_out_fini(struct dbus_out *o);
void dbus_put_u8(struct dbus_out *o, uint8_t v);
void dbus_put_bool(struct dbus_out *o, bool v);
void dbus_put_u32(struct dbus_out *o, uint32_t v);
void dbus_put_u64(struct dbus_out *o, uint64_t v);
void dbus_put_str(struct dbus_out *o, const char *s);   /* also object paths */
void dbus_put_sig(struct dbus_out *o, const char *s);
void dbus_put_struct(struct dbus_out *o);               /* the alignment that begins one */

/* An array: its elements stand between the two calls. @align of its elements, 1 to 8. */
struct dbus_array {
	size_t len_at, start;
};
struct dbus_array dbus_array_begin(struct dbus_out *o, size_t align);
void dbus_array_end(struct dbus_out *o, struct dbus_array a);

/* A message that came; `body` points into `data`. Free with free(data). */
struct dbus_msg {
	char       *data;
	uint8_t     type;             /* DBUS_* */
	uint32_t    serial, reply_serial;
	char        path[256], interface[128], member[128], error[128], sig[64];
	const char *body;
	size_t      body_len;
};

enum { DBUS_CALL = 1, DBUS_RETURN = 2, DBUS_ERROR = 3, DBUS_SIGNAL = 4 };

/*
 * Take a whole message apart. Returns its length, 0 if the bytes are not all there yet,
 * -EBADMSG if it is none, -ENOMEM. Bodies over 1 MiB are refused.
 */
ssize_t dbus_msg_parse(const void *data, size_t n, struct dbus_msg *ret) must_check;

/* Reading a body; `ok` goes false at the first thing that is not there, and stays so. */
struct dbus_in {
	const char *p;
	size_t      len, at;
	bool        ok;
};
struct dbus_in dbus_in(const struct dbus_msg *m);
uint8_t     dbus_get_u8(struct dbus_in *in);
uint32_t    dbus_get_u32(struct dbus_in *in);
const char *dbus_get_str(struct dbus_in *in);   /* "" when not ok; points into the message */
const char *dbus_get_sig(struct dbus_in *in);

struct dbus;

/*
 * Connect to systemd itself (its private socket), or, where there is none, to the message
 * bus.
 *
 * @user   the caller's own manager instead of the system's
 */
int dbus_open(bool user, struct dbus **ret, struct err *e) must_check;
struct dbus *dbus_close(struct dbus *bus);
AUTO_PTR(struct dbus, dbus_close)

struct dbus_call {
	const char            *dest, *path, *interface, *member, *sig;
	const struct dbus_out *body;   /* NULL: none */
};

/*
 * Call and wait for the answer. A remote error is ERR_HOST with its text in e; its name is
 * in ret->error. Signals that come meanwhile are kept for dbus_wait_signal().
 */
int dbus_call(struct dbus *bus, const struct dbus_call *c, struct dbus_msg *ret,
	      struct err *e) must_check;

/* The next signal `member` for which `match` says true. -ETIMEDOUT after half a minute. */
int dbus_wait_signal(struct dbus *bus, const char *member,
		     bool (*match)(const struct dbus_msg *m, void *ud), void *ud,
		     struct err *e) must_check;

#endif
