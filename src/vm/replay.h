/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording a machine, and running it again from the recording.
 *
 * A machine that is recorded is counted (vm/cpu/engine.h): its time is instructions. Everything
 * that reaches it from outside is written down with the point at which it did: what devices
 * answer, what they write to memory, their interrupts, how long it slept. In a replay there are
 * no devices; the same things come from the log at the same points, so the guest makes the same
 * instructions. Every so often the log holds a check, the registers at a point, and at some of
 * them hashes of the pages that were written since; a replay that finds others ends there and
 * names them. The dirty log is then taken.
 *
 *	conf.deterministic = true;
 *	r = vm_new(&conf, &vm, e);                    // and devices, and a kernel
 *	r = vm_start_paused(vm, e);
 *	r = vm_record(vm, own_fd, &(struct replay_conf){ .every = 1000000,
 *	                                               .memory_every = 1000000 }, e);
 *	r = vm_resume(vm, e);
 *
 *	r = replay_open(own_fd, &source, e);          // says what machine to make
 *	r = vm_new(&conf, &vm, e);                    // without devices
 *	r = vm_start_paused(vm, e);
 *	r = vm_replay(vm, take_ptr(&source), &(struct replay_conf){ 0 }, e);
 *	r = vm_resume(vm, e);
 *
 * After the end: vm_replay_result(). docs/formats/replay.md has the log's form.
 *
 * Context: the loop's thread; the machine is paused.
 */
#ifndef VM_REPLAY_H
#define VM_REPLAY_H

#include "vm/vm.h"

struct replay_conf {
	uint64_t every;      /* a recording's: instructions between two checks; 0: none */
	uint64_t memory_every;   /* the same for checks of memory, which are at some of the others */
	uint64_t stop_at;    /* stop there, for the debugger or for good; 0: do not */
	/* The checks that replay_again() adds are every `every` instructions from one of these on and
	 * up to the other; 0: no bound. */
	uint64_t from, to;
};

struct replay_source;

/* Read what the recorded machine is. The descriptor is taken, also on failure. */
int replay_open(int own_fd, struct replay_source **ret, struct err *e) must_check;
struct replay_source *replay_close(struct replay_source *s);
AUTO_PTR(struct replay_source, replay_close)

/*
 * What is replayed is recorded again, with more checks: so that another engine, or this one on
 * another day, can be held against it closer than the first recording allows. The descriptor is
 * taken, also on failure.
 */
int replay_again(struct replay_source *s, int own_fd, struct err *e) must_check;

uint64_t replay_memory_bytes(const struct replay_source *s);
unsigned replay_n_vcpus(const struct replay_source *s);

int vm_record(struct vm *vm, int own_fd, const struct replay_conf *conf,
	      struct err *e) must_check;

/* The source is taken, also on failure. */
int vm_replay(struct vm *vm, struct replay_source *own_source, const struct replay_conf *conf,
	      struct err *e) must_check;

enum replay_result {
	REPLAY_NONE,         /* neither recorded nor replayed, or not at its end */
	REPLAY_RECORDED,
	REPLAY_SAME,         /* replayed to the end of the log, and nothing differed */
	REPLAY_CUT,          /* the same, but the log was cut off */
	REPLAY_STOPPED,      /* stopped before the end, at stop_at or from outside */
	REPLAY_DIFFERS,
	REPLAY_FAILED,       /* the log cannot be read or written */
	REPLAY__COUNT,
};

struct replay_summary {
	enum replay_result result;
	uint64_t insns, checks, memory_checks;
	uint64_t hash;            /* of all checks and of memory at the end */
	char     text[512];       /* DIFFERS, FAILED: what; STOPPED: the registers */
};

struct replay_difference {
	uint64_t checks;          /* that both have, and were the same */
	uint64_t same_insns;      /* where the last of them was */
	char     text[600];       /* the first difference */
};

/*
 * Compare two recordings, up to their first difference. 1: there is none; 0: *ret tells it. The
 * descriptors are taken, also on failure.
 */
int replay_compare(int own_a, int own_b, struct replay_difference *ret, struct err *e) must_check;

void vm_replay_result(const struct vm *vm, struct replay_summary *ret);

#endif
