/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as KVM has it. */
#include "vm/cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/map.h"

/* Three pages that old processors need for real mode, where nothing else is. */
enum { TSS_PAGES = 0xfffbd000 };
#define IDENTITY_MAP UINT64_C(0xfffbc000)

int kvm__ioctl_n(int fd, unsigned long request, unsigned long n)
{
	return sys_ioctl(fd, request, (void *)n);
}

int kvm__fail(struct err *e, int r, const char *call)
{
	return err_set(e, -r, ERR_HOST, "KVM: %s", call);
}

static int check(int fd, unsigned long cap)
{
	int r = kvm__ioctl_n(fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

static int enable(int fd, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return sys_ioctl(fd, KVM_ENABLE_CAP, &c);
}

/* What this engine cannot do without; all of it is in Linux 6.1 on every processor. */
static const struct {
	unsigned long cap;
	const char   *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" }, { KVM_CAP_IRQCHIP, "interrupt controllers" },
	{ KVM_CAP_SIGNAL_MSI, "MSI" }, { KVM_CAP_MP_STATE, "processor states" },
	{ KVM_CAP_VCPU_EVENTS, "vCPU events" }, { KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "XSAVE" }, { KVM_CAP_XCRS, "extended control registers" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" }, { KVM_CAP_ADJUST_CLOCK, "the clock" },
	{ KVM_CAP_GET_TSC_KHZ, "the TSC's rate" }, { KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_IRQFD, "irqfd" }, { KVM_CAP_IRQ_ROUTING, "interrupt routes" },
};

/* given: a descriptor of it that is open already, or 0. */
static int open_kvm(int given, int *ret_fd, struct err *e)
{
	auto_close int fd = given > 0 ? sys_dup(given) :
					sys_openat(AT_FDCWD, "/dev/kvm", O_RDWR, 0);

	if (fd < 0) {
		return err_set(e, -fd, ERR_UNSUPPORTED, "/dev/kvm does not open: %s",
			       strerror(-fd));
	}
	int version = kvm__ioctl_n(fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION) {
		return err_set(e, EPROTO, ERR_UNSUPPORTED, "/dev/kvm speaks version %d", version);
	}
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		if (check(fd, needed[i].cap) == 0) {
			return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "this KVM has no %s",
				       needed[i].name);
		}
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int kvm_probe(struct err *e)
{
	auto_close int fd = -1;
	int r = open_kvm(0, &fd, e);

	if (r < 0) {
		return r;
	}
	auto_close int vm = kvm__ioctl_n(fd, KVM_CREATE_VM, 0);

	return vm < 0 ? kvm__fail(e, vm, "create a VM") : 0;
}

/* --- Memory --- */

static int set_slots(struct kvm_engine *eng, bool log, struct err *e)
{
	struct gmem *mem = eng->eng.conf.mem;

	for (unsigned i = 0; i < mem->n_slots; i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i, .flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = mem->slots[i].first.raw,
			.memory_size = mem->slots[i].bytes,
			.userspace_addr = (uint64_t)(uintptr_t)mem->slots[i].host,
		};
		int r = sys_ioctl(eng->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

		if (r < 0) {
			return kvm__fail(e, r, "set a memory slot");
		}
	}
	return 0;
}

static int kvm_log(struct engine *e, bool on, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	int r = eng->log == on ? 0 : set_slots(eng, on, err);

	eng->log = r < 0 ? eng->log : on;
	return r;
}

/* KVM's bitmap of a slot into ours. */
static void mark(struct gmem *mem, const struct gmem_slot *slot, const uint64_t *bits)
{
	uint64_t pages = slot->bytes >> GMEM_PAGE_SHIFT;

	for (uint64_t i = 0; i < (pages + 63) / 64; i++) {
		for (uint64_t w = bits[i]; w; w &= w - 1) {
			uint64_t page = i * 64 + (uint64_t)__builtin_ctzll(w);

			gmem_mark_dirty(mem, GPA(slot->first.raw + (page << GMEM_PAGE_SHIFT)),
					GMEM_PAGE_BYTES);
		}
	}
}

static int kvm_log_sync(struct engine *e, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct gmem *mem = eng->eng.conf.mem;

	for (unsigned i = 0; eng->log && i < mem->n_slots; i++) {
		size_t words = ((mem->slots[i].bytes >> GMEM_PAGE_SHIFT) + 63) / 64;
		auto_free uint64_t *bits = mem_calloc(words, sizeof(*bits));
		struct kvm_dirty_log log = { .slot = i, .dirty_bitmap = bits };

		if (!bits) {
			return err_nomem(err);
		}
		int r = sys_ioctl(eng->vm_fd, KVM_GET_DIRTY_LOG, &log);

		if (r < 0) {
			return kvm__fail(err, r, "read the dirty log");
		}
		mark(mem, &mem->slots[i], bits);
	}
	return 0;
}

/* --- Interrupts --- */

static int kvm_msi(struct engine *e, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data,
	};
	/* 0: the guest blocks it, which is no failure. */
	int r = sys_ioctl(kvm_engine(e)->vm_fd, KVM_SIGNAL_MSI, &msi);

	return r < 0 ? r : 0;
}

static void ioapic_sends(void *ctx, uint64_t addr, uint32_t data)
{
	struct kvm_engine *eng = ctx;

	ignore_result(kvm_msi(&eng->eng, addr, data)); /* a guest's bad entry goes nowhere */
}

static void ioapic_changed(void *ctx, unsigned pin)
{
	struct kvm_engine *eng = ctx;
	uint64_t addr;
	uint32_t data;
	/* A masked pin may still wait for the end of what it sent. */
	bool unmasked = ioapic_message(eng->ioapic, pin, &addr, &data);

	kvm__routes_pin(eng, pin, unmasked, addr, data);
}

static int kvm_line(struct engine *e, unsigned gsi, bool level)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	if (gsi >= ENGINE_GSIS) {
		return -EINVAL;
	}
	if (eng->split) {
		ioapic_set(eng->ioapic, gsi, level);
		return 0;
	}
	return sys_ioctl(eng->vm_fd, KVM_IRQ_LINE, &line);
}

static int make_irqchip(struct kvm_engine *eng, struct err *e)
{
	struct ioapic_conf conf = { .ctx = eng, .msi = ioapic_sends, .changed = ioapic_changed };

	eng->split = check(eng->vm_fd, KVM_CAP_SPLIT_IRQCHIP) > 0 && !eng->eng.conf.kernel_ioapic &&
		     enable(eng->vm_fd, KVM_CAP_SPLIT_IRQCHIP, IRQ_PINS) == 0;
	if (!eng->split) {
		int r = kvm__ioctl_n(eng->vm_fd, KVM_CREATE_IRQCHIP, 0);

		if (r < 0) {
			return kvm__fail(e, r, "create interrupt controllers");
		}
	} else if (ioapic_new(&conf, &eng->ioapic) < 0) {
		return err_nomem(e);
	}
	eng->x2apic_ids = enable(eng->vm_fd, KVM_CAP_X2APIC_API,
				 KVM_X2APIC_API_USE_32BIT_IDS |
					 KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) == 0;
	return 0;
}

/* --- Clock --- */

static int kvm_clock_get(struct engine *e, struct engine_clock *ret, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct kvm_clock_data clock = { 0 };
	int r = sys_ioctl(eng->vm_fd, KVM_GET_CLOCK, &clock);

	if (r == 0 && eng->cpus[0]) {
		r = kvm__msr_get(eng->cpus[0], 0x10, &ret->tsc);
	}
	if (r < 0) {
		return kvm__fail(err, r, "read the clock");
	}
	ret->guest_ns = clock.clock;
	ret->wall_ns = clock_wall_ns();
	ret->tsc_hz = eng->tsc_hz;
	return 0;
}

static int kvm_clock_set(struct engine *e, const struct engine_clock *c, struct err *err)
{
	struct kvm_engine *eng = kvm_engine(e);
	struct kvm_clock_data clock = { .clock = c->guest_ns };
	int r = sys_ioctl(eng->vm_fd, KVM_SET_CLOCK, &clock);

	if (r < 0) {
		return kvm__fail(err, r, "set the clock");
	}
	for (unsigned i = 0; i < ENGINE_VCPUS_MAX; i++) {
		/* The guest is told that it was stopped, so that its watchdog does not bark;
		 * one that does not use the clock cannot be told. */
		if (eng->cpus[i]) {
			ignore_result(kvm__ioctl_n(eng->cpus[i]->fd, KVM_KVMCLOCK_CTRL, 0));
		}
	}
	return 0;
}

/* --- The VM --- */

static void kvm_free(struct engine *e)
{
	if (!e) {
		return;
	}
	struct kvm_engine *eng = kvm_engine(e);

	kvm__gap_fini(eng);
	for (unsigned i = 0; i < ENGINE_VCPUS_MAX; i++) {
		kvm__vcpu_free(eng->cpus[i]);
	}
	ioapic_free(eng->ioapic);
	free(eng->supported);
	fd_close(&eng->vm_fd);
	fd_close(&eng->kvm_fd);
	pthread_mutex_destroy(&eng->routes.lock);
	free(eng);
}

static int set_up(struct kvm_engine *eng, struct err *e)
{
	uint64_t identity = IDENTITY_MAP;
	int r = kvm__ioctl_n(eng->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (r < (int)sizeof(struct kvm_run)) {
		return kvm__fail(e, r < 0 ? r : -EPROTO, "size of a vCPU's page");
	}
	eng->run_bytes = (size_t)r;
	eng->vm_fd = kvm__ioctl_n(eng->kvm_fd, KVM_CREATE_VM, 0);
	if (eng->vm_fd < 0) {
		return kvm__fail(e, eng->vm_fd, "create a VM");
	}
	r = sys_ioctl(eng->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	r = r < 0 ? r : kvm__ioctl_n(eng->vm_fd, KVM_SET_TSS_ADDR, TSS_PAGES);
	if (r < 0) {
		return kvm__fail(e, r, "place the pages for real mode");
	}
	eng->sregs2 = check(eng->vm_fd, KVM_CAP_SREGS2) > 0;
	/* Failures of KVM's instruction emulator come to us, also those in user mode. */
	ignore_result(enable(eng->vm_fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1));
	/* where it does not know this, user mode gets #UD */
	r = make_irqchip(eng, e);
	return r < 0 ? r : set_slots(eng, false, e);
}

static int kvm_new(const struct engine_conf *conf, struct engine **ret, struct err *e)
{
	if (conf->n_vcpus == 0 || conf->n_vcpus > ENGINE_VCPUS_MAX || conf->deterministic) {
		return err_set(e, EINVAL, ERR_INVALID,
			       conf->deterministic ? "KVM cannot count instructions" :
						     "number of vCPUs");
	}
	struct kvm_engine *eng = mem_new(struct kvm_engine);

	if (!eng) {
		return err_nomem(e);
	}
	eng->eng = (struct engine){ .ops = &engine_kvm, .conf = *conf, .bus = *conf->bus };
	eng->kvm_fd = eng->vm_fd = -1;
	pthread_mutex_init(&eng->routes.lock, NULL);
	int r = open_kvm(conf->kvm_fd, &eng->kvm_fd, e);

	r = r < 0 ? r : kvm__kick_setup();
	if (r == 0) {
		eng->supported = kvm__supported(eng->kvm_fd);
		r = eng->supported ? set_up(eng, e) : err_nomem(e);
	}
	if (r < 0) {
		kvm_free(&eng->eng);
		return r;
	}
	*ret = &eng->eng;
	return 0;
}

static int kvm_ioevent(struct engine *e, gpa_t at, unsigned bytes, int fd, bool add)
{
	struct kvm_ioeventfd event = {
		.addr = at.raw, .len = bytes, .fd = fd,
		.flags = add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	return sys_ioctl(kvm_engine(e)->vm_fd, KVM_IOEVENTFD, &event);
}

const struct engine_ops engine_kvm = {
	.name = "kvm",
	.probe = kvm_probe,
	.new_ = kvm_new,
	.free_ = kvm_free,
	.vcpu_new = kvm__vcpu_new,
	.vcpu_cpuid = kvm__cpuid,
	.vcpu_run = kvm__vcpu_run,
	.vcpu_kick = kvm__vcpu_kick,
	.vcpu_get = kvm__get,
	.vcpu_set = kvm__set,
	.vcpu_debug = kvm__vcpu_debug,
	.vcpu_translate = kvm__vcpu_translate,
	.msi = kvm_msi,
	.line = kvm_line,
	.irq_get = kvm__irq_get,
	.irq_set = kvm__irq_set,
	.clock_get = kvm_clock_get,
	.clock_set = kvm_clock_set,
	.ioevent = kvm_ioevent,
	.route = kvm__route,
	.irqfd = kvm__irqfd,
	.log = kvm_log,
	.log_sync = kvm_log_sync,
};
