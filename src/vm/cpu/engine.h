/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CPU engine: what runs the vCPUs of one VM. There are two, KVM and our own software engine;
 * nothing above this header knows which one runs.
 *
 * The VM part (struct engine) is made once, then its vCPUs, each of which is run by one thread
 * of its own. What a vCPU reaches outside of RAM comes back through struct engine_bus.
 *
 *	r = engine_new(&engine_soft, &conf, &eng, e);
 *	r = engine_vcpu_new(eng, 0, &vcpu, e);
 *	// on the vCPU's thread:
 *	for (;;) { r = vcpu_run(vcpu, &stop); ... }
 *
 * Threads: vcpu_run() is called by the vCPU's own thread; vcpu_kick(), engine_msi() and
 * engine_line() by any thread at any time; everything else while no vCPU of the engine runs,
 * or before the first does.
 */
#ifndef VM_CPU_ENGINE_H
#define VM_CPU_ENGINE_H

#include "vm/cpu/state.h"
#include "vm/irq/irq.h"
#include "vm/mem/gmem.h"

struct engine;
struct vcpu;

enum { ENGINE_VCPUS_MAX = 64, ENGINE_GSIS = 24, ENGINE_ROUTES_MAX = 512 };

/* Accesses of vCPUs outside of RAM; called on the vCPU's thread, with no lock held. */
struct engine_bus {
	void *ctx;
	void (*mmio_read)(void *ctx, gpa_t at, void *ret, unsigned bytes);         /* 1, 2, 4, 8 */
	void (*mmio_write)(void *ctx, gpa_t at, const void *data, unsigned bytes);
	void (*pio_read)(void *ctx, uint16_t port, void *ret, unsigned bytes);     /* 1, 2, 4 */
	void (*pio_write)(void *ctx, uint16_t port, const void *data, unsigned bytes);
};

/* What CPUID shows, by leaf and subleaf; made by cpu_model() from what the engine can do. */
struct cpu_cpuid {
	uint32_t leaf, subleaf;
	bool     has_subleaf;       /* else every subleaf */
	uint32_t eax, ebx, ecx, edx;
};

/* How the software engine translates. 0: as it sees fit. */
struct engine_xl_conf {
	unsigned after;         /* a block's run that is the first one of its translation; 1: all are */
	size_t   bytes;         /* of the code cache: 256 KiB to 1 GiB */
	int      perf_map_fd;   /* blocks are named there, for perf; borrowed; 0: nowhere */
	bool     shaken;        /* now and then its caches are emptied, the code is left, and an access
				 * goes to the interpreter */
	bool     no_shadow;     /* no memory of the guest is mapped where the guest has it */
	bool     direct_now;    /* to find faults: any address space is, as soon as it runs at CPL 3 */
};

struct engine_conf {
	struct gmem             *mem;          /* borrowed; its slots are complete */
	const struct engine_bus *bus;          /* borrowed */
	unsigned                 n_vcpus;
	uint64_t                 tsc_hz;       /* 0: the host's own */
	int                      kvm_fd;       /* /dev/kvm, borrowed; 0: the engine opens it */
	bool                     deterministic; /* software engine: time is counted instructions */
	bool                     kernel_ioapic; /* KVM: keep the I/O APIC in the kernel, too */
	struct engine_xl_conf    xl;
};

/*
 * Counted mode (conf.deterministic): a nanosecond of the guest's time is an instruction, vCPUs
 * run in turns, and what the guest does follows from its memory, its registers and what comes
 * in from outside. A point in its life is told by two counts that both only grow:
 */
struct engine_pos {
	uint64_t insns;     /* instructions that are done, of all vCPUs; a REP one counts again
			     * for each 4096 elements */
	uint64_t events;    /* exceptions and interrupts delivered, sleeps begun, turns at their end,
			     * turns passed on */
};

static inline int engine_pos_cmp(const struct engine_pos *a, const struct engine_pos *b)
{
	return a->insns != b->insns ? (a->insns < b->insns ? -1 : 1) :
	       a->events != b->events ? (a->events < b->events ? -1 : 1) : 0;
}

