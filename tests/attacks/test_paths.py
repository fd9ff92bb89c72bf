"""Rules 1, 2, 3, 4 and 6: paths in a root file system that its owner chose with care."""
import array
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess

import pytest

from lib.victim import ATTACK
from lib.wait import wait_for


KINDS = ["root", "userns", "rootless"]
STRACE = ["env", "ASAN_OPTIONS=detect_leaks=0", "strace", "-f", "-o"]   # leaks need ptrace, too


def bind(box, source, destination, *options):
    box.mount(destination, type="bind", source=str(source), options=["rbind", *options])


def enosys(call="openat2"):
    """Run the runtime as on a kernel without a system call."""
    return [ATTACK, "enosys", call]


LINKS = [
    ("to the folder", "{outside}"),
    ("upwards", "../../../../../../../../../../../..{outside}"),
    ("through proc", "/proc/self/root{outside}"),
    ("through the first process", "/proc/1/root{outside}"),
    ("through a descriptor", "/proc/self/fd/3/../../../../../../../../..{outside}"),
]


def test_without_openat2_control(box):
    """Positive control of all that follows: the runtime works without it, and does ask for it."""
    bind(box, box.folder("volume"), "/mnt/made/here")
    done = box.go("/bin/true", prefix=enosys())
    assert done.returncode == 0, done.out
    trace = box.dir / "trace"
    done = box.go("/bin/true", prefix=[*STRACE, trace, "-e", "trace=openat2"])
    assert done.returncode == 0 and "openat2(" in trace.read_text(), done.out


@pytest.mark.parametrize("prefix", [[], enosys()], ids=["openat2", "no-openat2"])
@pytest.mark.parametrize("what,target", LINKS, ids=[name for name, _ in LINKS])
def test_mount_point_below_a_link(box, what, target, prefix):
    """CVE-2021-30465, CVE-2024-45310: /link leads out, and a mount is to be made below it."""
    box.link("/link", target.format(outside=box.outside))
    volume = box.folder("volume")
    bind(box, volume, "/link/made/here")
    box.go("/bin/true", prefix=prefix)
    # Whether it ran or was refused: nothing was made outside (the fixture looks).
    assert not (box.outside / "made").exists()


@pytest.mark.parametrize("prefix", [[], enosys()], ids=["openat2", "no-openat2"])
def test_mount_on_a_link(box, prefix):
    """The mount point itself is a link to a folder outside."""
    box.link("/data", str(box.outside))
    volume = box.folder("volume")
    (volume / "here").write_text("volume\n")
    box.own_path(volume / "here")
    bind(box, volume, "/data")
    done = box.script("ls /data; mount | grep -c secret; echo x > /data/canary; true", prefix=prefix)
    assert "secret" not in done.out.split("\n")[0]


def test_mount_point_is_a_dangling_link(box):
    """A file is to be bound on a link to a file that does not exist outside."""
    box.link("/file", str(box.outside / "new"))
    source = box.dir / "source"
    source.write_text("x\n")
    bind(box, source, "/file")
    box.go("/bin/true")
    assert not (box.outside / "new").exists()


def test_mount_point_upwards(box):
    """A destination with "..": above the root is the root."""
    volume = box.folder("volume")
    bind(box, volume, f"/../../../../../../..{box.outside}/made")
    box.go("/bin/true")
    assert not (box.outside / "made").exists()


def test_links_in_a_ring(box):
    box.link("/a", "/b")
    box.link("/b", "/a")
    bind(box, box.folder("volume"), "/a/x")
    done = box.go("/bin/true")
    assert done.returncode != 0


@pytest.mark.parametrize("prefix", [[], enosys()], ids=["openat2", "no-openat2"])
def test_mount_point_is_swapped(box, helper, prefix):
    """CVE-2021-30465: while containers start, someone swaps the folder that a mount goes to
    with a link to the host, in a volume that both share."""
    volume = box.folder("volume")
    (volume / "a" / "deep").mkdir(parents=True)
    os.symlink("/" + "../" * 12 + str(box.outside), volume / "b")
    if box.base:
        for path in volume.rglob("*"):
            os.lchown(path, box.base, box.base)
    bind(box, volume, "/vol")
    box.mount("/vol/a/deep", type="tmpfs", source="tmpfs", options=["nosuid"])
    swapper = helper(ATTACK, "swap", volume, "a", "b")
    started = 0
    for _ in range(25):
        done = box.go("/bin/sh", "-c", "ls /vol/a/ /vol/b/; touch /vol/a/deep/x /vol/b/deep/x",
                      prefix=prefix)
        started += done.returncode == 0 or "deep" in done.out
        assert "secret" not in done.out, done.out
    assert swapper.poll() is None, "nobody swapped"
    assert started, "no container came up in between"
    assert not (box.outside / "deep").exists()


