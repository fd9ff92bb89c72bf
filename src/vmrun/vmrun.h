/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI runtime whose containers are virtual machines: what the files of this folder share.
 *
 *	config.c   a container's config as the guest needs it
 *	link.c     a blocking connection to the guest's agent
 *	record.c   what is kept of a machine between commands
 *	proxy.c    the process that stands for one process in the guest
 *	create.c   a machine, from its bundle to the created container
 *
 * To its caller a machine looks like a container: `create` leaves a process behind, the proxy,
 * whose standard streams are the container's, whose death is the container's end, and whose
 * exit status is the container's. Signals sent to it reach the process in the guest; SIGKILL
 * ends the machine with it. `exec` leaves another proxy, for another process of the guest.
 *
 * A proxy takes the instance's own uid before it reads a byte that comes from the guest.
 */
#ifndef VMRUN_VMRUN_H
#define VMRUN_VMRUN_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "guest/guest-proto.h"

enum {
	VM_FILES_MAX       = 64,
	VM_BOOT_TIMEOUT_S  = 600,
	VM_MEMORY_DEFAULT  = 512,      /* MiB */
	VM_MEMORY_MIN      = 128,
	VM_UID_DEFAULT     = 64712,    /* where the config maps no ids */
};

/* Annotation: path of an EROFS image with the root's files, instead of one made of root.path. */
#define VM_ANNOTATION_ROOT "org.holm.vm.root"

/* Annotation: "user" gives the machine the user network; without it there is loopback only. */
#define VM_ANNOTATION_NETWORK "org.holm.vm.network"

/* In a machine's folder. */
#define VM_STATE_FILE  "state.json"
#define VM_VSOCK_FILE  "vsock"
#define VM_CONSOLE     "console.log"    /* of the guest's kernel */
#define VM_LOG         "monitor.log"    /* what the monitor says itself */
#define VM_ROOT_FILE   "root.erofs"

/*
 * In the bundle, made by `create`: what the guest's kernel counted of the container's memory, as
 * the kernel writes memory.events. The proxy's own control group knows nothing of it.
 */
#define VM_MEMORY_EVENTS "memory.events"

struct vm_programs {
	const char *vmm;             /* holm-vmm */
	const char *agent_image;     /* cpio archive with holm-init and holm-oci */
	const char *kernel;          /* folder with KERNEL_FILE and KERNEL_MODULES; --cache */
	const char *engine;          /* "auto", "kvm", "soft" */
};

/* A small file of the host that the container binds; sent to the guest. */
struct vm_file {
	char    *source;
	uint32_t mode;
	struct buf data;
};

struct vm_config {
	char    *text;               /* the config for the guest's runtime */
	char    *hostname;
	char    *rootfs;             /* absolute path on the host */
	char    *root_image;         /* or NULL */
	uint64_t memory_mib;
	unsigned cpus;
	uid_t    uid;                /* of proxy and monitor */
	bool     network;            /* the user network */
	bool     terminal;
	uint32_t rows, cols;
	struct vm_file files[VM_FILES_MAX];
	size_t   n_files;
};

/* config.c */
/*
 * @bundle  absolute; relative paths of the config start there
 *
 * What a machine cannot do (yet) is refused by name: hooks, bind mounts of folders, joining
 * namespaces by path.
 */
int  vm_config_read(const char *bundle, struct vm_config *ret, struct err *e) must_check;
void vm_config_fini(struct vm_config *c);

/* link.c */
struct guest_link {
	struct wire_conn conn;
	uint32_t         serial;
};

#define GUEST_LINK_INIT { .conn = { .fd = -1 } }

/* Connect to the agent behind a monitor's vsock socket; -ECONNREFUSED: it does not listen yet. */
int  link_open(int dir_fd, const char *socket, struct guest_link *ret, struct err *e) must_check;
void link_close(struct guest_link *l);

/* Ask and wait for the answer; `ret` (may be NULL) is a decoded reply, owned by the caller. */
int  link_call(struct guest_link *l, enum guest_msg_type type, const void *msg,
	       struct guest_reply *ret, struct err *e) must_check;

/* Become a stream of a session: the link's descriptor, which is the caller's. */
int  link_attach(int dir_fd, const char *socket, const char *session, enum guest_stream stream,
		 int *ret_fd, struct err *e) must_check;

/* record.c */
enum vm_status { VM_CREATED, VM_RUNNING, VM_STOPPED, VM_STATUS__COUNT };
extern const char *const vm_status_names[VM_STATUS__COUNT];

struct vm_record {
	char    *id, *bundle;
	int      dir_fd;             /* its folder */
	pid_t    pid;                /* of the proxy; 0: not yet */
	uint64_t start_ticks;
	uint64_t created_ns;
	uid_t    uid;
	bool     started;
};

#define VM_RECORD_INIT { .dir_fd = -1 }

int  vm_record_make(const char *root, const char *id, struct vm_record *ret,
		    struct err *e) must_check;
int  vm_record_open(const char *root, const char *id, struct vm_record *ret,
		    struct err *e) must_check;
int  vm_record_save(const struct vm_record *r, struct err *e) must_check;
int  vm_record_remove(const char *root, const char *id, struct err *e) must_check;
void vm_record_fini(struct vm_record *r);
enum vm_status vm_record_status(const struct vm_record *r);

/* proxy.c */
struct proxy_conf {
	const char       *session;
	int               dir_fd;        /* of the machine */
	struct guest_link link;          /* that made the session; owned */
	int               streams[3];    /* attached; [0] the terminal; owned; -1 */
	int               terminal_fd;   /* our end of a pseudo-terminal; owned; -1 */
	int               memory_fd;     /* VM_MEMORY_EVENTS, to be written; owned; -1: none */
	pid_t             vmm;           /* 0: not ours to end */
};

/* Carry streams and signals until the process ends; the status to exit with, or -errno. */
int proxy_run(struct proxy_conf *own, struct err *e) must_check;

/* create.c */
struct vm_create {
	const char *root, *id, *bundle, *pid_file, *console_socket;
	struct vm_programs programs;
};

int vm_create(const struct vm_create *c, struct err *e) must_check;

struct vm_exec {
	const char *root, *id, *process_file, *pid_file, *console_socket;
	bool        detach;
};

/* The exit status where not detached. */
int vm_exec(const struct vm_exec *x, struct err *e) must_check;

#endif
