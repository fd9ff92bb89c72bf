/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files out of and into an instance, running or not, as tar streams. All of it happens in a child
 * that takes the instance's root as a descriptor, enters its user namespace if it has one, and
 * gives up what copying does not need: capabilities, and system calls other than those on files.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "base/fd.h"
#include "base/mem.h"
#include "image/confine.h"
#include "image/idmap.h"
#include "node/bundle.h"
#include "node/handlers.h"
#include "node/instance.h"
#include "node/tarcopy.h"
#include "node/work.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"

struct copy_query {
	const char *path;
	bool        follow, stat;
};

#define IN(m) offsetof(struct copy_query, m)
static const struct jfield out_fields[] = {
	{ "path", JK_STR, IN(path), .flags = JF_REQUIRED, .min = 1, .max = 4095, .doc = "inside" },
	{ "follow", JK_BOOL, IN(follow), .doc = "follow a link at its end" },
	{ "stat", JK_BOOL, IN(stat), .doc = "instead of the tar: {\"name\",\"type\",\"size\",\"mode\","
	  "\"link\"}; type is dir, file, link or other" },
};
static const struct jfield in_fields[] = {
	{ "path", JK_STR, IN(path), .flags = JF_REQUIRED, .min = 1, .max = 4095,
	  .doc = "folder inside that is unpacked into" },
	{ "follow", JK_BOOL, IN(follow), .doc = "has no effect: links to folders are followed" },
};
#undef IN
static const struct jtable out_table = JTABLE("CopyOutQuery", struct copy_query, out_fields);
static const struct jtable in_table = JTABLE("CopyInQuery", struct copy_query, in_fields);

struct copy_job {
	struct api_call *call;
	struct work     *work;
	bool             in, stat, streaming, ended;
};

struct child_args {
	struct instance  *instance;
	struct copy_query query;
	bool              in;
};

/* --- In the child --- */

static int stopped_root(struct instance *i, struct arena *a, struct err *e)
{
	auto_free char *state = instance_state_dir(i);
	auto_free char *target = state ? str_printf("%s/mnt", state) : NULL;
	int r = target ? sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) : -ENOMEM;

	return r < 0 ? err_set(e, -r, ERR_HOST, "make the mounts private") :
	       bundle_mount_root(i, target, a, NULL, e);
}

/* From here on the instance's ids are ours, and the host's files are nobody's. */
static int enter_ids(const struct instance *i, struct err *e)
{
	struct idmap map = { .base = (uint32_t)i->status.id_base,
			     .count = (uint32_t)i->status.id_count };
	auto_close int fd = -1;
	int r = map.count ? idmap_userns(&map, &fd, e) : 0;

	if (r < 0 || !map.count) {
		return r;
	}
	r = sys_setns(fd, CLONE_NEWUSER);
	r = r < 0 ? r : sys_setgroups(0, NULL);
	r = r < 0 ? r : sys_setresgid(0, 0, 0);
	r = r < 0 ? r : sys_setresuid(0, 0, 0);
	/* A change of ids hides our own /proc/self/fd from us. Nobody inside can see this process. */
	r = r < 0 ? r : sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "enter the instance's ids") : 0;
}

static int in_child(void *ud, int in_fd, int out_fd, struct err *e)
{
	struct child_args *a = ud;
	auto_arena struct arena arena = ARENA_INIT;
	bool runs = a->instance->status.pid != 0;
	auto_close int root = runs ? instance_open_root(a->instance, e) :
			      stopped_root(a->instance, &arena, e);
	int r = root < 0 ? root : enter_ids(a->instance, e);

	(void)setlocale(LC_CTYPE, "C.UTF-8"); /* without it, names that are not ASCII are refused */
	r = r < 0 ? r : confine_files("copy", e);
	if (r < 0) {
		return r;
	}
	(void)umask(0);
	return a->in ? tarcopy_in(root, a->query.path, in_fd, e) :
	       a->query.stat ? tarcopy_stat(root, a->query.path, a->query.follow, out_fd, e) :
	       tarcopy_out(root, a->query.path, a->query.follow, out_fd, e);
}

/* --- In the daemon --- */

static void job_free(struct copy_job *job)
{
	if (job->call) {
		job->call->cancel = NULL;
		job->call->drained = NULL;
		http_on_data(job->call->req, NULL, NULL);
	}
	free(job);
}

