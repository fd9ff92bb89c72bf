/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "container/user.h"
#include "image/idmap.h"
#include "image/rootfs.h"
#include "net/files.h"
#include "net/pasta.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/proc.h"

static int private_mounts(struct err *e)
{
	int r = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);

	return r < 0 ? err_set(e, -r, ERR_HOST, "make the mounts private") : 0;
}

static int open_dir(const char *path, mode_t mode, struct err *e)
{
	int r = sys_mkdir_p(AT_FDCWD, path, mode);

	r = r < 0 ? r : sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	return r < 0 ? err_set(e, -r, ERR_HOST, "the folder %s", path) : r;
}

/* An image's layers with the instance's own folder on top. */
static int mount_image(struct instance *i, struct arena *a, const struct oci_image_run **ret_run,
		       struct err *e)
{
	auto_free char *state = instance_state_dir(i);
	auto_free char *images = str_printf("%s/images", i->node->conf.state_dir);
	auto_store struct store *s = NULL;
	struct store_image img;

	if (!state || !images) {
		return err_nomem(e);
	}
	int r = store_open(images, 0, &s, e);

	r = r < 0 ? r : store_image_load(s, i->status.image_digest, a, &img, e);
	if (r == 0 && !store_image_unpacked(s, &img)) {
		r = store_image_unpack(s, &img, NULL, NULL, e);
	}
	auto_free char *root = str_printf("%s/root", state);
	auto_close int upper = r < 0 || !root ? -1 : open_dir(root, 0700, e);

	if (r < 0 || upper < 0) {
		return r < 0 ? r : upper;
	}
	auto_close int upper_rd = sys_openat(upper, ".", O_RDONLY | O_DIRECTORY, 0);

	if (upper_rd < 0) {
		return err_set(e, -upper_rd, ERR_HOST, "%s", root);
	}
	/* A machine has its own users: it gets the image's ids as they are. */
	bool vm = i->spec.isolation == ISOLATION_VM;
	struct rootfs_opts o = {
		.ids = { .base = (uint32_t)i->status.id_base,
			 .count = vm ? 0 : (uint32_t)i->status.id_count },
		.upper_fd = upper_rd,
		.no_sync = i->spec.auto_remove,
	};

	/* Copying before the start mounts it too; see rootfs.h. */
	if (o.no_sync && (r = sys_remove_tree(upper_rd, "work/work")) < 0) {
		return err_set(e, -r, ERR_HOST, "%s", root);
	}

	*ret_run = img.config.config;
	return rootfs_mount(s, &img, &o, e);
}

/* A folder of the host, seen through the instance's ids. */
static int mount_rootfs(struct instance *i, struct err *e)
{
	bool vm = i->spec.isolation == ISOLATION_VM;
	struct idmap map = { .base = (uint32_t)i->status.id_base,
			     .count = vm ? 0 : (uint32_t)i->status.id_count };
	auto_close int userns = -1;
	auto_close int dir = sys_openat(AT_FDCWD, i->spec.rootfs, O_PATH | O_DIRECTORY, 0);

	if (dir < 0) {
		ignore_result(err_set(e, -dir, ERR_INVALID, "%s", i->spec.rootfs));
		err_prefix_field(e, "/rootfs");
		return dir;
	}
	int r = map.count ? idmap_userns(&map, &userns, e) : 0;

	if (r < 0) {
		return r;
	}
	r = idmap_clone(dir, userns, 0);
	return r < 0 ? err_set(e, -r, r == -EINVAL || r == -EOPNOTSUPP ? ERR_UNSUPPORTED : ERR_HOST,
			       "%s as a root: its file system cannot map ids; use --userns host",
			       i->spec.rootfs) : r;
}

int bundle_mount_root(struct instance *i, const char *target, struct arena *a,
		      const struct oci_image_run **ret_run, struct err *e)
{
	const struct oci_image_run *run = NULL;
	auto_close int target_fd = open_dir(target, 0700, e);

	if (target_fd < 0) {
		return target_fd;
	}
	auto_close int mnt = i->spec.image ? mount_image(i, a, &run, e) : mount_rootfs(i, e);

	if (mnt < 0) {
		return mnt;
	}
	int r = rootfs_attach(mnt, target_fd, e);

	if (r == 0) {
		r = sys_openat(AT_FDCWD, target, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "%s", target) : r;
	}
	if (r >= 0 && ret_run) {
		*ret_run = run;
	}
	return r;
}

