/* SPDX-License-Identifier: Apache-2.0 */
#include "image/bootstrap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "image/cancel.h"
#include "image/helper.h"
#include "image/sources.h"
#include "sys/file.h"
#include "sys/proc.h"

static const char image_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const char *const variants[] = {
	"minbase", "apt", "essential", "required", "buildd", "important", "standard",
};

/* One run of mmdebstrap. */
struct run {
	struct progress *progress;
	pid_t            pid;       /* 0: waited for */
	int              words_fd;  /* its standard error */
	char             line[512];
	size_t           len;
	char             last[256]; /* its last complaint */
};

/* VERSION_CODENAME of this host where it is Debian, else "stable". */
static void host_suite(char *out, size_t n)
{
	auto_buf struct buf text = BUF_INIT;
	const char *s, *part;
	size_t len;
	bool debian = false;

	snprintf(out, n, "stable");
	if (sys_read_file(AT_FDCWD, "/etc/os-release", 65536, &text) < 0) {
		return;
	}
	s = buf_str(&text);
	while (str_split(&s, '\n', &part, &len)) {
		debian = debian || (len == 9 && memcmp(part, "ID=debian", 9) == 0);
	}
	s = buf_str(&text);
	while (debian && str_split(&s, '\n', &part, &len)) {
		if (len > 17 && memcmp(part, "VERSION_CODENAME=", 17) == 0) {
			snprintf(out, n, "%.*s", (int)len - 17, part + 17);
		}
	}
}

static bool package_valid(const char *s)
{
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+.-:") == strlen(s) && s[0] != '-' &&
	       s[0] != '\0';
}

static int take_suite(const struct bootstrap *b, char *suite, size_t n, bool *ret_given,
		      struct err *e)
{
	const char *rest = str_after(b->what, "debian");

	*ret_given = rest && *rest == ':';
	if (!rest || (*rest != '\0' && *rest != ':')) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED,
			       "\"%.100s\" cannot be made here: only debian or debian:SUITE",
			       b->what);
	}
	if (*ret_given) {
		snprintf(suite, n, "%s", rest + 1);
	} else {
		host_suite(suite, n);
	}
	if (!name_valid(suite) || !package_valid(suite)) {
		return err_set(e, EINVAL, ERR_INVALID, "\"%.100s\" is not the name of a suite",
			       suite);
	}
	return 0;
}

/* Go's name of an architecture as Debian's. */
static int debian_arch(const char *platform, const char **ret, struct err *e)
{
	static const struct {
		const char *go, *debian;
	} table[] = {
		{ "linux/amd64", "amd64" },     { "linux/arm64", "arm64" },
		{ "linux/386", "i386" },        { "linux/arm/v7", "armhf" },
		{ "linux/arm/v5", "armel" },    { "linux/riscv64", "riscv64" },
		{ "linux/ppc64le", "ppc64el" }, { "linux/s390x", "s390x" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (str_eq(platform, table[i].go)) {
			*ret = table[i].debian;
			return 0;
		}
	}
	return err_set(e, EINVAL, ERR_UNSUPPORTED, "Debian has no name for the platform %.60s",
		       platform);
}

static int add_include(const struct bootstrap *b, struct strv *argv, struct err *e)
{
	auto_buf struct buf list = BUF_INIT;

	for (size_t i = 0; b->include && i < b->include->n; i++) {
		const char *s = b->include->v[i], *part;
		size_t len;

		while (str_split(&s, ',', &part, &len)) {
			auto_free char *one = str_ndup(part, len);

			if (!one) {
				return err_nomem(e);
			}
			if (!package_valid(one)) {
				return err_set(e, EINVAL, ERR_INVALID,
					       "\"%.100s\" is not the name of a package", one);
			}
			buf_printf(&list, "%s%s", list.len ? "," : "--include=", one);
		}
	}
	return list.len == 0 || strv_add(argv, buf_str(&list)) == 0 ? 0 : err_nomem(e);
}

static int make_argv(const struct bootstrap *b, const char *suite, struct progress *p,
		     struct strv *argv, struct err *e)
{
	const char *variant = b->variant ? b->variant : variants[0], *arch;
	auto_strv struct strv sources = STRV_INIT;
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
		known = known || str_eq(variant, variants[i]);
	}
	if (!known) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "there is no variant \"%.60s\": minbase, apt, "
			       "essential, required, buildd, important, standard",
			       variant);
	}

	int r = debian_arch(b->platform ? b->platform : oci_platform_host(), &arch, e);

	if (r < 0) {
		return r;
	}
	if (strv_add(argv, "mmdebstrap") < 0 || strv_addf(argv, "--variant=%s", variant) < 0 ||
	    strv_addf(argv, "--architectures=%s", arch) < 0 ||
	    strv_add(argv, "--format=tar") < 0) {
		return err_nomem(e);
	}
	r = add_include(b, argv, e);
	if (r < 0) {
		return r;
	}
	if (strv_add(argv, suite) < 0 || strv_add(argv, "-") < 0) {
		return err_nomem(e);
	}
	if (b->mirror) {
		if (b->mirror[0] == '-') {
			return err_set(e, EINVAL, ERR_INVALID, "a mirror is a URL");
		}
		return strv_add(argv, b->mirror) < 0 ? err_nomem(e) : 0;
	}
	if (sources_host(suite, &sources) < 0) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < sources.n; i++) {
		if (strv_add(argv, sources.v[i]) < 0) {
			return err_nomem(e);
		}
	}
	progress_text(p, "mmdebstrap: %s, %s, from %s", suite, variant,
		      sources.n ? "this host's apt sources" : "the default mirror");
	return 0;
}

