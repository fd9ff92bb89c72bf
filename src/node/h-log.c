/* SPDX-License-Identifier: Apache-2.0 */
#include "node/handlers.h"
const struct api_routes log_routes = { NULL, 0 };
