/* SPDX-License-Identifier: Apache-2.0 */
#include "node/life.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/pasta.h"
#include "node/signals.h"
#include "sys/file.h"
#include "sys/proc.h"

enum {
	VM_START_MS = 620000,      /* a machine boots slowly on a host that has much to do */
	STOP_TIMEOUT_S   = 10,
	BACKOFF_FIRST_MS = 100,
	BACKOFF_LAST_S   = 60,
	BACKOFF_RESET_S  = 10,    /* a life as long as this begins the backoff anew */
	EXIT_UNKNOWN     = 255,
};

int life_stop_signal(const struct instance *i)
{
	int signo = i->spec.stop_signal ? signo_parse(i->spec.stop_signal) : -EINVAL;

	return signo > 0 ? signo : SIGTERM;
}

uint64_t life_stop_timeout_ns(const struct instance *i)
{
	return (i->spec.has_stop_timeout ? i->spec.stop_timeout : STOP_TIMEOUT_S) * NS_PER_SEC;
}

/* --- The end --- */

void life_record_exit(struct instance *i, uint64_t code, uint64_t signo, bool oom,
		      uint64_t finished_ns, const char *error)
{
	char text[16];

	i->status.has_exit = true;
	i->status.exit_code = code;
	i->status.signal = signo;
	i->status.oom = oom;
	i->status.finished = finished_ns ? finished_ns : loop_wall_ns(i->node->loop);
	i->status.pid = 0;
	i->stop_asked = false;
	loop_timer_stop(i->timer);
	ignore_result(instance_set_str(&i->error, &i->status.error, error));
	/* without memory the reason is missing, the end is not */
	instance_set_state(i, INSTANCE_EXITED);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)code);
	node_event(i->node, "instance", "die", i->id, i->name, "exit_code", text, NULL);
}

static void start_failed(struct instance *i, uint64_t exit_code, const struct err *e)
{
	char text[sizeof(e->msg) + sizeof(e->field) + 64];

	free(i->start_err);
	i->start_err = mem_new(struct err);
	if (i->start_err) {
		*i->start_err = *e;
	}
	i->start_failed = true;
	i->status.started = 0;
	life_record_exit(i, exit_code, 0, false, 0, err_text(e, text, sizeof(text)));
}

/* What comes after an end, once nothing of the old life is left. */
static void settle(struct instance *i)
{
	if (i->shim || i->cleanup || instance_active(i)) {
		return;
	}
	if (i->removing || (i->spec.auto_remove && !i->start_asked &&
			    i->status.state == INSTANCE_EXITED)) {
		instance_delete(i);
		return;
	}
	if (i->start_asked) {
		struct err e = ERR_INIT;

		i->start_asked = false;
		ignore_result(life_start(i, &e));
		/* it is recorded, and told to who waits */
		return;
	}
	if (i->status.state == INSTANCE_EXITED) {
		life_apply_policy(i);
	}
}

/* From the loop, so that who called is not surprised by what follows. */
static void settle_soon(struct instance *i)
{
	loop_timer_start(i->timer, 0);
}

static bool policy_says_again(const struct instance *i)
{
	const struct instance_restart *r = &i->spec.restart;

	switch (r->policy) {
	case RESTART_ALWAYS:
	case RESTART_UNLESS_STOPPED:
		return !i->status.stopped;
	case RESTART_ON_FAILURE:
		return !i->status.stopped && i->status.exit_code != 0 &&
		       (r->max_retries == 0 || i->status.restarts < r->max_retries);
	default:
		return false;
	}
}

void life_apply_policy(struct instance *i)
{
	uint64_t now = loop_now_ns(i->node->loop);

	if (!policy_says_again(i)) {
		return;
	}
	if (i->backoff_ns == 0 || (i->run_started_ns &&
				   now - i->run_started_ns > BACKOFF_RESET_S * NS_PER_SEC)) {
		i->backoff_ns = BACKOFF_FIRST_MS * NS_PER_MS;
	}
	instance_set_state(i, INSTANCE_RESTARTING);
	loop_timer_start(i->timer, i->backoff_ns);
	i->backoff_ns = MIN(i->backoff_ns * 2, BACKOFF_LAST_S * NS_PER_SEC);
}

