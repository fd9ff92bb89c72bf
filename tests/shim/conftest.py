# SPDX-License-Identifier: Apache-2.0
"""Where the programs are, and a small root file system."""

import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def programs():
    """The folder of the built programs."""
    return str(pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build")).resolve() / "bin")


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory):
    """A root file system of one static program."""
    root = tmp_path_factory.mktemp("rootfs")
    (root / "bin").mkdir()
    for folder in ("dev", "proc", "sys", "tmp", "etc", "root"):
        (root / folder).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in names.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    os.chmod(root, 0o755)
    return str(root)
