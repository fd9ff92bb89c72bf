/* SPDX-License-Identifier: Apache-2.0 */
#include "net/files.h"

#include <string.h>

/* Lines of the host's file that begin with one of these words. */
static void copy_lines(const char *text, const char *const *words, struct buf *ret)
{
	const char *line;
	size_t len;

	while (text && str_split(&text, '\n', &line, &len)) {
		for (size_t i = 0; words[i]; i++) {
			size_t n = strlen(words[i]);

			if (len > n && strncmp(line, words[i], n) == 0 &&
			    (line[n] == ' ' || line[n] == '\t')) {
				buf_add(ret, line, len);
				buf_add_char(ret, '\n');
			}
		}
	}
}

void net_resolv_conf(const struct net_resolv *in, struct buf *ret)
{
	static const char *const servers[] = { "nameserver", NULL };
	static const char *const others[] = { "search", "domain", NULL };
	static const char *const options[] = { "options", NULL };

	if (in->n_search > 0) {
		buf_add_str(ret, "search");
		for (size_t i = 0; i < in->n_search; i++) {
			buf_printf(ret, " %s", in->search[i]);
		}
		buf_add_char(ret, '\n');
	} else {
		copy_lines(in->host_conf, others, ret);
	}
	for (size_t i = 0; i < in->n_dns; i++) {
		buf_printf(ret, "nameserver %s\n", in->dns[i]);
	}
	if (in->n_dns == 0 && in->server) {
		buf_printf(ret, "nameserver %s\n", in->server);
	} else if (in->n_dns == 0) {
		copy_lines(in->host_conf, servers, ret);
	}
	copy_lines(in->host_conf, options, ret);
}

void net_hosts(const char *hostname, const char *domainname, const char *const *extra,
	       size_t n_extra, struct buf *ret)
{
	buf_add_str(ret, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	buf_add_str(ret, "127.0.1.1\t");
	if (domainname) {
		buf_printf(ret, "%s.%s ", hostname, domainname);
	}
	buf_printf(ret, "%s\n", hostname);
	for (size_t i = 0; i < n_extra; i++) {
		const char *colon = strchr(extra[i], ':');

		if (colon) {
			buf_printf(ret, "%s\t%.*s\n", colon + 1, (int)(colon - extra[i]), extra[i]);
		}
	}
}
