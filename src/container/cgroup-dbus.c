/* SPDX-License-Identifier: Apache-2.0 */
#include "container/cgroup-dbus.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"

enum {
	BODY_MAX = 1 << 20,
	HEADER_FIELDS_MAX = 1 << 16,
	FIXED = 16,             /* bytes before the header's fields, their length included */
	TIMEOUT_SECONDS = 30,
	SIGNALS_MAX = 256,
};

enum { F_PATH = 1, F_INTERFACE, F_MEMBER, F_ERROR, F_REPLY, F_DEST, F_SENDER, F_SIG };

struct dbus {
	int             fd;
	uint32_t        serial;
	uint64_t        until_ns;   /* when the call under way is given up */
	struct buf      in;
	struct dbus_msg signals[SIGNALS_MAX];
	size_t          n_signals;
};

void dbus_out_fini(struct dbus_out *o)
{
	buf_fini(&o->b);
}

static void align(struct dbus_out *o, size_t to)
{
	while (!o->b.failed && o->b.len % to) {
		buf_add_char(&o->b, '\0');
	}
}

void dbus_put_u8(struct dbus_out *o, uint8_t v)
{
	buf_add_char(&o->b, (char)v);
}

void dbus_put_u32(struct dbus_out *o, uint32_t v)
{
	align(o, 4);
	for (unsigned i = 0; i < 32; i += 8) {
		dbus_put_u8(o, (uint8_t)(v >> i));
	}
}

void dbus_put_bool(struct dbus_out *o, bool v)
{
	dbus_put_u32(o, v);
}

void dbus_put_u64(struct dbus_out *o, uint64_t v)
{
	align(o, 8);
	for (unsigned i = 0; i < 64; i += 8) {
		dbus_put_u8(o, (uint8_t)(v >> i));
	}
}

void dbus_put_str(struct dbus_out *o, const char *s)
{
	dbus_put_u32(o, (uint32_t)strlen(s));
	buf_add(&o->b, s, strlen(s) + 1);
}

void dbus_put_sig(struct dbus_out *o, const char *s)
{
	dbus_put_u8(o, (uint8_t)strlen(s));
	buf_add(&o->b, s, strlen(s) + 1);
}

void dbus_put_struct(struct dbus_out *o)
{
	align(o, 8);
}

struct dbus_array dbus_array_begin(struct dbus_out *o, size_t element_align)
{
	struct dbus_array a;

	dbus_put_u32(o, 0);
	a.len_at = o->b.len - 4;
	align(o, element_align);
	a.start = o->b.len;
	return a;
}

void dbus_array_end(struct dbus_out *o, struct dbus_array a)
{
	if (o->b.failed) {
		return;
	}
	size_t n = o->b.len - a.start;

	for (unsigned i = 0; i < 4; i++) {
		o->b.data[a.len_at + i] = (char)(n >> (8 * i));
	}
}

struct dbus_in dbus_in(const struct dbus_msg *m)
{
	return (struct dbus_in){ .p = m->body, .len = m->body_len, .ok = true };
}

static bool take(struct dbus_in *in, size_t to, size_t n)
{
	size_t pad = (to - in->at % to) % to;

	if (!in->ok || in->len - in->at < pad || in->len - in->at - pad < n) {
		in->ok = false;
		return false;
	}
	in->at += pad + n;
	return true;
}

uint8_t dbus_get_u8(struct dbus_in *in)
{
	return take(in, 1, 1) ? (uint8_t)in->p[in->at - 1] : 0;
}

uint32_t dbus_get_u32(struct dbus_in *in)
{
	uint32_t v = 0;

	if (take(in, 4, 4)) {
		for (unsigned i = 0; i < 4; i++) {
			v |= (uint32_t)(uint8_t)in->p[in->at - 4 + i] << (8 * i);
		}
	}
	return v;
}

