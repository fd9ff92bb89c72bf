# SPDX-License-Identifier: Apache-2.0
"""What the daemon says to holm-shim, in Python: src/wire/shim-proto.c and docs/formats/."""

import array
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

from lib.wait import PATIENCE

U32, U64, STR, BYTES, STRV, BOOL, FD = range(7)

MESSAGES = {
    "hello": (1, {1: ("version_min", U32), 2: ("version_max", U32), 3: ("epoch", U64),
                  4: ("instance", STR)}),
    "welcome": (2, {1: ("version", U32), 2: ("epoch", U64), 3: ("instance", STR),
                    4: ("pid", U32), 5: ("program", STR)}),
    "reply": (3, {1: ("errnum", U32), 2: ("code", U32), 3: ("message", STR), 4: ("text", STR),
                  5: ("value", U64), 6: ("exit_code", U32), 7: ("reason", U32)}),
    "status": (4, {1: ("state", U32), 2: ("pid", U32), 3: ("exit_code", U32),
                   4: ("signal", U32), 5: ("oom", BOOL), 6: ("started_ns", U64),
                   7: ("exited_ns", U64), 8: ("error", STR), 9: ("log_lost_records", U64),
                   10: ("log_lost_bytes", U64), 11: ("attached", U32), 12: ("dropped", U32),
                   13: ("reason", U32), 14: ("errnum", U32), 15: ("code", U32)}),
    "get-status": (5, {}),
    "start": (6, {1: ("rows", U32), 2: ("cols", U32), 3: ("network", STRV),
                  4: ("timeout_ms", U32)}),
    "signal": (7, {1: ("signal", U32), 2: ("all", BOOL), 3: ("exec", STR)}),
    "pause": (8, {}),
    "resume": (9, {}),
    "update": (10, {1: ("resources", STR)}),
    "exec": (11, {1: ("exec", STR), 2: ("process", STR), 3: ("terminal", BOOL),
                  4: ("open_stdin", BOOL), 5: ("rows", U32), 6: ("cols", U32),
                  7: ("connection", FD), 8: ("streams", U32), 9: ("framing", U32),
                  10: ("preread", BYTES), 11: ("stdin_once", BOOL), 12: ("stall_ms", U32)}),
    "attach": (12, {1: ("connection", FD), 2: ("exec", STR), 3: ("streams", U32),
                    4: ("framing", U32), 5: ("preread", BYTES), 6: ("stdin_once", BOOL),
                    7: ("stall_ms", U32)}),
    "attach-end": (13, {1: ("attachment", U64), 2: ("errnum", U32)}),
    "resize": (14, {1: ("rows", U32), 2: ("cols", U32), 3: ("exec", STR)}),
    "close-stdin": (15, {1: ("exec", STR)}),
    "exec-status": (16, {1: ("exec", STR), 2: ("running", BOOL), 3: ("pid", U32),
                         4: ("exit_code", U32), 5: ("signal", U32), 6: ("started_ns", U64),
                         7: ("exited_ns", U64)}),
    "stats": (17, {}),
    "pids": (18, {}),
    "ack": (19, {1: ("exec", STR)}),
    "shutdown": (20, {1: ("kill", BOOL)}),
}
NAMES = {number: name for name, (number, _) in MESSAGES.items()}
REASONS = ["none", "command-not-found", "command-not-executable", "runtime", "network", "timeout",
           "shim"]
STATES = ["idle", "creating", "running", "paused", "exited", "gone", "failed"]
DEFAULTS = {U32: 0, U64: 0, STR: None, BYTES: b"", STRV: [], BOOL: False, FD: None}


class ShimError(Exception):
    def __init__(self, reply):
        super().__init__(f"{os.strerror(reply['errnum'])}: {reply['message']}")
        self.errnum = reply["errnum"]
        self.reply = reply


def encode(name, serial, fields, version=1):
    number, table = MESSAGES[name]
    ids = {key: (fid, kind) for fid, (key, kind) in table.items()}
    body, fds = b"", []
    for key, value in fields.items():
        fid, kind = ids[key]
        values = value if kind == STRV else [value]
        for v in values:
            if kind == FD:
                data = struct.pack("<B", len(fds))
                fds.append(v)
            else:
                data = {U32: lambda: struct.pack("<I", v), U64: lambda: struct.pack("<Q", v),
                        BOOL: lambda: struct.pack("<B", v), STR: lambda: v.encode(),
                        STRV: lambda: v.encode(), BYTES: lambda: v}[kind]()
            body += struct.pack("<HHI", fid, 0, len(data)) + data
    head = struct.pack("<IHHIHH", 16 + len(body), number, version, serial, len(fds), 0)
    return head + body, fds


