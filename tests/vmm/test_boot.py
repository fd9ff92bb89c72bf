# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel on the software engine: it boots, ends as it should, and is confined."""
import json
import os
import re
import signal
import subprocess

import pytest
from lib.daemon import BIN
from lib.jail import check_monitor, sanitized
from lib.vmm import Control, module, snapshot_files


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_boots_and_switches_off(machine, cpus):
    m = machine("echo cpus $(nproc)\nuname -r\npoweroff -f\n", "--cpus", cpus, cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    assert f"cpus {cpus}\n" in m.output().replace("\r", "")


@pytest.mark.parametrize("way", ["", "reboot=a", "reboot=k"])
def test_reset_is_told(machine, way):
    """By the reset vector (what a kernel does here by itself), ACPI, the keyboard controller."""
    m = machine("reboot -f\n", cmdline=f"quiet {way}")
    assert m.wait() == 10, m.output()[-3000:]


def test_panic_is_told(machine):
    m = machine("insmod /lib/pvpanic.ko; insmod /lib/pvpanic-mmio.ko\n"
                "echo c > /proc/sysrq-trigger\n",
                files=[module("pvpanic"), module("pvpanic-mmio")])
    assert m.wait() == 11, m.output()[-3000:]
    assert "holm-vmm: the guest's kernel panicked" in m.output()


WAIT = "echo ready\nwhile true; do sleep 1000; done\n"


def test_confined_and_stopped(machine):
    """While the guest runs the wall is what its tables say; SIGTERM ends the machine."""
    m = machine(WAIT, "--cpus", 2, cmdline="quiet")
    m.wait_output("ready")
    if not sanitized(m):
        threads = check_monitor(m.monitor_pid(), 65534,
                                [m.folder / "out", "/dev/null", "/dev/urandom"],
                                ["virtio-console", "virtio-rng"])
        assert threads == {"loop": 1, "helper": 1, "vcpu": 2}
    m.process.send_signal(signal.SIGTERM)
    assert m.wait() == 13


def test_control_socket(machine, tmp_path):
    m = machine("echo ready\nread line\necho \"read $line\"\npoweroff -f\n", "--control",
                tmp_path / "ctl", cmdline="quiet")
    control = Control(tmp_path / "ctl")
    try:
        m.wait_output("ready")
        assert control.state() == "running"
        assert control.ask("pause")[0] == 0
        assert control.state() == "paused"
        errnum, fields, _ = control.ask("pause")
        assert errnum != 0 and b"paused" in fields[3]
        errnum, fields, _ = control.ask("stats")
        stats = json.loads(fields[4])
        assert stats["state"] == "paused" and stats["vcpus"] == 1 and stats["memory"] == 512 << 20
        assert control.ask("log-take")[0] != 0
        assert control.ask("log-start")[0] == 0
        assert control.ask("resume")[0] == 0
        assert control.state() == "running"
        assert control.events.count("paused") > 1  # told without being asked, too
        errnum, fields, fds = control.ask("console")
        assert errnum == 0 and len(fds) == 1
        with os.fdopen(fds[0], "r+b", buffering=0) as console:
            console.write(b"hello\n")
            os.set_blocking(console.fileno(), True)
            got = b""
            while b"read hello" not in got:
                data = console.read(4096)
                assert data, got
                got += data
            errnum, fields, _ = control.ask("log-take")
            assert errnum == 0 and int.from_bytes(fields[5], "little") > 0
            assert m.wait() == 0
    finally:
        control.close()


def test_refuses_what_is_no_kernel(tmp_path):
    bad = tmp_path / "kernel"
    bad.write_bytes(b"MZ" + bytes(5000))
    done = subprocess.run([BIN / "holm-vmm", "--kernel", bad], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "neither a bzImage nor an ELF file" in done.stderr
    done = subprocess.run([BIN / "holm-vmm", "--kernel", tmp_path / "none"], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True, timeout=120)
    assert done.returncode == 3


def test_snapshot_goes_on(machine, tmp_path):
    """A counter in the guest goes on where it was, in another process, more than once."""
    first = machine("i=0\nwhile [ $i -lt 100000 ]; do echo count $i; i=$((i+1))\n"
                    "read -t 1 x && break; done\necho \"got $x\"\npoweroff -f\n",
                    "--control", tmp_path / "ctl", "--cpus", 2, cmdline="quiet")
    control = Control(tmp_path / "ctl")
    first.wait_output("count 2")
    assert control.ask("pause")[0] == 0
    folder = tmp_path / "snapshot"
    folder.mkdir()
    with snapshot_files(folder) as files:
        errnum, fields, _ = control.ask("snapshot", [f.fileno() for f in files])
        assert errnum == 0, fields
    assert control.ask("stop")[0] == 0
    assert first.wait() == 13
    control.close()
    last = int(re.findall(r"count (\d+)", first.output())[-1])
    for number in range(2):
        place = tmp_path / f"again{number}"
        place.mkdir()
        again = machine("", "--restore", folder, "--control", place / "ctl", "--cpus", 2,
                        folder=place, kernel=False)
        again.wait_output(f"count {last + 2}\n")
        assert f"count {last}\n" not in again.output()
        control = Control(place / "ctl")
        errnum, _, fds = control.ask("console")
        assert errnum == 0
        os.write(fds[0], b"enough\n")
        assert again.wait() == 0
        os.close(fds[0])
        control.close()


def test_debugger(machine, tmp_path):
    """Debian's gdb stops the guest, reads, changes, steps and lets it go on."""
    m = machine("echo ready\nread line\npoweroff -f\n", "--cpus", 2, "--gdb", tmp_path / "gdb",
                "--control", tmp_path / "ctl", cmdline="quiet nokaslr")
    m.wait_output("ready")
    commands = [
        "set architecture i386:x86-64", f"target remote {tmp_path}/gdb", "info threads",
        "thread 1", "set $old = $pc", "stepi", "stepi", 'printf "moved %d\\n", $pc != $old',
        "x/2i $pc", "set $r15 = 0x1234567890", 'printf "r15 %lx\\n", $r15',
        # Where the kernel lies: what is written there is read again.
        "set $byte = *(unsigned char *)0xffffffff81000000",
        "set *(unsigned char *)0xffffffff81000000 = 0x5a",
        'printf "wrote %x\\n", *(unsigned char *)0xffffffff81000000',
        "set *(unsigned char *)0xffffffff81000000 = $byte", "detach",
    ]
    argv = ["gdb", "-q", "-batch", "-nx"]
    for c in commands:
        argv += ["-ex", c]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300)
    for text in ("moved 1", "r15 1234567890", "wrote 5a", "Thread 2"):
        assert text in done.stdout, done.stdout + done.stderr
    control = Control(tmp_path / "ctl")
    assert control.state() == "running"
    assert control.ask("stop")[0] == 0
    assert m.wait() == 13
    control.close()


def test_breakpoint(machine, tmp_path):
    """The guest runs into a breakpoint in its kernel, makes one step from there, and goes on."""
    m = machine("grep ' native_machine_emergency_restart$' /proc/kallsyms\necho ready\nread line\n"
                "reboot -f\n", "--gdb", tmp_path / "gdb", "--control", tmp_path / "ctl",
                cmdline="quiet nokaslr")
    m.wait_output("ready")
    place = re.search(r"([0-9a-f]{16}) t native_machine", m.output())[1]
    control = Control(tmp_path / "ctl")
    console = control.ask("console")[2][0]
    commands = ["set architecture i386:x86-64", f"target remote {tmp_path}/gdb",
                f"break *0x{place}", 'printf "armed\\n"', "continue", 'printf "at %lx\\n", $pc',
                "stepi", 'printf "then %lx\\n", $pc', "delete", "detach"]
    argv = ["gdb", "-q", "-batch", "-nx"]
    for c in commands:
        argv += ["-ex", c]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as gdb:
        seen = ""
        while "armed" not in seen:
            line = gdb.stdout.readline()
            assert line, seen
            seen += line
        os.write(console, b"\n")
        seen += gdb.stdout.read()
    assert f"at {place}\n" in seen, seen
    assert "then " in seen and f"then {place}" not in seen, seen
    assert m.wait() == 10
    os.close(console)
    control.close()
