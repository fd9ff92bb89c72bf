# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a stock host: its units, and instances under systemd with pure v2."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from lib.daemon import make_rootfs
from lib.wait import wait_for

TREE = pathlib.Path("/sys/fs/cgroup")
SOCKET = pathlib.Path("/run/holm/holm.sock")
DEB = next(pathlib.Path("/holm/build").glob("holm_*.deb"), None)


def call(*args, check=True, **kw):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300,
                          **{"stdin": subprocess.DEVNULL, **kw})
    assert not check or done.returncode == 0, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done


def holm(*args, **kw):
    return call("/usr/bin/holm", *args, **kw)


def unit(name, *properties):
    """Properties of a unit, in the order asked for."""
    out = call("systemctl", "show", name, *[f"-p{p}" for p in properties]).stdout
    got = dict(line.split("=", 1) for line in out.splitlines())
    return [got[p] for p in properties]


def active(name):
    return call("systemctl", "is-active", name, check=False).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def package():
    assert DEB, "no package was brought along"
    call("dpkg", "-i", DEB)
    assert active("holmd.socket") == "inactive", "installing has started something"
    yield
    call("systemctl", "stop", "holmd.socket", "holmd.service", "holm.slice", check=False)
    call("dpkg", "-r", "holm")
    for folder in ("/run/holm", "/var/lib/holm"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def socket(package):
    call("systemctl", "start", "holmd.socket")
    yield
    holm("rm", "--all", "--force")


@pytest.fixture(scope="module")
def image(socket, tmp_path_factory):
    """In the store of the daemon, small:1."""
    folder = tmp_path_factory.mktemp("image")
    call("tar", "-C", make_rootfs(folder / "fs"), "-cf", folder / "root.tar", ".")
    holm("image", "import", folder / "root.tar", "small:1")
    return "small:1"


@pytest.fixture
def instance(image):
    """One that runs, with limits; as (id, pid)."""
    name = holm("run", "-d", "--name", "one", "--network", "none", "--memory", "64m", "--cpus", "0.5",
                "--pids-limit", "40", image, "sh", "-c",
                "n=0; while :; do echo line $n; n=$((n+1)); sleep 1; done").stdout.strip()
    yield name, status()["pid"]
    holm("rm", "-f", "one")
    wait_for("its groups to go", lambda: not list(TREE.rglob(f"*{name}*")))


def status():
    return json.loads(holm("inspect", "one").stdout)[0]["status"]


def group_of(pid):
    at = pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
    return TREE / at.lstrip("/")


def test_the_socket_starts_the_daemon(socket):
    assert active("holmd.socket") == "active" and active("holmd.service") == "inactive"
    holm("version")
    assert active("holmd.service") == "active"
    assert unit("holmd.service", "KillMode", "Delegate", "Type") == ["process", "yes", "notify"]
    assert SOCKET.stat().st_mode & 0o777 == 0o660
    assert pathlib.Path("/run/holm").stat().st_mode & 0o777 == 0o711
    assert pathlib.Path("/var/lib/holm").stat().st_mode & 0o777 == 0o700
    info = json.loads(holm("info", "--json").stdout)
    assert info["systemd_cgroup"] is True


def test_run(image):
    done = holm("run", "--rm", "--network", "none", image, "sh", "-c",
                "id -u; cat /proc/self/cgroup; cat /proc/self/uid_map; exit 7", check=False)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0", "0::/"] and lines[2].split()[1] != "0"   # in ids of its own


def test_limits_are_those_of_a_scope(instance):
    name, pid = instance
    group = group_of(pid)
    assert group == TREE / "holm.slice" / f"holm-{name}.scope"
    call("systemctl", "daemon-reload")      # systemd would undo what it has not been told
    for file, want in (("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("pids.max", "40")):
        assert (group / file).read_text().strip() == want, file
    holm("update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "50", "one")
    call("systemctl", "daemon-reload")
    assert (group / "memory.max").read_text().strip() == str(96 << 20)
    assert (group / "pids.max").read_text().strip() == "50"


def test_memory_limit_holds(image):
    done = holm("run", "--rm", "--network", "none", "--memory", "16m", "--memory-swap", "16m", image,
                "sh", "-c", "head -c 64m /dev/zero | tail > /dev/null; echo ended $?", check=False)
    assert "ended 137" in done.stdout or done.returncode == 137, done.stdout + done.stderr


def test_exec_stats_logs_and_top(instance):
    name, pid = instance
    assert holm("exec", "one", "echo", "joined").stdout == "joined\n"
    stats = json.loads(holm("stats", "--json", "one").stdout)
    assert name in json.dumps(stats) or "one" in json.dumps(stats)
    wait_for("output", lambda: "line 0" in holm("logs", "one").stdout)
    assert "sleep 1" in holm("top", "one").stdout
    holm("pause", "one")
    assert (group_of(pid) / "cgroup.freeze").read_text().strip() == "1"
    holm("resume", "one")
    assert (group_of(pid) / "cgroup.freeze").read_text().strip() == "0"


def test_stop(instance):
    _, pid = instance
    holm("stop", "-t", "1", "one")
    assert status()["state"] == "exited"
    assert not os.path.exists(f"/proc/{pid}")


def still_there(name, pid):
    """What was started before the daemon goes on, known to the new one."""
    assert status()["state"] == "running" and status()["pid"] == pid
    assert holm("exec", "one", "echo", "joined").stdout == "joined\n"
    count = holm("logs", "one").stdout.count("line")
    wait_for("more output", lambda: holm("logs", "one").stdout.count("line") > count)
    assert group_of(pid) == TREE / "holm.slice" / f"holm-{name}.scope"


def test_restart_of_the_unit(instance):
    name, pid = instance
    before = unit("holmd.service", "MainPID")
    call("systemctl", "restart", "holmd.service")
    assert unit("holmd.service", "MainPID") != before
    still_there(name, pid)


def test_stop_of_the_unit(instance):
    """Stopped, nobody dies; the socket brings the daemon back."""
    name, pid = instance
    call("systemctl", "stop", "holmd.service")
    assert os.path.exists(f"/proc/{pid}")
    still_there(name, pid)


def test_death_of_the_daemon(instance):
    name, pid = instance
    before = unit("holmd.service", "MainPID")
    call("systemctl", "kill", "--signal=KILL", "--kill-who=main", "holmd.service")
    wait_for("another daemon", lambda: unit("holmd.service", "MainPID", "ActiveState") not in
             (before + ["active"], ["0", "active"]) and active("holmd.service") == "active")
    still_there(name, pid)


def test_an_exit_that_happened_meanwhile(image, tmp_path):
    tmp_path.chmod(0o755)
    holm("run", "-d", "--name", "one", "--network", "none", "-v", f"{tmp_path}:/host:ro", image, "sh",
         "-c", "until test -e /host/go; do sleep 0.1; done; exit 9")
    try:
        pid = status()["pid"]
        call("systemctl", "stop", "holmd.service", "holmd.socket")
        (tmp_path / "go").touch()
        wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        call("systemctl", "start", "holmd.socket")
        try:
            wait_for("the daemon to know", lambda: status()["state"] == "exited")
            assert status()["exit_code"] == 9
        finally:
            holm("rm", "-f", "one")
