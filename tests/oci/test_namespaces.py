"""Every namespace, made and joined; user namespaces; callers without privileges."""
import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest

from lib.bundle import BASE_ID
from lib.oci import Box, leftovers
from lib.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt",
         "cgroup": "cgroup", "time": "time", "user": "user"}


@pytest.fixture
def box(tmp_path):
    with Box(tmp_path) as b:
        yield b
    assert leftovers(b) == []


@pytest.fixture
def userbox(tmp_path):
    with Box(tmp_path, userns=True) as b:
        yield b
    assert leftovers(b) == []


@contextlib.contextmanager
def holder(*flags, uid_map=None):
    """A process that holds new namespaces open."""
    flags = list(flags) + ([f"--map-users={uid_map}", f"--map-groups={uid_map}"] if uid_map else [])
    with subprocess.Popen(["unshare", *flags, "sh", "-c", "echo ready; exec sleep 1000"],
                          stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline() == "ready\n"
            yield run.pid
        finally:
            run.kill()


def ns(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "user"])
def test_made(box, kind):
    box.namespace(kind)
    box.detached("/bin/sleep", "1000")
    assert ns(box.pid(), KINDS[kind]) != ns("self", KINDS[kind])


@pytest.mark.parametrize("kind", ["network", "ipc", "cgroup", "pid"])
def test_left_out(box, kind):
    spaces = box.config["linux"]["namespaces"]
    spaces[:] = [n for n in spaces if n["type"] != kind]
    if kind == "network":  # sysfs belongs to the network namespace's owner: still root's
        pass
    box.detached("/bin/sleep", "1000")
    assert ns(box.pid(), KINDS[kind]) == ns("self", KINDS[kind])


@pytest.mark.parametrize("kind, flags", [
    ("network", ["--net"]), ("ipc", ["--ipc"]), ("uts", ["--uts"]), ("cgroup", ["--cgroup"]),
    ("time", ["--time", "--fork"]),
])
def test_joined(box, kind, flags):
    with holder(*flags) as pid:
        if kind == "time":
            pid = int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text())
        box.namespace(kind, f"/proc/{pid}/ns/{KINDS[kind]}")
        box.detached("/bin/sleep", "1000")
        assert ns(box.pid(), KINDS[kind]) == ns(pid, KINDS[kind])
        done = box.exec("/bin/readlink", f"/proc/self/ns/{KINDS[kind]}")
        assert done.stdout.strip() == ns(pid, KINDS[kind])
        box.ok("delete", "--force", box.id)


def test_joined_pid_namespace(box, tmp_path):
    box.detached("/bin/sleep", "1000")
    with Box(tmp_path) as other:
        other.namespace("pid", f"/proc/{box.pid()}/ns/pid")
        done = other.run("/bin/sh", "-c", "ps -o pid,args; echo me $$")
        assert "sleep 1000" in done.stdout, done.stderr
        assert "me 1\n" not in done.stdout
        assert leftovers(other) == []


def test_joined_mount_namespace(box):
    """The root is looked up there, not here."""
    with holder("--mount", "--propagation", "private") as pid:
        box.namespace("mount", f"/proc/{pid}/ns/mnt")
        box.detached("/bin/sleep", "1000")
        assert ns(box.pid(), "mnt") == ns(pid, "mnt")
        box.ok("delete", "--force", box.id)


def test_path_of_another_kind(box):
    box.namespace("network", "/proc/self/ns/uts")
    box.write()
    assert "/linux/namespaces" in box.fails("create", "--bundle", str(box.dir), box.id)
    box.namespace("network", "/etc/hostname")
    box.write()
    assert "/linux/namespaces" in box.fails("create", "--bundle", str(box.dir), box.id)
    box.namespace("network", "/no/such")
    box.write()
    assert "/no/such" in box.fails("create", "--bundle", str(box.dir), box.id)


def test_time_offsets(box):
    box.namespace("time")
    box.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 86400000, "nanosecs": 5},
                                          "boottime": {"secs": 86400000}}
    up = float(box.sh("cat /proc/uptime").split()[0])
    own = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    assert 86400000 - 5 < up - own < 86400000 + 60
    box.detached("/bin/sleep", "1000")
    assert float(box.exec("/bin/cat", "/proc/uptime").stdout.split()[0]) > 86400000


def test_hostname_and_domain(box):
    box.config["hostname"] = "inside"
    box.config["domainname"] = "example.org"
    assert box.sh("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname") \
        == "inside\nexample.org"
    assert pathlib.Path("/proc/sys/kernel/hostname").read_text() != "inside\n"


