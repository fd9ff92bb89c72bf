# SPDX-License-Identifier: Apache-2.0
"""The KVM engine in the monitor: its jail, its gaps, its end. Skipped where KVM is not there."""
import os
import signal
import subprocess

import pytest
from lib.tinyguest import FOREVER, SSE_ON, elf, power_off, say, set_register, unless_equal
from lib.vmm import Machine

ENGINES = ["kvm", "soft"]


def kvm_missing():
    """Why there is no KVM here, or None."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"/dev/kvm does not open: {e.strerror}"
    return None


@pytest.fixture
def tiny(tmp_path):
    """Starts a machine whose kernel is some machine code."""
    made = []

    def make(code, engine, *args):
        if engine == "kvm" and kvm_missing():
            pytest.skip(kvm_missing())
        kernel = tmp_path / "kernel"
        kernel.write_bytes(elf(code))
        made.append(Machine(tmp_path, "", "--kernel", kernel, "--engine", engine, "--memory", "8m",
                            *args, kernel=False))
        return made[-1]

    yield make
    for m in made:
        m.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_vectors_in_the_jail(tiny, engine):
    """
    movd xmm0, eax; paddd xmm0, xmm0; movd ebx, xmm0: what a KVM that emulates kernel mode does
    not know, is stepped by the interpreter, for which nothing can be opened any more.
    """
    add = set_register(0x1234) + bytes.fromhex("660f6ec0 660ffec0 660f7ec3")
    m = tiny(SSE_ON + add + unless_equal(0x2468, say("wrong\n")) + say("done\n") + power_off(), engine)
    assert m.wait() == 0, m.output()
    assert m.output() == "done\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_unmasked_exception_is_the_guests(tiny, engine):
    """
    A division by zero with its exception unmasked: the guest, which has no handler for it, has a
    triple fault. The monitor, in which the software engine runs it, lives on.
    """
    # mov dword [0x7000], 0x1d80; ldmxcsr [0x7000]; xorps xmm0, xmm0; divss xmm1, xmm0
    divide = bytes.fromhex("c70500700000801d0000 0fae1500700000 b80000803f 660f6ec8 0f57c0 f30f5ec8")
    m = tiny(SSE_ON + divide + say("not here\n") + power_off(), engine)
    assert m.wait() == 12, m.output()
    assert m.output() == "holm-vmm: a vCPU of the guest had a triple fault\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_in_a_loop_is_stopped(tiny, engine):
    """It never comes out by itself."""
    m = tiny(say("ready\n") + FOREVER, engine)
    m.wait_output("ready")
    m.process.send_signal(signal.SIGTERM)
    try:
        assert m.process.wait(timeout=60) == 13
    except subprocess.TimeoutExpired:
        os.kill(m.monitor_pid(), signal.SIGKILL)
        raise
