/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices: what all of them share, below a transport (vm/dev/virtio-pci.h).
 *
 * A device is described by one constant (struct vdev_desc) that stands in vdev_table. Its
 * struct begins with a struct vdev. The driver's registers reach it through the functions
 * under "For transports", which hold the driver to the order that the specification asks:
 *
 *	             ACKNOWLEDGE            FEATURES_OK            DRIVER_OK
 *	  VDEV_RESET -----------> VDEV_FOUND ---------> VDEV_READY ---------> VDEV_LIVE
 *	      ^                       |                     |                     |
 *	      |      status := 0      v                     v                     v
 *	      +---- VDEV_DRAINING <---+---------------------+---------------------+
 *	                  ^                                 | vdev_fault(), FAILED|
 *	                  +-------- VDEV_BROKEN <-----------+---------------------+
 *
 *	RESET     nothing is agreed; no queue is enabled; status reads 0
 *	FOUND     features may be chosen, and only here
 *	READY     features are frozen; queues may be set up and, each once, enabled
 *	LIVE      queues are frozen; the device works; the loop runs its sources
 *	BROKEN    the driver broke a rule (status has NEEDS_RESET), or gave up; nothing is taken
 *	          from queues, nothing is put there
 *	DRAINING  a reset was asked for and requests are out at the host; every register write is
 *	          ignored and status does not read 0 before the last one came back
 *
 * Threads: registers are reached on vCPU threads, everything else runs on the machine's loop;
 * both with d->lock held. What a register write wants of the loop it asks for through
 * d->control, an eventfd. Ops say where they are called. A request that can be done at once is
 * done where the driver's kick arrives, if the device has that in it: two threads need not be
 * woken then.
 *
 * A device reaches guest memory only through vdev_pop() and what it returns, gets files and
 * sockets as descriptors in its configuration, and takes time from the loop.
 *
 * Spec: virtio 1.2, 2.1 Device Status Field, 3.1 Device Initialization.
 */
#ifndef VM_DEV_VDEV_H
#define VM_DEV_VDEV_H

#include "state/state.h"
#include "vm/dev/dev.h"
#include "vm/dev/vq.h"

enum { VDEV_QUEUES_MAX = 4, VDEV_NAME_MAX = 32 };

enum vdev_phase {
	VDEV_RESET,
	VDEV_FOUND,
	VDEV_READY,
	VDEV_LIVE,
	VDEV_BROKEN,
	VDEV_DRAINING,
	VDEV_PHASE__COUNT,
};

extern const char *const vdev_phase_names[VDEV_PHASE__COUNT];

struct vdev;

/* All are called on the loop with the lock held, unless said otherwise. */
struct vdev_ops {
	/*
	 * Before any other; no lock. `conf` is the kind's own struct (blk.h and the others);
	 * descriptors that are taken out of it become -1 there.
	 */
	int  (*realize)(struct vdev *d, void *conf, struct err *e) must_check;
	/* Free what realize() made; also after it failed half-way. Nothing is in flight. */
	void (*unrealize)(struct vdev *d);
	/* May the host's side work: queues are live (true), or no more, or paused (false). */
	void (*run)(struct vdev *d, bool on);
	/* Requests may be there. */
	void (*queue_ready)(struct vdev *d, unsigned queue);
	/*
	 * The driver kicked a live queue, on its vCPU's thread, which waits: do those requests
	 * that neither wait for anything nor take long. False: there may be more, for the loop.
	 * NULL: all is left to the loop.
	 */
	bool (*kicked)(struct vdev *d, unsigned queue);
	/*
	 * Forget what the driver said. After the last request came back; on a vCPU's thread if
	 * the device was not live since the reset before. NULL: nothing to do.
	 */
	void (*reset)(struct vdev *d);
	/* Features were agreed. On a vCPU's thread. -EINVAL: not in this combination. NULL: fine */
	int  (*negotiated)(struct vdev *d);
	/* A write to config space, off + n <= config_bytes. On a vCPU's thread. NULL: read only. */
	void (*config_write)(struct vdev *d, unsigned off, unsigned n, const void *value);
	/*
	 * Let every request that is in flight come back. May block; -ETIMEDOUT: some are out after
	 * that time (0: it waits for ever), and come back later. NULL: there never is one.
	 */
	int  (*quiesce)(struct vdev *d, uint64_t timeout_ns) must_check;
	/*
	 * Before a save: put what the kind's table describes where it says. After a load: take
	 * it from there. The device is paused. NULL: the table's members are the device's own.
	 * Does not fail before a save; a load may be refused with -EBADMSG.
	 */
	int  (*state)(struct vdev *d, bool save) must_check;
	/*
	 * Bytes that no table can hold, in a section of their own: append them; take a copy of what
	 * was loaded, for the call of state() that follows. Both or none.
	 */
	void (*save_bytes)(struct vdev *d, struct buf *b);
	int  (*load_bytes)(struct vdev *d, const void *data, size_t len) must_check;
};

/* What the host's side of a device needs of the process that it runs in. */
struct vdev_sandbox {
	const int  *syscalls;     /* of the loop's thread, once the device is made */
	size_t      n_syscalls;
	const char *fds;          /* which descriptors it holds, for people */
};

struct vdev_desc {
	const char *name;                    /* "virtio-blk" */
	uint16_t    virtio_id;
	uint32_t    pci_class;               /* base class, sub class, interface */
	uint8_t     n_queues;
	uint16_t    queue_max;
	size_t      bytes;                   /* of the device's struct */
	const struct vdev_ops     *ops;
	const struct state_desc   *state;    /* of what is the kind's own; its name is ours */
	const struct vdev_sandbox *sandbox;
};

