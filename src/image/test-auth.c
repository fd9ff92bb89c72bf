/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>

#include "image/auth.h"
#include "sys/file.h"

/* dTpw is u:p, YTpi is a:b. */
static const struct {
	const char *file, *host, *path;
	int         found;
	const char *user, *password, *token, *helper;
} lookups[] = {
	{ "{\"auths\":{\"h:5000\":{\"auth\":\"dTpw\"}}}", "h:5000", "x", 1, "u", "p", NULL, NULL },
	{ "{\"auths\":{\"h:5000\":{\"auth\":\"dTpw\"}}}", "h", "x", 0, NULL, NULL, NULL, NULL },
	{ "{\"auths\":{\"https://h/v1/\":{\"auth\":\"dTpw\"}}}", "h", "x", 1, "u", "p", NULL,
	  NULL },
	{ "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"}}}", "docker.io", "x", 1,
	  "u", "p", NULL, NULL },
	{ "{\"auths\":{\"h\":{\"auth\":\"dTpw\"},\"h/a\":{\"auth\":\"YTpi\"}}}", "h", "a/c", 1, "a",
	  "b", NULL, NULL },
	{ "{\"auths\":{\"h\":{\"auth\":\"dTpw\"},\"h/a\":{\"auth\":\"YTpi\"}}}", "h", "ab/c", 1,
	  "u", "p", NULL, NULL },
	{ "{\"auths\":{\"h\":{\"identitytoken\":\"T\"}}}", "h", "x", 1, NULL, NULL, "T", NULL },
	{ "{\"auths\":{\"h\":{\"username\":\"a\",\"password\":\"b\"}}}", "h", "x", 1, "a", "b",
	  NULL, NULL },
	{ "{\"auths\":{\"h\":{}},\"credsStore\":\"pass\"}", "h", "x", 1, NULL, NULL, NULL, "pass" },
	{ "{\"auths\":{\"h\":{\"auth\":\"dTpw\"}},\"credHelpers\":{\"h\":\"g\"}}", "h", "x", 1,
	  NULL, NULL, NULL, "g" },
	{ "{\"credHelpers\":{\"other\":\"g\"}}", "h", "x", 0, NULL, NULL, NULL, NULL },
	{ "{}", "h", "x", 0, NULL, NULL, NULL, NULL },
	{ "{\"auths\":[]}", "h", "x", 0, NULL, NULL, NULL, NULL },
	{ "[]", "h", "x", -1, NULL, NULL, NULL, NULL },
	{ "{\"auths\":{\"h\":{\"auth\":\"***\"}}}", "h", "x", -1, NULL, NULL, NULL, NULL },
	{ "{\"auths\":{\"h\":{\"auth\":\"dXA=\"}}}", "h", "x", -1, NULL, NULL, NULL, NULL },
	{ "{\"credsStore\":\"../../bin/sh\"}", "h", "x", -1, NULL, NULL, NULL, NULL },
};

static void same(const char *a, const char *b)
{
	if (!str_eq0(a, b)) {
		fail_msg("\"%s\" is not \"%s\"", a ? a : "NULL", b ? b : "NULL");
	}
}

static void looks_up(unused_arg void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(lookups); i++) {
		auto_auth_entry struct auth_entry entry = AUTH_ENTRY_INIT;
		struct err e = ERR_INIT;
		int r = auth_parse(lookups[i].file, strlen(lookups[i].file), lookups[i].host,
				   lookups[i].path, &entry, &e);

		if ((r < 0 ? -1 : r) != lookups[i].found) {
			fail_msg("%s: %d %s", lookups[i].file, r, e.msg);
		}
		same(entry.cred.username, lookups[i].user);
		same(entry.cred.password, lookups[i].password);
		same(entry.cred.identity_token, lookups[i].token);
		same(entry.helper, lookups[i].helper);
	}
}

struct dir {
	char path[64], file[128];
};

static void dir_make(struct dir *d)
{
	snprintf(d->path, sizeof(d->path), "/tmp/holm-auth-XXXXXX");
	assert_non_null(mkdtemp(d->path));
	snprintf(d->file, sizeof(d->file), "%s/.docker/config.json", d->path);
}

static void dir_remove(struct dir *d)
{
	assert_int_equal(sys_remove_tree(AT_FDCWD, d->path), 0);
}

