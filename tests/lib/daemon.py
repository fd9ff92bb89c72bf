# SPDX-License-Identifier: Apache-2.0
"""holmd on folders of its own, and the command line that speaks to it."""

import contextlib
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import fcntl
import time

from lib.wait import PATIENCE

from lib import leftovers

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build")).resolve() / "bin"


def has_route():
    """The host has a way out, which the user network needs."""
    routes = pathlib.Path("/proc/net/route").read_text().splitlines()[1:]
    return any(line.split()[1] == "00000000" for line in routes)


def make_rootfs(folder):
    """A root file system of one static program."""
    root = pathlib.Path(folder)
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in names.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    os.chmod(root, 0o755)
    return str(root)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv, env, rows=24, cols=80):
        self.master, slave = pty.openpty()
        self.resize(rows, cols)
        self.proc = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env,
                                     start_new_session=True,
                                     preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave   # kept open: its settings can be read after the program's end
        self.seen = b""

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def until(self, text, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise TimeoutError(self.seen)
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self, timeout=PATIENCE):
        return self.proc.wait(timeout)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        os.close(self.master)
        os.close(self.slave)


class Daemon:
    def __init__(self, name, args=()):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix=f"holm-{name}-"))
        self.state, self.run_dir = self.base / "state", self.base / "run"
        self.socket = self.run_dir / "holm.sock"
        self.cgroup = f"/{self.base.name}"
        self.args = args
        self.env = dict(os.environ, HOLM_HOST=str(self.socket))
        self.log = self.base / "log"
        self.proc = None
        self.terminals = []
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(
                [BIN / "holmd", "--state", self.state, "--run", self.run_dir,
                 "--cgroup-parent", self.cgroup, *self.args], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while self.holm("version", check=False).returncode != 0:
            assert self.proc.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def kill(self, sig=signal.SIGKILL):
        self.proc.send_signal(sig)
        self.proc.wait()

    def holm(self, *args, check=True, timeout=2 * PATIENCE, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL if "input" not in kw else None)
        if kw["stdin"] is None:
            del kw["stdin"]
        r = subprocess.run([BIN / "holm", *map(str, args)], env=self.env, capture_output=True,
                           text=True, check=False, timeout=timeout, **kw)
        if check and r.returncode:
            raise AssertionError(f"holm {args}: {r.returncode}: {r.stdout} {r.stderr}\n"
                                 f"{self.log.read_text()[-2000:]}")
        return r

    def terminal(self, *args, **kw):
        t = Terminal([str(BIN / "holm"), *map(str, args)], self.env, **kw)
        self.terminals.append(t)
        return t

    def inspect(self, name):
        return json.loads(self.holm("inspect", name).stdout)[0]

    def close(self):
        """Ends everything; fails if a process of the daemon's then is still there."""
        for t in self.terminals:
            t.close()
        if self.proc.poll() is not None:
            self.start()
        self.holm("rm", "--all", "--force", check=False)
        self.kill(signal.SIGTERM)
        left = leftovers.processes_after_a_while(self)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["umount", "-R", "-l", self.base], capture_output=True, check=False)
        shutil.rmtree(self.base, ignore_errors=True)
        # Ours alone: the groups above those of the instances, one a hierarchy.
        top = pathlib.Path("/sys/fs/cgroup")
        for folder in [top / self.cgroup[1:], *top.glob("*" + self.cgroup)]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        assert not left, f"still there: {left}"
