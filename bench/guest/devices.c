/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stock kernel's drivers: random reads of a disk, a stream to the host. The modules are in
 * /lib of the guest. Natively the disk is the file that $BENCH_DISK names.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

enum { BLOCK = 4096, MIB = 1 << 20, PORT = 7001 };

static void load(const char *name)
{
	char path[64] = "";

	snprintf(path, sizeof(path), "/lib/%s.ko", name);

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)) {
		give_up(path);
	}
	close(fd);
}

void load_drivers(void)
{
	static const char *const names[] = {
		"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
		"virtio_pci", "virtio_blk", "failover", "net_failover", "virtio_net",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		load(names[i]);
	}
}

/* --- The disk --- */

static int   disk = -1;
static off_t blocks;
static void *block;

static void prepare_disk(void)
{
	const char *path = getenv("BENCH_DISK");

	if (!path) {
		path = "/dev/vda";
		load_drivers();
		if (mount("dev", "/dev", "devtmpfs", 0, NULL) && errno != EBUSY) {
			give_up("/dev");
		}
	}
	disk = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (disk < 0 || posix_memalign(&block, BLOCK, BLOCK)) {
		give_up(path);
	}
	blocks = lseek(disk, 0, SEEK_END) / BLOCK;
	if (blocks <= 0) {
		give_up("an empty disk");
	}
}

static uint64_t read_disk(unsigned work)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < work * 100; i++) {
		uint32_t first = 0;

		if (pread(disk, block, BLOCK, random_next() % blocks * BLOCK) != BLOCK) {
			give_up("the disk");
		}
		memcpy(&first, block, sizeof(first));
		sum = sum * 3 + first;
	}
	return sum;
}

/* --- The network: the host's end answers how many bytes it got --- */

static void configure(void)
{
	struct ifreq r = { .ifr_name = "eth0" };
	struct sockaddr_in a = { .sin_family = AF_INET };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, "10.78.0.2", &a.sin_addr);
	memcpy(&r.ifr_addr, &a, sizeof(a));
	if (s < 0 || ioctl(s, SIOCSIFADDR, &r)) {
		give_up("the address");
	}
	inet_pton(AF_INET, "255.255.255.0", &a.sin_addr);
	memcpy(&r.ifr_netmask, &a, sizeof(a));
	if (ioctl(s, SIOCSIFNETMASK, &r)) {
		give_up("the netmask");
	}
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(s, SIOCSIFFLAGS, &r)) {
		give_up("eth0");
	}
	close(s);
}

static int host = -1;

static void prepare_net(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	load_drivers();
	configure();
	inet_pton(AF_INET, "10.78.0.1", &a.sin_addr);
	host = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (host < 0 || connect(host, (const struct sockaddr *)&a, sizeof(a))) {
		give_up("no way to the host");
	}
}

static uint64_t send_net(unsigned work)
{
	static unsigned char data[256 << 10];
	uint64_t left = (uint64_t)work * MIB, got = 0;

	while (left > 0) {
		ssize_t n = write(host, data, left < sizeof(data) ? left : sizeof(data));

		if (n <= 0) {
			give_up("the host");
		}
		left -= (uint64_t)n;
	}
	shutdown(host, SHUT_WR);
	if (read(host, &got, sizeof(got)) != sizeof(got)) {
		give_up("no answer");
	}
	return got;
}

const struct program device_programs[] = {
	{ "disk", read_disk, 50, prepare_disk },
	{ "net", send_net, 128, prepare_net },
	{ 0 },
};