def test_hostname_without_its_namespace(box):
    spaces = box.config["linux"]["namespaces"]
    spaces[:] = [n for n in spaces if n["type"] != "uts"]
    assert "/hostname" in box.refused()


def test_loopback_is_up(box):
    assert "127.0.0.1" in box.sh("busybox ifconfig lo")


def test_user_namespace(userbox):
    assert userbox.sh("cat /proc/self/uid_map").split() == ["0", str(BASE_ID), "65536"]
    assert userbox.sh("id -u") == "0"
    userbox.detached("/bin/sleep", "1000")
    assert os.stat(f"/proc/{userbox.pid()}").st_uid == BASE_ID
    done = userbox.exec("/bin/sh", "-c", "id -u; cat /proc/self/uid_map")
    assert done.stdout.split() == ["0", "0", str(BASE_ID), "65536"], done.stderr


def test_user_namespace_other_user(userbox):
    userbox.config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7]}
    assert userbox.sh("id -u; id -g; id -G") == "1000\n1001\n1001 5 7"


def test_user_namespace_without_root_mapped(userbox):
    for name in ("uidMappings", "gidMappings"):
        userbox.config["linux"][name][0]["containerID"] = 1
    assert "id 0" in userbox.refused()


def test_user_namespace_with_two_ranges(userbox):
    for name in ("uidMappings", "gidMappings"):
        userbox.config["linux"][name] = [
            {"containerID": 0, "hostID": BASE_ID, "size": 1000},
            {"containerID": 1000, "hostID": BASE_ID + 5000, "size": 100}]
    userbox.config["process"]["user"] = {"uid": 1050, "gid": 0}
    userbox.detached("/bin/sleep", "1000")
    assert os.stat(f"/proc/{userbox.pid()}").st_uid == BASE_ID + 5050


def test_mappings_without_a_namespace(box):
    box.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": BASE_ID, "size": 1}]
    assert "/linux/uidMappings" in box.refused()


def test_user_namespace_with_a_joined_one_of_the_host(userbox):
    """A network namespace of the host's user namespace, joined before the own is made."""
    with holder("--net") as pid:
        userbox.namespace("network", f"/proc/{pid}/ns/net")
        # sysfs cannot be mounted without owning the network namespace
        userbox.config["mounts"] = [m for m in userbox.config["mounts"] if m["type"] != "sysfs"]
        userbox.detached("/bin/sleep", "1000")
        assert ns(userbox.pid(), "net") == ns(pid, "net")
        userbox.ok("delete", "--force", userbox.id)


def test_joined_user_namespace(userbox, tmp_path):
    """As a pod does: the second container joins the first one's."""
    userbox.detached("/bin/sleep", "1000")
    pid = userbox.pid()
    with Box(tmp_path, userns=True) as other:
        for kind in ("user", "network", "ipc", "uts"):
            other.namespace(kind, f"/proc/{pid}/ns/{KINDS[kind]}")
        other.config.pop("hostname")
        for name in ("uidMappings", "gidMappings"):
            other.config["linux"].pop(name)
        other.detached("/bin/sleep", "1000")
        for kind in ("user", "net", "ipc", "uts"):
            assert ns(other.pid(), kind) == ns(pid, kind)
        assert ns(other.pid(), "pid") != ns(pid, "pid")
        assert other.exec("/bin/id", "-u").stdout == "0\n"
        other.ok("delete", "--force", other.id)
        assert leftovers(other) == []


@pytest.fixture
def device():
    """A virtual device of the host with addresses."""
    name = f"hd{os.getpid() % 100000}"
    for args in (["link", "add", name, "type", "veth", "peer", "name", name + "p"], ["addr", "add", "198.51.100.7/24", "dev", name],
                 ["addr", "add", "2001:db8::7/64", "dev", name], ["link", "set", name, "up"]):
        if subprocess.run(["ip", *args], capture_output=True).returncode != 0:
            subprocess.run(["ip", "link", "del", name], capture_output=True)
            pytest.skip("no virtual network devices here")
    yield name
    subprocess.run(["ip", "link", "del", name], capture_output=True)


@pytest.mark.skipif(not shutil.which("ip"), reason="no ip (iproute2)")
@pytest.mark.parametrize("userns", [False, True], ids=["root", "userns"])
def test_network_device(tmp_path, device, userns):
    with Box(tmp_path, userns=userns) as box:
        box.config["linux"]["netDevices"] = {device: {"name": "inner0"}}
        text = box.sh("busybox ifconfig inner0")
        assert "198.51.100.7" in text
        assert "2001:db8::7/64" in text
        assert "UP" in text
        assert leftovers(box) == []
    assert not os.path.exists(f"/sys/class/net/{device}")