enum vcpu_stop {
	VCPU_STOP_KICKED,      /* vcpu_kick() */
	VCPU_STOP_SHUTDOWN,    /* triple fault */
	VCPU_STOP_BREAKPOINT,  /* of the debugger, before the instruction */
	VCPU_STOP_STEPPED,     /* of the debugger, after one instruction */
	VCPU_STOP_WATCHED,     /* of the debugger, after an access that it watches: v->watch_hit */
	VCPU_STOP_FAILED,      /* the engine cannot go on; the message is in the error */
	VCPU_STOP__COUNT,
};

/* What drives a counted machine: who records it, or gives it what was recorded. All are called
 * on the thread of the vCPU whose turn it is, between two instructions. */
struct engine_tape {
	void    *ctx;
	bool     replay;          /* sleeps are not slept: slept() says how long they were */
	uint64_t seed;            /* of what RDRAND and RDSEED give */
	uint64_t boot_wall_ns;    /* clock of day when the guest's time was 0 */
	/*
	 * The machine stands at or behind the point that was asked for last. *ret_next: the next
	 * one. Returns 0 to go on, 1 to have vcpu_run() return with *ret_stop, or -errno.
	 */
	int    (*due)(void *ctx, struct vcpu *v, const struct engine_pos *at,
		      struct engine_pos *ret_next, enum vcpu_stop *ret_stop, struct err *e);
	/* All vCPUs slept for *ns; or, in a replay, how long did they? */
	int    (*slept)(void *ctx, const struct engine_pos *at, uint64_t *ns, struct err *e);
};

enum { VCPU_BREAKPOINTS_MAX = 64, VCPU_WATCHES_MAX = 4 };

/* An access to memory that stops the vCPU behind the instruction. */
struct vcpu_watch {
	uint64_t va;
	uint32_t bytes;      /* 1, 2, 4 or 8; va is a multiple */
	bool     on_read;    /* reads too, not only writes */
};

/* What the debugger wants of a vCPU. */
struct vcpu_debug {
	bool     step;
	unsigned n_breakpoints;
	uint64_t breakpoints[VCPU_BREAKPOINTS_MAX];   /* virtual addresses */
	unsigned n_watches;
	struct vcpu_watch watches[VCPU_WATCHES_MAX];
};

/* The VM's clocks, saved and restored as one; see vm/irq for the timers of local APICs. */
struct engine_clock {
	uint64_t guest_ns;    /* kvmclock: nanoseconds since the VM's boot, paused time left out */
	uint64_t wall_ns;     /* of the host when it was saved */
	uint64_t tsc;         /* of vCPU 0 at that moment */
	uint64_t tsc_hz;
};

/* A counter, for people: groups stand together. */
struct engine_stat {
	const char *group;
	char        name[56];
	uint64_t    value;
};

enum { ENGINE_STATS_MAX = 128, ENGINE_CODE_CACHE_MIN = 1 << 20, ENGINE_CODE_CACHE_MAX = 1 << 30 };

/* An engine: a table of functions; the wrappers below are what is called. */
struct engine_ops {
	const char *name;                        /* "kvm", "soft" */
	bool  memory_again;                      /* it would map guest memory a second time */

	/* Usable here? 0, or an error that says why not. */
	int  (*probe)(struct err *e);
	int  (*new_)(const struct engine_conf *conf, struct engine **ret, struct err *e);
	void (*free_)(struct engine *eng);

	/* vCPU number `id`, which is also its APIC id; in the state after reset. */
	int  (*vcpu_new)(struct engine *eng, unsigned id, struct vcpu **ret, struct err *e);
	int  (*vcpu_cpuid)(struct vcpu *v, const struct cpu_cpuid *entries, size_t n, struct err *e);
	int  (*vcpu_run)(struct vcpu *v, enum vcpu_stop *ret, struct err *e);
	void (*vcpu_kick)(struct vcpu *v);       /* a run that goes on, or the next, stops */
	int  (*vcpu_get)(struct vcpu *v, struct cpu_state *ret, struct err *e);
	int  (*vcpu_set)(struct vcpu *v, const struct cpu_state *s, struct err *e);
	int  (*vcpu_debug)(struct vcpu *v, const struct vcpu_debug *d, struct err *e);

