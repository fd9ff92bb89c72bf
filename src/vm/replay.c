/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replaying side, and what both sides share. The log is read one record ahead. Records that
 * the guest asks for (reads, writes, sleeps) wait until it does; those that come by themselves
 * wait for their point: the engine is told of it and calls replay_due() there.
 */
#include "vm/replay-priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vm/boot/layout.h"
#include "vm/cpu/model.h"

static const struct state_field machine_fields[] = {
	STATE_U64(1, struct replay_machine, memory_bytes, .min = 1 << 20, .max = BIT(46)),
	STATE_U32(2, struct replay_machine, n_vcpus, .min = 1, .max = VM_VCPUS_MAX),
	STATE_U64(3, struct replay_machine, tsc_hz),
	STATE_U64(4, struct replay_machine, every),
	STATE_U64(5, struct replay_machine, seed),
	STATE_U64(6, struct replay_machine, boot_wall_ns),
	STATE_U64(7, struct replay_machine, cpuid),
	STATE_U64(8, struct replay_machine, layout),
	STATE_U64(9, struct replay_machine, memory_every, .since = 2),
};

static int machine_check(const void *p, struct err *e)
{
	const struct replay_machine *m = p;

	return m->memory_bytes % GMEM_PAGE_BYTES ?
		       err_set(e, EBADMSG, ERR_INVALID, "memory that is no number of pages") : 0;
}

const struct state_desc replay_machine_state = STATE_DESC("machine", struct replay_machine,
	machine_fields, .version = 2, .oldest = 1, .check = machine_check);

/* --- Both sides --- */

uint64_t replay__cpuid(unsigned n_vcpus, uint64_t tsc_hz)
{
	struct cpu_cpuid all[CPU_MODEL_ENTRIES_MAX];
	const struct cpu_model_conf conf = { .id = 0, .n_vcpus = n_vcpus, .tsc_hz = tsc_hz };
	size_t n = cpu_model(&conf, all);
	uint64_t h = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t words[] = { all[i].leaf, all[i].subleaf, all[i].eax, all[i].ebx,
				     all[i].ecx, all[i].edx };

		h = regs_hash(h, words, ARRAY_LEN(words));
	}
	return h;
}

uint64_t replay__memory_hash(struct vm *vm)
{
	uint64_t h = 0;

	for (unsigned i = 0; i < vm->mem.n_slots; i++) {
		const struct gmem_slot *s = &vm->mem.slots[i];

		for (uint64_t at = 0; at < s->bytes; at += GMEM_PAGE_BYTES) {
			const uint64_t *page = (const uint64_t *)(const void *)(s->host + at);

			if (page[0] == 0 && memcmp(page, (const uint8_t *)page + 1,
						   GMEM_PAGE_BYTES - 1) == 0) {
				continue;
			}
			h = regs_hash(h ^ (s->first.raw + at), page, GMEM_PAGE_BYTES / 8);
		}
	}
	return h;
}

int replay__fail(struct vm_replay *rp, enum replay_result why, const char *fmt, ...)
{
	va_list ap;

	if (!rp->failed) {
		va_start(ap, fmt);
		ignore_result(vsnprintf(rp->sum.text, sizeof(rp->sum.text), fmt, ap)); /* cut is fine */
		va_end(ap);
		rp->sum.result = why;
		rp->failed = true;
	}
	return -EIO;
}

int replay__regs(struct vm_replay *rp, struct vcpu *v, uint64_t ret[REGS_WORDS], struct err *e)
{
	struct cpu_state s;
	int r = rp->vm->engine->ops->vcpu_get(v, &s, e);

	if (r == 0) {
		regs_get(&s, ret);
	}
	return r;
}

uint64_t vm__replay_read(struct vm *vm, enum rlog_space space, uint64_t at, unsigned n)
{
	return vm->replay->replay ? replay__read(vm->replay, space, at, n) :
				    record__read(vm->replay, space, at, n);
}

