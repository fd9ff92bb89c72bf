"""More on bundles: containers that live on, hooks, consoles, and what must not stay behind."""
import array
import json
import os
import pathlib
import pty
import socket
import subprocess
import threading
import time

from lib.bundle import Bundle
from lib.wait import PATIENCE


def leftovers(box):
    """Processes, groups and files of a container that should be gone."""
    found = [os.path.join(at, box.id) for at, folders, _ in os.walk("/sys/fs/cgroup")
             if box.id in folders]
    if (box.state / box.id).exists():
        found.append(str(box.state / box.id))
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            zombie = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            if box.id in (folder / "cgroup").read_text() and not zombie:
                found.append(f"process {folder.name}: {(folder / 'cmdline').read_bytes()}")
        except OSError:
            pass
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    found += [line for line in mounts.splitlines() if str(box.rootfs) in line]
    return found


class Box(Bundle):
    """A bundle whose container lives on between commands."""

    def ok(self, *args, **kw):
        done = self.call(*args, **kw)
        assert done.returncode == 0, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *args, **kw):
        done = self.call(*args, **kw)
        assert done.returncode != 0, f"{args} did not fail: {done.stdout}"
        return done.stderr

    def create(self, *argv, options=()):
        """Standard output and error go to files: who keeps a pipe open would be waited for."""
        if argv:
            self.config["process"]["args"] = list(argv)
        self.write()
        with open(self.dir / "out", "wb") as out, open(self.dir / "err", "wb") as err:
            done = subprocess.run(
                [self.runtime, "--root", str(self.state), "create", *options, "--bundle",
                 str(self.dir), self.id], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                timeout=60)
        assert done.returncode == 0, (self.dir / "err").read_text()

    def detached(self, *argv, options=()):
        self.create(*argv, options=options)
        self.ok("start", self.id)

    def output(self):
        return (self.dir / "out").read_text()

    def state_of(self):
        return json.loads(self.ok("state", self.id))

    def status(self):
        return self.state_of()["status"]

    def pid(self):
        return self.state_of()["pid"]

    def exec(self, *argv, options=(), **kw):
        return self.call("exec", *options, self.id, *argv, **kw)

    def hook(self, kind, script, **fields):
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(
            {"path": "/bin/sh", "args": ["sh", "-c", script], **fields})

    def namespace(self, kind, path=None):
        spaces = self.config["linux"]["namespaces"]
        spaces[:] = [n for n in spaces if n["type"] != kind]
        spaces.append({"type": kind, "path": str(path)} if path else {"type": kind})


class ConsoleSocket:
    """What listens at --console-socket: takes one terminal."""

    def __init__(self, path):
        self.path = str(path)
        self.master = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.take)
        self.thread.start()

    def take(self):
        self.listener.settimeout(PATIENCE)
        try:
            conn, _ = self.listener.accept()
        except OSError:
            return
        with conn:
            fds = array.array("i")
            _, extra, _, _ = conn.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
            for _, _, data in extra:
                fds.frombytes(data)
            self.master = fds[0] if fds else None

    def read(self, until=None, seconds=PATIENCE):
        """Everything until the other end closes, or a text came."""
        self.thread.join(PATIENCE)
        text = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                got = os.read(self.master, 4096)
            except OSError:
                break
            if not got:
                break
            text += got
            if until and until in text:
                break
        return text.replace(b"\r\n", b"\n").decode()

    def close(self):
        self.listener.close()
        self.thread.join(PATIENCE)
        if self.master is not None:
            os.close(self.master)


def in_terminal(args, data=b"", env=None, seconds=PATIENCE):
    """Run a command with a terminal of its own; returns its output and exit status."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(args[0], args, env or os.environ)
    text = b""
    if data:
        os.write(master, data)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            got = os.read(master, 4096)
        except OSError:
            break
        if not got:
            break
        text += got
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return text.replace(b"\r\n", b"\n").decode(), os.waitstatus_to_exitcode(status)
