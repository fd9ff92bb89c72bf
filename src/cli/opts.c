/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/opts-private.h"
#include "sys/file.h"

const char *const pull_names[] = { "missing", "always", "never", NULL };

enum { LIST_FILE_MAX = 1 << 20 };

int opts__bad(struct err *e, const char *option, const char *value, const char *want)
{
	return err_set(e, EINVAL, ERR_INVALID, "--%s: '%.200s' is not %s", option, value, want);
}

int opts__put(json_t *obj, const char *key, json_t *own_value, struct err *e)
{
	return json_put(obj, key, own_value) < 0 ? err_nomem(e) : 0;
}

/* A string that was given. */
static int put_str(json_t *obj, const char *key, const char *value, struct err *e)
{
	return value ? opts__put(obj, key, json_string(value), e) : 0;
}

static int put_true(json_t *obj, const char *key, bool value, struct err *e)
{
	return value ? opts__put(obj, key, json_true(), e) : 0;
}

static int put_number(json_t *obj, const char *key, uint64_t value, struct err *e)
{
	return value ? opts__put(obj, key, json_big(value), e) : 0;
}

static int put_list(json_t *obj, const char *key, const struct strv *v, struct err *e)
{
	json_t *list = v->n ? json_array() : NULL;

	for (size_t i = 0; i < v->n; i++) {
		if (json_array_append_new(list, json_string(v->v[i])) < 0) {
			json_decref(list);
			return err_nomem(e);
		}
	}
	return v->n ? opts__put(obj, key, list, e) : 0;
}

const char *opts__value(const char *s, size_t len, const char *name, size_t *ret_len)
{
	size_t n = strlen(name);

	if (len < n || memcmp(s, name, n) != 0) {
		return NULL;
	}
	if (len == n) {
		*ret_len = 0;
		return s + n;
	}
	if (s[n] != '=') {
		return NULL;
	}
	*ret_len = len - n - 1;
	return s + n + 1;
}

typedef int (*line_fn)(const char *line, void *ud, struct err *e);

/* Calls fn for each line that is not empty and no comment. */
static int each_line(const char *path, const char *option, line_fn fn, void *ud, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	int r = sys_read_file(AT_FDCWD, path, LIST_FILE_MAX, &text);

	if (r < 0) {
		return err_set(e, -r, ERR_INVALID, "--%s: cannot read %s: %s", option, path,
			       strerror(-r));
	}
	for (char *line = text.data; line && *line;) {
		char *end = strchrnul(line, '\n');
		bool last = *end == '\0';

		*end = '\0';
		if (*line && *line != '#') {
			r = fn(line, ud, e);
			if (r < 0) {
				return r;
			}
		}
		line = last ? NULL : end + 1;
	}
	return 0;
}

/* "KEY" without a value takes the one of this process, and is left out if there is none. */
static int add_env(const char *text, void *ud, struct err *e)
{
	json_t *list = ud;
	const char *value = strchr(text, '=') ? NULL : getenv(text);
	auto_free char *whole = value ? str_printf("%s=%s", text, value) : str_dup(text);

	if (!*text || *text == '=') {
		return opts__bad(e, "env", text, "KEY or KEY=VALUE");
	}
	if (!value && !strchr(text, '=')) {
		return 0;
	}
	if (!whole || json_array_append_new(list, json_string(whole)) < 0) {
		return err_nomem(e);
	}
	return 0;
}

int spec_env(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *list = json_array();
	int r = list ? 0 : err_nomem(e);

	for (size_t i = 0; r == 0 && i < o->env_file.n; i++) {
		r = each_line(o->env_file.v[i], "env-file", add_env, list, e);
	}
	for (size_t i = 0; r == 0 && i < o->env.n; i++) {
		r = add_env(o->env.v[i], list, e);
	}
	if (r < 0 || json_array_size(list) == 0) {
		json_decref(list);
		return r;
	}
	return opts__put(spec, "env", list, e);
}

