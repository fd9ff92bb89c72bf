"""Makes tests/lib importable as lib; tests marked `long` run only with --long."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from lib.daemon import BIN, make_rootfs  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that take long")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs only with --long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes long: give --long"))


@pytest.fixture(scope="session")
def programs():
    """The folder of the built programs."""
    return str(BIN)


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory):
    return make_rootfs(tmp_path_factory.mktemp("root") / "fs")