void vm__replay_write(struct vm *vm, enum rlog_space space, uint64_t at, unsigned n, uint64_t v)
{
	if (vm->replay->replay) {
		replay__write(vm->replay, space, at, n, v);
	} else {
		record__write(vm->replay, space, at, n, v);
	}
}

void vm_replay_result(const struct vm *vm, struct replay_summary *ret)
{
	*ret = vm->replay ? vm->replay->sum : (struct replay_summary){ 0 };
}

struct vm_replay *vm__replay_free(struct vm_replay *rp)
{
	if (rp) {
		if (rp->vm->replay == rp) {
			loop_set_guard(rp->vm->loop, NULL, NULL);
			gmem_tap(&rp->vm->mem, NULL, NULL);
		}
		mem_hash_fini(&rp->memory);
		ignore_result(rlog_writer_free(rp->w));   /* NULL */
		ignore_result(rlog_reader_free(rp->in));  /* NULL */
		free(rp);
	}
	return NULL;
}

/*
 * Another thread may not look at the pages that a vCPU writes, nor may the vCPU itself from inside
 * of the guest, as its engine has to forget which pages it may write. So it has come out.
 */
void vm__replay_out(struct vm *vm, const struct vcpu *v)
{
	struct vm_replay *rp = vm->replay;
	struct engine *eng = vm->engine;
	struct err e = ERR_INIT;

	if (!rp || atomic_load(&rp->memory_due) != v) {
		return;
	}
	atomic_store(&rp->memory_due, NULL);
	eng->ops->hold(eng, true);
	if (eng->ops->log_sync(eng, &e) < 0) {
		replay__fail(rp, REPLAY_FAILED, "%s", e.msg);
	} else if (rp->replay) {
		replay__memory(rp);
	} else {
		record__memory(rp);
	}
	eng->ops->hold(eng, false);
}

/* --- The log, one record ahead --- */

/* The next record; NULL: there is none, or it cannot be read. */
static const struct rlog_rec *peek(struct vm_replay *rp)
{
	struct err e = ERR_INIT;

	if (!rp->has_rec) {
		int r = rp->failed ? 0 : rlog_next(rp->in, &rp->rec, &e);

		if (r < 0) {
			replay__fail(rp, REPLAY_FAILED, "%s", e.msg);
		}
		rp->has_rec = r > 0;
	}
	return rp->has_rec ? &rp->rec : NULL;
}

/* The next record has happened. */
static void done_with(struct vm_replay *rp)
{
	if (rp->w) {
		rlog_put(rp->w, &rp->rec);
	}
	rp->has_rec = false;
}

/* Where to look next, by what comes next. */
static struct engine_pos next_pos(struct vm_replay *rp)
{
	const struct rlog_rec *rec = peek(rp);
	struct engine_pos next = { 0 };

	if (!rec || rp->failed) {
		return next;
	}
	if (rec->type == RLOG_AT || rec->type == RLOG_CHECK || rec->type == RLOG_END) {
		next = (struct engine_pos){ rec->insns, rec->events };
	} else if (rec->type != RLOG_PAGES) { /* that is due here */
		/* The guest has to ask for it before the next check is due. */
		next.insns = rp->machine.every ? rp->next_check + 1 : UINT64_MAX;
	}
	if (next.insns > rp->next_own) {
		next = (struct engine_pos){ rp->next_own, 0 };
	}
	if (rp->conf.stop_at && next.insns > rp->conf.stop_at) {
		next = (struct engine_pos){ rp->conf.stop_at, 0 };
	}
	return next;
}

static void update(struct vm_replay *rp)
{
	struct engine_pos next = next_pos(rp);

	rp->vm->engine->ops->set_tape(rp->vm->engine, &rp->tape, &next);
}

