# SPDX-License-Identifier: Apache-2.0
"""Snapshots: of guests under load, by hand, and when something goes wrong on the way."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from lib import tinyguest
from lib.daemon import BIN
from lib.vmm import PATIENCE, SNAPSHOT, Control, Machine, initramfs, stock_kernel
from lib.vsock import EchoServer, guest_files, guest_setup


def ctl(*args, **kw):
    return subprocess.run([BIN / "holm-vmm", "ctl", *map(str, args)], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE, **kw)


# --- Under load ---

LOAD = guest_setup(["virtio_blk"]) + r"""
mkdir -p /mnt /tmp
mount -t ext4 /dev/vda /mnt || echo "BAD mount"
# Each round writes, and reads from the disk what it wrote.
(n=0; while [ ! -f /tmp/stop ]; do
	dd if=/dev/urandom of=/mnt/f bs=32k count=8 conv=fsync 2>/dev/null || echo "BAD write"
	a=$(md5sum < /mnt/f); echo 3 > /proc/sys/vm/drop_caches
	[ "$a" = "$(md5sum < /mnt/f)" ] || echo "BAD disk"
	n=$((n+1)); echo "disk $n"
done; echo "disk stops") &
disk=$!
# Time goes on evenly: a second of sleep is not many of them.
(while [ ! -f /tmp/stop ]; do
	read a x < /proc/uptime; sleep 1; read b x < /proc/uptime
	[ $((${b%.*} - ${a%.*})) -gt TOO_LONG ] && echo "BAD time: $a $b"
done) &
(while [ ! -f /tmp/stop ]; do /lib/vsock-tool dial 7000 2 8 > /tmp/dial || cat /tmp/dial; done
echo "dials stop") &
dials=$!
echo "load runs"
/lib/vsock-tool stream 7001
touch /tmp/stop
wait $disk $dials
umount /mnt && echo "unmounted"
poweroff -f
"""
# On a busy machine a guest's second can be long; a jump of a snapshot's age is longer.
SCRIPT = LOAD.replace("TOO_LONG", "900")


class Stream:
    """Takes one connection of numbered words and finds every one that is lost or doubled."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.next, self.wrong, self.client = 0, None, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.client = self.listener.accept()[0]
        rest = b""
        try:
            while data := self.client.recv(65536):
                data = rest + data
                words = struct.unpack(f"<{len(data) // 4}I", data[:len(data) // 4 * 4])
                rest = data[len(words) * 4:]
                if words != tuple(range(self.next, self.next + len(words))):
                    self.wrong = (self.next, words[:4], words[-4:])
                    return
                self.next += len(words)
        except OSError as error:
            self.wrong = error

    def more(self, count=5000):
        """Until so many more have come."""
        want, end = self.next + count, time.monotonic() + PATIENCE
        while self.next < want and self.wrong is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert self.wrong is None, self.wrong

    def close(self):
        if self.client and self.client.fileno() >= 0:
            self.client.shutdown(socket.SHUT_RDWR)
            self.thread.join(timeout=PATIENCE)
            self.client.close()
        self.listener.close()


def take_all(control):
    """The sockets of all connections: (guest port, host port, descriptor)."""
    errnum, fields, _ = control.ask("vsock-list")
    assert errnum == 0
    taken = []
    for one in json.loads(fields[4]):
        if one["socket"]:
            ports = struct.pack("<HHIIHHII", 1, 0, 4, one["guest"], 2, 0, 4, one["host"])
            errnum, fields, fds = control.send("vsock-take", ports)
            assert errnum == 0, fields
            taken.append((ports, fds[0]))
    return taken


def give_all(control, taken):
    for ports, fd in taken:
        errnum, fields, _ = control.send("vsock-give", ports + struct.pack("<HHIB", 3, 0, 1, 0),
                                         (fd,))
        assert errnum == 0, fields
        os.close(fd)


class Hops:
    """A machine that goes from one monitor into the next."""

    def __init__(self, folder, cpus):
        self.folder, self.number, self.cpus = folder, 0, cpus
        self.disk = folder / "disk"
        with open(self.disk, "wb") as out:
            out.truncate(16 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(self.disk)], check=True)
        self.echo = EchoServer(folder / "vsock_7000")
        self.stream = Stream(folder / "vsock_7001")
        self.serial = folder / "serial"
        self.serial.write_text("")
        self.control = None
        self.machine = self._start("--cmdline", "console=ttyS0 panic=-1 quiet", "--kernel",
                                   next(stock_kernel().glob("boot/vmlinuz-*")), "--initrd",
                                   self._initrd())
        self.control = Control(self._place() / "ctl")

    def _initrd(self):
        path = self.folder / "initrd"
        path.write_bytes(initramfs(SCRIPT, guest_files(self.folder, ["virtio_blk"])))
        return path

    def _place(self):
        return self.folder / f"run{self.number}"

    def _start(self, *args):
        place = self._place()
        place.mkdir()
        return Machine(place, "", *args, "--cpus", self.cpus, "--memory", "192m", "--console",
                       "none", "--serial-file", self.serial, "--disk", f"path={self.disk}",
                       "--vsock", f"path={self.folder}/vsock", "--control", place / "ctl",
                       kernel=False)

    def wait_text(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.serial.read_text(errors="replace"):
            assert self.machine.process.poll() is None, self.machine.output()
            assert time.monotonic() < end, self.serial.read_text(errors="replace")[-2000:]
            time.sleep(0.05)

    def save(self):
        """Paused and into files; the connections' sockets."""
        assert self.control.ask("pause")[0] == 0
        files = [open(self._place() / n, "w+b") for n in SNAPSHOT]
        errnum, fields, _ = self.control.ask("snapshot", [f.fileno() for f in files])
        assert errnum == 0, fields
        return files, take_all(self.control)

    def hop(self):
        """Save, end, and go on in another process."""
        files, taken = self.save()
        self.control.close()
        self.machine.process.send_signal(signal.SIGKILL)
        self.machine.close()
        self.number += 1
        self.machine = self._start("--paused")
        self.control = Control(self._place() / "ctl")
        assert self.control.ask("resume")[0] != 0  # nothing is there yet
        errnum, fields, _ = self.control.ask("restore", [f.fileno() for f in files])
        assert errnum == 0, fields
        give_all(self.control, taken)
        for f in files:
            f.close()
        assert self.control.ask("resume")[0] == 0

    def end(self, dials_may_fail=False):
        """The load stops, and what was done is looked at."""
        self.stream.close()
        assert self.machine.wait() == 0, self.serial.read_text()[-3000:]
        text = self.serial.read_text(errors="replace")
        for line in ("disk stops", "dials stop", "unmounted"):
            assert line in text, text[-2000:]
        for wrong in ("BAD", "Call Trace", "soft lockup", "rcu_sched",
                      *(() if dials_may_fail else ("tool: dial ",))):
            assert wrong not in text, text[-3000:]
        subprocess.run(["e2fsck", "-fn", str(self.disk)], check=True, capture_output=True)

    def close(self):
        if self.control:
            self.control.close()
        self.machine.close()
        self.stream.close()
        self.echo.close()


def goes_on(folder, cpus, hops):
    h = Hops(folder, cpus)
    try:
        h.wait_text("disk 1\n")
        h.stream.more()
        for _ in range(hops):
            h.hop()
            h.stream.more()
        h.end()
    finally:
        h.close()


def test_under_load(tmp_path):
    """Disk and vsock at work: nothing is lost, nothing comes twice, in three processes."""
    goes_on(tmp_path, 2, 2)


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_under_load_often(tmp_path, cpus):
    goes_on(tmp_path, cpus, 20)


def test_connections_are_reset(tmp_path):
    """A restore by hand has no sockets to hand over: the guest hears that they are gone."""
    h = Hops(tmp_path, 1)
    try:
        h.wait_text("disk 1\n")
        h.stream.more()
        folder = tmp_path / "snapshot"
        assert ctl("snapshot", "--quit", tmp_path / "run0" / "ctl", folder).returncode == 0
        assert h.machine.wait() == 13
        h.machine.close()
        h.number += 1
        h.machine = h._start("--restore", folder)
        # The stream's end stops the load; dials that were out fail once, and go on.
        h.end(dials_may_fail=True)
    finally:
        h.close()
    text = h.serial.read_text(errors="replace")
    # As the guest's kernel says it, depending on what the program was doing.
    assert re.search("tool: stream ended (Connection reset by peer|Broken pipe)", text), text[-2000:]


# --- By hand, without an operating system ---

@pytest.fixture
def tiny(tmp_path):
    """Starts a machine that only counts."""
    kernel = tmp_path / "tiny"
    count = b"\x31\xc9" + b"\x41\xeb\xfd"  # xor ecx, ecx; inc ecx; jmp to that
    kernel.write_bytes(tinyguest.elf(tinyguest.say("begun\r\n") + count))
    made = []

    def start(name, *args):
        folder = tmp_path / name
        folder.mkdir()
        m = Machine(folder, "", "--memory", "64m", "--control", folder / "ctl", *args,
                    kernel=False)
        made.append(m)
        m.ctl = folder / "ctl"
        Control(m.ctl).close()
        return m

    start.kernel = kernel
    yield start
    for m in made:
        m.close()


def status(m):
    return json.loads(ctl("status", m.ctl).stdout)["state"]


def test_by_hand(tiny, tmp_path):
    first = tiny("first", "--kernel", tiny.kernel)
    first.wait_output("begun")
    for command, state in (("pause", "paused"), ("resume", "running")):
        assert ctl(command, first.ctl).returncode == 0
        assert status(first) == state
        assert ctl(command, first.ctl).returncode == 4  # it is already
    assert ctl("snapshot", first.ctl, tmp_path / "s").returncode == 0
    assert status(first) == "running"
    inodes = {p.name: p.stat().st_ino for p in (tmp_path / "s").iterdir()}
    assert inodes.keys() == set(SNAPSHOT)
    assert ctl("snapshot", first.ctl, tmp_path / "s").returncode == 0  # in its place
    for name in SNAPSHOT:
        assert (tmp_path / "s" / name).stat().st_ino != inodes[name]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "s", "tiny"]
    memory = [(tmp_path / "s" / name).stat() for name in SNAPSHOT[1:]]
    assert all(m.st_size == (64 << 20) + 4096 for m in memory)
    assert sum(m.st_blocks for m in memory) * 512 < 4 << 20
    (tmp_path / "s" / "memory").write_text("what else is there does not matter")
    again = [tiny(f"again{i}", "--restore", tmp_path / "s") for i in range(2)]
    for m in again:
        assert status(m) == "running"
        assert ctl("quit", m.ctl).returncode == 0
        assert m.wait() == 13
    assert ctl("quit", first.ctl).returncode == 0
    assert first.wait() == 13
    assert ctl("status", first.ctl).returncode == 8
    assert ctl("status", tmp_path / "none").returncode == 3
    assert ctl("status").returncode == 2


def test_killed_at_any_time(tiny, tmp_path):
    """The snapshot is the old one or the new one, whoever dies when."""
    m = tiny("first", "--kernel", tiny.kernel)
    m.wait_output("begun")
    folder = tmp_path / "s"
    assert ctl("snapshot", m.ctl, folder).returncode == 0
    for i in range(12):
        with subprocess.Popen([BIN / "holm-vmm", "ctl", "snapshot", m.ctl, folder],
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            time.sleep(0.004 * i)
            p.kill()
        whole(folder)
    if status(m) == "paused":  # whoever paused it died
        assert ctl("resume", m.ctl).returncode == 0
    # The monitor itself.
    with subprocess.Popen([BIN / "holm-vmm", "ctl", "snapshot", m.ctl, folder],
                          stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        os.kill(m.monitor_pid(), signal.SIGKILL)
        p.wait(timeout=PATIENCE)
    whole(folder)
    again = tiny("again", "--restore", folder)
    assert status(again) == "running"
    assert ctl("snapshot", again.ctl, folder).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "first", "s", "tiny"]


def whole(folder):
    """All files are there, and belong together."""
    assert {p.name for p in folder.iterdir()} == set(SNAPSHOT)
    state, *memory = ((folder / name).read_bytes() for name in SNAPSHOT)
    for number, data in enumerate(memory):
        assert len(data) == (64 << 20) + 4096
        last = data[64 << 20:]
        assert last.startswith(b"holm vm memory 2")
        assert struct.unpack_from("<QQQ", last, 16)[::2] == (64 << 20, number)
        assert last[40:56] in state
    assert memory[0][64 << 20:][24:32] == memory[1][64 << 20:][24:32]


def test_full_disk(tiny, tmp_path):
    """A clear error, and the machine goes on."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", small], check=True)
    try:
        m = tiny("first", "--kernel", tiny.kernel)
        m.wait_output("begun")
        done = ctl("snapshot", m.ctl, small / "s")
        assert done.returncode == 1
        assert re.search("cannot write the (low|high) memory file: No space left on device",
                         done.stderr)
        assert status(m) == "running"
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("what, message", [
    ("state cut", "state: cut off, or damaged"),
    ("state flipped", "state: "),
    ("state empty", "state: not a state stream"),
    ("low cut", "the low memory file is not whole"),
    ("high cut", "the high memory file is not whole"),
    ("low other", "the low memory file belongs to another snapshot"),
    ("high other", "the high memory file belongs to another snapshot"),
    ("exchanged", "the low memory file is not whole, or not of a machine with 64MiB"),
    ("low missing", "s: memory-low: No such file"),
    ("high missing", "s: memory-high: No such file"),
    ("older folder", "is of an older form, which is not read any more"),
    ("older file", "the memory file is of an older form, which is not read any more"),
    ("less memory", "the snapshot is of a machine with 64MiB"),
    ("more CPUs", "the snapshot is of a machine with 64MiB, 1 vCPUs"),
])
def test_refused(tiny, tmp_path, what, message):
    m = tiny("first", "--kernel", tiny.kernel)
    folder = tmp_path / "s"
    assert ctl("snapshot", m.ctl, folder).returncode == 0
    state = (folder / "state").read_bytes()
    options = []
    if what == "state cut":
        (folder / "state").write_bytes(state[:len(state) // 2])
    elif what == "state flipped":
        at = len(state) // 3
        (folder / "state").write_bytes(state[:at] + bytes([state[at] ^ 1]) + state[at + 1:])
    elif what == "state empty":
        (folder / "state").write_bytes(b"")
    elif what in ("low cut", "high cut"):
        os.truncate(folder / f"memory-{what[:-4]}", 32 << 20)
    elif what in ("low other", "high other"):
        name = f"memory-{what[:-6]}"
        assert ctl("snapshot", m.ctl, tmp_path / "t").returncode == 0
        os.rename(tmp_path / "t" / name, folder / name)
    elif what == "exchanged":
        os.rename(folder / "memory-low", folder / "x")
        os.rename(folder / "memory-high", folder / "memory-low")
        os.rename(folder / "x", folder / "memory-high")
    elif what in ("low missing", "high missing"):
        os.remove(folder / f"memory-{what[:-8]}")
    elif what == "older folder":
        os.rename(folder / "memory-low", folder / "memory")
        os.remove(folder / "memory-high")
    elif what == "older file":
        with open(folder / "memory-low", "r+b") as f:
            f.seek(64 << 20)
            f.write(b"holm vm memory 1")
    elif what == "less memory":
        options = ["--memory", "32m"]
    elif what == "more CPUs":
        options = ["--cpus", "2"]
    done = subprocess.run([BIN / "holm-vmm", "--engine", "soft", "--memory", "64m", "--restore",
                           folder, *options], capture_output=True, stdin=subprocess.DEVNULL,
                          text=True, timeout=PATIENCE)
    assert done.returncode != 0 and message in done.stderr, (done.returncode, done.stderr)
