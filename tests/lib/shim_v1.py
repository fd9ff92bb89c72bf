#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A shim as version 1 of its protocol had it, for the tests of a daemon that is newer.

It stays as it is whatever becomes of the protocol, and shares no code with the other tests. It
takes nothing but version 1: a frame of another version, a message or a field that was not there
ends it with a word in DIR/fault. The container is a plain child: what counts is the talk.

    shim_v1.py DIR LOG ID COMMAND...         it runs already, as a daemon of version 1 left it
    shim_v1.py --idle DIR LOG ID COMMAND...  that daemon died before it could say "start"
"""
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

U32, U64, STR, BYTES, STRV, BOOL, FD = range(7)
TYPES = {  # what the daemon sent
    1: ("hello", {1: ("version_min", U32), 2: ("version_max", U32), 3: ("epoch", U64),
                  4: ("instance", STR)}),
    5: ("get-status", {}),
    6: ("start", {1: ("rows", U32), 2: ("cols", U32), 3: ("network", STRV), 4: ("timeout", U32)}),
    7: ("signal", {1: ("signal", U32), 2: ("all", BOOL), 3: ("exec", STR)}),
    11: ("exec", {1: ("exec", STR), 2: ("process", STR), 3: ("terminal", BOOL),
                  4: ("open_stdin", BOOL), 5: ("rows", U32), 6: ("cols", U32),
                  7: ("connection", FD), 8: ("streams", U32), 9: ("framing", U32),
                  10: ("preread", BYTES), 11: ("stdin_once", BOOL), 12: ("stall_ms", U32)}),
    18: ("pids", {}),
    19: ("ack", {1: ("exec", STR)}),
    20: ("shutdown", {1: ("kill", BOOL)}),
}
IDLE, CREATING, RUNNING, PAUSED, EXITED, GONE, FAILED = range(7)


def field(number, data):
    return struct.pack("<HHI", number, 0, len(data)) + data


def u32(number, value):
    return field(number, struct.pack("<I", value))


def u64(number, value):
    return field(number, struct.pack("<Q", value))


def frame(kind, serial, body):
    return struct.pack("<IHHIHH", 16 + len(body), kind, 1, serial, 0, 0) + body


class Shim:
    def __init__(self, folder, log, ident, command, idle):
        self.folder, self.log, self.id, self.command = folder, log, ident, command
        self.state, self.proc, self.status, self.error = IDLE, None, 0, ""
        self.conn, self.buffer, self.fds = None, b"", []
        self.started = self.exited = 0
        self.execs = {}
        self.lock = os.open(f"{folder}/shim.pid", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self.lock, b"%d\n" % os.getpid())
        self.listen = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.chdir(folder)
        self.listen.bind("shim.sock")
        os.chmod("shim.sock", 0o600)
        self.listen.listen(8)
        if not idle:
            self.run()

    def run(self):
        try:
            self.proc = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                         stdin=subprocess.DEVNULL, start_new_session=True)
        except FileNotFoundError:
            self.state, self.status = FAILED, 127
            self.error = f"start: exec: {self.command[0]}: executable file not found"
            self.record()
            return False
        self.state, self.started = RUNNING, time.time_ns()
        return True

    def record(self):
        with open("exit.json.new", "w", encoding="ascii") as f:
            json.dump({"version": 1, "instance": self.id, "epoch": 1, "exit_code": self.status,
                       "signal": max(0, self.status - 128), "oom": False,
                       "started_ns": self.started, "exited_ns": self.exited or time.time_ns(),
                       "log_lost_records": 0, "log_lost_bytes": 0, "error": self.error}, f)
        os.rename("exit.json.new", "exit.json")

    def send(self, kind, serial, body):
        if self.conn:
            self.conn.sendall(frame(kind, serial, body))

    def tell(self):
        body = u32(1, self.state)
        if self.state == RUNNING:
            body += u32(2, self.proc.pid)
        if self.state in (EXITED, GONE, FAILED):
            body += u32(3, self.status)
            if self.status > 128:
                body += u32(4, self.status - 128)
        if self.started:
            body += u64(6, self.started)
        if self.exited:
            body += u64(7, self.exited)
        if self.error:
            body += field(8, self.error.encode())
        self.send(4, 0, body)

    def tell_exec(self, name):
        proc = self.execs[name]
        body = field(1, name.encode()) + field(2, b"\1" if proc.returncode is None else b"\0")
        body += u32(3, proc.pid) if proc.returncode is None else u32(4, proc.returncode)
        self.send(16, 0, body + u64(6, time.time_ns()) + u64(7, time.time_ns()))

    def reply(self, serial, errnum=0, **more):
        body = u32(1, errnum)
        body += u32(2, more["code"]) if "code" in more else b""
        body += field(3, more["message"].encode()) if "message" in more else b""
        body += field(4, more["text"].encode()) if "text" in more else b""
        body += u64(5, more["value"]) if "value" in more else b""
        body += u32(6, more["exit_code"]) if "exit_code" in more else b""
        self.send(3, serial, body)

    def output(self, data):
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        with open(self.log, "ab") as f:
            for line in data.splitlines():
                f.write(f"{stamp}.{now % 10**9:09}Z stdout F ".encode() + line + b"\n")

    def order(self, name, serial, m):
        if name == "hello":
            assert m["version_min"] == 1 and m["instance"] == self.id
            self.send(2, serial, u32(1, 1) + u64(2, m["epoch"]) + field(3, self.id.encode()) +
                      u32(4, os.getpid()) + field(5, b"holm-shim 0.1.0"))
            self.tell()
        elif name == "start":
            if self.run():
                self.tell()
                self.reply(serial, value=self.proc.pid)
            else:
                self.reply(serial, 2, code=1, message=self.error, exit_code=127)
                self.tell()
        elif name == "signal":
            target = self.execs[m["exec"]] if "exec" in m else self.proc
            target.send_signal(m["signal"])
            self.reply(serial)
        elif name == "exec":
            self.exec(serial, m)
        elif name == "pids":
            self.reply(serial, text=json.dumps([self.proc.pid]))
        elif name == "ack" and "exec" in m:
            self.execs.pop(m["exec"], None)
            self.reply(serial)
        else:
            if name in ("ack", "shutdown"):
                self.reply(serial)
                os.unlink("shim.sock")
                sys.exit(0)
            self.tell()
            self.reply(serial)

    def exec(self, serial, m):
        args = json.loads(m["process"])["args"]
        try:
            proc = subprocess.Popen(args, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            if m["connection"] is not None:
                os.write(m["connection"], struct.pack(">BxxxIi", 16, 4, 127))
                os.close(m["connection"])
            self.reply(serial, 2, code=1, message="exec: not found", exit_code=127)
            return
        self.execs[m["exec"]] = proc
        self.reply(serial, value=proc.pid)
        self.tell_exec(m["exec"])
        out = proc.communicate()[0]
        if m["connection"] is not None:
            os.write(m["connection"], struct.pack(">BxxxI", 1, len(out)) + out +
                     struct.pack(">BxxxIi", 16, 4, proc.returncode))
            os.close(m["connection"])
        self.tell_exec(m["exec"])

    def decode(self, kind, body, fds):
        name, table = TYPES[kind]
        m = {"connection": None}
        while body:
            number, zero, length = struct.unpack_from("<HHI", body)
            data, body = body[8:8 + length], body[8 + length:]
            assert zero == 0 and number in table, f"field {number} of {name}"
            key, what = table[number]
            m[key] = {U32: lambda d: struct.unpack("<I", d)[0], STR: bytes.decode,
                      U64: lambda d: struct.unpack("<Q", d)[0], BYTES: bytes,
                      STRV: lambda d: m.get(key, []) + [d.decode()], BOOL: lambda d: d == b"\1",
                      FD: lambda d: fds[d[0]]}[what](data)
        return name, m

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.conn, 65536, 8)
        self.fds += fds
        self.buffer += data
        while len(self.buffer) >= 16:
            length, kind, version, serial, n_fds, _ = struct.unpack_from("<IHHIHH", self.buffer)
            if len(self.buffer) < length:
                break
            body, self.buffer = self.buffer[16:length], self.buffer[length:]
            mine, self.fds = self.fds[:n_fds], self.fds[n_fds:]
            assert version == 1 and kind in TYPES, f"message {kind} of version {version}"
            name, m = self.decode(kind, body, mine)
            self.order(name, serial, m)
        if not data:
            self.conn.close()
            self.conn, self.buffer = None, b""

    def ended(self):
        code = self.proc.wait()
        self.status, self.exited = code if code >= 0 else 128 - code, time.time_ns()
        self.record()
        for self.state in (EXITED, GONE):
            self.tell()

    def loop(self):
        while True:
            out = self.proc.stdout if self.state == RUNNING else None
            wait = [x for x in (self.listen, self.conn, out) if x]
            for ready in select.select(wait, [], [])[0]:
                if ready is self.listen:
                    self.conn = self.listen.accept()[0]
                elif ready is self.conn:
                    self.receive()
                elif self.state == RUNNING:
                    data = os.read(out.fileno(), 65536)
                    self.output(data)
                    if not data:
                        self.ended()


def main():
    idle = sys.argv[1] == "--idle"
    folder, log, ident, *command = sys.argv[1 + idle:]
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        Shim(folder, log, ident, command, idle).loop()
    except (AssertionError, KeyError, struct.error) as e:
        with open(f"{folder}/../../fault", "w", encoding="utf-8") as f:
            f.write(repr(e))
        raise


main()
