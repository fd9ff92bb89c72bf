/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the map from guest physical addresses to RAM, checked access to it, and the
 * log of pages that were written.
 *
 * Everything but a CPU engine reaches guest memory through gmem_read(), gmem_write() and
 * gmem_iov(): no other code does arithmetic on host addresses. An address that is not RAM is
 * refused with -EFAULT, so a descriptor can never name a device's registers.
 *
 * Slots are added before the first vCPU runs and stay for the life of the VM; readers need
 * no lock. A write that does not come from a vCPU is told to the CPU engine (gmem_watch()),
 * which drops what it translated from there, and is marked in the dirty log.
 *
 * Guest memory races with running vCPUs by nature: copy once, then check the copy.
 *
 * Context: any thread, unless said otherwise.
 */
#ifndef VM_MEM_GMEM_H
#define VM_MEM_GMEM_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/err.h"

/* A guest physical address. Distinct from integers so that a host or virtual one is refused. */
typedef struct {
	uint64_t raw;
} gpa_t;

#define GPA(x) ((gpa_t){ (x) })

enum {
	GMEM_PAGE_SHIFT = 12,
	GMEM_PAGE_BYTES = 1 << GMEM_PAGE_SHIFT,
	GMEM_SLOTS_MAX  = 8,
	GMEM_EMPTY_MAX  = 32,
};

/* Of a slot, from its begin. */
struct gmem_range {
	uint64_t first, end;
};

/* Contiguous RAM. */
struct gmem_slot {
	gpa_t    first;        /* page aligned */
	uint64_t bytes;        /* page multiple, not 0 */
	uint8_t *host;         /* the mapping, owned by the struct gmem */
	int      fd;           /* file that backs it, owned; -1: anonymous memory */
	uint64_t fd_offset;
	int      again_fd;     /* anonymous memory that can be mapped again: its own; else -1 */
	uint64_t again_offset;
	bool     restored;     /* a snapshot's file is mapped there, privately */
	struct gmem_range empty[GMEM_EMPTY_MAX];   /* of which it had nothing: anonymous memory */
	unsigned n_empty;
	_Atomic uint64_t *dirty;   /* a bit a page; all zero while the log is off */
};

/* Told after a write to guest memory that no vCPU made; any thread. */
typedef void gmem_written_fn(void *ctx, gpa_t first, uint64_t bytes);

struct gmem {
	struct gmem_slot slots[GMEM_SLOTS_MAX];   /* by address */
	unsigned         n_slots;
	int              file_fd;                 /* gmem_use_file(); -1: none */
	uint64_t         file_bytes;              /* of it that are in use */
	atomic_bool      log_dirty;
	gmem_written_fn *written;                 /* NULL: nobody asked */
	void            *written_ctx;
	gmem_written_fn *tap;                     /* NULL: nobody asked */
	void            *tap_ctx;
};

/* An empty map. */
void gmem_init(struct gmem *g);
void gmem_fini(struct gmem *g);

/*
 * Anonymous memory that is to be mapped again comes from this empty file, which is nobody else's;
 * it is borrowed until the last gmem_add(). Else it comes from memory files, which on most hosts
 * have no huge pages.
 */
void gmem_use_file(struct gmem *g, int fd);

/*
 * Add RAM at `first`.
 *
 * @own_fd  file to map, owned from here on, also on failure; -1: anonymous memory
 * @shared  map the file shared (a memory file of this VM alone); else private, copy on write.
 *          Of anonymous memory: gmem_map_again() is wanted, for which huge pages may be given up
 *
 * Context: before any vCPU runs.
 */
int gmem_add(struct gmem *g, gpa_t first, uint64_t bytes, int own_fd, uint64_t offset, bool shared,
	     struct err *e) must_check;

/* All of [first, first + len) is RAM of one slot. len 0: first is RAM or one past it. */
bool gmem_is_ram(const struct gmem *g, gpa_t first, uint64_t len);

/* Copy. 0 or -EFAULT, and then nothing was copied. Bytes, not atomic. */
int gmem_read(const struct gmem *g, gpa_t from, void *ret, size_t len) must_check;
int gmem_write(struct gmem *g, gpa_t to, const void *data, size_t len) must_check;

/* Naturally aligned little endian values, loaded and stored whole with acquire and release. */
int gmem_load16(const struct gmem *g, gpa_t from, uint16_t *ret) must_check;
int gmem_load32(const struct gmem *g, gpa_t from, uint32_t *ret) must_check;
int gmem_store16(struct gmem *g, gpa_t to, uint16_t v) must_check;
int gmem_store32(struct gmem *g, gpa_t to, uint32_t v) must_check;

