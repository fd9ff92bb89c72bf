/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/gdb.h"

#include <errno.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/le.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/vm-priv.h"

enum {
	PACKET_MAX = 16384, MEMORY_MAX = 4096, INTERRUPT = 3,
	SIG_INT = 2, SIG_TRAP = 5,
};

struct vm_gdb {
	struct vm      *vm;
	int             fd;
	struct loop_fd *source;
	struct buf      in;
	bool            no_ack;
	bool            running;          /* the guest goes, and gdb waits */
	unsigned        cpu;              /* that registers and memory are of */
	struct vcpu_debug debug;          /* breakpoints of all; step is set for one run */
	char            watch_kind[VCPU_WATCHES_MAX];   /* 2 write, 3 read, 4 both, as gdb has it */
};

/* --- The registers, in the order of gdb's 64-bit i386 description --- */

enum reg_kind { GDB_GPR, GDB_RIP, GDB_FLAGS, GDB_SEG };

static const struct reg {
	enum reg_kind kind;
	unsigned      index, bytes;
} regs[] = {
	{ GDB_GPR, CPU_RAX, 8 }, { GDB_GPR, CPU_RBX, 8 }, { GDB_GPR, CPU_RCX, 8 },
	{ GDB_GPR, CPU_RDX, 8 }, { GDB_GPR, CPU_RSI, 8 }, { GDB_GPR, CPU_RDI, 8 },
	{ GDB_GPR, CPU_RBP, 8 }, { GDB_GPR, CPU_RSP, 8 }, { GDB_GPR, CPU_R8, 8 },
	{ GDB_GPR, CPU_R9, 8 },  { GDB_GPR, CPU_R10, 8 }, { GDB_GPR, CPU_R11, 8 },
	{ GDB_GPR, CPU_R12, 8 }, { GDB_GPR, CPU_R13, 8 }, { GDB_GPR, CPU_R14, 8 },
	{ GDB_GPR, CPU_R15, 8 }, { GDB_RIP, 0, 8 },       { GDB_FLAGS, 0, 4 },
	{ GDB_SEG, CPU_CS, 4 },  { GDB_SEG, CPU_SS, 4 },  { GDB_SEG, CPU_DS, 4 },
	{ GDB_SEG, CPU_ES, 4 },  { GDB_SEG, CPU_FS, 4 },  { GDB_SEG, CPU_GS, 4 },
};

static uint64_t reg_get(const struct cpu_state *s, const struct reg *r)
{
	switch (r->kind) {
	case GDB_GPR:
		return s->gpr[r->index];
	case GDB_RIP:
		return s->rip;
	case GDB_FLAGS:
		return s->rflags;
	case GDB_SEG:
		return s->seg[r->index].selector;
	}
	return 0;
}

/* Segments are not changed by a selector alone. */
static void reg_set(struct cpu_state *s, const struct reg *r, uint64_t v)
{
	if (r->kind == GDB_GPR) {
		s->gpr[r->index] = v;
	} else if (r->kind == GDB_RIP) {
		s->rip = v;
	} else if (r->kind == GDB_FLAGS) {
		s->rflags = (s->rflags & ~UINT64_C(0xffffffff)) | v | CPU_FLAG_1;
	}
}

/* --- Packets --- */

static void gdb_close(struct vm_gdb *g)
{
	struct err e = ERR_INIT;
	bool was_there = g->fd >= 0;

	g->source = loop_fd_free(g->source);
	fd_close(&g->fd);
	buf_reset(&g->in);
	if (!was_there || vm_state(g->vm) == VM_ENDED) {
		return;
	}
	/* Nothing of the debugger stays, but a machine that is paused stays so. */
	vm_debug_hold(g->vm);
	g->debug = (struct vcpu_debug){ 0 };
	for (unsigned i = 0; i < vm_n_vcpus(g->vm); i++) {
		struct vcpu *v = vm_vcpu(g->vm, i);

		ignore_result(v->ops->vcpu_debug(v, &g->debug, &e)); /* at the end */
	}
	if (vm_state(g->vm) == VM_PAUSED) {
		g->vm->debugger_holds = false;
	} else {
		ignore_result(vm_debug_go(g->vm, -1, &e)); /* it runs */
	}
}

