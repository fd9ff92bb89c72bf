# SPDX-License-Identifier: Apache-2.0
"""What the host says to holm-init, in Python: src/guest/guest-proto.c and docs/formats/."""

import select
import socket
import struct
import time

from lib.wait import PATIENCE

U32, U64, STR, BYTES, BOOL = range(5)

MESSAGES = {
    "hello": (1, {1: ("version_min", U32), 2: ("version_max", U32)}),
    "welcome": (2, {1: ("version", U32), 2: ("program", STR)}),
    "reply": (3, {1: ("errnum", U32), 2: ("code", U32), 3: ("message", STR), 4: ("text", STR),
                  5: ("exit_code", U32)}),
    "setup": (4, {1: ("hostname", STR), 2: ("wall_ns", U64), 3: ("seed", BYTES),
                  4: ("root", STR), 5: ("upper_bytes", U64), 6: ("address", STR),
                  7: ("gateway", STR)}),
    "file": (5, {1: ("number", U32), 2: ("mode", U32), 3: ("data", BYTES)}),
    "create": (6, {1: ("config", STR), 2: ("streams", U32), 3: ("terminal", BOOL),
                   4: ("rows", U32), 5: ("cols", U32)}),
    "start": (7, {}),
    "exec": (8, {1: ("session", STR), 2: ("process", STR), 3: ("streams", U32),
                 4: ("terminal", BOOL), 5: ("rows", U32), 6: ("cols", U32)}),
    "attach": (9, {1: ("session", STR), 2: ("stream", U32)}),
    "signal": (10, {1: ("session", STR), 2: ("signal", U32), 3: ("all", BOOL)}),
    "resize": (11, {1: ("session", STR), 2: ("rows", U32), 3: ("cols", U32)}),
    "stats": (12, {}),
    "pids": (13, {}),
    "exited": (14, {1: ("session", STR), 2: ("exit_code", U32), 3: ("signal", U32),
                    4: ("oom", BOOL)}),
    "poweroff": (15, {}),
}
NAMES = {number: name for name, (number, _) in MESSAGES.items()}
EMPTY = {U32: 0, U64: 0, STR: None, BYTES: b"", BOOL: False}
PACK = {U32: lambda v: struct.pack("<I", v), U64: lambda v: struct.pack("<Q", v),
        BOOL: lambda v: struct.pack("<B", v), STR: str.encode, BYTES: bytes}
UNPACK = {U32: lambda d: int.from_bytes(d, "little"), U64: lambda d: int.from_bytes(d, "little"),
          BOOL: lambda d: d == b"\1", STR: lambda d: d.decode(errors="replace"), BYTES: bytes}


class GuestError(Exception):
    def __init__(self, reply):
        super().__init__(f"{reply['errnum']}: {reply['message']}")
        self.reply = reply


class Guest:
    """One connection of messages."""

    def __init__(self, path, hello=True):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.buffer, self.serial, self.events = b"", 0, []
        if hello:
            self.welcome = self.call("hello", version_min=1, version_max=1)

    def send(self, name, **fields):
        number, table = MESSAGES[name]
        ids = {key: (fid, kind) for fid, (key, kind) in table.items()}
        body = b""
        for key, value in fields.items():
            fid, kind = ids[key]
            data = PACK[kind](value)
            body += struct.pack("<HHI", fid, 0, len(data)) + data
        self.serial += 1
        head = struct.pack("<IHHIHH", 16 + len(body), number, 1, self.serial, 0, 0)
        self.sock.sendall(head + body)
        return self.serial

    def receive(self, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while True:
            if len(self.buffer) >= 16:
                length, number, _, serial, _, _ = struct.unpack_from("<IHHIHH", self.buffer)
                if len(self.buffer) >= length:
                    body, self.buffer = self.buffer[16:length], self.buffer[length:]
                    table = MESSAGES[NAMES[number]][1]
                    out = {key: EMPTY[kind] for key, kind in table.values()}
                    while body:
                        fid, _, size = struct.unpack_from("<HHI", body)
                        key, kind = table[fid]
                        out[key], body = UNPACK[kind](body[8:8 + size]), body[8 + size:]
                    return serial, NAMES[number], out
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("the guest says nothing")
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the guest closed the connection")
            self.buffer += data

    def call(self, name, **fields):
        wanted = self.send(name, **fields)
        while True:
            serial, got, out = self.receive()
            if serial == wanted:
                if got == "reply" and out["errnum"]:
                    raise GuestError(out)
                return out
            self.events.append((got, out))

    def exited(self, session, timeout=PATIENCE):
        """How a session ended."""
        while True:
            for event in self.events:
                if event[0] == "exited" and event[1]["session"] == session:
                    self.events.remove(event)
                    return event[1]
            _, name, out = self.receive(timeout)
            self.events.append((name, out))

    def attach(self, session, stream):
        """A socket that carries one stream."""
        other = Guest(self.path)
        other.call("attach", session=session, stream=stream)
        assert not other.buffer or stream in (1, 2, 3)
        return Stream(other.sock, other.buffer)

    def close(self):
        self.sock.close()


class Stream:
    def __init__(self, sock, early=b""):
        self.sock, self.data = sock, early
        sock.settimeout(20)

    def all(self):
        while part := self.sock.recv(65536):
            self.data += part
        return self.data

    def until(self, text):
        while text not in self.data:
            part = self.sock.recv(65536)
            assert part, self.data
            self.data += part
        return self.data

    def end(self):
        self.sock.shutdown(socket.SHUT_WR)
