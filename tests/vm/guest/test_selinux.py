# SPDX-License-Identifier: Apache-2.0
"""SELinux labels of real containers, under a kernel that enforces a small policy (selinux.conf)."""
import os
import pathlib

import pytest

from lib.oci import Box

FS = pathlib.Path("/sys/fs/selinux")
NARROW = "system_u:system_r:narrow_t"
FILE = "system_u:object_r:file_t"


@pytest.fixture(scope="module", autouse=True)
def policy():
    fd = os.open(FS / "load", os.O_WRONLY)
    try:
        data = pathlib.Path("/holm/selinux.policy").read_bytes()
        assert os.write(fd, data) == len(data)      # whole, or not at all
    finally:
        os.close(fd)
    (FS / "enforce").write_text("1")
    yield
    (FS / "enforce").write_text("0")


@pytest.fixture(params=["root", "userns"])
def box(request, tmp_path):
    with Box(tmp_path, userns=request.param == "userns") as b:
        yield b


LABEL = ("/bin/sh", "-c", "exec cat /proc/self/attr/current")
FORK = ("/bin/sh", "-c", "(echo child); true")


def label(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.strip("\0\n")


def test_a_process_runs_under_its_label(box):
    assert label(box.run(*LABEL)) == "system_u:system_r:kernel_t"
    assert "child" in box.run(*FORK).stdout         # positive control
    box.config["process"]["selinuxLabel"] = NARROW
    assert label(box.run(*LABEL)) == NARROW
    done = box.run(*FORK)
    assert "child" not in done.stdout and "fork" in done.stderr, done.stdout + done.stderr


def test_exec_has_a_label_of_its_own(box):
    box.detached("/bin/sleep", "1000")
    assert label(box.exec(*LABEL)) == "system_u:system_r:kernel_t"
    assert label(box.exec(*LABEL, options=["--process-label", NARROW])) == NARROW


@pytest.mark.parametrize("bad", ["system_u:system_r:nosuch_t", "nonsense"])
def test_an_unknown_label_is_refused(box, bad):
    box.config["process"]["selinuxLabel"] = bad
    said = box.refused()
    assert "/process/selinuxLabel" in said and bad in said, said


def test_mounts_have_their_label(box):
    box.config["linux"]["mountLabel"] = FILE
    box.detached("/bin/sleep", "1000")
    at = f"/proc/{box.pid()}/root/dev"
    mounts = pathlib.Path(f"/proc/{box.pid()}/mountinfo").read_text()
    assert any(" /dev " in line and f"context={FILE}" in line for line in mounts.splitlines()), mounts
    assert os.getxattr(at, "security.selinux").rstrip(b"\0").decode() == FILE
