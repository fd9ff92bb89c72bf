# SPDX-License-Identifier: Apache-2.0
"""A Debian root with systemd on a disk, and somebody at the machine's console.

The root is mmdebstrap's, from the host's apt sources, with Debian's kernel package and the
initial RAM file system that its own tools make. It is made once and kept in $HOLM_CACHE
(default: build/vm); a test gets a copy. No loop device is needed.
"""
import codecs
import hashlib
import inspect
import os
import pathlib
import re
import select
import shutil
import subprocess
import time

from lib.daemon import BIN
from lib.kept import kept
from lib.vmm import CACHE, PATIENCE, end_process, run

SUITE = "bookworm"
PACKAGES = ["systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "login", "ifupdown",
            "isc-dhcp-client", "iproute2", "iputils-ping", "procps", "gcc", "libc6-dev",
            "linux-image-cloud-amd64", "initramfs-tools", "zstd"]
IMAGE_BYTES = 3 << 30
PASSWORD = "a-word"
# What would begin by itself in the middle of a test.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "fstrim.timer", "systemd-timesyncd.service"]
BOOT = "root=/dev/vda rw net.ifnames=0 panic=-1"


def customize(root):
    """What an installer would have asked."""
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
    (root / "etc/network/interfaces").write_text(
        "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n")
    (root / "etc/apt/apt.conf.d/99few").write_text('Acquire::Languages "none";\n')
    # A slow machine on a busy host: what takes minutes there has not failed.
    conf = root / "etc/systemd/system.conf.d/slow.conf"
    conf.parent.mkdir()
    conf.write_text("[Manager]\n" + "".join(f"Default{t}Sec=1h\n" for t in (
        "TimeoutStart", "TimeoutStop", "DeviceTimeout")))
    (root / "etc/login.defs").write_text(re.sub(
        r"(?m)^LOGIN_TIMEOUT.*$", "LOGIN_TIMEOUT 3600", (root / "etc/login.defs").read_text()))
    subprocess.run(["chroot", root, "chpasswd"], input=f"root:{PASSWORD}\n", text=True, check=True)
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def make(folder):
    tar, root, image = folder / "root.tar", folder / "root", folder / "root.img"
    run("mmdebstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES),
        *[f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "locale", "man", "info")],
        SUITE, tar, *sources())
    root.mkdir()
    run("tar", "-C", root, "--exclude=./dev/*", "-xf", tar)
    tar.unlink()
    customize(root)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name)
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, image)
    shutil.rmtree(root)


def sources():
    """The host's own, as far as they are Debian's."""
    folder = pathlib.Path("/etc/apt")
    files = [folder / "sources.list", *folder.glob("sources.list.d/*")]
    return [f for f in files if f.exists() and "debian.org/debian" in f.read_text()]


def stock_root():
    """The folder with root.img, vmlinuz and initrd.img, made if it is not there."""
    text = inspect.getsource(customize) + inspect.getsource(make) + repr((PACKAGES, MASKED, SUITE))
    folder = CACHE / f"debian-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return kept(folder, make)


def fresh_disk(folder):
    """A copy of the root for one test."""
    disk = pathlib.Path(folder) / "root.img"
    run("cp", "--sparse=always", "--reflink=auto", stock_root() / "root.img", disk)
    return disk


def put(disk, source, target, mode=0o755):
    """A file into a disk that nobody uses."""
    run("debugfs", "-w", "-R", f"write {source} {target}", disk)
    run("debugfs", "-w", "-R", f"sif {target} mode 0{0o100000 | mode:o}", disk)


def assert_clean(disk):
    """The file system was left as it should be."""
    header = run("dumpe2fs", "-h", disk)
    assert re.search(r"Filesystem state: +clean\n", header), header
    assert "needs_recovery" not in header, header
    run("e2fsck", "-fn", disk)


class Terminal:
    """holm-vmm on a terminal of its own, with a person at it who can read and type."""

    def __init__(self, disk, *args, cmdline="", console="ttyS0", memory="1g", initrd=None):
        self.text, self.seen = "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.master, slave = os.openpty()
        stock = stock_root()
        argv = [BIN / "holm-vmm", "--engine", "soft", "--no-reboot", "--kernel", stock / "vmlinuz",
                "--initrd", initrd or stock / "initrd.img", "--memory", memory,
                "--disk", f"path={disk}", "--cmdline", f"{BOOT} console={console} {cmdline}", *args]
        try:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=slave, stdout=slave,
                                            stderr=slave, start_new_session=True)
        finally:
            os.close(slave)
        self.number = 0

    def read(self):
        """Add what there is; False after a while without any."""
        if not select.select([self.master], [], [], 1)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:   # nobody has the other end any more
            return False
        self.text += self.decoder.decode(data).replace("\r", "")
        return True

    def expect(self, *texts):
        """Until one of them comes, after what was expected before; says which."""
        end = time.monotonic() + PATIENCE
        while True:
            found = [(self.text.find(t, self.seen), t) for t in texts]
            found = [f for f in found if f[0] >= 0]
            if found:
                at, which = min(found)
                self.seen = at + len(which)
                return which
            if self.read():
                end = time.monotonic() + PATIENCE   # it lives
            assert self.process.poll() is None or self.read(), \
                f"it ended with {self.process.returncode}: {self.text[-6000:]}"
            assert time.monotonic() < end, self.text[-6000:]

    def type(self, text):
        os.write(self.master, text.encode())

    def login(self, user="root"):
        self.expect("login: ")
        self.type(f"{user}\n")
        self.expect("assword: ")
        self.type(f"{PASSWORD}\n")
        self.expect("# ")
        # No prompt, no echo, no lines that are broken: what comes is what commands print.
        self.type("stty -echo cols 400; PS1=; PS2=; export TERM=dumb PAGER=cat SYSTEMD_PAGER=cat; "
                  "bind 'set enable-bracketed-paste off'\n")
        self.command("true")

    def command(self, text, status=0):
        """What it printed; it must end with that status."""
        self.number += 1
        mark = f"[end {self.number} "
        # On one line: apt reads what is typed while it works.
        self.type(f"{text}; echo \"[end\" {self.number} $? ]\n")
        start = self.seen
        self.expect(mark)
        printed = self.text[start:self.seen - len(mark)].removeprefix("\n")
        self.expect("]")
        got = int(self.text[:self.seen].rsplit(mark, 1)[1].split()[0])
        assert got == status, f"{text}: {got}\n{printed}"
        return printed

    def wait(self):
        """The exit status, when it has ended."""
        while self.process.poll() is None or self.read():
            self.read()
        return self.process.wait()

    def close(self):
        end_process(self.process)
        os.close(self.master)
