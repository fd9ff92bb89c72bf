/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's process: everything is open when it begins. It makes the machine, gives up what
 * it does not need any more, and only then looks at the kernel.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/log.h"
#include "main/vmm.h"
#include "sys/file.h"
#include "vm/ctl.h"
#include "vm/dev/blk.h"
#include "vm/dev/console.h"
#include "vm/dev/net.h"
#include "vm/dev/rng.h"
#include "vm/dev/vsock.h"
#include "vm/escape.h"
#include "vm/gdb.h"
#include "vm/jail.h"
#include "vm/replay.h"
#include "vm/snapshot.h"

enum { STATE_BYTES_MAX = 64 << 20 };

#define RECORD_BYTES_MAX (UINT64_C(1) << 40)

struct monitor {
	struct vm          *vm;
	struct vm_ctl      *ctl;
	struct vm_gdb      *gdb;
	struct loop_signal *term;
	struct escape       escape;   /* of the virtio console */
	struct replay_source *source;   /* of a replay that has not begun */
};

static void on_ended(void *ctx, enum vm_end end)
{
	struct monitor *m = ctx;

	(void)end;
	if (m->ctl) {
		vm_ctl_state_changed(m->ctl);
	}
	loop_stop(vm_loop(m->vm));
}

static void on_term(struct loop_signal *s, int signo, void *ud)
{
	struct monitor *m = ud;

	(void)s, (void)signo;
	vm_stop(m->vm, VM_END_STOPPED);
}

/* A thread that cannot be confined takes nothing on. */
static void must_confine(int r, const struct err *e)
{
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, e);
		_exit(err_codes[e->code].exit_code);
	}
}

/* Of a disk's own threads. */
static void confine_worker(void)
{
	struct err e = ERR_INIT;
	int r = jail_seal(&e); /* it was there before the others gave their files up */

	must_confine(r < 0 ? r : jail_filter(JAIL_WORKER, NULL, 0, &e), &e);
}

static void confine_helper(void)
{
	struct err e = ERR_INIT;

	must_confine(jail_filter(JAIL_HELPER, NULL, 0, &e), &e);
}

/* Descriptors are duplicated: what a device took is there again for the next boot. */
static int add_disks(struct vm *vm, const struct vmm_opts *o, const struct vmm_files *f,
		     struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < f->n_disks && r == 0; i++) {
		const struct vmm_disk *d = &f->disks[i];
		struct blk_conf conf = { .disk = { .fd = sys_dup(d->fd), .read_only = d->read_only } };
		char name[16];

		conf.disk.way = o->record ? BLOCK_IN_PLACE : BLOCK_AUTO;
		conf.disk.in_worker = o->unconfined ? NULL : confine_worker;
		snprintf(name, sizeof(name), "disk%u", i);
		snprintf(conf.serial, sizeof(conf.serial), "%s", d->serial);
		r = conf.disk.fd < 0 ? err_set(e, -conf.disk.fd, ERR_HOST, "%s", name) :
				       vm_add_device(vm, &vdev_blk, name, &conf, e);
		fd_close(&conf.disk.fd);
	}
	return r;
}

static int add_entropy(struct vm *vm, const struct vmm_files *f, struct err *e)
{
	struct rng_conf conf = { .fd = sys_dup(f->random_fd) };
	int r = conf.fd < 0 ? err_set(e, -conf.fd, ERR_HOST, "entropy") :
			      vm_add_device(vm, &vdev_rng, "rng0", &conf, e);

	fd_close(&conf.fd);
	return r;
}

static int add_net(struct vm *vm, const struct vmm_files *f, struct err *e)
{
	struct net_conf conf = { .fd = f->net_fd < 0 ? -1 : sys_dup(f->net_fd),
				 .stream = f->net_stream };
	int r = 0;

	memcpy(conf.mac, f->net_mac, sizeof(conf.mac));
	if (f->net_fd >= 0) {
		r = conf.fd < 0 ? err_set(e, -conf.fd, ERR_HOST, "network") :
				  vm_add_device(vm, &vdev_net, "net0", &conf, e);
	}
	fd_close(&conf.fd);
	return r;
}

static void on_ask(void *ctx, uint32_t port, uint64_t ticket)
{
	struct monitor *m = ctx;

	vm_ctl_vsock_ask(m->ctl, vm_device(m->vm, &vdev_vsock, 0), port, ticket);
}

static int add_vsock(struct monitor *m, const struct vmm_files *f, struct err *e)
{
	struct vsock_conf conf = { .guest_cid = f->vsock_cid,
				   .listen_fd = f->vsock_fd < 0 ? -1 : sys_dup(f->vsock_fd),
				   .ask = on_ask, .ctx = m };
	int r = f->vsock_cid ? vm_add_device(m->vm, &vdev_vsock, "vsock0", &conf, e) : 0;

	fd_close(&conf.listen_fd);
	return r;
}