	/* Virtual to physical with the vCPU's paging, without side effects; -EFAULT. */
	int  (*vcpu_translate)(struct vcpu *v, uint64_t va, gpa_t *ret);

	/* Interrupts: a message, or a line of the I/O APIC. */
	int  (*msi)(struct engine *eng, uint64_t addr, uint32_t data);
	int  (*line)(struct engine *eng, unsigned gsi, bool level);

	/* Interrupt controllers' state: struct irq_state of vm/irq/irq.h. */
	int  (*irq_get)(struct engine *eng, struct irq_state *ret, struct err *e);
	int  (*irq_set)(struct engine *eng, const struct irq_state *s, struct err *e);

	int  (*clock_get)(struct engine *eng, struct engine_clock *ret, struct err *e);
	int  (*clock_set)(struct engine *eng, const struct engine_clock *c, struct err *e);

	/* Write to `fd` (an eventfd) when a vCPU writes `bytes` at `at`, and do not call the bus.
	 * -EOPNOTSUPP: the bus is called, and its owner does it. */
	int  (*ioevent)(struct engine *eng, gpa_t at, unsigned bytes, int fd, bool add);

	/*
	 * Interrupts by eventfd, which another process may write to: a vhost device, or one of
	 * ours outside of the monitor. A route is a number; from ENGINE_GSIS on each stands for the
	 * message that route() gives it, and below it for a pin of the I/O APIC, as an edge. Routes
	 * take long to change (all vCPUs are waited for). NULL: read the descriptor, and call msi()
	 * or line().
	 */
	int  (*route)(struct engine *eng, unsigned route, uint64_t addr, uint32_t data, bool on);
	int  (*irqfd)(struct engine *eng, unsigned route, int fd, bool add);

	/* Dirty log: on or off; and bring gmem's bitmap up to date. Vcpus may run. Who takes the
	 * bitmap while they do calls it before, and again behind: only then is every store noted. */
	int  (*log)(struct engine *eng, bool on, struct err *e);
	int  (*log_sync)(struct engine *eng, struct err *e);

	/* Counted mode; NULL: the engine has none. The tape is borrowed; due() is first called
	 * at *first. Before any vCPU runs. */
	void (*set_tape)(struct engine *eng, const struct engine_tape *t,
			 const struct engine_pos *first);
	/* Where it stands; while held, or on the thread of the vCPU that runs. */
	void (*position)(struct engine *eng, struct engine_pos *ret);
	/* No vCPU is inside an instruction from the return of hold(true) on, until hold(false). One
	 * thread has it, others wait for theirs; none that is in vcpu_run(). */
	void (*hold)(struct engine *eng, bool on);

	/* Counters, at most `max`: how many there are is returned. Any thread. NULL: none. */
	size_t (*stats)(struct engine *eng, struct engine_stat *ret, size_t max);
};

struct engine {
	const struct engine_ops *ops;
	struct engine_conf       conf;
	struct engine_bus        bus;
};

struct vcpu {
	const struct engine_ops *ops;
	struct engine           *eng;
	unsigned                 id;
	unsigned                 watch_hit;    /* VCPU_STOP_WATCHED: index of the watch */
};

/* engine_interp: the software engine without its translator, the reference of what is right. */
extern const struct engine_ops engine_kvm, engine_soft, engine_interp;

/* What the host's processor or kernel lacks for the translator, so that engine_soft interprets;
 * NULL: nothing. */
const char *engine_soft_lacks(void);

/*
 * The engine that suits this host: KVM where a tiny guest runs on it, in kernel and user mode,
 * right and not instruction by instruction; else the software engine, and *why says what is
 * wrong with KVM here. Takes a few milliseconds.
 */
const struct engine_ops *engine_auto(struct err *why);

#endif
