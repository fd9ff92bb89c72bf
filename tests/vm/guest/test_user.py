# SPDX-License-Identifier: Apache-2.0
"""--systemd-cgroup for a user who is not root: the user's own systemd makes the scopes."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from lib.bundle import Bundle
from lib.wait import wait_for

UID = 1000
RUN = f"/run/user/{UID}"
TREE = pathlib.Path("/sys/fs/cgroup")
TOP = f"/user.slice/user-{UID}.slice/user@{UID}.service"
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", "-i",
           "PATH=/usr/bin:/bin"]
OF_USER = [*AS_USER, f"XDG_RUNTIME_DIR={RUN}"]
DROP_IN = pathlib.Path("/run/systemd/system/user@.service.d/holm-test.conf")


def ctl(*args, check=True):
    return subprocess.run([*OF_USER, "systemctl", "--user", *args], check=check,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", autouse=True)
def manager():
    """The systemd of a user who lingers, with all controllers handed down to it."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("[Service]\nDelegate=cpu cpuset io memory pids\n")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["loginctl", "enable-linger", "user"], check=True)
    try:
        wait_for("the user's systemd", lambda: os.path.exists(f"{RUN}/systemd/private"))
        yield
    finally:
        subprocess.run(["loginctl", "disable-linger", "user"], check=True)
        subprocess.run(["systemctl", "stop", f"user@{UID}.service"], check=True)
        DROP_IN.unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=True)


class UserBox(Bundle):
    """A bundle of the user's, whose root is the user."""

    def __init__(self, folder):
        super().__init__(folder)
        self.name = self.id.replace("-", "_")
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            linux[key] = [{"containerID": 0, "hostID": UID, "size": 1}]
        linux["cgroupsPath"] = f":holm:{self.name}"
        linux["resources"] = {}
        for m in self.config["mounts"]:
            m["options"] = [o for o in m["options"] if not o.startswith("gid=")]
        self.wrapper = OF_USER
        for path in [folder, *folder.rglob("*")]:
            os.lchown(path, UID, UID)

    @property
    def res(self):
        return self.config["linux"]["resources"]

    @property
    def unit(self):
        return f"holm-{self.name}.scope"

    def write(self):
        super().write()
        os.chown(self.dir / "config.json", UID, UID)

    def call(self, *args, **kw):
        return super().call("--systemd-cgroup", *args, **kw)

    def ok(self, *args, **kw):
        done = self.call(*args, **kw)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *argv):
        """In the background; returns the pid of its first process."""
        self.config["process"]["args"] = list(argv or ("/bin/sleep", "1000"))
        self.write()
        with open(self.dir / "log", "wb") as log:
            done = subprocess.run([*self.wrapper, self.runtime, "--root", str(self.state),
                                   "--systemd-cgroup", "run", "--detach", "--bundle",
                                   str(self.dir), self.id], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, timeout=120)
        assert done.returncode == 0, (self.dir / "log").read_text()
        return json.loads(self.ok("state", self.id))["pid"]


@pytest.fixture
def box():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-user-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with UserBox(folder) as b:
            yield b
        assert ctl("list-units", "--all", "--plain", "--no-legend", "holm-*.scope") == ""
        assert not list((TREE / TOP.lstrip("/")).rglob("holm-*.scope"))
    finally:
        shutil.rmtree(folder)


def group_of(pid):
    return pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def value(pid, name):
    return (TREE / group_of(pid).lstrip("/") / name).read_text().strip()


def test_a_scope_of_the_user(box):
    """Also where the caller's own group is none of the user's (here it is a system service's)."""
    pid = box.start()
    assert group_of(pid) == f"{TOP}/user.slice/{box.unit}"
    assert ctl("is-active", box.unit).strip() == "active"
    assert "Delegate=yes" in ctl("show", box.unit, "-p", "Delegate")
    box.ok("delete", "--force", box.id)
    assert ctl("is-active", box.unit, check=False).strip() == "inactive"
    assert not (TREE / TOP.lstrip("/") / "user.slice" / box.unit).exists()


def test_a_slice_of_the_user(box):
    box.config["linux"]["cgroupsPath"] = f"app-holm.slice:holm:{box.name}"
    pid = box.start()
    assert group_of(pid) == f"{TOP}/app.slice/app-holm.slice/{box.unit}"


