/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User namespaces that exist for their mappings alone, as mount_setattr() and overlays take
 * them.
 */
#ifndef CONTAINER_IDMAP_H
#define CONTAINER_IDMAP_H

#include "base/err.h"
#include "json/table.h"

/*
 * A user namespace with these mappings (vectors of struct oci_id_map: container_id is what the
 * file system has, host_id what it is seen as). No process is left in it. Needs CAP_SETUID and
 * CAP_SETGID for all the host ids.
 */
int idmap_userns_open(const struct jvec *uids, const struct jvec *gids, int *ret_fd,
		      struct err *e) must_check;

/* What is written into uid_map or gid_map. NULL when memory is out. */
char *idmap_format(const struct jvec *maps) must_check;

#endif
