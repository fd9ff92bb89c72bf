/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/test-kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/test.h"
#include "sys/file.h"
#include "sys/socket.h"
#include "vm/dev/blk.h"
#include "vm/dev/console.h"
#include "vm/dev/net.h"
#include "vm/dev/rng.h"
#include "vm/dev/vsock.h"

enum { NET_HDR = 12, VSOCK_HDR = 44, CID = 3 };

static void on_ask(void *ctx, uint32_t port unused_arg, uint64_t ticket)
{
	struct kind_rig *k = ctx;
	int fds[2] = { -1, -1 };

	if (k->accept && sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds) == 0) {
		fd_close(&k->host_in);
		k->host_in = k->host_out = fds[1];
	}
	vsock_answer_locked(k->r.dev, ticket, fds[0]);
}

static void init_console(struct kind_rig *k, const struct vdev_desc *desc)
{
	int in[2], out[2];

	assert_int_equal(sys_pipe2(in, O_NONBLOCK), 0);
	assert_int_equal(sys_pipe2(out, O_NONBLOCK), 0);
	struct console_conf conf = { .in_fd = in[0], .out_fd = out[1] };

	k->host_in = in[1];
	k->host_out = out[0];
	rig_init(&k->r, desc, &conf);
}

static void init_net(struct kind_rig *k, const struct vdev_desc *desc)
{
	int fds[2];

	assert_int_equal(sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds), 0);
	struct net_conf conf = { .fd = fds[0], .stream = true, .mac = { 2 } };

	k->host_in = k->host_out = fds[1];
	rig_init(&k->r, desc, &conf);
}

/* A listening socket without a name in any folder: the kernel makes one up. */
static int any_listener(void)
{
	const struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(sys_bind(fd, (const struct sockaddr *)&a, sizeof(a.sun_family)), 0);
	assert_int_equal(sys_listen(fd, 16), 0);
	return fd;
}

void kind_connect(struct kind_rig *k)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a);

	if (k->listen_fd < 0) {
		return;
	}
	fd_close(&k->host_in);
	k->host_out = -1;
	assert_int_equal(getsockname(k->listen_fd, (struct sockaddr *)&a, &len), 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	/* Full: as many wait there as may. */
	if (fd >= 0 && sys_connect(fd, (const struct sockaddr *)&a, len) < 0) {
		fd_close(&fd);
	}
	k->host_in = k->host_out = fd;
}

void kind_init(struct kind_rig *k, size_t kind, bool uring)
{
	const struct vdev_desc *desc = vdev_table[kind];

	/* As in the monitor: a peer that is gone is an error of the call. */
	(void)signal(SIGPIPE, SIG_IGN); /* it cannot fail */
	memset(k, 0, sizeof(*k));
	k->kind = kind;
	k->host_in = k->host_out = k->listen_fd = -1;
	switch (desc->virtio_id) {
	case VIRTIO_ID_BLOCK: {
		struct blk_conf conf = { .disk = { .fd = rig_file(1 << 20),
						   .way = uring ? BLOCK_AUTO : BLOCK_THREADS } };

		rig_init(&k->r, desc, &conf);
		break;
	}
	case VIRTIO_ID_CONSOLE:
		init_console(k, desc);
		break;
	case VIRTIO_ID_NET:
		init_net(k, desc);
		break;
	case VIRTIO_ID_RNG: {
		struct rng_conf conf = { .fd = sys_openat(AT_FDCWD, "/dev/urandom", O_RDONLY, 0),
					 .bytes_a_second = 1 << 30 };

		rig_init(&k->r, desc, &conf);
		break;
	}
	case VIRTIO_ID_VSOCK: {
		struct vsock_conf conf = { .guest_cid = CID, .listen_fd = any_listener(),
					   .ask = on_ask, .ctx = k };

		k->listen_fd = sys_dup(conf.listen_fd);
		rig_init(&k->r, desc, &conf);
		break;
	}
	default:
		fail_msg("%s: no rig for it", desc->name);
	}
	k->scratch = rig_alloc(&k->r, 64 << 10);
	k->r.alloc_first = k->r.next_free;
	k->r.alloc_end = KIND_FREE;
}

void kind_fini(struct kind_rig *k)
{
	rig_fini(&k->r);
	if (k->host_out != k->host_in) {
		fd_close(&k->host_out);
	}
	fd_close(&k->host_in);
	fd_close(&k->listen_fd);
}

static void vsock_packet(struct kind_rig *k, uint16_t op, uint32_t len)
{
	struct virtio_vsock_hdr h = { .src_cid = CID, .dst_cid = VSOCK_HOST_CID, .src_port = 7,
				      .dst_port = 8, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op,
				      .len = len, .buf_alloc = 4096 };

	rig_put(&k->r, k->scratch, &h, sizeof(h));
	rig_add(&k->r, VSOCK_TX, &(struct rig_buf){ k->scratch, VSOCK_HDR + len, false }, 1);
	rig_kick(&k->r, VSOCK_TX);
}