static const char *text(struct dbus_in *in, size_t n)
{
	if (n >= BODY_MAX || !take(in, 1, n + 1)) {
		in->ok = false;
		return "";
	}
	const char *s = in->p + in->at - n - 1;

	if (s[n] != '\0' || strlen(s) != n) {
		in->ok = false;
		return "";
	}
	return s;
}

const char *dbus_get_str(struct dbus_in *in)
{
	uint32_t n = dbus_get_u32(in);

	return in->ok ? text(in, n) : "";
}

const char *dbus_get_sig(struct dbus_in *in)
{
	uint8_t n = dbus_get_u8(in);

	return in->ok ? text(in, n) : "";
}

/* One field of a header: a struct of a code and a variant. */
static void header_field(struct dbus_in *in, struct dbus_msg *m)
{
	ignore_result(take(in, 8, 0)); /* `ok` is looked at by the caller */
	uint8_t code = dbus_get_u8(in);
	const char *sig = dbus_get_sig(in);
	char *const to[] = { [F_PATH] = m->path, [F_INTERFACE] = m->interface, [F_MEMBER] = m->member,
			     [F_ERROR] = m->error, [F_SIG] = m->sig };
	const size_t size[] = { [F_PATH] = sizeof(m->path), [F_INTERFACE] = sizeof(m->interface),
				[F_MEMBER] = sizeof(m->member), [F_ERROR] = sizeof(m->error),
				[F_SIG] = sizeof(m->sig) };

	if (str_eq(sig, "u")) {
		uint32_t v = dbus_get_u32(in);

		m->reply_serial = code == F_REPLY ? v : m->reply_serial;
		return;
	}
	const char *s = str_eq(sig, "g") ? dbus_get_sig(in) :
			str_eq(sig, "s") || str_eq(sig, "o") ? dbus_get_str(in) : NULL;

	if (!s) {
		in->ok = false;
		return;
	}
	if (code < ARRAY_LEN(to) && to[code]) {
		snprintf(to[code], size[code], "%s", s);
	}
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

ssize_t dbus_msg_parse(const void *data, size_t n, struct dbus_msg *ret)
{
	const uint8_t *p = data;

	if (n < FIXED) {
		return 0;
	}
	uint32_t body_len = le32(p + 4), fields_len = le32(p + 12);

	if (p[0] != 'l' || p[3] != 1 || body_len > BODY_MAX || fields_len > HEADER_FIELDS_MAX) {
		return -EBADMSG;
	}
	size_t head = (FIXED + (size_t)fields_len + 7) / 8 * 8;

	if (n < head + body_len) {
		return 0;
	}
	struct dbus_msg m = { .type = p[1], .serial = le32(p + 8), .body_len = body_len };

	m.data = mem_dup(p, head + body_len);
	if (!m.data) {
		return -ENOMEM;
	}
	struct dbus_in in = { .p = m.data, .len = FIXED + fields_len, .at = FIXED, .ok = true };

	while (in.ok && in.at < in.len) {
		header_field(&in, &m);
	}
	if (!in.ok) {
		free(m.data);
		return -EBADMSG;
	}
	m.body = m.data + head;
	*ret = m;
	return (ssize_t)(head + body_len);
}

struct dbus *dbus_close(struct dbus *bus)
{
	if (bus) {
		for (size_t i = 0; i < bus->n_signals; i++) {
			free(bus->signals[i].data);
		}
		fd_close(&bus->fd);
		buf_fini(&bus->in);
		free(bus);
	}
	return NULL;
}

static int receive(struct dbus *bus)
{
	if (clock_now_ns() > bus->until_ns) {
		return -ETIMEDOUT; /* others' signals may come for ever */
	}
	if (!buf_reserve(&bus->in, 8192)) {
		return -ENOMEM;
	}
	ssize_t n = sys_read(bus->fd, bus->in.data + bus->in.len, bus->in.cap - bus->in.len - 1);

	if (n <= 0) {
		return n == 0 ? -EPIPE : n == -EAGAIN ? -ETIMEDOUT : (int)n;
	}
	bus->in.len += (size_t)n;
	bus->in.data[bus->in.len] = '\0';
	return 0;
}

static int next_message(struct dbus *bus, struct dbus_msg *ret)
{
	for (;;) {
		ssize_t n = dbus_msg_parse(buf_str(&bus->in), bus->in.len, ret);

		if (n < 0) {
			return (int)n;
		}
		if (n > 0) {
			buf_drop(&bus->in, (size_t)n);
			return 0;
		}
		int r = receive(bus);

		if (r < 0) {
			return r;
		}
	}
}

/*
 * Who we are is what the kernel says of the socket: an empty identity lets the server look
 * there, which is right inside a user namespace too. BEGIN goes along and is not sent after
 * the server's OK: systemd does not look at a first message that it received together with
 * BEGIN until more comes.
 */
static int authenticate(struct dbus *bus)
{
	static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
	int r = sys_write_full(bus->fd, hello, sizeof(hello) - 1);

	while (r >= 0) {
		const char *line = buf_str(&bus->in), *end = strstr(line, "\r\n");

		if (!end) {
			r = bus->in.len > 4096 ? -EBADMSG : receive(bus);
			continue;
		}
		bool done = str_after(line, "OK ") != NULL, more = str_after(line, "DATA") != NULL;

		buf_drop(&bus->in, (size_t)(end - line) + 2);
		if (done) {
			return 0;
		}
		if (!more) {
			return -EACCES;
		}
	}
	return r;
}

static int send_call(struct dbus *bus, const struct dbus_call *c, uint32_t *ret_serial)
{
	struct dbus_out o = DBUS_OUT_INIT;
	const struct {
		uint8_t     code;
		const char *sig, *text;
	} fields[] = { { F_PATH, "o", c->path }, { F_INTERFACE, "s", c->interface },
		       { F_MEMBER, "s", c->member }, { F_DEST, "s", c->dest }, { F_SIG, "g", c->sig } };

	dbus_put_u8(&o, 'l');
	dbus_put_u8(&o, DBUS_CALL);
	dbus_put_u8(&o, 0);
	dbus_put_u8(&o, 1);
	dbus_put_u32(&o, c->body ? (uint32_t)c->body->b.len : 0);
	dbus_put_u32(&o, ++bus->serial);
	struct dbus_array a = dbus_array_begin(&o, 8);

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!fields[i].text) {
			continue;
		}
		dbus_put_struct(&o);
		dbus_put_u8(&o, fields[i].code);
		dbus_put_sig(&o, fields[i].sig);
		if (fields[i].code == F_SIG) {
			dbus_put_sig(&o, fields[i].text);
		} else {
			dbus_put_str(&o, fields[i].text);
		}
	}
	dbus_array_end(&o, a);
	align(&o, 8);
	if (c->body) {
		buf_add(&o.b, c->body->b.data, c->body->b.len);
	}
	*ret_serial = bus->serial;
	int r = buf_failed(&o.b) || (c->body && buf_failed(&c->body->b)) ? -ENOMEM :
		sys_write_full(bus->fd, o.b.data, o.b.len);

	dbus_out_fini(&o);
	return r;
}