def test_limits(box):
    box.res.update({"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                    "pids": {"limit": 20}, "unified": {"memory.high": "50331648"},
                    "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"}})
    pid = box.start()
    for name, want in (("memory.max", "67108864"), ("memory.low", "33554432"),
                       ("memory.high", "50331648"), ("memory.swap.max", "33554432"),
                       ("pids.max", "20"), ("cpu.max", "20000 50000"), ("cpu.weight", "59"),
                       ("cpuset.cpus", "0")):
        assert value(pid, name) == want, name
    box.ok("update", "--memory", str(80 << 20), "--memory-swap", str(120 << 20), "--pids-limit",
           "30", box.id)
    ctl("daemon-reload")    # what systemd was not told it would undo
    assert value(pid, "memory.max") == str(80 << 20) and value(pid, "pids.max") == "30"
    assert value(pid, "cpu.max") == "20000 50000"


def test_limits_hold(box):
    box.res.update({"memory": {"limit": 16 << 20, "swap": 16 << 20}})
    done = box.run("/bin/sh", "-c", "head -c 64m /dev/zero | busybox tail > /dev/null; echo ended $?")
    assert "ended 137" in done.stdout or done.returncode == 137, done.stdout + done.stderr
    box.res.clear()
    box.res["pids"] = {"limit": 8}
    done = box.run("/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all")
    assert "fork" in done.stderr and "all" not in done.stdout


def test_exec_pause_stats_and_kill(box):
    pid = box.start("/bin/sh", "-c", "sleep 1000 & exec sleep 1000")
    assert box.ok("exec", box.id, "cat", "/proc/self/cgroup").strip() == "0::/"
    box.ok("pause", box.id)
    assert value(pid, "cgroup.freeze") == "1"
    assert json.loads(box.ok("state", box.id))["status"] == "paused"
    box.ok("resume", box.id)
    stats = json.loads(box.ok("events", "--stats", box.id))["data"]
    assert stats["memory"]["usage"]["usage"] > 0 and stats["pids"]["current"] == 2
    assert len(json.loads(box.ok("ps", "-f", "json", box.id))) == 2
    box.ok("kill", "--all", box.id, "KILL")
    wait_for("its end", lambda: json.loads(box.ok("state", box.id))["status"] == "stopped")
    box.ok("delete", box.id)


def test_exit_leaves_nothing(box):
    assert box.run("/bin/sh", "-c", "exit 7").returncode == 7


def test_a_failure_leaves_nothing(box):
    assert "nosuch" in box.refused("/bin/nosuch")


def test_cgroup_mount_is_its_own(box):
    """The scope is delegated: root of the container may divide it, and sees nothing else."""
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup", options=["nosuid", "noexec", "nodev"])
    out = box.sh("head -n 1 /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/inner && echo made; "
                 "ls /sys/fs/cgroup/.. | grep -c slice || true")
    assert out.split() == ["1", "made", "0"]


def test_exec_below_the_scope(box):
    """Where the container has divided its group, a process goes where it is told to."""
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup", options=["nosuid", "noexec", "nodev"])
    box.start("/bin/sh", "-c", "mkdir /sys/fs/cgroup/inner && exec sleep 1000")
    wait_for("the group", lambda: list((TREE / TOP.lstrip("/")).rglob(f"{box.unit}/inner")))
    assert box.ok("exec", "--cgroup", "inner", box.id, "cat", "/proc/self/cgroup").strip() == \
        "0::/inner"
    assert "outside" in box.call("exec", "--cgroup", "../..", box.id, "true").stderr


def test_inside_the_users_session(box):
    """As a service of the user's systemd: nobody has to move the process across."""
    box.wrapper = [*OF_USER, "systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect"]
    assert box.sh("cat /proc/self/cgroup") == "0::/"


def test_in_a_user_namespace_as_its_root(box):
    """The caller looks like root, and is not (as below podman)."""
    for key in ("uidMappings", "gidMappings"):
        box.config["linux"][key] = [{"containerID": 0, "hostID": 0, "size": 1}]
    box.wrapper = [*OF_USER, "unshare", "--user", "--map-root-user"]
    pid = box.start()
    assert group_of(pid) == f"{TOP}/user.slice/{box.unit}"


def test_systemd_is_not_found(box):
    box.wrapper = AS_USER
    assert "XDG_RUNTIME_DIR" in box.refused()
    box.wrapper = [*AS_USER, f"XDG_RUNTIME_DIR={box.dir}"]
    assert f"{box.dir}/bus" in box.refused()


def test_a_controller_that_is_not_handed_down_is_named(box):
    """hugetlb is not delegated: a limit that cannot be kept is refused, by name."""
    box.res["hugepageLimits"] = [{"pageSize": "2MB", "limit": 2 << 20}]
    assert "hugepageLimits" in box.refused() or "hugetlb" in box.refused()
