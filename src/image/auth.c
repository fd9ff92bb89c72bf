/* SPDX-License-Identifier: Apache-2.0 */
#include "image/auth.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/base64.h"
#include "image/helper.h"
#include "json/json.h"
#include "sys/file.h"

enum { AUTH_FILE_MAX = 1 << 20 };

static const char hub_host[] = "docker.io";
static const char hub_key[] = "https://index.docker.io/v1/";   /* docker's name for it */

static void wipe(char **s)
{
	if (*s) {
		explicit_bzero(*s, strlen(*s));
		free(*s);
		*s = NULL;
	}
}

void credential_fini(struct credential *c)
{
	wipe(&c->username);
	wipe(&c->password);
	wipe(&c->identity_token);
}

void auth_entry_fini(struct auth_entry *entry)
{
	credential_fini(&entry->cred);
	free(entry->helper);
	entry->helper = NULL;
}

static void wipe_buf(struct buf *b)
{
	if (b->data) {
		explicit_bzero(b->data, b->len);
	}
	buf_fini(b);
}

#define auto_secret_buf auto_(wipe_buf)

/*
 * How well a key of "auths" fits, 0 for not at all: keys are "host", "https://host/v1/",
 * or (as podman writes them) "host/part/of/path".
 */
static size_t key_fit(const char *key, const char *host, const char *path)
{
	const char *s = str_after(key, "https://");

	if (!s) {
		s = str_after(key, "http://");
	}
	bool url = s != NULL;

	s = url ? s : key;

	size_t n = strcspn(s, "/");
	bool hub = str_eq(host, hub_host) &&
		   ((n == 15 && memcmp(s, "index.docker.io", 15) == 0) ||
		    (n == 20 && memcmp(s, "registry-1.docker.io", 20) == 0));

	if (!hub && (n != strlen(host) || memcmp(s, host, n) != 0)) {
		return 0;
	}

	const char *rest = s[n] == '/' ? s + n + 1 : s + n;

	if (*rest == '\0' || str_eq(rest, "v1/") || str_eq(rest, "v2/") || str_eq(rest, "v1") ||
	    str_eq(rest, "v2")) {
		return 1;
	}
	if (url || !path) {
		return 0;
	}

	size_t m = strlen(rest);

	return strncmp(path, rest, m) == 0 && (path[m] == '\0' || path[m] == '/') ? 1 + m : 0;
}

static int decode_auth(const char *key, const char *auth, struct credential *ret, struct err *e)
{
	auto_secret_buf struct buf plain = BUF_INIT;
	int r = base64_decode(auth, strlen(auth), &plain);

	if (r == -ENOMEM) {
		return err_nomem(e);
	}

	const char *text = buf_str(&plain);
	const char *colon = strchr(text, ':');

	if (r < 0 || !colon || strlen(text) != plain.len) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "the \"auth\" of \"%.100s\" is not the base64 of user:password; "
			       "log in again", key);
	}
	ret->username = str_ndup(text, (size_t)(colon - text));
	ret->password = str_dup(colon + 1);
	return ret->username && ret->password ? 0 : err_nomem(e);
}

/* Copy the text member `name` of an object, if it is there and not empty. */
static int take_text(const json_t *obj, const char *name, char **ret, struct err *e)
{
	const char *s = json_string_value(json_object_get(obj, name));

	if (!s || *s == '\0') {
		return 0;
	}
	*ret = str_dup(s);
	return *ret ? 1 : err_nomem(e);
}

static int take_entry(const char *key, const json_t *obj, struct credential *ret, struct err *e)
{
	const char *auth = json_string_value(json_object_get(obj, "auth"));
	int r = take_text(obj, "identitytoken", &ret->identity_token, e);

	if (r < 0) {
		return r;
	}
	if (auth && *auth != '\0') {
		r = decode_auth(key, auth, ret, e);
		return r < 0 ? r : 1;
	}

	int u = take_text(obj, "username", &ret->username, e);
	int p = u < 0 ? u : take_text(obj, "password", &ret->password, e);

	return p < 0 ? p : r > 0 || (u > 0 && p > 0);
}

/* The best fitting key of an object, or NULL. */
static const char *best_key(const json_t *obj, const char *host, const char *path)
{
	const char *best = NULL, *key;
	size_t best_fit = 0;
	json_t *value;

	json_object_foreach((json_t *)obj, key, value) {
		size_t fit = key_fit(key, host, path);

		if (fit > best_fit) {
			best_fit = fit;
			best = key;
		}
	}
	return best;
}

static int take_helper(const char *name, struct auth_entry *ret, struct err *e)
{
	if (!name_valid(name)) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "\"%.100s\" cannot be the name of a credential helper", name);
	}
	ret->helper = str_dup(name);
	return ret->helper ? 1 : err_nomem(e);
}

