# SPDX-License-Identifier: Apache-2.0
"""The wall around a running monitor. Its machine is made and loaded, and waits paused."""
import contextlib
import errno
import os
import pathlib
import re
import shutil
import signal
import socket
import struct

import pytest

from lib.jail import check_monitor, sanitized
from lib.vmm import PATIENCE, Control, Machine
from lib.wait import wait_for


def ask_to_stop(path):
    """Ask the machine itself: a tracer around it does not pass signals on."""
    try:
        control = Control(path)
    except AssertionError:
        return False
    try:
        return control.ask("stop")[0] == 0
    except (AssertionError, OSError):
        return False
    finally:
        control.close()


@pytest.fixture
def paused(tmp_path):
    """A machine with one of each device that needs nothing of the host."""
    made = []
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(bytes(1 << 20))

    def make(*args, **kw):
        m = Machine(tmp_path, "", "--paused", "--cpus", 2, "--control", tmp_path / "ctl",
                    "--gdb", tmp_path / "gdb", "--serial-file", tmp_path / "serial",
                    "--vsock", f"path={tmp_path / 'vsock'}", "--disk", f"path={tmp_path / 'first'}",
                    "--disk", f"path={tmp_path / 'second'},ro", "--console", "virtio", *args, **kw)
        made.append(m)
        control = Control(tmp_path / "ctl")
        try:
            assert control.state() == "paused"
        finally:
            control.close()
        return m

    yield make
    for m in made:
        if m.process.poll() is None and ask_to_stop(tmp_path / "ctl"):
            m.wait()
        m.close()


def test_it_is_what_the_tables_say(paused, tmp_path):
    reader, writer = os.pipe()  # what whoever starts it leaves open
    os.set_inheritable(writer, True)
    try:
        m = paused(pass_fds=(writer,))
        if sanitized(m):
            pytest.skip("a sanitized build has no filter")
        threads = check_monitor(
            m.monitor_pid(), 65534,
            [tmp_path / n for n in ("first", "second", "serial", "out")] +
            ["/dev/null", "/dev/urandom"],
            ["virtio-blk", "virtio-console", "virtio-rng", "virtio-vsock"])
        assert threads["loop"] == 1 and threads["vcpu"] == 2 and threads["helper"] == 1
    finally:
        os.close(reader)
        os.close(writer)


def test_the_sockets_are_not_for_others(paused, tmp_path):
    """Whatever the folders above allow."""
    m = paused()
    names = ("ctl", "gdb", "vsock")
    for name in names:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.chmod(tmp_path, 0o755)
            os.chdir(tmp_path)  # so that it is the sockets that are asked, not what is above
            os.setresgid(64998, 64998, 64998)
            os.setresuid(64998, 64998, 64998)
            status = sum(not refused(name) for name in names)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert m.process.poll() is None


DRIVING = ("ctl", "gdb")


def test_nor_are_they_when_their_modes_say_so(paused, tmp_path):
    """The second wall: who has the control socket or the debugger's opened up lets nobody in. Also
    not the monitor's own user, and not who runs as everybody's nobody."""
    m = paused()
    tmp_path.chmod(0o755)
    for name in DRIVING:
        (tmp_path / name).chmod(0o666)
    for uid in (64998, 65534):
        pid = os.fork()
        if pid == 0:
            status = 100
            try:
                os.chdir(tmp_path)
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                status = sum(not shut(name) for name in DRIVING)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, uid
    assert m.output().count("another user tried to drive this machine") == 1, m.output()
    for name in DRIVING:
        assert not shut(tmp_path / name), name
    control = Control(tmp_path / "ctl")
    assert control.state() == "paused"
    control.close()


def shut(path):
    """Whether it lets us connect and then closes, without a word, whatever it is asked."""
    ask = {"ctl": struct.pack("<IHHIHH", 16, 3, 1, 1, 0, 0), "gdb": b"$?#3f"}
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(str(path))
        try:
            s.sendall(ask[os.path.basename(path)])
            return not s.recv(1)
        except (BrokenPipeError, ConnectionResetError):
            return True


def test_only_the_keeper_lets_others_in(paused, tmp_path):
    """Not one who was let in."""
    paused()
    ours, theirs = socket.socketpair()
    control = Control(tmp_path / "ctl")
    with ours, theirs:
        errnum, _, _ = control.ask("client", fds=[theirs.fileno()])
        assert errnum == errno.EPERM
        theirs.close()
        ours.settimeout(PATIENCE)
        assert ours.recv(1) == b""
    assert control.state() == "paused"
    control.close()


def test_it_listens_to_nobody_itself(paused):
    """But to vsock's clients: the keeper has the sockets by which a machine is driven."""
    m = paused()
    listening = {f"socket:[{line.split()[6]}]": line.split()[7] for line in
                 pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
                 if int(line.split()[3], 16) & 0x10000}
    pid = m.monitor_pid()
    mine = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):   # it may be closing what it has read
            mine.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    names = {os.path.basename(listening[s]) for s in mine if s in listening}
    assert names == {"vsock"}


def refused(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except PermissionError:
            return True
    return False


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_every_thread_is_sealed(paused, tmp_path):
    """Landlock is of a thread and those that it makes later: each came under it, or asked."""
    trace = tmp_path / "trace"
    m = paused(wrapper=["strace", "-f", "--pidns-translation", "-o", str(trace), "-e",
                        "trace=clone,clone3,fork,vfork,landlock_restrict_self,seccomp,"
                        "io_uring_setup",
                        # So that the disks have threads of their own, four each.
                        "-e", "inject=io_uring_setup:error=ENOSYS"])

    if sanitized(m):
        pytest.skip("a sanitized build has no filter to wait for")

    def sealed_threads():
        sealed, filtered = set(), set()
        for line in trace.read_text().splitlines():
            pid, call = line.split(None, 1)
            done = re.search(r"= (\d+)(?: /\* (\d+) in strace's PID NS \*/)?$", call)
            if not done:
                continue
            if "landlock_restrict_self" in call:
                sealed.add(pid)
            elif "seccomp" in call:
                filtered.add(pid)
            elif pid in sealed:  # what it makes is sealed, too
                sealed.add(done[2] or done[1])
        return sealed, filtered

    # The loop, its helper, two vCPUs, two disks.
    wait_for("twelve threads behind the wall", lambda: len(sealed_threads()[1]) == 12)
    control = Control(tmp_path / "ctl")
    assert control.ask("stop")[0] == 0
    control.close()
    assert m.wait() == 13
    sealed, filtered = sealed_threads()
    assert filtered <= sealed


@pytest.mark.parametrize("victim", ["keeper", "waiter"])
def test_nothing_is_left_of_a_killed_one(paused, victim):
    """Whichever of the three processes goes, the machine goes with it."""
    m = paused()
    monitor = m.monitor_pid()
    waiter = int(re.search(r"PPid:\t(\d+)", pathlib.Path(f"/proc/{monitor}/status").read_text())[1])
    status = pathlib.Path(f"/proc/{waiter}/status").read_text()
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert re.search(rf"{kind}:\t0+$", status, re.M), status
    assert os.stat(f"/proc/{waiter}/maps").st_uid == 0  # not dumpable
    os.kill(m.process.pid if victim == "keeper" else waiter, signal.SIGKILL)
    wait_for("its end", lambda: not os.path.exists(f"/proc/{monitor}"))
    assert m.wait() == (-9 if victim == "keeper" else 137)