static int add_pair(const char *text, json_t *obj, const char *option, struct err *e)
{
	const char *eq = strchr(text, '=');
	auto_free char *key = eq ? str_ndup(text, (size_t)(eq - text)) : str_dup(text);

	if (key && !*key) {
		return opts__bad(e, option, text, "KEY=VALUE");
	}
	if (!key || json_object_set_new(obj, key, json_string(eq ? eq + 1 : "")) < 0) {
		return err_nomem(e);
	}
	return 0;
}

int spec_pairs(const struct strv *list, const char *option, json_t *obj, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->n; i++) {
		r = add_pair(list->v[i], obj, option, e);
	}
	return r;
}

static int add_label(const char *text, void *ud, struct err *e)
{
	return add_pair(text, ud, "label-file", e);
}

static int put_pairs(json_t *spec, const char *key, const struct strv *list, const char *option,
		     struct err *e)
{
	json_t *obj = json_object();
	int r = obj ? spec_pairs(list, option, obj, e) : err_nomem(e);

	if (r < 0 || json_object_size(obj) == 0) {
		json_decref(obj);
		return r;
	}
	return opts__put(spec, key, obj, e);
}

static int put_labels(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *obj = json_object();
	int r = obj ? 0 : err_nomem(e);

	for (size_t i = 0; r == 0 && i < o->label_file.n; i++) {
		r = each_line(o->label_file.v[i], "label-file", add_label, obj, e);
	}
	r = r < 0 ? r : spec_pairs(&o->label, "label", obj, e);
	if (r < 0 || json_object_size(obj) == 0) {
		json_decref(obj);
		return r;
	}
	return opts__put(spec, "labels", obj, e);
}

/* "-1" and "unlimited" are -1. */
static int parse_limit(const char *text, int64_t *ret)
{
	if (str_eq(text, "unlimited")) {
		*ret = -1;
		return 0;
	}
	return parse_i64(text, -1, INT64_MAX, ret);
}

/* NAME=SOFT[:HARD] */
static int add_ulimit(const char *text, json_t *list, struct err *e)
{
	const char *eq = strchr(text, '=');
	const char *colon = eq ? strchr(eq, ':') : NULL;
	auto_free char *name = eq ? str_ndup(text, (size_t)(eq - text)) : NULL;
	auto_free char *soft = eq ? str_ndup(eq + 1, colon ? (size_t)(colon - eq - 1) :
							     strlen(eq + 1)) : NULL;
	int64_t soft_value, hard_value;

	if (!eq) {
		return opts__bad(e, "ulimit", text, "NAME=SOFT[:HARD]");
	}
	if (!name || !soft) {
		return err_nomem(e);
	}
	if (parse_limit(soft, &soft_value) < 0 ||
	    parse_limit(colon ? colon + 1 : soft, &hard_value) < 0) {
		return opts__bad(e, "ulimit", text, "NAME=SOFT[:HARD] with whole numbers, -1 or unlimited");
	}
	json_t *u = json_pack("{s:s, s:I, s:I}", "name", name, "soft", (json_int_t)soft_value, "hard",
			      (json_int_t)hard_value);

	return json_array_append_new(list, u) < 0 ? err_nomem(e) : 0;
}

static int put_ulimits(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *list = o->ulimit.n ? json_array() : NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->ulimit.n; i++) {
		r = add_ulimit(o->ulimit.v[i], list, e);
	}
	if (r < 0) {
		json_decref(list);
		return r;
	}
	return o->ulimit.n ? opts__put(spec, "ulimits", list, e) : 0;
}

int spec_restart(const char *text, json_t *spec, struct err *e)
{
	const char *colon = strchr(text, ':');
	auto_free char *policy = colon ? str_ndup(text, (size_t)(colon - text)) : str_dup(text);
	uint64_t times = 0;

	if (!policy) {
		return err_nomem(e);
	}
	if (colon && (!str_eq(policy, "on-failure") || parse_u64(colon + 1, 1000000, &times) < 0)) {
		return opts__bad(e, "restart", text, "no, on-failure[:TIMES], always or unless-stopped");
	}
	json_t *restart = json_pack("{s:s}", "policy", policy);
	int r = restart ? put_number(restart, "max_retries", times, e) : err_nomem(e);

	if (r < 0) {
		json_decref(restart);
		return r;
	}
	return opts__put(spec, "restart", restart, e);
}