static int remote_error(const struct dbus_msg *m, const char *member, struct err *e)
{
	struct dbus_in in = dbus_in(m);
	const char *said = m->sig[0] == 's' ? dbus_get_str(&in) : "";

	return err_set(e, EREMOTEIO, ERR_HOST, "systemd refuses %s: %.200s (%s)", member, said, m->error);
}

int dbus_call(struct dbus *bus, const struct dbus_call *c, struct dbus_msg *ret, struct err *e)
{
	uint32_t serial = 0;
	struct dbus_msg m;

	bus->until_ns = clock_now_ns() + TIMEOUT_SECONDS * NS_PER_SEC;
	int r = send_call(bus, c, &serial);

	while (r >= 0) {
		r = next_message(bus, &m);
		if (r < 0) {
			break;
		}
		if ((m.type == DBUS_RETURN || m.type == DBUS_ERROR) && m.reply_serial == serial) {
			*ret = m;
			return m.type == DBUS_RETURN ? 0 : remote_error(&m, c->member, e);
		}
		if (m.type == DBUS_SIGNAL && bus->n_signals < SIGNALS_MAX) {
			bus->signals[bus->n_signals++] = m;
		} else {
			free(m.data);
		}
	}
	*ret = (struct dbus_msg){ .data = NULL };
	return err_set(e, -r, ERR_HOST, "ask systemd for %s", c->member);
}