def decode(name, body):
    _, table = MESSAGES[name]
    out = {key: (list(DEFAULTS[kind]) if kind == STRV else DEFAULTS[kind])
           for key, kind in table.values()}
    while body:
        fid, zero, length = struct.unpack_from("<HHI", body)
        data, body = body[8:8 + length], body[8 + length:]
        assert zero == 0 and len(data) == length
        if fid not in table:
            continue
        key, kind = table[fid]
        if kind in (U32, U64):
            out[key] = int.from_bytes(data, "little")
        elif kind == BOOL:
            out[key] = data == b"\1"
        elif kind == STR:
            out[key] = data.decode(errors="replace")
        elif kind == STRV:
            out[key].append(data.decode(errors="replace"))
        elif kind == BYTES:
            out[key] = data
    return out


class Peer:
    """The shim's end of a connection, for stand-ins: frames as they come, with descriptors."""

    def __init__(self, sock, version=1):
        self.sock, self.version, self.buffer, self.fds = sock, version, b"", []

    def send(self, name, serial, **fields):
        self.sock.sendall(encode(name, serial, fields, self.version)[0])

    def receive(self):
        """One frame: (serial, name, fields, descriptors); EOFError at the end."""
        while True:
            if len(self.buffer) >= 16:
                length, number, _, serial, n_fds, _ = struct.unpack_from("<IHHIHH", self.buffer)
                if len(self.buffer) >= length:
                    body, self.buffer = self.buffer[16:length], self.buffer[length:]
                    fds, self.fds = self.fds[:n_fds], self.fds[n_fds:]
                    name = NAMES[number]
                    return serial, name, decode(name, body), fds
            data, fds, _, _ = socket.recv_fds(self.sock, 65536, 8)
            if not data:
                raise EOFError("the daemon closed the connection")
            self.buffer += data
            self.fds += fds


class Connection:
    """One connection of a daemon. Events are kept in order in .events."""

    def __init__(self, folder, instance, epoch=1, hello=True, versions=(1, 2)):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fd = os.open(folder, os.O_PATH)
        try:
            self.sock.connect(f"/proc/self/fd/{fd}/shim.sock")
        finally:
            os.close(fd)
        self.serial, self.buffer, self.events, self.replies = 0, b"", [], {}
        self.version = versions[1]
        if hello:
            self.welcome = self.call("hello", version_min=versions[0], version_max=versions[1],
                                     epoch=epoch, instance=instance)
            self.version = self.welcome["version"]

    def close(self):
        self.sock.close()

    def send(self, name, **fields):
        self.serial += 1
        data, fds = encode(name, self.serial, fields, self.version)
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], anc)
        if sent < len(data):
            self.sock.sendall(data[sent:])
        return self.serial

    def receive(self, timeout=PATIENCE):
        """One frame: (serial, name, fields)."""
        end = time.monotonic() + timeout
        while True:
            if len(self.buffer) >= 16:
                length, number, _, serial, _, _ = struct.unpack_from("<IHHIHH", self.buffer)
                if len(self.buffer) >= length:
                    body, self.buffer = self.buffer[16:length], self.buffer[length:]
                    name = NAMES[number]
                    return serial, name, decode(name, body)
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("the shim says nothing")
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the shim closed the connection")
            self.buffer += data

    def take(self, timeout=PATIENCE):
        serial, name, fields = self.receive(timeout)
        if serial:
            self.replies[serial] = (name, fields)
        else:
            self.events.append((name, fields))

    def answer(self, serial, timeout=PATIENCE):
        while serial not in self.replies:
            self.take(timeout)
        name, fields = self.replies.pop(serial)
        if name == "reply" and fields["errnum"]:
            raise ShimError(fields)
        return fields

    def call(self, name, timeout=PATIENCE, **fields):
        return self.answer(self.send(name, **fields), timeout)

    def wait_event(self, wanted, accept=lambda fields: True, timeout=PATIENCE):
        """The first event of a name that is accepted; earlier ones are dropped."""
        end = time.monotonic() + timeout
        while True:
            while self.events:
                name, fields = self.events.pop(0)
                if name == wanted and accept(fields):
                    return fields
            self.take(max(0.01, end - time.monotonic()))

    def wait_state(self, *states, timeout=PATIENCE):
        return self.wait_event("status", lambda f: STATES[f["state"]] in states, timeout)

    def status(self):
        self.events.clear()
        self.call("get-status")
        return self.wait_event("status")

    def attach(self, exec=None, streams=7, **fields):
        ours, theirs = socket.socketpair()
        if exec:
            fields["exec"] = exec
        reply = self.call("attach", connection=theirs.fileno(), streams=streams, **fields)
        theirs.close()
        return Client(ours, reply["value"])


