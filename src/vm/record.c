/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recording side. vCPUs run alone or not at all: while the loop calls devices it holds them
 * (loop_set_guard()), so what a device does there is at one point of the guest's life. What it
 * does inside a vCPU's own access is part of that access, and follows its record.
 */
#include <errno.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vm/replay-priv.h"

static struct engine_pos position(const struct vm_replay *rp)
{
	struct engine_pos at = { 0 };

	rp->vm->engine->ops->position(rp->vm->engine, &at);
	return at;
}

/* --- What comes in --- */

/* An effect that a device has on the guest, now. */
static void put_effect(struct vm_replay *rp, const struct rlog_rec *rec)
{
	if (rp->in_read && !rec->data) {
		/* Its record comes when its value is known. More than a few there never are. */
		assert(rp->n_pending < ARRAY_LEN(rp->pending));
		rp->pending[rp->n_pending++] = *rec;
		return;
	}
	if (!rp->in_access && !rp->at_valid) {
		struct engine_pos at = position(rp);

		rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_AT, .insns = at.insns,
						    .events = at.events });
		rp->at_valid = true;
	}
	rlog_put(rp->w, rec);
}

static void on_written(void *ctx, gpa_t first, uint64_t bytes)
{
	struct vm_replay *rp = ctx;

	/* The engine's own writes (clocks, and the like) happen again by themselves. */
	if (!rp->in_access && !rp->in_loop) {
		return;
	}
	while (bytes > 0) {
		uint64_t part = MIN(bytes, (uint64_t)RLOG_DATA_MAX);
		const struct gmem_slot *s = gmem_slot(&rp->vm->mem, first);

		put_effect(rp, &(struct rlog_rec){ .type = RLOG_MEMORY, .addr = first.raw,
						   .data = s->host + (first.raw - s->first.raw),
						   .len = part });
		first.raw += part;
		bytes -= part;
	}
}

bool vm__replay_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
	struct vm_replay *rp = vm->replay;

	if (rp && !rp->replay) {
		put_effect(rp, &(struct rlog_rec){ .type = RLOG_MSI, .addr = addr, .value = data });
	}
	return !rp || !rp->replay;
}

bool vm__replay_line(struct vm *vm, unsigned gsi, bool level)
{
	struct vm_replay *rp = vm->replay;

	if (rp && !rp->replay) {
		put_effect(rp, &(struct rlog_rec){ .type = RLOG_LINE, .addr = gsi, .value = level });
	}
	return !rp || !rp->replay;
}

/* --- Accesses --- */

uint64_t record__read(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n)
{
	struct bus *bus = space == RLOG_MMIO ? rp->vm->mmio : rp->vm->pio;

	rp->at_valid = false;
	rp->in_access = rp->in_read = true;
	uint64_t v = bus_read(bus, at, n);

	rp->in_read = false;
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_READ, .space = (uint8_t)space,
					    .bytes = (uint8_t)n, .addr = at, .value = v });
	for (unsigned i = 0; i < rp->n_pending; i++) {
		put_effect(rp, &rp->pending[i]);
	}
	rp->n_pending = 0;
	rp->in_access = false;
	return v;
}

void record__write(struct vm_replay *rp, enum rlog_space space, uint64_t at, unsigned n, uint64_t v)
{
	struct bus *bus = space == RLOG_MMIO ? rp->vm->mmio : rp->vm->pio;

	rp->at_valid = false;
	rp->in_access = true;
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_WRITE, .space = (uint8_t)space,
					    .bytes = (uint8_t)n, .addr = at, .value = v });
	bus_write(bus, at, n, v);
	rp->in_access = false;
}

/* --- The tape --- */

void record__check(struct vm_replay *rp, struct check_chain *c, const struct engine_pos *at,
		   unsigned cpu, const uint64_t now[REGS_WORDS])
{
	struct rlog_rec rec = { .type = RLOG_CHECK, .insns = at->insns, .events = at->events };
	uint8_t data[CHECK_DATA_MAX];

	check_put(c, cpu, now, data, &rec);
	rlog_put(rp->w, &rec);
	rp->at_valid = false;
}

