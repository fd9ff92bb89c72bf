# SPDX-License-Identifier: Apache-2.0
"""A recorded boot runs again, to the last instruction."""
import os
import random
import re
import subprocess

import pytest
from lib.daemon import BIN
from lib.vmm import PATIENCE, Control, Machine, module, snapshot_files
from lib.wait import wait_for

MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk", "virtio-rng"]

SNAPSHOTS = 6   # of one run

SCRIPT = f"""
mount -t devtmpfs dev /dev
for m in {' '.join(MODULES)}; do insmod /lib/$m.ko || echo "failed: $m"; done
date
echo "disk $(md5sum < /dev/vda)"
dd if=/dev/urandom of=/dev/vda bs=64k count=4 2>/dev/null
sync; echo 3 > /proc/sys/vm/drop_caches
echo "again $(md5sum < /dev/vda)"
head -c 32 /dev/hwrng | od -x
sleep 0.2; cat /proc/uptime
poweroff -f
"""


def replay(log, *args):
    """Exit status, what the guest printed, what was said of the replay."""
    done = subprocess.run([BIN / "holm-vmm", "--replay", log, *map(str, args)], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
                          errors="replace")
    return done.returncode, done.stdout, done.stderr


def summary(text):
    """(what, instructions, checks, of these with memory, hash)"""
    found = re.search(r"holm-vmm: (.*): (\d+) instructions, (\d+) checks, (\d+) of memory, "
                      r"hash ([0-9a-f]{16})",
                      text)
    assert found, text[-3000:]
    return found[1], int(found[2]), int(found[3]), int(found[4]), found[5]


def record(folder, cpus, *args):
    """(log, what the guest printed) of a boot with a disk, entropy, the time, and sleep."""
    disk = folder / "disk"
    disk.write_bytes(random.Random(1).randbytes(1 << 20))
    machine = Machine(folder, SCRIPT, "--record", folder / "log", "--disk", f"path={disk}",
                      "--cpus", cpus, *args, files=[module(m) for m in MODULES], cmdline="quiet")
    try:
        assert machine.wait() == 0, machine.output()[-3000:]
    finally:
        machine.close()
    disk.unlink()  # nothing but the log is needed
    return folder / "log", machine.output().replace("\r", "")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("record"), 2)


def same_again(log, output):
    """Replays it twice."""
    told = summary(output)
    assert "failed" not in output and re.search(r"disk [0-9a-f]{32}", output), output
    assert told[0] == "recorded" and told[1] > 100_000_000
    assert told[2] == told[3] == told[1] // 1_000_000
    for _ in range(2):
        status, printed, said = replay(log)
        assert status == 0, said
        assert summary(said) == ("the same as recorded", *told[1:])
        assert printed and printed.replace("\r", "") in output


def test_twice_the_same(recording):
    same_again(*recording)


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 4])
def test_more_machines(tmp_path, cpus):
    """With checks close to each other, so that what differs for a moment is seen, too."""
    log, output = record(tmp_path, cpus, "--check-every", 10_000)
    told = summary(output)
    assert told[2] == told[1] // 10_000 and told[3] == told[1] // 1_000_000
    for _ in range(2):
        status, _, said = replay(log)
        assert status == 0 and summary(said) == ("the same as recorded", *told[1:]), said


def test_translated(tmp_path):
    """The interpreter's registers, every 5000 instructions of a boot, are those of translated code."""
    log, output = record(tmp_path, 1, "--engine", "interp", "--check-every", 5_000)
    told = summary(output)
    assert told[1] > 100_000_000 and told[2] == told[1] // 5_000
    for args in (("--translate-after", 1), ("--shake", "--code-cache", "1m")):
        status, _, said = replay(log, "--engine", "soft", *args)
        assert status == 0 and summary(said) == ("the same as recorded", *told[1:]), said


def in_lock_step(folder, cpus, every, *args):
    """The interpreter boots, and at the same time what it writes down is replayed."""
    os.mkfifo(folder / "log")
    machine = Machine(folder, "mount -t devtmpfs dev /dev\ndate\nseq 1 2000 | md5sum\npoweroff -f\n",
                      "--record", folder / "log", "--engine", "interp", "--cpus", cpus,
                      "--check-every", every, cmdline="quiet")
    try:
        status, _, said = replay(folder / "log", "--engine", "soft", *args)
        assert machine.wait() == 0, machine.output()[-3000:]
        told = summary(machine.output())
        assert told[2] == told[1] // every > 100_000_000 // every
        assert status == 0 and summary(said) == ("the same as recorded", *told[1:]), said
    finally:
        machine.close()


def test_translated_on_two(tmp_path):
    in_lock_step(tmp_path, 2, 5_000, "--translate-after", 1)


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("args", [("--translate-after", 1), (), ("--shake", "--code-cache", "1m")])
def test_lock_step(tmp_path, cpus, args):
    """Every few blocks. As a file, it would be of several gigabytes."""
    in_lock_step(tmp_path, cpus, 61, *args)


def steered(folder, script, steer):
    """What a replay prints of a machine that was recorded while somebody had its control socket."""
    machine = Machine(folder, script, "--record", folder / "log", "--control", folder / "ctl",
                      "--cpus", 2, cmdline="quiet")
    control = Control(folder / "ctl")
    try:
        machine.wait_output("ready")
        steer(control)
        console = control.ask("console")[2][0]
        os.write(console, b"hello\n")
        assert machine.wait() == 0, machine.output()[-3000:]
        os.close(console)
        told = summary(machine.output())
        status, printed, said = replay(folder / "log")
        assert status == 0 and summary(said) == ("the same as recorded", *told[1:]), said
        return printed
    finally:
        control.close()
        machine.close()


