/* SPDX-License-Identifier: Apache-2.0 */
#include "container/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sys/file.h"
#include "sys/proc.h"

enum {
	STATE_VERSION = 1,
	STATE_MAX_BYTES = 5 << 20,   /* of the largest config, and the rest */
	LOCK_WAIT_SEC = 10,
	ID_MAX = 1024,
};

const char *const record_status_names[STATUS__COUNT] = {
	[STATUS_CREATING] = "creating",
	[STATUS_CREATED]  = "created",
	[STATUS_RUNNING]  = "running",
	[STATUS_PAUSED]   = "paused",
	[STATUS_STOPPED]  = "stopped",
};

/* A config of the greatest depth is one level down. */
static const struct json_limits state_limits = { .bytes = STATE_MAX_BYTES, .depth = 65 };

/*
 * How state.json begins. The numbers have a width, so that they can be written over in place,
 * where replacing the file would cost a new inode for each step of a create.
 */
#define STATE_HEAD "{\"version\":1,\"pid\":%10d,\"startTime\":%20llu,\"ready\":%d,"

/* What state.json holds. */
struct state_doc {
	uint64_t    version;
	const char *id, *bundle, *rootfs;
	int64_t     pid;
	uint64_t    start_ticks, created_ns, owner;
	uint64_t    ready;
	bool        rootless, no_new_keyring;
	json_t     *cgroup, *config;
};

#define IN(m) offsetof(struct state_doc, m)
static const struct jfield state_fields[] = {
	{ "id",       JK_STR,  IN(id), .flags = JF_REQUIRED, .doc = "of the container" },
	{ "version",  JK_UINT, IN(version), .flags = JF_REQUIRED, .doc = "of this format" },
	{ "pid",      JK_INT,  IN(pid), .flags = JF_REQUIRED, .max = INT32_MAX,
	  .doc = "of the first process" },
	{ "startTime", JK_UINT, IN(start_ticks), .flags = JF_REQUIRED,
	  .doc = "field 22 of /proc/PID/stat" },
	{ "ready",    JK_UINT, IN(ready), .max = 1, .doc = "1: create has finished" },
	{ "bundle",   JK_STR,  IN(bundle), .doc = "absolute path" },
	{ "rootfs",   JK_STR,  IN(rootfs), .doc = "absolute path" },
	{ "created",  JK_TIME, IN(created_ns), .doc = "when create began" },
	{ "owner",    JK_UINT, IN(owner), .flags = JF_EMPTY, .max = UINT32_MAX,
	  .doc = "uid of the caller of create" },
	{ "rootless", JK_BOOL, IN(rootless), .doc = "made without privileges on the host" },
	{ "noNewKeyring", JK_BOOL, IN(no_new_keyring), .doc = "the caller's keyring is used" },
	{ "cgroup",   JK_RAW,  IN(cgroup), .doc = "as cgroup_save() wrote it" },
	{ "config",   JK_RAW,  IN(config), .doc = "config.json as it was at create" },
};
#undef IN
static const struct jtable state_table = JTABLE_OPEN("OciState", struct state_doc, state_fields);

static bool id_ok(const char *id)
{
	size_t n = strlen(id);

	if (n == 0 || n > ID_MAX || str_eq(id, ".") || str_eq(id, "..") || id[0] == '-') {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		char c = id[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '+' || c == '-' || c == '.')) {
			return false;
		}
	}
	return true;
}

static int check_id(const char *id, struct err *e)
{
	if (id_ok(id)) {
		return 0;
	}
	return err_set(e, EINVAL, ERR_INVALID,
		       "'%.100s' is no container id: use letters, digits, '_', '+', '-' and '.'", id);
}

static int open_root(const char *root, bool make, int *ret, struct err *e)
{
	int fd = sys_openat(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT && make) {
		int r = sys_mkdir_p(AT_FDCWD, root, 0700);

		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot make the state folder %s", root);
		}
		fd = sys_openat(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd == -ENOENT) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "the state folder %s does not exist", root);
	}
	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "cannot open the state folder %s", root);
	}
	*ret = fd;
	return 0;
}

