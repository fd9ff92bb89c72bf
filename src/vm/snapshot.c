/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/mem.h"
#include "state/state.h"
#include "sys/file.h"
#include "vm/cpu/state-desc.h"
#include "vm/irq/state-desc.h"
#include "vm/replay-priv.h"
#include "vm/vm-priv.h"

/* What has to be the same in the machine that loads it. */
struct machine_state {
	uint64_t memory_bytes;
	uint32_t n_vcpus;
	uint32_t n_devices;
	uint8_t  memory_id[GMEM_ID_BYTES];   /* of the memory files that belong to it */
};

static const struct state_field machine_fields[] = {
	STATE_U64(1, struct machine_state, memory_bytes),
	STATE_U32(2, struct machine_state, n_vcpus, .min = 1, .max = VM_VCPUS_MAX),
	STATE_U32(3, struct machine_state, n_devices, .max = VM_DEVICES_MAX),
	STATE_BYTES(4, struct machine_state, memory_id, .since = 2),
};

const struct state_desc vm_machine_state = STATE_DESC("machine", struct machine_state,
	machine_fields, .version = 2, .oldest = 2);

/* All that is in the stream, while it is on its way. */
struct image {
	struct machine_state machine;
	struct engine_clock  clock;
	struct irq_state     irq;
	struct cpu_state     cpus[VM_VCPUS_MAX];
};

struct path {
	char text[64];
};

static struct path cpu_path(unsigned i, const char *what)
{
	struct path p;

	snprintf(p.text, sizeof(p.text), "/cpu/%u/%s", i, what);
	return p;
}

static struct path slot_path(const struct virtio_pci *p)
{
	struct path path;

	snprintf(path.text, sizeof(path.text), "/pci/%u", p->fn.slot);
	return path;
}

static struct image *image_new(void)
{
	/* The state of a vCPU is aligned to more than the heap gives. */
	struct image *im = aligned_alloc(64, (sizeof(*im) + 63) & ~(size_t)63);

	if (im) {
		memset(im, 0, sizeof(*im));
	}
	return im;
}

static struct machine_state machine_of(const struct vm *vm)
{
	return (struct machine_state){ .memory_bytes = gmem_bytes(&vm->mem), .n_vcpus = vm->n_cpus,
				       .n_devices = vm->n_devices };
}

/* --- Save --- */

static int collect(struct vm *vm, struct image *im, struct err *e)
{
	const struct engine_ops *ops = vm->engine->ops;
	int r = ops->clock_get(vm->engine, &im->clock, e);

	im->machine = machine_of(vm);
	if (r == 0 && getrandom(im->machine.memory_id, GMEM_ID_BYTES, 0) != GMEM_ID_BYTES) {
		r = err_set(e, errno, ERR_HOST, "random numbers");
	}
	r = r < 0 ? r : ops->irq_get(vm->engine, &im->irq, e);
	for (unsigned i = 0; i < vm->n_cpus && r == 0; i++) {
		r = ops->vcpu_get(vm->cpus[i].v, &im->cpus[i], e);
	}
	return r;
}

static void write_cpus(struct vm *vm, const struct image *im, struct state_writer *w)
{
	state_write(w, "/clock", &clock_state_desc, &im->clock);
	state_write(w, "/ioapic", &ioapic_state_desc, &im->irq.ioapic);
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		state_write(w, cpu_path(i, "cpu").text, &cpu_state_desc, &im->cpus[i]);
		state_write(w, cpu_path(i, "lapic").text, &lapic_state_desc, &im->irq.lapic[i]);
	}
}

static void write_all(struct vm *vm, const struct image *im, struct state_writer *w)
{
	state_write(w, "/machine", &vm_machine_state, &im->machine);
	write_cpus(vm, im, w);
	serial_save(vm->serial, "/serial", w);
	for (unsigned i = 0; i < vm->n_devices; i++) {
		virtio_pci_save(vm->devices[i], slot_path(vm->devices[i]).text, w);
	}
}

static void save_high(void *arg)
{
	while (gmem_save_step(arg, GMEM_HIGH)) {
	}
}

/* Half of it here, half beside. */
static int save_memory(struct vm *vm, const struct snapshot_files *f,
		       const uint8_t id[GMEM_ID_BYTES], struct err *e)
{
	struct gmem_save s;
	int r = gmem_save_begin(&s, &vm->mem, f->memory_fds, e);

	if (r < 0) {
		return r;
	}
	helper_run(vm->helper, save_high, &s);
	while (gmem_save_step(&s, GMEM_LOW)) {
	}
	helper_wait(vm->helper);
	return gmem_save_end(&s, id, e);
}