void life_after_boot(struct instance *i)
{
	int policy = i->spec.restart.policy;
	bool ran = instance_active(i) || i->status.state == INSTANCE_RESTARTING;

	if (instance_active(i)) {
		life_record_exit(i, EXIT_UNKNOWN, 0, false, 0, "the host was restarted under it");
	}
	bool again = policy == RESTART_ALWAYS ||
		     (policy == RESTART_UNLESS_STOPPED && !i->status.stopped) ||
		     (policy == RESTART_ON_FAILURE && ran);

	if (again && i->status.has_exit) {
		i->backoff_ns = BACKOFF_FIRST_MS * NS_PER_MS;
		if (i->status.state != INSTANCE_RESTARTING) {
			instance_set_state(i, INSTANCE_RESTARTING);
		}
		loop_timer_start(i->timer, 0);
	} else if (i->status.state == INSTANCE_RESTARTING) {
		instance_set_state(i, INSTANCE_EXITED);
	} else {
		settle_soon(i);
	}
}

/* --- The shim --- */

static void on_running(struct instance *i, const struct shim_status *st)
{
	bool first = i->status.state == INSTANCE_STARTING;

	i->status.pid = st->pid;
	i->status.started = st->started_ns;
	if (i->status.state != INSTANCE_RUNNING) {
		instance_set_state(i, INSTANCE_RUNNING);
		node_event(i->node, "instance", first ? "start" : "resume", i->id, i->name, NULL);
	}
	if (i->stop_asked && first) {
		struct err e = ERR_INIT;

		if (life_stop(i, i->stop_signo, i->stop_timeout_ns, &e) < 0) {
			log_err(LOG_LEVEL_WARN, &e);
		}
	}
}

static void on_ended(struct instance *i, const struct shim_status *st)
{
	char lost[64] = "";

	i->status.log_lost = st->log_lost_records;
	if (st->log_lost_records) {
		snprintf(lost, sizeof(lost), "%llu log records were lost",
			 (unsigned long long)st->log_lost_records);
	}
	if (st->started_ns) {
		i->status.started = st->started_ns;
	}
	life_record_exit(i, st->exit_code, st->signal, st->oom, st->exited_ns, lost);
}

static int send_start(struct instance *i, struct err *e);

/* The shim of a daemon that died before it could say "start"; or that nobody will start. */
static void on_idle(struct instance *i, const struct shim_status *st)
{
	struct shim_shutdown m = { .kill = true };
	struct err e = ERR_INIT;

	if (i->status.state == INSTANCE_STARTING && !i->start_sent) {
		if (send_start(i, &e) < 0) {
			start_failed(i, 125, &e);
			shim_kill(i);
		}
	} else if (i->shim_adopted && !instance_active(i) && st->attached == 0 &&
		   shim_request(i, SHIM_SHUTDOWN, &m, NULL, NULL, &e) < 0) {
		log_err(LOG_LEVEL_WARN, &e);
	}
}

/* Told by the reply to the start, too; but who asked may have been a predecessor. */
static void on_failed(struct instance *i, const struct shim_status *st)
{
	struct err e = ERR_INIT;

	shim_status_err(st, &e);
	start_failed(i, shim_exit_code(st->reason, st->exit_code), &e);
}

static int end_broken(struct instance *i, struct err *e)
{
	struct shim_shutdown m = { .kill = true };

	return shim_request(i, SHIM_SHUTDOWN, &m, NULL, NULL, e);
}

/* It is watched and not judged; who mends the record finds all as it was. */
static void on_broken_status(struct instance *i, const struct shim_status *st)
{
	struct err e = ERR_INIT;

	i->status.pid = st->pid;
	if (i->removing && end_broken(i, &e) < 0) {
		log_err(LOG_LEVEL_WARN, &e);
	}
}

