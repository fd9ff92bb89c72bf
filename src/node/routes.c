/* SPDX-License-Identifier: Apache-2.0 */
#include "node/handlers.h"

const struct api_routes *const api_tables[] = {
	&instance_routes, &life_routes, &exec_routes, &log_routes, &stats_routes, &copy_routes,
	&image_routes, &kernel_routes, &system_routes, NULL,
};