def test_dev_is_a_link(box):
    """CVE-2026-41579: /dev is a link to the host and no tmpfs hides it: nodes and links that
    the runtime makes must not land there."""
    box.without("/dev")
    box.without("/dev/pts")
    box.without("/dev/shm")
    box.without("/dev/mqueue")
    box.link("/dev", str(box.outside))
    box.go("/bin/true")


def test_dev_entries_are_links(box):
    """Each name that the runtime makes in /dev is a link to the canary already."""
    box.without("/dev")
    for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd",
                 "stdin", "stdout", "stderr", "core"):
        box.link(f"/dev/{name}", str(box.outside / "canary"))
    for name in ("pts", "shm", "mqueue"):
        (box.rootfs / "dev" / name).mkdir()
    box.own() if box.base else None
    done = box.script("echo overwritten > /dev/null; echo overwritten > /dev/zero; true")
    assert "ESCAPED" not in done.out


def test_devices_land_inside(rootbox):
    """linux.devices with a path that climbs out."""
    rootbox.link("/dir", str(rootbox.outside))
    for path in ("/dir/node", f"/../../../../../../../..{rootbox.outside}/node",
                 "/dev/../dir/node"):
        rootbox.config["linux"]["devices"] = [
            {"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}]
        rootbox.go("/bin/true")
        assert not (rootbox.outside / "node").exists()


def test_tmpcopyup_from_a_link(box):
    """tmpcopyup copies what lies under the mount point, not what a link of the image names."""
    box.link("/etc/stolen", str(box.secret))
    box.link("/copied", str(box.outside))
    box.mount("/etc", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    box.mount("/copied", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    done = box.script("ls -l /etc /copied; cat /etc/stolen /copied/secret; true")
    assert "top-secret" not in done.out, done.out
    assert "intact" not in done.out, done.out


def test_workdir_is_not_made_outside(box):
    """A working folder that is missing is made inside, if at all."""
    box.link("/link", str(box.outside))
    box.process["cwd"] = "/link/made"
    box.go("/bin/true")
    assert not (box.outside / "made").exists()


def test_source_is_not_followed_again(box):
    """Rule 2: no mount(2) by path below the root; the new interface works on descriptors."""
    volume = box.folder("volume")
    bind(box, volume, "/mnt")
    trace = box.dir / "trace"
    done = box.go("/bin/true", prefix=[*STRACE, trace, "-e",
                                       "trace=mount,mknod,symlink,chmod,chown,lchown,rename"])
    assert done.returncode == 0, done.out
    text = trace.read_text()
    calls = [line for line in text.splitlines() if re.search(r"\b(mount|mknod|symlink|chmod|"
                                                             r"l?chown|rename)\(", line)]
    inside = [line for line in calls if "rootfs" in line or str(box.dir) in line]
    assert not inside, inside


# --- rule 3: masks ------------------------------------------------------------------------------

def masks(box, *more):
    paths = box.config["linux"]["maskedPaths"] + list(more)
    return box.attack("masked", *paths)


def test_masks_hide(box):
    done = masks(box)
    node = "0:0" if box.rootless else "1:3"     # an empty file where no device can be made
    assert f"held masked /proc/timer_list: empty, node {node}" in done.out, done.out


def test_masks_hide_control(box):
    """Positive control: without masks the program sees content."""
    paths = box.config["linux"]["maskedPaths"]
    box.config["linux"]["maskedPaths"] = []
    done = box.go("/bin/attack", "masked", *paths)
    assert "ESCAPED" in done.out, done.out


@pytest.mark.parametrize("what", ["link", "file", "node", "fifo"])
def test_null_is_not_the_images(box, what):
    """CVE-2025-31133: the image's own /dev/null, which masks were bound from."""
    box.without("/dev")
    box.without("/dev/pts")
    for name in ("pts", "shm", "mqueue"):
        (box.rootfs / "dev" / name).mkdir()
    at = box.rootfs / "dev/null"
    if what == "link":
        at.symlink_to("/proc/sys/kernel/core_pattern")
    elif what == "file":
        at.write_text("not null\n")
    elif what == "fifo":
        os.mkfifo(at)
    else:
        os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(1, 5))    # zero: has content
    if box.base:
        box.own()
    done = box.go("/bin/attack", "masked", "/proc/kcore", "/proc/timer_list", "/proc/keys")
    if "done masked" in done.out:
        assert "ESCAPED" not in done.out, done.out
        assert "not null" not in done.out


def test_masks_cannot_be_written(box):
    """What masks is read-only or swallows everything; nothing reaches a file outside."""
    done = box.script("for p in /proc/kcore /proc/keys /proc/timer_list; do echo x > $p; cat $p; "
                      "done; touch /sys/firmware/x && echo ESCAPED; ls -A /proc/scsi /sys/firmware")
    assert "ESCAPED" not in done.out


def test_mask_of_a_link(box):
    """A masked path that is a link of the image: what it leads to inside is masked, or nothing;
    the host's file stays as it is."""
    box.link("/hidden", str(box.outside / "canary"))
    box.config["linux"]["maskedPaths"].append("/hidden")
    box.config["linux"]["readonlyPaths"].append("/hidden")
    box.go("/bin/true")


def test_readonly_paths(box):
    """Kernel settings cannot be written, whatever the capabilities of a default container."""
    box.attack("writable", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
               "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
               "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/block")


def test_readonly_root(box):
    box.config["root"]["readonly"] = True
    box.attack("writable", "/", "/etc", "/bin/busybox")


def test_mounts_are_refused(box):
    """A default container can neither mount nor take a mask away."""
    box.attack("mounts")


def test_mounts_stay_inside(box):
    """With CAP_SYS_ADMIN, what is mounted inside is not seen outside (the fixture compares)."""
    box.caps("CAP_SYS_ADMIN")
    volume = box.folder("volume")
    bind(box, volume, "/mnt")
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", volume], check=True)
        done = box.script("mkdir -p /mnt/sub; mount -t tmpfs none /mnt/sub && echo mounted")
        assert "mounted" in done.out, done.out
        assert not os.path.ismount(volume / "sub")
    finally:
        subprocess.run(["umount", "-l", volume], check=True)


def test_readonly_volume_stays_so_in_a_user_namespace(userbox):
    """Root of a default container cannot make a read-only volume writable."""
    volume = userbox.folder("volume")
    bind(userbox, volume, "/mnt", "ro")
    done = userbox.script("mount -o remount,rw,bind /mnt; touch /mnt/x && echo ESCAPED; echo end")
    assert "end" in done.out and "ESCAPED" not in done.out, done.out
    assert not list(volume.iterdir())


# --- rule 4: terminals --------------------------------------------------------------------------

def run_with_console(box, *argv):
    """Run with a terminal; the master comes by the console socket. Returns what it printed."""
    path = box.dir / "console"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    box.own_path(path)
    server.listen(1)
    server.settimeout(60)
    box.process["terminal"] = True
    box.process["args"] = list(argv)
    box.write()
    name = box.new_id()
    done = box.raw("create", "--console-socket", path, "--bundle", box.dir, name)
    if done.returncode != 0:
        server.close()
        return None, done.out
    conn, _ = server.accept()
    _, ancillary, _, _ = conn.recvmsg(4096, socket.CMSG_SPACE(4))
    master = array.array("i", ancillary[0][2])[0]
    conn.close()
    server.close()
    box.raw("start", name)
    text = b""
    try:
        while True:
            part = os.read(master, 4096)
            if not part:
                break
            text += part
    except OSError:
        pass    # the other end is closed
    tty = os.isatty(master)
    os.close(master)
    return tty, text.decode("utf-8", "replace")


def test_console_is_a_terminal_of_ours(box):
    tty, text = run_with_console(box, "/bin/sh", "-c", "tty; ls -l /dev/console /dev/pts; echo end")
    assert tty and "end" in text, text
    assert "/dev/pts/0" in text or "/dev/console" in text, text


def test_console_link(box):
    """CVE-2025-52565: /dev/console is a link of the image where the terminal is bound to."""
    box.without("/dev")
    for name in ("pts", "shm", "mqueue"):
        (box.rootfs / "dev" / name).mkdir()
    box.link("/dev/console", "/proc/sysrq-trigger")
    box.own() if box.base else None
    tty, text = run_with_console(box, "/bin/sh", "-c",
                                 "mount | grep sysrq-trigger; ls -l /proc/sysrq-trigger; echo end")
    if tty is not None:
        assert "devpts" not in text, text


def test_console_with_fake_pts(box):
    """/dev/pts is a folder of the image with files named like terminals."""
    box.without("/dev")
    box.without("/dev/pts")
    (box.rootfs / "dev/pts").mkdir()
    for name in ("0", "1", "2", "ptmx"):
        (box.rootfs / "dev/pts" / name).symlink_to(box.outside / "canary")
    for name in ("shm", "mqueue"):
        (box.rootfs / "dev" / name).mkdir()
    box.link("/dev/ptmx", str(box.outside / "canary"))
    box.own() if box.base else None
    run_with_console(box, "/bin/sh", "-c", "echo overwritten; echo overwritten > /dev/tty; true")


def test_exec_console_with_fake_pts(box):
    """The same for `exec --tty` into a container that has put such files there meanwhile."""
    box.caps("CAP_SYS_ADMIN")
    name = box.start("/bin/sh", "-c", "umount /dev/pts; for n in 0 1 2 ptmx; do "
                     f"ln -s {box.outside}/canary /dev/pts/$n; done; ls /dev/pts; exec sleep 1000")
    wait_for("the links", lambda: "ptmx" in box.log())
    box.process["terminal"] = True
    server = socket.socket(socket.AF_UNIX)
    path = box.dir / "console"
    server.bind(str(path))
    server.listen(1)
    done = box.enter(name, "/bin/sh", "-c", "echo overwritten",
                     options=["--tty", "--detach", "--console-socket", path])
    server.close()
    assert done.returncode != 0 or "intact" not in done.out


# --- rule 6: past the root ----------------------------------------------------------------------

def test_old_root_is_gone(box):
    """After pivot_root nothing of the old root is left to come back to (a chroot with
    CAP_SYS_CHROOT and an open folder does not climb out)."""
    box.attack("chroot", box.secret)


def test_old_root_is_not_mounted(box):
    done = box.go("/bin/cat", "/proc/self/mountinfo")
    points = [line.split()[4] for line in done.out.splitlines()]
    assert "/" in points and not [p for p in points if "oldroot" in p or str(box.dir) in p], points


def test_chroot_control(tmp_path):
    """Positive control: in a mere chroot the same program climbs out."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "tmp").mkdir()
    shutil.copy(ATTACK, root / "bin/attack")
    secret = tmp_path / "secret"
    secret.write_text("top-secret\n")
    done = subprocess.run(["chroot", root, "/bin/attack", "chroot", secret], capture_output=True,
                          text=True)
    assert "ESCAPED" in done.stdout, done.stdout + done.stderr


def test_file_handles(box):
    """A file by its inode number ("shocker"): needs a capability that is not given."""
    box.attack("handle", box.secret)
    if box.in_userns:
        box.caps("CAP_DAC_READ_SEARCH")     # of the namespace: of no use
        box.attack("handle", box.secret)


def test_host_disks_and_memory(box):
    """With CAP_MKNOD: nodes of the host's disks and memory cannot be opened (class H)."""
    box.caps("CAP_MKNOD", "CAP_SYS_RAWIO")
    st = os.stat("/")
    box.attack("disk", os.major(st.st_dev), os.minor(st.st_dev))
    box.attack("memory")


def test_host_disk_control(rootbox):
    """Positive control: with the device rule that allows all, the node opens."""
    disk = next((p for p in pathlib.Path("/dev").iterdir() if p.is_block_device()), None)
    if disk is None:
        pytest.skip("no block device")
    rootbox.caps("CAP_MKNOD")
    rootbox.config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    st = disk.stat()
    done = rootbox.go("/bin/attack", "disk", os.major(st.st_rdev), os.minor(st.st_rdev))
    assert "ESCAPED disk" in done.out, done.out