static void put_pages(struct vm_replay *rp)
{
	uint8_t data[RLOG_DATA_MAX];
	size_t len = mem_hash_put(&rp->memory, data, sizeof(data));

	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_PAGES, .value = rp->memory.sum,
					    .data = data, .len = len });
	rp->at_valid = false;
}

void record__memory(struct vm_replay *rp)
{
	mem_hash_update(&rp->memory, false);
	put_pages(rp);
	rp->sum.memory_checks++;
}

static int record_due(void *ctx, struct vcpu *v, const struct engine_pos *at,
		      struct engine_pos *ret_next, enum vcpu_stop *ret_stop, struct err *e)
{
	struct vm_replay *rp = ctx;
	uint64_t now[REGS_WORDS];
	int r = replay__regs(rp, v, now, e);

	if (r < 0) {
		return r;
	}
	record__check(rp, &rp->chain, at, v->id, now);
	rp->sum.checks++;
	rp->next_check += rp->machine.every;
	*ret_next = (struct engine_pos){ rp->next_check, 0 };
	if (!rp->memory.mem || at->insns - rp->memory_insns < rp->machine.memory_every) {
		return 0;
	}
	rp->memory_insns = at->insns;
	atomic_store(&rp->memory_due, v); /* vm__replay_out() calls record__memory() */
	*ret_stop = VCPU_STOP_KICKED;
	return 1;
}

static int record_slept(void *ctx, const struct engine_pos *at, uint64_t *ns, struct err *e)
{
	struct vm_replay *rp = ctx;

	(void)at, (void)e;
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_SLEPT, .value = *ns });
	rp->at_valid = false;
	return 0;
}

/* --- The start --- */

static void guard(void *ud, bool enter)
{
	struct vm_replay *rp = ud;
	struct engine *eng = rp->vm->engine;

	if (enter) {
		eng->ops->hold(eng, true);
	}
	rp->in_loop = enter;
	rp->at_valid = false;
	if (!enter) {
		eng->ops->hold(eng, false);
	}
}

void vm__replay_loosen(struct vm *vm, bool loose)
{
	struct vm_replay *rp = vm->replay;

	if (rp && !rp->replay && rp->in_loop) {
		vm->engine->ops->hold(vm->engine, !loose);
		rp->at_valid = false;
	}
}

int record__machine(struct vm_replay *rp, struct err *e)
{
	auto_(state_writer_fini) struct state_writer w = STATE_WRITER_INIT;
	auto_free void *data = NULL;
	size_t len = 0;

	state_write(&w, "/machine", &replay_machine_state, &rp->machine);
	if (state_finish(&w, &data, &len) < 0) {
		return err_nomem(e);
	}
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_MACHINE, .data = data, .len = len });
	return 0;
}

static int put_state(struct vm_replay *rp, struct err *e)
{
	auto_free void *data = NULL;
	size_t len = 0;
	int r = vm__cpus_save(rp->vm, &data, &len, e);

	for (size_t at = 0; r == 0 && at < len; at += RLOG_DATA_MAX) {
		rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_STATE, .data = (uint8_t *)data + at,
						    .len = MIN(len - at, (size_t)RLOG_DATA_MAX) });
	}
	return r;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, GMEM_PAGE_BYTES - 1) == 0;
}

static void put_memory(struct vm_replay *rp, const struct gmem_slot *s)
{
	for (uint64_t at = 0; at < s->bytes; at += GMEM_PAGE_BYTES) {
		if (!is_zero(s->host + at)) {
			rlog_put(rp->w, &(struct rlog_rec){
				.type = RLOG_MEMORY, .addr = s->first.raw + at,
				.data = s->host + at, .len = GMEM_PAGE_BYTES });
		}
	}
}