static struct record *record_alloc(const char *id)
{
	struct record *rec = mem_new(struct record);

	if (!rec) {
		return NULL;
	}
	rec->dir_fd = rec->root_fd = -1;
	rec->id = arena_strdup(&rec->arena, id);
	if (!rec->id) {
		return record_free(rec);
	}
	return rec;
}

struct record *record_free(struct record *rec)
{
	if (rec) {
		fd_close(&rec->dir_fd);
		fd_close(&rec->root_fd);
		rec->cgroup = cgroup_free(rec->cgroup);
		json_decref(rec->doc);
		arena_fini(&rec->arena);
		free(rec);
	}
	return NULL;
}

static int take_lock(struct record *rec, struct err *e)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	int r = sys_flock(rec->dir_fd, LOCK_EX | LOCK_NB);

	for (int i = 0; r == -EWOULDBLOCK && i < LOCK_WAIT_SEC * 200; i++) {
		nanosleep(&pause, NULL);
		r = sys_flock(rec->dir_fd, LOCK_EX | LOCK_NB);
	}
	if (r == -EWOULDBLOCK) {
		return err_set(e, EBUSY, ERR_CONFLICT,
			       "another command is at work on container %s; try again",
			       rec->id);
	}
	rec->locked = r == 0;
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot lock container %s", rec->id) : 0;
}

void record_unlock(struct record *rec)
{
	ignore_result(sys_flock(rec->dir_fd, LOCK_UN)); /* closing will do it */
	rec->locked = false;
}

int record_relock(struct record *rec, struct err *e)
{
	struct stat st;
	int r = take_lock(rec, e);

	/* Another command may have removed it while we waited. */
	if (r == 0 && (sys_fstat(rec->dir_fd, &st) < 0 || st.st_nlink == 0)) {
		r = err_set(e, ENOENT, ERR_NOT_FOUND, "container \"%s\" does not exist", rec->id);
	}
	return r;
}

int record_new(const char *id, struct record **ret, struct err *e)
{
	int r = check_id(id, e);

	if (r < 0) {
		return r;
	}

	struct record *rec = record_alloc(id);

	if (!rec) {
		return err_nomem(e);
	}
	rec->created_ns = clock_wall_ns();
	rec->owner = geteuid();
	*ret = rec;
	return 0;
}

