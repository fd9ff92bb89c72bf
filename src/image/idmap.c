/* SPDX-License-Identifier: Apache-2.0 */
#include "image/idmap.h"

#include <stdio.h>

#include "sys/mount.h"
#include "sys/userns.h"

struct map_text {
	char text[48];
};

static struct map_text format_map(const struct idmap *map)
{
	struct map_text t;

	(void)snprintf(t.text, sizeof(t.text), "0 %u %u\n", map->base, map->count);
	return t;
}

int idmap_write(pid_t pid, const struct idmap *map)
{
	struct map_text t = format_map(map);

	return sys_userns_write(pid, t.text, t.text);
}

int idmap_userns(const struct idmap *map, int *ret_fd, struct err *e)
{
	struct map_text t = format_map(map);
	int r = sys_userns_mapped(t.text, t.text, ret_fd);

	return r < 0 ? err_set(e, -r, ERR_HOST, "id mapping of %u ids from %u", map->count,
			       map->base) : 0;
}

int idmap_clone(int dir_fd, int userns_fd, uint64_t attrs)
{
	struct mount_attr attr = { .attr_set = attrs, .propagation = MS_PRIVATE };

	if (userns_fd >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)userns_fd;
	}
	return sys_open_tree_attr(dir_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH, &attr);
}
