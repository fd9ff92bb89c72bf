# SPDX-License-Identifier: Apache-2.0
"""The shim when the kernel refuses: no more processes, no more descriptors, a full disk.

Whatever fails, the daemon is told, the container is running or gone, and nothing is left."""

import glob
import os
import pathlib

import pytest

from lib.shim import STATES, Shim, ShimError
from lib.wait import wait_for

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
FAULTY = pathlib.Path(os.environ.get("HOLM_BUILD_ASAN", TOP / "build-asan")) / "bin"

pytestmark = pytest.mark.skipif(not (FAULTY / "holm-shim").exists(),
                                reason="no build with -Dfaults=true in build-asan")


def cgroups(name):
    return glob.glob(f"/sys/fs/cgroup/*/{name}") + glob.glob(f"/sys/fs/cgroup/{name}")


def live(programs, rootfs, folder, fault, name, terminal=False):
    """One life under a fault. Returns the error of its start, or None."""
    try:
        shim = Shim(str(FAULTY), str(folder), rootfs, ["sh", "-c", "echo hello; exit 6"],
                    name=name, runtime=os.path.join(programs, "holm-oci"), terminal=terminal,
                    env={"HOLM_SHIM_FAULT": fault, "ASAN_OPTIONS": "detect_leaks=0"})
    except RuntimeError as e:
        assert str(e).startswith("holm-shim: ")
        return e
    try:
        try:
            conn = shim.connect()
        except (EOFError, ConnectionError):
            try:
                conn = shim.connect()   # it could not take the first one
            except FileNotFoundError as e:   # nobody ever reached it: it left, and says why
                shim.wait_left()
                with open(os.path.join(shim.dir, "shim.log")) as f:
                    assert "Too many open files" in f.read()
                return e
        error = None
        try:
            conn.call("start")
        except ShimError as e:
            error = e
            assert str(e).strip(": ")
        end = conn.wait_state("gone", "failed")
        if STATES[end["state"]] == "gone":
            assert end["exit_code"] == 6
            wait_for("the record", lambda: os.path.exists(os.path.join(shim.dir, "exit.json")))
            assert shim.record()["exit_code"] == 6
        else:
            assert error is not None and end["error"]
        conn.call("ack")
        shim.wait_left()
        assert cgroups(shim.id) == []
        with open(os.path.join(shim.dir, "shim.log")) as f:
            assert "Sanitizer" not in f.read()
        return error
    finally:
        shim.clean()


@pytest.mark.parametrize("call,errno", [("fork", "EAGAIN"), ("pipe2", "EMFILE"),
                                        ("openat", "EMFILE"), ("epoll_ctl", "ENOMEM"),
                                        ("fcntl", "EMFILE"), ("accept4", "EMFILE"),
                                        ("write", "ENOSPC"), ("read", "EIO"),
                                        ("sendmsg", "ENOBUFS")])
def test_every_call_once(programs, busybox_rootfs, tmp_path, call, errno):
    failures = 0
    for nth in range(1, 7):
        try:
            error = live(programs, busybox_rootfs, tmp_path, f"{call}:{nth}:{errno}",
                         f"fault-{call}-{nth}")
        except (EOFError, ConnectionError) as e:
            if call in ("sendmsg", "epoll_ctl", "read"):
                continue   # its connection broke: the daemon comes back (test_shim.py)
            raise AssertionError(f"{call}:{nth}") from e
        failures += error is not None
    assert failures > 0 or call in ("write", "read", "sendmsg", "accept4", "fcntl", "epoll_ctl")


def test_full_disk_does_not_stop_it(programs, busybox_rootfs, tmp_path):
    """Nothing can be written: it runs, its status is told, the log's losses are counted."""
    shim = Shim(str(FAULTY), str(tmp_path), busybox_rootfs, ["sh", "-c", "echo a; echo b; exit 6"],
                name="fault-full", runtime=os.path.join(programs, "holm-oci"),
                env={"HOLM_SHIM_FAULT": "write:1+:ENOSPC", "ASAN_OPTIONS": "detect_leaks=0"})
    try:
        conn = shim.connect()
        conn.call("start")
        end = conn.wait_state("gone")
        assert end["exit_code"] == 6
        assert conn.status()["log_lost_records"] == 2
        conn.call("ack")
        shim.wait_left()
    finally:
        shim.clean()
