/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many processes and threads that share things, and say whether it came to what it must:
 *
 *	stress SECONDS [THREADS]
 *
 * Each kind of load is a process of its own that goes round until the time is over, once at least.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 16, GROUP = 4, MESSAGES = 60, BYTES = 100 };

static unsigned n_threads = 4;

static void must(int ok, const char *what)
{
	if (!ok) {
		printf("WRONG: %s (%s)\n", what, strerror(errno));
		fflush(stdout);
		_exit(1);
	}
}

/* fn(0), fn(1)... each in a thread; until all are done. */
static void in_threads(void *(*fn)(void *), unsigned n)
{
	pthread_t t[THREADS_MAX];

	for (uintptr_t k = 0; k < n; k++) {
		must(pthread_create(&t[k], NULL, fn, (void *)k) == 0, "a thread");
	}
	for (unsigned k = 0; k < n; k++) {
		must(pthread_join(t[k], NULL) == 0, "the end of a thread");
	}
}

/* --- Messages: each of GROUP processes sends to each of GROUP others --- */

static void whole(int fd, void *data, size_t n, int out)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = out ? write(fd, (char *)data + done, n - done) :
				  read(fd, (char *)data + done, n - done);

		must(r > 0, "a message");
		done += (size_t)r;
	}
}

static void send_all(int (*to)[2], unsigned me)
{
	uint8_t message[BYTES];

	for (unsigned k = 0; k < MESSAGES; k++) {
		for (unsigned r = 0; r < GROUP; r++) {
			memset(message, (int)(me * MESSAGES + k) & 0xff, sizeof(message));
			whole(to[r][1], message, sizeof(message), 1);
		}
	}
}

static void receive_all(int fd)
{
	unsigned seen[256] = { 0 }, want[256] = { 0 };
	uint8_t message[BYTES];

	for (unsigned k = 0; k < GROUP * MESSAGES; k++) {
		want[k & 0xff]++;
		whole(fd, message, sizeof(message), 0);
		seen[message[0]]++;
		must(memcmp(message, message + 1, sizeof(message) - 1) == 0, "messages are mixed");
	}
	must(memcmp(seen, want, sizeof(seen)) == 0, "messages are lost");
}

static void messages(unsigned round)
{
	int fds[GROUP][2];

	for (unsigned k = 0; k < GROUP; k++) {
		must((round % 2 ? pipe(fds[k]) : socketpair(AF_UNIX, SOCK_STREAM, 0, fds[k])) == 0, "a pipe");
	}
	for (unsigned k = 0; k < 2 * GROUP; k++) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0) {
			if (k < GROUP) {
				send_all(fds, k);
			} else {
				receive_all(fds[k - GROUP][0]);
			}
			_exit(0);
		}
	}
	for (unsigned k = 0; k < 2 * GROUP; k++) {
		int status = 0;

		must(wait(&status) > 0 && status == 0, "a sender or a receiver");
	}
	for (unsigned k = 0; k < GROUP; k++) {
		close(fds[k][0]);
		close(fds[k][1]);
	}
}

/* --- Futexes --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static uint64_t counted, turn;
static _Atomic uint32_t ball;
static uint64_t phase[THREADS_MAX];

static long futex(_Atomic uint32_t *at, int op, uint32_t v)
{
	return syscall(SYS_futex, at, op, v, NULL, NULL, 0);
}

static void *futexes_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned k = 0; k < 500; k++) {
		pthread_mutex_lock(&mutex);
		counted++;
		pthread_mutex_unlock(&mutex);
	}
	for (unsigned k = 0; k < 40; k++) {         /* one after another */
		pthread_mutex_lock(&mutex);
		while (turn % n_threads != me) {
			pthread_cond_wait(&cond, &mutex);
		}
		turn++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	for (unsigned k = 0; k < 20; k++) {         /* all at once */
		phase[me]++;
		pthread_barrier_wait(&barrier);
		for (unsigned o = 0; o < n_threads; o++) {
			must(phase[o] == phase[me], "a barrier");
		}
		pthread_barrier_wait(&barrier);
	}
	for (uint32_t k = 0, v = 0; k < 100; k++) { /* a ball goes round */
		while ((v = atomic_load(&ball)) % n_threads != me) {
			(void)futex(&ball, FUTEX_WAIT_PRIVATE, v);
		}
		atomic_store(&ball, v + 1);
		(void)futex(&ball, FUTEX_WAKE_PRIVATE, INT_MAX);
	}
	return NULL;
}

