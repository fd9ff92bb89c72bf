/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/ctl-priv.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/net.h"
#include "vm/dev/vsock.h"
#include "vm/gdb.h"
#include "vm/snapshot.h"
#include "vm/vm-priv.h"

enum { CONNS_MAX = 16 };

/* --- Connections --- */

static void conn_free(struct ctl_conn *c)
{
	loop_fd_free(c->source);
	ctl__vsock_conn_gone(c);
	wire_conn_fini(&c->wire);
	list_del(&c->link);
	c->ctl->n_conns--;
	free(c);
}

void ctl__send(struct ctl_conn *c, enum vmm_msg_type type, uint32_t serial, const void *msg)
{
	if (c->broken) {
		return;
	}
	if (wire_conn_send(&c->wire, &vmm_msgs[type], serial, msg) < 0) {
		c->broken = true; /* it does not read, or is gone: the loop finds it closed */
		ignore_result(sys_shutdown(c->wire.fd, SHUT_RDWR));
	} else if (c->source && wire_conn_pending(&c->wire)) {
		ignore_result(loop_fd_set(c->source, LOOP_IN | LOOP_OUT)); /* epoll_ctl */
	}
}

static void send_state(struct ctl_conn *c, uint32_t serial)
{
	struct vm *vm = c->ctl->vm;
	const struct vmm_state_msg m = {
		.state = (uint32_t)vm_state(vm),
		.end = vm_state(vm) == VM_ENDED ? (char *)vm_ends[vm_end(vm)].name : NULL,
	};

	ctl__send(c, VMM_STATE, serial, &m);
}

void ctl__reply(struct ctl_conn *c, uint32_t serial, int r, const struct vmm_reply *done,
		const struct err *e)
{
	struct vmm_reply m = { .fd = -1 };

	if (r < 0) {
		m.errnum = (uint32_t)(e->errnum ? e->errnum : -r);
		m.code = e->code;
		m.message = (char *)e->msg;
	} else if (done) {
		m = *done;
	}
	ctl__send(c, VMM_REPLY, serial, &m);
}

void vm_ctl_state_changed(struct vm_ctl *c)
{
	list_for_each (struct ctl_conn, conn, &c->conns, link) {
		send_state(conn, 0);
	}
}

/* --- Requests --- */

static int do_pause(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)m, (void)ret;
	return vm_pause(c->ctl->vm, e);
}

static int do_resume(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)m, (void)ret;
	return vm_resume(c->ctl->vm, e);
}

static int do_button(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)m, (void)ret;
	return vm_power_button(c->ctl->vm, e);
}

static int do_stop(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)m, (void)ret, (void)e;
	vm_stop(c->ctl->vm, VM_END_STOPPED);
	return 0;
}

static int do_get_state(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)m, (void)ret, (void)e;
	send_state(c, 0);
	return 0;
}

/* Its checks of memory are made of it. */
static int log_is_ours(const struct ctl_conn *c, struct err *e)
{
	return !c->ctl->vm->replay ? 0 :
	       err_set(e, EBUSY, ERR_CONFLICT, "a machine that is recorded or replayed has no dirty log "
		       "for others");
}

static int do_log_start(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	struct engine *eng = vm_engine(c->ctl->vm);
	int r = log_is_ours(c, e);

	r = r < 0 ? r : gmem_log_start(vm_mem(c->ctl->vm), e);
	(void)m, (void)ret;
	return r < 0 ? r : eng->ops->log(eng, true, e);
}

static int do_log_stop(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	struct engine *eng = vm_engine(c->ctl->vm);

	(void)m, (void)ret;
	if (log_is_ours(c, e) < 0) {
		return -EBUSY;
	}
	gmem_log_stop(vm_mem(c->ctl->vm));
	return eng->ops->log(eng, false, e);
}

/* One slot's bits: counted, and written if somebody wants them. */
static int take_slot(struct gmem *g, unsigned i, int fd, uint64_t *pages, struct err *e)
{
	size_t n = ((g->slots[i].bytes >> GMEM_PAGE_SHIFT) + 63) / 64;
	auto_free uint64_t *bits = mem_calloc(n, sizeof(*bits));

	if (!bits) {
		return err_nomem(e);
	}
	gmem_log_take(g, i, bits);
	for (size_t w = 0; w < n; w++) {
		*pages += (uint64_t)__builtin_popcountll(bits[w]);
	}
	int r = fd < 0 ? 0 : sys_write_full(fd, bits, n * sizeof(*bits));

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the log") : 0;
}

