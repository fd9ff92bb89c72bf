/* SPDX-License-Identifier: Apache-2.0 */
/* holm-oci state, list, kill, delete, pause, resume */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "main/oci.h"

static const char *const table_formats[] = { "table", "json", NULL };

static int cmd_state(const struct cmd_call *call, struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = oci_open(call, RECORD_SPEC, &rec, e);

	return r < 0 ? r : oci_print(record_state_json(rec, record_status(rec), true), e);
}

struct list_args {
	int  format;
	bool quiet;
};

#define IN(m) offsetof(struct list_args, m)
static const struct cmd_opt list_opts[] = {
	{ 'f', "format", CMD_CHOICE, IN(format), "FORMAT", "table or json",
	  .choices = table_formats, .dflt = "table" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "only the ids" },
};
#undef IN

static int list_one(const char *root, const char *id, const struct list_args *a, json_t *all,
		    struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = record_open(root, id, RECORD_SPEC, &rec, e);

	if (r < 0) {
		return r;
	}

	enum record_status status = record_status(rec);
	pid_t pid = status == STATUS_STOPPED ? 0 : rec->pid;

	if (a->format == 0) {
		/* The numeric owner: no NSS in here. */
		printf("%-20s  %-8d  %-8s  %-40s  %s  #%u\n", id, (int)pid,
		       record_status_names[status], rec->bundle ? rec->bundle : "",
		       time_format(rec->created_ns).text, rec->owner);
		return 0;
	}
	auto_json json_t *o = record_state_json(rec, status, true);

	return o && json_array_append(all, o) == 0 ? 0 : err_nomem(e);
}

static int cmd_list(const struct cmd_call *call, struct err *e)
{
	const struct list_args *a = call->opts;
	const char *root = oci_root(call, e);
	auto_strv struct strv ids = STRV_INIT;
	auto_json json_t *all = json_array();
	int r = root ? record_list(root, &ids, e) : -EINVAL;

	if (r == 0 && a->format == 0 && !a->quiet) {
		printf("%-20s  %-8s  %-8s  %-40s  %-30s  OWNER\n", "ID", "PID", "STATUS", "BUNDLE",
		       "CREATED");
	}
	for (size_t i = 0; r >= 0 && i < ids.n; i++) {
		if (a->quiet) {
			puts(ids.v[i]);
			continue;
		}
		r = list_one(root, ids.v[i], a, all, e);
		if (r == -ENOENT) {
			err_clear(e);
			r = 0; /* deleted meanwhile */
		}
	}
	if (r == 0 && a->format == 1 && !a->quiet) {
		r = oci_print(json_incref(all), e);
	}
	return r;
}

struct kill_args {
	bool all;
};

#define IN(m) offsetof(struct kill_args, m)
static const struct cmd_opt kill_opts[] = {
	{ 'a', "all", CMD_FLAG, IN(all), NULL, "send to every process of the container" },
};
#undef IN

static int cmd_kill(const struct cmd_call *call, struct err *e)
{
	const struct kill_args *a = call->opts;
	const char *name = call->n_args > 1 ? call->args[1] : "TERM";
	auto_(record_freep) struct record *rec = NULL;
	int sig = signal_parse(name);

	if (sig < 0) {
		return err_set(e, EINVAL, ERR_INVALID, "unknown signal \"%s\": give a number or a name "
			       "such as TERM", name);
	}

	int r = oci_open(call, RECORD_SPEC, &rec, e);

	return r < 0 ? r : container_kill(rec, sig, a->all, e);
}

struct delete_args {
	bool force;
};

#define IN(m) offsetof(struct delete_args, m)
static const struct cmd_opt delete_opts[] = {
	{ 'f', "force", CMD_FLAG, IN(force), NULL, "kill it first if it is running" },
};
#undef IN

static int cmd_delete(const struct cmd_call *call, struct err *e)
{
	const struct delete_args *a = call->opts;
	auto_(record_freep) struct record *rec = NULL;
	int r = oci_open(call, RECORD_LOCK | RECORD_SPEC, &rec, e);

	if (r < 0 && a->force && e->code != ERR_NOT_FOUND && e->code != ERR_CONFLICT) {
		/* A create that died before the record was whole. */
		err_clear(e);
		r = oci_open(call, RECORD_LOCK | RECORD_SPEC | RECORD_FORCE, &rec, e);
	}
	if (r < 0 && a->force && e->code == ERR_NOT_FOUND) {
		return 0;
	}
	return r < 0 ? r : container_delete(rec, a->force, e);
}

static int cmd_pause(const struct cmd_call *call, struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = oci_open(call, 0, &rec, e);

	return r < 0 ? r : container_pause(rec, e);
}

static int cmd_resume(const struct cmd_call *call, struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = oci_open(call, 0, &rec, e);

	return r < 0 ? r : container_resume(rec, e);
}

const struct cmd oci_cmd_state = {
	.name = "state", .args = "CONTAINER", .min_args = 1, .max_args = 1, .run = cmd_state,
	.help = "show the state of a container as JSON",
};

const struct cmd oci_cmd_list = {
	.name = "list", .opts = list_opts, .n_opts = ARRAY_LEN(list_opts),
	.opts_size = sizeof(struct list_args), .run = cmd_list,
	.help = "list the containers below --root",
};

const struct cmd oci_cmd_kill = {
	.name = "kill", .args = "CONTAINER [SIGNAL]", .min_args = 1, .max_args = 2,
	.opts = kill_opts, .n_opts = ARRAY_LEN(kill_opts), .opts_size = sizeof(struct kill_args),
	.run = cmd_kill, .help = "send a signal (default TERM) to a container's first process",
};

const struct cmd oci_cmd_delete = {
	.name = "delete", .args = "CONTAINER", .min_args = 1, .max_args = 1,
	.opts = delete_opts, .n_opts = ARRAY_LEN(delete_opts),
	.opts_size = sizeof(struct delete_args), .run = cmd_delete,
	.help = "remove a container that has ended",
};

const struct cmd oci_cmd_pause = {
	.name = "pause", .args = "CONTAINER", .min_args = 1, .max_args = 1, .run = cmd_pause,
	.help = "stop all processes of a container for a while",
};

const struct cmd oci_cmd_resume = {
	.name = "resume", .args = "CONTAINER", .min_args = 1, .max_args = 1, .run = cmd_resume,
	.help = "let a paused container go on",
};