static void futexes(unsigned round)
{
	(void)round;
	counted = turn = 0;
	atomic_store(&ball, 0);
	must(pthread_barrier_init(&barrier, NULL, n_threads) == 0, "a barrier");
	in_threads(futexes_thread, n_threads);
	must(counted == 500 * n_threads, "a mutex");
	must(turn == 40 * n_threads, "a condition");
	must(atomic_load(&ball) == 100 * n_threads, "a futex");
	pthread_barrier_destroy(&barrier);
}

/* --- Atomics --- */

static _Atomic uint64_t added, exchanged, bits;
static _Atomic int spin;
static uint64_t guarded[2];
static _Alignas(16) struct { uint64_t low, high; } wide;

static void *atomics_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned k = 0; k < 3000; k++) {
		uint64_t v = atomic_load(&exchanged);
		uint64_t low = wide.low, high = wide.high;
		uint8_t done = 0;

		atomic_fetch_add(&added, k + me);
		while (!atomic_compare_exchange_weak(&exchanged, &v, v * 5 + 1)) {
		}
		atomic_fetch_xor(&bits, UINT64_C(1) << me);
		while (!done) {
			__asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
					 : "=q"(done), "+m"(wide), "+a"(low), "+d"(high)
					 : "b"(low + 1), "c"(high + 3) : "cc", "memory");
		}
		if (k % 8 == 0) {
			while (atomic_exchange(&spin, 1)) {
				sched_yield();
			}
			guarded[0]++;
			guarded[1] += guarded[0];
			atomic_store(&spin, 0);
		}
	}
	return NULL;
}

static void atomics(unsigned round)
{
	const uint64_t n = UINT64_C(3000) * n_threads, locked = UINT64_C(375) * n_threads;
	uint64_t chain = 0, sum = 0;

	(void)round;
	atomic_store(&added, 0);
	atomic_store(&exchanged, 0);
	atomic_store(&bits, 0);
	guarded[0] = guarded[1] = wide.low = wide.high = 0;
	in_threads(atomics_thread, n_threads);
	for (uint64_t k = 0; k < n; k++) {
		chain = chain * 5 + 1;
	}
	for (unsigned t = 0; t < n_threads; t++) {
		sum += UINT64_C(3000) * 2999 / 2 + UINT64_C(3000) * t;
	}
	must(atomic_load(&added) == sum, "xadd");
	must(atomic_load(&exchanged) == chain, "cmpxchg");
	must(atomic_load(&bits) == 0, "xor");
	must(wide.low == n && wide.high == 3 * n, "cmpxchg16b");
	must(guarded[0] == locked && guarded[1] == locked * (locked + 1) / 2, "a lock by xchg");
}

/* --- Mappings: what another CPU still knows of a page that changes --- */

static _Atomic int stop;
static volatile uint64_t *pages;

static void *pages_thread(void *arg)
{
	size_t at = 512 * (size_t)(uintptr_t)arg;

	while (!atomic_load(&stop)) {
		pages[at]++;
		pages[at + 8]++;
	}
	return NULL;
}

/* A child's memory stays as it was, whatever its parent's threads write. */
static void still(void)
{
	uint64_t before[THREADS_MAX][2];

	for (unsigned turns = 0; turns < 4; turns++) {
		for (unsigned t = 0; t < n_threads; t++) {
			uint64_t now[2] = { pages[512 * t], pages[512 * t + 8] };

			must(turns == 0 || memcmp(before[t], now, sizeof(now)) == 0, "a child's page changes");
			must(now[0] - now[1] <= 1, "a child's page is torn");
			memcpy(before[t], now, sizeof(now));
		}
		usleep(100);
	}
	_exit(0);
}

