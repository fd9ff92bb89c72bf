"""What every attack starts from: a bundle, as root and in a user namespace, and a host that
must be as it was when the attack is over."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from lib.victim import ATTACK, Victim

# What no container may change, wherever it comes from.
HOST_FILES = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
              "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
              "/proc/sys/kernel/shmmax", "/proc/sys/kernel/shm_rmid_forced",
              "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn",
              "/proc/sys/kernel/sysrq", "/proc/sys/fs/mqueue/msg_max"]


def host_state(folder):
    state = {name: pathlib.Path(name).read_text() for name in HOST_FILES if os.path.exists(name)}
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        # Of this test's own files only: other tests may run beside it.
        state["mounts"] = [line.split()[4] for line in f if str(folder) in line]
    return state


@pytest.fixture(scope="session", autouse=True)
def needs_root():
    if os.geteuid() != 0:
        pytest.skip("attacks are tried as root")
    assert ATTACK.exists(), f"{ATTACK} is not built"


def pytest_generate_tests(metafunc):
    """A file whose attacks are also tried on a runtime without privileges says so."""
    if "box" in metafunc.fixturenames:
        kinds = getattr(metafunc.module, "KINDS", ["root", "userns"])
        metafunc.parametrize("box", kinds, indirect=True)


def victim(kind):
    # Not in pytest's folder, which it makes 0700: a container's root must come through.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-attacks-"))
    folder.chmod(0o755)
    before = host_state(folder)
    box = Victim(folder, kind)
    try:
        yield box
        box.close()
        box.assert_intact()
        check_host(before, folder)
    finally:
        shutil.rmtree(folder)


def check_host(before, folder):
    after = host_state(folder)
    for name, value in before.items():
        if name != "mounts" and after[name] != value:
            pathlib.Path(name).write_text(value)    # the host goes on
    assert after == before


@pytest.fixture
def box(request):
    yield from victim(request.param)


@pytest.fixture
def rootbox():
    """For what a user namespace forbids before it can be tried."""
    yield from victim("root")


@pytest.fixture
def userbox():
    yield from victim("userns")


@pytest.fixture
def helper():
    """Start a program on the host that ends with the test."""
    started = []

    def start(*args, **kw):
        started.append(subprocess.Popen([str(a) for a in args], **kw))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
