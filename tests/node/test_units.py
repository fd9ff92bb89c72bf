# SPDX-License-Identifier: Apache-2.0
"""The units of systemd say what systemd understands."""

import shutil
import subprocess

import pytest
from lib.daemon import BIN, TOP


def test_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (TOP / "packaging/systemd/holmd.service.in").read_text()
    (tmp_path / "holmd.service").write_text(text.replace("@SBINDIR@", str(BIN)))
    shutil.copy(TOP / "packaging/systemd/holmd.socket", tmp_path)
    r = subprocess.run(["systemd-analyze", "--man=no", "verify", tmp_path / "holmd.service",
                        tmp_path / "holmd.socket"], capture_output=True, text=True, check=False)
    assert r.returncode == 0 and not r.stderr, r.stderr
    assert "KillMode=process" in text and "Delegate=yes" in text
