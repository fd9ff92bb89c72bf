/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-image: images in and out of the store, for holmd and by hand.
 */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "image/archive.h"
#include "image/cancel.h"
#include "main/holm-image.h"
#include "sys/file.h"
#include "sys/sys.h"

int session_open(struct session *s, const struct cmd_call *call, unsigned flags, struct err *e)
{
	const struct top_opts *top = call->top;
	enum progress_mode mode = top->quiet ? PROGRESS_SILENT : progress_mode_for_person();
	int fd = STDERR_FILENO;

	if (top->progress_fd != 0) {
		s->json = true;
		mode = PROGRESS_JSON;
		fd = (int)top->progress_fd;
		if (sys_fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
			return err_set(e, EBADF, ERR_INVALID, "--progress-fd: %d is not open", fd);
		}
	}
	s->progress = progress_new(mode, fd);
	if (!s->progress) {
		return err_nomem(e);
	}

	int r = store_open(top->store, flags, &s->store, e);

	return r == -ENOENT && !(flags & STORE_CREATE) ?
		err_set(e, ENOENT, ERR_NOT_FOUND, "there is no image store at %s: pull, load, import "
			"and bootstrap make one", top->store) : r;
}

int session_close(struct session *s, int r, const struct err *e)
{
	if (r < 0) {
		progress_error(s->progress, e);
	}
	progress_free(s->progress);
	store_close(s->store);
	if (cancel_signal() && r < 0) {
		return 128 + cancel_signal();
	}
	return r;
}

struct unpacking {
	struct progress          *progress;
	const struct store_image *img;
	size_t                   *items;
};

static void on_unpack(const struct store_progress *p, void *ud)
{
	const struct unpacking *u = ud;
	bool end = p->done_bytes >= p->all_bytes;

	progress_set(u->progress, u->items[p->layer], end ? PROGRESS_DONE : PROGRESS_ACTIVE,
		     p->done_bytes);
}

int session_unpack(struct session *s, const char *manifest, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_image img;
	int r = store_image_load(s->store, manifest, &a, &img, e);

	if (r < 0 || store_image_unpacked(s->store, &img)) {
		return r;
	}

	struct unpacking u = { .progress = s->progress, .img = &img,
			       .items = arena_alloc(&a, img.n_layers + 1, sizeof(size_t)) };

	if (!u.items) {
		return err_nomem(e);
	}
	for (size_t i = 0; i < img.n_layers; i++) {
		const struct oci_desc *d = oci_layer(&img.manifest, i);

		u.items[i] = progress_add(s->progress, d->digest, "unpack", d->size);
	}

	/* The store bears an end at any moment; its children end with us. */
	(void)signal(SIGINT, SIG_DFL);    /* known signals: cannot fail */
	(void)signal(SIGTERM, SIG_DFL);
	return store_image_unpack(s->store, &img, on_unpack, &u, e);
}

#define IN(m) offsetof(struct top_opts, m)
static const struct cmd_opt top_opts[] = {
	{ 0, "store", CMD_STR, IN(store), "DIR", "folder of the image store",
	  .dflt = "/var/lib/holm/images", .complete = CMD_COMPLETE_DIR },
	{ 0, "progress-fd", CMD_UINT, IN(progress_fd), "N",
	  "write progress as JSON lines to this descriptor", .min = 1, .max = 65535 },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "no progress" },
};
#undef IN

#define ADD_OPTS(s, name_help) \
	{ 0, "name", CMD_STR, offsetof(s, add) + offsetof(struct add_opts, name), "NAME", name_help }, \
	{ 0, "platform", CMD_STR, offsetof(s, add) + offsetof(struct add_opts, platform), "OS/ARCH", \
	  "instead of this host's, as \"linux/arm64\"" }, \
	{ 0, "unpack", CMD_FLAG, offsetof(s, add) + offsetof(struct add_opts, unpack), NULL, \
	  "unpack the layers as well" }

