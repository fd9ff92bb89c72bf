# SPDX-License-Identifier: Apache-2.0
"""What runs in a guest comes to the same as on the host; boots do, every time."""
import difflib
import fcntl
import os
import re
import socket
import subprocess

import pytest
from lib.daemon import BIN
from lib.vmm import PATIENCE, Control, stock_kernel

CONFORM = BIN.parent / "tests/conform"
# What a script of process 1 needs around it.
PREPARE = """
mount -t devtmpfs dev /dev
mkdir -p /tmp /dev/shm
mount -t tmpfs tmp /tmp
ip link set lo up
"""
LEAST_CHECKS = 440
BOOTS = int(os.environ.get("HOLM_BOOTS", "100"))


def on_the_host(folder):
    folder.mkdir()
    done = subprocess.run([CONFORM, folder], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=600)
    assert done.returncode == 0 and not os.listdir(folder), done.stdout[-2000:] + done.stderr
    count = int(re.search(r"^all/checks: (\d+)$", done.stdout, re.M)[1])
    assert count >= LEAST_CHECKS and "BROKEN" not in done.stdout
    return done.stdout


def assert_same(host, guest):
    lines = difflib.unified_diff(host.splitlines(), guest.splitlines(), "host", "guest", "", "", 0)
    assert host == guest, "\n".join(lines)


def between(text, begin, end):
    text = text.replace("\r", "")
    assert begin in text and end in text, text[-3000:]
    return text[text.index(begin) + len(begin):text.rindex(end)]


# The translator's caches are emptied all the time, and its slow ways are taken.
SHAKEN = ("--shake", "--code-cache", "4m")


@pytest.mark.parametrize("cpus, args", [
    (2, ()), pytest.param(1, (), marks=pytest.mark.long), pytest.param(4, (), marks=pytest.mark.long),
    (2, SHAKEN), pytest.param(1, SHAKEN, marks=pytest.mark.long),
    pytest.param(4, SHAKEN, marks=pytest.mark.long),
    pytest.param(2, ("--shake", "--translate-after", "1"), marks=pytest.mark.long)])
def test_conforms(machine, tmp_path, cpus, args):
    """Hundreds of checks of processor, library and kernel, byte for byte as on the host."""
    m = machine(PREPARE + "chmod +x /lib/conform; mkdir /tmp/here\necho; echo begin:\n"
                "/lib/conform /tmp/here\necho \"end: $?\"\npoweroff -f\n", "--cpus", cpus, *args,
                cmdline="quiet", files=[("lib/conform", CONFORM.read_bytes())])
    host = on_the_host(tmp_path / "host")
    assert m.wait() == 0, m.output()[-3000:]
    assert_same(host, between(m.output(), "begin:\n", "end: 0\n"))


# Something of everything, in little time; what it prints does not depend on it.
LITTLE = PREPARE + """
echo; echo begin:
i=0; s=0
while [ $i -lt 300 ]; do s=$(( (s * 31 + i) % 1000003 )); i=$((i + 1)); done
echo "sum $s"
for i in 1 2 3 4 5 6 7 8; do (echo "$i" | sed 's/^/child /' | tr a-z A-Z > /tmp/$i) & done; wait
cat /tmp/1 /tmp/2 /tmp/3 /tmp/4 /tmp/5 /tmp/6 /tmp/7 /tmp/8 | md5sum
seq 1 3000 | sort -r | md5sum
seq 1 2000 | awk '{ s += $1 * 1.5 } END { printf "%.3f\\n", s }'
dd if=/dev/zero bs=64k count=16 2>/dev/null | sha256sum
mkfifo /tmp/quiet; sleep 100000 > /tmp/quiet &
nc -l -p 7000 < /tmp/quiet > /tmp/got & server=$!
until seq 1 2000 | nc 127.0.0.1 7000 2>/dev/null; do :; done
wait $server; md5sum < /tmp/got
echo "end"
poweroff -f
"""


@pytest.fixture
def hog():
    """Keeps every CPU of the host busy while it is there."""
    running = []

    def start():
        for _ in range(os.cpu_count() or 1):
            running.append(subprocess.Popen(["sh", "-c", "while :; do :; done"],
                                            stdin=subprocess.DEVNULL))

    def stop():
        while running:
            process = running.pop()
            process.kill()
            process.wait()

    yield start, stop
    stop()


def boot_once(machine, folder, cpus):
    folder.mkdir()
    m = machine(LITTLE, "--cpus", cpus, folder=folder, cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    assert "holm-vmm:" not in m.output(), m.output()[-3000:]
    return between(m.output(), "begin:\n", "end\n")


@pytest.mark.long
def test_boots_again_and_again(machine, tmp_path, hog):
    """BOOTS boots with 1, 2 and 4 vCPUs, half of them on a busy host: none hangs, all say the same."""
    start, stop = hog
    results = {}
    for number in range(BOOTS):
        if number % 10 == 5:
            start()
        elif number % 10 == 0:
            stop()
        folder = tmp_path / str(number)
        results[number] = boot_once(machine, folder, (1, 2, 4)[number % 3])
        assert results[number] == results[0], (number, results[number], results[0])
    assert results[0].count("\n") == 6, results[0]


def flags_of(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_streams_stay_as_they_were(tmp_path, kind):
    """The console's device may not block; who shares our streams is not to notice."""
    fds = {"pipe": os.pipe, "terminal": os.openpty,
           "socket": lambda: [s.detach() for s in socket.socketpair()]}[kind]()
    other = os.pipe()
    stdin, stdout = (fds[0], other[1]) if kind == "pipe" else (fds[1], fds[1])
    try:
        before = [flags_of(fd) for fd in (stdin, stdout)]
        kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
        process = subprocess.Popen(
            [BIN / "holm-vmm", "--engine", "soft", "--console", "virtio", "--paused", "--memory", "128m",
             "--control", tmp_path / "ctl", "--kernel", kernel], stdin=stdin, stdout=stdout,
            stderr=subprocess.DEVNULL)
        try:
            control = Control(tmp_path / "ctl")
            assert control.state() == "paused"
            control.close()
            if kind != "socket":   # which cannot be opened once more
                assert [flags_of(fd) for fd in (stdin, stdout)] == before
            if kind == "terminal":   # nobody reads it in the guest
                os.write(fds[0], b"typed\x01x")
            else:
                process.terminate()
            assert process.wait(timeout=PATIENCE) == 13
        finally:
            process.kill()
            process.wait()
        assert [flags_of(fd) for fd in (stdin, stdout)] == before
    finally:
        for fd in (*fds, *other):
            os.close(fd)
