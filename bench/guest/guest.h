/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs that the benchmarks run natively and in guests: one static binary, which is the
 * guest's first process, too.
 *
 * Each program is a function that does `work` units of a fixed kind and returns a sum of what it
 * computed; the sum depends on `work` alone and on no machine, so that it is the same wherever
 * the program runs. Preparations that are not to be timed belong into `prepare`.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdint.h>

struct program {
	const char *name;
	uint64_t  (*run)(unsigned work);
	unsigned    work;            /* as much as takes an emulator a few tenths of a second */
	void      (*prepare)(void);  /* or NULL */
};

/* One list of each file, ended by a program without a name. */
extern const struct program int_programs[], core_programs[], sha256_programs[], gzip_programs[],
	memory_programs[], float_programs[], matrix_programs[], rewrite_programs[],
	kernel_programs[], thread_programs[], device_programs[], compile_programs[],
	jit_programs[], small_programs[];

/* A number from a sequence that is the same everywhere; each process begins with the first. */
uint32_t random_next(void);

/* Says why on standard output and ends the process. */
_Noreturn void give_up(const char *why);

/* The stock kernel's, of its disks and its network; from /lib. */
void load_drivers(void);

/* The path by which this binary can be executed again; with an argument it does nothing. */
extern const char *own_path;

/* What the compiler shall take as computed and used. */
#define KEEP(value) __asm__ volatile("" : "+r"(value))

#endif
