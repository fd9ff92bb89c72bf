/* SPDX-License-Identifier: Apache-2.0 */
#include "image/unpack.h"

#include <errno.h>

int unpack_layer(const struct unpack_job *job, struct unpack_result *ret, struct err *e)
{
	(void)job;
	(void)ret;
	return err_set(e, ENOSYS, ERR_UNSUPPORTED, "unpacking");
}