void kind_stir(struct kind_rig *k)
{
	static const uint8_t frame[4 + 60] = { 0, 0, 0, 60 };

	switch (vdev_table[k->kind]->virtio_id) {
	case VIRTIO_ID_CONSOLE:
		ignore_result(sys_write(k->host_in, "input\n", 6)); /* full: enough there */
		break;
	case VIRTIO_ID_NET:
		ignore_result(sys_write(k->host_in, frame, sizeof(frame))); /* as above */
		break;
	case VIRTIO_ID_VSOCK:
		vsock_packet(k, VIRTIO_VSOCK_OP_RW, 0);   /* of no connection: a reset comes */
		break;
	default:
		break;
	}
}

void kind_drain(struct kind_rig *k)
{
	static char junk[65536];

	for (unsigned i = 0; k->host_out >= 0 && i < 1000; i++) {
		if (sys_read(k->host_out, junk, sizeof(junk)) <= 0) {
			rig_run(&k->r);
			if (sys_read(k->host_out, junk, sizeof(junk)) <= 0) {
				return;
			}
		}
	}
}

bool kind_takes(const struct kind_rig *k, unsigned queue)
{
	return vdev_table[k->kind]->virtio_id != VIRTIO_ID_VSOCK || queue != VSOCK_EVENT;
}

static void blk_works(struct kind_rig *k)
{
	struct virtio_blk_outhdr h = { .type = VIRTIO_BLK_T_IN };
	uint8_t status = 0xee;

	rig_put(&k->r, k->scratch, &h, sizeof(h));
	rig_add(&k->r, 0, (struct rig_buf[]){ { k->scratch, 16, false },
					      { k->scratch + 4096, 512, true },
					      { k->scratch + 2048, 1, true } }, 3);
	rig_kick(&k->r, 0);
	assert_int_equal(rig_take(&k->r, 0), 513);
	rig_get(&k->r, k->scratch + 2048, &status, 1);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
}

struct want_byte {
	struct kind_rig *k;
	char             byte;
};

/* The last byte that came. */
static bool byte_came(struct rig *r unused_arg, void *ud)
{
	struct want_byte *w = ud;
	char junk[4096];
	ssize_t n = sys_read(w->k->host_out, junk, sizeof(junk));

	return n > 0 && junk[n - 1] == w->byte;
}

static void sends(struct kind_rig *k, unsigned queue, uint32_t len)
{
	struct want_byte w = { .k = k, .byte = '!' };

	kind_drain(k);
	rig_put(&k->r, k->scratch + len - 1, "!", 1);
	rig_add(&k->r, queue, &(struct rig_buf){ k->scratch, len, false }, 1);
	rig_kick(&k->r, queue);
	(void)rig_take(&k->r, queue); /* 0 */
	rig_until(&k->r, byte_came, &w);
}

static void vsock_works(struct kind_rig *k)
{
	struct virtio_vsock_hdr h = { .op = 99 };

	rig_add(&k->r, VSOCK_RX, &(struct rig_buf){ k->scratch + 4096, 4096, true }, 1);
	rig_kick(&k->r, VSOCK_RX);
	vsock_packet(k, VIRTIO_VSOCK_OP_RW, 0);
	(void)rig_take(&k->r, VSOCK_TX); /* 0 */
	assert_int_equal(rig_take(&k->r, VSOCK_RX), VSOCK_HDR);
	rig_get(&k->r, k->scratch + 4096, &h, sizeof(h));
	assert_int_equal(h.op, VIRTIO_VSOCK_OP_RST);
}

void kind_works(struct kind_rig *k)
{
	switch (vdev_table[k->kind]->virtio_id) {
	case VIRTIO_ID_BLOCK:
		blk_works(k);
		break;
	case VIRTIO_ID_CONSOLE:
		sends(k, CONSOLE_TX, 5);
		break;
	case VIRTIO_ID_NET:
		sends(k, NET_TX, NET_HDR + 60);
		break;
	case VIRTIO_ID_RNG:
		rig_add(&k->r, 0, &(struct rig_buf){ k->scratch, 8, true }, 1);
		rig_kick(&k->r, 0);
		assert_int_equal(rig_take(&k->r, 0), 8);
		break;
	case VIRTIO_ID_VSOCK:
		vsock_works(k);
		break;
	default:
		fail();
	}
}

static void (*each)(size_t kind);

static void test_one(void **state)
{
	each((size_t)(uintptr_t)*state);
}

int kinds_each(const char *group, void (*one_kind)(size_t kind))
{
	struct CMUnitTest tests[16];

	assert(vdev_table_len <= ARRAY_LEN(tests));
	each = one_kind;
	for (size_t i = 0; i < vdev_table_len; i++) {
		tests[i] = (struct CMUnitTest){ .name = vdev_table[i]->name, .test_func = test_one,
						.initial_state = (void *)(uintptr_t)i };
	}
	return _cmocka_run_group_tests(group, tests, vdev_table_len, NULL, NULL);
}
