/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/file.h"

const char *const pull_names[] = { "missing", "always", "never", NULL };

enum { LIST_FILE_MAX = 1 << 20 };

static int bad(struct err *e, const char *option, const char *value, const char *want)
{
	return err_set(e, EINVAL, ERR_INVALID, "--%s: '%.200s' is not %s", option, value, want);
}

static int put(json_t *obj, const char *key, json_t *own_value, struct err *e)
{
	return json_put(obj, key, own_value) < 0 ? err_nomem(e) : 0;
}

/* A string that was given. */
static int put_str(json_t *obj, const char *key, const char *value, struct err *e)
{
	return value ? put(obj, key, json_string(value), e) : 0;
}

static int put_true(json_t *obj, const char *key, bool value, struct err *e)
{
	return value ? put(obj, key, json_true(), e) : 0;
}

static int put_number(json_t *obj, const char *key, uint64_t value, struct err *e)
{
	return value ? put(obj, key, json_big(value), e) : 0;
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
	return v->n ? put(obj, key, list, e) : 0;
}

/* The value of "key=value" in a text of len bytes if the key is `name`, else NULL. */
static const char *value_of(const char *s, size_t len, const char *name, size_t *ret_len)
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
		return bad(e, "env", text, "KEY or KEY=VALUE");
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
	return put(spec, "env", list, e);
}

static int add_pair(const char *text, json_t *obj, const char *option, struct err *e)
{
	const char *eq = strchr(text, '=');
	auto_free char *key = eq ? str_ndup(text, (size_t)(eq - text)) : str_dup(text);

	if (key && !*key) {
		return bad(e, option, text, "KEY=VALUE");
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
	return put(spec, key, obj, e);
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
	return put(spec, "labels", obj, e);
}

/* A source on the host, made absolute. */
static int host_path(const char *option, const char *s, size_t len, char **ret, struct err *e)
{
	auto_free char *path = str_ndup(s, len);
	char cwd[PATH_MAX];

	if (!path) {
		return err_nomem(e);
	}
	if (path[0] == '/') {
		*ret = take_ptr(&path);
		return 0;
	}
	if (path[0] != '.') {
		return err_set(e, EINVAL, ERR_INVALID,
			       "--%s: '%.100s' is no path; named volumes are not there yet: give an "
			       "absolute path, or one that begins with './'", option, path);
	}
	if (!getcwd(cwd, sizeof(cwd))) {
		return err_set(e, errno, ERR_HOST, "cannot tell the working folder");
	}
	*ret = str_printf("%s/%s", cwd, path);
	return *ret ? 0 : err_nomem(e);
}

static json_t *mount_new(json_t *list, const char *type)
{
	json_t *m = json_pack("{s:s}", "type", type);

	if (m && json_array_append_new(list, m) < 0) {
		return NULL;
	}
	return m; /* borrowed from the list */
}

static bool is_propagation(const char *s, size_t len)
{
	static const char *const names[] = { "private", "rprivate", "shared", "rshared", "slave",
					     "rslave" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0) {
			return true;
		}
	}
	return false;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(s, word, len) == 0;
}

static int volume_option(const char *s, size_t len, json_t *m, const char *whole, struct err *e)
{
	if (is_word(s, len, "ro")) {
		return put(m, "read_only", json_true(), e);
	}
	if (is_word(s, len, "rw") || is_word(s, len, "z") || is_word(s, len, "Z")) {
		return 0;
	}
	if (is_propagation(s, len)) {
		return put(m, "propagation", json_stringn(s, len), e);
	}
	return bad(e, "volume", whole, "SOURCE:TARGET[:OPTIONS] with options ro, rw or a propagation");
}

/* SOURCE:TARGET[:OPTIONS] */
static int add_volume(const char *text, json_t *list, struct err *e)
{
	const char *colon = strchr(text, ':');
	const char *target = colon ? colon + 1 : NULL;
	const char *options = target ? strchr(target, ':') : NULL, *part;
	auto_free char *source = NULL;
	size_t len;

	if (!target || colon == text || *target != '/') {
		return bad(e, "volume", text, "SOURCE:TARGET[:OPTIONS] with an absolute TARGET");
	}
	int r = host_path("volume", text, (size_t)(colon - text), &source, e);

	if (r < 0) {
		return r;
	}
	json_t *m = mount_new(list, "bind");
	size_t target_len = options ? (size_t)(options - target) : strlen(target);

	r = m ? put(m, "source", json_string(source), e) : err_nomem(e);
	r = r < 0 ? r : put(m, "target", json_stringn(target, target_len), e);
	options = options ? options + 1 : NULL;
	while (r == 0 && str_split(&options, ',', &part, &len)) {
		r = volume_option(part, len, m, text, e);
	}
	return r;
}

