# SPDX-License-Identifier: Apache-2.0
import pytest

from lib.api import Api
from lib.daemon import Daemon, make_rootfs


@pytest.fixture
def daemon():
    d = Daemon("node")
    d.rootfs = make_rootfs(d.base / "root")
    try:
        yield d
    finally:
        d.close()


@pytest.fixture
def api(daemon):
    return Api(daemon)
