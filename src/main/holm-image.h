/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the program holm-image share. */
#ifndef MAIN_HOLM_IMAGE_H
#define MAIN_HOLM_IMAGE_H

#include "base/cmd.h"
#include "image/progress.h"
#include "image/registry.h"
#include "image/store.h"

struct top_opts {
	const char *store;
	uint64_t    progress_fd;   /* 0: none */
	bool        quiet;
};

/* Members that several commands have; each command's options begin with what it needs. */
struct net_opts {
	bool        plain, no_verify;
	const char *ca, *cert, *key, *certs_dir, *auth_file, *user;
	struct strv insecure;
	uint64_t    parallel, retries, retry_ns, stall_ns, chunk_bytes;
};

struct add_opts {   /* load, import, bootstrap, pull */
	const char *name, *platform;
	bool        unpack;
};

struct pull_opts { struct net_opts net; struct add_opts add; };
struct load_opts { struct add_opts add; };
struct config_opts {
	const char *user, *workdir;
	struct strv env, labels, cmd, entrypoint;
};
struct import_opts {
	struct config_opts config;
	const char        *platform, *comment;
	int                compress;
	bool               unpack;
};
struct bootstrap_opts {
	struct config_opts config;
	const char        *name, *platform, *variant, *mirror;
	struct strv        include;
	int                compress;
	bool               unpack;
};
struct save_opts { int format; const char *output; };
struct list_opts { bool json, quiet, no_trunc; };
struct rm_opts { bool force; };
struct prune_opts { bool all, json; };
struct gc_opts { bool no_wait, partials, json; };
struct tags_opts { struct net_opts net; bool json, catalog; };
struct login_opts { struct net_opts net; const char *username, *password; bool password_stdin; };

/* What every command works with. */
struct session {
	struct store    *store;
	struct progress *progress;
	bool             json;   /* progress goes to a descriptor as JSON */
};

/* Open the store (flags as of store_open()) and the progress. */
int  session_open(struct session *s, const struct cmd_call *call, unsigned flags,
		  struct err *e) must_check;
/* Close; tells a failure to whoever reads the progress. Returns r. */
int  session_close(struct session *s, int r, const struct err *e);

/* Unpack an image of the store, by the digest of its manifest, with progress. */
int  session_unpack(struct session *s, const char *manifest, struct err *e) must_check;

void conf_of(const struct net_opts *n, struct registry_conf *ret);

int cmd_pull(const struct cmd_call *call, struct err *e);
int cmd_push(const struct cmd_call *call, struct err *e);
int cmd_tags(const struct cmd_call *call, struct err *e);
int cmd_login(const struct cmd_call *call, struct err *e);
int cmd_logout(const struct cmd_call *call, struct err *e);
int cmd_load(const struct cmd_call *call, struct err *e);
int cmd_import(const struct cmd_call *call, struct err *e);
int cmd_bootstrap(const struct cmd_call *call, struct err *e);
int cmd_save(const struct cmd_call *call, struct err *e);
int cmd_ls(const struct cmd_call *call, struct err *e);
int cmd_inspect(const struct cmd_call *call, struct err *e);
int cmd_history(const struct cmd_call *call, struct err *e);
int cmd_tag(const struct cmd_call *call, struct err *e);
int cmd_rm(const struct cmd_call *call, struct err *e);
int cmd_prune(const struct cmd_call *call, struct err *e);
int cmd_gc(const struct cmd_call *call, struct err *e);
int cmd_verify(const struct cmd_call *call, struct err *e);
int cmd_unpack(const struct cmd_call *call, struct err *e);

extern const struct cmd image_cmd_kernel;

#endif