#define NET(s, m) (offsetof(s, net) + offsetof(struct net_opts, m))
#define NET_OPTS(s) \
	{ 0, "plain-http", CMD_FLAG, NET(s, plain), NULL, "speak to the registry without TLS" }, \
	{ 0, "insecure-registry", CMD_STRV, NET(s, insecure), "HOST", \
	  "a registry to speak to without TLS" }, \
	{ 0, "tls-no-verify", CMD_FLAG, NET(s, no_verify), NULL, "take any certificate" }, \
	{ 0, "cacert", CMD_STR, NET(s, ca), "FILE", "trust these CAs too", \
	  .complete = CMD_COMPLETE_FILE }, \
	{ 0, "cert", CMD_STR, NET(s, cert), "FILE", "our certificate", \
	  .complete = CMD_COMPLETE_FILE }, \
	{ 0, "key", CMD_STR, NET(s, key), "FILE", "its key", .complete = CMD_COMPLETE_FILE }, \
	{ 0, "certs-dir", CMD_STR, NET(s, certs_dir), "DIR", \
	  "folder with a folder of certificates for each HOST[:PORT]; the usual ones are " \
	  "/etc/holm/certs.d, /etc/containers/certs.d and /etc/docker/certs.d", \
	  .complete = CMD_COMPLETE_DIR }, \
	{ 0, "authfile", CMD_STR, NET(s, auth_file), "FILE", \
	  "credentials; the usual one is ~/.docker/config.json", .complete = CMD_COMPLETE_FILE }, \
	{ 0, "creds", CMD_STR, NET(s, user), "USER:PASSWORD", \
	  "credentials; other users of this host can see them, so prefer \"login\"" }, \
	{ 0, "retries", CMD_UINT, NET(s, retries), "N", "tries after the first (5)", .max = 100 }, \
	{ 0, "retry-delay", CMD_DURATION, NET(s, retry_ns), "TIME", "the first pause (500ms)" }, \
	{ 0, "stall-timeout", CMD_DURATION, NET(s, stall_ns), "TIME", \
	  "give up a connection that is silent for so long (30s)" }

static const struct cmd_opt pull_opts[] = {
	{ 0, "platform", CMD_STR, offsetof(struct pull_opts, add.platform), "OS/ARCH",
	  "instead of this host's, as \"linux/arm64\"" },
	{ 0, "unpack", CMD_FLAG, offsetof(struct pull_opts, add.unpack), NULL,
	  "unpack the layers as well" },
	{ 0, "parallel", CMD_UINT, NET(struct pull_opts, parallel), "N", "layers at a time (4)",
	  .max = 32 },
	NET_OPTS(struct pull_opts),
};

static const struct cmd_opt push_opts[] = {
	{ 0, "chunk-size", CMD_SIZE, NET(struct pull_opts, chunk_bytes), "BYTES",
	  "push larger blobs in parts of this size (32m)" },
	NET_OPTS(struct pull_opts),
};

static const struct cmd_opt tags_opts[] = {
	{ 0, "json", CMD_FLAG, offsetof(struct tags_opts, json), NULL, "print JSON" },
	{ 0, "catalog", CMD_FLAG, offsetof(struct tags_opts, catalog), NULL,
	  "the argument is a host: list its repositories" },
	NET_OPTS(struct tags_opts),
};

static const struct cmd_opt login_opts[] = {
	{ 'u', "username", CMD_STR, offsetof(struct login_opts, username), "NAME", "user name" },
	{ 'p', "password", CMD_STR, offsetof(struct login_opts, password), "PASSWORD",
	  "other users of this host can see it, so prefer --password-stdin" },
	{ 0, "password-stdin", CMD_FLAG, offsetof(struct login_opts, password_stdin), NULL,
	  "read the password from standard input" },
	NET_OPTS(struct login_opts),
};

