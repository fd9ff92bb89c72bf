/* SPDX-License-Identifier: Apache-2.0 */
/* What record.c and replay.c share, and what the machine calls of them. */
#ifndef VM_REPLAY_PRIV_H
#define VM_REPLAY_PRIV_H

#include "state/state.h"
#include "vm/replay-check.h"
#include "vm/replay-mem.h"
#include "vm/replay-regs.h"
#include "vm/replay.h"
#include "vm/replay/rlog.h"
#include "vm/vm-priv.h"

/* What is recorded of the machine as a whole. */
struct replay_machine {
	uint64_t memory_bytes;
	uint32_t n_vcpus;
	uint64_t tsc_hz;
	uint64_t every;          /* instructions between checks; 0: none */
	uint64_t seed, boot_wall_ns;
	uint64_t cpuid;          /* hash of what CPUID shows */
	uint64_t layout;         /* regs_layout() */
	uint64_t memory_every;   /* instructions between checks of memory; 0: only at the end */
};

extern const struct state_desc replay_machine_state;

enum { REPLAY_PENDING = 16 };

struct vm_replay {
	struct vm            *vm;
	bool                  replay;
	bool                  failed;       /* the rest makes no sense: sum says why */
	struct replay_conf    conf;
	struct replay_machine machine;
	struct engine_tape    tape;
	struct replay_summary sum;
	uint64_t              next_check;   /* insns */
	struct check_chain    chain;        /* of what is written, or read */
	struct mem_hash       memory;       /* if it is checked */
	uint64_t              memory_insns; /* of its last check */
	/* The vCPU that left the guest for memory to be looked at; only its own thread acts on it. */
	_Atomic(const struct vcpu *) memory_due;

	/* Recording, or replaying into another recording. */
	struct rlog_writer   *w;
	bool                  in_read, in_access, in_loop;
	bool                  at_valid;     /* the last record is of this stay in the loop */
	struct rlog_rec       pending[REPLAY_PENDING];   /* effects of a read */
	unsigned              n_pending;

	/* Replaying. */
	struct rlog_reader   *in;
	struct rlog_rec       rec;          /* the next one, if has_rec */
	bool                  has_rec;
	uint64_t              next_own;     /* insns: the next check of ours in the other recording */
	struct check_chain    again;        /* of its checks */
};

/* The same in both. */
uint64_t replay__cpuid(unsigned n_vcpus, uint64_t tsc_hz);
uint64_t replay__memory_hash(struct vm *vm);
int      replay__fail(struct vm_replay *rp, enum replay_result why, const char *fmt, ...)
	printf_like(3, 4);
int      replay__regs(struct vm_replay *rp, struct vcpu *v, uint64_t ret[REGS_WORDS], struct err *e)
	must_check;

/* An access of a vCPU outside of memory. `vm->replay` is set. */
uint64_t vm__replay_read(struct vm *vm, enum rlog_space space, uint64_t at, unsigned n);
void     vm__replay_write(struct vm *vm, enum rlog_space space, uint64_t at, unsigned n, uint64_t v);

uint64_t record__read(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n);
void     record__write(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n,
		       uint64_t v);

uint64_t replay__read(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n);
void     replay__write(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n,
		       uint64_t v);
void     record__ended(struct vm_replay *rp);
void     record__memory(struct vm_replay *rp);
int      record__machine(struct vm_replay *rp, struct err *e) must_check;
void     record__check(struct vm_replay *rp, struct check_chain *c, const struct engine_pos *at,
		       unsigned cpu, const uint64_t now[REGS_WORDS]);
void     replay__memory(struct vm_replay *rp);

/* Of a device. False: it does not reach the guest. */
bool vm__replay_msi(struct vm *vm, uint64_t addr, uint32_t data);
bool vm__replay_line(struct vm *vm, unsigned gsi, bool level);

/* A vCPU's thread has come out of the guest. */
void vm__replay_out(struct vm *vm, const struct vcpu *v);

/* The machine ended; its vCPUs are parked. */
void vm__replay_ended(struct vm *vm);
struct vm_replay *vm__replay_free(struct vm_replay *rp);

/* Let vCPUs park although the loop holds them, and hold them again. */
void vm__replay_loosen(struct vm *vm, bool loose);

int vm__cpus_save(struct vm *vm, void **ret, size_t *ret_len, struct err *e) must_check;
int vm__cpus_load(struct vm *vm, const void *data, size_t len, struct err *e) must_check;

#endif