static int put_cpus(const char *text, json_t *obj, struct err *e)
{
	char *end = NULL;
	double cpus = text ? strtod(text, &end) : 0;

	if (!text) {
		return 0;
	}
	if (end == text || *end || !(cpus > 0) || cpus > 1e6) {
		return opts__bad(e, "cpus", text, "a number of processors such as 1.5");
	}
	return opts__put(obj, "cpus", json_real(cpus), e);
}

static int put_pids(const char *text, json_t *obj, struct err *e)
{
	int64_t limit;

	if (!text) {
		return 0;
	}
	if (parse_limit(text, &limit) < 0) {
		return opts__bad(e, "pids-limit", text, "a whole number or -1");
	}
	return opts__put(obj, "pids_limit", json_integer(limit), e);
}

static int put_swap(const char *text, json_t *obj, struct err *e)
{
	uint64_t bytes = 0;

	if (!text) {
		return 0;
	}
	if (str_eq(text, "-1")) {
		return opts__put(obj, "memory_swap", json_integer(-1), e);
	}
	if (parse_size(text, &bytes) < 0) {
		return opts__bad(e, "memory-swap", text, "a size such as 1g, or -1");
	}
	return opts__put(obj, "memory_swap", json_big(bytes), e);
}

int spec_resources(const struct spec_opts *o, json_t **ret, struct err *e)
{
	auto_json json_t *obj = json_object();
	int r = obj ? put_cpus(o->cpus, obj, e) : err_nomem(e);

	r = r < 0 ? r : put_number(obj, "cpu_shares", o->cpu_shares, e);
	r = r < 0 ? r : put_str(obj, "cpuset_cpus", o->cpuset_cpus, e);
	r = r < 0 ? r : put_str(obj, "cpuset_mems", o->cpuset_mems, e);
	r = r < 0 ? r : put_number(obj, "memory", o->memory, e);
	r = r < 0 ? r : put_number(obj, "memory_reservation", o->memory_reservation, e);
	r = r < 0 ? r : put_swap(o->memory_swap, obj, e);
	r = r < 0 ? r : put_pids(o->pids_limit, obj, e);
	r = r < 0 ? r : put_number(obj, "io_weight", o->io_weight, e);
	if (r == 0) {
		*ret = take_ptr(&obj);
	}
	return r;
}

static int put_resources(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *obj = NULL;
	int r = spec_resources(o, &obj, e);

	if (r < 0 || json_object_size(obj) == 0) {
		json_decref(obj);
		return r;
	}
	return opts__put(spec, "resources", obj, e);
}

/* max-size=10m, max-file=3 */
static int put_log(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *log = o->log_opt.n ? json_object() : NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->log_opt.n; i++) {
		const char *size = str_after(o->log_opt.v[i], "max-size=");
		const char *files = str_after(o->log_opt.v[i], "max-file=");
		uint64_t v;

		if (size && parse_size(size, &v) == 0) {
			r = opts__put(log, "max_size", json_big(v), e);
		} else if (files && parse_u64(files, 100, &v) == 0) {
			r = opts__put(log, "max_files", json_big(v), e);
		} else {
			r = opts__bad(e, "log-opt", o->log_opt.v[i], "max-size=SIZE or max-file=N");
		}
	}
	if (r < 0) {
		json_decref(log);
		return r;
	}
	return log ? opts__put(spec, "log", log, e) : 0;
}

/* "" is an empty entrypoint: that of the image does not count. */
static int put_entrypoint(const char *text, json_t *spec, struct err *e)
{
	json_t *list = text ? json_array() : NULL;

	if (text && *text && json_array_append_new(list, json_string(text)) < 0) {
		json_decref(list);
		return err_nomem(e);
	}
	return text ? opts__put(spec, "entrypoint", list, e) : 0;
}