/* The guest does one thing and the log has another. */
static int differs(struct vm_replay *rp, const struct rlog_rec *does)
{
	const struct vm *vm = rp->vm;
	struct engine_pos at;
	uint64_t regs[REGS_WORDS] = { 0 };
	struct err e = ERR_INIT;

	vm->engine->ops->position(vm->engine, &at);
	ignore_result(replay__regs(rp, vm->cpus[0].v, regs, &e)); /* only for the message */
	return replay__fail(rp, REPLAY_DIFFERS, "after %llu instructions and %llu events, at rip "
			    "0x%llx, the guest does %s; the recording has %s; the last check that was "
			    "the same: at %llu instructions", (unsigned long long)at.insns,
			    (unsigned long long)at.events, (unsigned long long)regs[0],
			    does ? rlog_words(does).text : "none of it", rlog_words(peek(rp)).text,
			    (unsigned long long)rp->sum.insns);
}

/* --- What comes by itself --- */

static bool is_effect(const struct rlog_rec *rec)
{
	return rec && (rec->type == RLOG_MSI || rec->type == RLOG_LINE || rec->type == RLOG_MEMORY);
}

static int apply(struct vm_replay *rp, const struct rlog_rec *rec)
{
	struct engine *eng = rp->vm->engine;
	int r = 0;

	if (rec->type == RLOG_MSI) {
		ignore_result(eng->ops->msi(eng, rec->addr, (uint32_t)rec->value)); /* as recorded */
	} else if (rec->type == RLOG_LINE) {
		r = eng->ops->line(eng, (unsigned)MIN(rec->addr, (uint64_t)UINT32_MAX),
				   rec->value != 0);
	} else {
		r = gmem_write(&rp->vm->mem, GPA(rec->addr), rec->data, rec->len);
	}
	return r < 0 ? replay__fail(rp, REPLAY_FAILED, "the recording is damaged: %s",
				    rec->type == RLOG_LINE ? "there is no such line" :
							     "a write outside of memory") : 0;
}

static int apply_effects(struct vm_replay *rp)
{
	int r = 0;

	while (r == 0 && is_effect(peek(rp))) {
		done_with(rp);
		r = apply(rp, &rp->rec);
	}
	return r;
}

/* --- Checks --- */

static int registers_differ(struct vm_replay *rp, const struct engine_pos *at, unsigned cpu,
			    const uint64_t *now)
{
	return replay__fail(rp, REPLAY_DIFFERS, "after %llu instructions and %llu events, at rip "
			    "0x%llx, vCPU %u has %s; the last check that was the same: at %llu "
			    "instructions", (unsigned long long)at->insns,
			    (unsigned long long)at->events, (unsigned long long)now[0], cpu,
			    check_names(now, rp->chain.last[cpu]).text,
			    (unsigned long long)rp->sum.insns);
}

static int check(struct vm_replay *rp, struct vcpu *v, const struct engine_pos *at, struct err *e)
{
	uint64_t now[REGS_WORDS];
	unsigned cpu = rp->rec.cpu;
	int r = check_take(&rp->chain, &rp->rec, rp->vm->n_cpus);

	if (r < 0) {
		return replay__fail(rp, REPLAY_FAILED, "the recording is damaged: a check");
	}
	r = replay__regs(rp, v, now, e);
	if (r < 0) {
		return r;
	}
	if (v->id != cpu) {
		return replay__fail(rp, REPLAY_DIFFERS, "after %llu instructions vCPU %u runs, and "
				    "was %u", (unsigned long long)at->insns, v->id, cpu);
	}
	if (memcmp(now, rp->chain.last[cpu], regs_count() * sizeof(*now)) != 0) {
		return registers_differ(rp, at, cpu, now);
	}
	if (rp->chain.hash != rp->rec.value) {
		return replay__fail(rp, REPLAY_FAILED, "the recording is damaged: a check's hash");
	}
	rp->sum.checks++;
	rp->sum.insns = at->insns;
	rp->next_check = at->insns + rp->machine.every;
	if (rp->w) {
		record__check(rp, &rp->again, at, cpu, now);
	}
	rp->has_rec = false;
	return 0;
}