int vm_save(struct vm *vm, const struct snapshot_files *f, struct err *e)
{
	auto_free struct image *im = image_new();
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
	auto_free void *data = NULL;
	size_t len = 0;

	if (vm->state != VM_PAUSED) {
		return err_set(e, EBUSY, ERR_CONFLICT, "the virtual machine is %s, not paused",
			       vm_state_names[vm->state]);
	}
	int r = im ? collect(vm, im, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	write_all(vm, im, &w);
	r = state_finish(&w, &data, &len);
	r = r < 0 ? err_nomem(e) : save_memory(vm, f, im->machine.memory_id, e);
	if (r < 0) {
		return r;
	}
	r = sys_write_full(f->state_fd, data, len);
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write the state file: %s", strerror(-r)) : 0;
}

int vm__cpus_save(struct vm *vm, void **ret, size_t *ret_len, struct err *e)
{
	auto_free struct image *im = image_new();
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
	int r = im ? collect(vm, im, e) : err_nomem(e);

	if (r < 0) {
		return r;
	}
	write_cpus(vm, im, &w);
	return state_finish(&w, ret, ret_len) < 0 ? err_nomem(e) : 0;
}

/* --- Load --- */

static int read_cpus(struct vm *vm, struct image *im, struct state_reader *in, struct err *e)
{
	int r = state_read(in, "/clock", &clock_state_desc, &im->clock, e);

	r = r < 0 ? r : state_read(in, "/ioapic", &ioapic_state_desc, &im->irq.ioapic, e);
	for (unsigned i = 0; i < vm->n_cpus && r == 0; i++) {
		r = state_read(in, cpu_path(i, "cpu").text, &cpu_state_desc, &im->cpus[i], e);
		r = r < 0 ? r : state_read(in, cpu_path(i, "lapic").text, &lapic_state_desc,
					   &im->irq.lapic[i], e);
	}
	return r;
}

static int read_all(struct vm *vm, struct image *im, struct state_reader *in, struct err *e)
{
	int r = state_read(in, "/machine", &vm_machine_state, &im->machine, e);

	r = r < 0 ? r : read_cpus(vm, im, in, e);
	r = r < 0 ? r : serial_load(vm->serial, "/serial", in, e);
	for (unsigned i = 0; i < vm->n_devices && r == 0; i++) {
		r = virtio_pci_load(vm->devices[i], slot_path(vm->devices[i]).text, in, e);
	}
	return r;
}

static int check(const struct vm *vm, const struct image *im, struct err *e)
{
	struct machine_state want = machine_of(vm);

	if (im->machine.memory_bytes != want.memory_bytes || im->machine.n_vcpus != want.n_vcpus ||
	    im->machine.n_devices != want.n_devices) {
		return err_set(e, EINVAL, ERR_INVALID, "the snapshot is of a machine with %s, %u vCPUs "
			       "and %u devices", format_size(im->machine.memory_bytes).text,
			       im->machine.n_vcpus, im->machine.n_devices);
	}
	return 0;
}

/* Interrupt controllers, clock, vCPUs, devices: each finds what it builds upon. */
static int put_in_place(struct vm *vm, struct image *im, struct err *e)
{
	const struct engine_ops *ops = vm->engine->ops;

	im->irq.n_lapics = vm->n_cpus;
	int r = ops->clock_set(vm->engine, &im->clock, e);

	for (unsigned i = 0; i < vm->n_cpus && r == 0; i++) {
		r = ops->vcpu_set(vm->cpus[i].v, &im->cpus[i], e);
	}
	r = r < 0 ? r : ops->irq_set(vm->engine, &im->irq, e);
	for (unsigned i = 0; i < vm->n_devices && r == 0; i++) {
		r = virtio_pci_loaded(vm->devices[i], e);
	}
	if (r == 0) {
		pci_remap(vm->pci);
		serial_sent(vm->serial);
	}
	return r;
}

int vm__cpus_load(struct vm *vm, const void *data, size_t len, struct err *e)
{
	auto_free struct image *im = image_new();
	auto_(state_closep) struct state_reader *in = NULL;
	int r = im ? state_open(data, len, &in, e) : err_nomem(e);

	r = r < 0 ? r : read_cpus(vm, im, in, e);
	r = r < 0 ? r : state_commit(in, e);
	return r < 0 ? r : put_in_place(vm, im, e);
}

int vm_load(struct vm *vm, const struct snapshot_files *f, struct err *e)
{
	auto_free struct image *im = image_new();
	auto_buf struct buf data = BUF_INIT;
	auto_(state_closep) struct state_reader *in = NULL;

	if (vm->state != VM_PAUSED || !vm->expects_load) {
		return err_set(e, EBUSY, ERR_CONFLICT, "the virtual machine is not empty");
	}
	(void)lseek(f->state_fd, 0, SEEK_SET); /* who wrote it may be at its end; no file: see below */
	int r = sys_read_fd(f->state_fd, STATE_STREAM_MAX, &data);

	if (!im || r == -ENOMEM) {
		return err_nomem(e);
	}
	r = r < 0 ? err_set(e, -r, ERR_HOST, "cannot read the state file") :
		    state_open(buf_str(&data), data.len, &in, e);
	r = r < 0 ? r : state_peek(in, "/machine", &vm_machine_state, &im->machine, e);
	r = r < 0 ? r : check(vm, im, e);
	r = r < 0 ? r : read_all(vm, im, in, e);
	r = r < 0 ? r : gmem_restore(&vm->mem, f->memory_fds, im->machine.memory_id, e);
	r = r < 0 ? r : state_commit(in, e);
	r = r < 0 ? r : put_in_place(vm, im, e);
	vm->expects_load = r < 0;
	return r;
}
