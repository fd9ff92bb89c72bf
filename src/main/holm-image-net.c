/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of holm-image that speak with registries. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "json/json.h"
#include "main/holm-image.h"
#include "sys/file.h"

void conf_of(const struct net_opts *n, struct registry_conf *ret)
{
	*ret = (struct registry_conf){
		.plain_hosts = &n->insecure, .plain = n->plain, .no_verify = n->no_verify,
		.ca_file = n->ca, .cert_file = n->cert, .key_file = n->key,
		.certs_dir = n->certs_dir, .auth_file = n->auth_file, .user = n->user,
		.parallel = (unsigned)n->parallel, .retries = (unsigned)n->retries,
		.retry_ms = (unsigned)(n->retry_ns / NS_PER_MS),
		.stall_seconds = (unsigned)(n->stall_ns / NS_PER_SEC),
		.chunk_bytes = n->chunk_bytes,
	};
}

int cmd_pull(const struct cmd_call *call, struct err *e)
{
	const struct pull_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct registry_conf conf;
	int r = 0;

	conf_of(&o->net, &conf);
	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		struct ref ref;

		r = ref_parse(call->args[i], &ref, e);
	}
	r = r < 0 ? r : session_open(&s, call, STORE_CREATE, e);
	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		char manifest[OCI_DIGEST_MAX];
		struct ref ref;

		r = ref_parse(call->args[i], &ref, e);
		r = r < 0 ? r : registry_pull(s.store, &ref, o->add.platform, &conf, s.progress,
					      manifest, e);
		if (r == 0 && o->add.unpack) {
			r = session_unpack(&s, manifest, e);
		}
		if (r == 0) {
			puts(manifest);
		}
	}
	return session_close(&s, r, e);
}
