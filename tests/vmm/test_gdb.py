# SPDX-License-Identifier: Apache-2.0
"""Debian's gdb on small guests, under both engines."""
import os
import socket
import struct
import subprocess
import time

import pytest
from lib import tinyguest
from lib.daemon import BIN
from lib.gdb import ask, gdb
from lib.vmm import PATIENCE, Control, Machine

# Counts in memory at COUNTER, and reads it twice a round.
COUNTER, OTHER = 0x200000, 0x200008
CODE = bytes.fromhex("31c0") + (                       # xor eax, eax
    bytes.fromhex("83c001") +                          # add eax, 1        at 0x100002
    b"\xa3" + struct.pack("<I", COUNTER) +             # mov [COUNTER], eax
    b"\x8b\x1d" + struct.pack("<I", OTHER) +           # mov ebx, [OTHER]
    bytes.fromhex("ebf0"))                             # jmp back
ADD, STORE, LOAD, JUMP = 0x100002, 0x100005, 0x10000a, 0x100010


def engines():
    return ["soft"] + (["kvm"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else [])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.fixture
def guest(tmp_path):
    made = []

    def start(*args, engine="soft"):
        kernel = tmp_path / "kernel"
        kernel.write_bytes(tinyguest.elf(CODE))
        m = Machine(tmp_path, "", "--kernel", kernel, "--memory", "16m", "--control",
                    tmp_path / "ctl", "--engine", engine, *args, kernel=False)
        made.append(m)
        Control(tmp_path / "ctl").close()
        return m

    yield start
    for m in made:
        m.close()


def state(tmp_path):
    control = Control(tmp_path / "ctl")
    try:
        return control.state()
    finally:
        control.close()


@pytest.mark.parametrize("engine", engines())
def test_from_the_start(guest, tmp_path, engine):
    """Held at its first instruction; breakpoints, steps, registers, memory."""
    guest("--paused", "--gdb", tmp_path / "gdb", engine=engine)
    assert state(tmp_path) == "paused"
    out = gdb(tmp_path / "gdb", 'printf "at %lx\\n", $pc', f"break *{STORE}", "continue",
              'printf "at %lx eax %d\\n", $pc, (int)$rax', "stepi", "stepi",
              'printf "at %lx\\n", $pc', "set $rax = 41", "continue",
              'printf "eax %d\\n", (int)$rax', f"set *(int *){OTHER} = 77", "stepi", "stepi",
              'printf "ebx %d\\n", (int)$rbx', f'printf "counter %d\\n", *(int *){COUNTER}',
              "delete", "detach")
    for text in ("at 100000\n", f"at {STORE:x} eax 1\n", f"at {JUMP:x}\n", "eax 42\n",
                 "ebx 77\n", "counter 42\n"):
        assert text in out, out
    assert state(tmp_path) == "running"


def test_watchpoints(guest, tmp_path):
    """Writes and reads stop behind the instruction, and say which it was."""
    guest("--paused", "--gdb", tmp_path / "gdb")
    out = gdb(tmp_path / "gdb", f"watch *(int *){COUNTER}", "continue",
              'printf "watch at %lx\\n", $pc', "continue", "delete", f"rwatch *(int *){OTHER}",
              "continue", 'printf "rwatch at %lx\\n", $pc', "delete",
              f"awatch *(int *){COUNTER}", "continue", 'printf "awatch at %lx\\n", $pc', "delete",
              "stepi", "detach")
    for text in ("Hardware watchpoint 1", f"watch at {LOAD:x}\n", "Hardware read watchpoint 2",
                 f"rwatch at {JUMP:x}\n", "Hardware access (read/write) watchpoint 3",
                 f"awatch at {LOAD:x}\n", "New value = 2"):
        assert text in out, out
    assert state(tmp_path) == "running"


def test_tcp(guest, tmp_path):
    """As people know it; the guest goes on when the debugger leaves, or dies."""
    port = free_port()
    guest("--gdb", f"tcp:127.0.0.1:{port}", "--cpus", 2)
    for _ in range(2):
        out = gdb(f"127.0.0.1:{port}", "info threads", 'printf "at %lx\\n", $pc', "detach")
        assert "Thread 2" in out and "at 1000" in out, out
    out = gdb(f":{port}", f"break *{ADD}", "continue", 'printf "at %lx\\n", $pc', "kill inferior 0")
    assert f"at {ADD:x}\n" in out, out
    # A connection that breaks off in the middle of it.
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"$Z0,%x,1#" % ADD)
    out = gdb(f":{port}", f'printf "counter %d\\n", *(int *){COUNTER}', "detach")
    first = int(out.split("counter ")[1].split()[0])
    end = time.monotonic() + PATIENCE
    while True:
        out = gdb(f":{port}", f'printf "counter %d\\n", *(int *){COUNTER}', "detach")
        if int(out.split("counter ")[1].split()[0]) != first:
            break
        assert time.monotonic() < end
    assert state(tmp_path) == "running"


def test_with_the_control_socket(guest, tmp_path):
    """Paused and resumed from there, a guest that the debugger holds stays held."""
    guest("--gdb", tmp_path / "gdb")
    with socket.socket(socket.AF_UNIX) as g:
        g.settimeout(PATIENCE)
        g.connect(str(tmp_path / "gdb"))
        assert ask(g, "?").startswith("T05")
        before = ask(g, f"m{COUNTER:x},4")
        control = Control(tmp_path / "ctl")
        for _ in range(3):
            assert control.ask("pause")[0] == 0
            assert control.ask("resume")[0] == 0
            assert ask(g, f"m{COUNTER:x},4") == before
        control.close()
        assert ask(g, "D") == "OK"
    assert state(tmp_path) == "running"


@pytest.mark.parametrize("where", ["tcp:192.0.2.1:1234", "tcp:127.0.0.1:99999", "0.0.0.0:1234",
                                   "tcp:nonsense"])
def test_not_there(guest, tmp_path, where):
    done = subprocess.run([BIN / "holm-vmm", "--kernel", "none", "--gdb", where], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert done.returncode in (2, 3), done
