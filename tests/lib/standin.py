#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A shim that does what a test needs and holm-shim never does: give it as holmd's --shim.

It greets the daemon and takes clients. On SIGTERM, or when it is asked to start the instance,
it says why not on standard error and ends. With a file `liar` in the daemon's folder it says that
the process of that number is the instance's.
"""
import os
import pathlib
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lib.shim import Peer  # noqa: E402


def on_term(*_):
    os.write(2, b"holm-shim: a story\nholm-shim: error: no fish is left: Too many open files\n")
    os._exit(1)


def main():
    signal.signal(signal.SIGTERM, on_term)
    folder = next(a.partition("=")[2] for a in sys.argv if a.startswith("--dir="))
    liar = pathlib.Path(folder).parent.parent.parent / "liar"   # a process that is not ours
    listen = socket.socket(fileno=3)
    listen.setblocking(True)
    sock, _ = listen.accept()
    sock.setblocking(True)
    peer = Peer(sock)
    while True:
        serial, name, fields, _fds = peer.receive()
        if name in ("signal", "shutdown"):
            peer.send("reply", serial, errnum=0)
            os._exit(0)
        if name == "hello":
            peer.send("welcome", serial, version=1, epoch=fields["epoch"],
                      instance=fields["instance"], pid=os.getpid())
            peer.send("status", 0, state=0)
        elif name == "start" and liar.exists():
            peer.send("status", 0, state=2, pid=int(liar.read_text()))
            peer.send("reply", serial, errnum=0, value=1)
        elif name == "start":
            on_term()
        else:
            peer.send("reply", serial, errnum=0, value=1)


main()
