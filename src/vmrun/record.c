/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ROOT/ID/state.json, written whole or not at all. The status is never stored: it is derived
 * from the proxy, by its number and start time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "json/json.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "vmrun/vmrun.h"

enum { STATE_MAX = 65536 };

const char *const vm_status_names[VM_STATUS__COUNT] = {
	[VM_CREATED] = "created", [VM_RUNNING] = "running", [VM_STOPPED] = "stopped",
};

enum vm_status vm_record_status(const struct vm_record *r)
{
	uint64_t ticks = 0;
	bool zombie = false;

	if (r->pid == 0 || proc_start_ticks(r->pid, &ticks, &zombie) < 0 || zombie ||
	    ticks != r->start_ticks) {
		return VM_STOPPED;
	}
	return r->started ? VM_RUNNING : VM_CREATED;
}

static int open_root(const char *root, struct err *e)
{
	int r = sys_mkdir_p(AT_FDCWD, root, 0711);
	int fd = r < 0 ? r : sys_openat(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? err_set(e, -fd, ERR_HOST, "cannot use the folder %s", root) : fd;
}

int vm_record_make(const char *root, const char *id, struct vm_record *ret, struct err *e)
{
	if (!name_valid(id)) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' is not a valid id", id);
	}
	auto_close int root_fd = open_root(root, e);
	int r = root_fd < 0 ? root_fd : sys_mkdirat(root_fd, id, 0711);

	if (r == -EEXIST) {
		return err_set(e, EEXIST, ERR_CONFLICT, "container %s exists", id);
	}
	if (r < 0) {
		return root_fd < 0 ? r : err_set(e, -r, ERR_HOST, "making the folder of %s", id);
	}
	*ret = (struct vm_record){ .id = str_dup(id), .created_ns = clock_wall_ns(),
				   .dir_fd = sys_openat(root_fd, id, O_RDONLY | O_DIRECTORY |
							O_NOFOLLOW, 0) };
	return ret->id && ret->dir_fd >= 0 ? 0 : err_nomem(e);
}

int vm_record_save(const struct vm_record *r, struct err *e)
{
	auto_json json_t *doc = json_pack("{s:s,s:s,s:i,s:I,s:I,s:i,s:b}", "id", r->id, "bundle",
					  r->bundle ? r->bundle : "", "pid", r->pid, "start_ticks",
					  (json_int_t)r->start_ticks, "created_ns",
					  (json_int_t)r->created_ns, "uid", (int)r->uid, "started",
					  r->started);
	auto_free char *text = doc ? json_text(doc) : NULL;
	int x = text ? sys_replace_file(r->dir_fd, VM_STATE_FILE, text, strlen(text), 0600) : -ENOMEM;

	return x < 0 ? err_set(e, -x, ERR_HOST, "writing the state of %s", r->id) : 0;
}

int vm_record_open(const char *root, const char *id, struct vm_record *ret, struct err *e)
{
	auto_buf struct buf text = BUF_INIT;
	auto_json json_t *doc = NULL;
	auto_close int root_fd = name_valid(id) ? open_root(root, e) : -EINVAL;
	int dir_fd = root_fd < 0 ? -ENOENT : sys_openat(root_fd, id, O_RDONLY | O_DIRECTORY |
							O_NOFOLLOW, 0);
	const char *bundle = NULL;
	json_int_t ticks = 0, created = 0;
	int pid = 0, uid = 0, started = 0;

	*ret = (struct vm_record)VM_RECORD_INIT;
	if (dir_fd < 0) {
		err_clear(e);
		return err_set(e, ENOENT, ERR_NOT_FOUND, "container %s does not exist", id);
	}
	ret->dir_fd = dir_fd;
	ret->id = str_dup(id);
	int r = sys_read_file(dir_fd, VM_STATE_FILE, STATE_MAX, &text);

	if (r == -ENOENT && ret->id) {
		return 0; /* a create that died at once: it can be deleted */
	}
	r = r < 0 ? err_set(e, -r, ERR_HOST, "the state of %s", id) :
		    json_parse(buf_str(&text), text.len, &json_limits_document, "state.json", &doc, e);
	if (r == 0 && json_unpack(doc, "{s:s,s:i,s:I,s:I,s:i,s:b}", "bundle", &bundle, "pid", &pid,
				  "start_ticks", &ticks, "created_ns", &created, "uid", &uid, "started",
				  &started) < 0) {
		r = err_set(e, EBADMSG, ERR_HOST, "the state of %s cannot be read", id);
	}
	if (r == 0) {
		ret->bundle = str_dup(bundle);
		ret->pid = pid;
		ret->start_ticks = (uint64_t)ticks;
		ret->created_ns = (uint64_t)created;
		ret->uid = (uid_t)uid;
		ret->started = started;
		r = ret->id && ret->bundle ? 0 : err_nomem(e);
	}
	if (r < 0) {
		vm_record_fini(ret);
	}
	return r;
}

int vm_record_remove(const char *root, const char *id, struct err *e)
{
	auto_close int root_fd = open_root(root, e);
	int r = root_fd < 0 ? root_fd : sys_remove_tree(root_fd, id);

	return r < 0 ? err_set(e, -r, ERR_HOST, "removing the folder of %s", id) : 0;
}

void vm_record_fini(struct vm_record *r)
{
	free(r->id);
	free(r->bundle);
	fd_close(&r->dir_fd);
	*r = (struct vm_record)VM_RECORD_INIT;
}