static void on_gone(struct api_call *c)
{
	struct copy_job *job = c->ud;

	job->call = NULL;
	work_cancel(job->work);
	job_free(job);
}

/* The stream begins with its first bytes: what fails before that is an error reply. */
static bool on_data(void *ud, const void *data, size_t n)
{
	struct copy_job *job = ud;

	if (!job->streaming) {
		job->streaming = true;
		api_stream(job->call);
	}
	if (api_write(job->call, data, n) < 0) {
		http_abort(job->call->req); /* on_gone() follows */
		return false;
	}
	return http_waiting(job->call->req) < 256 * 1024;
}

static void on_drained(struct api_call *c)
{
	work_resume(((struct copy_job *)c->ud)->work);
}

static void on_done(void *ud, const struct buf *result, const struct err *err)
{
	struct copy_job *job = ud;
	struct api_call *c = job->call;
	struct err e = ERR_INIT;
	json_t *doc = NULL;
	bool streaming = job->streaming, in = job->in, stat = job->stat;

	job_free(job);
	if (streaming) {
		if (err) {
			api_abort(c);
		} else {
			api_end(c);
		}
	} else if (err) {
		api_fail(c, err);
	} else if (in) {
		api_reply(c, json_object());
	} else if (stat && json_parse(buf_str(result), result->len, &json_limits_request, "the result",
				      &doc, &e) == 0) {
		api_reply(c, doc);
	} else {
		ignore_result(err_set(&e, EIO, ERR_HOST, "nothing was copied")); /* told now */
		api_fail(c, &e);
	}
}

static void writable(void *ud)
{
	struct copy_job *job = ud;

	http_body_resume(job->call->req);
}

static size_t on_upload(struct http_req *r, const void *data, size_t n, void *ud)
{
	struct copy_job *job = ud;

	(void)r;
	if (n == 0) {
		work_input_end(job->work);
		return 0;
	}
	return work_input(job->work, data, n, writable);
}

static int copy(struct api_call *c, bool in, struct err *e)
{
	struct instance *i = c->instance;
	struct child_args args = { .instance = i, .query = *(struct copy_query *)c->query, .in = in };
	struct copy_job *job = mem_new(struct copy_job);

	if (!job) {
		return err_nomem(e);
	}
	if (i->status.state == INSTANCE_STARTING || (i->shim && !i->status.pid &&
						     i->status.state != INSTANCE_CREATED)) {
		free(job);
		return err_set(e, EBUSY, ERR_CONFLICT, "instance %s is just starting or ending: try "
			       "again", i->name);
	}
	job->in = in;
	job->stat = args.query.stat;
	struct work_spec spec = {
		.run = in_child, .run_ud = &args, .new_mounts = true, .input = in,
		.data = in || args.query.stat ? NULL : on_data, .done = on_done, .ud = job,
	};
	int r = work_start(c->node->loop, &spec, &job->work, e);

	if (r < 0) {
		free(job);
		return r;
	}
	job->call = c;
	c->ud = job;
	c->cancel = on_gone;
	c->drained = on_drained;
	if (in) {
		http_on_data(c->req, on_upload, job);
	}
	return 0;
}

static int h_copy_out(struct api_call *c, struct err *e)
{
	int r = instance_need_container(c->instance, "cp", e);

	return r < 0 ? r : copy(c, false, e);
}

static int h_copy_in(struct api_call *c, struct err *e)
{
	int r = instance_need_container(c->instance, "cp", e);

	return r < 0 ? r : copy(c, true, e);
}

static const struct api_route routes[] = {
	{ "GET", "/v1/instances/{id}/archive", "instance.copy-out", API_INSTANCE | API_STREAM,
	  h_copy_out, .query = &out_table, .produces = "application/x-tar",
	  .doc = "A file or folder of it as a tar, or what it is." },
	{ "PUT", "/v1/instances/{id}/archive", "instance.copy-in", API_INSTANCE | API_BODY_STREAM,
	  h_copy_in, .query = &in_table, .consumes = "application/x-tar",
	  .doc = "Unpack a tar into a folder of it." },
};
const struct api_routes copy_routes = { routes, ARRAY_LEN(routes) };