static int damaged_pages(struct vm_replay *rp)
{
	return replay__fail(rp, REPLAY_FAILED, "the recording is damaged: a check of memory");
}

/* Our own pages have been looked at, and the sum is another. */
static int memory_differs(struct vm_replay *rp, const struct rlog_rec *rec,
			  const struct engine_pos *at, const char *where)
{
	struct mem_names names;

	if (mem_hash_differ(&rp->memory, rec->data, rec->len, &names) < 0) {
		return damaged_pages(rp);
	}
	return replay__fail(rp, REPLAY_DIFFERS, "after %llu instructions and %llu events%s, memory is "
			    "not the same: %llu of the pages that changed%s%s; the last check of it that "
			    "was the same: at %llu instructions", (unsigned long long)at->insns,
			    (unsigned long long)at->events, where, (unsigned long long)names.pages,
			    names.pages ? ", " : "", names.text,
			    (unsigned long long)rp->memory_insns);
}

void replay__memory(struct vm_replay *rp)
{
	struct engine *eng = rp->vm->engine;
	struct engine_pos at = { 0 };

	if (rp->failed || !rp->has_rec || rp->rec.type != RLOG_PAGES) {
		return;
	}
	eng->ops->position(eng, &at);
	mem_hash_update(&rp->memory, false);
	if (rp->memory.sum != rp->rec.value) {
		ignore_result(memory_differs(rp, &rp->rec, &at, "")); /* kept: due() returns it */
		return;
	}
	rp->sum.memory_checks++;
	rp->memory_insns = at.insns;
	done_with(rp);
}

/* --- The tape --- */

static void print_regs(struct vm_replay *rp, struct vcpu *v, const struct engine_pos *at)
{
	uint64_t now[REGS_WORDS];
	struct err e = ERR_INIT;
	size_t used = 0;

	if (replay__regs(rp, v, now, &e) < 0) {
		return;
	}
	used = (size_t)snprintf(rp->sum.text, sizeof(rp->sum.text), "vCPU %u, %llu events:", v->id,
				(unsigned long long)at->events);
	for (unsigned i = 0; i < 19 && used < sizeof(rp->sum.text); i++) {
		used += (size_t)snprintf(rp->sum.text + used, sizeof(rp->sum.text) - used, " %s=%llx",
					 regs_name(i).text, (unsigned long long)now[i]);
	}
}

/* Stop here for good. */
static int finish(struct vm_replay *rp, enum replay_result how, enum vm_end end,
		  const struct engine_pos *at, enum vcpu_stop *ret_stop)
{
	rp->sum.result = how;
	rp->sum.insns = at->insns;
	vm__ask_end(rp->vm, end);
	*ret_stop = VCPU_STOP_KICKED;
	return 1;
}

/* The end of the other recording: its hash is of its own checks. */
static void end_again(struct vm_replay *rp)
{
	if (rp->w) {
		rp->rec.value = regs_hash(rp->again.hash,
					  (uint64_t[]){ replay__memory_hash(rp->vm) }, 1);
		done_with(rp);
		if (peek(rp) && rp->rec.type == RLOG_PAGES) {
			done_with(rp);
		}
	}
}

static int at_end(struct vm_replay *rp, const struct engine_pos *at, enum vcpu_stop *ret_stop)
{
	uint64_t hash = regs_hash(rp->chain.hash, (uint64_t[]){ replay__memory_hash(rp->vm) }, 1);

	rp->sum.hash = hash;
	if (hash != rp->rec.value) {
		rp->has_rec = false;
		if (rp->memory.mem && peek(rp) && rp->rec.type == RLOG_PAGES) {
			mem_hash_update(&rp->memory, true);
			return memory_differs(rp, &rp->rec, at, ", at the end");
		}
		return replay__fail(rp, REPLAY_DIFFERS, "after %llu instructions, at the end, memory "
				    "is not the same", (unsigned long long)at->insns);
	}
	enum vm_end end = rp->rec.cpu < VM_END__COUNT && rp->rec.cpu != VM_END_NONE ?
				  rp->rec.cpu : VM_END_STOPPED;

	end_again(rp);
	return finish(rp, REPLAY_SAME, end, at, ret_stop);
}

