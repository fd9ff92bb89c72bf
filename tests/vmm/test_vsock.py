# SPDX-License-Identifier: Apache-2.0
"""Connections between a stock kernel and the host, both ways."""
import json
import os
import socket
import struct
import subprocess
import threading

from lib.daemon import BIN
from lib.vmm import Control, Machine
from lib.vsock import EchoServer, connect, guest_files, guest_setup, receive

BIG = 3 << 20
AT_ONCE = 40

SCRIPT = guest_setup() + f"""
/lib/vsock-tool serve 5000 &
/lib/vsock-tool dial 7000 {AT_ONCE} 16
/lib/vsock-tool dial 7000 2 {BIG >> 10}
/lib/vsock-tool refused 7001
/lib/vsock-tool refused 7002
echo "guest is through"
read line
/lib/vsock-tool dial 7003 8 64
poweroff -f
"""


def counted(client, data):
    """Send it, end, and hear how much the guest got."""
    client.sendall(b"s" + data)
    client.shutdown(socket.SHUT_WR)
    total, want = struct.unpack("<QQ", receive(client, 16))
    assert client.recv(1) == b""
    client.close()
    return (total, want) == (len(data), sum(data))


def many(path, number):
    """Clients at the same time, each with its own bytes."""
    good = [False] * number

    def one(i):
        good[i] = counted(connect(path, 5000), bytes([i + 1]) * (1000 + i))

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(number)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return all(good)


def host_to_guest(path):
    assert connect(path, 5999) is None  # nobody listens
    assert many(path, AT_ONCE)
    assert counted(connect(path, 5000), os.urandom(BIG))
    # From the guest; its half close is seen, and ours ends the rest.
    client = connect(path, 5000)
    client.sendall(b"g" + struct.pack("<Q", BIG))
    assert receive(client, BIG) == b"g" * BIG
    assert client.recv(1) == b""
    client.close()
    # Credit: who does not read holds up himself, and nobody else.
    deaf = connect(path, 5000)
    deaf.sendall(b"d")
    deaf.setblocking(False)
    sent = 0
    while True:
        try:
            sent += deaf.send(bytes(65536))
        except BlockingIOError:
            if counted(connect(path, 5000), b"other"):
                break
    assert 0 < sent < 8 << 20
    slow = connect(path, 5000)
    slow.sendall(b"g" + struct.pack("<Q", BIG))
    assert counted(connect(path, 5000), b"other")
    assert receive(slow, BIG) == b"g" * BIG
    slow.close()
    deaf.close()
    # Away at once, on either side, with bytes unread.
    client = connect(path, 5000)
    client.sendall(b"x" + bytes(70000))
    try:
        assert client.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        pass
    client.close()
    client = connect(path, 5000)
    client.sendall(b"g" + struct.pack("<Q", BIG))
    client.close()
    assert counted(connect(path, 5000), b"still there")


def by_control(folder):
    """The control socket connects without a path, and may take the guest's questions."""
    control = Control(folder / "ctl")
    errnum, _, fds = control.ask("vsock-connect", number=5000)
    assert errnum == 0
    with socket.socket(fileno=fds[0]) as client:
        client.setblocking(True)
        assert counted(client, b"by control")
    assert control.ask("vsock-connect", number=5999)[0] == 111
    assert control.ask("vsock-serve")[0] == 0
    return control


def answer(control, count):
    """Be the host's side for connections to port 7003."""
    for _ in range(count):
        port, ticket = control.question()
        assert port == 7003
        ours, theirs = socket.socketpair()
        assert control.answer(ticket, theirs.fileno())[0] == 0
        theirs.close()
        threading.Thread(target=EchoServer._echo, args=(ours,), daemon=True).start()


def test_both_ways(tmp_path):
    vsock = tmp_path / "vsock"
    (tmp_path / "vsock_7002").write_text("no socket")
    echo = EchoServer(tmp_path / "vsock_7000")
    m = Machine(tmp_path, SCRIPT, "--vsock", f"path={vsock}", "--control", tmp_path / "ctl",
                "--cpus", 2, cmdline="quiet", files=guest_files(tmp_path))
    control = None
    try:
        m.wait_output("guest is through")
        out = m.output()
        assert f"dialled {AT_ONCE} of {AT_ONCE}" in out and "dialled 2 of 2" in out, out
        assert out.count("refused -1 Connection reset by peer") == 2, out
        assert echo.clients == AT_ONCE + 2
        host_to_guest(vsock)
        control = by_control(tmp_path)
        done = subprocess.run([BIN / "holm-vmm", "ctl", "connect", tmp_path / "ctl", "5000"],
                              input=b"eby hand", capture_output=True, timeout=600)
        assert (done.returncode, done.stdout) == (0, b"by hand"), done
        status = json.loads(subprocess.run([BIN / "holm-vmm", "ctl", "status", tmp_path / "ctl"],
                                           capture_output=True, check=True, timeout=600).stdout)
        device = next(d for d in status["devices"] if d["kind"] == "virtio-vsock")
        assert device["faults"] == 0
        with socket.socket(fileno=control.ask("console")[2][0]) as console:
            console.setblocking(True)
            console.sendall(b"\n")
            answer(control, 8)
            text = b""
            while data := console.recv(4096):
                text += data
        assert b"dialled 8 of 8" in text, text
        assert m.wait() == 0, m.output()[-3000:]
    finally:
        if control:
            control.close()
        m.close()
        echo.close()