int record_make(struct record *rec, const char *root, struct err *e)
{
	int r = open_root(root, true, &rec->root_fd, e);

	if (r < 0) {
		return r;
	}
	r = sys_mkdirat(rec->root_fd, rec->id, 0700);
	if (r == -EEXIST) {
		return err_set(e, EEXIST, ERR_CONFLICT, "container with given ID already exists: %s",
			       rec->id);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot make the state folder of %s", rec->id);
	}
	rec->dir_fd = sys_openat(rec->root_fd, rec->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (rec->dir_fd < 0) {
		r = err_set(e, -rec->dir_fd, ERR_HOST, "cannot open the state folder of %s", rec->id);
	}
	/* Nobody else can hold it for long: a delete that saw the empty folder. */
	r = r < 0 ? r : take_lock(rec, e);
	if (r < 0) {
		ignore_result(sys_unlinkat(rec->root_fd, rec->id, AT_REMOVEDIR)); /* r counts */
	}
	return r;
}

static int adopt_state(struct record *rec, const struct state_doc *doc, struct err *e)
{
	rec->bundle = doc->bundle;
	rec->rootfs = doc->rootfs;
	rec->pid = (pid_t)doc->pid;
	rec->start_ticks = doc->start_ticks;
	rec->created_ns = doc->created_ns;
	rec->owner = (uid_t)doc->owner;
	rec->rootless = doc->rootless;
	rec->ready = doc->ready != 0;
	rec->no_new_keyring = doc->no_new_keyring;
	return doc->cgroup ? cgroup_load(doc->cgroup, &rec->cgroup, e) : 0;
}

/* *ret_damaged: it is the file that is wrong, not what it leads to. */
static int parse_state(struct record *rec, const struct buf *text, bool spec, bool *ret_damaged,
		       struct err *e)
{
	struct state_doc st;
	int r = json_parse(buf_str(text), text->len, &state_limits, "state.json", &rec->doc, e);

	r = r < 0 ? r : jtable_parse(&state_table, rec->doc, &rec->arena, &st, e);
	*ret_damaged = r < 0 && r != -ENOMEM;
	if (r < 0) {
		return r;
	}
	if (st.version > STATE_VERSION) {
		return err_set(e, EPROTO, ERR_UNSUPPORTED,
			       "state.json has version %llu; this program knows %d",
			       (unsigned long long)st.version, STATE_VERSION);
	}
	r = adopt_state(rec, &st, e);
	if (r == 0 && spec) {
		r = oci_spec_parse(st.config, &rec->arena, &rec->spec, e);
	}
	return r;
}

/* What a failed parse has left. */
static void forget(struct record *rec)
{
	json_decref(rec->doc);
	rec->doc = NULL;
	rec->pid = 0;
	rec->cgroup = cgroup_free(rec->cgroup);
	memset(&rec->spec, 0, sizeof(rec->spec));
}

static int read_state(struct record *rec, unsigned flags, struct err *e)
{
	const struct timespec pause = { .tv_nsec = 2 * 1000 * 1000 };
	bool damaged = false;
	int r = 0;

	/* Twice, as a write in place may have been under way. */
	for (int i = 0; i < 2; i++) {
		auto_buf struct buf text = BUF_INIT;

		r = sys_read_file(rec->dir_fd, "state.json", STATE_MAX_BYTES, &text);
		if (r == -ENOENT || (r == 0 && text.len == 0)) {
			return 0; /* a create that died at once, or has just begun */
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "cannot read state.json");
		}
		err_clear(e);
		r = parse_state(rec, &text, (flags & RECORD_SPEC) != 0, &damaged, e);
		if (r == 0 || !damaged) {
			return r;
		}
		forget(rec);
		nanosleep(&pause, NULL);
	}
	if (flags & RECORD_FORCE) {
		err_clear(e); /* it is written whole before anything else is made */
		return 0;
	}
	return r;
}