int dbus_wait_signal(struct dbus *bus, const char *member,
		     bool (*match)(const struct dbus_msg *m, void *ud), void *ud, struct err *e)
{
	bus->until_ns = clock_now_ns() + TIMEOUT_SECONDS * NS_PER_SEC;
	for (size_t i = 0; i < bus->n_signals; i++) {
		if (str_eq(bus->signals[i].member, member) && match(&bus->signals[i], ud)) {
			return 0;
		}
	}
	for (;;) {
		struct dbus_msg m;
		int r = next_message(bus, &m);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "wait for systemd's %s", member);
		}
		bool found = m.type == DBUS_SIGNAL && str_eq(m.member, member) && match(&m, ud);

		free(m.data);
		if (found) {
			return 0;
		}
	}
}

/* On the message bus one has a name, and hears only what one asks for. */
static int introduce(struct dbus *bus, struct err *e)
{
	static const char manager[] = "type='signal',sender='org.freedesktop.systemd1',"
				      "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
	struct dbus_out body = DBUS_OUT_INIT;
	struct dbus_msg m = { .data = NULL };
	int r;

	dbus_put_str(&body, manager);
	const struct dbus_call calls[] = {
		{ "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", NULL,
		  NULL },
		{ "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s",
		  &body },
		{ "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		  "org.freedesktop.systemd1.Manager", "Subscribe", NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		r = dbus_call(bus, &calls[i], &m, e);
		free(m.data);
		if (r < 0) {
			break;
		}
	}
	dbus_out_fini(&body);
	return r;
}

static int connect_to(const char *path, struct dbus **ret)
{
	auto_(dbus_closep) struct dbus *bus = mem_new(struct dbus);
	const struct timeval timeout = { .tv_sec = TIMEOUT_SECONDS };

	if (!bus) {
		return -ENOMEM;
	}
	bus->until_ns = clock_now_ns() + TIMEOUT_SECONDS * NS_PER_SEC;
	bus->fd = sock_connect_path(path);
	int r = bus->fd;

	if (r >= 0) {
		r = sys_setsockopt(bus->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	}
	if (r >= 0) {
		r = authenticate(bus);
	}
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&bus);
	return 0;
}

int dbus_open(bool user, struct dbus **ret, struct err *e)
{
	auto_(dbus_closep) struct dbus *bus = NULL;
	const char *run = user ? getenv("XDG_RUNTIME_DIR") : "/run";

	if (!run || run[0] != '/') {
		return err_set(e, ENOENT, ERR_INVALID,
			       "the user's systemd is found by XDG_RUNTIME_DIR, which is not set");
	}
	auto_free char *own = str_printf("%s/systemd/private", run);
	auto_free char *shared = str_printf("%s/%s", run, user ? "bus" : "dbus/system_bus_socket");

	if (!own || !shared) {
		return err_nomem(e);
	}
	int r = connect_to(own, &bus);

	if (r < 0) {
		r = connect_to(shared, &bus);
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "connect to systemd (%s, %s): is it running?", own,
				       shared);
		}
		r = introduce(bus, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = take_ptr(&bus);
	return 0;
}
