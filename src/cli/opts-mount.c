/* SPDX-License-Identifier: Apache-2.0 */
/* --volume, --mount and --tmpfs. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/opts-private.h"
#include "sys/file.h"

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
		return opts__put(m, "read_only", json_true(), e);
	}
	if (is_word(s, len, "rw") || is_word(s, len, "z") || is_word(s, len, "Z")) {
		return 0;
	}
	if (is_propagation(s, len)) {
		return opts__put(m, "propagation", json_stringn(s, len), e);
	}
	return opts__bad(e, "volume", whole, "SOURCE:TARGET[:OPTIONS] with options ro, rw or a propagation");
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
		return opts__bad(e, "volume", text, "SOURCE:TARGET[:OPTIONS] with an absolute TARGET");
	}
	int r = host_path("volume", text, (size_t)(colon - text), &source, e);

	if (r < 0) {
		return r;
	}
	json_t *m = mount_new(list, "bind");
	size_t target_len = options ? (size_t)(options - target) : strlen(target);

	r = m ? opts__put(m, "source", json_string(source), e) : err_nomem(e);
	r = r < 0 ? r : opts__put(m, "target", json_stringn(target, target_len), e);
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
		return opts__bad(e, option, text, "a size such as 64m");
	}
	return opts__put(m, "size", json_big(bytes), e);
}

static int put_mode(json_t *m, const char *option, const char *s, size_t len, struct err *e)
{
	auto_free char *text = str_ndup(s, len);
	uint64_t mode;

	if (!text) {
		return err_nomem(e);
	}
	if (parse_u64_base(text, 8, 07777, &mode) < 0) {
		return opts__bad(e, option, text, "a mode such as 1777");
	}
	return opts__put(m, "mode", json_integer((json_int_t)mode), e);
}

static int add_option(json_t *m, const char *s, size_t len, struct err *e)
{
	json_t *list = json_object_get(m, "options");

	if (!list) {
		list = json_array();
		int r = opts__put(m, "options", list, e);

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
		return opts__bad(e, "tmpfs", text, "TARGET[:OPTIONS] with an absolute TARGET");
	}
	json_t *m = mount_new(list, "tmpfs");
	size_t target_len = options ? (size_t)(options - text) : strlen(text);
	int r = m ? opts__put(m, "target", json_stringn(text, target_len), e) : err_nomem(e);

	options = options ? options + 1 : NULL;
	while (r == 0 && str_split(&options, ',', &part, &len)) {
		if ((v = opts__value(part, len, "size", &v_len))) {
			r = put_size(m, "tmpfs", v, v_len, e);
		} else if ((v = opts__value(part, len, "mode", &v_len))) {
			r = put_mode(m, "tmpfs", v, v_len, e);
		} else if (is_word(part, len, "ro")) {
			r = opts__put(m, "read_only", json_true(), e);
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

	if ((v = opts__value(s, len, "type", &n))) {
		return 0; /* read before */
	}
	if ((v = opts__value(s, len, "source", &n)) || (v = opts__value(s, len, "src", &n))) {
		r = host_path("mount", v, n, &path, e);
		return r < 0 ? r : opts__put(m, "source", json_string(path), e);
	}
	if ((v = opts__value(s, len, "target", &n)) || (v = opts__value(s, len, "destination", &n)) ||
	    (v = opts__value(s, len, "dst", &n))) {
		return opts__put(m, "target", json_stringn(v, n), e);
	}
	if ((v = opts__value(s, len, "readonly", &n)) || (v = opts__value(s, len, "ro", &n))) {
		return opts__put(m, "read_only", json_boolean(truth(v, n)), e);
	}
	if ((v = opts__value(s, len, "bind-propagation", &n))) {
		return opts__put(m, "propagation", json_stringn(v, n), e);
	}
	if ((v = opts__value(s, len, "bind-nonrecursive", &n))) {
		return opts__put(m, "non_recursive", json_boolean(truth(v, n)), e);
	}
	if ((v = opts__value(s, len, "tmpfs-size", &n))) {
		return put_size(m, "mount", v, n, e);
	}
	if ((v = opts__value(s, len, "tmpfs-mode", &n))) {
		return put_mode(m, "mount", v, n, e);
	}
	return err_set(e, EINVAL, ERR_INVALID, "--mount: unknown key in '%.*s'", (int)len, s);
}

static int add_mount(const char *text, json_t *list, struct err *e)
{
	const char *cursor = text, *part, *v, *type = "";
	size_t len, n, type_len = 0;

	while (str_split(&cursor, ',', &part, &len)) {
		v = opts__value(part, len, "type", &n);
		if (v) {
			type = v;
			type_len = n;
		}
	}
	if (!is_word(type, type_len, "bind") && !is_word(type, type_len, "tmpfs")) {
		return opts__bad(e, "mount", text, "a mount with type=bind or type=tmpfs");
	}
	json_t *m = mount_new(list, type_len == 4 ? "bind" : "tmpfs");
	int r = m ? 0 : err_nomem(e);

	cursor = text;
	while (r == 0 && str_split(&cursor, ',', &part, &len)) {
		r = mount_part(part, len, m, e);
	}
	if (r == 0 && !json_object_get(m, "target")) {
		r = opts__bad(e, "mount", text, "complete: target= is missing");
	}
	return r;
}

int opts__put_mounts(const struct spec_opts *o, json_t *spec, struct err *e)
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
	return opts__put(spec, "mounts", list, e);
}