static int open_dir(struct record *rec, const char *root, struct err *e)
{
	int r = open_root(root, false, &rec->root_fd, e);

	if (r == 0) {
		rec->dir_fd = sys_openat(rec->root_fd, rec->id,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	}
	if (r == -ENOENT || rec->dir_fd == -ENOENT) {
		err_clear(e);
		return err_set(e, ENOENT, ERR_NOT_FOUND, "container \"%s\" does not exist", rec->id);
	}
	if (r == 0 && rec->dir_fd < 0) {
		return err_set(e, -rec->dir_fd, ERR_HOST, "cannot open the state of %s", rec->id);
	}
	return r;
}

int record_open(const char *root, const char *id, unsigned flags, struct record **ret,
		struct err *e)
{
	auto_(record_freep) struct record *rec = NULL;
	int r = record_new(id, &rec, e);

	r = r < 0 ? r : open_dir(rec, root, e);
	if (r == 0 && (flags & RECORD_LOCK)) {
		r = record_relock(rec, e);
	}
	r = r < 0 ? r : read_state(rec, flags, e);
	if (r < 0) {
		return r == -ENOENT && e->code == ERR_NOT_FOUND ? r
								: err_wrap(e, "container %s", id);
	}
	*ret = take_ptr(&rec);
	return 0;
}

int record_write_file(int dir_fd, const char *path, const char *text, size_t len, mode_t mode)
{
	auto_free char *tmp = str_printf("%s.%d.tmp", path, (int)getpid());

	if (!tmp) {
		return -ENOMEM;
	}

	auto_close int fd = sys_openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	int r = fd < 0 ? fd : sys_write_full(fd, text, len);

	r = r < 0 ? r : sys_renameat2(dir_fd, tmp, dir_fd, path, 0);
	if (r < 0 && fd >= 0) {
		ignore_result(sys_unlinkat(dir_fd, tmp, 0)); /* r counts */
	}
	return r;
}

static int format_state(const struct record *rec, struct buf *b)
{
	auto_json json_t *cg = rec->cgroup ? cgroup_save(rec->cgroup) : NULL;
	const struct state_doc st = {
		.id = rec->id, .bundle = rec->bundle, .rootfs = rec->rootfs,
		.created_ns = rec->created_ns, .owner = rec->owner, .rootless = rec->rootless,
		.no_new_keyring = rec->no_new_keyring, .cgroup = cg,
	};
	auto_json json_t *doc = jtable_format(&state_table, &st);
	static const char *const in_head[] = { "version", "pid", "startTime", "ready" };

	for (size_t i = 0; doc && i < ARRAY_LEN(in_head); i++) {
		(void)json_object_del(doc, in_head[i]); /* it may not be there */
	}
	auto_free char *rest = doc ? json_text(doc) : NULL;

	if (!rest || (rec->cgroup && !cg)) {
		return -ENOMEM;
	}
	buf_printf(b, STATE_HEAD, (int)rec->pid, (unsigned long long)rec->start_ticks, rec->ready);
	buf_add(b, rest + 1, strlen(rest) - 2);
	if (rec->config_text) {
		buf_add_str(b, ",\"config\":");
		buf_add(b, rec->config_text, rec->config_bytes);
	}
	buf_add_char(b, '}');
	return buf_failed(b) ? -ENOMEM : 0;
}

static int write_first(int dir_fd, const struct buf *b)
{
	auto_close int fd = sys_openat(dir_fd, "state.json",
				       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);

	return fd < 0 ? fd : sys_write_full(fd, b->data, b->len);
}

int record_save(const struct record *rec, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	int r = format_state(rec, &b);

	r = r < 0 ? r : write_first(rec->dir_fd, &b);
	if (r == -EEXIST) {
		r = record_write_file(rec->dir_fd, "state.json", b.data, b.len, 0600);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot write state.json of %s", rec->id) : 0;
}

int record_save_process(const struct record *rec, struct err *e)
{
	char head[128];
	int n = snprintf(head, sizeof(head), STATE_HEAD, (int)rec->pid,
			 (unsigned long long)rec->start_ticks, rec->ready);
	auto_close int fd = sys_openat(rec->dir_fd, "state.json", O_WRONLY | O_NOFOLLOW, 0);
	ssize_t r = fd < 0 ? fd : sys_pwrite(fd, head, (size_t)n, 0);

	if (r >= 0 && r != n) {
		r = -EIO;
	}
	return r < 0 ? err_set(e, (int)-r, ERR_HOST, "cannot write state.json of %s", rec->id) : 0;
}

int record_remove(struct record *rec, struct err *e)
{
	int r = sys_remove_tree(rec->root_fd, rec->id);

	return r < 0 ? err_set(e, -r, ERR_HOST, "cannot remove the state of %s", rec->id) : 0;
}

int record_set_pid(struct record *rec, pid_t pid, struct err *e)
{
	bool zombie = false;
	int r = proc_start_ticks(pid, &rec->start_ticks, &zombie);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "cannot read /proc/%d/stat", (int)pid);
	}
	rec->pid = pid;
	return 0;
}

bool record_alive(const struct record *rec)
{
	uint64_t ticks = 0;
	bool zombie = false;

	return rec->pid > 0 && proc_start_ticks(rec->pid, &ticks, &zombie) == 0 && !zombie &&
	       ticks == rec->start_ticks;
}

