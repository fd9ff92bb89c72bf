#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for a monitor and its guest: the agent in namespaces of this host, behind a vsock
socket. Takes holm-vmm's options; ends when the agent is told to switch off."""
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def run(*args):
    subprocess.run(args, check=True)


def carry(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for sock, how in ((a, socket.SHUT_RD), (b, socket.SHUT_WR)):
        try:
            sock.shutdown(how)
        except OSError:
            pass


def serve(conn, agent):
    line = b""
    while not line.endswith(b"\n"):
        byte = conn.recv(1)
        if not byte:
            return
        line += byte
    port = int(line.split()[1])
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        guest.connect(agent)
    except OSError:
        conn.close()
        return
    conn.sendall(b"OK %d\n" % port)
    threads = [threading.Thread(target=carry, args=pair, daemon=True)
               for pair in ((conn, guest), (guest, conn))]
    for t in threads:
        t.start()


def main():
    options = {}
    for arg in sys.argv[1:]:
        key, _, value = arg.partition("=")
        options.setdefault(key, []).append(value)
    programs = os.environ["HOLM_PROGRAMS"]
    if os.environ.get("STAND_IN_FAILS"):
        sys.exit("cannot have it: no such engine")
    vsock = options["--vsock"][0].removeprefix("path=")
    root = options["--disk"][0].removeprefix("path=").removesuffix(",ro")
    if args_file := os.environ.get("STAND_IN_ARGS"):
        with open(args_file, "w", encoding="utf-8") as out:
            out.write("\n".join(sys.argv[1:]))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.chdir(os.path.dirname(vsock))        # longer paths than an address holds
    listener.bind(os.path.basename(vsock))
    os.chdir("/")
    listener.listen(64)
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for folder in ("lower", "layer", "root"):
        os.makedirs(f"/run/holm/{folder}")
    run("mount", "-t", "erofs", "-o", "ro", root, "/run/holm/lower")
    run("mount", "-t", "tmpfs", "tmpfs", "/run/holm/layer")
    os.mkdir("/run/holm/layer/upper")
    os.mkdir("/run/holm/layer/work")
    run("mount", "-t", "overlay", "overlay", "/run/holm/root", "-o",
        "lowerdir=/run/holm/lower,upperdir=/run/holm/layer/upper,workdir=/run/holm/layer/work")
    # With its first process all others of the guest end.
    agent = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                              f"{programs}/holm-init", "--listen", "/run/agent", "--oci",
                              f"{programs}/holm-oci", "--dir", "/run/holm"],
                             preexec_fn=lambda: libc.prctl(1, 9))

    def accept():
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=serve, args=(conn, "/run/agent"), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while agent.poll() is None and os.getppid() == parent:
        time.sleep(0.02)
    agent.kill()
    os._exit(agent.wait())


main()