/* What is due at this very point; 0: go on. */
static int due_here(struct vm_replay *rp, struct vcpu *v, const struct engine_pos *at,
		    enum vcpu_stop *ret_stop, struct err *e)
{
	const struct rlog_rec *rec = peek(rp);
	struct engine_pos want = { 0 };
	int r = 0;

	if (rp->failed) {
		return -EIO;
	}
	if (!rec) {
		rp->sum.hash = rp->chain.hash;
		return finish(rp, REPLAY_CUT, VM_END_STOPPED, at, ret_stop);
	}
	want = (struct engine_pos){ rec->insns, rec->events };
	switch (rec->type) {
	case RLOG_AT:
	case RLOG_CHECK:
	case RLOG_END:
		r = engine_pos_cmp(at, &want);
		if (r != 0) {
			return r < 0 ? 0 : differs(rp, NULL);
		}
		if (rec->type == RLOG_END) {
			return at_end(rp, at, ret_stop);
		}
		if (rec->type == RLOG_CHECK) {
			r = check(rp, v, at, e);
			return r < 0 ? r : due_here(rp, v, at, ret_stop, e);
		}
		done_with(rp);
		r = apply_effects(rp);
		return r < 0 ? r : due_here(rp, v, at, ret_stop, e);
	case RLOG_PAGES:
		if (!rp->memory.mem) {
			return damaged_pages(rp);
		}
		atomic_store(&rp->memory_due, v); /* vm__replay_out() goes on from here */
		*ret_stop = VCPU_STOP_KICKED;
		return 1;
	case RLOG_READ:
	case RLOG_WRITE:
	case RLOG_SLEPT:
		return rp->machine.every && at->insns > rp->next_check ? differs(rp, NULL) : 0;
	case RLOG_MACHINE:
	case RLOG_STATE:
	case RLOG_START:
	case RLOG_MEMORY:
	case RLOG_MSI:
	case RLOG_LINE:
	case RLOG_TYPE__COUNT:
		break;
	}
	return replay__fail(rp, REPLAY_FAILED, "the recording is damaged: a %s record has no place",
			    rlog_type_names[rec->type]);
}

/* A check that the other recording alone has. */
static int check_again(struct vm_replay *rp, struct vcpu *v, const struct engine_pos *at,
		       struct err *e)
{
	uint64_t now[REGS_WORDS];

	if (at->insns < rp->next_own) {
		return 0;
	}
	rp->next_own += rp->conf.every;
	if (rp->conf.to && rp->next_own > rp->conf.to) {
		rp->next_own = UINT64_MAX;
	}
	int r = replay__regs(rp, v, now, e);

	if (r == 0) {
		record__check(rp, &rp->again, at, v->id, now);
	}
	return r;
}

static int replay_due(void *ctx, struct vcpu *v, const struct engine_pos *at,
		      struct engine_pos *ret_next, enum vcpu_stop *ret_stop, struct err *e)
{
	struct vm_replay *rp = ctx;
	int r = check_again(rp, v, at, e);

	if (r < 0) {
		return r;
	}
	r = due_here(rp, v, at, ret_stop, e);
	if (r < 0) {
		r = err_set(e, EIO, ERR_HOST, "%s", rp->sum.text);
	} else if (r == 0 && rp->conf.stop_at && at->insns >= rp->conf.stop_at) {
		rp->conf.stop_at = 0;
		if (rp->vm->debugger) {
			*ret_stop = VCPU_STOP_BREAKPOINT;
			r = 1;
		} else {
			print_regs(rp, v, at);
			rp->sum.hash = rp->chain.hash;
			r = finish(rp, REPLAY_STOPPED, VM_END_STOPPED, at, ret_stop);
		}
	}
	*ret_next = next_pos(rp);
	return r;
}