void life_on_status(struct instance *i, const struct shim_status *st)
{
	enum instance_state state = (enum instance_state)i->status.state;

	if (state == INSTANCE_BROKEN) {
		on_broken_status(i, st);
		return;
	}
	switch ((enum shim_state)st->state) {
	case SHIM_IDLE:
		on_idle(i, st);
		break;
	case SHIM_CREATING:
		break;
	case SHIM_RUNNING:
		if (instance_active(i)) {
			on_running(i, st);
		}
		break;
	case SHIM_PAUSED:
		i->status.pid = st->pid;
		if (state == INSTANCE_RUNNING || state == INSTANCE_STARTING) {
			instance_set_state(i, INSTANCE_PAUSED);
			node_event(i->node, "instance", "pause", i->id, i->name, NULL);
		}
		break;
	case SHIM_EXITED:
	case SHIM_GONE:
		if (instance_active(i)) {
			on_ended(i, st);
		}
		if (st->state == SHIM_GONE) {
			shim_ack(i);
		}
		break;
	case SHIM_FAILED:
		if (instance_active(i)) {
			on_failed(i, st);
		}
		shim_ack(i);
		break;
	case SHIM_STATE__COUNT:
		break;
	}
}

static void on_cleaned(struct loop_child *c, const struct loop_exit *x, void *ud)
{
	struct instance *i = ud;

	(void)c;
	if (loop_exit_status(x) != 0) {
		log_warn("what a dead shim left could not all be removed", "instance", i->id);
	}
	i->cleanup = loop_child_free(i->cleanup);
	settle(i);
}

/* The network helper that a dead shim can no longer end; if the number is still its. */
static void end_helper(struct instance *i)
{
	auto_free char *dir = instance_run_dir(i);
	auto_free char *path = dir ? str_printf("%s/net.pid", dir) : NULL;
	auto_buf struct buf pid = BUF_INIT;
	auto_buf struct buf comm = BUF_INIT;
	char proc[48];
	uint64_t n = 0;

	if (!path || sys_read_file(AT_FDCWD, path, 32, &pid) < 0 || pid.len == 0) {
		return;
	}
	pid.data[strcspn(pid.data, "\n")] = '\0';
	snprintf(proc, sizeof(proc), "/proc/%s/comm", buf_str(&pid));
	if (parse_u64(buf_str(&pid), INT32_MAX, &n) < 0 || n < 2 ||
	    sys_read_file(AT_FDCWD, proc, 32, &comm) < 0) {
		return;
	}
	if (str_after(buf_str(&comm), "pasta") || str_after(buf_str(&comm), "passt")) {
		ignore_result(sys_kill((pid_t)n, SIGKILL)); /* it ended meanwhile */
	}
}

/* A shim died: its container, if it still runs, has nobody who watches it. */
static void clean_up(struct instance *i)
{
	const struct node_conf *c = &i->node->conf;
	auto_strv struct strv args = STRV_INIT;
	auto_free char *root = instance_runtime_root(i);
	struct err e = ERR_INIT;
	int r = root ? strv_add(&args, instance_runtime(i)) : -ENOMEM;

	r = r ? r : strv_addf(&args, "--root=%s", root);
	r = r || !c->systemd_cgroup ? r : strv_add(&args, "--systemd-cgroup");
	r = r ? r : strv_add(&args, "delete");
	r = r ? r : strv_add(&args, "--force");
	r = r ? r : strv_add(&args, i->id);
	if (r < 0) {
		log_warn("memory is out", "instance", i->id);
		return;
	}
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct loop_spawn spec = { .argv = args.v, .envp = env };

	if (loop_spawn(i->node->loop, &spec, on_cleaned, i, &i->cleanup, &e) < 0) {
		log_err(LOG_LEVEL_WARN, &e);
	}
}

/* The true status, if the shim could still write it down. */
static bool exit_from_record(struct instance *i)
{
	auto_arena struct arena a = ARENA_INIT;
	struct shim_exit_record rec;
	struct err e = ERR_INIT;

	if (shim_read_exit(i, &a, &rec, &e) < 0) {
		return false;
	}
	i->status.log_lost = rec.log_lost_records;
	if (rec.started_ns) {
		i->status.started = rec.started_ns;
	}
	life_record_exit(i, rec.exit_code, rec.signal, rec.oom, rec.exited_ns, rec.error);
	return true;
}

/* Nothing of a life that ended in order is needed any more. */
static void drop_run_dir(struct instance *i)
{
	auto_free char *dir = instance_run_dir(i);

	if (!dir || sys_remove_tree(AT_FDCWD, dir) < 0) {
		log_debug("a run-time folder is left", "instance", i->id);
	}
}