/*
 * A view of guest memory for scattered I/O: appends one entry to iov[*n]. It stays valid while
 * the VM exists; what is written through it is told by gmem_wrote() when the write is complete.
 * 0, -EFAULT, or -ENOBUFS if *n is n_max already.
 */
int  gmem_iov(const struct gmem *g, gpa_t first, uint64_t len, struct iovec *iov, unsigned *n,
	      unsigned n_max) must_check;
void gmem_wrote(struct gmem *g, const struct iovec *iov, unsigned n);

/* --- Snapshots --- */

/* Of all slots. */
uint64_t gmem_bytes(const struct gmem *g);

/*
 * Memory goes into two files, by two threads: a file takes one writer at a time.
 *
 *	r = gmem_save_begin(&s, g, fds, e);
 *	while (gmem_save_step(&s, GMEM_LOW)) {          // and another thread GMEM_HIGH
 *	}
 *	r = gmem_save_end(&s, id, e);                   // when both are done
 *
 * One thread may also do both, in any order; what the one has not written by then the other
 * writes. docs/formats/snapshot.md has the form of the files.
 */
enum gmem_part { GMEM_LOW, GMEM_HIGH, GMEM_PARTS };

extern const char *const gmem_part_names[GMEM_PARTS];   /* "low", "high" */

enum { GMEM_ID_BYTES = 16, GMEM_WINDOW_BYTES = 8 << 20 };

/* Members are private. */
struct gmem_save {
	const struct gmem *g;
	uint64_t           bytes;
	bool               no_swap;     /* on this host */
	_Atomic uint64_t   left;        /* windows that nobody took yet */
	struct gmem_save_part {         /* its writer's alone */
		int      fd;
		uint64_t windows;       /* that it took: of the low part from 0 on, else the last ones */
		int      r;
	} parts[GMEM_PARTS];
};

/*
 * Begin with two empty files (borrowed until the end), which are sparse where memory is zero.
 * Context: from here until gmem_save_end() no vCPU runs.
 */
int gmem_save_begin(struct gmem_save *s, const struct gmem *g, const int fds[GMEM_PARTS],
		    struct err *e) must_check;

/* Write a piece into this part's file. False: nothing is left to write, or it failed. */
bool gmem_save_step(struct gmem_save *s, enum gmem_part part);

/* Reports what failed in a step; else a page in each file says that it is whole, and whose. */
int gmem_save_end(struct gmem_save *s, const uint8_t id[GMEM_ID_BYTES],
		  struct err *e) must_check;

/*
 * Map such files, privately, in the place of memory that nobody used yet, where they hold
 * something; what they hold nothing of is anonymous memory. Refused by name: a
 * file that is not whole, of another amount of memory, with another id, or not the partner of
 * the other. The files stay the caller's, and must not be changed as long as the map lives.
 * Context: before any vCPU runs.
 */
int gmem_restore(struct gmem *g, const int fds[GMEM_PARTS], const uint8_t id[GMEM_ID_BYTES],
		 struct err *e) must_check;

/* --- For CPU engines --- */

/* The slot with this address, NULL if it is not RAM. */
struct gmem_slot *gmem_slot(struct gmem *g, gpa_t at);

/* Mark pages that a vCPU is about to be able to write. Cheap while the log is off. */
void gmem_mark_dirty(struct gmem *g, gpa_t first, uint64_t bytes);

/* May all of it be mapped again? Not where a snapshot's file is. */
bool gmem_can_map_again(const struct gmem *g);

/* Pages of RAM of one slot at an address of the caller's, too, in place of what is mapped there.
 * -EFAULT: no such pages. -ENOTSUP: not this memory. */
int  gmem_map_again(const struct gmem *g, gpa_t first, uint64_t bytes, void *at,
		    bool write) must_check;

/* One engine asks to be told of writes. Context: before any vCPU runs. */
void gmem_watch(struct gmem *g, gmem_written_fn *fn, void *ctx);

/* Besides the engine: who records what comes in from outside. The bytes are there by then. */
void gmem_tap(struct gmem *g, gmem_written_fn *fn, void *ctx);

/* --- Dirty log --- */

/* Start with every page clean, or stop. The engine is asked for its part by engine_log(). */
int  gmem_log_start(struct gmem *g, struct err *e) must_check;
void gmem_log_stop(struct gmem *g);

/* Take and clear a slot's bits: ret has one bit a page, (bytes / 4096 + 63) / 64 words. */
void gmem_log_take(struct gmem *g, unsigned slot, uint64_t *ret);

#endif
