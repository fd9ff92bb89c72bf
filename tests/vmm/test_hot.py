# SPDX-License-Identifier: Apache-2.0
"""A loop that is translated, from outside: debugger, dirty log, snapshots."""
import json
import os
import re
import struct
import subprocess
import tempfile

import pytest
from lib import tinyguest
from lib.daemon import BIN
from lib.gdb import gdb, memory
from lib.vmm import PATIENCE, Control, Machine
from lib.wait import wait_for

# How often it went round, a number that follows from that, and the same as a double.
COUNT, VALUE, DOUBLE = 0x200000, 0x210000, 0x220008
FACTOR, ADDEND = 6364136223846793005, 1442695040888963407
LOOP = [
    ("imul", "480fafc6"),                              # imul rax, rsi
    ("add", "4801f8"),                                 # add rax, rdi
    ("value", f"48890425{struct.pack('<I', VALUE).hex()}"),       # mov [VALUE], rax
    ("sum", "f20f58c1"),                               # addsd xmm0, xmm1
    ("double", f"f20f110425{struct.pack('<I', DOUBLE).hex()}"),   # movsd [DOUBLE], xmm0
    ("inc", "48ffc1"),                                 # inc rcx
    ("count", f"48890c25{struct.pack('<I', COUNT).hex()}"),       # mov [COUNT], rcx
    ("load", f"488b1425{struct.pack('<I', COUNT).hex()}"),        # mov rdx, [COUNT]
]
BEFORE = tinyguest.long_mode() + b"\x48\xbe" + struct.pack("<Q", FACTOR) + \
    b"\x48\xbf" + struct.pack("<Q", ADDEND) + \
    bytes.fromhex("31c0 31c9 ba01000000 f20f2aca 0f57c0")  # eax, ecx = 0; xmm1 = 1; xmm0 = 0
BODY = b"".join(bytes.fromhex(code) for _, code in LOOP)
CODE = BEFORE + BODY + b"\xeb" + struct.pack("<b", -len(BODY) - 2)
AT = {}
for name, code in LOOP:
    AT[name] = tinyguest.BASE + len(BEFORE) + len(b"".join(
        bytes.fromhex(c) for _, c in LOOP[:len(AT)]))
AT["jmp"] = tinyguest.BASE + len(BEFORE) + len(BODY)
SHAKEN = ("--shake", "--code-cache", "1m")
KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


def value_after(n):
    """x = FACTOR x + ADDEND, n times from 0."""
    f, a, result = FACTOR, ADDEND, 0
    while n:
        if n & 1:
            result = (f * result + a) % 2**64
        a, f, n = (f * a + a) % 2**64, f * f % 2**64, n >> 1
    return result


class Hot:
    """One machine, or its next one."""

    def __init__(self, folder, engine, *args, restore=None):
        folder.mkdir()
        self.folder, self.engine, self.ctl, self.gdb = folder, engine, folder / "ctl", folder / "gdb"
        kernel = folder / "kernel"
        kernel.write_bytes(tinyguest.elf(CODE))
        begin = ["--restore", restore] if restore else ["--kernel", kernel]
        self.machine = Machine(folder, "", *begin, "--memory", "16m", "--control", self.ctl, "--gdb",
                               self.gdb, "--engine", engine, *args, kernel=False)
        Control(self.ctl).close()

    def count(self):
        return struct.unpack("<Q", memory(self.gdb, COUNT)[0])[0]

    def translated(self):
        control = Control(self.ctl)
        try:
            counters = json.loads(control.ask("stats")[1][4])["counters"]
        finally:
            control.close()
        return counters.get("translated", {}).get("blocks", 0) and counters["entered"]["times"]

    def goes_on(self, rounds=3000):
        """By so much from now on; translated, where it should be."""
        start = self.count()
        wait_for("some rounds", lambda: self.count() > start + rounds, PATIENCE)
        if self.engine == "soft":
            wait_for("a translation", self.translated, PATIENCE)

    def right(self):
        """What is in memory fits together, wherever between two instructions it stands."""
        n, value, double = struct.unpack("<QQd", b"".join(memory(self.gdb, COUNT, VALUE, DOUBLE)))
        assert n > 0 and value in (value_after(n), value_after(n + 1)), (n, value)
        assert double in (n, n + 1), (n, double)
        return n


