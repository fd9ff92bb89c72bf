"""Mounts of a container, through holm-oci.

What a single call does is tested beside the code (src/container/test-rootfs.c); here is what
takes a whole container, with and without a user namespace.
"""
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest

from lib.bundle import BASE_ID, RUNTIME, Bundle

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=["root", "userns"])
def box(request, tmp_path):
    with Bundle(tmp_path, userns=request.param == "userns") as b:
        yield b


@pytest.fixture
def rootbox(tmp_path):
    with Bundle(tmp_path) as b:
        yield b


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("of the host\n")
    folder.chmod(0o777)
    (folder / "sub").chmod(0o777)
    return folder


@pytest.fixture
def mounted(source):
    """A tmpfs below the source, shared."""
    at = source / "sub"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "holm-test", at], check=True)
    subprocess.run(["mount", "--make-shared", at], check=True)
    (at / "deep").write_text("deep\n")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def is_v2():
    return pathlib.Path("/sys/fs/cgroup/cgroup.procs").exists()


on_v1 = pytest.mark.skipif(is_v2(), reason="needs v1 hierarchies")


def mountinfo(text):
    """Mount point -> (options, propagation fields, type, superblock options)."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        dash = fields.index("-")
        found[fields[4]] = (fields[5].split(","), fields[6:dash], fields[dash + 1],
                            fields[dash + 3].split(","))
    return found


def table(box, **kw):
    return mountinfo(box.sh("cat /proc/self/mountinfo", **kw))


def test_the_usual_mounts(box):
    mounts = table(box)
    assert mounts["/proc"][2] == "proc"
    assert {"nosuid", "noexec", "nodev"} <= set(mounts["/proc"][0])
    assert mounts["/dev"][2] == "tmpfs" and "size=65536k" in mounts["/dev"][3]
    assert mounts["/dev/pts"][2] == "devpts" and "ptmxmode=666" in mounts["/dev/pts"][3]
    assert mounts["/dev/shm"][2] == "tmpfs"
    assert mounts["/dev/mqueue"][2] == "mqueue"
    assert mounts["/sys"][2] == "sysfs" and "ro" in mounts["/sys"][0]
    assert "ro" in mounts["/proc/sys"][0]
    # Nothing of the host is left: all that there is lies where the config says.
    allowed = ("/proc", "/dev", "/sys")
    assert all(m == "/" or m.startswith(allowed) for m in mounts), mounts


def test_masked_paths_show_nothing(box):
    assert box.sh("cat /proc/keys | wc -c; ls -A /sys/firmware | wc -l") == "0\n0"
    assert box.run("/bin/sh", "-c", "echo b > /proc/sysrq-trigger").returncode != 0
    assert box.run("/bin/sh", "-c", "touch /sys/firmware/x").returncode != 0
    assert box.run("/bin/sh", "-c", "echo x > /proc/sys/kernel/domainname").returncode != 0


def test_devices(box):
    out = box.sh("for d in null zero full random urandom tty; do stat -c '%n %F %a' /dev/$d; done;"
                 "readlink /dev/ptmx; readlink /dev/fd; echo x > /dev/null; head -c 4 /dev/zero | wc -c")
    assert out.count("character special file 666") == 6
    assert "pts/ptmx" in out and "/proc/self/fd" in out and out.endswith("4")


def test_extra_device(box):
    box.config["linux"]["devices"] = [
        {"path": "/dev/sub/mynull", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640,
         "uid": 5, "gid": 6}]
    box.config["linux"]["resources"] = {"devices": [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}
    box.config["linux"]["devices"].append(
        {"path": "/opt/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o606})
    out = box.sh("stat -c '%F %a %u %g' /dev/sub/mynull /opt/zero; head -c 3 /opt/zero | wc -c")
    assert out == "character special file 640 5 6\ncharacter special file 606 0 0\n3"


@pytest.mark.parametrize("options,flags,absent", [
    (["rbind", "ro", "nosuid", "nodev", "noexec"], {"ro", "nosuid", "nodev", "noexec"}, {"rw"}),
    (["bind", "rw", "noatime", "nodiratime"], {"rw", "noatime", "nodiratime"}, {"relatime"}),
    (["bind", "relatime", "nosymfollow"], {"relatime", "nosymfollow"}, {"noatime"}),
    (["bind", "ro", "rw", "nodev", "dev"], {"rw"}, {"ro", "nodev"}),
    (["bind", "defaults", "strictatime"], {"rw"}, {"relatime", "noatime"}),
])
def test_flags(box, source, options, flags, absent):
    box.mount("/data", source=str(source), options=options)
    got = set(table(box)["/data"][0])
    assert flags <= got and not absent & got, got


def test_recursive_flags(rootbox, source, mounted):
    rootbox.mount("/all", source=str(source), options=["rbind", "rro", "rnoexec"])
    rootbox.mount("/top", source=str(source), options=["rbind", "ro"])
    rootbox.mount("/one", source=str(source), options=["bind"])
    got = table(rootbox)
    assert {"ro", "noexec"} <= set(got["/all"][0]) & set(got["/all/sub"][0])
    assert "ro" in got["/top"][0] and "rw" in got["/top/sub"][0]
    assert "/one/sub" not in got


@pytest.mark.parametrize("option,check", [
    ("rprivate", lambda f: not f),
    ("rslave", lambda f: any(x.startswith("master:") for x in f)),
    ("rshared", lambda f: any(x.startswith("shared:") for x in f)),
    ("runbindable", lambda f: f == ["unbindable"]),
])
def test_propagation(rootbox, mounted, option, check):
    rootbox.mount("/data", source=str(mounted), options=["rbind", option])
    assert check(table(rootbox)["/data"][1])


def test_slave_receives_and_does_not_send(rootbox, mounted):
    """What the container mounts in a slave stays there; the host's mounts arrive."""
    (mounted / "a").mkdir()
    (mounted / "b").mkdir()
    rootbox.mount("/data", source=str(mounted), options=["rbind", "rslave"])
    rootbox.config["process"]["args"] = [
        "/bin/sh", "-ec", "mount -t tmpfs x /data/a; echo up;"
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do"
        " grep -q ' /data/b ' /proc/self/mountinfo && echo came && exit 0; sleep 0.1; done"]
    rootbox.write()
    with subprocess.Popen([rootbox.runtime, "--root", rootbox.state, "run", "--bundle", rootbox.dir,
                           rootbox.id], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "up\n"
        host = mountinfo(pathlib.Path("/proc/self/mountinfo").read_text())
        assert str(mounted / "a") not in host
        subprocess.run(["mount", "-t", "tmpfs", "late", mounted / "b"], check=True)
        try:
            assert run.stdout.read() == "came\n"
        finally:
            subprocess.run(["umount", "-l", mounted / "b"], check=True)
    assert run.returncode == 0


def test_root_shared_sends_to_the_host(rootbox, mounted):
    """Asked for twice, by the mount and by rootfsPropagation, it does reach the host."""
    (mounted / "a").mkdir()
    rootbox.config["linux"]["rootfsPropagation"] = "rshared"
    rootbox.mount("/data", source=str(mounted), options=["rbind", "rshared"])
    rootbox.sh("mount -t tmpfs fromcontainer /data/a")
    host = pathlib.Path("/proc/self/mountinfo").read_text()
    try:
        assert str(mounted / "a") in mountinfo(host)
        assert str(rootbox.rootfs) not in host
    finally:
        subprocess.run(["umount", "-l", mounted / "a"], check=False)


def test_nothing_reaches_the_host(box, source, mounted):
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    box.mount("/data", source=str(source), options=["rbind"])
    box.sh("true")
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before


def test_file_on_file_and_made_mount_points(box, source):
    box.mount("/etc/passwd", source=str(source / "file"), options=["bind"])
    box.mount("/new/deep/file", source=str(source / "file"), options=["bind", "ro"])
    box.mount("relative/place", source=str(source), options=["bind"])
    assert box.sh("cat /etc/passwd /new/deep/file /relative/place/file") == \
        "of the host\nof the host\nof the host"


def test_tmpfs_takes_mode_of_its_folder_and_data(box):
    (box.rootfs / "tmp").chmod(0o1777)
    box.mount("/tmp", type="tmpfs", source="tmpfs", options=["size=1m", "nr_inodes=64", "noexec"])
    assert box.sh("stat -c %a /tmp") == "1777"
    got = table(box)["/tmp"]
    assert "size=1024k" in got[3] and "nr_inodes=64" in got[3] and "noexec" in got[0]


def test_tmpcopyup(box):
    (box.rootfs / "var/deep").mkdir()
    (box.rootfs / "var/deep/file").write_text("copied")
    (box.rootfs / "var/link").symlink_to("deep/file")
    if {"type": "user"} in box.config["linux"]["namespaces"]:
        box.own()
    box.mount("/var", type="tmpfs", source="tmpfs", options=["tmpcopyup", "ro"])
    assert box.sh("cat /var/link; stat -f -c %T /var") == "copiedtmpfs"
    assert box.run("/bin/touch", "/var/x").returncode != 0


def test_read_only_root(box):
    box.config["root"]["readonly"] = True
    box.mount("/made/by/us", type="tmpfs", source="tmpfs")
    assert box.run("/bin/touch", "/x").returncode != 0
    assert box.sh("touch /made/by/us/x /dev/shm/x; echo fine") == "fine"


def test_remount(rootbox, source):
    rootbox.mount("/data", type="tmpfs", source="tmpfs", options=["size=1m"])
    rootbox.mount("/data", type="tmpfs", source="tmpfs", options=["remount", "size=2m", "ro"])
    got = table(rootbox)["/data"]
    assert "size=2048k" in got[3] and "ro" in got[0]


def test_overlay_with_long_options(rootbox, tmp_path):
    lower = []
    for i in range(12):
        folder = tmp_path / f"a-rather-long-name-for-a-lower-layer-{i}"
        folder.mkdir()
        (folder / f"file{i}").write_text(str(i))
        lower.append(str(folder))
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    rootbox.mount("/data", type="overlay", source="overlay",
                  options=["lowerdir=" + ":".join(lower), f"upperdir={tmp_path}/upper",
                           f"workdir={tmp_path}/work", "nodev"])
    assert rootbox.sh("cat /data/file11; touch /data/new") == "11"
    assert (tmp_path / "upper/new").exists()


def test_idmap(box, source):
    if {"type": "user"} not in box.config["linux"]["namespaces"]:
        box.mount("/data", source=str(source), options=["bind", "idmap"])
        assert "/mounts/6" in box.refused()
        return
    box.mount("/data", source=str(source), options=["rbind", "ridmap"])
    assert box.sh("stat -c '%u %g' /data/file; touch /data/made") == "0 0"
    made = (source / "made").stat()
    assert (made.st_uid, made.st_gid) == (0, 0)


def test_idmap_of_its_own(rootbox, source):
    maps = [{"containerID": 0, "hostID": 5000, "size": 10}]
    rootbox.mount("/data", source=str(source), options=["bind"], uidMappings=maps,
                  gidMappings=maps)
    assert rootbox.sh("stat -c '%u %g' /data/file") == "5000 5000"


@on_v1
def test_cgroup_is_read_only(box):
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup",
              options=["nosuid", "noexec", "nodev", "relatime", "ro"])
    got = {k: v for k, v in table(box).items() if k.startswith("/sys/fs/cgroup")}
    assert len(got) > 1
    assert all("ro" in v[0] and "nosuid" in v[0] for v in got.values()), got
    out = box.sh("cat /sys/fs/cgroup/pids/cgroup.procs; ls /sys/fs/cgroup/memory/release_agent "
                 "2>/dev/null || echo none")
    assert out.split()[0] == "1" and out.endswith("none")


