# SPDX-License-Identifier: Apache-2.0
"""holm-vmm --cache: a kernel is unpacked once."""
import hashlib
import os
import subprocess
import time

import pytest

from lib.vmm import Control, Machine, stock_kernel

COMPLAINT = "the unpacked kernel cannot be kept"


def names(folder):
    """What is in a cache, without the links that say whose hash a name is."""
    return [n for n in os.listdir(folder) if not (folder / n).is_symlink()]


@pytest.fixture
def loads(tmp_path):
    """Load the stock kernel with a cache; what the monitor said, and its name in a cache."""
    kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
    name = hashlib.sha256(kernel.read_bytes()).hexdigest() + ".elf"

    def load(folder):
        (tmp_path / "ctl").unlink(missing_ok=True)
        m = Machine(tmp_path, "", "--kernel", kernel, "--paused", "--control", tmp_path / "ctl",
                    "--cache", folder, kernel=False)
        control = None
        try:
            control = Control(tmp_path / "ctl")
            ended = control.ask("stop")[0] == 0 and m.wait() == 13
        except (AssertionError, OSError):
            ended = False
        finally:
            if control:
                control.close()
            m.close()
        return m.output() if ended else f"failed: {m.output()}"

    return load, name


def test_once(loads, tmp_path):
    """In a folder in which only we may write: the monitor's own user has no part in it."""
    load, name = loads
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    assert load(folder) == ""
    kept = folder / name
    assert names(folder) == [name] and kept.read_bytes()[:4] == b"\x7fELF"
    before = kept.stat()
    assert (before.st_uid, before.st_mode & 0o777) == (os.geteuid(), 0o600)
    assert load(folder) == ""
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    kept.write_bytes(b"not what it was")  # what is there is what is taken
    assert load(folder).startswith("failed:")


def test_hashed_once(loads, tmp_path):
    """Whose hash a name is, is noted; not by somebody else, nor for a file that has changed since."""
    load, name = loads
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
    while time.time() < kernel.stat().st_ctime + 3:   # what has just changed is not noted
        time.sleep(0.1)
    assert load(folder) == ""
    note = next(p for p in folder.iterdir() if p.is_symlink())
    assert os.readlink(note) == name
    other = "0" * 64 + ".elf"
    (folder / other).write_bytes(b"another kernel")
    note.unlink()
    note.symlink_to(other)      # what is noted is what is taken
    assert load(folder).startswith("failed:")
    os.chown(note, 4321, 4321, follow_symlinks=False)
    assert load(folder) == ""
    note.unlink()
    note.symlink_to("../" + other)
    assert load(folder) == ""
    os.utime(kernel)            # its file is not the one of the note any more
    note.unlink()
    note.symlink_to(other)
    assert load(folder) == ""


def test_of_somebody_else(loads, tmp_path):
    """In a folder in which others may write too, what they put there is not booted."""
    load, name = loads
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / name).write_bytes(b"a kernel of mine")
    os.chown(folder / name, 4321, 4321)
    assert load(folder) == ""
    assert (folder / name).stat().st_uid == os.geteuid()
    assert (folder / name).read_bytes()[:4] == b"\x7fELF"


def test_that_cannot_be_written(loads, tmp_path):
    """It is said once, with the folder's name, and the machine begins all the same."""
    load, _ = loads
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        said = load(folder)
        assert said.count(COMPLAINT) == 1 and str(folder) in said and "No space" in said, said
        assert names(folder) == []
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        said = load(folder)
        assert said.count(COMPLAINT) == 1 and "Read-only" in said, said
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