static void send_packet(struct vm_gdb *g, const char *text)
{
	auto_buf struct buf b = BUF_INIT;
	uint8_t sum = 0;

	for (const char *p = text; *p; p++) {
		sum = (uint8_t)(sum + (uint8_t)*p);
	}
	buf_printf(&b, "$%s#%02x", text, sum);
	if (buf_failed(&b) || g->fd < 0 || sys_write_full(g->fd, b.data, b.len) < 0) {
		gdb_close(g); /* it does not read, or is gone */
	}
}

static void send_stop(struct vm_gdb *g, int signo)
{
	char text[64];

	snprintf(text, sizeof(text), "T%02xthread:%x;", signo, g->cpu + 1);
	send_packet(g, text);
}

static void send_watched(struct vm_gdb *g, unsigned k)
{
	static const char *const names[] = { [2] = "watch", [3] = "rwatch", [4] = "awatch" };
	char text[64];

	snprintf(text, sizeof(text), "T%02x%s:%llx;thread:%x;", SIG_TRAP, names[(unsigned char)g->watch_kind[k]],
		 (unsigned long long)g->debug.watches[k].va, g->cpu + 1);
	send_packet(g, text);
}

static void send_hex(struct vm_gdb *g, const void *data, size_t n)
{
	auto_free char *text = mem_calloc(2 * n + 1, 1);

	if (text) {
		hex_format(data, n, text);
		send_packet(g, text);
	}
}

static void send_result(struct vm_gdb *g, int r)
{
	send_packet(g, r < 0 ? "E01" : "OK");
}

/* --- Registers and memory --- */

static int get_state(struct vm_gdb *g, struct cpu_state *s)
{
	struct vcpu *v = vm_vcpu(g->vm, g->cpu);
	struct err e = ERR_INIT;

	return v->ops->vcpu_get(v, s, &e);
}

static int put_state(struct vm_gdb *g, const struct cpu_state *s)
{
	struct vcpu *v = vm_vcpu(g->vm, g->cpu);
	struct err e = ERR_INIT;

	return v->ops->vcpu_set(v, s, &e);
}

static void read_registers(struct vm_gdb *g)
{
	struct cpu_state s;
	uint8_t all[ARRAY_LEN(regs) * 8];
	size_t at = 0;

	if (get_state(g, &s) < 0) {
		send_packet(g, "E01");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		uint64_t v = reg_get(&s, &regs[i]);

		memcpy(all + at, &v, regs[i].bytes);
		at += regs[i].bytes;
	}
	send_hex(g, all, at);
}

static void write_registers(struct vm_gdb *g, const char *hex)
{
	struct cpu_state s;
	uint8_t all[ARRAY_LEN(regs) * 8];
	size_t n = 0, at = 0;

	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		n += regs[i].bytes;
	}
	if (strlen(hex) < 2 * n || get_state(g, &s) < 0) {
		send_packet(g, "E01");
		return;
	}
	auto_free char *text = str_ndup(hex, 2 * n);

	if (!text || hex_parse(text, n, all) < 0) {
		send_packet(g, "E01");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		uint64_t v = 0;

		memcpy(&v, all + at, regs[i].bytes);
		reg_set(&s, &regs[i], v);
		at += regs[i].bytes;
	}
	send_result(g, put_state(g, &s));
}

/* P n=value, or p n */
static void one_register(struct vm_gdb *g, const char *args, bool set)
{
	struct cpu_state s;
	uint64_t v = 0;
	char *end = NULL;
	unsigned long n = strtoul(args, &end, 16);

	if (n >= ARRAY_LEN(regs) || get_state(g, &s) < 0) {
		send_packet(g, set ? "E01" : "xxxxxxxx");
	} else if (!set) {
		v = reg_get(&s, &regs[n]);
		send_hex(g, &v, regs[n].bytes);
	} else if (*end == '=' && strlen(end + 1) == 2 * regs[n].bytes &&
		   hex_parse(end + 1, regs[n].bytes, &v) == 0) {
		reg_set(&s, &regs[n], v);
		send_result(g, put_state(g, &s));
	} else {
		send_packet(g, "E01");
	}
}