static int do_log_take(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	struct engine *eng = vm_engine(c->ctl->vm);
	struct gmem *g = vm_mem(c->ctl->vm);
	int r = log_is_ours(c, e);

	if (r < 0) {
		return r;
	}
	if (!atomic_load(&g->log_dirty)) {
		return err_set(e, EINVAL, ERR_CONFLICT, "the dirty log is off");
	}
	r = eng->ops->log_sync(eng, e);
	for (unsigned i = 0; i < g->n_slots && r == 0; i++) {
		r = take_slot(g, i, m->log_take.bitmap_fd, &ret->value, e);
	}
	/* A vCPU that runs may hold a page for noted that was noted before the take. What it has
	 * written there until now belongs to what was taken: pages are read after the reply. */
	return r < 0 ? r : eng->ops->log_sync(eng, e);
}

static int do_stats(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;

	(void)m;
	vm_stats(c->ctl->vm, &b);
	ret->text = buf_take(&b);
	return ret->text ? 0 : err_nomem(e);
}

static int do_engine_stats(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;

	(void)m;
	vm_engine_stats(c->ctl->vm, &b);
	ret->text = buf_take(&b);
	return ret->text ? 0 : err_nomem(e);
}

static int do_console(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	struct vm *vm = c->ctl->vm;
	int fds[2] = { -1, -1 };
	int r = sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds);

	(void)m;
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "console");
	}
	ret->fd = fds[1];
	return serial_io_attach(vm->serial_io, fds[0], e);
}

static int do_snapshot(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)ret;
	return vm_save(c->ctl->vm, &(struct snapshot_files){
		m->snapshot.state_fd, { m->snapshot.memory_low_fd, m->snapshot.memory_high_fd } }, e);
}

static int do_vsock_serve(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			  struct err *e)
{
	(void)m, (void)ret;
	return ctl__vsock_serve(c, e);
}

static int do_vsock_answer(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			   struct err *e)
{
	(void)ret;
	return ctl__vsock_answer(c, &m->vsock_answer, e);
}

static int do_vsock_connect(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			    struct err *e)
{
	(void)ret;
	return ctl__vsock_connect(c, m->vsock_connect.port, e);
}

static int do_vsock_list(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			 struct err *e)
{
	(void)m;
	return ctl__vsock_list(c, ret, e);
}

static int do_vsock_take(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			 struct err *e)
{
	return ctl__vsock_take(c, &m->vsock_conn, ret, e);
}

static int do_vsock_give(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret,
			 struct err *e)
{
	(void)ret;
	return ctl__vsock_give(c, &m->vsock_conn, e);
}

static int do_restore(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	(void)ret;
	return vm_load(c->ctl->vm, &(struct snapshot_files){
		m->snapshot.state_fd, { m->snapshot.memory_low_fd, m->snapshot.memory_high_fd } }, e);
}

static struct ctl_conn *conn_new(struct vm_ctl *ctl, int own_fd);

static int do_client(struct ctl_conn *c, union vmm_any *m, struct vmm_reply *ret, struct err *e)
{
	struct vm_ctl *ctl = c->ctl;
	auto_close int fd = take_fd(&m->client.fd);

	(void)ret;
	if (c != ctl->parent) {
		return err_set(e, EPERM, ERR_DENIED, "only the machine's keeper lets others in");
	}
	if (m->client.debugger && ctl->gdb) {
		vm_gdb_connect(ctl->gdb, take_fd(&fd));
		return 0;
	}
	if (m->client.debugger || ctl->n_conns == CONNS_MAX || !conn_new(ctl, take_fd(&fd))) {
		return err_set(e, ENOSPC, ERR_LIMIT, "no more connections"); /* closing tells it */
	}
	return 0;
}

