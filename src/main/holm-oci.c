/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-oci: an OCI runtime with runc's command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/self.h"
#include "main/oci.h"
#include "sys/file.h"
#include "sys/proc.h"

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const rootless_choices[] = { "auto", "true", "false", NULL };

#define IN(m) offsetof(struct oci_opts, m)
static const struct cmd_opt opts[] = {
	{ .name = "debug", .kind = CMD_FLAG, .off = IN(debug), .help = "log more" },
	{ .name = "log", .kind = CMD_STR, .off = IN(log), .arg = "FILE",
	  .complete = CMD_COMPLETE_FILE, .help = "write the log to this file" },
	{ .name = "log-format", .kind = CMD_CHOICE, .off = IN(log_format), .arg = "FORMAT",
	  .choices = log_formats, .dflt = "text", .help = "text or json" },
	{ .name = "root", .kind = CMD_STR, .off = IN(root), .arg = "DIR",
	  .complete = CMD_COMPLETE_DIR,
	  .help = "folder of the containers' state, on a tmpfs (default: /run/holm-oci)" },
	{ .name = "systemd-cgroup", .kind = CMD_FLAG, .off = IN(systemd_cgroup),
	  .help = "make cgroups by systemd; cgroupsPath is \"slice:prefix:name\"" },
	{ .name = "rootless", .kind = CMD_CHOICE, .off = IN(rootless), .arg = "WHEN",
	  .choices = rootless_choices, .dflt = "auto",
	  .help = "go on without cgroups where they are not permitted: true, false or auto" },
	{ .name = "criu", .kind = CMD_STR, .off = IN(criu), .arg = "FILE", .flags = CMD_HIDDEN,
	  .help = "not used" },
};
#undef IN

static const struct cmd *const commands[] = {
	&oci_cmd_create,
	&oci_cmd_delete,
	&oci_cmd_events,
	&oci_cmd_exec,
	&oci_cmd_features,
	&oci_cmd_kill,
	&oci_cmd_list,
	&oci_cmd_pause,
	&oci_cmd_ps,
	&oci_cmd_resume,
	&oci_cmd_run,
	&oci_cmd_spec,
	&oci_cmd_start,
	&oci_cmd_state,
	&oci_cmd_update,
};

static const struct cmd root_cmd = {
	.name = "holm-oci", .sub = commands, .n_sub = ARRAY_LEN(commands),
	.opts = opts, .n_opts = ARRAY_LEN(opts), .opts_size = sizeof(struct oci_opts),
	.help = "run containers from OCI bundles",
	.text = "holm-oci makes and runs containers as the OCI runtime specification describes "
		"them. Its command line is runc's, so that engines that use runc can use it "
		"unchanged.",
};

/* In a user namespace that does not map all ids there are no privileges on the host. */
static bool in_userns(void)
{
	auto_buf struct buf b = BUF_INIT;
	unsigned inside, outside, size;

	return sys_read_file(AT_FDCWD, "/proc/self/uid_map", 4096, &b) == 0 &&
	       !(sscanf(buf_str(&b), "%u %u %u", &inside, &outside, &size) == 3 && inside == 0 &&
		 outside == 0 && size == UINT32_MAX);
}

bool oci_rootless(const struct cmd_call *call)
{
	const struct oci_opts *o = call->top;

	return o->rootless == 1 || (o->rootless == 0 && (geteuid() != 0 || in_userns()));
}

const char *oci_root(const struct cmd_call *call, struct err *e)
{
	const struct oci_opts *o = call->top;
	static char path[4096];
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (o->root) {
		return o->root;
	}
	if (geteuid() == 0) {
		return "/run/holm-oci";
	}
	if (!dir || *dir != '/') {
		ignore_result(err_set(e, EINVAL, ERR_INVALID,
				      "XDG_RUNTIME_DIR is not set; set it or give --root")); /* NULL */
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/holm-oci", dir);
	return path;
}

int oci_open(const struct cmd_call *call, unsigned flags, struct record **ret, struct err *e)
{
	const char *root = oci_root(call, e);

	return root ? record_open(root, call->args[0], flags, ret, e) : -EINVAL;
}

int oci_print(json_t *own, struct err *e)
{
	auto_json json_t *doc = own;
	auto_free char *text = doc ? json_text_pretty(doc) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	if (printf("%s\n", text) < 0 || fflush(stdout) != 0) {
		return err_set(e, errno, ERR_HOST, "cannot write to standard output");
	}
	return 0;
}

/* The same line for the log that the caller reads and for the person at the terminal. */
static void report(const struct err *e, bool to_log)
{
	char number[16];
	char text[sizeof(e->msg) + sizeof(e->field) + 160];

	err_text(e, text, sizeof(text));
	if (to_log) {
		snprintf(number, sizeof(number), "%d", e->errnum);
		log_error(text, "reason", err_reason(e), "code", err_codes[e->code].name, "errno",
			  number);
	}
	fprintf(stderr, "holm-oci: %s\n", text);
}

/* Before the command line is parsed, as its errors belong there too. */
static int open_log(int argc, char **argv, int *ret_fd, struct err *e)
{
	const char *path = NULL;
	enum log_format format = LOG_FORMAT_TEXT;
	enum log_level level = LOG_LEVEL_WARN;

	for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
		const char *v;

		if ((v = str_after(argv[i], "--log=")) != NULL) {
			path = v;
		} else if (str_eq(argv[i], "--log") && i + 1 < argc) {
			path = argv[++i];
		} else if (str_eq(argv[i], "--log-format=json") ||
			   (str_eq(argv[i], "--log-format") && i + 1 < argc &&
			    str_eq(argv[++i], "json"))) {
			format = LOG_FORMAT_JSON;
		} else if (str_eq(argv[i], "--debug")) {
			level = LOG_LEVEL_DEBUG;
		} else if ((str_eq(argv[i], "--root") || str_eq(argv[i], "--rootless") ||
			    str_eq(argv[i], "--criu")) && i + 1 < argc) {
			i++;
		}
	}
	if (path && *path) {
		int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);

		if (fd < 0) {
			return err_set(e, -fd, ERR_HOST, "cannot open the log %s", path);
		}
		*ret_fd = fd;
	}
	if (*ret_fd < 0 && level == LOG_LEVEL_WARN) {
		level = LOG_LEVEL_ERROR; /* standard error is the program's, too */
	}
	log_setup("holm-oci", *ret_fd >= 0 ? *ret_fd : 2,
		  *ret_fd >= 0 || format == LOG_FORMAT_JSON ? format : LOG_FORMAT_PLAIN, level);
	return 0;
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	auto_close int log_fd = -1;
	bool is_exec = false;
	int r;

	/* Else the first files that are opened here were the container's, and given to its user. */
	if (fd_fill_stdio() < 0) {
		return 1;
	}
	self_init(argv);
	(void)umask(022); /* the groups and folders that are made; a container has its own */
#ifdef HOLM_FAULTS
	if (getenv("HOLM_FAULT") && sys_fault_parse(getenv("HOLM_FAULT")) < 0) {
		fprintf(stderr, "holm-oci: HOLM_FAULT cannot be understood\n");
		return 1;
	}
#endif
	r = open_log(argc, argv, &log_fd, &e);
	r = r < 0 ? r : cmd_run(&root_cmd, argc, argv, &is_exec, NULL, &e);
	if (r < 0) {
		report(&e, log_fd >= 0);
		return is_exec ? 255 : 1;
	}
	return r;
}