/* Every kind of device. */
extern const struct vdev_desc *const vdev_table[];
extern const size_t vdev_table_len;

/* Of the transport; called with the device's lock held, on any thread. */
struct vdev_transport {
	void (*queue_irq)(struct vdev *d, unsigned queue);
	void (*config_irq)(struct vdev *d);
	/* The device went live (kicks may be routed by the engine), or no more. */
	void (*live)(struct vdev *d, bool on);
	/* The driver's settings in the transport go back to their defaults. */
	void (*reset)(struct vdev *d);
};

struct vdev_kick {
	struct vdev      *dev;
	unsigned          queue;
	int               fd;       /* eventfd that the driver's notify ends in */
	struct loop_fd   *source;
};

struct vdev {
	const struct vdev_desc *desc;
	char                    name[VDEV_NAME_MAX];   /* of this one, for messages */
	struct machine         *machine;
	pthread_mutex_t         lock;
	const struct vdev_transport *transport;
	void                   *transport_ctx;

	/* As the driver sees it. */
	enum vdev_phase phase;
	uint8_t         status;
	uint8_t         config_generation;
	uint64_t        offered, features;
	const void     *config;             /* set by realize() */
	unsigned        config_bytes;
	struct vq       queues[VDEV_QUEUES_MAX];

	/* On the loop. */
	struct vdev_kick kicks[VDEV_QUEUES_MAX];
	int              control_fd;
	struct loop_fd  *control;
	struct loop_post again;             /* queues whose budget ran out */
	uint32_t         again_queues;
	unsigned         budget;            /* requests left in this call of queue_ready() */
	bool             running;           /* ops->run(true) was called last */
	bool             paused;
	bool             realized;          /* realize() was called, if only to fail */
	bool             loaded;            /* from a snapshot; not resumed since */
	bool             fill_pending[VDEV_QUEUES_MAX];   /* given, and no interrupt sent yet */

	/* Since it was made. */
	uint64_t         faults;
	const char      *last_fault;        /* a literal, or NULL */
};

/*
 * Make a device. `name` tells it from others of its kind. Of the descriptors in `conf` those
 * that were taken are -1 afterwards, the others stay the caller's, also on failure.
 * Context: before its transport; the loop does not run, or it is the loop's thread.
 */
int vdev_new(const struct vdev_desc *desc, const char *name, struct machine *m,
	     void *conf, struct vdev **ret, struct err *e) must_check;

/* On the loop's thread, with no vCPU running. Waits for requests that are out. Returns NULL. */
struct vdev *vdev_free(struct vdev *d);
AUTO_PTR(struct vdev, vdev_free)

/* How long a pause waits for what is in flight at the host. */
#define VDEV_PATIENCE_NS (UINT64_C(10) * 1000000000)

/*
 * Stop for a snapshot: when it returns 0, nothing is in flight and the device touches no guest
 * memory; kicks and input wait. Resume goes on, and looks at every queue once. -ETIMEDOUT: the
 * host's side hangs, and the device goes on.
 * Context: the loop's thread, without the lock.
 */
int  vdev_pause(struct vdev *d) must_check;
void vdev_resume(struct vdev *d);

/* What of a struct vdev is in a snapshot; saved and loaded by virtio_pci_save() and its like. */
extern const struct state_desc vdev_state;

/* --- For devices, on the loop with the lock held --- */

static inline bool vdev_has(const struct vdev *d, unsigned feature)
{
	return d->features & BIT(feature);
}

/* The device works: live, and not paused. */
bool vdev_works(const struct vdev *d);

/*
 * The next request of a queue. False: none, or the driver broke the rules and the device now
 * asks for a reset, or this turn's budget is used up and queue_ready() is called again.
 */
bool vdev_pop(struct vdev *d, unsigned queue, struct vq_chain *ret);

/* Give it back. The interrupt follows by vdev_flush(), which queue_ready()'s caller does. */
void vdev_push(struct vdev *d, unsigned queue, const struct vq_chain *c, size_t written);
void vdev_flush(struct vdev *d);

/* Several requests that appear together: vq_fill() each and then this. */
void vdev_publish(struct vdev *d, unsigned queue);

/* Call queue_ready() for this queue in another turn. */
void vdev_again(struct vdev *d, unsigned queue);

/* The driver broke a rule: stop, ask for a reset, tell by an interrupt. `why` is a literal. */
void vdev_fault(struct vdev *d, const char *why);

/* Config space changed: a new generation, and an interrupt. */
void vdev_config_changed(struct vdev *d);

/* The lock, from callbacks of the loop. */
void vdev_lock(struct vdev *d);
void vdev_unlock(struct vdev *d);

/* --- For transports, with the lock held, on a vCPU's thread --- */

/* Device status. 0 asks for a reset; bits that are set already stay. */
void vdev_set_status(struct vdev *d, uint8_t v);

/* Feature bits 32 * word .. + 31; only in VDEV_FOUND. */
uint32_t vdev_offered(const struct vdev *d, uint32_t word);
void     vdev_set_features(struct vdev *d, uint32_t word, uint32_t v);

/* NULL: there is no such queue, or it may not be set up now. */
struct vq *vdev_queue_setup(struct vdev *d, unsigned queue);
void       vdev_queue_enable(struct vdev *d, unsigned queue);

/* The driver says that a queue has something. Any number is safe. */
void vdev_kick(struct vdev *d, unsigned queue);

void vdev_config_read(struct vdev *d, unsigned off, unsigned n, void *ret);
void vdev_config_write(struct vdev *d, unsigned off, unsigned n, const void *value);

#endif
