"""The runtime's own program stays out of a container's reach (CVE-2019-5736)."""
import hashlib
import os
import pathlib

import pytest

from lib.oci import Box, leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def box(tmp_path):
    with Box(tmp_path) as b:
        before = digest(b.runtime)
        yield b
        assert digest(b.runtime) == before
    assert leftovers(b) == []


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def exe(pid):
    return os.readlink(f"/proc/{pid}/exe")


def test_the_waiting_process_is_not_the_file(box):
    box.create("/bin/sleep", "1000")
    assert exe(box.pid()).startswith("/memfd:")
    with pytest.raises(OSError):
        os.close(os.open(f"/proc/{box.pid()}/exe", os.O_WRONLY))


@pytest.mark.parametrize("change", ["shared pid namespace", "start hook", "filter"])
def test_where_the_short_way_will_not_do(box, change):
    if change == "shared pid namespace":
        box.namespace("pid", "/proc/self/ns/pid")
    elif change == "start hook":
        box.hook("startContainer", "exit 0")
    else:
        box.config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["execveat"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    box.create("/bin/sleep", "1000")
    assert exe(box.pid()).startswith("/memfd:")
    box.ok("start", box.id)
    assert exe(box.pid()) == "/bin/busybox"


def test_in_a_user_namespace_the_file_cannot_be_written(tmp_path):
    """No copy is made there: the file's owner has no id inside."""
    with Box(tmp_path, userns=True) as box:
        (box.rootfs / "bin/try").write_text(
            "#!/bin/sh\nfor p in /proc/[0-9]*; do echo x >> $p/exe; done 2>/dev/null\nexit 0\n")
        (box.rootfs / "bin/try").chmod(0o755)
        before = digest(box.runtime)
        assert box.run("/bin/try").returncode == 0
        assert digest(box.runtime) == before


@pytest.mark.parametrize("how", ["link", "script"])
def test_program_that_is_the_runtime(box, how):
    """What is executed by that name is not the file, so holding it open gives nothing."""
    if how == "link":
        (box.rootfs / "bin/evil").symlink_to("/proc/self/exe")
    else:
        (box.rootfs / "bin/evil").write_text("#!/proc/self/exe\n")
        (box.rootfs / "bin/evil").chmod(0o755)
    done = box.run("/bin/evil")
    assert "holm-oci version" not in done.stdout
    assert "USAGE" not in done.stdout.upper()
    box.detached("/bin/sleep", "1000")
    done = box.exec("/bin/evil", "--version")
    # exec goes by the sealed copy of the whole: it may run, it cannot be written
    watcher = box.exec("/bin/sh", "-c", "for p in /proc/[0-9]*; do echo x >> $p/exe; done; exit 0")
    assert watcher.returncode == 0


def test_exec_is_never_the_file(box):
    """A process inside that watches for new ones sees only copies."""
    process = box.config["process"]
    for kind in process["capabilities"].values():
        kind.append("CAP_SYS_PTRACE")
    box.detached("/bin/sh", "-c",
                 "while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done | grep -v busybox")
    for _ in range(30):
        assert box.exec("/bin/true").returncode == 0
    seen = set(box.output().split("\n"))
    assert not any("holm-oci" in line and not line.startswith("/memfd:") for line in seen), seen


def test_exec_shows_nothing_of_the_host(box):
    """Also to a container that may trace it: it is seen only once it has come in for good."""
    for kind in box.config["process"]["capabilities"].values():
        kind.append("CAP_SYS_PTRACE")
    box.detached("/bin/sh", "-c",
                 "while :; do for p in /proc/[0-9]*; do readlink $p/ns/mnt; ls -l $p/fd; done; done")
    for _ in range(30):
        assert box.exec("/bin/true").returncode == 0
    text = box.output()
    inside = os.readlink(f"/proc/{box.pid()}/ns/mnt")
    assert {line for line in text.splitlines() if line.startswith("mnt:")} == {inside}
    for word in ("/sys/fs/cgroup", str(box.state), "seccomp:cache", "holm-oci"):
        assert word not in text


@pytest.mark.parametrize("name, value", [
    ("intelRdt", {"closID": "x"}),
])
def test_what_is_not_done_is_refused_by_name(box, name, value):
    box.config["linux"][name] = value
    assert f"/linux/{name}" in box.refused()


@pytest.mark.parametrize("name", ["apparmorProfile", "selinuxLabel"])
def test_labels_that_cannot_be_had_are_refused_by_name(box, name):
    """Whether the kernel has no such module, or the module no such label."""
    box.config["process"][name] = "holm-test-nosuch"
    said = box.refused()
    assert f"/process/{name}" in said and "holm-test-nosuch" in said, said