/* Page by page, as the vCPU's paging has them. */
static int access_memory(struct vm_gdb *g, uint64_t va, uint8_t *data, size_t n, bool write)
{
	struct vcpu *v = vm_vcpu(g->vm, g->cpu);

	while (n > 0) {
		size_t part = MIN(n, (size_t)(GMEM_PAGE_BYTES - va % GMEM_PAGE_BYTES));
		gpa_t at = { 0 };
		int r = v->ops->vcpu_translate(v, va, &at);

		r = r < 0 ? r : write ? gmem_write(vm_mem(g->vm), at, data, part) :
					gmem_read(vm_mem(g->vm), at, data, part);
		if (r < 0) {
			return r;
		}
		va += part;
		data += part;
		n -= part;
	}
	return 0;
}

/* m addr,len   M addr,len:data */
static void memory(struct vm_gdb *g, const char *args, bool write)
{
	uint8_t data[MEMORY_MAX];
	char *end = NULL;
	uint64_t va = strtoull(args, &end, 16);
	uint64_t n = *end == ',' ? strtoull(end + 1, &end, 16) : UINT64_MAX;

	if (n > sizeof(data) ||
	    (write && (*end != ':' || strlen(end + 1) != 2 * n || hex_parse(end + 1, n, data) < 0)) ||
	    access_memory(g, va, data, n, write) < 0) {
		send_packet(g, "E14");
	} else if (write) {
		send_packet(g, "OK");
	} else {
		send_hex(g, data, n);
	}
}

/* --- Breakpoints and running --- */

static int tell_debug(struct vm_gdb *g, int step_cpu)
{
	struct err e = ERR_INIT;
	int r = 0;

	for (unsigned i = 0; i < vm_n_vcpus(g->vm) && r == 0; i++) {
		struct vcpu *v = vm_vcpu(g->vm, i);

		g->debug.step = step_cpu == (int)i;
		r = v->ops->vcpu_debug(v, &g->debug, &e);
	}
	return r;
}

/* Z2 (write), Z3 (read), Z4 (both): kind is the length. */
static void watchpoint(struct vm_gdb *g, const char *args, bool add)
{
	struct vcpu_debug *d = &g->debug;
	char *end = NULL;
	char kind = (char)(args[0] - '0');
	uint64_t va = strtoull(args + 2, &end, 16);
	uint64_t bytes = *end == ',' ? strtoull(end + 1, NULL, 16) : 0;
	unsigned at = 0;

	if (bytes == 0 || bytes > 8 || (bytes & (bytes - 1)) || va % bytes) {
		send_packet(g, "E22");
		return;
	}
	while (at < d->n_watches && !(d->watches[at].va == va && d->watches[at].bytes == bytes &&
				      g->watch_kind[at] == kind)) {
		at++;
	}
	if (add && at == VCPU_WATCHES_MAX) {
		send_packet(g, "E28");
		return;
	}
	if (add && at == d->n_watches) {
		g->watch_kind[at] = kind;
		d->watches[d->n_watches++] = (struct vcpu_watch){ va, (uint32_t)bytes, kind != 2 };
	} else if (!add && at < d->n_watches) {
		d->watches[at] = d->watches[--d->n_watches];
		g->watch_kind[at] = g->watch_kind[d->n_watches];
	}
	send_result(g, tell_debug(g, -1));
}

/* Z0,addr,kind and z0: software and hardware breakpoints are one thing here. */
static void breakpoint(struct vm_gdb *g, const char *args, bool add)
{
	struct vcpu_debug *d = &g->debug;
	unsigned at = 0;

	if (args[0] >= '2' && args[0] <= '4' && args[1] == ',') {
		watchpoint(g, args, add);
		return;
	}
	if ((args[0] != '0' && args[0] != '1') || args[1] != ',') {
		send_packet(g, "");
		return;
	}
	uint64_t va = strtoull(args + 2, NULL, 16);

	while (at < d->n_breakpoints && d->breakpoints[at] != va) {
		at++;
	}
	if (add && at == VCPU_BREAKPOINTS_MAX) {
		send_packet(g, "E28");
		return;
	}
	if (add && at == d->n_breakpoints) {
		d->breakpoints[d->n_breakpoints++] = va;
	} else if (!add && at < d->n_breakpoints) {
		d->breakpoints[at] = d->breakpoints[--d->n_breakpoints];
	}
	send_result(g, tell_debug(g, -1));
}

