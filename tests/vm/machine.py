#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian's stock kernel, pure cgroup v2 and systemd as process 1.

Kernel and root file system are made once and cached in $HOLM_CACHE (default: build/vm): the
kernel package is downloaded and unpacked, never installed; the root is mmdebstrap's. Programs
and tests go in as a tar on a disk of its own, results come out as a tar on another. Nothing
needs /dev/kvm: qemu translates.

By hand:  tests/vm/machine.py [SUITE ...]      runs suites of guest/suites
          tests/vm/machine.py --shell          a shell in the machine
"""
import hashlib
import inspect
import io
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build")).resolve()
CACHE = pathlib.Path(os.environ.get("HOLM_CACHE", TOP / "build")).resolve() / "vm"
KERNEL = "linux-image-cloud-amd64"
SUITE = "bookworm"
PACKAGES = ["systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-pytest",
            "busybox-static", "kmod", "iproute2", "procps", "uidmap", "libjansson4", "libseccomp2",
            "libcap2", "libarchive13", "libsqlite3-0", "libuv1", "libmicrohttpd12",
            "libcurl3-gnutls", "strace", "python3-pytest-xdist", "apparmor", "dbus-user-session"]
PACKAGES += re.findall(r"^run (\S+)", (TOP / "packaging/packages.txt").read_text(), re.M)
MODULES = ["kernel/fs", "kernel/drivers/block", "kernel/drivers/net", "kernel/net", "kernel/lib",
           "kernel/crypto"]
RESULT_BYTES = 64 << 20


def run(*args, **kw):
    done = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, args))}: {done.stdout[-2000:]}")
    return done.stdout


def kernel_package():
    """The package with the kernel itself, which the one of the stable name depends on."""
    found = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", KERNEL))
    if not found:
        raise RuntimeError(f"apt-cache knows no {KERNEL}: run apt-get update")
    return found[1]


def unpacked(image):
    """The kernel as an ELF file, which starts without the machine unpacking it first."""
    data = image.read_bytes()
    start, size = struct.unpack_from("<II", data, 0x248)
    payload = data[(data[0x1F1] or 4) * 512 + 512 + start:][:size]
    if payload[:4] != b"\x02\x21\x4c\x18":
        return None
    # The last four bytes are the length, which is not part of the stream.
    done = subprocess.run(["lz4", "-dc"], input=payload[:-4], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    return done.stdout if done.stdout.startswith(b"\x7fELF") else None


def make_kernel(folder):
    run("apt-get", "download", kernel_package(), cwd=folder)
    deb = next(folder.glob("*.deb"))
    run("dpkg-deb", "-x", deb, folder / "x")
    deb.unlink()
    image = next((folder / "x/boot").glob("vmlinuz-*"))
    elf = unpacked(image)
    (folder / "kernel").write_bytes(elf or image.read_bytes())
    release = image.name.removeprefix("vmlinuz-")
    modules = folder / "modules/lib/modules" / release
    for part in MODULES:
        shutil.copytree(folder / "x/lib/modules" / release / part, modules / part)
    for name in (folder / "x/lib/modules" / release).glob("modules.*"):
        shutil.copy(name, modules)
    shutil.rmtree(folder / "x")


def make_root(folder):
    tar = folder / "root.tar"
    run("mmdebstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES),
        *[f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "locale", "man", "info")],
        SUITE, tar)
    root = folder / "root"
    root.mkdir()
    run("tar", "-C", root, "--exclude=./dev/*", "--exclude=./var/cache/apt/*",
        "--exclude=./var/lib/apt/lists/*", "--exclude=./usr/share/zoneinfo/*", "-xf", tar)
    tar.unlink()
    run("cp", "-a", folder / "modules/lib/modules", root / "usr/lib/")
    run("chroot", root, "depmod", next((folder / "modules/lib/modules").iterdir()).name)
    (root / "etc/fstab").write_text("")
    (root / "etc/hostname").write_text("holm-vm\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    run("chroot", root, "useradd", "-m", "-u", "1000", "-s", "/bin/sh", "user")
    for name in ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
                 "fstrim.timer", "getty@tty1.service", "systemd-timesyncd.service"):
        (root / "etc/systemd/system" / name).unlink(missing_ok=True)
        (root / "etc/systemd/system" / name).symlink_to("/dev/null")
    unit = root / "etc/systemd/system/holm-guest.service"
    shutil.copy(HERE / "guest/holm-guest.service", unit)
    image = folder / "root.img"
    with open(image, "wb") as f:
        f.truncate(2 << 30)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", root,
        image)
    shutil.rmtree(root)
    shutil.rmtree(folder / "modules")


def prepare():
    """The folder with `kernel` and `root.img`, made if it is not there."""
    key = hashlib.sha256()
    for part in (kernel_package(), SUITE, *PACKAGES, *MODULES):
        key.update(part.encode() + b"\n")
    key.update(inspect.getsource(make_kernel).encode() + inspect.getsource(make_root).encode())
    key.update((HERE / "guest/holm-guest.service").read_bytes())
    folder = CACHE / key.hexdigest()[:16]
    if (folder / "root.img").exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
    try:
        temporary.chmod(0o755)
        make_kernel(temporary)
        make_root(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def payload(path, suites):
    """Programs, tests and the list of suites to run, as the machine unpacks them in /holm."""
    policy = path.with_name("selinux.policy")
    run("checkpolicy", "-U", "allow", "-c", "33", "-o", policy, HERE / "guest/selinux.conf")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for part in ("bin", "tests"):
            for at in sorted((BUILD / part).glob("*")):
                if at.is_file() and os.access(at, os.X_OK):
                    tar.add(at, arcname=f"build/{part}/{at.name}")
        tar.add(TOP / "tests", arcname="tests",
                filter=lambda i: None if "__pycache__" in i.name else i)
        tar.add(policy, arcname=policy.name)
        for at in TOP.glob("build/holm_*.deb"):
            tar.add(at, arcname=f"build/{at.name}")
        data = "\n".join(suites).encode() + b"\n"
        info = tarfile.TarInfo("suites")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with open(path, "ab") as f:   # a disk of whole sectors
        f.truncate((os.path.getsize(path) + 4095) // 4096 * 4096)


def command(folder, work, append, cpus=int(os.environ.get("HOLM_VM_CPUS", "2")), memory=2048):
    disks = []
    for name, file, more in (("root", folder / "root.img", ",snapshot=on"),
                             ("payload", work / "payload.tar", ",readonly=on"),
                             ("result", work / "result.tar", "")):
        disks += ["-drive", f"if=none,id={name},file={file},format=raw,cache=unsafe{more}",
                  "-device", f"nvme,serial={name},drive={name}"]
    return ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(cpus),
            "-m", str(memory), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-serial", "stdio", "-kernel", str(folder / "kernel"), "-append",
            "console=ttyS0 root=/dev/nvme0n1 rw rootfstype=ext4 panic=-1 mitigations=off tsc=unstable "
            "clocksource=hpet no_timer_check quiet cryptomgr.notests systemd.show_status=no loglevel=4 "
            "systemd.log_level=warning " + append, *disks]


def security_of(suites):
    """The kernel has one such module at a time that labels processes."""
    if "selinux" in suites:
        return " selinux=1 security=selinux enforcing=0"
    return " apparmor=1 security=apparmor"


def boot(suites, timeout=900, show=False):
    """
    Run suites in a fresh machine. Returns its console and {name: bytes} of what the suites
    left; the console alone tells what happened if it died. `show` lets it through instead.
    """
    append = "systemd.unit=holm-guest.service" + security_of(suites)
    folder = prepare()
    with tempfile.TemporaryDirectory(prefix="holm-vm-") as tmp:
        work = pathlib.Path(tmp)
        payload(work / "payload.tar", suites)
        with open(work / "result.tar", "wb") as f:
            f.truncate(RESULT_BYTES)
        env = dict(os.environ, TMPDIR=tmp)   # where qemu keeps what is written to root.img
        console = ""
        with open(work / "console", "wb") as out:
            try:
                subprocess.run(command(folder, work, append), stdin=subprocess.DEVNULL,
                               stdout=None if show else out, stderr=subprocess.STDOUT,
                               timeout=timeout, env=env)
            except subprocess.TimeoutExpired:
                console = f"\n(ended after {timeout} s)\n"
        console = (work / "console").read_text("utf-8", "replace") + console
        results = {}
        try:
            with tarfile.open(work / "result.tar", "r:") as tar:
                for member in tar:
                    if member.isfile():
                        results[member.name.removeprefix("./")] = tar.extractfile(member).read()
        except tarfile.TarError:
            pass   # it never came to writing it
        return console, results


def shell():
    folder = prepare()
    with tempfile.TemporaryDirectory(prefix="holm-vm-") as tmp:
        work = pathlib.Path(tmp)
        payload(work / "payload.tar", ["shell"])
        with open(work / "result.tar", "wb") as f:
            f.truncate(RESULT_BYTES)
        subprocess.run(command(folder, work, "systemd.unit=holm-guest.service"),
                       env=dict(os.environ, TMPDIR=tmp))


def main():
    if sys.argv[1:] == ["--shell"]:
        shell()
        return
    _, results = boot(sys.argv[1:] or ["cgroup"], show=True)
    for name, data in results.items():
        print(f"--- {name}: {len(data)} bytes")
        if name.endswith(".txt"):
            print(data.decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
