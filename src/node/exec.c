/* SPDX-License-Identifier: Apache-2.0 */
#include "node/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/bundle.h"
#include "node/shim.h"
#include "sys/file.h"
#include "sys/path.h"

enum { EXECS_MAX = 256 };

#define IN(m) offsetof(struct exec_in, m)
static const struct jfield exec_fields[] = {
	{ "command", JK_STRV, IN(command), .flags = JF_REQUIRED, .doc = "program and arguments" },
	{ "env", JK_STRV, IN(env), .doc = "KEY=value, added to the instance's" },
	{ "user", JK_STR, IN(user), .min = 1, .max = 256, .doc = "user[:group]; default: the instance's" },
	{ "workdir", JK_PATH, IN(workdir), .doc = "default: the instance's" },
	{ "tty", JK_BOOL, IN(tty), .doc = "give it a terminal" },
	{ "stdin_open", JK_BOOL, IN(stdin_open), .doc = "it has a standard input" },
	{ "rows", JK_UINT, IN(rows), .max = 65535, .doc = "of the terminal" },
	{ "cols", JK_UINT, IN(cols), .max = 65535, .doc = "of the terminal" },
	{ "stall_ms", JK_UINT, IN(stall_ms), .max = 86400000,
	  .doc = "its client is dropped when it takes no output for so long; default 10000" },
};
#undef IN

static int check_exec(const void *obj, struct err *e)
{
	const struct exec_in *in = obj;

	if (in->command.n == 0) {
		return err_field(e, "/command", "must not be empty");
	}
	for (size_t i = 0; i < in->env.n; i++) {
		if (!strchr(in->env.v[i], '=') || in->env.v[i][0] == '=') {
			return err_field(e, "/env", "must be KEY=value");
		}
	}
	return 0;
}

const struct jtable exec_in_table = {
	.name = "Exec", .size = sizeof(struct exec_in), .fields = exec_fields,
	.n_fields = ARRAY_LEN(exec_fields), .check = check_exec,
};

struct exec_session *exec_find(struct instance *i, const char *name)
{
	list_for_each (struct exec_session, x, &i->execs, link) {
		if (str_eq(x->name, name)) {
			return x;
		}
	}
	return NULL;
}

void exec_drop(struct instance *i, struct exec_session *x)
{
	list_del(&x->link);
	i->n_execs--;
	free(x);
}

/* Room is made by forgetting the oldest that has ended. */
static bool make_room(struct instance *i)
{
	if (i->n_execs < EXECS_MAX) {
		return true;
	}
	list_for_each (struct exec_session, x, &i->execs, link) {
		if (x->done) {
			exec_drop(i, x);
			return true;
		}
	}
	return false;
}

struct exec_session *exec_add(struct instance *i, struct err *e)
{
	struct id id;

	if (!make_room(i)) {
		ignore_result(err_set(e, EBUSY, ERR_LIMIT, "instance %s runs %d sessions already",
				      i->name, EXECS_MAX));
		return NULL; /* which says it */
	}
	struct exec_session *x = mem_new(struct exec_session);

	if (!x || id_new(&id) < 0) {
		free(x);
		ignore_result(err_nomem(e));
		return NULL;
	}
	snprintf(x->name, sizeof(x->name), "x-%.16s", id.text);
	list_add_tail(&i->execs, &x->link);
	i->n_execs++;
	return x;
}

void instance_forget_execs(struct instance *i)
{
	list_for_each_safe (struct exec_session, x, &i->execs, link) {
		exec_drop(i, x);
	}
}

/* Also of sessions that a predecessor of ours began. */
void instance_on_exec_status(struct instance *i, const struct shim_exec_status *st)
{
	struct err e = ERR_INIT;
	struct exec_session *x = st->exec ? exec_find(i, st->exec) : NULL;

	if (!x && st->exec && strlen(st->exec) < sizeof(x->name)) {
		x = exec_add(i, &e);
		if (x) {
			snprintf(x->name, sizeof(x->name), "%s", st->exec);
		}
	}
	if (!x) {
		return;
	}
	x->running = st->running;
	x->pid = st->running ? st->pid : 0;
	x->started_ns = st->started_ns;
	if (!st->running) {
		struct shim_session m = { .exec = st->exec };

		x->done = true;
		x->exit_code = st->exit_code;
		x->signal = st->signal;
		x->finished_ns = st->exited_ns;
		node_event(i->node, "instance", "exec_die", i->id, i->name, "exec", x->name, NULL);
		if (shim_request(i, SHIM_ACK, &m, NULL, NULL, &e) < 0) {
			log_err(LOG_LEVEL_WARN, &e);
		}
	}
}

/* --- In the child --- */

static int load_config(struct instance *i, struct arena *a, json_t **ret_doc,
		       struct oci_spec *ret, struct err *e)
{
	auto_free char *dir = instance_run_dir(i);
	auto_free char *path = dir ? str_printf("%s/bundle/config.json", dir) : NULL;
	auto_buf struct buf b = BUF_INIT;

	if (!path) {
		return err_nomem(e);
	}
	int r = sys_read_file(AT_FDCWD, path, json_limits_document.bytes, &b);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "%s", path);
	}
	r = json_parse(buf_str(&b), b.len, &json_limits_document, path, ret_doc, e);
	return r < 0 ? r : oci_spec_parse(*ret_doc, a, ret, e);
}

static int set_user(struct instance *i, const char *name, struct arena *a, struct oci_process *p,
		    struct err *e)
{
	static const struct jstrv none = { .v = NULL };
	struct bundle_user u;
	auto_close int root = instance_open_root(i, e);
	int r = root < 0 ? root : bundle_user(root, name, &none, a, &u, e);

	if (r < 0) {
		return r;
	}
	p->user = u.user;
	if (p->capabilities && u.user.uid != 0) {
		p->capabilities->permitted = (struct jstrv){ .v = NULL };
		p->capabilities->effective = (struct jstrv){ .v = NULL };
	} else if (p->capabilities) {
		p->capabilities->permitted = p->capabilities->bounding;
		p->capabilities->effective = p->capabilities->bounding;
	}
	char *home = arena_printf(a, "HOME=%s", u.home ? u.home : "/");

	return home && bundle_env_add(&p->env, a, home) == 0 ? 0 : err_nomem(e);
}

int exec_process(struct instance *i, const struct exec_in *in, int out_fd, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	struct oci_spec spec;
	int r = load_config(i, &a, &doc, &spec, e);

	if (r < 0) {
		return r;
	}
	struct oci_process *p = spec.process;

	p->args = in->command;
	p->terminal = in->tty;
	p->console_size = NULL;
	p->cwd = in->workdir ? in->workdir : p->cwd;
	if (in->user) {
		r = set_user(i, in->user, &a, p, e);
	}
	if (r == 0 && in->tty && bundle_env_add(&p->env, &a, "TERM=xterm") < 0) {
		r = err_nomem(e);
	}
	for (size_t k = 0; r == 0 && k < in->env.n; k++) {
		r = bundle_env_add(&p->env, &a, in->env.v[k]) < 0 ? err_nomem(e) : 0;
	}
	if (r < 0) {
		return r;
	}
	auto_json json_t *out = jtable_format(&oci_process_table, p);
	auto_free char *text = out ? json_text(out) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	r = sys_write_full(out_fd, text, strlen(text));
	return r < 0 ? err_set(e, -r, ERR_HOST, "a pipe") : 0;
}