static int replay_slept(void *ctx, const struct engine_pos *at, uint64_t *ns, struct err *e)
{
	static const struct rlog_rec sleeps = { .type = RLOG_SLEPT };
	struct vm_replay *rp = ctx;
	const struct rlog_rec *rec = peek(rp);

	(void)at;
	if (!rec && !rp->failed) {
		update(rp);   /* the end of a log that was cut off: due() tells */
		*ns = 0;
		return 0;
	}
	if (rp->failed || rec->type != RLOG_SLEPT) {
		int r = differs(rp, &sleeps);

		return err_set(e, -r, ERR_HOST, "%s", rp->sum.text);
	}
	*ns = rec->value;
	done_with(rp);
	update(rp);
	return 0;
}

/* --- Accesses --- */

static bool same_access(const struct rlog_rec *a, const struct rlog_rec *b)
{
	return a->type == b->type && a->space == b->space && a->bytes == b->bytes &&
	       a->addr == b->addr && (a->type == RLOG_READ || a->value == b->value);
}

static uint64_t access_again(struct vm_replay *rp, const struct rlog_rec *does)
{
	const struct rlog_rec *rec = peek(rp);
	uint64_t v = UINT64_MAX;

	if (rec && same_access(rec, does)) {
		v = rec->value;
		done_with(rp);
		ignore_result(apply_effects(rp)); /* kept: due() returns it */
	} else if (rec) {
		differs(rp, does);
	}
	update(rp);
	return v;
}

uint64_t replay__read(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n)
{
	return access_again(rp, &(struct rlog_rec){ .type = RLOG_READ, .space = (uint8_t)space,
						    .bytes = (uint8_t)n, .addr = at });
}

void replay__write(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n, uint64_t v)
{
	ignore_result(access_again(rp, &(struct rlog_rec){
		.type = RLOG_WRITE, .space = (uint8_t)space, .bytes = (uint8_t)n, .addr = at,
		.value = v })); /* a write has none */
	/* What the guest prints is worth seeing. */
	if (space == RLOG_PIO && at >= SERIAL_COM1 && at < SERIAL_COM1 + SERIAL_PORT_BYTES) {
		bus_write(rp->vm->pio, at, n, v);
	}
}

/* --- The start --- */

struct replay_source {
	struct rlog_reader   *in;
	struct rlog_writer   *again;
	struct replay_machine machine;
};

struct replay_source *replay_close(struct replay_source *s)
{
	if (s) {
		ignore_result(rlog_reader_free(s->in));    /* NULL */
		ignore_result(rlog_writer_free(s->again)); /* NULL */
		free(s);
	}
	return NULL;
}

int replay_again(struct replay_source *s, int own_fd, struct err *e)
{
	return rlog_writer_new(own_fd, &s->again, e);
}

uint64_t replay_memory_bytes(const struct replay_source *s)
{
	return s->machine.memory_bytes;
}

unsigned replay_n_vcpus(const struct replay_source *s)
{
	return s->machine.n_vcpus;
}

static int cut_at_start(struct err *e)
{
	return err_set(e, EBADMSG, ERR_INVALID, "the recording is cut off before its start");
}

int replay_open(int own_fd, struct replay_source **ret, struct err *e)
{
	auto_(replay_closep) struct replay_source *s = mem_new(struct replay_source);
	auto_(state_closep) struct state_reader *st = NULL;
	struct rlog_rec rec;

	if (!s) {
		fd_close(&own_fd);
		return err_nomem(e);
	}
	int r = rlog_reader_new(own_fd, &s->in, e);

	r = r < 0 ? r : rlog_next(s->in, &rec, e);
	if (r == 0 || (r > 0 && rec.type != RLOG_MACHINE)) {
		return cut_at_start(e);
	}
	r = r < 0 ? r : state_open(rec.data, rec.len, &st, e);
	r = r < 0 ? r : state_read(st, "/machine", &replay_machine_state, &s->machine, e);
	r = r < 0 ? r : state_commit(st, e);
	if (r < 0) {
		return r;
	}
	if (s->machine.layout != regs_layout()) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED,
			       "the recording is of a version whose checks hold other registers");
	}
	if (s->machine.cpuid != replay__cpuid(s->machine.n_vcpus, s->machine.tsc_hz)) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED, "the recording was made on a host whose "
			       "CPU has other features");
	}
	*ret = take_ptr(&s);
	return 0;
}

