"""What a virtual machine's monitor takes beyond the guest's own memory, with every device."""
import pathlib
import re

from benchlib import Row, scratch
from lib.vmm import Machine

MEMORY = 512 << 20
MIB = 1 << 20


def processes(pid):
    """It and all below it."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [p for child in children for p in processes(int(child))]


def beyond_guest(pid):
    """PSS in bytes of one process without the mapping that is the guest's memory, and the
    greatest parts of it."""
    parts = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)", line)
        if head:
            size = int(head[2], 16) - int(head[1], 16)
            name = None if size >= MEMORY else pathlib.Path(head[3]).name or "anonymous"
        elif line.startswith("Pss:") and name:
            parts[name] = parts.get(name, 0) + int(line.split()[1]) * 1024
    return parts


def one(tmp, engine, text):
    """MiB of the machine's processes together once the guest has said `text`."""
    folder = tmp / engine
    folder.mkdir()
    (folder / "disk").write_bytes(bytes(MIB))
    m = Machine(folder, "echo ready\nwhile true; do sleep 1000; done\n", "--engine", engine,
                "--memory", MEMORY, "--disk", f"path={folder}/disk", "--net", "user",
                "--vsock", f"path={folder}/vsock", "--control", folder / "control",
                cmdline="earlyprintk=ttyS0")
    try:
        m.wait_output(text)
        parts = {}
        for pid in processes(m.process.pid):
            for name, size in beyond_guest(pid).items():
                parts[name] = parts.get(name, 0) + size
    finally:
        m.close()
    top = sorted(parts.items(), key=lambda p: -p[1])[:4]
    return sum(parts.values()) / MIB, ", ".join(f"{n} {s / MIB:.1f}" for n, s in top)


def measure():
    rows = []
    with scratch("monitor") as tmp:
        row = Row("memory beyond the guest's, KVM engine (MiB, PSS)", "-", 8)
        try:
            with open("/dev/kvm", "r+b", buffering=0):
                pass
            # Where the guest's kernel mode is emulated, it takes long to its init.
            row.set(*one(tmp, "kvm", "Linux version"))
        except OSError as e:
            row.note = f"/dev/kvm does not open: {e.strerror}"
        rows.append(row)
        rows.append(Row("memory beyond the guest's, software engine (MiB, PSS)", "-", None)
                    .set(*one(tmp, "soft", "ready")))
    return rows
