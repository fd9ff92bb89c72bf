# SPDX-License-Identifier: Apache-2.0
"""Vsock between a stock kernel and the host: the guest's side, and host programs."""
import os
import pathlib
import re
import socket
import subprocess
import threading

from lib.vmm import PATIENCE, module

MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]
TOOL = pathlib.Path(__file__).resolve().parent.parent / "vmm" / "guest" / "vsock-tool.c"


def guest_files(folder, extra=()):
    """What the initramfs needs: the drivers, and the program that runs there."""
    tool = pathlib.Path(folder) / "vsock-tool"
    subprocess.run([os.environ.get("CC", "gcc").split()[-1], "-static", "-O1", "-o", str(tool),
                    str(TOOL)], check=True)
    return [*[module(m) for m in [*MODULES, *extra]], ("lib/vsock-tool", tool.read_bytes())]


def guest_setup(extra=()):
    """The shell lines that load it."""
    return "mount -t devtmpfs dev /dev\nchmod +x /lib/vsock-tool\n" + \
        f"for m in {' '.join([*MODULES, *extra])}; do insmod /lib/$m.ko; done\n"


def connect(path, port):
    """A connection to the guest, or None if nobody listens there."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    client.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        if not byte:
            client.close()
            return None
        line += byte
    assert re.fullmatch(rb"OK \d+\n", line)
    return client


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, (len(data), size)
        data += part
    return data


class EchoServer:
    """Gives back what each of its clients sends."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(512)
        self.clients = 0
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.clients += 1
            threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    @staticmethod
    def _echo(client):
        with client:
            while data := client.recv(65536):
                client.sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