static void go(struct vm_gdb *g, bool step)
{
	if (vm_state(g->vm) == VM_ENDED || tell_debug(g, step ? (int)g->cpu : -1) < 0) {
		send_packet(g, "W00");
		return;
	}
	struct err e = ERR_INIT;

	g->running = true;
	/* A step is of one vCPU; the others wait, so that nothing else happens. */
	if (vm_debug_go(g->vm, step ? (int)g->cpu : -1, &e) < 0) {
		g->running = false;
		send_stop(g, SIG_INT); /* it is empty, and cannot */
	}
}

static void on_stop(void *ctx, unsigned vcpu, enum vcpu_stop stop)
{
	struct vm_gdb *g = ctx;

	if (g->fd >= 0 && g->running) {
		g->running = false;
		g->cpu = vcpu;
		ignore_result(tell_debug(g, -1)); /* the step is over; told again before the next */
		if (stop == VCPU_STOP_WATCHED) {
			send_watched(g, vm_vcpu(g->vm, vcpu)->watch_hit);
		} else {
			send_stop(g, SIG_TRAP);
		}
	}
}

/* --- Commands --- */

/* Which thread: 0 and -1 mean any. */
static void set_thread(struct vm_gdb *g, const char *args)
{
	long n = strtol(args, NULL, 16);

	if (n > 0 && (unsigned long)n <= vm_n_vcpus(g->vm)) {
		g->cpu = (unsigned)n - 1;
	}
	send_result(g, n > (long)vm_n_vcpus(g->vm) ? -1 : 0);
}

static void list_threads(struct vm_gdb *g)
{
	auto_buf struct buf b = BUF_INIT;

	for (unsigned i = 0; i < vm_n_vcpus(g->vm); i++) {
		buf_printf(&b, "%c%x", i == 0 ? 'm' : ',', i + 1);
	}
	send_packet(g, buf_str(&b));
}

static const char description[] =
	"l<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
	"<target><architecture>i386:x86-64</architecture></target>";

static void query(struct vm_gdb *g, const char *q)
{
	char text[64];

	if (str_after(q, "Supported")) {
		snprintf(text, sizeof(text), "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+",
			 PACKET_MAX - 1);
		send_packet(g, text);
	} else if (str_eq(q, "fThreadInfo")) {
		list_threads(g);
	} else if (str_eq(q, "sThreadInfo")) {
		send_packet(g, "l");
	} else if (str_eq(q, "C")) {
		snprintf(text, sizeof(text), "QC%x", g->cpu + 1);
		send_packet(g, text);
	} else if (str_after(q, "Attached")) {
		send_packet(g, "1");
	} else if (str_after(q, "Xfer:features:read:target.xml:0,")) {
		send_packet(g, description);
	} else {
		send_packet(g, "");
	}
}

/* vCont;c   vCont;s:1;c */
static void v_command(struct vm_gdb *g, const char *v)
{
	if (str_eq(v, "Cont?")) {
		send_packet(g, "vCont;c;C;s;S");
	} else if (str_after(v, "Cont;")) {
		const char *s = strstr(v, ";s");
		const char *thread = s && s[2] == ':' ? s + 3 : NULL;
		unsigned long n = thread ? strtoul(thread, NULL, 16) : 0;

		if (n > 0 && n <= vm_n_vcpus(g->vm)) {
			g->cpu = (unsigned)n - 1;
		}
		go(g, s != NULL);
	} else {
		send_packet(g, "");
	}
}

