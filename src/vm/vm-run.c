/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU threads. Each runs its vCPU until it is kicked, looks whether it is to park, and
 * goes on. vm->hold parks all of them; with the debugger only those that may run go on.
 */
#include <errno.h>
#include <signal.h>

#include "base/fd.h"
#include "sys/file.h"
#include "vm/replay-priv.h"
#include "vm/vm-priv.h"

void vm__post(struct vm *vm, unsigned event)
{
	uint64_t one = 1;

	/* Partner: on_wake(), which takes all of them. */
	atomic_fetch_or_explicit(&vm->events, event, memory_order_release);
	ignore_result(sys_write(vm->wake_fd, &one, sizeof(one))); /* full: it wakes anyway */
}

void vm__ask_end(struct vm *vm, enum vm_end why)
{
	unsigned none = VM_END_NONE;

	/* The first reason counts. */
	if (atomic_compare_exchange_strong(&vm->end_asked, &none, why)) {
		vm__post(vm, VM_EVENT_END);
	}
}

/* May this vCPU run now? Under run_lock. */
static bool may_go(const struct vm_cpu *c)
{
	const struct vm *vm = c->vm;

	return !vm->hold && atomic_load(&vm->end_asked) == VM_END_NONE && c->may_run;
}

/* Park until it may run. False: the thread is to end. */
static bool wait_turn(struct vm_cpu *c)
{
	struct vm *vm = c->vm;

	pthread_mutex_lock(&vm->run_lock);
	while (!vm->quit && !may_go(c)) {
		if (!c->parked) {
			c->parked = true;
			pthread_cond_broadcast(&vm->run_changed);
		}
		pthread_cond_wait(&vm->run_changed, &vm->run_lock);
	}
	c->parked = false;
	bool go = !vm->quit;

	pthread_mutex_unlock(&vm->run_lock);
	return go;
}

static void stopped_for_debugger(struct vm_cpu *c, enum vcpu_stop stop)
{
	struct vm *vm = c->vm;

	pthread_mutex_lock(&vm->run_lock);
	c->stop = stop;
	c->stop_told = false;
	c->may_run = false;
	vm->hold = true;
	pthread_mutex_unlock(&vm->run_lock);
	vm__post(vm, VM_EVENT_DEBUG);
}

static void after_run(struct vm_cpu *c, int r, enum vcpu_stop stop)
{
	struct vm *vm = c->vm;

	if (r < 0) {
		stop = VCPU_STOP_FAILED;
	}
	switch (stop) {
	case VCPU_STOP_KICKED:
		break;
	case VCPU_STOP_SHUTDOWN:
		vm__ask_end(vm, VM_END_TRIPLE_FAULT);
		break;
	case VCPU_STOP_BREAKPOINT:
	case VCPU_STOP_STEPPED:
	case VCPU_STOP_WATCHED:
		stopped_for_debugger(c, stop);
		break;
	case VCPU_STOP_FAILED:
	case VCPU_STOP__COUNT:
		vm__ask_end(vm, VM_END_FAILED);
		break;
	}
}

static void *thread_main(void *arg)
{
	struct vm_cpu *c = arg;
	const struct engine_ops *ops = c->vm->engine->ops;

	if (c->vm->conf.vcpu_thread && c->vm->conf.vcpu_thread(&c->err) < 0) {
		after_run(c, -EPERM, VCPU_STOP_FAILED);
	}
	while (wait_turn(c)) {
		enum vcpu_stop stop = VCPU_STOP_KICKED;
		int r = ops->vcpu_run(c->v, &stop, &c->err);

		vm__replay_out(c->vm, c->v);
		after_run(c, r, stop);
	}
	return NULL;
}

static void kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		if (vm->cpus[i].has_thread) {
			vm->engine->ops->vcpu_kick(vm->cpus[i].v);
		}
	}
}

int vm__start_threads(struct vm *vm, struct err *e)
{
	sigset_t all, was;

	/* Signals are the loop's, but for those that an instruction raises: the software engine
	 * runs the guest's floating point on the host's unit, and a blocked SIGFPE ends us. */
	sigfillset(&all);
	sigdelset(&all, SIGFPE);
	pthread_sigmask(SIG_BLOCK, &all, &was);
	int r = 0;

	for (unsigned i = 0; i < vm->n_cpus && r == 0; i++) {
		r = pthread_create(&vm->cpus[i].thread, NULL, thread_main, &vm->cpus[i]);
		vm->cpus[i].has_thread = r == 0;
	}
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return r == 0 ? 0 : err_set(e, r, ERR_HOST, "cannot start a vCPU's thread");
}

static bool all_parked(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		if (vm->cpus[i].has_thread && !vm->cpus[i].parked) {
			return false;
		}
	}
	return true;
}

void vm_hold(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	vm->hold = true;
	pthread_mutex_unlock(&vm->run_lock);
	kick_all(vm);
	vm__replay_loosen(vm, true);
	pthread_mutex_lock(&vm->run_lock);
	while (!all_parked(vm)) {
		pthread_cond_wait(&vm->run_changed, &vm->run_lock);
	}
	pthread_mutex_unlock(&vm->run_lock);
	vm__replay_loosen(vm, false);
}

void vm_let_go(struct vm *vm, int only)
{
	pthread_mutex_lock(&vm->run_lock);
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		vm->cpus[i].may_run = only < 0 || (unsigned)only == i;
	}
	vm->hold = false;
	pthread_cond_broadcast(&vm->run_changed);
	pthread_mutex_unlock(&vm->run_lock);
}

void vm__end_threads(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	vm->quit = true;
	vm->hold = true;
	pthread_cond_broadcast(&vm->run_changed);
	pthread_mutex_unlock(&vm->run_lock);
	kick_all(vm);
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		if (vm->cpus[i].has_thread) {
			pthread_join(vm->cpus[i].thread, NULL);
			vm->cpus[i].has_thread = false;
		}
	}
}
