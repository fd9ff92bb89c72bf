# SPDX-License-Identifier: Apache-2.0
import tarfile

import pytest

from lib.daemon import BIN, Daemon, make_rootfs

IMAGE = "small:1"


@pytest.fixture(scope="session")
def root_tar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    tar = folder / "root.tar"
    with tarfile.open(tar, "w") as out:
        out.add(make_rootfs(folder / "fs"), arcname=".")
    return tar


@pytest.fixture
def daemon(root_tar):
    """A daemon with one image, small:1."""
    if not (BIN / "holmd").exists():
        pytest.skip("holmd is not built")
    d = Daemon("engine")
    try:
        d.holm("image", "import", root_tar, IMAGE)
        yield d
    finally:
        d.close()