static int parse_root(const json_t *root, const char *host, const char *path,
		      struct auth_entry *ret, struct err *e)
{
	const json_t *helpers = json_object_get(root, "credHelpers");
	const json_t *auths = json_object_get(root, "auths");
	const char *key = best_key(helpers, host, path);
	const char *name = key ? json_string_value(json_object_get(helpers, key)) : NULL;

	if (name && *name != '\0') {
		return take_helper(name, ret, e);
	}
	key = best_key(auths, host, path);
	if (key) {
		int r = take_entry(key, json_object_get(auths, key), &ret->cred, e);

		if (r != 0) {
			return r;
		}
	}
	name = json_string_value(json_object_get(root, "credsStore"));
	return name && *name != '\0' ? take_helper(name, ret, e) : 0;
}

int auth_parse(const char *text, size_t len, const char *host, const char *path,
	       struct auth_entry *ret, struct err *e)
{
	auto_json json_t *root = NULL;
	auto_auth_entry struct auth_entry out = AUTH_ENTRY_INIT;
	int r = json_parse(text, len, &json_limits_request, "credentials", &root, e);

	if (r < 0) {
		return r;
	}
	if (!json_is_object(root)) {
		return err_set(e, EINVAL, ERR_INVALID, "credentials: not a JSON object");
	}
	r = parse_root(root, host, path, &out, e);
	if (r > 0) {
		*ret = out;
		out = (struct auth_entry)AUTH_ENTRY_INIT;
	}
	return r;
}

char *auth_file_path(const char *given)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	const char *file = given ? given : getenv("REGISTRY_AUTH_FILE");

	if (file && *file != '\0') {
		return str_dup(file);
	}
	if (dir && *dir != '\0') {
		return str_printf("%s/config.json", dir);
	}
	return home && *home != '\0' ? str_printf("%s/.docker/config.json", home) : NULL;
}

/* The name under which helpers know a registry. */
static const char *server_name(const char *host)
{
	return str_eq(host, hub_host) ? hub_key : host;
}

static int ask_helper(const char *helper, const char *host, struct credential *ret, struct err *e)
{
	auto_secret_buf struct buf out = BUF_INIT;
	auto_json json_t *root = NULL;
	int r = helper_run(helper, "get", server_name(host), strlen(server_name(host)), &out, e);

	if (r == -ENOENT) {
		return 0;   /* it has none for this registry */
	}
	if (r < 0) {
		return r;
	}
	r = json_parse(buf_str(&out), out.len, &json_limits_request, "credential helper", &root, e);
	if (r < 0) {
		return r;
	}

	auto_credential struct credential c = CREDENTIAL_INIT;
	int u = take_text(root, "Username", &c.username, e);
	int p = u < 0 ? u : take_text(root, "Secret", &c.password, e);

	if (p < 0) {
		return p;
	}
	if (u == 0 || p == 0) {
		return 0;
	}
	if (str_eq(c.username, "<token>")) {
		c.identity_token = take_ptr(&c.password);
		wipe(&c.username);
	}
	*ret = c;
	c = (struct credential)CREDENTIAL_INIT;
	return 1;
}

/* The file's text; an absent file is empty and returns 0. */
static int read_file(const char *file, struct buf *ret, struct err *e)
{
	int r = sys_read_file(AT_FDCWD, file, AUTH_FILE_MAX, ret);

	if (r == -ENOENT || r == -ENOTDIR) {
		return 0;
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "credentials in %s cannot be read", file);
	}
	return ret->len > 0;
}

int auth_lookup(const char *file, const char *host, const char *path, struct credential *ret,
		struct err *e)
{
	auto_secret_buf struct buf text = BUF_INIT;
	auto_auth_entry struct auth_entry entry = AUTH_ENTRY_INIT;
	int r = read_file(file, &text, e);

	if (r <= 0) {
		return r;
	}
	r = auth_parse(buf_str(&text), text.len, host, path, &entry, e);
	if (r < 0) {
		return err_wrap(e, "%s", file);
	}
	if (r > 0 && entry.helper) {
		return ask_helper(entry.helper, host, ret, e);
	}
	if (r > 0) {
		*ret = entry.cred;
		entry.cred = (struct credential)CREDENTIAL_INIT;
	}
	return r;
}

/* The file as a JSON object; a new one if there is no file. */
static int load_root(const char *file, json_t **ret, struct err *e)
{
	auto_secret_buf struct buf text = BUF_INIT;
	int r = read_file(file, &text, e);

	if (r < 0) {
		return r;
	}
	if (r == 0) {
		*ret = json_object();
		return *ret ? 0 : err_nomem(e);
	}
	r = json_parse(buf_str(&text), text.len, &json_limits_request, file, ret, e);
	if (r == 0 && !json_is_object(*ret)) {
		json_decref(*ret);
		*ret = NULL;
		return err_set(e, EINVAL, ERR_INVALID, "%s is not a JSON object", file);
	}
	return r;
}