@pytest.mark.parametrize("devices", [{"no-such-dev": {}}, {"a/b": {}}, {"lo": {"name": "x" * 16}},
                                     {"lo": {"name": "%d"}}])
def test_network_device_that_is_none(box, devices):
    box.config["linux"]["netDevices"] = devices
    assert "/linux/netDevices" in box.refused()


# Callers without privileges.

USER = 54321
SUB = 710000


@pytest.fixture
def rootless(tmp_path):
    """A bundle that belongs to an ordinary user, in a folder that this user can reach."""
    top = pathlib.Path(subprocess.run(["mktemp", "-d", "/var/tmp/holm-rootless-XXXXXX"], check=True,
                                      capture_output=True, text=True).stdout.strip())
    box = Box(top)
    linux = box.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    linux.pop("cgroupsPath")
    for m in box.config["mounts"]:
        if m["type"] == "devpts":
            m["options"].remove("gid=5")
    subprocess.run(["cp", box.runtime, str(top / "holm-oci")], check=True)
    box.runtime = str(top / "holm-oci")
    box.state = top / "state"
    call = box.call
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(top)], check=True)
    box.call = lambda *args, **kw: call(*args, user=USER, group=USER, extra_groups=[], **kw)
    try:
        yield box
    finally:
        box.close()
        assert leftovers(box) == []
        subprocess.run(["rm", "-rf", str(top)], check=True)


def test_rootless(rootless):
    done = rootless.run("/bin/sh", "-c", "id -u; cat /proc/self/uid_map; exit 3")
    assert done.returncode == 3, done.stderr
    assert done.stdout.split() == ["0", "0", str(USER), "1"]


def test_rootless_create_exec_delete(rootless):
    rootless.config["process"]["args"] = ["/bin/sleep", "1000"]
    rootless.write()
    rootless.ok("run", "--detach", "--bundle", str(rootless.dir), rootless.id,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, capture_output=False)
    assert rootless.status() == "running"
    done = rootless.exec("/bin/sh", "-c", "id -u; readlink /proc/1/ns/mnt; readlink /proc/self/ns/mnt")
    lines = done.stdout.split()
    assert lines[0] == "0", done.stderr
    assert lines[1] == lines[2]
    rootless.ok("kill", rootless.id, "KILL")
    wait_for("the end", lambda: rootless.status() == "stopped")
    rootless.ok("delete", rootless.id)


def test_rootless_exec_before_start(rootless):
    """The process that waits hides itself from the container, and not from who made it."""
    rootless.config["process"]["args"] = ["/bin/sleep", "1000"]
    rootless.write()
    rootless.ok("create", "--bundle", str(rootless.dir), rootless.id,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, capture_output=False)
    assert rootless.status() == "created"
    done = rootless.exec("/bin/sh", "-c", "id -u; echo in")
    assert done.stdout == "0\nin\n", done.stderr
    rootless.ok("start", rootless.id)
    assert rootless.status() == "running"
    rootless.ok("delete", "--force", rootless.id)


def test_rootless_refuses_ids_that_are_not_the_callers(rootless):
    rootless.config["linux"]["uidMappings"][0]["hostID"] = 0
    done = rootless.run("/bin/true")
    assert done.returncode == 1
    assert leftovers(rootless) == []


@pytest.fixture
def subids():
    """Ranges for the user in /etc/subuid and /etc/subgid, taken out again."""
    saved = {}
    passwd = pathlib.Path("/etc/passwd")
    for path, line in (("/etc/subuid", f"{USER}:{SUB}:65536\n"),
                       ("/etc/subgid", f"{USER}:{SUB}:65536\n"),
                       ("/etc/passwd", f"holm-t:x:{USER}:{USER}::/:/bin/false\n")):
        p = pathlib.Path(path)
        saved[p] = p.read_text() if p.exists() else None
        p.write_text((saved[p] or "") + line)
    yield
    for p, text in saved.items():
        if text is None:
            p.unlink()
        else:
            p.write_text(text)
    assert passwd.read_text() == saved[passwd]


@pytest.mark.skipif(not os.path.exists("/usr/bin/newuidmap"), reason="no newuidmap (uidmap)")
def test_rootless_with_a_range(rootless, subids):
    linux = rootless.config["linux"]
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": USER, "size": 1},
                       {"containerID": 1, "hostID": SUB, "size": 65536}]
    rootless.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    done = rootless.run("/bin/sh", "-c", "id -u; id -G")
    assert done.stdout == "1000\n1000 7\n", done.stderr
