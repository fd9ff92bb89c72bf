# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian's stock kernel and a small initramfs of busybox.

The kernel package is downloaded and unpacked once into $HOLM_CACHE (default: build/vm), never
installed.
"""
import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

from lib.daemon import BIN
from lib.kept import kept

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("HOLM_CACHE", TOP / "build")).resolve() / "vm"
PACKAGE = "linux-image-cloud-amd64"
PATIENCE = 600  # seconds for anything; only a hang takes so long


def run(*args, **kw):
    done = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@functools.cache
def stock_kernel():
    """The folder of the unpacked package: boot/vmlinuz-*, lib/modules; and the package itself."""
    name = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", PACKAGE))[1]

    def unpack(folder):
        run("apt-get", "download", name, cwd=folder)
        run("dpkg-deb", "-x", next(folder.glob("*.deb")), folder)

    return kept(CACHE / f"unpacked-{name}", unpack)


def stock_package():
    """The package as it came."""
    return next(stock_kernel().glob("*.deb"))


def newc(entries):
    """A cpio archive: (name, mode, content or (major, minor) of a device)."""
    out = bytearray()
    for number, (name, mode, what) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        data, device = (what, (0, 0)) if isinstance(what, bytes) else (b"", what)
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + path
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs(script, files=()):
    """busybox, whose shell runs the script as process 1."""
    busybox = pathlib.Path(shutil.which("busybox")).read_bytes()
    init = "#!/bin/busybox sh\n/bin/busybox --install /bin\nexport PATH=/bin\n" \
           "mount -t proc proc /proc\nmount -t sysfs sys /sys\n" + script
    folders = [(name, 0o40755, b"") for name in ("bin", "dev", "proc", "sys", "lib")]
    return newc([*folders, ("dev/console", 0o20600, (5, 1)), ("bin/busybox", 0o100755, busybox),
                 ("init", 0o100755, init.encode()),
                 *[(name, 0o100644, data) for name, data in files]])


def module(name):
    """(path in the initramfs, content) of a kernel module."""
    found = next(stock_kernel().glob(f"lib/modules/*/kernel/**/{name}.ko"))
    return f"lib/{name}.ko", found.read_bytes()


def end_process(process):
    """Ask holm-vmm to end, and make sure that it has."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Machine:
    """One run of holm-vmm; end it with close(). kernel=False: the arguments say what it runs."""

    def __init__(self, folder, script, *args, files=(), cmdline="", kernel=None, wrapper=(),
                 pass_fds=()):
        self.folder = pathlib.Path(folder)
        boot = []
        if kernel is not False:
            (self.folder / "initrd").write_bytes(initramfs(script, files))
            kernel = kernel or next(stock_kernel().glob("boot/vmlinuz-*"))
            boot = ["--kernel", str(kernel), "--initrd", str(self.folder / "initrd"),
                    "--cmdline", f"console=ttyS0 panic=-1 {cmdline}"]
        self.out = open(self.folder / "out", "w+b")
        self.process = subprocess.Popen(
            [*wrapper, str(BIN / "holm-vmm"), *boot, "--engine", "soft", "--no-reboot", *map(str, args)],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT,
            pass_fds=pass_fds)

    def output(self):
        return (self.folder / "out").read_text(errors="replace")

    def wait(self):
        """The exit status."""
        return self.process.wait(timeout=PATIENCE)

    def wait_output(self, text):
        """Until the guest has printed it."""
        end = time.monotonic() + PATIENCE
        while text not in self.output():
            assert self.process.poll() is None, self.output()[-3000:]
            assert time.monotonic() < end, self.output()[-3000:]
            time.sleep(0.05)

    def monitor_pid(self):
        """The process behind the keeper and the one that waits for it in the namespaces."""
        pid = self.process.pid
        for _ in range(2):
            end = time.monotonic() + PATIENCE
            while not (children := _children(pid)):
                assert time.monotonic() < end
                time.sleep(0.02)
            pid = children[0]
        return pid

    def close(self):
        end_process(self.process)
        self.out.close()


