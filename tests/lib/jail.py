# SPDX-License-Identifier: Apache-2.0
"""A running monitor, compared with the tables of src/vm/jail-tables.c (docs/security.md)."""
import ctypes
import json
import os
import pathlib
import re
import struct
import subprocess

from lib.daemon import BIN
from lib.wait import wait_for

IOCTL, MMAP, MPROTECT, PROT_EXEC = 16, 9, 10, 4
CALLS, X32, X86_64, I386 = 512, 0x40000000, 0xc000003e, 0x40000003
ALLOW = 0x7fff0000
# Requests of terminals, taps, KVM and sockets; those that a table allows are allowed.
REQUESTS = [0x5412, 0x541c, 0x5402, 0x540e, 0x5413, 0x400454ca, 0x400454d0, 0x401054d5, 0xae80,
            0xae01, 0x4008ae61, 0x541b, 0x5421, 0x8933, 0x1277, 0]
# What has no name but may be open; guest memory is a nameless file in the root of a file system.
NAMELESS = re.compile(r"anon_inode:\[(eventfd|eventpoll|signalfd|timerfd|io_uring)\]|socket:\[\d+\]"
                      r"|/#\d+ \(deleted\)|/memfd:guest \(deleted\)")


def tables():
    program = BIN.parent / "tests" / "jail-tables"
    return json.loads(subprocess.run([program], capture_output=True, check=True).stdout)


def sanitized(machine):
    """Such a build has no filter: the sanitizers make calls of their own."""
    maps = pathlib.Path(f"/proc/{machine.monitor_pid()}/maps").read_text()
    return re.search(r"^7fff7000-", maps, re.M) is not None  # the address sanitizer's shadow


def status_of(path):
    lines = pathlib.Path(path).read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


class Filter:
    """The filter of system calls that a thread of another process has."""

    def __init__(self, tid):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.restype = ctypes.c_long
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        seize, interrupt, get_filter, detach = 0x4206, 0x4207, 0x420c, 17

        def ptrace(request, address=None, data=None):
            result = libc.ptrace(request, tid, address, data)
            assert result >= 0, f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}"
            return result

        ptrace(seize)
        ptrace(interrupt)
        os.waitpid(tid, 0x40000000)  # __WALL
        try:
            n = ptrace(get_filter)
            code = ctypes.create_string_buffer(8 * n)
            ptrace(get_filter, None, ctypes.addressof(code))
        finally:
            ptrace(detach)
        self.code = list(struct.iter_unpack("<HBBI", code.raw))

    def allows(self, number, args=(), arch=X86_64):
        args = (*args, 0, 0, 0, 0, 0, 0)[:6]
        data = struct.pack("<iIQ6Q", number, arch, 0, *args)
        at, acc = 0, 0
        while True:
            code, yes, no, k = self.code[at]
            at += 1
            if code == 0x20:
                acc = struct.unpack_from("<I", data, k)[0]
            elif code == 0x15:
                at += yes if acc == k else no
            elif code == 0x45:
                at += yes if acc & k else no
            elif code == 0x54:
                acc &= k
            else:
                assert code == 0x06, f"instruction {code:#x} is not known here"
                assert k in (ALLOW, 0x80000000), "it allows, or it ends the process"
                return k == ALLOW


def check_filter(tid, thread, devices):
    table = tables()
    mine = table["threads"][thread]
    calls = set(mine["calls"])
    for device in devices if thread == "loop" else ():
        calls |= set(table["devices"][device])
    loaded = Filter(tid)
    allowed = {nr for nr in range(CALLS) if loaded.allows(nr)}
    assert allowed == calls - {IOCTL}, f"{thread}: {allowed ^ calls}"
    for nr in range(CALLS):
        assert not loaded.allows(nr | X32) and not loaded.allows(nr, arch=I386), nr
    for request in REQUESTS:
        expected = any(request & mask == value for value, mask in mine["ioctls"])
        assert loaded.allows(IOCTL, (0, request)) == expected, f"{thread}: {request:#x}"
    for nr in (MMAP, MPROTECT):
        assert not any(loaded.allows(nr, (0, 4096, PROT_EXEC | p)) for p in range(4))


def check_descriptors(pid, files):
    """Descriptors by kind: those given, by name, and the nameless ones of the loop."""
    unix = {f"socket:[{line.split()[6]}]" for line in
            pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        name = os.readlink(f"/proc/{pid}/fd/{fd}")
        if name not in {str(f) for f in files}:
            assert NAMELESS.fullmatch(name), f"{fd} is {name}"
            assert not name.startswith("socket:") or name in unix, f"{fd} is no unix socket"
        assert not os.path.isdir(f"/proc/{pid}/fd/{fd}"), name


def check_memory(pid):
    """Nothing is writable and executable; code comes from files, or from the engine's own."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        _, rights, *_, = line.split(None, 5)
        assert not ("w" in rights and "x" in rights), line


def check_monitor(pid, uid, files, devices):
    """
    Everything that the tables promise of a monitor whose machine has these devices.

    files: the names that may be open there
    """
    table = tables()
    threads = {}
    process = status_of(f"/proc/{pid}/status")
    for task in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        path = f"/proc/{pid}/task/{task}/status"
        if status_of(path)["Name"].startswith("iou-"):  # the kernel's own, of a ring
            continue
        wait_for("the thread's wall", lambda path=path: status_of(path)["Seccomp"] == "2")
        status = status_of(path)
        thread = status["Name"] if task != pid else "loop"
        threads[thread] = threads.get(thread, 0) + 1
        assert status["Seccomp_filters"] == "1" and status["NoNewPrivs"] == "1"
        assert status["Uid"].split() == [str(uid)] * 4 and status["Gid"].split() == [str(uid)] * 4
        assert status["Groups"] == ""
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        check_filter(task, thread, devices)
    assert threads.keys() <= table["threads"].keys(), threads
    assert process["NSpid"].split()[-1] == "1"
    for name in table["namespaces"]:
        ours, theirs = (os.readlink(f"/proc/{p}/ns/{name}") for p in ("self", pid))
        assert ours != theirs, name
    for kind in ("uid", "gid"):
        assert pathlib.Path(f"/proc/{pid}/{kind}_map").read_text().split() == [str(uid), str(uid), "1"]
    assert os.listdir(f"/proc/{pid}/root/") == []
    interfaces = pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] in (["lo"], [])
    # Of a process that is not dumpable these files are root's, whatever its uid.
    assert os.stat(f"/proc/{pid}/maps").st_uid == 0
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    for name, most in table["limits"].items():
        assert re.search(rf"^{name} +{most} +{most} ", limits, re.M), limits
    assert re.search(r"^Max file size +\d+ +\d+ ", limits, re.M), limits
    check_descriptors(pid, files)
    check_memory(pid)
    return threads