/* The first process reads `start` until its execve. */
static bool waits_for_start(const struct record *rec)
{
	auto_close int fd = sys_openat(rec->dir_fd, "start", O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0);

	return fd >= 0;
}

static bool locked_by_other(const struct record *rec)
{
	int r = sys_flock(rec->dir_fd, LOCK_SH | LOCK_NB);

	if (r == 0) {
		ignore_result(sys_flock(rec->dir_fd, LOCK_UN)); /* closing would do it too */
	}
	return r == -EWOULDBLOCK;
}

enum record_status record_status(const struct record *rec)
{
	bool alive = record_alive(rec);

	if (!rec->ready) {
		return alive || (!rec->locked && locked_by_other(rec)) ? STATUS_CREATING : STATUS_STOPPED;
	}
	if (!alive) {
		return STATUS_STOPPED;
	}
	/* Frozen first: what is frozen cannot be started. */
	if (rec->cgroup && cgroup_frozen(rec->cgroup) > 0) {
		return STATUS_PAUSED;
	}
	return waits_for_start(rec) ? STATUS_CREATED : STATUS_RUNNING;
}

int record_pidfd(const struct record *rec, int *ret_fd, struct err *e)
{
	auto_close int fd = rec->pid > 0 ? sys_pidfd_open(rec->pid, 0) : -ESRCH;

	/* If the pid is still the process of the record now, fd is of it. */
	if (fd < 0 || !record_alive(rec)) {
		return err_set(e, ESRCH, ERR_CONFLICT, "container %s is not running", rec->id);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int put_annotations(json_t *o, const struct jmap *m)
{
	json_t *a = json_object();

	for (size_t i = 0; a && i < m->n; i++) {
		if (json_put(a, m->v[i].key, json_string(m->v[i].value)) < 0) {
			json_decref(a);
			a = NULL;
		}
	}
	return json_put(o, "annotations", a);
}

json_t *record_state_json(const struct record *rec, enum record_status status, bool full)
{
	auto_json json_t *o = json_object();
	bool has_pid = rec->pid > 0 && status != STATUS_STOPPED;
	int r = o ? 0 : -ENOMEM;

	r = r ? r : json_put(o, "ociVersion", json_string(rec->spec.oci_version
							  ? rec->spec.oci_version
							  : OCI_SPEC_VERSION));
	r = r ? r : json_put(o, "id", json_string(rec->id));
	if (has_pid || full) {
		r = r ? r : json_put(o, "pid", json_integer(has_pid ? rec->pid : 0));
	}
	r = r ? r : json_put(o, "status", json_string(record_status_names[status]));
	r = r ? r : json_put(o, "bundle", json_string(rec->bundle ? rec->bundle : ""));
	if (full) {
		r = r ? r : json_put(o, "rootfs", json_string(rec->rootfs ? rec->rootfs : ""));
		r = r ? r : json_put(o, "created",
				     json_string(time_format(rec->created_ns).text));
	}
	if (rec->spec.annotations.n > 0) {
		r = r ? r : put_annotations(o, &rec->spec.annotations);
	}
	if (full) {
		r = r ? r : json_put(o, "owner", json_string(""));
	}
	return r ? NULL : take_ptr(&o);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int record_list(const char *root, struct strv *ret, struct err *e)
{
	int fd = -1;
	int r = open_root(root, false, &fd, e);

	if (r == -ENOENT) {
		err_clear(e);
		return 0;
	}
	if (r < 0) {
		return r;
	}

	DIR *d = fdopendir(fd);

	if (!d) {
		r = err_set(e, errno, ERR_HOST, "cannot list %s", root);
		fd_close(&fd);
		return r;
	}
	for (const struct dirent *de = readdir(d); r == 0 && de; de = readdir(d)) {
		if (de->d_type == DT_DIR && id_ok(de->d_name)) {
			r = strv_add(ret, de->d_name);
		}
	}
	closedir(d);
	if (r < 0) {
		return err_nomem(e);
	}
	if (ret->n > 1) {
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	}
	return 0;
}
