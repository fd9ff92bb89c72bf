/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends on an attached stream: the first byte chooses framing, streams and
 * terminal, the rest comes through its socket, cut in two.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/fd.h"
#include "shim/shim.h"
#include "sys/socket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void attach(struct shim *s, uint8_t how, int own_fd)
{
	struct shim_attach m = { .connection = own_fd, .streams = how & 7, .stdin_once = how & 64,
				 .framing = (how >> 3 & 7) % SHIM_FRAMING__COUNT };
	struct err e = ERR_INIT;
	uint64_t id;

	ignore_result(client_add(&s->main, &m, &id, &e)); /* refused: fine, too */
	fd_close(&m.connection);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shim s = { .dir_fd = -1, .listen_fd = -1, .memory_fd = -1 };
	int fds[2];

	if (size < 2 || size > 65536 || ev_init(&s.loop) < 0) {
		return 0;
	}
	list_init(&s.execs);
	list_init(&s.jobs);
	list_init(&s.conns);
	session_init(&s.main, &s);
	s.main.open_stdin = true;
	s.main.terminal = data[0] & 128;
	if (sys_socketpair(SOCK_STREAM | SOCK_NONBLOCK, fds) == 0) {
		size_t cut = 1 + data[1] % (size - 1);

		attach(&s, data[0], fds[1]);
		ignore_result(sock_send_some(fds[0], data + 1, cut, NULL, 0)); /* it may be gone */
		ignore_result(ev_turn(&s.loop, 0)); /* what it does is what is tested */
		if (size > cut + 1) {
			/* As the one before. */
			ignore_result(sock_send_some(fds[0], data + 1 + cut, size - cut - 1, NULL, 0));
		}
		fd_close(&fds[0]);
		for (int i = 0; i < 100 && s.n_clients > 0; i++) {
			ignore_result(ev_turn(&s.loop, 0)); /* as above */
		}
		if (s.main.in_ring.len > SHIM_STDIN_RING) {
			abort();
		}
	}
	session_fini(&s.main);
	ev_timer_stop(&s.collect);
	ev_fini(&s.loop);
	return 0;
}