def test_from_outside(tmp_path):
    """A pause, input and the power button come again where they came."""
    def steer(control):
        for what in ("pause", "resume", "power-button"):
            assert control.ask(what)[0] == 0

    script = "echo ready\nread line\necho \"got $line\"\n" \
             "cat /sys/firmware/acpi/interrupts/sci >/dev/null; poweroff -f\n"
    assert "got hello" in steered(tmp_path, script, steer)


def test_snapshots_change_nothing(tmp_path):
    """Those that are taken while it is recorded; its kernel ends interrupts by a word in memory."""
    def steer(control):
        for _ in range(SNAPSHOTS):
            with snapshot_files(tmp_path, "w+b") as files:
                assert control.ask("pause")[0] == 0
                assert control.ask("snapshot", [f.fileno() for f in files])[0] == 0
                assert control.ask("resume")[0] == 0

    steered(tmp_path, "while :; do cat /proc/interrupts > /dev/null; done &\necho ready\n"
                      "read line\npoweroff -f\n", steer)


def test_cut_off(recording, tmp_path):
    """What is left of a log is replayed, and that it is cut is told."""
    whole = recording[0].read_bytes()
    (tmp_path / "log").write_bytes(whole[:-1000])
    status, _, said = replay(tmp_path / "log", "--stop-at", 30_000_000)
    assert status == 13 and summary(said)[0] == "stopped"
    (tmp_path / "log").write_bytes(whole[:100_000])
    status, _, said = replay(tmp_path / "log")
    assert status == 2 and "cut off before its start" in said


def test_stop_at(recording):
    said = [replay(recording[0], "--stop-at", 20_000_000)[2] for _ in range(2)]
    assert summary(said[0])[:2] == ("stopped", 20_000_000)
    assert re.search(r"rip=[0-9a-f]+ rax=", said[0]) and said[0] == said[1]


def test_closer(recording, tmp_path):
    """Recorded again from the replay, with more checks in a part; and the two are compared."""
    log, closer = recording[0], tmp_path / "closer"
    part = ("--check-every", 100, "--check-from", 20_000_000, "--check-to", 20_010_000)
    status, _, said = replay(log, "--record", closer, *part, "--stop-at", 21_500_000)
    assert status == 13 and summary(said)[:3] == ("stopped", 21_500_000, 21), said
    status, _, said = replay(closer)
    assert status == 13 and summary(said)[2] == 21 + 101, said
    done = subprocess.run([BIN / "holm-vmm", "compare", log, closer], text=True,
                          capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and re.search(
        r"^the first has .*, the second the end\n21 checks are the same; the last at 21000000 ",
        done.stdout), done
    done = subprocess.run([BIN / "holm-vmm", "compare", log, log], text=True,
                          capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0 and re.match(r"\d+ checks are the same, up to", done.stdout), done
    status, _, said = replay(log, "--record", log)
    assert status == 2 and "another file" in said
    status, _, said = replay(log, "--check-from", 5)
    assert status == 2 and "only with --replay and --record" in said


def test_debugger(recording, tmp_path):
    """It is stopped at an instruction, makes a step, and goes on to the same end."""
    log, output = recording
    at = 20_000_000
    rip = re.search(r"rip=([0-9a-f]+)", replay(log, "--stop-at", at)[2])[1]
    then = re.search(r"rip=([0-9a-f]+)", replay(log, "--stop-at", at + 1)[2])[1]
    machine = Machine(tmp_path, "", "--replay", log, "--stop-at", at, "--gdb", tmp_path / "gdb",
                      kernel=False)
    try:
        wait_for("the socket", lambda: (tmp_path / "gdb").exists())
        (tmp_path / "script").write_text(
            f"set architecture i386:x86-64\ntarget remote {tmp_path}/gdb\n"
            # The first moment that a debugger sees may be before the stop.
            f"if $pc != 0x{rip}\ncontinue\nend\n"
            'printf "at %lx\\n", $pc\nstepi\n'
            # Or at it, and then the stop comes as soon as it goes on.
            f"if $pc == 0x{rip}\nstepi\nend\n"
            'printf "then %lx\\n", $pc\ndetach\n')
        done = subprocess.run(["gdb", "-q", "-batch", "-nx", "-x", tmp_path / "script"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE)
        assert f"at {rip}\nthen {then}\n" in re.sub(r"\n0x.*", "", done.stdout), done.stdout
        assert machine.wait() == 0, machine.output()[-3000:]
        assert summary(machine.output())[1:] == summary(output)[1:]
    finally:
        machine.close()


def test_refuses(recording, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"no recording, but long enough for a head")
    assert replay(bad)[0] == 2 and "this is no recording" in replay(bad)[2]
    data = bytearray(recording[0].read_bytes())
    data[20_000] ^= 1
    bad.write_bytes(data)
    status, _, said = replay(bad)
    assert status == 2 and "the recording is damaged: part 1" in said
    status, _, said = replay(recording[0], "--disk", "path=/dev/null")
    assert status == 2 and "a replay has no devices" in said
    status, _, said = replay(recording[0], "--engine", "kvm")
    assert status == 6 and "only the software engine" in said