static const struct {
	enum vmm_msg_type type;
	ctl_request_fn       *fn;
} requests[] = {
	{ VMM_GET_STATE, do_get_state }, { VMM_PAUSE, do_pause },
	{ VMM_RESUME, do_resume },       { VMM_POWER_BUTTON, do_button },
	{ VMM_STOP, do_stop },           { VMM_LOG_START, do_log_start },
	{ VMM_LOG_STOP, do_log_stop },   { VMM_LOG_TAKE, do_log_take },
	{ VMM_STATS, do_stats },         { VMM_CONSOLE, do_console },
	{ VMM_SNAPSHOT, do_snapshot },   { VMM_VSOCK_CONNECT, do_vsock_connect },
	{ VMM_VSOCK_SERVE, do_vsock_serve }, { VMM_VSOCK_ANSWER, do_vsock_answer },
	{ VMM_VSOCK_LIST, do_vsock_list },   { VMM_VSOCK_TAKE, do_vsock_take },
	{ VMM_VSOCK_GIVE, do_vsock_give },   { VMM_RESTORE, do_restore },
	{ VMM_CLIENT, do_client },           { VMM_ENGINE_STATS, do_engine_stats },
};

static ctl_request_fn *handler(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		if (requests[i].type == type) {
			return requests[i].fn;
		}
	}
	return NULL;
}

static void on_frame(struct ctl_conn *c, struct wire_frame *f)
{
	const struct wire_msg *t = vmm_msg(f->type);
	ctl_request_fn *fn = handler(f->type);
	struct vmm_reply done = { .fd = -1 };
	union vmm_any m;
	struct err e = ERR_INIT;
	enum vm_state before = vm_state(c->ctl->vm);
	int r = 0;

	if (!t || !fn) {
		wire_frame_fini(f);
		r = err_set(&e, ENOSYS, ERR_UNSUPPORTED, "message %u is not understood", f->type);
		ctl__reply(c, f->serial, r, NULL, &e);
		return;
	}
	r = wire_decode(t, f, &m, &e);
	c->serial = f->serial;
	r = r < 0 ? r : fn(c, &m, &done, &e);
	if (r != CTL_LATER) {
		ctl__reply(c, f->serial, r, &done, &e);
	}
	fd_close(&done.fd);
	free(done.text);
	wire_msg_fini(t, &m);
	if (vm_state(c->ctl->vm) != before) {
		vm_ctl_state_changed(c->ctl);
	}
}

static void on_conn(struct loop_fd *src, unsigned events, void *ud)
{
	struct ctl_conn *c = ud;
	struct wire_frame f;
	int filled = 0, r = 0;

	if (events & LOOP_OUT) {
		c->broken |= wire_conn_flush(&c->wire) < 0;
	}
	if (events & (LOOP_IN | LOOP_HUP)) {
		filled = wire_conn_fill(&c->wire);
		while (!c->broken && (r = wire_conn_next(&c->wire, &f)) > 0) {
			on_frame(c, &f);
		}
	}
	if (c->broken || filled < 0 || r < 0) {
		conn_free(c);
		return;
	}
	ignore_result(loop_fd_set(src, wire_conn_pending(&c->wire) ? LOOP_IN | LOOP_OUT :
								      LOOP_IN)); /* as it was */
}

/* Takes the descriptor, also on failure. */
static struct ctl_conn *conn_new(struct vm_ctl *ctl, int own_fd)
{
	auto_close int fd = own_fd;
	struct ctl_conn *c = mem_new(struct ctl_conn);

	if (!c) {
		return NULL;
	}
	c->ctl = ctl;
	wire_conn_init(&c->wire, take_fd(&fd), VMM_PROTO_VERSION);
	list_add_tail(&ctl->conns, &c->link);
	ctl->n_conns++;
	if (loop_fd_new(vm_loop(ctl->vm), c->wire.fd, LOOP_IN, on_conn, c, &c->source) < 0) {
		conn_free(c);
		return NULL;
	}
	return c;
}

