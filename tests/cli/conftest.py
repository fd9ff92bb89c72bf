# SPDX-License-Identifier: Apache-2.0
import pytest

from lib.daemon import BIN, Daemon, make_rootfs


@pytest.fixture(scope="module")
def daemon():
    if not (BIN / "holmd").exists():
        pytest.skip("holmd is not built")
    d = Daemon("cli")
    yield d
    d.close()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    return make_rootfs(folder / "fs")


@pytest.fixture
def run(daemon, rootfs):
    """`holm run` of a command in a small root, with what tests need least of."""
    def build(*command, options=(), **kw):
        return daemon.holm("run", "--network", "none", "--userns", "host", "--rootfs", *options,
                           rootfs, *command, check=False, **kw)
    return build
