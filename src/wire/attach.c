/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/socket.h>

#include "base/def.h"
#include "sys/socket.h"
#include "wire/attach.h"

void attach_refuse(int fd, const char *message, int32_t status)
{
	size_t n = strlen(message);
	uint8_t head[ATTACH_HEAD], end[ATTACH_HEAD + 4];
	struct iovec iov[] = { { head, sizeof(head) }, { (void *)(uintptr_t)message, n },
			       { end, sizeof(end) } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = ARRAY_LEN(iov) };

	attach_head(head, ATTACH_MESSAGE, n);
	attach_head(end, ATTACH_END, 4);
	attach_put_u32(end + ATTACH_HEAD, (uint32_t)status);
	ignore_result(sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL)); /* it may have gone */
}