static void stores(unused_arg void **state)
{
	auto_credential struct credential c = CREDENTIAL_INIT;
	struct credential put = { .username = (char *)"me", .password = (char *)"a:b c" };
	auto_buf struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	struct dir d;
	struct stat st;
	bool found = true;

	dir_make(&d);
	assert_int_equal(auth_lookup(d.file, "h:1", "x", &c, &e), 0);
	assert_int_equal(auth_store(d.file, "h:1", &put, &e), 0);
	assert_int_equal(auth_store(d.file, "docker.io", &put, &e), 0);
	assert_int_equal(sys_fstatat(AT_FDCWD, d.file, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(auth_lookup(d.file, "h:1", "x", &c, &e), 1);
	same(c.username, "me");
	same(c.password, "a:b c");
	assert_int_equal(sys_read_file(AT_FDCWD, d.file, 4096, &text), 0);
	assert_non_null(strstr(buf_str(&text), "\"https://index.docker.io/v1/\""));
	assert_int_equal(auth_erase(d.file, "h:1", &found, &e), 0);
	assert_true(found);
	assert_int_equal(auth_erase(d.file, "h:1", &found, &e), 0);
	assert_false(found);
	credential_fini(&c);
	assert_int_equal(auth_lookup(d.file, "h:1", "x", &c, &e), 0);
	assert_int_equal(auth_lookup(d.file, "docker.io", "x", &c, &e), 1);
	dir_remove(&d);
}

/* What is not ours in the file stays. */
static void keeps_the_rest(unused_arg void **state)
{
	static const char before[] = "{\"auths\":{\"o\":{\"auth\":\"dTpw\"}},\"psFormat\":\"x\"}";
	struct credential put = { .username = (char *)"u", .password = (char *)"p" };
	auto_buf struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	struct dir d;

	dir_make(&d);
	snprintf(d.file, sizeof(d.file), "%s/c.json", d.path);
	assert_int_equal(sys_replace_file(AT_FDCWD, d.file, before, strlen(before), 0644), 0);
	assert_int_equal(auth_store(d.file, "h", &put, &e), 0);
	assert_int_equal(sys_read_file(AT_FDCWD, d.file, 4096, &text), 0);
	assert_non_null(strstr(buf_str(&text), "psFormat"));
	assert_non_null(strstr(buf_str(&text), "\"o\""));
	dir_remove(&d);
}

/* A helper gets a short environment and is believed only where its status is 0. */
static void asks_helpers(unused_arg void **state)
{
	static const char helper[] =
		"#!/bin/sh\nread s\n"
		"[ -z \"$HOLM_TEST_SECRET\" ] || { echo leaked; exit 3; }\n"
		"[ $1 = store ] && { echo \"$s\" > \"$HOME/stored\"; exit 0; }\n"
		"case $s in\n"
		"none*) echo 'credentials not found in native keychain'; exit 1;;\n"
		"bad*) echo broken; exit 1;;\n"
		"esac\n"
		"echo '{\"Username\":\"hu\",\"Secret\":\"hp\"}'\n";
	static const char config[] = "{\"credsStore\":\"holmtest\"}";
	auto_credential struct credential c = CREDENTIAL_INIT;
	struct credential put = { .username = (char *)"u", .password = (char *)"p" };
	struct err e = ERR_INIT;
	struct dir d;
	char path[256];

	dir_make(&d);
	snprintf(path, sizeof(path), "%s/docker-credential-holmtest", d.path);
	assert_int_equal(sys_replace_file(AT_FDCWD, path, helper, strlen(helper), 0755), 0);
	snprintf(path, sizeof(path), "%s:%s", d.path, "/usr/bin:/bin");
	setenv("PATH", path, 1);
	setenv("HOME", d.path, 1);
	setenv("HOLM_TEST_SECRET", "1", 1);
	snprintf(d.file, sizeof(d.file), "%s/c.json", d.path);
	assert_int_equal(sys_replace_file(AT_FDCWD, d.file, config, strlen(config), 0644), 0);

	if (auth_lookup(d.file, "h", "x", &c, &e) != 1) {
		fail_msg("%s", e.msg);
	}
	same(c.username, "hu");
	same(c.password, "hp");
	credential_fini(&c);
	assert_int_equal(auth_lookup(d.file, "none", "x", &c, &e), 0);
	assert_true(auth_lookup(d.file, "bad", "x", &c, &e) < 0);
	assert_non_null(strstr(e.msg, "broken"));
	assert_int_equal(auth_store(d.file, "h", &put, &e), 0);
	snprintf(path, sizeof(path), "%s/stored", d.path);

	auto_buf struct buf stored = BUF_INIT;

	assert_int_equal(sys_read_file(AT_FDCWD, path, 4096, &stored), 0);
	same(buf_str(&stored), "{\"ServerURL\":\"h\",\"Username\":\"u\",\"Secret\":\"p\"}\n");
	dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looks_up), cmocka_unit_test(stores),
		cmocka_unit_test(keeps_the_rest), cmocka_unit_test(asks_helpers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