/* One line of mmdebstrap's words. */
static void take_line(struct run *run)
{
	run->line[run->len] = '\0';
	run->len = 0;
	if (str_after(run->line, "I: ")) {
		progress_text(run->progress, "mmdebstrap: %s", run->line + 3);
	} else if (str_after(run->line, "E: ") || str_after(run->line, "W: ")) {
		snprintf(run->last, sizeof(run->last), "%.250s", run->line);
		progress_text(run->progress, "mmdebstrap: %s", run->line);
	}
}

static void on_words(int *fd, void *ud)
{
	struct run *run = ud;
	char part[4096];
	ssize_t n = sys_read(*fd, part, sizeof(part));

	if (n <= 0) {
		fd_close(fd);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (part[i] == '\n' || part[i] == '\r') {
			take_line(run);
		} else if (run->len + 1 < sizeof(run->line)) {
			run->line[run->len++] = part[i];
		}
	}
}

/* All was read: has mmdebstrap ended well? */
static int check_end(void *ud, struct err *e)
{
	struct run *run = ud;

	while (run->words_fd >= 0 && !cancel_signal()) {
		on_words(&run->words_fd, run);
	}

	int status = helper_wait(run->pid);

	run->pid = 0;
	if (status == 0) {
		return 0;
	}
	return err_set(e, EIO, ERR_HOST, "mmdebstrap failed with status %d: %s", status,
		       run->last[0] ? run->last : "it says no more");
}

/* End what may still run; mmdebstrap removes its folder when it is asked to end. */
static void stop(struct run *run)
{
	if (run->pid > 0) {
		ignore_result(sys_kill(run->pid, SIGTERM)); /* ours, and not yet waited for */
		fd_close(&run->words_fd);
		ignore_result(helper_wait(run->pid)); /* it was told to end: how is no matter */
		run->pid = 0;
	}
	fd_close(&run->words_fd);
}

static uint64_t epoch_seconds(void)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	uint64_t n;

	if (text && parse_u64(text, UINT64_C(1) << 40, &n) == 0 && n > 0) {
		return n;
	}
	n = clock_wall_ns() / NS_PER_SEC;
	return n - n % 86400;
}

static int start(struct run *run, const struct strv *argv, int *ret_fd, struct err *e)
{
	auto_free char *epoch = str_printf("SOURCE_DATE_EPOCH=%llu",
					   (unsigned long long)epoch_seconds());
	const char *env[] = { epoch, NULL };
	int out[2] = { -1, -1 }, words[2] = { -1, -1 };
	int r = epoch ? sys_pipe2(out, 0) : -ENOMEM;

	r = r < 0 ? r : sys_pipe2(words, 0);
	r = r < 0 ? err_set(e, -r, ERR_HOST, "mmdebstrap") :
		    helper_start((const char *const *)argv->v, env, -1, out[1], words[1], &run->pid,
				 e);
	fd_close(&out[1]);
	fd_close(&words[1]);
	if (r < 0) {
		fd_close(&out[0]);
		fd_close(&words[0]);
		return r;
	}
	run->words_fd = words[0];
	*ret_fd = out[0];
	return 0;
}

int bootstrap_run(struct store *s, const struct bootstrap *b, struct progress *p, struct arena *a,
		  struct archive_images *ret, struct err *e)
{
	static const char *const env[] = { image_path, NULL }, *const cmd[] = { "bash", NULL };
	struct oci_image_run usual = {
		.env = { .v = (const char **)(uintptr_t)env, .n = 1 },
		.cmd = { .v = (const char **)(uintptr_t)cmd, .n = 1 },
	};
	struct run run = { .progress = p, .words_fd = -1 };
	auto_strv struct strv argv = STRV_INIT;
	auto_close int fd = -1;
	char suite[80], name[100], comment[160];
	bool given;
	int r = take_suite(b, suite, sizeof(suite), &given, e);

	r = r < 0 ? r : make_argv(b, suite, p, &argv, e);
	r = r < 0 ? r : start(&run, &argv, &fd, e);
	if (r < 0) {
		return r;
	}
	snprintf(name, sizeof(name), "debian:%s", suite);
	snprintf(comment, sizeof(comment), "mmdebstrap --variant=%s %s",
		 b->variant ? b->variant : variants[0], suite);

	struct archive_import job = {
		.fd = fd, .file = "mmdebstrap", .name = b->name ? b->name : name,
		.compress = b->compress, .run = b->run ? b->run : &usual, .platform = b->platform,
		.comment = comment, .created_ns = epoch_seconds() * NS_PER_SEC,
		.watch_fd = &run.words_fd, .on_watch = on_words, .check = check_end, .ud = &run,
	};

	r = archive_import(s, &job, p, a, ret, e);
	fd_close(&fd);
	stop(&run);
	if (r == 0 && !given && !b->name) {
		r = store_image_tag(s, ret->v[0].name, "docker.io/library/debian:latest", e);
	}
	return r;
}