@on_v1
def test_cgroup_writable_only_with_both_namespaces(box):
    """Rule 13."""
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup", options=["nosuid"])
    got = {k: v for k, v in table(box).items() if k.startswith("/sys/fs/cgroup/")}
    userns = {"type": "user"} in box.config["linux"]["namespaces"]
    assert got and all(("rw" in v[0]) == userns for v in got.values()), got


def on_v2(box):
    """Run on a host that has a v2 tree alone (here without controllers)."""
    if is_v2():
        return
    box.wrapper = ["unshare", "--mount", "/bin/sh", "-c", "umount -R /sys/fs/cgroup && "
                   "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh"]


def test_cgroup_v2(box):
    on_v2(box)
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup", options=["nosuid", "ro"])
    got = table(box)["/sys/fs/cgroup"]
    assert got[2] == "cgroup2" and {"ro", "nosuid"} <= set(got[0])
    assert box.sh("cat /sys/fs/cgroup/cgroup.procs").split()[0] == "1"


def test_cgroup_v2_writable(box):
    """A v2 group of its own may be written to, in a cgroup namespace."""
    on_v2(box)
    box.mount("/sys/fs/cgroup", type="cgroup2", source="cgroup", options=["nosuid"])
    assert "rw" in table(box)["/sys/fs/cgroup"][0]
    assert box.sh("mkdir /sys/fs/cgroup/inner && echo made") == "made"