static void mappings(unsigned round)
{
	const size_t bytes = n_threads * 4096;
	pthread_t t[THREADS_MAX];

	(void)round;
	atomic_store(&stop, 0);
	pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(pages != MAP_FAILED, "mmap");
	for (uintptr_t k = 0; k < n_threads; k++) {
		must(pthread_create(&t[k], NULL, pages_thread, (void *)k) == 0, "a thread");
	}
	for (unsigned k = 0; k < 10; k++) {
		int status = 0;
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0) {
			still();
		}
		/* Read only for a while: what is written then comes later, and is not lost. */
		for (unsigned p = 0; p < 5; p++) {
			uint64_t a = 0;

			must(syscall(SYS_mprotect, pages, bytes, PROT_READ | PROT_WRITE) == 0, "mprotect");
			a = pages[0];
			must(pages[0] >= a, "a page goes back");
		}
		must(waitpid(pid, &status, 0) == pid && status == 0, "a child");
	}
	atomic_store(&stop, 1);
	for (unsigned k = 0; k < n_threads; k++) {
		must(pthread_join(t[k], NULL) == 0, "the end of a thread");
	}
	munmap((void *)pages, bytes);
}

/* --- Code that changes --- */

static uint8_t *code;
static _Atomic uint32_t written, seen;

static uint32_t call(const uint8_t *at)
{
	uint32_t (*fn)(void) = NULL;

	memcpy(&fn, &at, sizeof(fn));
	return fn();
}

static void write_code(uint8_t *at, uint32_t v)
{
	at[0] = 0xb8;                               /* mov eax, v */
	memcpy(at + 1, &v, 4);
	at[5] = 0xc3;
}

static void serialize(void)
{
	uint32_t a = 0, b = 0, c = 0, d = 0;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void *code_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	if (me == 0) {                              /* what is written here, another one runs */
		for (uint32_t v = 1; v <= 300; v++) {
			write_code(code, v);
			atomic_store(&written, v);
			while (atomic_load(&seen) != v) {
				sched_yield();
			}
		}
	} else if (me == 1) {
		for (uint32_t v = 1; v <= 300; v++) {
			while (atomic_load(&written) != v) {
				sched_yield();
			}
			serialize();
			must(call(code) == v, "code of another thread");
			atomic_store(&seen, v);
		}
	} else {                                    /* its own, in the same page */
		for (uint32_t v = 0; v < 1000; v++) {
			write_code(code + 128 * me, v);
			must(call(code + 128 * me) == v, "code of its own");
			memcpy(code + 128 * me + 64, &v, 4);   /* data beside it */
		}
	}
	return NULL;
}

static void codes(unsigned round)
{
	(void)round;
	code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(code != MAP_FAILED, "mmap");
	atomic_store(&written, 0);
	atomic_store(&seen, 0);
	in_threads(code_thread, n_threads < 2 ? 2 : n_threads);
	munmap(code, 8192);
}

/* --- All --- */

static void load(const char *name, void (*once)(unsigned round), double seconds)
{
	struct timespec begin, now;
	unsigned round = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		once(round++);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 < seconds);
	printf("%s: %u rounds\n", name, round);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*once)(unsigned round);
	} loads[] = { { "messages", messages }, { "futexes", futexes }, { "atomics", atomics },
		      { "mappings", mappings }, { "codes", codes } };
	enum { LOADS = sizeof(loads) / sizeof(loads[0]) };
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
	unsigned bad = 0;

	n_threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : n_threads;
	must(n_threads >= 1 && n_threads <= THREADS_MAX, "the number of threads");
	for (unsigned k = 0; k < LOADS; k++) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0) {
			load(loads[k].name, loads[k].once, seconds);
		}
	}
	for (unsigned k = 0; k < LOADS; k++) {
		int status = 0;

		must(wait(&status) > 0, "wait");
		bad += status != 0;
	}
	printf(bad ? "stress: %u failed\n" : "stress: all is right\n", bad);
	return bad != 0;
}
