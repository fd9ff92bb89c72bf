# SPDX-License-Identifier: Apache-2.0
"""Where the programs are, and a small root file system."""

import pytest

from lib.daemon import BIN, make_rootfs


@pytest.fixture(scope="session")
def programs():
    """The folder of the built programs."""
    return str(BIN)


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory):
    return make_rootfs(tmp_path_factory.mktemp("root") / "fs")
