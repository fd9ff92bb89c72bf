# SPDX-License-Identifier: Apache-2.0
"""The daemon's API over its unix socket, without holm."""

import http.client
import json
import os
import pathlib
import signal
import socket
import struct

from lib.wait import PATIENCE, wait_for


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE):
        super().__init__("holm", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiError(Exception):
    def __init__(self, status, error):
        super().__init__(f"{status} {error}")
        self.status, self.code, self.field = status, error["code"], error.get("field", "")
        self.message = error["message"]


class Api:
    def __init__(self, daemon):
        self.daemon = daemon

    def raw(self, method, path, body=None, headers=None, timeout=PATIENCE):
        c = Connection(self.daemon.socket, timeout)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, data

    def call(self, method, path, body=None, **kw):
        status, data = self.raw(method, path, body, **kw)
        doc = json.loads(data) if data else None
        if status >= 400:
            raise ApiError(status, doc["error"])
        return doc

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.call("POST", path, {} if body is None else body, **kw)

    def create(self, name, *command, **spec):
        spec.setdefault("network", "none")
        spec.setdefault("rootfs", self.daemon.rootfs)
        return self.post(f"/v1/instances?name={name}", {"command": list(command), **spec})

    def run(self, name, *command, **spec):
        self.create(name, *command, **spec)
        return self.post(f"/v1/instances/{name}/start")

    def status(self, name):
        return self.get(f"/v1/instances/{name}")["status"]

    def wait_state(self, name, *states, timeout=PATIENCE):
        return wait_for(f"{name} to be {states}", lambda: (s := self.status(name))["state"] in
                        states and s, timeout)

    def logs(self, name, query=""):
        _, data = self.raw("GET", f"/v1/instances/{name}/logs{query}")
        return "".join(text.decode() for _, text in frames(data))

    def wait_log(self, name, text, timeout=PATIENCE):
        """The log, once it holds a text."""
        return wait_for(f"{text!r} in the log of {name}", lambda: text in
                        (log := self.logs(name)) and log, timeout)

    def upgrade(self, path, body=b""):
        """The socket of an attached session, and what came behind the headers."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(PATIENCE)
        s.connect(str(self.daemon.socket))
        s.sendall(b"POST %s HTTP/1.1\r\nHost: holm\r\nConnection: Upgrade\r\n"
                  b"Upgrade: holm-stream\r\nContent-Length: %d\r\n\r\n" %
                  (path.encode(), len(body)) + body)
        head = b""
        while b"\r\n\r\n" not in head:
            got = s.recv(4096)
            assert got, head
            head += got
        head, _, rest = head.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head + rest
        return s, rest


def frames(data):
    while len(data) >= 8:
        kind, length = data[0], struct.unpack(">I", data[4:8])[0]
        yield kind, data[8:8 + length]
        data = data[8 + length:]


def read_session(sock, rest, until=None):
    """All frames to the end of the session (or until a text came): output and exit status."""
    data, out = rest, b""
    while True:
        while len(data) >= 8:
            kind, length = data[0], struct.unpack(">I", data[4:8])[0]
            if len(data) < 8 + length:
                break
            payload, data = data[8:8 + length], data[8 + length:]
            if kind == 16:
                return out, struct.unpack(">i", payload)[0]
            out += payload
            if until and until in out:
                return out, None
        got = sock.recv(65536)
        if not got:
            return out, None
        data += got


def send_stdin(sock, data):
    sock.sendall(struct.pack(">BxxxI", 0, len(data)) + data)


def alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def kill(pid, sig=signal.SIGKILL):
    os.kill(pid, sig)
    wait_for(f"the end of {pid}", lambda: not alive(pid))