static int add_console(struct monitor *m, const struct vmm_files *f, struct err *e)
{
	struct console_conf conf = { .in_fd = f->console_in_fd < 0 ? -1 : sys_dup(f->console_in_fd),
				     .out_fd = f->console_out_fd < 0 ? -1 : sys_dup(f->console_out_fd) };

	escape_init(&m->escape, m->vm, f->escape_key);
	if (f->escape_key && conf.in_fd >= 0) {
		conf.filter = escape_filter;
		conf.filter_ctx = &m->escape;
	}
	int r = vm_add_device(m->vm, &vdev_console, "console0", &conf, e);

	fd_close(&conf.in_fd);
	fd_close(&conf.out_fd);
	return r;
}

static int confine_vcpu(struct err *e)
{
	return jail_filter(JAIL_VCPU, NULL, 0, e);
}

/*
 * No file becomes longer than what the machine has already: a disk, or a snapshot of its memory
 * with some more for the state. What the serial port writes has a bound of its own.
 */
static int bound_files(const struct vmm_opts *o, const struct vmm_files *f, struct err *e)
{
	/* A recording is as large as what the guest reads. */
	uint64_t most = o->record ? RECORD_BYTES_MAX : o->memory + STATE_BYTES_MAX;
	struct stat st;

	for (unsigned i = 0; i < f->n_disks; i++) {
		int r = sys_fstat(f->disks[i].fd, &st);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "disk%u", i);
		}
		most = MAX(most, (uint64_t)st.st_size);
	}
	return jail_files(most, e);
}

/*
 * Threads are there, everything is open and loaded: no files and no other calls from here on.
 * What the machine uses it has duplicates of; of the rest nothing stays open.
 */
static int confine(struct vm *vm, const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	const struct vdev_desc *devices[VM_DEVICES_MAX] = { NULL };
	int r = bound_files(o, f, e);

	if (r < 0) {
		return r;
	}
	vmm_close_loaded(f);
	for (size_t i = 0; i < vdev_table_len && i < ARRAY_LEN(devices); i++) {
		devices[i] = vm_device(vm, vdev_table[i], 0) ? vdev_table[i] : NULL;
	}
	return jail_filter(JAIL_LOOP, devices, ARRAY_LEN(devices), e);
}

static int make_vm(struct monitor *m, const struct vmm_opts *o, const struct vmm_files *f,
		   struct err *e)
{
	struct vm_conf conf = {
		.engine = f->engine, .kvm_fd = MAX(f->kvm_fd, 0),
		.memory_bytes = m->source ? replay_memory_bytes(m->source) :
					    o->memory & ~(uint64_t)4095,
		.memory_file_fd = MAX(f->memory_file_fd, 0),
		.n_vcpus = m->source ? replay_n_vcpus(m->source) : (unsigned)o->cpus,
		.deterministic = o->record || o->replay,
		.xl = { .after = (unsigned)o->translate_after, .bytes = o->code_cache,
			.perf_map_fd = MAX(f->perf_map_fd, 0), .shaken = o->shake,
			.no_shadow = !vmm_shadows(o), .direct_now = o->direct },
		.serial_in_fd = f->serial_in_fd, .serial_out_fd = f->serial_out_fd,
		.escape_key = f->escape_key,
		.vcpu_thread = o->unconfined ? NULL : confine_vcpu,
		.helper_thread = o->unconfined ? NULL : confine_helper, .ended = on_ended, .ctx = m,
	};
	int r = vm_new(&conf, &m->vm, e);

	if (r < 0 || o->replay) {
		return r;
	}
	r = add_console(m, f, e);
	r = r < 0 ? r : add_disks(m->vm, o, f, e);
	r = r < 0 ? r : add_net(m->vm, f, e);
	r = r < 0 ? r : add_vsock(m, f, e);
	return r < 0 ? r : add_entropy(m->vm, f, e);
}

/* What a kernel is told where its user says nothing: it would be silent otherwise. */
static const char *cmdline(const struct vmm_opts *o)
{
	static const char *const defaults[] = {
		[VMM_CONSOLE_SERIAL] = "console=ttyS0",
		[VMM_CONSOLE_VIRTIO] = "console=hvc0",
		[VMM_CONSOLE_NONE] = "",
	};

	return o->cmdline ? o->cmdline : defaults[o->console];
}

static int load(struct monitor *m, const struct vmm_opts *o, const struct vmm_files *f,
		struct err *e)
{
	auto_(kernel_fini) struct kernel k = KERNEL_INIT;
	struct boot_conf conf = { .cmdline = cmdline(o),
				  .initrd_fd = f->initrd_fd, .randomize = !o->no_kaslr };
	int r = kernel_open(&k, f->kernel_fd, f->image_fd, e);

	if (r == 0 && getrandom(&conf.seed, sizeof(conf.seed), 0) != sizeof(conf.seed)) {
		r = err_set(e, errno, ERR_HOST, "random numbers");
	}
	return r < 0 ? r : vm_load_kernel(m->vm, &k, &conf, e);
}

