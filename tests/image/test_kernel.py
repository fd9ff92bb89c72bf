# SPDX-License-Identifier: Apache-2.0
"""Kernels for virtual machines: packages and bare kernels in, each whole or absent."""
import io
import json
import lzma
import os
import re
import struct
import subprocess
import tarfile

import pytest

from lib.daemon import BIN

REL = "6.1.0-9-test"


def bzimage(release=REL):
    data = bytearray(4096)
    data[0x202:0x206] = b"HdrS"
    data[0x20e:0x210] = struct.pack("<H", 0x600)
    text = f"{release} (someone@somewhere) #1".encode()
    data[0x800:0x800 + len(text)] = text
    return bytes(data)


def module(name, depends=()):
    return b"\x7fELF" + name.encode() + b"\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0"


def package(files, compress=lzma.compress, member="data.tar.xz"):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo("./" + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    out = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), (member, compress(raw.getvalue()))):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


MODULES = {
    f"lib/modules/{REL}/kernel/fs/overlayfs/overlay.ko": module("overlay"),
    f"lib/modules/{REL}/kernel/fs/erofs/erofs.ko": module("erofs", ["libcrc32c"]),
    f"lib/modules/{REL}/kernel/lib/libcrc32c.ko": module("libcrc32c"),
    f"lib/modules/{REL}/kernel/drivers/net/unwanted.ko": module("unwanted"),
    f"lib/modules/{REL}/kernel/drivers/char/hw_random/virtio-rng.ko.xz":
        lzma.compress(module("virtio_rng")),
    f"lib/modules/{REL}/modules.order": b"",
}


class Kernels:
    def __init__(self, folder):
        self.folder = folder

    def run(self, *args, data=None):
        args = [args[0], "--kernels", str(self.folder), *args[1:]]
        return subprocess.run([str(BIN / "holm-image"), "-q", "kernel", *args], input=data,
                              capture_output=True, check=False)

    def names(self):
        out = self.run("ls", "--json").stdout
        return {entry["name"]: entry["default"] for entry in json.loads(out)}


@pytest.fixture
def kernels(tmp_path):
    return Kernels(tmp_path / "kernels")


@pytest.mark.parametrize("by", ["file", "pipe"])
def test_package(kernels, tmp_path, by):
    data = package({f"boot/vmlinuz-{REL}": bzimage(), **MODULES})
    file = tmp_path / "k.deb"
    file.write_bytes(data)
    r = kernels.run("import", str(file)) if by == "file" else kernels.run("import", "-", data=data)
    assert r.returncode == 0 and r.stdout.decode().strip() == REL, r.stderr
    assert kernels.names() == {REL: True}
    assert (kernels.folder / REL / "vmlinuz").read_bytes() == bzimage()
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["cpio", "-i", "--quiet", "-d", "-F", kernels.folder / "default/modules.img"],
                   cwd=out, check=True)
    order = (out / "lib/modules/order").read_text().split()
    assert sorted(order) == ["erofs.ko", "libcrc32c.ko", "overlay.ko", "virtio_rng.ko"]
    assert order.index("libcrc32c.ko") < order.index("erofs.ko")
    assert (out / "lib/modules/virtio_rng.ko").read_bytes() == module("virtio_rng")
    assert sorted(os.listdir(out / "lib/modules")) == sorted([*order, "order"])


def test_bare_kernels(kernels, tmp_path):
    (tmp_path / "bz").write_bytes(bzimage("6.9-mine"))
    (tmp_path / "elf").write_bytes(b"\x7fELF" + bytes(100))
    assert kernels.run("import", str(tmp_path / "bz")).returncode == 0
    assert kernels.run("import", "--name", "own", str(tmp_path / "elf")).returncode == 0
    assert kernels.names() == {"6.9-mine": False, "own": True}
    assert kernels.run("import", str(tmp_path / "bz")).returncode == 0     # again: replaced
    assert kernels.names() == {"6.9-mine": True, "own": False}
    assert kernels.run("rm", "6.9-mine").returncode == 0
    assert kernels.names() == {"own": False}
    assert sorted(os.listdir(kernels.folder)) == ["own"]


BAD = [
    (b"", "neither"),
    (b"MZ" + bytes(5000), "neither"),
    (bzimage("../../etc"), "neither"),
    (b"!<arch>\ngarbage", "Debian package"),
    (package({"etc/passwd": b""}), "no kernel"),
    (package({f"boot/vmlinuz-{REL}": b"", "boot/vmlinuz-2": b""}), "more than one"),
    (package({"boot/vmlinuz-a b": b""}), "release"),
    (package({"../escape": b""}), "\\.\\."),
    (package({"boot/vmlinuz-1": b""}, compress=lambda d: lzma.compress(d)[:-40]), ""),
    (package({f"boot/vmlinuz-{REL}": bytes(300 << 20)}), "256 MiB"),
    (package({f"boot/vmlinuz-{REL}": b"", f"lib/modules/{REL}/kernel/erofs.ko.xz":
              lzma.compress(bytes(9999))[:-30]}), "erofs"),
]


@pytest.mark.parametrize("data, text", BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_files_leave_nothing(kernels, data, text):
    r = kernels.run("import", "-", data=data)
    assert r.returncode not in (0, 70, 134, 139) and r.stderr.startswith(b"holm-image: ")
    assert re.search(text, r.stderr.decode()), r.stderr
    assert os.listdir(kernels.folder) == []


def test_refusals(kernels, tmp_path):
    (tmp_path / "bz").write_bytes(bzimage())
    for name in ("default", "../x", ".hidden", ""):
        r = kernels.run("import", "--name", name, str(tmp_path / "bz"))
        assert r.returncode == 2 and b"name" in r.stderr
    assert kernels.run("rm", "none").returncode == 3
    assert kernels.run("import", str(tmp_path / "none")).returncode == 3


def test_left_overs_go(kernels, tmp_path):
    """What an import left that was cut off is removed by the next one."""
    (tmp_path / "bz").write_bytes(bzimage())
    half = kernels.folder / ".new-kernel"
    half.mkdir(parents=True)
    (half / "vmlinuz").write_bytes(b"half")
    assert kernels.names() == {}
    assert kernels.run("import", str(tmp_path / "bz")).returncode == 0
    assert sorted(os.listdir(kernels.folder)) == [REL, "default"]
