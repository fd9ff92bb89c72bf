/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conform: does many things with the processor, the C library and the kernel, and prints what came
 * of each, one line a check. Nothing that it prints depends on time, addresses, numbers of processes
 * or the machine, so that a guest must print what its host prints, byte for byte.
 *
 * It runs in an empty folder of its own, named by its only argument.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One check: "SECTION/NAME: text". Written at once, so children and threads may use it in turn. */
__attribute__((format(printf, 2, 3))) void out(const char *name, const char *fmt, ...);
void section(const char *name);

/* Print the name of the call and its errno, and end this process: something that must work. */
__attribute__((noreturn)) void broken(const char *what);

/* The same numbers in every run. */
uint64_t rnd(void);
void     rnd_start(uint64_t seed);

/* FNV-1a over what was added. */
struct sum {
	uint64_t v;
};
void sum_start(struct sum *s);
void sum_add(struct sum *s, const void *data, size_t n);
void sum_u64(struct sum *s, uint64_t v);
uint64_t sum_of(const void *data, size_t n);

/* Fill with the numbers that follow from the seed. */
void fill(void *data, size_t n, uint64_t seed);

/* errno as a name ("EAGAIN"), of a call that returned r: "ok" if it did not fail. */
const char *outcome(long r);

/* Run fn in a child; how it ended, as text in static memory: "exit 3", "signal 11". */
const char *child(int (*fn)(void *), void *arg);
/* The same for a child that is there. */
const char *ended(int pid);

void conform_int(void);
void conform_float(void);
void conform_libm(void);
void conform_libc(void);
void conform_fork(void);
void conform_pipe(void);
void conform_signal(void);
void conform_trap(void);
void conform_thread(void);
void conform_futex(void);
void conform_mmap(void);
void conform_code(void);
void conform_net(void);
void conform_disk(void);
void conform_time(void);

/* What this program does when it is executed again with "--again WHAT ...". */
int conform_again(int argc, char **argv);

#endif
