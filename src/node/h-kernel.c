/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of virtual machines; importing is an operation of h-image.c. */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "image/kernel.h"
#include "node/events.h"
#include "node/handlers.h"
#include "node/node.h"
#include "sys/file.h"

static int open_kernels(struct node *n, struct err *e)
{
	auto_free char *path = str_printf("%s/kernels", n->conf.state_dir);
	int r = path ? sys_mkdir_p(AT_FDCWD, path, 0755) : -ENOMEM;
	int fd = r < 0 ? r : sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 ? err_set(e, -fd, ERR_HOST, "the folder of kernels") : fd;
}

static int h_list(struct api_call *c, struct err *e)
{
	auto_strv struct strv names = STRV_INIT;
	auto_free char *dflt = NULL;
	auto_close int fd = open_kernels(c->node, e);
	int r = fd < 0 ? fd : kernel_list(fd, &names, &dflt, e);
	auto_json json_t *list = r < 0 ? NULL : json_array();

	for (size_t i = 0; list && i < names.n; i++) {
		json_t *one = json_pack("{s:s,s:b}", "name", names.v[i], "default",
					str_eq0(dflt, names.v[i]));

		if (json_array_append_new(list, one) < 0) {
			return err_nomem(e);
		}
	}
	if (r < 0 || !list) {
		return r < 0 ? r : err_nomem(e);
	}
	api_reply(c, json_pack("{s:O}", "kernels", list));
	return 0;
}

static int h_remove(struct api_call *c, struct err *e)
{
	auto_close int fd = open_kernels(c->node, e);
	int r = fd < 0 ? fd : kernel_remove(fd, c->params[0], e);

	if (r == 0) {
		node_event(c->node, "kernel", "remove", c->params[0], c->params[0], NULL);
		api_reply(c, json_object());
	}
	return r;
}

static const struct api_route routes[] = {
	{ "GET", "/v1/kernels", "kernel.list", 0, h_list,
	  .doc = "The kernels of virtual machines: {\"kernels\": [{\"name\", \"default\"} ...]}." },
	{ "DELETE", "/v1/kernels/{name}", "kernel.remove", 0, h_remove,
	  .doc = "Remove a kernel; machines that run keep theirs." },
};
const struct api_routes kernel_routes = { routes, ARRAY_LEN(routes) };
