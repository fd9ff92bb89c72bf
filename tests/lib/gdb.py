# SPDX-License-Identifier: Apache-2.0
"""gdb itself, and its protocol, for a test that wants to know the answers themselves."""
import socket
import subprocess

from lib.vmm import PATIENCE


def gdb(target, *commands):
    """What it prints when it is let at a machine with these commands."""
    argv = ["gdb", "-q", "-batch", "-nx", "-ex", "set architecture i386:x86-64", "-ex",
            f"target remote {target}"]
    for c in commands:
        argv += ["-ex", c]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE)
    return done.stdout + done.stderr


def ask(sock, text):
    """One packet, and the answer's text."""
    sock.sendall(b"$%s#%02x" % (text.encode(), sum(text.encode()) & 255))
    got = b""
    while not (b"#" in got and len(got.split(b"#", 1)[1]) >= 2):
        data = sock.recv(4096)
        assert data, got
        got += data
    return got.split(b"$", 1)[1].split(b"#")[0].decode()


def memory(path, *places, size=8):
    """What a running guest has at each place; it is held for a moment."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        assert ask(sock, "?").startswith("T05")
        data = [bytes.fromhex(ask(sock, f"m{at:x},{size:x}")) for at in places]
        assert all(len(d) == size for d in data) and ask(sock, "D") == "OK"
        return data