int bundle_user(int root_fd, const char *text, const struct jstrv *groups, struct arena *a,
		struct bundle_user *ret, struct err *e)
{
	struct user u;
	auto_close int root = sys_openat(root_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	int r = root < 0 ? err_set(e, -root, ERR_HOST, "the instance's root") :
		user_resolve(root, text ? text : "", a, &u, e);

	for (size_t i = 0; r == 0 && i < groups->n; i++) {
		r = user_add_group(root, groups->v[i], a, &u, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = (struct bundle_user){ .user = { .uid = u.uid, .gid = u.gid }, .home = u.home };
	ret->user.additional_gids.v = arena_alloc(a, u.n_groups + 1, sizeof(uint64_t));
	if (!ret->user.additional_gids.v) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < u.n_groups; i++) {
		ret->user.additional_gids.v[ret->user.additional_gids.n++] = u.groups[i];
	}
	return 0;
}

/* --- Files --- */

static int write_file(int dir_fd, const char *name, const struct buf *b,
		      const struct instance *i, struct err *e)
{
	if (buf_failed(b)) {
		return err_nomem(e);
	}
	auto_close int fd = sys_openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
	int r = fd < 0 ? fd : sys_write_full(fd, b->data, b->len);

	r = r < 0 ? r : sys_fchmod(fd, 0644);
	if (r == 0 && i->status.id_count) {
		r = sys_fchownat(fd, "", (uid_t)i->status.id_base, (gid_t)i->status.id_base,
				 AT_EMPTY_PATH);
	}
	return r < 0 ? err_set(e, -r, ERR_HOST, "write %s", name) : 0;
}

static const char *hostname_of(const struct instance *i, char *space, size_t n)
{
	if (i->spec.hostname) {
		return i->spec.hostname;
	}
	snprintf(space, n, "%.12s", i->id);
	return space;
}

static int write_files(const struct instance *i, int dir_fd, struct err *e)
{
	const struct instance_spec *s = &i->spec;
	char space[16];
	const char *hostname = hostname_of(i, space, sizeof(space));
	auto_buf struct buf host_conf = BUF_INIT;
	auto_buf struct buf b = BUF_INIT;

	ignore_result(sys_read_file(AT_FDCWD, "/etc/resolv.conf", 65536, &host_conf));
	/* without one there is none in the instance */
	struct net_resolv in = {
		.host_conf = buf_str(&host_conf),
		.server = s->network == NETWORK_USER ? PASTA_DNS : NULL,
		.dns = s->dns.v, .n_dns = s->dns.n,
		.search = s->dns_search.v, .n_search = s->dns_search.n,
	};

	if (s->network != NETWORK_NONE || s->dns.n > 0) {
		net_resolv_conf(&in, &b);
	}
	int r = write_file(dir_fd, "resolv.conf", &b, i, e);

	buf_reset(&b);
	net_hosts(hostname, s->domainname, s->extra_hosts.v, s->extra_hosts.n, &b);
	r = r < 0 ? r : write_file(dir_fd, "hosts", &b, i, e);
	buf_reset(&b);
	buf_printf(&b, "%s\n", hostname);
	return r < 0 ? r : write_file(dir_fd, "hostname", &b, i, e);
}

static int write_config(const struct oci_spec *spec, int dir_fd, struct err *e)
{
	auto_json json_t *doc = jtable_format(&oci_spec_table, spec);
	auto_free char *text = doc ? json_text(doc) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	auto_close int fd = sys_openat(dir_fd, "config.json", O_WRONLY | O_CREAT | O_TRUNC |
				       O_NOFOLLOW, 0600);
	int r = fd < 0 ? fd : sys_write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, -r, ERR_HOST, "write config.json") : 0;
}

static uint64_t hard_limit(int resource)
{
	struct rlimit l;

	return sys_prlimit(0, resource, NULL, &l) == 0 ? l.rlim_max : 1024;
}

static int prepare(const struct bundle_job *job, struct arena *a, struct err *e)
{
	struct instance *i = job->instance;
	const struct node_conf *conf = &i->node->conf;
	const struct oci_image_run *run = NULL;
	char *bundle = arena_printf(a, "%s/bundle", job->dir);
	char *target = arena_printf(a, "%s/bundle/rootfs", job->dir);
	struct bundle_user user;
	struct oci_spec spec;
	int r = bundle && target ? private_mounts(e) : err_nomem(e);

	auto_close int dir_fd = r < 0 ? -1 : open_dir(bundle, 0700, e);

	if (r < 0 || dir_fd < 0) {
		return r < 0 ? r : dir_fd;
	}
	auto_close int root_fd = bundle_mount_root(i, target, a, &run, e);

	if (root_fd < 0) {
		return root_fd;
	}
	const char *name = i->spec.user ? i->spec.user : run ? run->user : NULL;

	r = bundle_user(root_fd, name, &i->spec.group_add, a, &user, e);
	r = r < 0 ? r : write_files(i, dir_fd, e);
	struct bundle_in in = {
		.instance = i, .run = run, .user = &user, .dir = bundle, .init = conf->init,
		.cgroup_parent = conf->cgroup_parent, .systemd_cgroup = conf->systemd_cgroup,
		.nofile_max = hard_limit(RLIMIT_NOFILE), .nproc_max = hard_limit(RLIMIT_NPROC),
	};

	r = r < 0 ? r : bundle_spec(&in, a, &spec, e);
	return r < 0 ? r : write_config(&spec, dir_fd, e);
}

int bundle_prepare(void *ud, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;

	return prepare(ud, &a, e);
}
