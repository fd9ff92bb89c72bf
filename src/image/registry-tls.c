/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: gathered by the parent, which may read the client's key, and handed to the
 * child as memory files. Nothing here parses a certificate.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "image/registry-private.h"
#include "sys/file.h"

enum { CERTS_MAX = 8 << 20, CERT_DIRS = 3 };

static const char system_bundle[] = "/etc/ssl/certs/ca-certificates.crt";

static int make_fd(const char *name, const struct buf *text, char path[32], struct err *e)
{
	auto_close int fd = sys_memfd_create(name, 0);
	int r = fd < 0 ? fd : sys_write_full(fd, buf_str(text), text->len);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "memory file for certificates");
	}
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return take_fd(&fd);
}

static int add_file(int dir_fd, const char *path, struct buf *b, struct err *e)
{
	int r = sys_read_file(dir_fd, path, CERTS_MAX, b);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "certificates in %s cannot be read", path);
	}
	buf_add_char(b, '\n');
	return buf_failed(b) ? err_nomem(e) : 0;
}

/* What a HOST folder has: *.crt to trust, the first *.cert with *.key as our own. */
static int add_dir(const char *path, struct buf *ca, struct buf *cert, struct buf *key,
		   struct err *e)
{
	auto_close int dir_fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	if (dir_fd < 0) {
		return dir_fd == -ENOENT || dir_fd == -ENOTDIR ? 0 :
			err_set(e, -dir_fd, ERR_HOST, "certificates in %s", path);
	}

	struct dirent **list = NULL;
	int n = scandirat(dir_fd, ".", &list, NULL, alphasort), r = 0;

	for (int i = 0; i < n; i++) {
		char name[NAME_MAX + 1], key_name[NAME_MAX + 1];

		snprintf(name, sizeof(name), "%s", list[i]->d_name);
		free(list[i]);
		if (r < 0) {
			continue;
		}
		if (str_ends(name, ".crt")) {
			r = add_file(dir_fd, name, ca, e);
		} else if (str_ends(name, ".cert") && cert->len == 0) {
			snprintf(key_name, sizeof(key_name), "%.*s.key", (int)strlen(name) - 5,
				 name);
			r = add_file(dir_fd, name, cert, e);
			r = r < 0 ? r : add_file(dir_fd, key_name, key, e);
		}
	}
	free(list);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

static int gather(const char *host, const struct registry_conf *conf, struct buf *ca,
		  struct buf *cert, struct buf *key, struct err *e)
{
	static const char *const usual[CERT_DIRS] = {
		"/etc/holm/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d",
	};
	int r = 0;

	if (conf->cert_file) {
		r = add_file(AT_FDCWD, conf->cert_file, cert, e);
		r = r < 0 ? r : add_file(AT_FDCWD, conf->key_file ? conf->key_file :
							conf->cert_file, key, e);
	}
	if (r == 0 && conf->ca_file) {
		r = add_file(AT_FDCWD, conf->ca_file, ca, e);
	}
	for (size_t i = 0; r == 0 && i < (conf->certs_dir ? 1 : CERT_DIRS); i++) {
		char path[PATH_MAX];

		if (snprintf(path, sizeof(path), "%s/%s", conf->certs_dir ? conf->certs_dir :
			     usual[i], host) < (int)sizeof(path)) {
			r = add_dir(path, ca, cert, key, e);
		}
	}
	if (r == 0 && sys_read_file(AT_FDCWD, system_bundle, CERTS_MAX, ca) < 0 && ca->len == 0 &&
	    !conf->no_verify) {
		return err_set(e, ENOENT, ERR_UNAVAILABLE,
			       "there are no certificates of CAs at %s: "
			       "install ca-certificates, or give the registry's CA with --cacert",
			       system_bundle);
	}
	return r;
}

static void wipe(struct buf *b)
{
	if (b->data) {
		explicit_bzero(b->data, b->len);
	}
	buf_fini(b);
}

int registry__tls_load(const char *host, const struct registry_conf *conf,
		       struct registry__tls *ret, struct err *e)
{
	auto_buf struct buf ca = BUF_INIT, cert = BUF_INIT;
	auto_(wipe) struct buf key = BUF_INIT;
	struct registry__tls t = { .ca_fd = -1, .cert_fd = -1, .key_fd = -1 };
	int r = gather(host, conf, &ca, &cert, &key, e);

	if (r < 0) {
		return r;
	}
	if (ca.len > 0) {
		r = t.ca_fd = make_fd("ca", &ca, t.ca, e);
	}
	if (r >= 0 && cert.len > 0) {
		r = t.cert_fd = make_fd("cert", &cert, t.cert, e);
		if (r >= 0) {
			r = t.key_fd = make_fd("key", &key, t.key, e);
		}
	}
	if (r < 0) {
		registry__tls_fini(&t);
		return r;
	}
	*ret = t;
	return 0;
}

void registry__tls_fini(struct registry__tls *t)
{
	fd_close(&t->ca_fd);
	fd_close(&t->cert_fd);
	fd_close(&t->key_fd);
}
