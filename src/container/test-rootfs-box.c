/* SPDX-License-Identifier: Apache-2.0 */
#include "container/test-rootfs-box.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "oci/spec.h"
#include "sys/file.h"
#include "sys/proc.h"

void box_put(const struct box *b, const char *path, const char *text)
{
	auto_close int fd = openat(b->dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

void box_dir(const struct box *b, const char *path)
{
	assert_true(mkdirat(b->dir_fd, path, 0755) == 0 || errno == EEXIST);
}

static int own_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;   /* all alike */
	(void)type;
	(void)ftw;
	return lchown(path, BASE_ID, BASE_ID);
}

void box_own(const struct box *b)
{
	auto_free char *path = str_printf("%s/rootfs", b->dir);

	assert_int_equal(nftw(path, own_one, 16, FTW_PHYS), 0);
}

int box_new(void **state)
{
	struct box *b = calloc(1, sizeof(*b));
	static const char *const dirs[] = { "rootfs", "rootfs/proc", "rootfs/sys", "rootfs/dev",
					    "rootfs/etc", "rootfs/tmp", "src", "src/sub" };

	assert_non_null(b);
	(void)snprintf(b->dir, sizeof(b->dir), "/var/tmp/holm-rootfs-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	assert_int_equal(chmod(b->dir, 0755), 0);
	b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		box_dir(b, dirs[i]);
	}
	box_put(b, "rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\n");
	box_put(b, "src/file", "from the host\n");
	*state = b;
	return 0;
}

int box_free(void **state)
{
	struct box *b = *state;

	assert_int_equal(sys_remove_tree(AT_FDCWD, b->dir), 0);
	close(b->dir_fd);
	free(b);
	return 0;
}

/* JSON in C, with ' for ". */
static char *quoted(const char *text)
{
	char *s = str_dup(text);

	for (char *p = s; s && *p; p++) {
		*p = *p == '\'' ? '"' : *p;
	}
	return s;
}

static const char *config_of(const struct run *run, struct arena *a)
{
	const char *text = arena_printf(
		a,
		"{'ociVersion':'1.0.2','root':{'path':'rootfs'%s},'mounts':[%s],'linux':{"
		"'namespaces':[{'type':'mount'},{'type':'pid'},{'type':'ipc'},{'type':'network'}%s]%s"
		"%s}%s}",
		run->root ? run->root : "", run->mounts ? run->mounts : "",
		run->userns ? ",{'type':'user'}" : "",
		run->userns ? ",'uidMappings':[{'containerID':0,'hostID':200000,'size':65536}],"
			      "'gidMappings':[{'containerID':0,'hostID':200000,'size':65536}]" : "",
		run->linux ? run->linux : "", run->more ? run->more : "");

	assert_non_null(text);
	auto_free char *q = quoted(text);

	return arena_strdup(a, q);
}

static noreturn_fn void report(int fd, int r, const struct err *e, const char *text)
{
	char line[700];

	if (!text) {
		(void)err_text(e, line, sizeof(line));
		text = line;
	}
	if (r != 0) {
		dprintf(fd, "%s", text);
	}
	_exit(r != 0);
}

static noreturn_fn void init(struct rootfs *fs, const struct run *run, int fd)
{
	struct err e = ERR_INIT;
	int r = rootfs_assemble(fs, &e);
	const char *wrong = NULL;

	if (r == 0 && run->before) {
		wrong = run->before();
	}
	r = r < 0 || wrong ? r : rootfs_enter(fs, &e);
	if (r < 0) {
		report(fd, r, &e, NULL);
	}
	wrong = wrong || !run->check ? wrong : run->check();
	report(fd, wrong != NULL, &e, wrong);
}

static noreturn_fn void child(struct rootfs *fs, const struct run *run, int go, int fd)
{
	struct err e = ERR_INIT;
	char c;
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (run->userns) {
		if (unshare(CLONE_NEWUSER) < 0 || write(fd, "u", 1) != 1 ||
		    read(go, &c, 1) != 1 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
			report(fd, 1, &e, "user namespace");
		}
	}
	if (unshare(flags) < 0) {
		report(fd, 1, &e, "unshare");
	}
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		init(fs, run, fd);
	}
	int status = 0;

	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static void map_ids(pid_t pid)
{
	char path[64], text[64];
	static const char *const files[] = { "uid_map", "gid_map" };

	for (size_t i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
		(void)snprintf(text, sizeof(text), "0 %d 65536\n", BASE_ID);
		assert_int_equal(sys_write_file(AT_FDCWD, path, text, strlen(text)), 0);
	}
}

const char *box_run(const struct box *b, const struct run *run)
{
	static char out[800];
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	auto_(rootfs_freep) struct rootfs *fs = NULL;
	const char *text = config_of(run, &a);
	struct err e = ERR_INIT;
	struct oci_spec spec;
	int out_fds[2], go_fds[2], status = 0;

	out[0] = '\0';
	if (json_parse(text, strlen(text), &json_limits_document, "test", &doc, &e) < 0 ||
	    oci_spec_parse(doc, &a, &spec, &e) < 0) {
		fail_msg("config: %s %s", e.field, e.msg);
	}
	struct rootfs_conf conf = { .spec = &spec, .bundle = b->dir, .userns_fd = -1,
				    .no_pivot = run->no_pivot };

	if (rootfs_prepare(&conf, &fs, &e) < 0) {
		return err_text(&e, out, sizeof(out));
	}
	assert_int_equal(pipe2(out_fds, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go_fds, O_CLOEXEC), 0);
	pid_t pid = fork();

	if (pid == 0) {
		child(fs, run, go_fds[0], out_fds[1]);
	}
	close(out_fds[1]);
	if (run->userns) {
		assert_int_equal(read(out_fds[0], out, 1), 1);
		map_ids(pid);
		assert_int_equal(write(go_fds[1], "g", 1), 1);
	}
	size_t n = 0;
	ssize_t got;

	while ((got = read(out_fds[0], out + n, sizeof(out) - 1 - n)) > 0) {
		n += (size_t)got;
	}
	out[n] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0 && n == 0) {
		(void)snprintf(out, sizeof(out), "died: status %x", (unsigned)status);
	}
	close(out_fds[0]);
	close(go_fds[0]);
	close(go_fds[1]);
	return out;
}
