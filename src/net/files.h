/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that tell an instance about its network: resolv.conf, hosts. Made by us; nothing of
 * the image's is read.
 */
#ifndef NET_FILES_H
#define NET_FILES_H

#include "base/str.h"

/*
 * @host_conf     text of the host's resolv.conf, or NULL
 * @server        name server to give instead of the host's, or NULL
 * @dns, @search  as wished; n of them; they come instead of the others
 */
struct net_resolv {
	const char        *host_conf;
	const char        *server;
	const char *const *dns;
	size_t             n_dns;
	const char *const *search;
	size_t             n_search;
};

void net_resolv_conf(const struct net_resolv *in, struct buf *ret);

/* `extra`: "NAME:ADDRESS" each. */
void net_hosts(const char *hostname, const char *domainname, const char *const *extra,
	       size_t n_extra, struct buf *ret);

#endif
