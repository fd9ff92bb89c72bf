"""The programs of bench/guest, natively and in machines of Holm's and of QEMU's translator.

One static binary is the first process of every guest and runs natively as well; it takes commands
on its console and answers on it (bench/guest/main.c). So all machines of a comparison are up
together and run each program in turn, and a machine whose speed drifts does not decide.

All guests have the same kernel, initramfs and memory. QEMU is given the unpacked
kernel (PVH), holm-vmm the package's bzImage and a cache that has it unpacked.
"""
import contextlib
import functools
import os
import pathlib
import re
import select
import socket
import struct
import subprocess
import threading
import time

import debian
from benchlib import BIN, CACHE, TOP
from lib import jits
from lib.vmm import module, newc, stock_kernel

PATIENCE = 600
BOOT_PATIENCE = 90   # of a QEMU's guest without a word, before it is started anew
CMDLINE = "console=ttyS0 panic=-1 quiet"
MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
           "virtio_pci", "virtio_blk", "failover", "net_failover", "virtio_net"]
HOST, PORT = "10.78.0.1", 7001   # the guest's end is in bench/guest/devices.c
FLAGS = ["-O2", "-fno-tree-vectorize", "-fno-math-errno", "-static", "-pthread"]


def compile_programs(folder):
    path = folder / "guest"
    sources = sorted((TOP / "bench/guest").glob("*.c"))
    subprocess.run(["cc", *FLAGS, "-o", path, *sources, "-lz", "-lm"], check=True,
                   stdin=subprocess.DEVNULL)
    return path


def make_initramfs(path, program, files=()):
    """With the program as process 1, and (name, content) of more."""
    files = list(files)
    folders = {str(f) for name, _ in files for f in pathlib.PurePath(name).parents} - {"."}
    path.write_bytes(newc([*[(f, 0o40755, b"") for f in sorted(folders | {"dev", "root", "tmp"})],
                           ("dev/console", 0o20600, (5, 1)),
                           ("init", 0o100755, program.read_bytes()),
                           *[(name, 0o100755, data) for name, data in files]]))
    return path


def compiler():
    """(name, content) of gcc, what it starts and their libraries, as they are here."""
    ask = functools.partial(subprocess.check_output, text=True, stdin=subprocess.DEVNULL)
    programs = ["/usr/bin/gcc", "/usr/bin/as", ask(["gcc", "-print-prog-name=cc1"]).strip()]
    libraries = set(re.findall(r"(/lib\S+) \(0x", ask(["ldd", *programs])))
    for path in [*programs, *sorted(libraries)]:
        yield path.lstrip("/"), pathlib.Path(path).read_bytes()


class Sink:
    """The host's end of the network: takes what a guest sends and answers how much it was."""

    def __init__(self):
        self.listener = socket.create_server((HOST, PORT))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        buffer = bytearray(1 << 20)
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client:
                total = 0
                while n := client.recv_into(buffer):
                    total += n
                client.sendall(struct.pack("<Q", total))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)   # a guest that was ended in the middle says no farewell
        self.listener.close()


def tasks(pid):
    """Folders of all threads of a process and of those that it started."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from tasks(child)


def processor_time(pid):
    """Seconds that its threads have run so far; those that just end are not in it."""
    total = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in tasks(pid):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


class Result:
    """Of one run: seconds of the program's own clock, those that the guest's threads ran, those
    of the host's clock; the sum of what it computed; what the program says that it took of its
    processors."""

    def __init__(self, seconds, processor, wall, total, own):
        self.seconds, self.processor, self.wall = seconds, processor, wall
        self.sum, self.own_processor = total, own


class Runner:
    """The binary, running somewhere. `boot` is the time until it was there."""

    def __init__(self, args, env=None, patience=PATIENCE):
        self.seen, self.buffer, self.patience = b"", b"", patience
        start = time.perf_counter()
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=env)
        try:
            while (words := self.line())[:2] != ["bench", "ready"]:
                pass
            self.boot = time.perf_counter() - start
            self.cpus = int(words[2])
            self.programs = self.list()
            self.patience = PATIENCE
        except BaseException:
            self.close()
            raise

    def fail(self, why):
        raise RuntimeError(f"{self.process.args[0]}: {why}; it wrote: "
                           f"{self.seen[-2000:].decode(errors='replace')}")

    def line(self):
        """The words of the next line."""
        end = time.monotonic() + self.patience
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], end - time.monotonic())[0]:
                self.fail(f"nothing for {self.patience} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                self.fail("it ended")
            self.buffer += data
            self.seen += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").split()

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def list(self):
        """Units of work of each program, by its name."""
        self.say("list")
        programs = {}
        while (words := self.line()) != ["end"]:
            if words[:1] == ["program"]:
                programs[words[1]] = int(words[2])
        return programs

    def counter(self):
        self.say("counter")
        return int(self.line()[1])

    def run(self, name, work):
        self.say(f"run {name} {work}")
        while True:
            words = self.line()
            if words[:2] == ["begin", name]:
                before, start = processor_time(self.process.pid), time.perf_counter()
            elif words[:1] == [name] and len(words) == 5:
                took = time.perf_counter() - start
                return Result(float(words[1]), processor_time(self.process.pid) - before, took,
                              words[3], float(words[4]))
            elif words[:2] == ["failed", name]:
                self.fail(f"{name} failed")

    def close(self):
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def started(name, command, env=None):
    """A Runner. On a busy host a boot of QEMU's may hang in the kernel's look for a timer; it is
    started anew, twice at most. One of Holm's may not."""
    tries = 3 if name.startswith("tcg") else 1
    while True:
        tries -= 1
        try:
            return Runner(command, env, BOOT_PATIENCE if tries else PATIENCE)
        except RuntimeError as e:
            if tries == 0:
                raise
            print(f"{name} is started again: {e}", flush=True)


