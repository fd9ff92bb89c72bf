# SPDX-License-Identifier: Apache-2.0
"""A full disk, no more processes, no more descriptors: a clear error, nothing half-made, and on."""
import os
import pathlib
import resource
import shutil
import subprocess
import time

import pytest

from lib import leftovers
from lib.daemon import BIN, Daemon
from lib.wait import PATIENCE

IMAGE = "small:1"
DISK_MIB = 64


class SmallDisk(Daemon):
    """Its state is on a small file system of its own."""

    def start(self):
        if not self.state.exists():
            self.mount()
        super().start()

    def mount(self):
        self.state.mkdir(mode=0o700)
        disk = self.base / "disk"
        disk.touch()
        os.truncate(disk, DISK_MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
        done = subprocess.run(["mount", "-o", "loop", disk, self.state], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no loop devices here: {done.stderr}")
        self.own_mounts = (str(self.state),)

    def close(self):
        state = self.base / "state"
        super().close()  # its folder stays, as something is mounted in it
        subprocess.run(["umount", "-l", state], check=False)
        shutil.rmtree(self.base, ignore_errors=True)

    def fill(self, leave=0):
        """Takes all space but `leave` bytes."""
        ballast = self.state / "ballast"
        with open(ballast, "ab", buffering=0) as out:
            for step in (1 << 20, 4096, 1):
                try:
                    while out.write(b"\1" * step):
                        pass
                except OSError:
                    continue
        os.truncate(ballast, ballast.stat().st_size - leave)
        os.sync()

    def free(self):
        (self.state / "ballast").unlink()


@pytest.fixture
def small(root_tar):
    if os.geteuid() != 0 or not (BIN / "holmd").exists():
        pytest.skip("needs root and a build")
    d = None
    try:
        d = SmallDisk("full")
        d.holm("image", "import", root_tar, IMAGE)
        yield d
    finally:
        if d:
            d.close()


def run_one(daemon):
    assert daemon.holm("run", "--rm", "--network", "none", IMAGE, "echo", "well").stdout == "well\n"


def fails_for_space(done):
    assert done.returncode != 0, done.stdout
    text = done.stderr.lower()
    assert "no space left" in text or "disk" in text and "full" in text, done.stderr


def test_create_and_run_on_a_full_disk(small):
    before = small.holm("ps", "-aq").stdout
    small.fill()
    for _ in range(3):
        fails_for_space(small.holm("create", "--network", "none", IMAGE, "true", check=False))
        fails_for_space(small.holm("run", "--rm", "--network", "none", IMAGE, "true", check=False))
    assert small.holm("ps", "-aq").stdout == before
    leftovers.none_left(small)
    small.free()
    run_one(small)
    leftovers.none_left(small)


def test_daemon_starts_on_a_full_disk(small):
    """Looking and removing must be possible there: that is how space is won back."""
    small.holm("create", "--name", "old", "--network", "none", IMAGE, "true")
    small.fill()
    small.kill()
    try:
        small.start()
    except AssertionError as e:
        assert "No space left" in str(e) or "disk is full" in str(e), e
        small.free()
        small.start()
    else:
        assert "old" in small.holm("ps", "-a").stdout
        small.free()
    run_one(small)
    small.holm("rm", "old")


def test_removal_on_a_full_disk_stays_removed(small):
    small.holm("run", "-d", "--name", "old", "--network", "none", IMAGE, "sleep", "1000")
    small.fill()
    done = small.holm("rm", "-f", "old", check=False)
    small.kill()
    if (small.state / "ballast").exists():
        small.free()
    small.start()
    there = small.holm("inspect", "old", check=False).returncode == 0
    assert there == (done.returncode != 0), done.stderr
    if there:
        small.holm("rm", "-f", "old")
    leftovers.none_left(small)


def test_import_on_a_full_disk(small, tmp_path):
    big = tmp_path / "big"
    big.mkdir()
    (big / "file").write_bytes(os.urandom(20 << 20))
    subprocess.run(["tar", "-C", big, "-cf", tmp_path / "big.tar", "."], check=True)
    small.fill(leave=8 << 20)
    free = os.statvfs(small.state).f_bavail
    fails_for_space(small.holm("image", "import", tmp_path / "big.tar", "big:1", check=False))
    assert "big" not in small.holm("image", "ls").stdout
    small.holm("image", "prune", check=False)
    now = os.statvfs(small.state).f_bavail
    assert free - now < 256, "no more than a MiB of what was half there may stay"
    small.free()
    small.holm("image", "import", tmp_path / "big.tar", "big:1")
    assert "big" in small.holm("image", "ls").stdout
    run_one(small)


def test_output_on_a_full_disk(small):
    """The container goes on, what is lost is counted, and the log goes on when there is space."""
    shared = small.base / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    small.holm("run", "-d", "--name", "a", "--network", "none", "-v", f"{shared}:/x", IMAGE,
               "sh", "-c", "echo first; while [ ! -e /x/full ]; do sleep 0.1; done; "
               "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo lost lost lost lost lost $i; done;"
               "touch /x/wrote; while [ ! -e /x/go ]; do sleep 0.1; done; echo last; exit 5")
    small.fill()
    (shared / "full").touch()
    end = time.monotonic() + PATIENCE
    while not (shared / "wrote").exists():
        assert time.monotonic() < end, "the container was held up"
        time.sleep(0.1)
    assert small.inspect("a")["status"]["state"] == "running"
    small.free()
    (shared / "go").touch()
    assert small.holm("wait", "a").stdout.strip() == "5"
    text = small.holm("logs", "a")
    assert text.stdout.startswith("first\n") and text.stdout.endswith("last\n"), text
    assert small.inspect("a")["status"]["log_lost"] > 0
    assert "lost: No space left" in (small.state / "instances" / small.inspect("a")["id"]
                                     / "output.log").read_text()
    small.holm("rm", "a")
    leftovers.none_left(small)


@pytest.fixture
def pids_group(daemon):
    """A group of the pids controller with the daemon in it, and room for a limit."""
    top = pathlib.Path("/sys/fs/cgroup/pids")
    if not top.is_dir():
        top = pathlib.Path("/sys/fs/cgroup")
        if "pids" not in (top / "cgroup.subtree_control").read_text():
            pytest.skip("no pids controller to be had")
    group = top / f"{daemon.base.name}-pids"
    home = pathlib.Path(f"/proc/{daemon.proc.pid}/cgroup").read_text()
    home = [line.split(":", 2)[2] for line in home.splitlines()
            if "pids" in line.split(":")[1].split(",") or line.startswith("0::")][0]
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(daemon.proc.pid))
        yield group
    finally:
        (group / "pids.max").write_text("max")
        daemon.holm("rm", "--all", "--force", check=False)
        for pid in (group / "cgroup.procs").read_text().split():
            (top / home.lstrip("/") / "cgroup.procs").write_text(pid)
        group.rmdir()


def test_no_more_processes(daemon, pids_group):
    """Whatever number of processes is left when it runs out, it fails well."""
    run_one(daemon)
    failed = 0
    for room in range(0, 6):
        now = int((pids_group / "pids.current").read_text())
        (pids_group / "pids.max").write_text(str(now + room))
        done = daemon.holm("run", "--rm", "--network", "none", IMAGE, "true", check=False,
                           timeout=PATIENCE)
        (pids_group / "pids.max").write_text("max")
        assert daemon.proc.poll() is None
        if done.returncode:
            failed += 1
            assert "Resource temporarily unavailable" in done.stderr or \
                "process" in done.stderr, done.stderr
        leftovers.none_left(daemon)
        assert daemon.holm("ps", "-aq").stdout == ""
    assert failed > 0
    run_one(daemon)


def open_files(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def test_no_more_descriptors(daemon):
    """Whatever number of descriptors is left when they run out, it fails well."""
    run_one(daemon)
    pid = daemon.proc.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    before = open_files(pid)
    failed = 0
    for room in range(1, 26, 2):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + room, hard))
        try:
            done = daemon.holm("run", "--rm", "--network", "none", IMAGE, "true", check=False,
                               timeout=20)
        except subprocess.TimeoutExpired:
            done = None  # a connection that could not be taken waits: it must be taken later
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert daemon.proc.poll() is None
        if done is None or done.returncode:
            failed += 1
        if done is not None and done.returncode:
            # The shim has the daemon's limit: it may be the one that ran out, and says so.
            assert "open files" in done.stderr or "descriptors" in done.stderr, \
                f"{room}: {done.stderr}"
        leftovers.none_left(daemon)
        end = time.monotonic() + PATIENCE
        while text := daemon.holm("ps", "-aq").stdout:
            assert time.monotonic() < end, f"{room}: {text} {done}"
            time.sleep(0.1)
    assert failed > 0
    assert open_files(pid) <= before + 2
    run_one(daemon)