static void report_counters(const struct monitor *m)
{
	auto_buf struct buf b = BUF_INIT;

	vm_engine_stats(m->vm, &b);
	fprintf(stderr, "%s", buf_failed(&b) ? "" : buf_str(&b));
}

static int report(const struct monitor *m, struct err *e)
{
	enum vm_end end = vm_end(m->vm);

	if (end == VM_END_FAILED) {
		return err_set(e, EIO, ERR_HOST, "%s: %s", vm_ends[end].text, vm_error(m->vm));
	}
	if (end != VM_END_OFF && end != VM_END_RESET && end != VM_END_STOPPED) {
		fprintf(stderr, "holm-vmm: %s\n", vm_ends[end].text);
	}
	return vm_ends[end].status;
}

static int add_control(struct monitor *m, const struct vmm_opts *o, struct vmm_files *f,
		       struct err *e)
{
	int r = o->gdb ? vm_gdb_new(m->vm, &m->gdb, e) : 0;
	const struct vm_ctl_conf conf = { .own_parent_fd = take_fd(&f->parent_fd), .gdb = m->gdb };

	return r < 0 ? r : vm_ctl_new(m->vm, &conf, &m->ctl, e);
}

/* What came of a recording or a replay; a replay that is not the same is an error. */
static int report_replay(const struct monitor *m, struct err *e)
{
	static const char *const names[REPLAY__COUNT] = {
		[REPLAY_RECORDED] = "recorded", [REPLAY_SAME] = "the same as recorded",
		[REPLAY_CUT] = "the same as recorded up to where the recording is cut off",
		[REPLAY_STOPPED] = "stopped",
	};
	struct replay_summary s;

	vm_replay_result(m->vm, &s);
	if (s.result == REPLAY_DIFFERS || s.result == REPLAY_FAILED) {
		return err_set(e, EIO, ERR_HOST, "%s%s", s.result == REPLAY_DIFFERS ?
			       "not the same as recorded: " : "", s.text);
	}
	if (names[s.result]) {
		fprintf(stderr, "holm-vmm: %s: %llu instructions, %llu checks, %llu of memory, "
			"hash %016llx%s%s\n",
			names[s.result], (unsigned long long)s.insns, (unsigned long long)s.checks,
			(unsigned long long)s.memory_checks, (unsigned long long)s.hash, s.text[0] ? "\n" : "", s.text);
	}
	return 0;
}

static int begin_replay(struct monitor *m, const struct vmm_opts *o, struct vmm_files *f,
			struct err *e)
{
	const struct replay_conf conf = { .every = o->check_every,
					  .memory_every = o->check_memory_every,
					  .from = o->check_from, .to = o->check_to,
					  .stop_at = o->stop_at };

	if (o->record && o->replay) {
		int r = replay_again(m->source, take_fd(&f->record_fd), e);

		return r < 0 ? r : vm_replay(m->vm, take_ptr(&m->source), &conf, e);
	}
	if (o->record) {
		return vm_record(m->vm, take_fd(&f->record_fd), &conf, e);
	}
	return o->replay ? vm_replay(m->vm, take_ptr(&m->source), &conf, e) : 0;
}

int vmm_monitor(const struct vmm_opts *o, struct vmm_files *f, struct err *e)
{
	struct monitor m = { 0 };
	int r = o->replay ? replay_open(take_fd(&f->replay_fd), &m.source, e) : 0;

	r = r < 0 ? r : make_vm(&m, o, f, e);
	r = r < 0 || !o->kernel ? r : load(&m, o, f, e);
	if (r == 0) {
		int s = loop_signal_new(vm_loop(m.vm), SIGTERM, on_term, &m, &m.term);

		r = s < 0 ? err_set(e, -s, ERR_HOST, "signals") : 0;
	}
	r = r < 0 ? r : add_control(&m, o, f, e);
	r = r < 0 || o->unconfined ? r : jail_seal(e);
	r = r < 0 ? r : vm_start_paused(m.vm, e);
	if (r == 0 && vmm_loads(o)) {
		vm_expect_load(m.vm);
		const struct snapshot_files files = {
			f->state_fd, { f->memory_low_fd, f->memory_high_fd } };

		r = o->restore ? vm_load(m.vm, &files, e) : 0;
	}
	r = r < 0 ? r : begin_replay(&m, o, f, e);
	r = r < 0 || o->unconfined ? r : confine(m.vm, o, f, e);
	r = r < 0 || o->paused ? r : vm_resume(m.vm, e);
	if (r == 0) {
		int l = loop_run(vm_loop(m.vm));

		r = l < 0 ? err_set(e, -l, ERR_HOST, "event loop") : report_replay(&m, e);
		if (o->stats) {
			report_counters(&m);
		}
		r = r < 0 ? r : report(&m, e);
	}
	vm_gdb_free(m.gdb);
	vm_ctl_free(m.ctl);
	ignore_result(replay_close(m.source)); /* NULL */
	loop_signal_free(m.term);
	if (m.escape.vm) {
		escape_fini(&m.escape);
	}
	vm_free(m.vm);
	return r;
}
