"""A Debian with systemd as its command boots in a container: a system container is just an
image with an init."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from lib.bundle import BASE_ID
from lib.oci import Box, ConsoleSocket, leftovers
from lib.wait import wait_for

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="no mmdebstrap"),
]

CAPS = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
        "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
        "SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TTY_CONFIG MKNOD "
        "LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP").split()


@pytest.fixture(scope="module")
def debian():
    """The root as a tar, kept between runs where HOLM_TEST_CACHE says."""
    cache = pathlib.Path(os.environ.get("HOLM_TEST_CACHE", "/var/tmp/holm-test-cache"))
    cache.mkdir(parents=True, exist_ok=True)
    tar = cache / "bookworm-systemd.tar"
    if not tar.exists():
        part = cache / f"{os.getpid()}.tar"
        subprocess.run(["mmdebstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus",
                        "bookworm", str(part)], check=True, timeout=900)
        part.rename(tar)
    return tar


@pytest.fixture
def box(debian):
    top = pathlib.Path(tempfile.mkdtemp(prefix="holm-systemd-", dir="/var/tmp"))
    top.chmod(0o755)
    try:
        with Box(top, userns=True) as b:
            subprocess.run(["rm", "-rf", str(b.rootfs)], check=True)
            b.rootfs.mkdir()
            subprocess.run(["tar", "--numeric-owner", "-C", str(b.rootfs), "-xf", str(debian)],
                           check=True)
            (b.rootfs / "etc/machine-id").write_text("")
            shift(b.rootfs)
            yield b
        assert leftovers(b) == []
    finally:
        subprocess.run(["rm", "-rf", str(top)], check=True)


def shift(root):
    """The ids of the image to those of the user namespace."""
    for path in [root, *root.rglob("*")]:
        st = path.lstat()
        os.lchown(path, BASE_ID + st.st_uid, BASE_ID + st.st_gid)
        if not path.is_symlink():
            path.chmod(st.st_mode & 0o7777)


def test_boots_and_stops(box):
    process = box.config["process"]
    process["args"] = ["/sbin/init", "--log-target=console"]
    process["env"] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                      "container=oci"]
    process["terminal"] = True
    process["capabilities"] = {k: [f"CAP_{c}" for c in CAPS]
                               for k in ("bounding", "effective", "permitted")}
    box.mount("/run", type="tmpfs", source="tmpfs", options=["nosuid", "nodev", "mode=755"])
    box.mount("/tmp", type="tmpfs", source="tmpfs", options=["nosuid", "nodev", "mode=1777"])
    box.mount("/sys/fs/cgroup", type="cgroup", source="cgroup",
              options=["rw", "nosuid", "nodev", "noexec"])
    short = pathlib.Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
    console = ConsoleSocket(short / "s")
    try:
        box.create(options=["--console-socket", console.path])
        box.ok("start", box.id)
        text = console.read(until=b"login:", seconds=120)
        assert "login:" in text, text[-3000:]
        state = wait_for("the end of the boot", lambda: box.exec(
            "/bin/systemctl", "is-system-running", "--wait").stdout.strip(), 60)
        failed = box.exec("/bin/systemctl", "--no-pager", "--plain", "--failed").stdout
        assert state == "running", failed
        assert len((box.rootfs / "etc/machine-id").read_text()) == 33
        group = box.exec("/bin/cat", "/proc/1/cgroup").stdout
        assert "init.scope" in group
        box.ok("kill", box.id, "SIGRTMIN+3")
        console.read(seconds=60)
        wait_for("the end", lambda: box.status() == "stopped", 60)
    finally:
        console.close()
        shutil.rmtree(short)
