# SPDX-License-Identifier: Apache-2.0
"""The stock kernel's own drivers on every virtio device, with the monitor confined."""
import hashlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest
from lib.netns import network, tap_namespace
from lib.vmm import PATIENCE, Machine, module, stock_kernel
from lib.vsock import connect

MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk", "failover", "net_failover", "virtio_net", "virtio_console", "virtio-rng",
           "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]
HOST, GUEST = "10.77.0.1", "10.77.0.2"
PAYLOAD = 1 << 20

ECHO = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char b[65536];
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_port = 5000,
				 .svm_cid = VMADDR_CID_ANY };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (argc != 2 || bind(s, (void *)&a, sizeof(a)) || listen(s, 8)) {
		return 1;
	}
	puts("vsock: listening");
	fflush(stdout);
	for (int i = atoi(argv[1]); i > 0; i--) {
		int c = accept(s, NULL, NULL);

		for (ssize_t n; (n = read(c, b, sizeof(b))) > 0;) {
			for (ssize_t w, at = 0; at < n; at += w) {
				w = write(c, b + at, n - at);
				if (w <= 0) {
					return 1;
				}
			}
		}
		close(c);
	}
	return 0;
}
"""

SCRIPT = f"""
mount -t devtmpfs dev /dev
mkdir /mnt /tmp
chmod +x /lib/vecho
for m in {' '.join(MODULES)}; do insmod /lib/$m.ko || echo "failed: $m"; done
echo "serial: $(cat /sys/block/vda/serial)"
mount -t ext4 /dev/vda /mnt && cat /mnt/hello
dd if=/dev/urandom of=/mnt/big bs=64k count=64 2>/dev/null
sum=$(md5sum < /mnt/big)
sync; echo 3 > /proc/sys/vm/drop_caches
[ "$sum" = "$(md5sum < /mnt/big)" ] && echo "disk: same"
echo "from the guest" > /mnt/guest
umount /mnt && echo "disk: unmounted"
dd if=/dev/vdb of=/dev/null bs=4k count=1 2>/dev/null && echo "second disk: read"
dd if=/dev/zero of=/dev/vdb bs=4k count=1 2>/dev/null || echo "second disk: read only"
echo "rng: $(head -c 32 /dev/hwrng | wc -c) $(cat /sys/class/misc/hw_random/rng_current)"
ip addr add {GUEST}/24 dev eth0; ip link set eth0 up
ping -c 2 -W 100 {HOST} > /dev/null && echo "net: ping"
head -c {PAYLOAD} /dev/urandom > /tmp/x
echo "net: sent $(md5sum < /tmp/x)"
nc {HOST} 7001 < /tmp/x
echo "net: got $(nc {HOST} 7002 < /dev/null | md5sum)"
echo "hvc: hello" > /dev/hvc0
/lib/vecho 3
poweroff -f
"""


@pytest.fixture
def netns():
    with tap_namespace("virtio", HOST) as name:
        yield name


class Server:
    """Takes all that one client sends, and gives all that another one reads."""

    def __init__(self, gift):
        self.gift, self.received = gift, b""
        self.listeners = [socket.create_server((HOST, port)) for port in (7001, 7002)]
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.take, self.give)]
        for listener in self.listeners:
            listener.settimeout(PATIENCE)
        for thread in self.threads:
            thread.start()

    def take(self):
        client = self.listeners[0].accept()[0]
        with client:
            while len(self.received) < PAYLOAD and (data := client.recv(65536)):
                self.received += data

    def give(self):
        client = self.listeners[1].accept()[0]
        with client:
            client.sendall(self.gift)

    def close(self):
        for listener in self.listeners:
            listener.close()


def make_disk(path, folder):
    source = folder / "disk-files"
    source.mkdir()
    (source / "hello").write_text("from the host\n")
    with open(path, "wb") as out:
        out.truncate(32 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(source), str(path)], check=True)


def echo_program(folder):
    (folder / "vecho.c").write_text(ECHO)
    subprocess.run([os.environ.get("CC", "gcc").split()[-1], "-static", "-O1", "-o",
                    str(folder / "vecho"), str(folder / "vecho.c")], check=True)
    return "lib/vecho", (folder / "vecho").read_bytes()


def wait_text(path, text, process):
    end = time.monotonic() + PATIENCE
    while text not in path.read_text(errors="replace"):
        assert process.poll() is None and time.monotonic() < end, path.read_text(errors="replace")
        time.sleep(0.1)


def echoed(path, size):
    data, got = os.urandom(size), b""
    client = connect(path, 5000)

    def send():
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while part := client.recv(65536):
        got += part
    sender.join()
    client.close()
    return got == data


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no tap devices here")
def test_stock_drivers(tmp_path, netns):
    disk, second, serial, vsock = (tmp_path / n for n in ("disk", "second", "serial", "vsock"))
    make_disk(disk, tmp_path)
    second.write_bytes(os.urandom(1 << 20))
    untouched = hashlib.md5(second.read_bytes()).hexdigest()
    serial.write_text("")
    gift = os.urandom(PAYLOAD)
    # Before the network is left: the kernel's package may have to be fetched.
    files = [*[module(name) for name in MODULES], echo_program(tmp_path)]
    kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
    with network(netns):
        server = Server(gift)
        m = Machine(tmp_path, SCRIPT, "--console", "virtio", "--serial-file", serial,
                    "--disk", f"path={disk},serial=first", "--disk", f"path={second},ro",
                    "--net", "tap=tap0", "--vsock", f"path={vsock}", cmdline="quiet",
                    files=files, kernel=kernel)
    try:
        wait_text(serial, "vsock: listening", m.process)
        assert connect(vsock, 9) is None
        for size in (1, 70000, 1 << 20):
            assert echoed(vsock, size)
        assert m.wait() == 0, serial.read_text()
    finally:
        m.close()
        server.close()
    text = serial.read_text().replace("\r", "")
    for line in ("serial: first", "from the host", "disk: same", "disk: unmounted",
                 "second disk: read", "second disk: read only", "rng: 32 virtio_rng.0",
                 "net: ping"):
        assert f"{line}\n" in text, text
    assert "failed:" not in text
    sent = re.search(r"net: sent ([0-9a-f]+)", text)[1]
    assert hashlib.md5(server.received).hexdigest() == sent
    assert re.search(r"net: got ([0-9a-f]+)", text)[1] == hashlib.md5(gift).hexdigest()
    assert "hvc: hello" in m.output()
    subprocess.run(["e2fsck", "-fn", str(disk)], check=True, capture_output=True)
    got = subprocess.run(["debugfs", "-R", "cat guest", str(disk)], capture_output=True, text=True)
    assert got.stdout == "from the guest\n"
    assert hashlib.md5(second.read_bytes()).hexdigest() == untouched


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("passt"), reason="passt is not installed")
@pytest.mark.parametrize("dns", [None, "169.254.1.1"])
def test_user_network(tmp_path, dns):
    """passt gives an address and answers for the way out; names are found where it says, or we."""
    script = "\n".join([
        f"for m in {' '.join(MODULES)}; do insmod /lib/$m.ko; done",
        "mkdir -p /etc; ip link set eth0 up",
        "printf '#!/bin/busybox sh\\n[ \"$1\" = bound ] && echo \"lease: $ip $router $dns\" && "
        "ip addr add $ip/24 dev eth0 && ip route add default via $router && "
        "echo nameserver $dns > /etc/resolv.conf\\n' > /lib/dhcp",
        "chmod +x /lib/dhcp",
        "udhcpc -i eth0 -n -q -t 20 -s /lib/dhcp > /dev/console 2>&1",
        f"echo nameserver {dns} > /etc/resolv.conf" if dns else "",
        "for i in 1 2 3 4 5 6; do nslookup deb.debian.org && break; done",
        "poweroff -f", ""])
    m = Machine(tmp_path, script, "--net", f"user,dns={dns}" if dns else "user", cmdline="quiet",
                files=[module(name) for name in MODULES])
    try:
        assert m.wait() == 0, m.output()[-3000:]
        assert re.search(r"lease: \d+\.\d+\.\d+\.\d+ \d+\.\d+\.\d+\.\d+", m.output()), m.output()
        assert re.search(r"Name:\s+(\S*debian\S*)\s+Address", m.output()), m.output()
    finally:
        m.close()