static int put_size(json_t *m, const char *option, const char *s, size_t len, struct err *e)
{
	auto_free char *text = str_ndup(s, len);
	uint64_t bytes;

	if (!text) {
		return err_nomem(e);
	}
	if (parse_size(text, &bytes) < 0) {
		return bad(e, option, text, "a size such as 64m");
	}
	return put(m, "size", json_big(bytes), e);
}

static int put_mode(json_t *m, const char *option, const char *s, size_t len, struct err *e)
{
	auto_free char *text = str_ndup(s, len);
	uint64_t mode;

	if (!text) {
		return err_nomem(e);
	}
	if (parse_u64_base(text, 8, 07777, &mode) < 0) {
		return bad(e, option, text, "a mode such as 1777");
	}
	return put(m, "mode", json_integer((json_int_t)mode), e);
}

static int add_option(json_t *m, const char *s, size_t len, struct err *e)
{
	json_t *list = json_object_get(m, "options");

	if (!list) {
		list = json_array();
		int r = put(m, "options", list, e);

		if (r < 0) {
			return r;
		}
	}
	return json_array_append_new(list, json_stringn(s, len)) < 0 ? err_nomem(e) : 0;
}

/* TARGET[:OPTIONS] */
static int add_tmpfs(const char *text, json_t *list, struct err *e)
{
	const char *options = strchr(text, ':'), *part, *v;
	size_t len, v_len;

	if (*text != '/') {
		return bad(e, "tmpfs", text, "TARGET[:OPTIONS] with an absolute TARGET");
	}
	json_t *m = mount_new(list, "tmpfs");
	size_t target_len = options ? (size_t)(options - text) : strlen(text);
	int r = m ? put(m, "target", json_stringn(text, target_len), e) : err_nomem(e);

	options = options ? options + 1 : NULL;
	while (r == 0 && str_split(&options, ',', &part, &len)) {
		if ((v = value_of(part, len, "size", &v_len))) {
			r = put_size(m, "tmpfs", v, v_len, e);
		} else if ((v = value_of(part, len, "mode", &v_len))) {
			r = put_mode(m, "tmpfs", v, v_len, e);
		} else if (is_word(part, len, "ro")) {
			r = put(m, "read_only", json_true(), e);
		} else if (len > 0) {
			r = add_option(m, part, len, e);
		}
	}
	return r;
}

static bool truth(const char *v, size_t len)
{
	return len == 0 || is_word(v, len, "true") || is_word(v, len, "1");
}

/* One "key=value" of --mount into the mount. */
static int mount_part(const char *s, size_t len, json_t *m, struct err *e)
{
	auto_free char *path = NULL;
	const char *v;
	size_t n;
	int r;

	if ((v = value_of(s, len, "type", &n))) {
		return 0; /* read before */
	}
	if ((v = value_of(s, len, "source", &n)) || (v = value_of(s, len, "src", &n))) {
		r = host_path("mount", v, n, &path, e);
		return r < 0 ? r : put(m, "source", json_string(path), e);
	}
	if ((v = value_of(s, len, "target", &n)) || (v = value_of(s, len, "destination", &n)) ||
	    (v = value_of(s, len, "dst", &n))) {
		return put(m, "target", json_stringn(v, n), e);
	}
	if ((v = value_of(s, len, "readonly", &n)) || (v = value_of(s, len, "ro", &n))) {
		return put(m, "read_only", json_boolean(truth(v, n)), e);
	}
	if ((v = value_of(s, len, "bind-propagation", &n))) {
		return put(m, "propagation", json_stringn(v, n), e);
	}
	if ((v = value_of(s, len, "bind-nonrecursive", &n))) {
		return put(m, "non_recursive", json_boolean(truth(v, n)), e);
	}
	if ((v = value_of(s, len, "tmpfs-size", &n))) {
		return put_size(m, "mount", v, n, e);
	}
	if ((v = value_of(s, len, "tmpfs-mode", &n))) {
		return put_mode(m, "mount", v, n, e);
	}
	return err_set(e, EINVAL, ERR_INVALID, "--mount: unknown key in '%.*s'", (int)len, s);
}

