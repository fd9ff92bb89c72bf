# SPDX-License-Identifier: Apache-2.0
"""A disk with a Debian root that has nodejs and OpenJDK, and a program for each of them.

It is made once and kept in $HOLM_CACHE (default: build/vm).
"""
import hashlib
import inspect
import shutil

from lib.debian import SUITE, sources
from lib.kept import kept
from lib.vmm import CACHE, TOP, run

PACKAGES = ["nodejs", "openjdk-17-jdk-headless"]
IMAGE_BYTES = 1536 << 20
PROGRAMS = [TOP / "tests/vmm/guest" / name for name in ("program.js", "Program.java")]


def make(folder):
    tar, root, image = folder / "root.tar", folder / "root", folder / "root.img"
    run("mmdebstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES),
        *[f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "locale")],
        SUITE, tar, *sources())
    root.mkdir()
    run("tar", "-C", root, "--exclude=./dev/*", "-xf", tar)
    tar.unlink()
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, image)
    shutil.rmtree(root)


def disk():
    text = inspect.getsource(make) + repr((PACKAGES, SUITE))
    folder = CACHE / f"jits-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return kept(folder, make) / "root.img"
