/* SPDX-License-Identifier: Apache-2.0 */
#include "container/idmap.h"

#include <inttypes.h>

#include "base/str.h"
#include "oci/spec.h"
#include "sys/userns.h"

char *idmap_format(const struct jvec *maps)
{
	auto_buf struct buf b = BUF_INIT;
	const struct oci_id_map *v = maps->v;

	buf_add_str(&b, "");
	for (size_t i = 0; i < maps->n; i++) {
		buf_printf(&b, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", v[i].container_id,
			   v[i].host_id, v[i].size);
	}
	return buf_take(&b);
}

int idmap_userns_open(const struct jvec *uids, const struct jvec *gids, int *ret_fd,
		      struct err *e)
{
	auto_free char *uid_map = idmap_format(uids);
	auto_free char *gid_map = idmap_format(gids);

	if (!uid_map || !gid_map) {
		return err_nomem(e);
	}
	int r = sys_userns_mapped(uid_map, gid_map, ret_fd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "make a user namespace for an id mapping") : 0;
}