static int add_mount(const char *text, json_t *list, struct err *e)
{
	const char *cursor = text, *part, *v, *type = "";
	size_t len, n, type_len = 0;

	while (str_split(&cursor, ',', &part, &len)) {
		v = value_of(part, len, "type", &n);
		if (v) {
			type = v;
			type_len = n;
		}
	}
	if (!is_word(type, type_len, "bind") && !is_word(type, type_len, "tmpfs")) {
		return bad(e, "mount", text, "a mount with type=bind or type=tmpfs");
	}
	json_t *m = mount_new(list, type_len == 4 ? "bind" : "tmpfs");
	int r = m ? 0 : err_nomem(e);

	cursor = text;
	while (r == 0 && str_split(&cursor, ',', &part, &len)) {
		r = mount_part(part, len, m, e);
	}
	if (r == 0 && !json_object_get(m, "target")) {
		r = bad(e, "mount", text, "complete: target= is missing");
	}
	return r;
}

static int put_mounts(const struct spec_opts *o, json_t *spec, struct err *e)
{
	json_t *list = json_array();
	int r = list ? 0 : err_nomem(e);

	for (size_t i = 0; r == 0 && i < o->volume.n; i++) {
		r = add_volume(o->volume.v[i], list, e);
	}
	for (size_t i = 0; r == 0 && i < o->mount.n; i++) {
		r = add_mount(o->mount.v[i], list, e);
	}
	for (size_t i = 0; r == 0 && i < o->tmpfs.n; i++) {
		r = add_tmpfs(o->tmpfs.v[i], list, e);
	}
	if (r < 0 || json_array_size(list) == 0) {
		json_decref(list);
		return r;
	}
	return put(spec, "mounts", list, e);
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
		return bad(e, "ulimit", text, "NAME=SOFT[:HARD]");
	}
	if (!name || !soft) {
		return err_nomem(e);
	}
	if (parse_limit(soft, &soft_value) < 0 ||
	    parse_limit(colon ? colon + 1 : soft, &hard_value) < 0) {
		return bad(e, "ulimit", text, "NAME=SOFT[:HARD] with whole numbers, -1 or unlimited");
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
	return o->ulimit.n ? put(spec, "ulimits", list, e) : 0;
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
		return bad(e, "restart", text, "no, on-failure[:TIMES], always or unless-stopped");
	}
	json_t *restart = json_pack("{s:s}", "policy", policy);
	int r = restart ? put_number(restart, "max_retries", times, e) : err_nomem(e);

	if (r < 0) {
		json_decref(restart);
		return r;
	}
	return put(spec, "restart", restart, e);
}

static int put_cpus(const char *text, json_t *obj, struct err *e)
{
	char *end = NULL;
	double cpus = text ? strtod(text, &end) : 0;

	if (!text) {
		return 0;
	}
	if (end == text || *end || !(cpus > 0) || cpus > 1e6) {
		return bad(e, "cpus", text, "a number of processors such as 1.5");
	}
	return put(obj, "cpus", json_real(cpus), e);
}

static int put_pids(const char *text, json_t *obj, struct err *e)
{
	int64_t limit;

	if (!text) {
		return 0;
	}
	if (parse_limit(text, &limit) < 0) {
		return bad(e, "pids-limit", text, "a whole number or -1");
	}
	return put(obj, "pids_limit", json_integer(limit), e);
}

static int put_swap(const char *text, json_t *obj, struct err *e)
{
	uint64_t bytes = 0;

	if (!text) {
		return 0;
	}
	if (str_eq(text, "-1")) {
		return put(obj, "memory_swap", json_integer(-1), e);
	}
	if (parse_size(text, &bytes) < 0) {
		return bad(e, "memory-swap", text, "a size such as 1g, or -1");
	}
	return put(obj, "memory_swap", json_big(bytes), e);
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
	return put(spec, "resources", obj, e);
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
			r = put(log, "max_size", json_big(v), e);
		} else if (files && parse_u64(files, 100, &v) == 0) {
			r = put(log, "max_files", json_big(v), e);
		} else {
			r = bad(e, "log-opt", o->log_opt.v[i], "max-size=SIZE or max-file=N");
		}
	}
	if (r < 0) {
		json_decref(log);
		return r;
	}
	return log ? put(spec, "log", log, e) : 0;
}

/* "" is an empty entrypoint: that of the image does not count. */
static int put_entrypoint(const char *text, json_t *spec, struct err *e)
{
	json_t *list = text ? json_array() : NULL;

	if (text && *text && json_array_append_new(list, json_string(text)) < 0) {
		json_decref(list);
		return err_nomem(e);
	}
	return text ? put(spec, "entrypoint", list, e) : 0;
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
	return n ? put(spec, "command", list, e) : 0;
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
		r = put(spec, "stop_timeout", json_big(o->stop_timeout), e);
	}
	if (r == 0 && o->oom_score_adj != 0) {
		r = put(spec, "oom_score_adj", json_integer(o->oom_score_adj), e);
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
	r = r < 0 ? r : put_mounts(o, spec, e);
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