static const struct cmd_opt logout_opts[] = {
	{ 0, "authfile", CMD_STR, NET(struct login_opts, auth_file), "FILE",
	  "credentials; the usual one is ~/.docker/config.json", .complete = CMD_COMPLETE_FILE },
};

static const struct cmd_opt load_opts[] = {
	ADD_OPTS(struct load_opts, "name the one image of the archive so"),
};

#define CONF(s, m) (offsetof(s, config) + offsetof(struct config_opts, m))
#define CONFIG_OPTS(s) \
	{ 0, "cmd", CMD_STRV, CONF(s, cmd), "WORD", \
	  "command of the image; given once for each word" }, \
	{ 0, "entrypoint", CMD_STRV, CONF(s, entrypoint), "WORD", \
	  "what the command is given to; once for each word" }, \
	{ 'e', "env", CMD_STRV, CONF(s, env), "NAME=VALUE", "variable of the environment" }, \
	{ 'l', "label", CMD_STRV, CONF(s, labels), "KEY=VALUE", "label of the image" }, \
	{ 'u', "user", CMD_STR, CONF(s, user), "USER[:GROUP]", "who the command runs as" }, \
	{ 'w', "workdir", CMD_STR, CONF(s, workdir), "PATH", "folder the command starts in" }

static const struct cmd_opt import_opts[] = {
	{ 0, "platform", CMD_STR, offsetof(struct import_opts, platform), "OS/ARCH",
	  "what the files are for, if not this host's" },
	{ 'm', "message", CMD_STR, offsetof(struct import_opts, comment), "TEXT",
	  "line in the image's history", .dflt = "holm-image import" },
	{ 0, "compress", CMD_CHOICE, offsetof(struct import_opts, compress), "HOW",
	  "of the layer in the store", .choices = archive_compress_names, .dflt = "keep" },
	{ 0, "unpack", CMD_FLAG, offsetof(struct import_opts, unpack), NULL,
	  "unpack the layer as well" },
	CONFIG_OPTS(struct import_opts),
};

#define IN(m) offsetof(struct bootstrap_opts, m)
static const struct cmd_opt bootstrap_opts[] = {
	{ 0, "name", CMD_STR, IN(name), "NAME", "instead of debian:SUITE" },
	{ 0, "variant", CMD_STR, IN(variant), "VARIANT",
	  "which packages: minbase, apt, essential, required, buildd, important, standard",
	  .dflt = "minbase" },
	{ 0, "include", CMD_STRV, IN(include), "PACKAGE,...", "install these as well" },
	{ 0, "mirror", CMD_STR, IN(mirror), "URL", "instead of this host's apt sources" },
	{ 0, "platform", CMD_STR, IN(platform), "OS/ARCH", "instead of this host's" },
	{ 0, "compress", CMD_CHOICE, IN(compress), "HOW", "of the layer in the store",
	  .choices = archive_compress_names, .dflt = "zstd" },
	{ 0, "unpack", CMD_FLAG, IN(unpack), NULL, "unpack the layer as well" },
	CONFIG_OPTS(struct bootstrap_opts),
};
#undef IN

static const struct cmd_opt save_opts[] = {
	{ 'o', "output", CMD_STR, offsetof(struct save_opts, output), "FILE",
	  "where to; standard output without it", .complete = CMD_COMPLETE_FILE },
	{ 0, "format", CMD_CHOICE, offsetof(struct save_opts, format), "FORMAT",
	  "kind of archive", .choices = archive_format_names, .dflt = "oci" },
};

#define IN(m) offsetof(struct list_opts, m)
static const struct cmd_opt ls_opts[] = {
	{ 0, "json", CMD_FLAG, IN(json), NULL, "print JSON" },
	{ 'q', "quiet", CMD_FLAG, IN(quiet), NULL, "print ids only" },
	{ 0, "no-trunc", CMD_FLAG, IN(no_trunc), NULL, "cut nothing off" },
};
static const struct cmd_opt history_opts[] = {
	{ 0, "json", CMD_FLAG, IN(json), NULL, "print JSON" },
	{ 0, "no-trunc", CMD_FLAG, IN(no_trunc), NULL, "cut nothing off" },
};
#undef IN

