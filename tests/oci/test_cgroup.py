# SPDX-License-Identifier: Apache-2.0
"""Cgroups of real containers, on whatever cgroups this host has: v1 and hybrid hosts here, v2
with and without systemd in the machine of tests/vm."""
import json
import os
import pathlib
import shutil
import subprocess
import time
import uuid

import pytest

from lib.wait import wait_for

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
RUNTIME = os.environ.get("HOLM_TEST_RUNTIME", str(BUILD / "bin" / "holm-oci"))
ROOT = pathlib.Path("/sys/fs/cgroup")
V2 = (ROOT / "cgroup.controllers").exists()
HYBRID = not V2 and (ROOT / "unified/cgroup.controllers").exists()
MANAGERS = ["cgroupfs"] + (["systemd"] if pathlib.Path("/run/systemd/private").exists() else [])
RANGE = 400000


def groups_of(pid):
    """{"cpu,cpuacct": "/a", "": "/b"}: the groups of a process."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines}


def folder_of(controller, group):
    """The folder of a group: of a v1 controller, or of the v2 tree for ''."""
    if V2:
        return ROOT / group.lstrip("/")
    if controller == "":
        return ROOT / "unified" / group.lstrip("/")
    return ROOT / controller.removeprefix("name=") / group.lstrip("/")


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except FileNotFoundError:
        return False


class Box:
    """A bundle and its containers. close() leaves nothing."""

    def __init__(self, folder, manager):
        self.folder = folder
        self.manager = manager
        self.ids = []
        self.top = f"holm-cgroup-{uuid.uuid4().hex[:8]}"
        root = folder / "rootfs"
        for name in ("bin", "proc", "sys", "dev", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for name in ("sh", "sleep", "cat", "echo", "true", "mkdir", "mknod", "dd", "tail", "head", "ls"):
            (root / "bin" / name).symlink_to("busybox")
        caps = ("CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_KILL")
        self.config = {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["sleep", "1000"], "cwd": "/",
                        "env": ["PATH=/bin"],
                        "capabilities": {k: list(caps) for k in ("bounding", "effective", "permitted")}},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["mode=755", "size=65536k"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}],
            "linux": {"namespaces": [{"type": k} for k in ("pid", "mount", "ipc", "uts", "network")],
                      "cgroupsPath": self.path("one"),
                      "resources": {"devices": [{"allow": False, "access": "rwm"}]}},
        }

    def path(self, name):
        if self.manager == "systemd":
            return f"{self.top.replace('-', '_')}.slice:{self.top}:{name}"
        return f"/{self.top}/{name}"

    @property
    def res(self):
        return self.config["linux"]["resources"]

    def shell(self, script):
        self.config["process"]["args"] = ["sh", "-c", script]

    def call(self, *args, **kw):
        options = ["--systemd-cgroup"] if self.manager == "systemd" else []
        return subprocess.run([RUNTIME, "--root", str(self.folder / "state"), *options,
                               *[str(a) for a in args]], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, **kw)

    def ok(self, *args, **kw):
        done = self.call(*args, **kw)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self):
        (self.folder / "config.json").write_text(json.dumps(self.config))
        name = f"cgroup-{uuid.uuid4().hex[:8]}"
        self.ids.append(name)
        return name

    def start(self):
        """A container in the background: its id and the pid of its init."""
        name = self.write()
        with open(self.folder / "log", "w") as log:
            args = ["--systemd-cgroup"] if self.manager == "systemd" else []
            done = subprocess.run([RUNTIME, "--root", str(self.folder / "state"), *args, "run", "-d",
                                   "-b", str(self.folder), name], stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log, timeout=60)
        assert done.returncode == 0, (self.folder / "log").read_text()
        return name, json.loads(self.ok("state", name))["pid"]

    def run(self):
        return self.call("run", "-b", self.folder, self.write())

    def leftovers(self):
        """Groups of containers, not the ones above them."""
        tops = (self.top, self.top.replace("-", "_") + ".slice")
        return [at for at, _, _ in os.walk(ROOT) if any(f"{top}/" in at for top in tops)]

    def close(self):
        for name in self.ids:
            self.call("delete", "--force", name)
        if self.manager == "systemd":   # which keeps a slice that is empty
            subprocess.run(["systemctl", "stop", self.top.replace("-", "_") + ".slice"], check=False)
        tops = [at for at, _, _ in os.walk(ROOT) if at.endswith(f"/{self.top}")]
        for at in sorted(self.leftovers(), key=len, reverse=True) + tops:
            try:
                os.rmdir(at)
            except OSError:
                pass


@pytest.fixture(params=MANAGERS)
def box(tmp_path, request):
    b = Box(tmp_path, request.param)
    yield b
    b.close()


@pytest.fixture
def fsbox(tmp_path):
    b = Box(tmp_path, "cgroupfs")
    yield b
    b.close()


def read(pid, controller, name):
    groups = groups_of(pid)
    key = "" if V2 else next(k for k in groups if controller in k.split(","))
    return (folder_of(key, groups[key]) / name).read_text().strip()


def test_has_a_group_in_every_hierarchy(box):
    name, pid = box.start()
    groups = groups_of(pid)
    for controller, group in groups.items():
        assert group.endswith(f"{box.top}-one.scope" if box.manager == "systemd" else f"/{box.top}/one"), groups
        assert str(pid) in (folder_of(controller, group) / "cgroup.procs").read_text().split()
    box.ok("delete", "--force", name)
    for controller, group in groups.items():
        assert not folder_of(controller, group).exists()


def test_relative_and_default_paths(fsbox):
    own = groups_of("self")
    for path, tail in ((f"{fsbox.top}/rel", f"{fsbox.top}/rel"), (None, None)):
        fsbox.config["linux"]["cgroupsPath"] = path
        if path is None:
            del fsbox.config["linux"]["cgroupsPath"]
        name, pid = fsbox.start()
        for controller, group in groups_of(pid).items():
            base = own[controller]
            if V2:
                base = os.path.dirname(base)
            assert group == os.path.join(base, tail or name)
        fsbox.ok("delete", "--force", name)


LIMITS_V1 = [("memory", "memory.limit_in_bytes", "67108864"), ("cpu", "cpu.shares", "512"),
             ("cpu", "cpu.cfs_quota_us", "20000"), ("cpu", "cpu.cfs_period_us", "50000"),
             ("pids", "pids.max", "20"), ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0"),
             ("memory", "memory.soft_limit_in_bytes", "33554432")]
LIMITS_V2 = [("memory", "memory.max", "67108864"), ("cpu", "cpu.weight", "59"),
             ("cpu", "cpu.max", "20000 50000"), ("pids", "pids.max", "20"),
             ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0"),
             ("memory", "memory.low", "33554432"), ("memory", "memory.swap.max", "33554432")]


def set_limits(box):
    box.res.update({
        "memory": {"limit": 67108864, "reservation": 33554432},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20}})
    if V2:
        box.res["memory"]["swap"] = 67108864 + 33554432


def test_limits_are_set(box):
    set_limits(box)
    _, pid = box.start()
    for controller, name, value in LIMITS_V2 if V2 else LIMITS_V1:
        assert read(pid, controller, name) == value, name


def test_update(box):
    set_limits(box)
    name, pid = box.start()
    update = {"memory": {"limit": 33554432 * 3}, "cpu": {"quota": 30000}, "pids": {"limit": 30}}
    if V2:
        update["memory"]["swap"] = 33554432 * 4
    (box.folder / "update.json").write_text(json.dumps(update))
    box.ok("update", "-r", box.folder / "update.json", name)
    changed = [("memory", "memory.max" if V2 else "memory.limit_in_bytes", str(33554432 * 3)),
               ("cpu", "cpu.max" if V2 else "cpu.cfs_quota_us", "30000 50000" if V2 else "30000"),
               ("pids", "pids.max", "30")]
    for controller, file, value in changed:
        assert read(pid, controller, file) == value, file


def test_pids_limit_holds(box):
    box.res["pids"] = {"limit": 8}
    box.shell("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all")
    done = box.run()
    assert "fork" in done.stderr and "all" not in done.stdout


def test_memory_limit_kills(box):
    box.res["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    box.shell("head -c 64m /dev/zero | tail > /dev/null; echo ${PIPESTATUS:-$?}")
    done = box.run()
    assert "137" in done.stdout or done.returncode == 137, done.stdout + done.stderr


@pytest.mark.parametrize("allow", [False, True])
def test_device_rules_hold(box, allow):
    """kmsg (1:11) may be opened by whoever has CAP_SYSLOG, if the rules let it."""
    for caps in box.config["process"]["capabilities"].values():
        caps.append("CAP_SYSLOG")
    if allow:
        box.res["devices"].append({"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"})
    box.shell("mknod /dev/log c 1 11 && echo made; (: < /dev/log) 2>/dev/null && echo read; "
              "(: >> /dev/log) 2>/dev/null && echo written; "
              "head -c 3 /dev/zero > /dev/null && echo zero")
    done = box.run()
    want = ["made"] + (["read"] if allow else []) + ["zero"]
    assert done.stdout.split() == want, done.stdout + done.stderr


def test_pause_and_resume(box):
    box.shell("while true; do echo x > /tmp/x; done")
    name, pid = box.start()
    box.ok("pause", name)
    assert json.loads(box.ok("state", name))["status"] == "paused"
    before = pathlib.Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    time.sleep(0.3)
    assert pathlib.Path(f"/proc/{pid}/stat").read_text().split()[13:15] == before
    box.ok("resume", name)
    assert json.loads(box.ok("state", name))["status"] == "running"


@pytest.mark.parametrize("where", ["", "freezer", "memory"])
@pytest.mark.parametrize("network", [True, False])
def test_groups_of_others(fsbox, where, network):
    """With someone in one of its groups a container is refused; that one stays, and nothing new."""
    if where and V2:
        pytest.skip("no v1 here")
    if not network:
        fsbox.config["linux"]["namespaces"] = [
            n for n in fsbox.config["linux"]["namespaces"] if n["type"] != "network"]
    group = folder_of(where, fsbox.path("one"))
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            (group / "cgroup.procs").write_text(str(other.pid))
            done = fsbox.run()
            assert done.returncode != 0 and "has processes already" in done.stderr, done.stderr
            assert alive(other.pid)
            assert fsbox.leftovers() == [str(group)]
        finally:
            other.kill()


def freeze_with_v1(pid):
    group = groups_of(pid).get("freezer")
    if not V2 and group:
        (folder_of("freezer", group) / "freezer.state").write_text("FROZEN")


@pytest.mark.parametrize("how", ["pause", "v1-freezer"])
@pytest.mark.parametrize("end", ["kill", "delete"])
def test_nothing_frozen_stays_behind(box, how, end):
    if how == "v1-freezer" and V2:
        pytest.skip("no v1 freezer here")
    box.shell("sleep 1000 & sleep 1000 & sleep 1000")
    name, pid = box.start()
    wait_for("children", lambda: len(box.ok("ps", "-f", "json", name).split(",")) >= 3)
    pids = json.loads(box.ok("ps", "-f", "json", name))
    if how == "pause":
        box.ok("pause", name)
    else:
        freeze_with_v1(pid)
    if end == "kill":
        box.ok("kill", name, "KILL")
        wait_for("death", lambda: not alive(pid))
    else:
        box.ok("delete", "--force", name)
    wait_for("all to die", lambda: not any(alive(p) for p in pids))


def test_kill_all_reaches_everyone(box):
    box.config["linux"]["namespaces"] = [{"type": "mount"}]   # the host's pid namespace
    box.shell("sleep 1000 & sleep 1000 & sleep 1000 & exec sleep 1000")
    name, pid = box.start()
    wait_for("children", lambda: len(json.loads(box.ok("ps", "-f", "json", name))) >= 4)
    pids = json.loads(box.ok("ps", "-f", "json", name))
    box.ok("kill", "--all", name, "KILL")
    wait_for("all to die", lambda: not any(alive(p) for p in pids))


def test_stats(box):
    name, _ = box.start()
    event = json.loads(box.ok("events", "--stats", name))
    assert event["type"] == "stats" and event["id"] == name
    data = event["data"]
    assert data["memory"]["usage"]["usage"] > 0
    assert data["pids"]["current"] >= 1
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["raw"]


def test_out_of_memory_is_told(box):
    box.res["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    box.shell("until test -e /tmp/go; do sleep 0.1; done; head -c 64m /dev/zero | tail > /dev/null; "
              "sleep 1000")
    (box.folder / "rootfs/bin/test").symlink_to("busybox")
    (box.folder / "rootfs/bin/touch").symlink_to("busybox")
    name, _ = box.start()
    options = ["--systemd-cgroup"] if box.manager == "systemd" else []
    events = subprocess.Popen([RUNTIME, "--root", str(box.folder / "state"), *options, "events", "--interval", "200ms",
                               name],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        json.loads(events.stdout.readline())   # the first statistics: it listens
        box.ok("exec", name, "touch", "/tmp/go")
        kinds = set()
        wait_for("the event", lambda: kinds.add(json.loads(events.stdout.readline())["type"]) or
                 "oom" in kinds, 30)
    finally:
        events.kill()
        events.wait()
        events.stdout.close()


def test_exec_joins(box):
    name, pid = box.start()
    done = box.ok("exec", name, "cat", "/proc/self/cgroup")
    got = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in done.splitlines()}
    assert got == groups_of(pid)


def test_refused_limit_leaves_nothing(box):
    box.res["cpu"] = {"cpus": "999999"}
    done = box.run()
    assert done.returncode != 0 and "cpus" in done.stderr
    assert box.leftovers() == []


def test_refuses_a_group_in_use(fsbox):
    _, pid = fsbox.start()
    done = fsbox.run()
    assert done.returncode != 0 and "processes" in done.stderr
    assert alive(pid)


def test_groups_made_inside_go_away(fsbox):
    name, pid = fsbox.start()
    for controller, group in groups_of(pid).items():
        (folder_of(controller, group) / "a/b").mkdir(parents=True)
    fsbox.ok("delete", "--force", name)
    assert fsbox.leftovers() == []


def test_delete_after_exit_leaves_nothing(box):
    box.config["process"]["args"] = ["true"]
    name, pid = box.start()
    wait_for("exit", lambda: not alive(pid))
    box.ok("delete", name)
    assert box.leftovers() == []


@pytest.mark.skipif(V2, reason="v1 only")
def test_unified_is_refused_on_v1(fsbox):
    fsbox.res["unified"] = {"memory.high": "1000000"}
    done = fsbox.run()
    assert done.returncode != 0 and "unified" in done.stderr


@pytest.mark.skipif(not V2, reason="needs v2")
def test_unified(box):
    box.res["unified"] = {"memory.high": "50331648", "pids.max": "33", "cpu.max": "40000 100000"}
    _, pid = box.start()
    assert read(pid, "memory", "memory.high") == "50331648"
    assert read(pid, "pids", "pids.max") == "33"
    assert read(pid, "cpu", "cpu.max") == "40000 100000"


@pytest.mark.skipif(not V2, reason="needs v2")
def test_exec_into_a_delegated_tree(box):
    """A systemd in the container moves itself below its group, which then takes no process."""
    box.config["linux"]["namespaces"].append({"type": "cgroup"})
    box.config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs"})
    box.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup",
                                 "source": "cgroup", "options": ["rw"]})
    box.shell("cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs && "
              "echo +pids > cgroup.subtree_control && echo done > /tmp/done; sleep 1000")
    name, pid = box.start()
    wait_for("the move", lambda: os.path.exists(f"/proc/{pid}/root/tmp/done"))
    assert groups_of(pid)[""].endswith("/init")
    out = box.ok("exec", name, "cat", "/proc/self/cgroup")
    assert out.strip() == "0::/init"
    box.ok("delete", "--force", name)
    assert box.leftovers() == []


def test_delegation_in_a_user_namespace(box):
    one = [{"containerID": 0, "hostID": RANGE, "size": 65536}]
    box.config["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
    box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = one
    box.config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs"})
    box.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup",
                                 "source": "cgroup", "options": ["rw"]})
    for path in [box.folder / "rootfs", *(box.folder / "rootfs").rglob("*")]:
        os.lchown(path, RANGE, RANGE)
    for path in [box.folder, *list(box.folder.parents)[:-1]]:
        if not os.stat(path).st_mode & 0o001:
            os.chmod(path, os.stat(path).st_mode | 0o011)
    _, pid = box.start()
    for controller, group in groups_of(pid).items():
        folder = folder_of(controller, group)
        given = V2 or controller in ("", "name=systemd")
        assert folder.stat().st_uid == (RANGE if given else 0), controller
        for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"):
            if (folder / name).exists():
                assert (folder / name).stat().st_uid == (RANGE if given else 0), name
        for name in ("memory.max", "pids.max", "memory.limit_in_bytes", "devices.allow", "cpu.max"):
            if (folder / name).exists():
                assert (folder / name).stat().st_uid == 0, name


def show(unit, *properties):
    out = subprocess.run(["systemctl", "show", unit, "-p", ",".join(properties)], text=True,
                         capture_output=True, check=True).stdout
    return dict(line.split("=", 1) for line in out.splitlines())


@pytest.mark.skipif("systemd" not in MANAGERS, reason="systemd is not pid 1 here")
def test_systemd_unit(tmp_path):
    box = Box(tmp_path, "systemd")
    try:
        set_limits(box)
        box.config["annotations"] = {"org.systemd.property.TimeoutStopUSec": "uint64 7000000",
                                     "org.systemd.property.RuntimeMaxSec": "900",
                                     "org.systemd.property.Description": "'of a test'"}
        name, pid = box.start()
        got = show(f"{box.top}-one.scope", "ActiveState", "Slice", "Delegate", "MemoryMax", "TasksMax",
                   "CPUQuotaPerSecUSec", "CPUWeight", "TimeoutStopUSec", "Description", "AllowedCPUs",
                   "RuntimeMaxUSec")
        assert got == {"ActiveState": "active", "Slice": box.top.replace("-", "_") + ".slice",
                       "Delegate": "yes", "MemoryMax": "67108864", "TasksMax": "20",
                       "CPUQuotaPerSecUSec": "400ms", "CPUWeight": "59", "TimeoutStopUSec": "7s",
                       "Description": "of a test", "AllowedCPUs": "0", "RuntimeMaxUSec": "15min"}
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        for controller, file, value in LIMITS_V2 if V2 else LIMITS_V1:
            assert read(pid, controller, file) == value, file
        (box.folder / "update.json").write_text(json.dumps({"pids": {"limit": 77}}))
        box.ok("update", "-r", box.folder / "update.json", name)
        assert show(f"{box.top}-one.scope", "TasksMax") == {"TasksMax": "77"}
        box.ok("delete", "--force", name)
        wait_for("the unit to go", lambda: show(f"{box.top}-one.scope", "ActiveState")["ActiveState"] ==
                 "inactive")
        assert show(f"{box.top}-one.scope", "LoadState") == {"LoadState": "not-found"}
    finally:
        box.close()


@pytest.mark.skipif("systemd" not in MANAGERS, reason="systemd is not pid 1 here")
def test_systemd_refuses_bad_names_and_values(tmp_path):
    box = Box(tmp_path, "systemd")
    try:
        box.config["linux"]["cgroupsPath"] = "/not/of/systemd"
        done = box.run()
        assert done.returncode != 0 and "slice:prefix:name" in done.stderr
        box.config["linux"]["cgroupsPath"] = box.path("one")
        box.config["annotations"] = {"org.systemd.property.TimeoutStopUSec": "'text"}
        done = box.run()
        assert done.returncode != 0 and "TimeoutStopUSec" in done.stderr
        del box.config["annotations"]
        _, pid = box.start()
        done = box.run()
        assert done.returncode != 0 and "exists" in done.stderr
        assert alive(pid)   # the unit of that name is not ours to stop
    finally:
        box.close()