/* State and memory at the start. */
static int load(struct vm_replay *rp, struct err *e)
{
	auto_buf struct buf state = BUF_INIT;
	int r = 0;

	for (;;) {
		r = rlog_next(rp->in, &rp->rec, e);
		if (r == 0) {
			return cut_at_start(e);
		}
		if (r < 0) {
			return r;
		}
		if (rp->w) {
			rlog_put(rp->w, &rp->rec);
		}
		if (rp->rec.type == RLOG_STATE && state.len + rp->rec.len <= STATE_STREAM_MAX) {
			buf_add(&state, rp->rec.data, rp->rec.len);
		} else if (rp->rec.type == RLOG_MEMORY) {
			if (apply(rp, &rp->rec) < 0) {
				return err_set(e, EBADMSG, ERR_INVALID, "%s", rp->sum.text);
			}
		} else {
			break;
		}
	}
	if (rp->rec.type != RLOG_START || buf_failed(&state)) {
		return cut_at_start(e);
	}
	return vm__cpus_load(rp->vm, state.data, state.len, e);
}

int vm_replay(struct vm *vm, struct replay_source *own_source, const struct replay_conf *conf,
	      struct err *e)
{
	struct vm_replay *rp = mem_new(struct vm_replay);

	assert(vm->state == VM_PAUSED && !vm->replay && vm->conf.deterministic);
	if (!rp) {
		ignore_result(replay_close(own_source)); /* NULL */
		return err_nomem(e);
	}
	*rp = (struct vm_replay){ .vm = vm, .conf = *conf, .replay = true,
				  .machine = own_source->machine, .in = own_source->in,
				  .w = own_source->again, .next_own = UINT64_MAX };
	own_source->in = NULL;
	own_source->again = NULL;
	ignore_result(replay_close(own_source)); /* NULL */
	rp->next_check = rp->machine.every;
	rp->tape = (struct engine_tape){ .ctx = rp, .replay = true, .seed = rp->machine.seed,
					 .boot_wall_ns = rp->machine.boot_wall_ns,
					 .due = replay_due, .slept = replay_slept };
	int r = rp->machine.memory_every ? mem_hash_init(&rp->memory, &vm->mem, e) : 0;

	if (r == 0 && rp->w) {
		rp->next_own = MAX(conf->from, conf->every);
		r = record__machine(rp, e);
	}
	r = r < 0 ? r : load(rp, e);
	if (r == 0 && rp->memory.mem) {
		mem_hash_update(&rp->memory, true);
		r = vm->engine->ops->log(vm->engine, true, e);
	}
	if (r < 0) {
		ignore_result(vm__replay_free(rp)); /* NULL */
		return r;
	}
	vm->replay = rp;
	update(rp);
	return 0;
}

void vm__replay_ended(struct vm *vm)
{
	struct vm_replay *rp = vm->replay;
	struct err e = ERR_INIT;

	if (rp && !rp->replay) {
		record__ended(rp);
	} else if (rp && rp->sum.result == REPLAY_NONE) {
		rp->sum.result = REPLAY_STOPPED;
	}
	/* However far it came. */
	if (rp && rp->replay && rp->w && rlog_finish(rp->w, &e) < 0) {
		replay__fail(rp, REPLAY_FAILED, "the other recording: %s", e.msg);
	}
}