def test_cgroup_v2_without_namespace_is_whole_and_read_only(box):
    on_v2(box)
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [n for n in spaces if n["type"] != "cgroup"]
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup", options=["nosuid"])
    assert "ro" in table(box)["/sys/fs/cgroup"][0]
    assert box.id in box.sh("ls /sys/fs/cgroup")


def test_console(box):
    box.config["process"]["terminal"] = True
    done = box.run("/bin/sh", "-c", "tty; stat -c %t /dev/console; test -t 0 && echo yes")
    assert done.returncode == 0, done.stderr
    out = done.stdout.replace("\r", "").split()
    assert out[0] in ("/dev/pts/0", "/dev/console") and out[1] == "88" and out[2] == "yes"


def test_no_pivot_leaves_no_proc_of_the_host(box):
    out = box.sh("cat /proc/self/mountinfo", options=["--no-pivot"])
    whole = [m for m, v in mountinfo(out).items() if v[2] == "proc" and not m.startswith("/proc")]
    assert not whole, whole


def test_no_pivot(box):
    assert box.sh("ls / | grep -c bin; cat /proc/keys | wc -c", options=["--no-pivot"]) == "1\n0"


@pytest.fixture
def proc_file(tmp_path):
    """A file of procfs, mounted somewhere on the host."""
    at = tmp_path / "version"
    at.touch()
    subprocess.run(["mount", "--bind", "/proc/version", at], check=True)
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def test_no_pivot_with_a_file_of_procfs_on_the_host(box, proc_file):
    assert box.sh("echo fine", options=["--no-pivot"]) == "fine"


