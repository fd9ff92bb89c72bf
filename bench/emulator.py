"""The software engine against QEMU's translator: a stock kernel boots, then integer work runs.

The work is user code of one process in the guest (bench/guest-int.c), so page tables, the timer
and the kernel's upkeep are part of it. It is timed by the processor time that the emulator's
threads took, which for work that never waits is the time it takes on a quiet machine; the boot by
the clock on the wall. Both run the same kernel, initramfs, command line and memory with one vCPU. QEMU's machine is
microvm with the devices that this kernel needs to find a clock; it is given the unpacked kernel
(PVH), holm-vmm the package's bzImage and a cache that has it unpacked.
"""
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

from benchlib import BIN, TOP, Row, need, scratch

sys.path.insert(0, str(TOP / "tests"))

from lib.vmm import newc, stock_kernel  # noqa: E402

ROUNDS = 3
PATIENCE = 300
CMDLINE = "console=ttyS0 panic=-1 quiet"
WORKS = ["sort", "hash", "crc", "digest", "strings", "matrix", "pointers", "branches", "calls"]


def make_initramfs(folder):
    program = folder / "guest"
    subprocess.run(["cc", "-O2", "-fno-tree-vectorize", "-fno-builtin", "-static", "-o", program,
                    TOP / "bench/guest-int.c"], check=True, stdin=subprocess.DEVNULL)
    path = folder / "initrd"
    path.write_bytes(newc([("dev", 0o40755, b""), ("dev/console", 0o20600, (5, 1)),
                           ("init", 0o100755, program.read_bytes())]))
    return path


def tasks(pid):
    """Folders of all threads of a process and of those that it started."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from tasks(child)


def processor_time(pid):
    """Seconds that its threads have run so far."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks(pid)) / 1e9


def once(args):
    """One boot: seconds until the init's first line, of each work, and what each computed."""
    start = time.perf_counter()
    seconds, sums, begun, seen = {}, {}, 0.0, []
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            for line in process.stdout:
                now = time.perf_counter()
                seen.append(line)
                words = line.decode(errors="replace").split()
                if words[:2] == ["bench", "ready"]:
                    seconds["boot"] = now - start
                elif words[:2] == ["bench", "begin"]:
                    begun = processor_time(process.pid)
                elif words[:2] == ["bench", "end"]:
                    seconds[words[2]] = processor_time(process.pid) - begun
                    sums[words[2]] = words[3]
                elif words[:2] == ["bench", "done"]:
                    break
        finally:
            process.terminate()
            process.wait(PATIENCE)
    if set(seconds) != {"boot", *WORKS}:
        raise RuntimeError(f"{args[0]}: {b''.join(seen)[-2000:].decode(errors='replace')}")
    return seconds, sums


def holm(kernel, initrd, cache):
    return [str(BIN / "holm-vmm"), "--engine", "soft", "--kernel", str(kernel), "--initrd",
            str(initrd), "--cmdline", CMDLINE, "--cache", str(cache), "--memory", "512m",
            "--no-reboot"]


def qemu(kernel, initrd):
    return ["qemu-system-x86_64", "-machine", "microvm,acpi=off,pit=on,pic=on,rtc=on", "-accel",
            "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-display",
            "none", "-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-initrd",
            str(initrd), "-append", CMDLINE]


def prepare(folder):
    """The two command lines. The unpacked kernel is the one of the first boot's cache."""
    initrd = make_initramfs(folder)
    cache = folder / "cache"
    cache.mkdir()
    os.chmod(folder, 0o755)
    os.chmod(cache, 0o777)   # the monitor writes there as a user of its own
    ours = holm(next(stock_kernel().glob("boot/vmlinuz-*")), initrd, cache)
    once(ours)
    theirs = qemu(next(cache.iterdir()), initrd)
    once(theirs)
    return ours, theirs


def spread(values):
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def measure():
    need("qemu-system-x86_64", "cc")
    ours, theirs, known = [], [], None
    with scratch("emulator") as tmp:
        commands = prepare(pathlib.Path(tmp))
        for _ in range(ROUNDS):
            for command, all_ in zip(commands, (ours, theirs)):
                seconds, sums = once(command)
                all_.append(seconds)
                known = known or sums
                if sums != known:
                    raise RuntimeError(f"two results: {sums} and {known}")
    medians = [{name: statistics.median(r[name] for r in runs) for name in ("boot", *WORKS)}
               for runs in (ours, theirs)]
    speed = {name: medians[1][name] / medians[0][name] for name in WORKS}
    mean = math.exp(sum(math.log(v) for v in speed.values()) / len(speed))
    rows = [Row("interpreter, integer code in the guest: speed", "TCG", 0.2, "at least")
            .set(mean, f"geometric mean of {len(WORKS)} programs")]
    for name in WORKS:
        rows.append(Row(f"  {name}", "TCG", None)
                    .set(speed[name], f"{spread([r[name] for r in ours])} to "
                                      f"{spread([r[name] for r in theirs])}"))
    rows.append(Row("interpreter, stock kernel to our init: time", "TCG", 8)
                .set(medians[0]["boot"] / medians[1]["boot"],
                     f"{spread([r['boot'] for r in ours])} to {spread([r['boot'] for r in theirs])}"))
    return rows