/* Make the folders above a file of the user's. */
static int make_parents(const char *file)
{
	char path[PATH_MAX];
	size_t n = strlen(file);

	if (n >= sizeof(path)) {
		return -ENAMETOOLONG;
	}
	memcpy(path, file, n + 1);
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';

		int r = sys_mkdirat(AT_FDCWD, path, 0700);

		*p = '/';
		if (r < 0 && r != -EEXIST) {
			return r;
		}
	}
	return 0;
}

static int save_root(const char *file, const json_t *root, struct err *e)
{
	auto_free char *text = json_text_pretty(root);

	if (!text) {
		return err_nomem(e);
	}

	int r = make_parents(file);

	if (r == 0) {
		r = sys_replace_file(AT_FDCWD, file, text, strlen(text), 0600);
	}
	explicit_bzero(text, strlen(text));
	return r < 0 ? err_set(e, -r, ERR_HOST, "credentials in %s cannot be written", file) : 0;
}

/* The helper that new credentials of a host go to, borrowed; or NULL. */
static const char *helper_for(const json_t *root, const char *host)
{
	const json_t *helpers = json_object_get(root, "credHelpers");
	const char *key = best_key(helpers, host, NULL);
	const char *name = json_string_value(key ? json_object_get(helpers, key) :
						   json_object_get(root, "credsStore"));

	return name && *name != '\0' ? name : NULL;
}

static int store_by_helper(const char *helper, const char *host, const struct credential *cred,
			   struct err *e)
{
	auto_json json_t *in = json_object();
	auto_secret_buf struct buf out = BUF_INIT;
	const char *user = cred->identity_token ? "<token>" : cred->username;
	const char *secret = cred->identity_token ? cred->identity_token : cred->password;

	if (!in || json_put(in, "ServerURL", json_string(server_name(host))) < 0 ||
	    json_put(in, "Username", json_string(user)) < 0 ||
	    json_put(in, "Secret", json_string(secret)) < 0) {
		return err_nomem(e);
	}
	auto_free char *text = json_text(in);

	if (!text) {
		return err_nomem(e);
	}

	int r = helper_run(helper, "store", text, strlen(text), &out, e);

	explicit_bzero(text, strlen(text));
	return r;
}

static int entry_of(const struct credential *cred, json_t **ret)
{
	auto_json json_t *entry = json_object();
	auto_secret_buf struct buf plain = BUF_INIT, text = BUF_INIT;

	if (!entry) {
		return -ENOMEM;
	}
	if (cred->identity_token &&
	    json_put(entry, "identitytoken", json_string(cred->identity_token)) < 0) {
		return -ENOMEM;
	}
	if (cred->username) {
		buf_printf(&plain, "%s:%s", cred->username, cred->password ? cred->password : "");
		base64_encode(plain.data, plain.len, &text);
		if (buf_failed(&plain) || buf_failed(&text) ||
		    json_put(entry, "auth", json_string(buf_str(&text))) < 0) {
			return -ENOMEM;
		}
	}
	*ret = take_ptr(&entry);
	return 0;
}

int auth_store(const char *file, const char *host, const struct credential *cred, struct err *e)
{
	auto_json json_t *root = NULL;
	int r = load_root(file, &root, e);

	if (r < 0) {
		return r;
	}

	const char *helper = helper_for(root, host);

	if (helper) {
		return name_valid(helper) ? store_by_helper(helper, host, cred, e) :
			err_set(e, EINVAL, ERR_INVALID, "%s names a malformed helper", file);
	}

	json_t *auths = json_object_get(root, "auths"), *entry = NULL;

	if (!json_is_object(auths)) {
		auths = json_object();
		if (json_put(root, "auths", auths) < 0) {
			return err_nomem(e);
		}
	}
	if (entry_of(cred, &entry) < 0 || json_put(auths, server_name(host), entry) < 0) {
		return err_nomem(e);
	}
	return save_root(file, root, e);
}

int auth_erase(const char *file, const char *host, bool *ret_found, struct err *e)
{
	auto_json json_t *root = NULL;
	int r = load_root(file, &root, e);

	if (r < 0) {
		return r;
	}
	*ret_found = false;

	const char *helper = helper_for(root, host);

	if (helper && name_valid(helper)) {
		auto_secret_buf struct buf out = BUF_INIT;

		r = helper_run(helper, "erase", server_name(host), strlen(server_name(host)),
			       &out, e);
		if (r < 0 && r != -ENOENT) {
			return r;
		}
		*ret_found = r == 0;
	}

	json_t *auths = json_object_get(root, "auths");
	const char *key = best_key(auths, host, NULL);

	if (!key) {
		return 0;
	}
	*ret_found = true;
	ignore_result(json_object_del(auths, key)); /* it is there: best_key() found it */
	return save_root(file, root, e);
}