static int put_command(char *const *command, size_t n, json_t *spec, struct err *e)
{
	json_t *list = n ? json_array() : NULL;

	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(list, json_string(command[i])) < 0) {
			json_decref(list);
			return err_set(e, EINVAL, ERR_INVALID, "argument %zu is not valid UTF-8", i + 1);
		}
	}
	return n ? opts__put(spec, "command", list, e) : 0;
}

static int put_texts(const struct spec_opts *o, const char *image, json_t *spec, struct err *e)
{
	const struct {
		const char *key, *value;
	} texts[] = {
		{ "image", image }, { "workdir", o->workdir }, { "user", o->user },
		{ "hostname", o->hostname }, { "domainname", o->domainname },
		{ "stop_signal", o->stop_signal }, { "platform", o->platform },
		{ "network", o->network }, { "userns", o->userns }, { "isolation", o->isolation },
	};
	const struct {
		const char        *key;
		const struct strv *value;
	} lists[] = {
		{ "cap_add", &o->cap_add }, { "cap_drop", &o->cap_drop },
		{ "security_opt", &o->security_opt }, { "group_add", &o->group_add },
		{ "dns", &o->dns }, { "dns_search", &o->dns_search },
		{ "extra_hosts", &o->add_host },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++) {
		r = put_str(spec, texts[i].key, texts[i].value, e);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(lists); i++) {
		r = put_list(spec, lists[i].key, lists[i].value, e);
	}
	return r;
}

static int put_numbers(const struct spec_opts *o, json_t *spec, struct err *e)
{
	int r = put_number(spec, "shm_size", o->shm_size, e);

	if (r == 0 && o->stop_timeout != UINT64_MAX) {
		r = opts__put(spec, "stop_timeout", json_big(o->stop_timeout), e);
	}
	if (r == 0 && o->oom_score_adj != 0) {
		r = opts__put(spec, "oom_score_adj", json_integer(o->oom_score_adj), e);
	}
	return r;
}

static int put_flags(const struct spec_opts *o, json_t *spec, struct err *e)
{
	int r = put_true(spec, "tty", o->tty, e);

	r = r < 0 ? r : put_true(spec, "stdin_open", o->interactive, e);
	r = r < 0 ? r : put_true(spec, "read_only", o->read_only, e);
	r = r < 0 ? r : put_true(spec, "privileged", o->privileged, e);
	return r < 0 ? r : put_true(spec, "init", o->init > 0, e);
}

int spec_from_opts(const struct spec_opts *o, const char *image, char *const *command,
		   size_t n_command, json_t **ret, struct err *e)
{
	auto_json json_t *spec = json_object();
	int r = spec ? put_texts(o, image, spec, e) : err_nomem(e);

	r = r < 0 ? r : put_command(command, n_command, spec, e);
	r = r < 0 ? r : put_entrypoint(o->entrypoint, spec, e);
	r = r < 0 ? r : spec_env(o, spec, e);
	r = r < 0 ? r : put_labels(o, spec, e);
	r = r < 0 ? r : put_pairs(spec, "sysctls", &o->sysctl, "sysctl", e);
	r = r < 0 ? r : put_pairs(spec, "annotations", &o->annotation, "annotation", e);
	r = r < 0 ? r : opts__put_mounts(o, spec, e);
	r = r < 0 ? r : put_ulimits(o, spec, e);
	r = r < 0 ? r : put_resources(o, spec, e);
	r = r < 0 ? r : put_log(o, spec, e);
	r = r < 0 ? r : put_flags(o, spec, e);
	r = r < 0 ? r : put_numbers(o, spec, e);
	if (r == 0 && o->restart) {
		r = spec_restart(o->restart, spec, e);
	}
	if (r == 0) {
		*ret = take_ptr(&spec);
	}
	return r;
}