@pytest.mark.parametrize("mount,word", [
    ({"destination": "/x", "source": "/nosuch/thing", "options": ["bind"]}, "/nosuch/thing"),
    ({"destination": "/x", "source": "x", "type": "nosuchfs"}, "nosuchfs"),
    ({"destination": "/x", "source": "tmpfs", "type": "tmpfs", "options": ["wibble"]}, "wibble"),
    ({"destination": "/x", "source": "/etc", "options": ["bind", "wibble=1"]}, "wibble"),
    ({"destination": "/proc", "source": "/etc", "options": ["bind"]}, "procfs"),
    ({"destination": "/proc/1/attr", "source": "/etc", "options": ["bind"]}, "inside /proc"),
    ({"destination": "/", "source": "tmpfs", "type": "tmpfs"}, "over the root"),
    ({"destination": "/x", "source": "x"}, "type"),
    ({"destination": "/bin", "source": "/etc/passwd", "options": ["bind"]}, "folder"),
])
def test_errors_name_the_mount(rootbox, mount, word):
    rootbox.config["mounts"].append(mount)
    said = rootbox.refused()
    assert "/mounts/6" in said and word in said and mount["destination"] in said, said


def test_rootfs_out_of_reach_of_the_user_namespace(tmp_path):
    """The bundle lies in a folder of mode 0700, as an engine's may."""
    with Bundle(tmp_path, userns=True) as b:
        b.dir.chmod(0o700)
        assert b.sh("cat /etc/passwd").startswith("root:")
        assert stat.S_IMODE(b.dir.stat().st_mode) == 0o700
        assert b.rootfs.stat().st_uid == BASE_ID


def test_rootless(tmp_path):
    """A caller without rights: all is made in the user namespace."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-rootless-", dir="/var/tmp"))
    try:
        with Bundle(folder) as b:
            linux = b.config["linux"]
            linux["namespaces"].append({"type": "user"})
            for name in ("uidMappings", "gidMappings"):
                linux[name] = [{"containerID": 0, "hostID": 1000, "size": 1}]
            del linux["cgroupsPath"]
            b.config["mounts"][2]["options"].remove("gid=5")  # not mapped
            b.mount("/data", source=str(b.rootfs / "etc"), options=["rbind", "ro", "nosuid"])
            b.mount("/var", type="tmpfs", options=["tmpcopyup"])
            b.runtime = str(shutil.copy(RUNTIME, folder / "holm-oci"))
            for path in [folder, *folder.rglob("*")]:
                os.lchown(path, 1000, 1000)
            b.wrapper = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"]
            b.write()
            os.chown(b.dir / "config.json", 1000, 1000)
            got = table(b)
            assert {"ro", "nosuid"} <= set(got["/data"][0])
            assert got["/dev/null"][2] == "devtmpfs"  # the host's, bound
            assert b.sh("cat /data/passwd; cat /proc/keys | wc -c; echo x > /dev/null") == \
                "root:x:0:0:root:/root:/bin/sh\n0"
            b.config["mounts"].append({"destination": "/idmapped", "source": str(b.rootfs / "etc"),
                                       "options": ["bind", "idmap"]})
            assert "/mounts/8" in b.refused()
    finally:
        shutil.rmtree(folder)


def test_create_container_hook_sees_the_tree(rootbox, tmp_path):
    rootbox.mount("/seen", type="tmpfs", source="tmpfs")
    rootbox.config["hooks"] = {"createContainer": [{
        "path": "/bin/sh", "args": ["sh", "-c", f"grep -c ' {rootbox.rootfs}/seen ' "
                                                f"/proc/self/mountinfo > {tmp_path}/count; true"]}]}
    rootbox.sh("true")
    assert (tmp_path / "count").read_text() == "1\n"