void life_on_shim_end(struct instance *i, const struct err *why)
{
	bool broken = i->status.state == INSTANCE_BROKEN;
	bool died = instance_active(i);
	bool started = i->status.state != INSTANCE_STARTING;

	i->status.shim_pid = 0;
	i->start_sent = i->shim_adopted = false;
	instance_forget_execs(i);
	if (died && !exit_from_record(i)) {
		if (!started && why) {
			start_failed(i, 125, why);
		} else {
			life_record_exit(i, EXIT_UNKNOWN, 0, false, 0,
					 "its shim died; what still ran was killed");
		}
	}
	if (died || broken) {
		end_helper(i);
		clean_up(i);
	} else {
		drop_run_dir(i);
	}
	settle(i);
}

/* --- Start --- */

static void on_started(struct instance *i, const struct shim_reply *r, const struct err *e,
		       void *ud)
{
	struct err why = ERR_INIT;

	(void)ud;
	if (e || i->status.state != INSTANCE_STARTING) {
		return; /* life_on_shim_end() or a status says the rest */
	}
	const struct shim_status *st = i->shim ? shim_status(i->shim) : NULL;

	if (r->errnum && r->code == ERR_CONFLICT && st && st->state != SHIM_IDLE) {
		return; /* our predecessor's order came through after all */
	}
	if (shim_reply_err(r, &why) < 0) {
		start_failed(i, shim_exit_code(r->reason, r->exit_code), &why);
	}
}

int life_ensure_shim(struct instance *i, struct err *e)
{
	if (i->shim && instance_active(i)) {
		return 0;
	}
	if (i->shim) {
		const struct shim_status *st = shim_status(i->shim);

		return !st || st->state == SHIM_IDLE ? 0 :
		       err_set(e, EBUSY, ERR_CONFLICT, "instance %s is just ending: try again",
			       i->name);
	}
	return shim_spawn(i, e);
}

static int send_start(struct instance *i, struct err *e)
{
	struct shim_start m = { .rows = i->rows, .cols = i->cols, .network = STRV_INIT };
	int r = 0;

	if (i->spec.isolation == ISOLATION_VM) {
		m.timeout_ms = VM_START_MS;
	} else if (i->spec.network == NETWORK_USER) {
		r = pasta_helper_args(&m.network, i->node->conf.net, i->node->conf.pasta);
	}
	r = r < 0 ? err_nomem(e) : shim_request(i, SHIM_START, &m, on_started, NULL, e);
	i->start_sent = r == 0;
	strv_fini(&m.network);
	return r;
}

static bool leaving(const struct instance *i)
{
	const struct shim_status *st = i->shim ? shim_status(i->shim) : NULL;

	return i->cleanup || (st && st->state != SHIM_IDLE);
}

int life_start(struct instance *i, struct err *e)
{
	if (i->removing) {
		return err_set(e, EBUSY, ERR_CONFLICT, "instance %s is being removed", i->name);
	}
	if (instance_active(i)) {
		return err_set(e, EALREADY, ERR_CONFLICT, "instance %s is %s already", i->name,
			       instance_state_names[i->status.state]);
	}
	if (leaving(i)) {
		i->start_asked = true;
		return 0;
	}
	loop_timer_stop(i->timer);
	i->start_failed = false;
	i->stop_asked = false;
	i->status.stopped = false;
	i->status.started = i->status.finished = 0;
	i->status.has_exit = false;
	i->run_started_ns = loop_now_ns(i->node->loop);
	int r = instance_set_str(&i->boot_id, &i->status.boot_id, i->node->boot_id);

	ignore_result(instance_set_str(&i->error, &i->status.error, NULL)); /* cannot fail */
	r = r < 0 ? err_nomem(e) : life_ensure_shim(i, e);
	instance_set_state(i, INSTANCE_STARTING);
	r = r < 0 ? r : send_start(i, e);
	if (r < 0) {
		start_failed(i, 125, e);
		shim_kill(i);
		settle_soon(i);
	}
	return r;
}

/* --- Stop --- */

static void on_resumed(struct instance *i, const struct shim_reply *r, const struct err *e,
		       void *ud)
{
	(void)r;
	(void)e;
	(void)ud;
	/* a frozen process gets its signal when it is thawed; if that fails, KILL comes */
	(void)i;
}