static int start(struct vm_replay *rp, struct err *e)
{
	struct vm *vm = rp->vm;
	struct engine_clock clock;
	int r = vm->engine->ops->clock_get(vm->engine, &clock, e);

	if (r < 0) {
		return r;
	}
	rp->machine = (struct replay_machine){
		.memory_bytes = gmem_bytes(&vm->mem), .n_vcpus = vm->n_cpus,
		.tsc_hz = clock.tsc_hz, .every = rp->conf.every,
		.memory_every = rp->conf.every ? rp->conf.memory_every : 0,
		.boot_wall_ns = clock.wall_ns - clock.guest_ns,
		.cpuid = replay__cpuid(vm->n_cpus, clock.tsc_hz), .layout = regs_layout(),
	};
	if (getrandom(&rp->machine.seed, sizeof(rp->machine.seed), 0) != sizeof(rp->machine.seed)) {
		return err_set(e, errno, ERR_HOST, "random numbers");
	}
	if (rp->machine.memory_every) {
		r = mem_hash_init(&rp->memory, &vm->mem, e);
		r = r < 0 ? r : vm->engine->ops->log(vm->engine, true, e);
		if (r == 0) {
			mem_hash_update(&rp->memory, true);
		}
	}
	r = r < 0 ? r : record__machine(rp, e);
	r = r < 0 ? r : put_state(rp, e);
	for (unsigned i = 0; i < vm->mem.n_slots && r == 0; i++) {
		put_memory(rp, &vm->mem.slots[i]);
	}
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_START });
	return r < 0 ? r : rlog_finish(rp->w, e);
}

int vm_record(struct vm *vm, int own_fd, const struct replay_conf *conf, struct err *e)
{
	struct vm_replay *rp = mem_new(struct vm_replay);
	int r = rp ? 0 : err_nomem(e);

	assert(vm->state == VM_PAUSED && !vm->replay && vm->conf.deterministic);
	if (r < 0) {
		fd_close(&own_fd);
		return r;
	}
	*rp = (struct vm_replay){ .vm = vm, .conf = *conf };
	r = rlog_writer_new(own_fd, &rp->w, e);
	r = r < 0 ? r : start(rp, e);
	if (r < 0) {
		ignore_result(vm__replay_free(rp)); /* NULL */
		return r;
	}
	rp->next_check = conf->every ? conf->every : UINT64_MAX;
	rp->tape = (struct engine_tape){ .ctx = rp, .seed = rp->machine.seed,
					 .boot_wall_ns = rp->machine.boot_wall_ns,
					 .due = record_due, .slept = record_slept };
	vm->engine->ops->set_tape(vm->engine, &rp->tape, &(struct engine_pos){ rp->next_check, 0 });
	vm->replay = rp;
	gmem_tap(&vm->mem, on_written, rp);
	loop_set_guard(vm->loop, guard, rp);
	return 0;
}

/*
 * To name what is not the same, in a replay that ends here. And a page that was written and is not
 * in the dirty log makes the checks worth nothing: better that it is known.
 */
static int put_last_pages(struct vm_replay *rp, struct err *e)
{
	struct engine *eng = rp->vm->engine;
	struct mem_hash *m = &rp->memory;
	struct mem_names names;
	uint8_t none[1];

	if (!m->mem) {
		return 0;
	}
	int r = eng->ops->log_sync(eng, e);

	mem_hash_update(m, false);
	put_pages(rp);
	mem_hash_update(m, true);
	if (r == 0 && m->n_changed) {
		ignore_result(mem_hash_differ(m, none, 0, &names)); /* nothing to be damaged */
		r = err_set(e, EIO, ERR_HOST, "%llu pages were written and are not in the dirty log: %s",
			    (unsigned long long)names.pages, names.text);
	}
	return r;
}

void record__ended(struct vm_replay *rp)
{
	struct engine_pos at = position(rp);
	struct err e = ERR_INIT;

	rp->sum.insns = at.insns;
	rp->sum.hash = regs_hash(rp->chain.hash, (uint64_t[]){ replay__memory_hash(rp->vm) }, 1);
	rlog_put(rp->w, &(struct rlog_rec){ .type = RLOG_END, .insns = at.insns,
					    .events = at.events, .cpu = rp->vm->end,
					    .value = rp->sum.hash });
	if (put_last_pages(rp, &e) < 0 || rlog_finish(rp->w, &e) < 0) {
		replay__fail(rp, REPLAY_FAILED, "%s", e.msg);
	} else {
		rp->sum.result = REPLAY_RECORDED;
	}
}