@pytest.fixture
def hot(tmp_path):
    made = []

    def start(name, engine, *args, **kw):
        made.append(Hot(tmp_path / name, engine, *args, **kw))
        return made[-1]

    yield start
    for h in made:
        h.machine.close()


@pytest.mark.parametrize("args", [(), SHAKEN], ids=["", "shaken"])
def test_debugger(hot, args):
    """Breakpoints, steps and watches come where they should, though the loop was translated."""
    h = hot("one", "soft", *args)
    for _ in range(2):
        h.goes_on()
        out = gdb(h.gdb, f"break *{AT['sum']}", "continue", 'printf "at %lx\\n", $pc',
                  "set $n = $rcx", "stepi", 'printf "then %lx\\n", $pc', "stepi",
                  'printf "then %lx\\n", $pc', "continue", 'printf "at %lx, %d on\\n", $pc, $rcx - $n',
                  "delete", f"watch *(long *){COUNT}", "continue",
                  f'printf "watch at %lx, %d\\n", $pc, *(long *){COUNT} == $rcx', "continue",
                  'printf "watch at %lx, %d on\\n", $pc, $rcx - $n', "delete",
                  f"rwatch *(long *){COUNT}", "continue", 'printf "rwatch at %lx\\n", $pc', "delete",
                  f"break *{AT['imul']}", "continue", "set $n = $rcx",
                  f"break *{AT['inc']} if $rcx == $n + 50", "delete 4", "continue",
                  'printf "the %dth\\n", $rcx - $n', "delete", "detach")
        for text in (f"at {AT['sum']:x}\n", f"then {AT['double']:x}\n", f"then {AT['inc']:x}\n",
                     f"at {AT['sum']:x}, 1 on\n", f"watch at {AT['load']:x}, 1\n",
                     f"watch at {AT['load']:x}, 3 on\n", f"rwatch at {AT['jmp']:x}\n", "the 50th\n"):
            assert text in out, out
        h.right()


def dirty(control):
    """The pages written since the last time."""
    with tempfile.TemporaryFile() as f:
        errnum, fields, _ = control.ask("log-take", [f.fileno()])
        assert errnum == 0, fields
        f.seek(0)
        bits = f.read()
    pages = {8 * i + k for i, byte in enumerate(bits) for k in range(8) if byte >> k & 1}
    assert len(pages) == struct.unpack("<Q", fields[5].ljust(8, b"\0"))[0]
    return pages


@pytest.mark.parametrize("engine, args", [("soft", ()), ("soft", SHAKEN), ("interp", ())])
def test_dirty_log(hot, engine, args):
    """What a loop writes again and again is in each round of the log, and nothing else is."""
    h = hot("one", engine, *args)
    h.goes_on()
    control = Control(h.ctl)
    try:
        assert control.ask("log-start")[0] == 0
        for n in range(20):
            h.goes_on(1000)
            pages = dirty(control)
            written = {at >> 12 for at in (COUNT, VALUE, DOUBLE)}
            assert written <= pages, (n, pages)
            # Tables of pages are written by the walk, once.
            assert pages <= written | ({0x600, 0x601, 0x602} if n == 0 else set()), (n, pages)
        assert control.ask("log-stop")[0] == 0
        h.goes_on()
        h.right()
    finally:
        control.close()


HOPS = ["soft", "interp", "soft", "soft"] + (["kvm", "soft", "kvm", "interp"] if KVM else [])


def test_snapshots(hot, tmp_path):
    """The loop goes on under one engine after another, exactly."""
    source, last = None, 0
    for number, engine in enumerate(HOPS):
        h = hot(f"hop{number}", engine, *(SHAKEN if number == 3 else ()), restore=source)
        n = h.right() if source else 0
        assert n >= last
        h.goes_on()
        last = h.right()
        source = tmp_path / f"snapshot{number}"
        done = subprocess.run([BIN / "holm-vmm", "ctl", "snapshot", "--quit", h.ctl, source],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert h.machine.wait() == 13
        assert not re.search("holm-vmm: .*(fail|cannot)", h.machine.output()), h.machine.output()