# Of each kind of machine: QEMU's model and what more it is told, and Holm; in braces what Bench has
# by that name. microvm has the devices that this kernel needs to find a clock; QEMU 10's does not
# start with two processors and these.
MICROVM = "microvm,acpi=off,pit=on,pic=on,rtc=on"
KINDS = {
    "one": (MICROVM, [], []),
    "two": ("q35", ["-smp", "2"], ["--cpus", "2"]),
    "devices": ("q35", ["-drive", "if=none,id=disk,format=raw,aio=io_uring,readonly=on,file={disk}",
                        "-device", "virtio-blk-pci,drive=disk",
                        "-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no",
                        "-device", "virtio-net-pci,netdev=net,romfile="],
                ["--disk", "path={disk},ro", "--net", "tap=tap0"]),
    "compile": (MICROVM, [], []),
    "jits": ("q35", ["-drive", "if=none,id=disk,format=raw,readonly=on,file={jits}",
                     "-device", "virtio-blk-pci,drive=disk"], ["--disk", "path={jits},ro"]),
}
MIB = {"jits": 1024}   # of memory, where it is not the usual
MIB_USUAL = 512


def qemu(kernel, initrd, machine=MICROVM, program=("qemu-system-x86_64",), cpu="max",
         cmdline=CMDLINE, mib=MIB_USUAL):
    model = ["-cpu", cpu] if cpu else []
    return [*program, "-machine", machine, "-accel", "tcg", *model, "-m", str(mib),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline]


class Bench:
    """Where the machines' files are, and how each is started."""

    def __init__(self, folder):
        self.folder = folder
        self.program = compile_programs(folder)
        self.cache = CACHE / "holm-kernels" / stock_kernel().name
        self.cache.mkdir(parents=True, exist_ok=True)
        if not any(self.cache.iterdir()):
            Runner(self.holm()).close()
        self.kernel = max(self.cache.iterdir(), key=os.path.getmtime)
        host = Runner(self.native())
        self.counter_khz, self.programs = host.counter(), host.programs
        host.close()

    @functools.cache
    def initrd(self, kind):
        more = ()
        if kind == "devices":
            more = map(module, MODULES)
        elif kind == "compile":
            more = [("src/sqlite3.i", debian.sqlite().read_bytes()), *compiler()]
        elif kind == "jits":
            programs = [(f"src/{p.name}", p.read_bytes()) for p in jits.PROGRAMS]
            more = [*map(module, MODULES), *programs]
        elif kind != "one":
            return self.initrd("one")
        return make_initramfs(self.folder / f"initrd-{kind}", self.program, more)

    @functools.cached_property
    def disk(self):
        path = self.folder / "disk"
        with open(path, "wb") as out:
            for _ in range(256):
                out.write(os.urandom(1 << 20))
        return path

    @functools.cached_property
    def jits(self):
        return jits.disk()

    def more(self, args):
        return [a.format_map({name: getattr(self, name) for name in re.findall("{(.*)}", a)})
                for a in args]

    def holm(self, kind="one", engine="soft", binaries=BIN):
        return [str(binaries / "holm-vmm"), "--engine", engine, "--kernel",
                str(next(stock_kernel().glob("boot/vmlinuz-*"))), "--initrd",
                str(self.initrd(kind)), "--cmdline", CMDLINE, "--cache", str(self.cache),
                "--memory", f"{MIB.get(kind, MIB_USUAL)}m", "--no-reboot",
                *self.more(KINDS[kind][2])]

    def tcg(self, kind="one", program=("qemu-system-x86_64",), cpu="max"):
        """The time stamps of its processor are the host's; the guest, which cannot always tell
        how fast they are, is told."""
        clock = f" tsc=reliable tsc_early_khz={self.counter_khz}"
        return [*qemu(self.kernel, self.initrd(kind), KINDS[kind][0], program, cpu, CMDLINE + clock,
                      MIB.get(kind, MIB_USUAL)),
                *self.more(KINDS[kind][1])]

    def native(self):
        return [str(self.program)]