class Client:
    """A client's end of an attached stream."""

    def __init__(self, sock, number=0):
        self.sock, self.number, self.buffer = sock, number, b""

    def close(self):
        self.sock.close()

    def send(self, kind, data=b""):
        self.sock.sendall(struct.pack(">BxxxI", kind, len(data)) + data)

    def stdin(self, data):
        self.send(0, data)

    def frame(self, timeout=PATIENCE):
        """(kind, payload), or None at the end."""
        while True:
            if len(self.buffer) >= 8:
                kind, length = struct.unpack_from(">BxxxI", self.buffer)
                if len(self.buffer) >= 8 + length:
                    data, self.buffer = self.buffer[8:8 + length], self.buffer[8 + length:]
                    return kind, data
            if not select.select([self.sock], [], [], timeout)[0]:
                raise TimeoutError("nothing from the shim")
            data = self.sock.recv(65536)
            if not data:
                assert not self.buffer, "a cut frame"
                return None
            self.buffer += data

    def until(self, text, timeout=PATIENCE):
        """Read standard output and error until they hold `text`."""
        seen = b""
        while text not in seen:
            frame = self.frame(timeout)
            assert frame and frame[0] in (1, 2), (frame, seen)
            seen += frame[1]
        return seen

    def all(self, timeout=PATIENCE):
        """(stdout, stderr, messages, status) up to the end."""
        out = {1: b"", 2: b"", 3: b""}
        while True:
            frame = self.frame(timeout)
            if frame is None:
                return out[1], out[2], out[3], None
            if frame[0] == 16:
                return out[1], out[2], out[3], struct.unpack(">i", frame[1])[0]
            out[frame[0]] += frame[1]


def alive(pid):
    """True unless it is gone, or only its parent has not noticed yet."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Shim:
    """A shim with a bundle of its own, in a folder of its own."""

    def __init__(self, programs, folder, rootfs, args, name="shimtest", terminal=False,
                 runtime=None, options=(), change=None, interactive=False, env=None):
        self.id = f"{name}-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.base = os.path.join(folder, self.id)
        self.dir, self.bundle = os.path.join(self.base, "run"), os.path.join(self.base, "bundle")
        self.oci_root, self.log = os.path.join(self.base, "oci"), os.path.join(self.base, "log")
        os.makedirs(self.bundle)
        os.makedirs(self.dir, mode=0o700)
        self.runtime = runtime
        subprocess.run([runtime, "spec"], cwd=self.bundle, check=True)
        with open(os.path.join(self.bundle, "config.json")) as f:
            config = json.load(f)
        config["root"] = {"path": rootfs, "readonly": False}
        config["process"]["args"] = args
        config["process"]["terminal"] = terminal
        config["linux"]["cgroupsPath"] = "/" + self.id
        if change:
            change(config)
        with open(os.path.join(self.bundle, "config.json"), "w") as f:
            json.dump(config, f)
        argv = [os.path.join(programs, "holm-shim"), "--bundle", self.bundle, "--dir", self.dir,
                "--oci", runtime, "--oci-root", self.oci_root, "--log", self.log, *options]
        argv += ["--terminal"] if terminal else []
        argv += ["--interactive"] if interactive else []
        self.run = subprocess.run([*argv, self.id], capture_output=True, text=True, timeout=PATIENCE,
                                  check=False, env=dict(os.environ, **(env or {})))
        if self.run.returncode:
            raise RuntimeError(self.run.stderr)
        with open(os.path.join(self.dir, "shim.pid")) as f:
            self.pid = int(f.read())
        self.connections = []

    def connect(self, **kw):
        c = Connection(self.dir, self.id, **kw)
        self.connections.append(c)
        return c

    def process(self, args, terminal=False):
        """A process document for exec."""
        with open(os.path.join(self.bundle, "config.json")) as f:
            process = json.load(f)["process"]
        process.update(args=args, terminal=terminal)
        return json.dumps(process)

    def record(self):
        with open(os.path.join(self.dir, "exit.json")) as f:
            return json.load(f)

    def wait_left(self, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while alive(self.pid):
            assert time.monotonic() < end, "the shim does not leave"
            time.sleep(0.01)

    def log_text(self):
        with open(self.log) as f:
            return f.read()

    def clean(self):
        for c in self.connections:
            c.close()
        if alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        subprocess.run([self.runtime, "--root", self.oci_root, "delete", "--force", self.id],
                       capture_output=True, check=False)