int life_stop(struct instance *i, int signo, uint64_t timeout_ns, struct err *e)
{
	struct shim_signal m = { .signal = (uint32_t)signo };

	i->status.stopped = true;
	i->start_asked = false;
	if (i->status.state == INSTANCE_RESTARTING) {
		loop_timer_stop(i->timer);
		instance_set_state(i, INSTANCE_EXITED);
		return 0;
	}
	if (!instance_active(i)) {
		return err_set(e, EALREADY, ERR_CONFLICT, "instance %s does not run", i->name);
	}
	i->stop_asked = true;
	i->stop_signo = signo;
	i->stop_timeout_ns = timeout_ns;
	if (i->status.state == INSTANCE_STARTING) {
		return 0; /* on_running() comes back here */
	}
	int r = 0;

	if (i->status.state == INSTANCE_PAUSED && signo != SIGKILL) {
		struct shim_empty none = { 0 };

		r = shim_request(i, SHIM_RESUME, &none, on_resumed, NULL, e);
	}
	r = r < 0 ? r : shim_request(i, SHIM_SIGNAL, &m, NULL, NULL, e);
	if (r == 0 && signo != SIGKILL) {
		loop_timer_start(i->timer, timeout_ns);
	}
	return r;
}

int life_restart(struct instance *i, int signo, uint64_t timeout_ns, struct err *e)
{
	if (!instance_active(i)) {
		if (i->status.state == INSTANCE_RESTARTING) {
			loop_timer_stop(i->timer);
			instance_set_state(i, INSTANCE_EXITED);
		}
		return life_start(i, e);
	}
	int r = life_stop(i, signo, timeout_ns, e);

	if (r == 0) {
		i->status.stopped = false;
		i->start_asked = true;
	}
	return r;
}

void life_on_timer(struct instance *i)
{
	struct err e = ERR_INIT;

	if (i->status.state == INSTANCE_RESTARTING) {
		uint64_t n = i->status.restarts + 1;

		i->status.restarts = n;
		ignore_result(life_start(i, &e)); /* it is recorded */
	} else if (instance_active(i)) {
		struct shim_signal m = { .signal = SIGKILL };

		if (i->stop_asked && shim_request(i, SHIM_SIGNAL, &m, NULL, NULL, &e) < 0) {
			shim_kill(i);
		}
	} else {
		settle(i);
	}
}

static int remove_broken(struct instance *i, bool force, struct err *e)
{
	const struct shim_status *st = i->shim ? shim_status(i->shim) : NULL;

	if (i->shim && !force &&
	    (!st || st->state == SHIM_CREATING || st->state == SHIM_RUNNING ||
	     st->state == SHIM_PAUSED)) {
		return err_set(e, EBUSY, ERR_CONFLICT, "instance %s is broken and still runs: "
			       "remove it by force", i->name);
	}
	i->removing = true;
	if (i->shim) {
		return end_broken(i, e);
	}
	settle(i);
	return 0;
}

static int end_idle_shim(struct instance *i, struct err *e)
{
	struct shim_shutdown m = { .kill = true };

	return leaving(i) ? 0 : shim_request(i, SHIM_SHUTDOWN, &m, NULL, NULL, e);
}

int life_remove(struct instance *i, bool force, struct err *e)
{
	struct shim_signal m = { .signal = SIGKILL };
	int r = 0;

	if (instance_active(i) && !force) {
		return err_set(e, EBUSY, ERR_CONFLICT,
			       "instance %s is %s: stop it first, or remove it by force", i->name,
			       instance_state_names[i->status.state]);
	}
	if (i->status.state == INSTANCE_BROKEN) {
		return remove_broken(i, force, e);
	}
	i->removing = true;
	i->start_asked = false;
	if (i->status.state == INSTANCE_RESTARTING) {
		loop_timer_stop(i->timer);
		instance_set_state(i, INSTANCE_EXITED);
	}
	if (i->status.state == INSTANCE_STARTING) {
		return life_stop(i, SIGKILL, 0, e);
	}
	if (instance_active(i)) {
		i->status.stopped = true;
		r = shim_request(i, SHIM_SIGNAL, &m, NULL, NULL, e);
	} else if (i->shim) {
		r = end_idle_shim(i, e);
	} else {
		settle(i);
	}
	return r;
}
