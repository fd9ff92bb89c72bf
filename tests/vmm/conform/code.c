/* SPDX-License-Identifier: Apache-2.0 */
/* Code that is written while it runs: by itself, by another map, by another thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

enum { PAGE = 4096, ALL = PROT_READ | PROT_WRITE | PROT_EXEC };

typedef uint32_t (*fn)(void);

static uint8_t *pages(size_t n)
{
	uint8_t *p = mmap(NULL, n, ALL, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		broken("mmap");
	}
	return p;
}

/* mov eax, v; ret */
static void returns(uint8_t *at, uint32_t v)
{
	at[0] = 0xb8;
	memcpy(at + 1, &v, 4);
	at[5] = 0xc3;
}

static void rewritten(void)
{
	uint8_t *p = pages(2 * PAGE);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < 3000; i++) {
		returns(p + (i % 3) * 40, i * 2654435761U);
		sum = sum * 31 + ((fn)(uintptr_t)(p + (i % 3) * 40))();
	}
	out("rewritten", "%016llx", (unsigned long long)sum);
	for (uint32_t i = 0; i < 1000; i++) {
		uint8_t *at = p + PAGE - 1 - i % 5;   /* over the edge of a page */

		returns(at, i);
		sum = sum * 31 + ((fn)(uintptr_t)at)();
		at[1] ^= 0x55;
		at[4] ^= 0x33;
		sum = sum * 31 + ((fn)(uintptr_t)at)();
	}
	out("over the edge", "%016llx", (unsigned long long)sum);
	munmap(p, 2 * PAGE);
}

/* The instruction changes the one right behind it. */
static void next_one(void)
{
	static const uint8_t code[] = {
		0xc6, 0x05, 0x01, 0, 0, 0, 0x07,   /* movb $7, 1(%rip): the immediate below */
		0xb8, 0x01, 0, 0, 0,               /* movl $1, %eax */
		0xc3,
	};
	uint8_t *p = pages(PAGE);

	memcpy(p, code, sizeof(code));
	uint32_t a = ((fn)(uintptr_t)p)();

	p[6] = 0x09;
	out("next instruction", "%u %u", a, ((fn)(uintptr_t)p)());
	munmap(p, PAGE);
}

/* A loop that counts by an immediate which it increments itself. */
static void loops(void)
{
	static const uint8_t code[] = {
		0x31, 0xc0,                         /* xorl %eax, %eax */
		0xb9, 200, 0, 0, 0,                 /* movl $200, %ecx */
		0x83, 0xc0, 0x01,                   /* 7: addl $1, %eax */
		0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff, /* incb -7(%rip): that 1 */
		0xff, 0xc9,                         /* decl %ecx */
		0x75, 0xf3,                         /* jnz 7b */
		0xc3,
	};
	uint8_t *p = pages(PAGE);

	memcpy(p, code, sizeof(code));
	uint32_t a = ((fn)(uintptr_t)p)();

	out("loop", "%u %u", a, p[9]);
	munmap(p, PAGE);
}

static void two_maps(void)
{
	int fd = memfd_create("code", 0);
	uint64_t sum = 0;

	if (ftruncate(fd, PAGE) < 0) {
		broken("ftruncate");
	}
	uint8_t *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint8_t *x = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);

	for (uint32_t i = 0; i < 2000; i++) {
		returns(w + 64 * (i % 7), i * 40503);
		sum = sum * 33 + ((fn)(uintptr_t)(x + 64 * (i % 7)))();
	}
	uint8_t code[6];

	returns(code, 4711);
	if (pwrite(fd, code, 6, 0) != 6) {
		broken("pwrite");
	}
	sum = sum * 33 + ((fn)(uintptr_t)x)();
	out("two maps", "%016llx", (unsigned long long)sum);
	munmap(w, PAGE);
	munmap(x, PAGE);
	close(fd);
}

/* Other code at the same address: mapped anew, in a child, protected in between. */
static void remapped(void)
{
	uint64_t sum = 0;
	uint8_t *p = pages(PAGE);

	for (uint32_t i = 0; i < 200; i++) {
		p = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		returns(p + 8, i + 1);
		mprotect(p, PAGE, PROT_READ | PROT_EXEC);
		sum = sum * 35 + ((fn)(uintptr_t)(p + 8))();
	}
	out("mapped anew", "%016llx", (unsigned long long)sum);
	mprotect(p, PAGE, ALL);
	for (uint32_t i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status = 0;

		if (pid == 0) {
			returns(p + 8, i);
			_exit((int)((fn)(uintptr_t)(p + 8))());
		}
		returns(p + 8, 1000 + i);
		sum = sum * 35 + ((fn)(uintptr_t)(p + 8))();
		waitpid(pid, &status, 0);
		sum = sum * 35 + (uint32_t)WEXITSTATUS(status);
	}
	out("in children", "%016llx", (unsigned long long)sum);
	munmap(p, PAGE);
}

/* Another thread sees the new code once it is told. */
static uint8_t *shared_code;
static atomic_uint stage, answered;

static void *runner(void *arg)
{
	uint64_t *sum = arg;

	for (unsigned i = 1; i <= 500; i++) {
		while (atomic_load(&stage) != i) {
			sched_yield();
		}
		/* As the manual asks: something that serializes. */
		__asm__ volatile("cpuid" : : "a"(0) : "rbx", "rcx", "rdx", "memory");
		*sum = *sum * 37 + ((fn)(uintptr_t)shared_code)();
		atomic_store(&answered, i);
	}
	return NULL;
}

static void other_thread(void)
{
	pthread_t t;
	uint64_t sum = 0;

	shared_code = pages(PAGE);
	if (pthread_create(&t, NULL, runner, &sum) != 0) {
		broken("pthread_create");
	}
	for (unsigned i = 1; i <= 500; i++) {
		returns(shared_code, i * 9);
		atomic_store(&stage, i);
		while (atomic_load(&answered) != i) {
			sched_yield();
		}
	}
	pthread_join(t, NULL);
	out("other thread", "%016llx", (unsigned long long)sum);
	munmap(shared_code, PAGE);
}

/* Many different functions, more than any cache of them holds. */
static void much_code(void)
{
	enum { FUNCTIONS = 20000 };
	uint8_t *p = pages(FUNCTIONS * 16);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		returns(p + 16 * i, i * 77);
	}
	for (unsigned k = 0; k < 2; k++) {
		for (uint32_t i = 0; i < FUNCTIONS; i++) {
			sum = sum * 39 + ((fn)(uintptr_t)(p + 16 * ((i * 7919) % FUNCTIONS)))();
		}
	}
	out("much code", "%016llx", (unsigned long long)sum);
	munmap(p, FUNCTIONS * 16);
}

void conform_code(void)
{
	section("code");
	rewritten();
	next_one();
	loops();
	two_maps();
	remapped();
	other_thread();
	much_code();
}