def _children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# The files of a snapshot, in the order of the messages' descriptors.
SNAPSHOT = ("state", "memory-low", "memory-high")


@contextlib.contextmanager
def snapshot_files(folder, mode="wb"):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open(folder / name, mode)) for name in SNAPSHOT]


class Control:
    """A client of the control socket (src/wire/wire.h, src/wire/vmm-proto.c)."""

    TYPES = {"get-state": 3, "pause": 4, "resume": 5, "power-button": 6, "stop": 7, "snapshot": 8,
             "log-start": 9, "log-stop": 10, "log-take": 11, "stats": 12, "console": 13,
             "vsock-connect": 14, "vsock-serve": 15, "vsock-ask": 16, "vsock-answer": 17,
             "vsock-list": 18, "vsock-take": 19, "vsock-give": 20, "restore": 21, "client": 22,
             "engine-stats": 23}
    STATES = ("created", "running", "paused", "ended")

    def __init__(self, path):
        end = time.monotonic() + PATIENCE
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                assert time.monotonic() < end
                time.sleep(0.001)
        self.socket.settimeout(PATIENCE)
        self.serial = 0
        self.buffer = b""
        self.fds = []
        self.events = []
        self.questions = []

    def close(self):
        self.socket.close()

    def _frame(self):
        while len(self.buffer) < 16 or len(self.buffer) < struct.unpack_from("<I", self.buffer)[0]:
            data, fds, _, _ = socket.recv_fds(self.socket, 65536, 8)
            assert data, "the monitor closed the connection"
            self.buffer += data
            self.fds += fds
        length, kind, _, serial, n_fds, _ = struct.unpack_from("<IHHIHH", self.buffer)
        body, self.buffer = self.buffer[16:length], self.buffer[length:]
        fields, at = {}, 0
        while at < len(body):
            number, _, size = struct.unpack_from("<HHI", body, at)
            fields[number] = body[at + 8:at + 8 + size]
            at += 8 + size
        return kind, serial, fields, [self.fds.pop(0) for _ in range(n_fds)]

    def ask(self, name, fds=(), number=None):
        """Send a request: its first field a number or its fields descriptors. Returns (errnum,
        fields of the reply, descriptors)."""
        body = b"" if number is None else struct.pack("<HHII", 1, 0, 4, number)
        body += b"".join(struct.pack("<HHIB", i + 1, 0, 1, i) for i in range(len(fds)))
        return self.send(name, body, fds)

    def send(self, name, body, fds=()):
        self.serial += 1
        header = struct.pack("<IHHIHH", 16 + len(body), self.TYPES[name], 1, self.serial,
                             len(fds), 0)
        socket.send_fds(self.socket, [header + body], list(fds))
        while True:
            kind, serial, fields, got = self._next()
            if serial == self.serial and kind == 1:
                return struct.unpack("<I", fields[1])[0], fields, got

    def _next(self):
        frame = self._frame()
        kind, _, fields, _ = frame
        if kind == 2:
            self.events.append(self.STATES[struct.unpack("<I", fields[1])[0]])
        elif kind == self.TYPES["vsock-ask"]:
            self.questions.append((struct.unpack("<I", fields[1])[0],
                                   struct.unpack("<Q", fields[2])[0]))
        return frame

    def question(self):
        """The next (port, ticket) that the guest asks for; after "vsock-serve"."""
        while not self.questions:
            self._next()
        return self.questions.pop(0)

    def answer(self, ticket, fd=None):
        body = struct.pack("<HHIQ", 1, 0, 8, ticket)
        body += b"" if fd is None else struct.pack("<HHIB", 2, 0, 1, 0)
        return self.send("vsock-answer", body, () if fd is None else (fd,))

    def state(self):
        assert self.ask("get-state")[0] == 0
        return self.events[-1]
