# SPDX-License-Identifier: Apache-2.0
"""The KVM engine in the monitor: its jail, its gaps, its end. Skipped where KVM is not there."""
import os
import re
import signal
import subprocess

import pytest
from lib.tinyguest import FOREVER, SSE_ON, elf, power_off, say, set_register, unless_equal
from lib.vmm import Control, Machine, snapshot_files

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


# A KVM that emulates the guest's kernel mode makes a million instructions a second, and a stock
# kernel's boot has more than a thousand million. What is left out: self-tests and tables that
# nothing here looks at, watchdogs that would bark, and vector instructions in the kernel (SSSE3,
# AVX-512), each of which would be a gap there.
LEFT_OUT = ["ftrace_check_for_weak_functions", "init_blk_tracer", "init_kprobe_trace",
            "tracer_init_tracefs", "slab_sysfs_init", "load_system_certificate_list",
            "blake2s_mod_init", "cubictcp_register", "bpf_rstat_kfunc_init", "kfunc_init",
            "bpf_key_sig_kfuncs_init", "bpf_prog_test_run_init", "bpf_tcp_ca_kfunc_init",
            "crypto_kdf108_init"]
SHORT_BOOT = ("nowatchdog lpj=10000000 init_on_alloc=0 cryptomgr.notests tsc=reliable no_timer_check "
              "mitigations=off audit=0 apparmor=0 random.trust_cpu=on noreplace-smp rodata=off "
              "clearcpuid=137,304 nosmap nosmep ipv6.disable=1 initcall_blacklist=" +
              ",".join(LEFT_OUT))
HOURS = 3600


@pytest.mark.long
def test_stock_kernel_boots(tmp_path):
    """To its init, which ends the machine. Seven minutes of a CPU where kernel mode is emulated."""
    if kvm_missing():
        pytest.skip(kvm_missing())
    m = Machine(tmp_path, "echo cpus $(nproc)\nuname -r\npoweroff -f\n", "--engine", "kvm",
                "--memory", "80m", "--no-kaslr", cmdline="earlyprintk=ttyS0 " + SHORT_BOOT)
    try:
        assert m.process.wait(timeout=3 * HOURS) == 0, m.output()[-3000:]
        assert "cpus 1\n" in m.output().replace("\r", ""), m.output()[-3000:]
    finally:
        m.close()


def save(control, folder):
    """Pause the machine, save it into the folder, end it."""
    folder.mkdir()
    assert control.ask("pause")[0] == 0
    with snapshot_files(folder) as files:
        errnum, fields, _ = control.ask("snapshot", [f.fileno() for f in files])
        assert errnum == 0, fields
    assert control.ask("stop")[0] == 0
    control.close()


def last_count(m):
    return int(re.findall(r"count (\d+)", m.output())[-1])


@pytest.mark.long
def test_stock_kernel_goes_from_engine_to_engine(tmp_path):
    """
    A counter in user mode is saved under the software engine, goes on under KVM, is saved there
    and goes on under the software engine. PCID is not on every KVM, and the TSC of a guest
    cannot be set on every one either: its clock is the paravirtual one.
    """
    if kvm_missing():
        pytest.skip(kvm_missing())
    script = "i=0\nwhile [ $i -lt 100000 ]; do echo count $i; i=$((i+1))\n" \
             "read -t 1 x && break; done\necho \"got $x\"\npoweroff -f\n"
    made, source, count = [], None, 0
    try:
        for number, engine in enumerate(["soft", "kvm", "soft"]):
            place = tmp_path / str(number)
            place.mkdir()
            made.append(Machine(place, script, "--engine", engine, "--memory", "128m", "--control",
                                place / "ctl", *(["--restore", source] if source else []),
                                cmdline="quiet nopcid clocksource=kvm-clock tsc=unstable",
                                kernel=False if source else None))
            made[-1].wait_output(f"count {count + 2}\n")
            control = Control(place / "ctl")
            if number < 2:
                source = place / "snapshot"
                save(control, source)
                assert made[-1].wait() == 13
                count = last_count(made[-1])
        console = control.ask("console")[2][0]
        os.write(console, b"enough\n")
        assert made[-1].wait() == 0   # it read the line
        os.close(console)
        control.close()
    finally:
        for m in made:
            m.close()