int vm_ctl_new(struct vm *vm, const struct vm_ctl_conf *conf, struct vm_ctl **ret, struct err *e)
{
	auto_(vm_ctl_freep) struct vm_ctl *c = mem_new(struct vm_ctl);
	auto_close int parent = conf->own_parent_fd;

	if (!c) {
		return err_nomem(e);
	}
	*c = (struct vm_ctl){ .vm = vm, .gdb = conf->gdb };
	list_init(&c->conns);
	list_init(&c->waiting);
	if (parent >= 0) {
		c->parent = conn_new(c, take_fd(&parent));
		if (!c->parent) {
			return err_nomem(e);
		}
	}
	*ret = take_ptr(&c);
	return 0;
}

struct vm_ctl *vm_ctl_free(struct vm_ctl *c)
{
	if (c) {
		list_for_each_safe (struct ctl_conn, conn, &c->conns, link) {
			ignore_result(wire_conn_flush(&conn->wire)); /* a last try */
			conn_free(conn);
		}
		ctl__vsock_fini(c);
		free(c);
	}
	return NULL;
}

/* --- Counters --- */

static void device_stats(struct vdev *d, struct buf *b)
{
	vdev_lock(d);
	buf_printf(b, "{\"name\":\"%s\",\"kind\":\"%s\",\"phase\":\"%s\",\"faults\":%llu", d->name,
		   d->desc->name, vdev_phase_names[d->phase], (unsigned long long)d->faults);
	if (d->last_fault) {
		buf_printf(b, ",\"last_fault\":\"%s\"", d->last_fault);
	}
	vdev_unlock(d);
	if (d->desc == &vdev_net) {
		struct net_counts n = net_counts(d);

		buf_printf(b, ",\"rx_packets\":%llu,\"rx_dropped\":%llu,\"tx_packets\":%llu,"
			   "\"tx_dropped\":%llu", (unsigned long long)n.rx_packets,
			   (unsigned long long)n.rx_dropped, (unsigned long long)n.tx_packets,
			   (unsigned long long)n.tx_dropped);
	}
	if (d->desc == &vdev_vsock) {
		buf_printf(b, ",\"connections\":%u", vsock_connections(d));
	}
	buf_add_char(b, '}');
}

static size_t engine_stats(struct vm *vm, struct engine_stat s[ENGINE_STATS_MAX])
{
	struct engine *eng = vm->engine;

	return eng->ops->stats ? eng->ops->stats(eng, s, ENGINE_STATS_MAX) : 0;
}

/* Group after group, each an object. */
static void counters(struct vm *vm, struct buf *b)
{
	struct engine_stat s[ENGINE_STATS_MAX];
	size_t n = engine_stats(vm, s);

	for (size_t i = 0; i < n; i++) {
		if (i == 0 || !str_eq(s[i].group, s[i - 1].group)) {
			buf_printf(b, "%s\"%s\":{", i ? "}," : "", s[i].group);
		} else {
			buf_add_char(b, ',');
		}
		buf_printf(b, "\"%s\":%llu", s[i].name, (unsigned long long)s[i].value);
	}
	buf_add_str(b, n ? "}" : "");
}

void vm_stats(struct vm *vm, struct buf *b)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < vm->mem.n_slots; i++) {
		bytes += vm->mem.slots[i].bytes;
	}
	buf_printf(b, "{\"state\":\"%s\",\"engine\":\"%s\",\"vcpus\":%u,\"memory\":%llu,\"devices\":[",
		   vm_state_names[vm->state], vm->engine->ops->name, vm->n_cpus,
		   (unsigned long long)bytes);
	for (unsigned i = 0; i < vm->n_devices; i++) {
		struct vdev *d = vm->devices[i]->dev;

		buf_add_str(b, i ? "," : "");
		device_stats(d, b);
	}
	buf_add_str(b, "],\"counters\":{");
	counters(vm, b);
	buf_add_str(b, "}}");
}

void vm_engine_stats(struct vm *vm, struct buf *b)
{
	struct engine_stat s[ENGINE_STATS_MAX];
	const char *group = "";
	size_t n = engine_stats(vm, s);

	for (size_t i = 0; i < n; i++) {
		if (s[i].value == 0) {
			continue;
		}
		if (!str_eq(s[i].group, group)) {
			group = s[i].group;
			buf_printf(b, "%s\n", group);
		}
		buf_printf(b, "%16llu  %s\n", (unsigned long long)s[i].value, s[i].name);
	}
}
