/* SPDX-License-Identifier: Apache-2.0 */
/* Memory maps. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static uint8_t *map(size_t n, int prot, int flags, int fd)
{
	uint8_t *p = mmap(NULL, n, prot, flags, fd, 0);

	if (p == MAP_FAILED) {
		broken("mmap");
	}
	return p;
}

static void anonymous(void)
{
	uint8_t *p = map(64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	struct sum s;
	unsigned zero = 0;

	sum_start(&s);
	for (unsigned i = 0; i < 2000; i++) {
		size_t at = rnd() % (64 * MIB - 8);
		uint64_t v;

		memcpy(&v, p + at, 8);
		sum_u64(&s, v);
		v ^= rnd();
		memcpy(p + at, &v, 8);
	}
	for (size_t i = 0; i < 64 * (size_t)MIB; i += PAGE) {
		zero += p[i] == 0;
	}
	out("sparse", "%016llx %u", (unsigned long long)s.v, zero);
	memset(p, 1, 8 * PAGE);
	madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED);
	out("not needed", "%d %d %d %d", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE]);
	unsigned char in[8];

	out("in core", "%s %d %d", outcome(mincore(p, 8 * PAGE, in)), in[0] & 1, in[1] & 1);
	uint8_t *bigger = mremap(p, 64 * MIB, 80 * (size_t)MIB, MREMAP_MAYMOVE);

	out("grown", "%d %d", bigger[0], bigger[70 * MIB]);
	uint8_t *smaller = mremap(bigger, 80 * (size_t)MIB, PAGE, 0);

	out("shrunk", "%d", smaller == bigger);
	munmap(smaller, PAGE);
	p = map(8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise(p, 8 * MIB, MADV_HUGEPAGE);
	fill(p, 8 * MIB, 4);
	mprotect(p + 3 * MIB, PAGE, PROT_READ);
	munmap(p + 5 * MIB, MIB);
	out("large pages, cut", "%016llx", (unsigned long long)(sum_of(p, 5 * MIB) ^ sum_of(p + 6 * MIB, 2 * MIB)));
	munmap(p, 8 * MIB);
}

static void of_files(void)
{
	static uint8_t data[10 * PAGE];
	int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);

	fill(data, sizeof(data), 21);
	if (write(fd, data, sizeof(data)) != sizeof(data)) {
		broken("write");
	}
	uint8_t *shared = map(sizeof(data), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	uint8_t *private = map(sizeof(data), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);

	out("file", "%d %d", memcmp(shared, data, sizeof(data)) == 0, memcmp(private, data, sizeof(data)) == 0);
	shared[5] = 0xee;
	private[PAGE + 5] = 0xdd;
	uint8_t c[2];

	if (pread(fd, c, 1, 5) != 1 || pread(fd, c + 1, 1, PAGE + 5) != 1) {
		broken("pread");
	}
	out("written", "%02x %d %02x", c[0], c[1] == data[PAGE + 5], private[5]);
	if (pwrite(fd, "later", 5, 3 * PAGE) != 5) {
		broken("pwrite");
	}
	out("written below", "%.5s %.5s", shared + 3 * PAGE, private + 3 * PAGE);
	shared[9 * PAGE + 1] = 7;
	out("msync", "%s", outcome(msync(shared, sizeof(data), MS_SYNC)));
	pid_t pid = fork();

	if (pid == 0) {
		shared[6 * PAGE] = 66;
		private[6 * PAGE] = 77;
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	out("after fork", "%d %d", shared[6 * PAGE], private[6 * PAGE] == shared[6 * PAGE]);
	munmap(shared, sizeof(data));
	munmap(private, sizeof(data));
	close(fd);
	fd = open("mapped", O_RDONLY);
	ssize_t n = read(fd, data, sizeof(data));

	out("in the file", "%zd %016llx", n, (unsigned long long)sum_of(data, sizeof(data)));
	out("write to a read-only file", "%s", outcome((long)(intptr_t)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0)));
	out("not aligned", "%s", outcome((long)(intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 5)));
	close(fd);
	unlink("mapped");
}

static sigjmp_buf back;

static void on_fault(int signo)
{
	siglongjmp(back, signo);
}

/* What may be done with a page of each protection. */
static void protection(void)
{
	static const int all[] = { PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE, PROT_EXEC,
				   PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC };
	uint8_t *volatile p = map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char text[32];

	signal(SIGSEGV, on_fault);
	p[0] = 0xc3;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int ends[3] = { 0, 0, 0 };

		mprotect(p, PAGE, all[i]);
		if ((ends[0] = sigsetjmp(back, 1)) == 0) {
			(void)*(volatile uint8_t *)p;
		}
		if ((ends[1] = sigsetjmp(back, 1)) == 0) {
			((volatile uint8_t *)p)[1] = 1;
		}
		if ((ends[2] = sigsetjmp(back, 1)) == 0) {
			((void (*)(void))(uintptr_t)p)();
		}
		snprintf(text, sizeof(text), "protection %d", all[i]);
		out(text, "%d %d %d", ends[0], ends[1], ends[2]);
	}
	munmap(p, PAGE);
	if (sigsetjmp(back, 1) == 0) {
		(void)*(volatile uint8_t *)p;
		out("unmapped", "there");
	} else {
		out("unmapped", "gone");
	}
	signal(SIGSEGV, SIG_DFL);
}

