# SPDX-License-Identifier: Apache-2.0
"""Network namespaces with a tap device, for guests."""
import contextlib
import ctypes
import os
import subprocess


@contextlib.contextmanager
def network(name):
    """This thread, and what it starts, in that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert libc.setns(there, 0x40000000) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(before, 0x40000000) == 0
        os.close(there)
        os.close(before)


@contextlib.contextmanager
def tap_namespace(purpose, address):
    """A namespace of this process with tap0, which has the address; gives the namespace's name."""
    name = f"holm-{purpose}-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in ("tuntap add dev tap0 mode tap vnet_hdr", f"addr add {address}/24 dev tap0",
                        "link set tap0 up"):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