static const struct cmd_opt rm_opts[] = {
	{ 'f', "force", CMD_FLAG, offsetof(struct rm_opts, force), NULL,
	  "take the names even of an image in use" },
};

static const struct cmd_opt prune_opts[] = {
	{ 'a', "all", CMD_FLAG, offsetof(struct prune_opts, all), NULL,
	  "every image that is not in use, named or not" },
	{ 0, "json", CMD_FLAG, offsetof(struct prune_opts, json), NULL, "print JSON" },
};

#define IN(m) offsetof(struct gc_opts, m)
static const struct cmd_opt gc_opts[] = {
	{ 0, "no-wait", CMD_FLAG, IN(no_wait), NULL, "fail where another process adds an image" },
	{ 0, "partials", CMD_FLAG, IN(partials), NULL, "broken downloads of the last week too" },
	{ 0, "json", CMD_FLAG, IN(json), NULL, "print JSON" },
};
#undef IN

#define OPTS(table, type) .opts = table, .n_opts = ARRAY_LEN(table), .opts_size = sizeof(type)

static const struct cmd *const commands[] = {
	&(const struct cmd){ .name = "pull", .group = "Bring images in", .args = "IMAGE...",
	  .min_args = 1, .max_args = CMD_ANY, OPTS(pull_opts, struct pull_opts), .run = cmd_pull,
	  .help = "fetch images from registries",
	  .examples = "holm-image pull debian:12\nholm-image pull --plain-http localhost:5000/a/b" },
	&(const struct cmd){ .name = "load", .group = "Bring images in", .args = "FILE|FOLDER|-", .min_args = 1,
	  .max_args = 1, OPTS(load_opts, struct load_opts), .run = cmd_load,
	  .complete = CMD_COMPLETE_FILE,
	  .help = "add the images of an archive: an OCI layout, or what \"docker save\" wrote",
	  .examples = "holm-image load debian.tar\nskopeo copy docker://debian oci:debian:12 && "
		      "holm-image load debian --name debian:12" },
	&(const struct cmd){ .name = "import", .group = "Bring images in", .args = "FILE|- [NAME]",
	  .min_args = 1, .max_args = 2, OPTS(import_opts, struct import_opts), .run = cmd_import,
	  .complete = CMD_COMPLETE_FILE, .help = "make an image from a tar of a root file system",
	  .examples = "holm-image import root.tar me/app:1 --cmd /bin/app" },
	&(const struct cmd){ .name = "bootstrap", .group = "Bring images in",
	  .args = "debian[:SUITE]", .min_args = 1, .max_args = 1,
	  OPTS(bootstrap_opts, struct bootstrap_opts), .run = cmd_bootstrap,
	  .help = "make an image of Debian with mmdebstrap",
	  .examples = "holm-image bootstrap debian:bookworm --include=iproute2,procps" },
	&(const struct cmd){ .name = "save", .group = "Bring images out", .args = "IMAGE...",
	  .min_args = 1, .max_args = CMD_ANY, OPTS(save_opts, struct save_opts), .run = cmd_save,
	  .help = "write images to an archive",
	  .examples = "holm-image save --format docker debian:12 | docker load" },
	&(const struct cmd){ .name = "push", .group = "Bring images out", .args = "IMAGE [NAME]",
	  .min_args = 1, .max_args = 2, OPTS(push_opts, struct pull_opts), .run = cmd_push,
	  .help = "send an image to a registry, under its own name or another",
	  .examples = "holm-image push debian:12 registry.example/me/debian:12" },
	&(const struct cmd){ .name = "tags", .group = "Registries", .args = "NAME", .min_args = 1,
	  .max_args = 1, OPTS(tags_opts, struct tags_opts), .run = cmd_tags,
	  .help = "list the tags of a repository" },
	&(const struct cmd){ .name = "login", .group = "Registries", .args = "[HOST]",
	  .max_args = 1, OPTS(login_opts, struct login_opts), .run = cmd_login,
	  .help = "try credentials and keep them",
	  .text = "They are kept where docker, podman and skopeo look for them too, or by the "
		  "helper that the file names." },
	&(const struct cmd){ .name = "logout", .group = "Registries", .args = "[HOST]",
	  .max_args = 1, OPTS(logout_opts, struct login_opts), .run = cmd_logout,
	  .help = "forget credentials" },
	&(const struct cmd){ .name = "ls", .group = "Look and manage", OPTS(ls_opts, struct list_opts), .run = cmd_ls,
	  .help = "list images" },
	&(const struct cmd){ .name = "inspect", .group = "Look and manage", .args = "IMAGE...", .min_args = 1,
	  .max_args = CMD_ANY, .run = cmd_inspect, .help = "print all that is known of images as JSON" },
	&(const struct cmd){ .name = "history", .group = "Look and manage", .args = "IMAGE", .min_args = 1,
	  .max_args = 1, OPTS(history_opts, struct list_opts), .run = cmd_history,
	  .help = "show how an image came to be" },
	&(const struct cmd){ .name = "tag", .group = "Look and manage", .args = "IMAGE NAME", .min_args = 2,
	  .max_args = 2, .run = cmd_tag, .help = "give an image one more name" },
	&(const struct cmd){ .name = "rm", .group = "Look and manage", .args = "IMAGE...", .min_args = 1,
	  .max_args = CMD_ANY, OPTS(rm_opts, struct rm_opts), .run = cmd_rm,
	  .help = "take names away, and images that have no other" },
	&(const struct cmd){ .name = "prune", .group = "Look and manage", OPTS(prune_opts, struct prune_opts),
	  .run = cmd_prune, .help = "remove images without a name that nothing uses" },
	&(const struct cmd){ .name = "gc", .group = "Look and manage", OPTS(gc_opts, struct gc_opts), .run = cmd_gc,
	  .help = "remove files that no image needs" },
	&(const struct cmd){ .name = "verify", .group = "Look and manage", .run = cmd_verify,
	  .help = "hash every file of the store again" },
	&(const struct cmd){ .name = "unpack", .group = "Look and manage", .args = "IMAGE...", .min_args = 1,
	  .max_args = CMD_ANY, .run = cmd_unpack, .help = "unpack the layers of images" },
	&image_cmd_kernel,
};

static const struct cmd root = {
	.name = "holm-image", .help = "container images: registries, archives and the store",
	.opts = top_opts, .n_opts = ARRAY_LEN(top_opts), .opts_size = sizeof(struct top_opts),
	.sub = commands, .n_sub = ARRAY_LEN(commands),
	.text = "Does the image work of holmd, and can be used by hand. Bytes from registries and "
		"archives are parsed by a child process without privileges.",
};

int main(int argc, char **argv)
{
	log_setup("holm-image", STDERR_FILENO, LOG_FORMAT_PLAIN, LOG_LEVEL_NOTICE);
	(void)setlocale(LC_CTYPE, "C.UTF-8");   /* names in archives; without it they stay bytes */
	(void)signal(SIGPIPE, SIG_IGN);         /* a known signal: cannot fail */
	cancel_setup();
#ifdef HOLM_FAULTS
	if (getenv("HOLM_FAULT") && sys_fault_parse(getenv("HOLM_FAULT")) < 0) {
		fprintf(stderr, "holm-image: HOLM_FAULT cannot be understood\n");
		return 2;
	}
#endif
	return cmd_main(&root, argc, argv, NULL);
}
