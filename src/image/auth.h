/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials for registries, in the file that docker, podman and skopeo share:
 * ~/.docker/config.json.
 *
 *	{ "auths": { "host:5000": { "auth": "base64(user:password)" },
 *	             "other.example": { "identitytoken": "..." } },
 *	  "credsStore": "secretservice",
 *	  "credHelpers": { "gcr.example": "gcloud" } }
 *
 * A helper NAME is the program docker-credential-NAME, found along PATH. It is run with a
 * short environment of its own, is given ten seconds, and its output is bounded.
 */
#ifndef IMAGE_AUTH_H
#define IMAGE_AUTH_H

#include "base/err.h"
#include "base/str.h"
#include "image/ref.h"

struct credential {
	char *username;        /* NULL: none */
	char *password;
	char *identity_token;  /* an OAuth2 refresh token; used instead of a password */
};

#define CREDENTIAL_INIT { .username = NULL, .password = NULL, .identity_token = NULL }
#define auto_credential auto_(credential_fini)

/* Overwrites what it frees. */
void credential_fini(struct credential *c);

/* What a config file says about one host. */
struct auth_entry {
	struct credential cred;
	char             *helper;  /* NULL: no helper is named */
};

#define AUTH_ENTRY_INIT { .cred = CREDENTIAL_INIT, .helper = NULL }
#define auto_auth_entry auto_(auth_entry_fini)
void auth_entry_fini(struct auth_entry *entry);

/*
 * Find `host` ("docker.io" and "host:port" as in struct ref) and, below it, `path` in the
 * text of a config file. The longest key that fits wins ("host/a/b" before "host"); a
 * helper of the host wins over "auths", and these over "credsStore".
 * Returns 1 if *ret was filled, 0 if the file does not speak of the host.
 */
int auth_parse(const char *text, size_t len, const char *host, const char *path,
	       struct auth_entry *ret, struct err *e) must_check;

/*
 * The path of the file: `given`, or $REGISTRY_AUTH_FILE, or $DOCKER_CONFIG/config.json, or
 * ~/.docker/config.json. NULL when memory is out or there is no home.
 */
char *auth_file_path(const char *given) must_check;

/* Look up, asking a helper where one is named. 1 found, 0 none (also without a file). */
int auth_lookup(const char *file, const char *host, const char *path, struct credential *ret,
		struct err *e) must_check;

/*
 * Keep or forget the credentials of a host: by the helper that the file names for it, else
 * in the file, which is replaced whole, mode 0600; all else in it stays. auth_erase()
 * returns 0 also if there were none; *ret_found says.
 */
int auth_store(const char *file, const char *host, const struct credential *cred,
	       struct err *e) must_check;
int auth_erase(const char *file, const char *host, bool *ret_found, struct err *e) must_check;

#endif