static void addresses(void)
{
	uint8_t *p = map(16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *q = mmap(p + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	out("fixed", "%d", q == p + 4 * PAGE);
	q = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	out("taken", "%s", outcome((long)(intptr_t)q));
	munmap(p + PAGE, PAGE);
	out("hole", "%s", outcome(mprotect(p, 3 * PAGE, PROT_READ)));
	q = mremap(p + 4 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE);
	out("moved", "%d", q == p + PAGE);
	munmap(p, 16 * PAGE);
	out("32 bits", "%d", (uintptr_t)map(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1) >> 32 == 0);
	out("nothing", "%s", outcome((long)(intptr_t)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	void *top = sbrk(0);
	void *old = sbrk(100 * PAGE);

	memset(old, 9, 100 * PAGE);
	out("brk", "%d %d", old == top, ((uint8_t *)old)[99 * PAGE]);
	sbrk(-100 * PAGE);
}

static void in_memory(void)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);

	out("memfd", "%s", outcome(ftruncate(fd, 4 * PAGE)));
	uint8_t *a = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	uint8_t *b = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	struct sum s;

	sum_start(&s);
	for (unsigned i = 0; i < 5000; i++) {
		size_t at = rnd() % (4 * PAGE);

		a[at] = (uint8_t)(b[4 * PAGE - 1 - at] + i);
		sum_u64(&s, b[at]);
	}
	out("two maps of one", "%016llx", (unsigned long long)s.v);
	munmap(a, 4 * PAGE);
	munmap(b, 4 * PAGE);
	out("seal", "%s", outcome(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE)));
	out("sealed", "%s", outcome(ftruncate(fd, PAGE)));
	out("sealed, write", "%s", outcome(write(fd, "x", 1)));
	close(fd);
	int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);

	a = shmat(id, NULL, 0);
	pid_t pid = fork();

	if (pid == 0) {
		fill(a, 3 * PAGE, 33);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	out("shared segment", "%016llx", (unsigned long long)sum_of(a, 3 * PAGE));
	shmdt(a);
	shmctl(id, IPC_RMID, NULL);
}

/* The same pages of a parent and many children, each of which writes some. */
static void copies(void)
{
	enum { PAGES = 256 };
	uint8_t *p = map(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint64_t *results = (uint64_t *)(void *)map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	fill(p, PAGES * PAGE, 8);
	for (unsigned i = 0; i < 12; i++) {
		if (fork() == 0) {
			for (unsigned k = i; k < PAGES; k += 3 + i) {
				p[k * PAGE + k] = (uint8_t)i;
			}
			results[i] = sum_of(p, PAGES * PAGE);
			_exit(0);
		}
		p[i * PAGE] ^= 0x55;
	}
	while (wait(NULL) > 0) {
	}
	out("copies", "%016llx %016llx", (unsigned long long)sum_of(results, 12 * 8),
	    (unsigned long long)sum_of(p, PAGES * PAGE));
	munmap(p, PAGES * PAGE);
	munmap(results, PAGE);
}

void conform_mmap(void)
{
	section("mmap");
	anonymous();
	of_files();
	protection();
	addresses();
	in_memory();
	copies();
}
