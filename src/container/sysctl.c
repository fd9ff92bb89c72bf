/* SPDX-License-Identifier: Apache-2.0 */
#include "container/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/file.h"
#include "sys/procfs.h"

enum {
	KEY_MAX = 256,
	VALUE_MAX = 4096, /* what one write into /proc/sys takes */
};

/*
 * What belongs to a namespace. A name that ends in "/" stands for all below it. For the
 * network the kernel itself sees to it that a namespace other than the first shows no file
 * that writes what is common to all (net_sysctl.c, ensure_safe_net_sysctl); the list leaves
 * out families that are not known to keep to that.
 */
static const struct {
	const char *key;
	enum oci_ns ns;
} keys[] = {
	{ "kernel/msgmax",               OCI_NS_IPC },
	{ "kernel/msgmnb",               OCI_NS_IPC },
	{ "kernel/msgmni",               OCI_NS_IPC },
	{ "kernel/msg_next_id",          OCI_NS_IPC },
	{ "kernel/sem",                  OCI_NS_IPC },
	{ "kernel/sem_next_id",          OCI_NS_IPC },
	{ "kernel/shmall",               OCI_NS_IPC },
	{ "kernel/shmmax",               OCI_NS_IPC },
	{ "kernel/shmmni",               OCI_NS_IPC },
	{ "kernel/shm_next_id",          OCI_NS_IPC },
	{ "kernel/shm_rmid_forced",      OCI_NS_IPC },
	{ "kernel/auto_msgmni",          OCI_NS_IPC },
	{ "fs/mqueue/",                  OCI_NS_IPC },
	{ "kernel/domainname",           OCI_NS_UTS },
	{ "kernel/hostname",             OCI_NS_UTS },
	{ "user/",                       OCI_NS_USER },
	{ "net/core/",                   OCI_NS_NETWORK },
	{ "net/ipv4/",                   OCI_NS_NETWORK },
	{ "net/ipv6/",                   OCI_NS_NETWORK },
	{ "net/unix/",                   OCI_NS_NETWORK },
	{ "net/netfilter/",              OCI_NS_NETWORK },
	{ "net/nf_conntrack_max",        OCI_NS_NETWORK },
	{ "net/bridge/",                 OCI_NS_NETWORK },
	{ "net/mpls/",                   OCI_NS_NETWORK },
	{ "net/mptcp/",                  OCI_NS_NETWORK },
	{ "net/sctp/",                   OCI_NS_NETWORK },
	{ "net/smc/",                    OCI_NS_NETWORK },
	{ "net/ieee802154/",             OCI_NS_NETWORK },
};

/*
 * A key as a path below /proc/sys. With dots as separators a slash stands for a dot inside
 * a part, and the other way round with slashes. No part may be empty, "." or "..".
 */
static int key_path(const char *key, char out[KEY_MAX])
{
	size_t n = strlen(key), first = strcspn(key, "./"), start = 0;
	bool swap = key[first] == '.';

	if (n == 0 || n >= KEY_MAX) {
		return -EINVAL;
	}
	for (size_t i = 0; i <= n; i++) {
		char c = key[i];

		if (c != '\0' && ((unsigned char)c <= ' ' || c == 0x7f)) {
			return -EINVAL;
		}
		if (swap && (c == '.' || c == '/')) {
			c = c == '.' ? '/' : '.';
		}
		out[i] = c;
		if (c == '/' || c == '\0') {
			size_t len = i - start;

			if (len == 0 || (len == 1 && out[start] == '.') ||
			    (len == 2 && memcmp(out + start, "..", 2) == 0)) {
				return -EINVAL;
			}
			start = i + 1;
		}
	}
	return 0;
}

static int path_namespace(const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *k = keys[i].key;

		if (str_ends(k, "/") ? str_after(path, k) && *str_after(path, k)
				     : str_eq(path, k)) {
			return (int)keys[i].ns;
		}
	}
	return -EPERM;
}

int sysctl_namespace(const char *key)
{
	char path[KEY_MAX];
	int r = key_path(key, path);

	return r < 0 ? r : path_namespace(path);
}

/* True if a namespace that is joined by path is the one that this process is in. */
static bool is_our_own(const struct oci_namespace *n, enum oci_ns type)
{
	static const char *const files[OCI_NS__COUNT] = {
		[OCI_NS_NETWORK] = "/proc/self/ns/net", [OCI_NS_IPC] = "/proc/self/ns/ipc",
		[OCI_NS_UTS] = "/proc/self/ns/uts", [OCI_NS_USER] = "/proc/self/ns/user",
	};
	struct stat a, b;

	if (!n->path || !*n->path) {
		return false;
	}
	if (!files[type] || sys_fstatat(AT_FDCWD, n->path, &a, 0) < 0 ||
	    sys_fstatat(AT_FDCWD, files[type], &b, 0) < 0) {
		return true; /* not known to be another */
	}
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int check_one(const struct oci_linux *l, const struct jpair *p, struct err *e)
{
	int ns = sysctl_namespace(p->key);
	const struct oci_namespace *own = ns < 0 ? NULL : oci_linux_ns(l, (enum oci_ns)ns);

	if (ns == -EINVAL) {
		return err_field(e, "/linux/sysctl", "'%.80s' is not the name of a kernel parameter",
				 p->key);
	}
	if (ns < 0) {
		return err_field(e, "/linux/sysctl",
				 "%s is not known to belong to a namespace: setting it would "
				 "change the whole host", p->key);
	}
	if (!own || is_our_own(own, (enum oci_ns)ns)) {
		return err_field(e, "/linux/sysctl", "%s needs a %s namespace of the container's own",
				 p->key, oci_ns_names[ns]);
	}
	if (strlen(p->value) >= VALUE_MAX) {
		return err_field(e, "/linux/sysctl", "the value of %s is over %d bytes", p->key,
				 VALUE_MAX - 1);
	}
	return 0;
}

int sysctl_check(const struct oci_linux *l, struct err *e)
{
	int r = 0;

	for (size_t i = 0; l && i < l->sysctl.n && r == 0; i++) {
		r = check_one(l, &l->sysctl.v[i], e);
	}
	return r;
}

int sysctl_apply(int proc_fd, const struct jmap *sysctl, struct err *e)
{
	for (size_t i = 0; i < sysctl->n; i++) {
		const struct jpair *p = &sysctl->v[i];
		char path[KEY_MAX + 8] = "sys/";
		size_t len = strlen(p->value);
		int r = 0;

		/* Checked again: the key becomes a path here. */
		if (key_path(p->key, path + 4) < 0 || path_namespace(path + 4) < 0) {
			return err_field(e, "/linux/sysctl", "%.80s may not be set", p->key);
		}
		r = procfs_write(proc_fd, path, p->value, len);
		if (r == -EIO) {
			return err_set(e, EINVAL, ERR_INVALID,
				       "set %s: the kernel took less than the value's %zu bytes",
				       p->key, len);
		}
		if (r < 0) {
			return err_set(e, -r, ERR_HOST, "set %s to '%.80s'", p->key, p->value);
		}
	}
	return 0;
}
