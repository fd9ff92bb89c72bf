/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of holm-vmm share. */
#ifndef MAIN_VMM_H
#define MAIN_VMM_H

#include "base/str.h"
#include "vm/vm.h"
#include "wire/wire.h"

enum { VMM_ENGINE_AUTO, VMM_ENGINE_KVM, VMM_ENGINE_SOFT, VMM_ENGINE_INTERP };
enum { VMM_CONSOLE_SERIAL, VMM_CONSOLE_VIRTIO, VMM_CONSOLE_NONE };

struct vmm_opts {
	const char *kernel, *cmdline, *cache, *serial_file, *vsock, *control, *gdb, *net, *restore,
		   *record, *replay, *perf_map;
	struct strv initrds, disks;
	uint64_t    memory, cpus, uid, gid, check_every, check_memory_every, check_from, check_to,
		    stop_at, translate_after, code_cache;
	int         engine, console;
	bool        unconfined, no_reboot, no_kaslr, paused, debug, die_with_parent, stats, shake,
		    no_shadow, direct;
};

/* Its state and its memory come from a snapshot: at the start, or when the control socket says so. */
static inline bool vmm_loads(const struct vmm_opts *o)
{
	return !o->kernel && !o->replay;
}

/* Memory of a snapshot cannot be mapped a second time (docs/decisions/116). */
static inline bool vmm_shadows(const struct vmm_opts *o)
{
	return !o->no_shadow && !vmm_loads(o);
}

struct vmm_disk {
	int  fd;
	bool read_only;
	char serial[24];
};

/* Everything that has a name, opened before the monitor begins. */
struct vmm_files {
	const struct engine_ops *engine;
	int    kvm_fd;                  /* -1: it is not KVM */
	int    kernel_fd, image_fd, initrd_fd, cache_fd, random_fd;
	int    state_fd, memory_low_fd, memory_high_fd;     /* of a snapshot */
	int    memory_file_fd;          /* of guest memory, empty; -1: the monitor makes one */
	int    record_fd, replay_fd;
	int    perf_map_fd;
	int    serial_in_fd, serial_out_fd;
	bool   escape_key;              /* of the console on standard input */
	int    console_in_fd, console_out_fd;
	struct vmm_disk disks[VM_DEVICES_MAX];
	unsigned n_disks;
	int    vsock_fd;                /* listens */
	uint32_t vsock_cid;             /* 0: no vsock device */
	int    vsock_dir_fd;            /* the folder that its socket is in */
	char  *vsock_name;              /* and the name there */
	int    parent_fd;               /* the monitor's end of the link to the keeper */
	int    net_fd;
	bool   net_stream;
	uint8_t net_mac[6];
	int    control_fd, gdb_fd;      /* they listen; the keeper's */
};

#define VMM_FILES_INIT { .kvm_fd = -1, .kernel_fd = -1, .initrd_fd = -1, \
			 .image_fd = -1, .cache_fd = -1, .random_fd = -1, .state_fd = -1, \
			 .memory_low_fd = -1, .memory_high_fd = -1, .memory_file_fd = -1, \
			 .record_fd = -1, .replay_fd = -1, .perf_map_fd = -1, .serial_in_fd = -1, \
			 .serial_out_fd = -1, .console_in_fd = -1, .console_out_fd = -1, .control_fd = -1, .gdb_fd = -1, .vsock_fd = -1, .vsock_dir_fd = -1, \
			 .parent_fd = -1, .net_fd = -1 }

/* Open what the options name. Of vmm-opts.c. */
int  vmm_open_files(const struct vmm_opts *o, struct vmm_files *f, struct err *e) must_check;
void vmm_close_files(struct vmm_files *f);

/*
 * The kernel unpacked, f->image_fd, out of the folder of --cache, or unpacked here by a process in
 * the jail and put there. Without that folder, or where nothing is to be unpacked, it stays -1.
 * A folder that cannot be written is complained of, and done without; in any case it is closed
 * then. Of vmm-cache.c.
 */
int  vmm_unpack_kernel(const struct vmm_opts *o, struct vmm_files *f, struct err *e) must_check;

/* The keeper's end of its link to a monitor, by which that asks for connections. Of vmm-vsock.c. */
struct vmm_link {
	const struct vmm_files *files;
	struct wire_conn wire;
	bool   open;
	bool   refused;        /* somebody, and it was said */
};

int   vmm_link_open(struct vmm_link *l, const struct vmm_files *f, int *ret_child_fd,
		    struct err *e) must_check;
void  vmm_link_close(struct vmm_link *l);
short vmm_link_events(const struct vmm_link *l);   /* for poll() */
void  vmm_link_ready(struct vmm_link *l);

/*
 * Somebody connects to a listening socket. If they are root or whoever started the machine, the
 * monitor gets the connection; else it is closed. While the monitor has not taken what it got,
 * vmm_link_listens() is false: then they wait. Of vmm-clients.c.
 */
bool  vmm_link_listens(const struct vmm_link *l);
void  vmm_link_accept(struct vmm_link *l, int listen_fd, bool debugger);

/* Those that a machine which is made and loaded has no use for, or duplicates of. */
void vmm_close_loaded(struct vmm_files *f);

/*
 * The whole life of one boot, in a process of its own. Returns its exit status.
 */
int vmm_monitor(const struct vmm_opts *o, struct vmm_files *f, struct err *e);

#endif