static void command(struct vm_gdb *g, const char *c)
{
	switch (c[0]) {
	case '?':
		send_stop(g, SIG_TRAP);
		break;
	case 'g':
		read_registers(g);
		break;
	case 'G':
		write_registers(g, c + 1);
		break;
	case 'p':
	case 'P':
		one_register(g, c + 1, c[0] == 'P');
		break;
	case 'm':
	case 'M':
		memory(g, c + 1, c[0] == 'M');
		break;
	case 'Z':
	case 'z':
		breakpoint(g, c + 1, c[0] == 'Z');
		break;
	case 'c':
	case 's':
		go(g, c[0] == 's');
		break;
	case 'H':
		set_thread(g, c[1] ? c + 2 : c + 1);
		break;
	case 'T':
		send_result(g, strtoul(c + 1, NULL, 16) <= vm_n_vcpus(g->vm) ? 0 : -1);
		break;
	case 'q':
		query(g, c + 1);
		break;
	case 'Q':
		g->no_ack |= str_eq(c, "QStartNoAckMode");
		send_packet(g, str_eq(c, "QStartNoAckMode") ? "OK" : "");
		break;
	case 'v':
		v_command(g, c + 1);
		break;
	case 'D':
		send_packet(g, "OK");
		gdb_close(g);
		break;
	case 'k':
		vm_stop(g->vm, VM_END_STOPPED);
		gdb_close(g);
		break;
	default:
		send_packet(g, "");
		break;
	}
}

/* --- The connection --- */

static void interrupted(struct vm_gdb *g)
{
	if (g->running) {
		vm_debug_hold(g->vm);
		g->running = false;
		send_stop(g, SIG_INT);
	}
}

/* One packet or other byte from the front. False: it is not complete yet. */
static bool take_packet(struct vm_gdb *g)
{
	const char *d = g->in.data;
	char text[PACKET_MAX];

	if (g->in.len == 0) {
		return false;
	}
	if (d[0] != '$') {
		bool ctrl_c = d[0] == INTERRUPT;

		buf_drop(&g->in, 1);
		if (ctrl_c) {
			interrupted(g);
		}
		return g->fd >= 0;
	}
	const char *hash = memchr(d, '#', g->in.len);

	if (!hash || g->in.len - (size_t)(hash - d) < 3) {
		return false;
	}
	size_t n = (size_t)(hash - d) - 1;

	if (n >= sizeof(text)) {
		gdb_close(g);
		return false;
	}
	memcpy(text, d + 1, n);
	text[n] = 0;
	buf_drop(&g->in, n + 4);
	if (!g->no_ack && sys_write_full(g->fd, "+", 1) < 0) {
		gdb_close(g);
		return false;
	}
	command(g, text);
	return g->fd >= 0;
}

static void on_data(struct loop_fd *src, unsigned events, void *ud)
{
	struct vm_gdb *g = ud;
	char chunk[4096];
	ssize_t n = sys_read(g->fd, chunk, sizeof(chunk));

	(void)src, (void)events;
	if (n <= 0 || g->in.len + (size_t)n > 2 * PACKET_MAX) {
		gdb_close(g);
		return;
	}
	buf_add(&g->in, chunk, (size_t)n);
	while (!buf_failed(&g->in) && take_packet(g)) {
	}
}

void vm_gdb_connect(struct vm_gdb *g, int own_fd)
{
	auto_close int fd = own_fd;

	if (g->fd >= 0 || vm_state(g->vm) == VM_ENDED) {
		return;
	}
	if (loop_fd_new(vm_loop(g->vm), fd, LOOP_IN, on_data, g, &g->source) < 0) {
		return;
	}
	g->fd = take_fd(&fd);
	g->no_ack = g->running = false;
	g->cpu = 0;
	g->debug = (struct vcpu_debug){ 0 };
	vm_debug_hold(g->vm);
}

int vm_gdb_new(struct vm *vm, struct vm_gdb **ret, struct err *e)
{
	struct vm_gdb *g = mem_new(struct vm_gdb);

	if (!g) {
		return err_nomem(e);
	}
	*g = (struct vm_gdb){ .vm = vm, .fd = -1, .in = BUF_INIT };
	vm_set_debugger(vm, on_stop, g);
	*ret = g;
	return 0;
}

struct vm_gdb *vm_gdb_free(struct vm_gdb *g)
{
	if (g) {
		vm_set_debugger(g->vm, NULL, NULL);
		if (g->fd >= 0) {
			send_packet(g, "W00");
		}
		gdb_close(g);
		buf_fini(&g->in);
		free(g);
	}
	return NULL;
}
