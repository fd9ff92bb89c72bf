# SPDX-License-Identifier: Apache-2.0
"""The image store as processes use it: killed, at the same time, on a full disk, by others."""
import ctypes
import fcntl
import json
import os
import random
import subprocess
import time

import pytest

from lib import images, layers
from lib.holm_image import CONFLICT, INVALID, LIMIT, NOT_FOUND, Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An OCI layout with one image of three layers: a shell, noise, whiteouts."""
    top = layers.tar([layers.entry(".wh.gone"), layers.entry("noise/.wh..wh..opq"),
                      layers.entry("noise/new", data=b"new", uid=1000, gid=1000)])
    noise = layers.tar([layers.entry("gone", data=b"x"), layers.entry("noise", "d"),
                        *(layers.entry(f"noise/{i}", data=random.Random(i).randbytes(100000))
                          for i in range(30))])
    img = images.Image([images.busybox_layer(), noise, top])
    folder = tmp_path_factory.mktemp("layout")
    images.write_layout(str(folder), [img], ["docker.io/library/three:1"])
    return folder, img


def files(store, *folders):
    return [n for f in folders for n in os.listdir(store.path / f)]


def test_unpacks(store, archive):
    folder, _ = archive
    store.run("load", folder)
    store.run("unpack", "three:1")
    names = os.listdir(store.path / "layers")
    assert len(names) == 3
    docs = [json.loads((store.path / "layers" / n / "layer.json").read_text()) for n in names]
    assert all(d["version"] == 1 and d["ids"] == "mapped" for d in docs)
    assert sum("parent" not in d for d in docs) == 1
    top = next(store.path / "layers" / n / "root" for n, d in zip(names, docs) if d["entries"] == 3)
    assert os.stat(top / "noise/new").st_uid == 1000
    assert os.stat(store.path).st_mode & 0o7777 == 0o700
    assert files(store, "tmp", "trash", "partial") == []
    store.run("unpack", "three:1")    # nothing to do
    store.whole()


def test_is_an_oci_layout(store, archive, tmp_path):
    """Another program reads the store as it is."""
    folder, img = archive
    store.run("load", folder)
    done = subprocess.run(["skopeo", "copy", "-q", f"oci:{store.path}:docker.io/library/three:1",
                           f"dir:{tmp_path}/out"], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / img.config[7:]).exists()


def test_killed_at_any_time(store, archive):
    """kill -9 again and again: the image is whole or absent, and the next run makes it whole."""
    folder, _ = archive
    rng = random.Random(1)
    seen = set()
    store.run("load", "--unpack", folder)
    store.run("rm", "three:1")
    store.run("gc", "--partials")
    start = time.monotonic()
    store.run("load", "--unpack", folder)
    whole = time.monotonic() - start
    store.run("rm", "three:1")
    store.run("gc", "--partials")
    for i in range(14):
        p = store.start("load", "--unpack", folder, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
        if i < 13:   # the last one is let be
            time.sleep(whole * rng.uniform(0, 1.1) if i else 0)
            p.kill()
        p.wait()
        there = "docker.io/library/three:1" in store.ls()
        seen.add(there)
        store.whole()
        if there:
            store.run("unpack", "three:1")
            store.run("rm", "three:1")
        store.run("gc", "--partials")
        assert files(store, "blobs/sha256", "layers", "tmp", "trash", "partial") == [], i
    assert seen == {True, False}
    store.run("load", "--unpack", folder)
    store.whole()


def test_children_of_a_killed_unpacker_end(store, archive):
    folder, _ = archive
    store.run("load", folder)
    for _ in range(5):
        p = store.start("unpack", "three:1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.02)
        p.kill()
        p.wait()
        # A child that lived on would hold the use that gc waits for.
        store.run("gc")
        assert files(store, "tmp") == []


def test_two_unpack_at_once(store, archive):
    folder, _ = archive
    store.run("load", folder)
    both = [store.start("unpack", "three:1", stderr=subprocess.PIPE) for _ in range(2)]
    for p in both:
        _, err = p.communicate(timeout=60)
        assert p.returncode == 0, err
    assert len(files(store, "layers")) == 3
    assert files(store, "tmp") == []
    store.whole()


def test_gc_waits_for_whoever_adds(store, archive):
    store.run("load", archive[0])
    store.run("rm", "three:1")
    with open(store.path / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        store.fails("gc", "--no-wait", status=CONFLICT)
        p = store.start("gc", stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        assert p.poll() is None
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert p.wait(timeout=60) == 0
    assert files(store, "blobs/sha256", "trash") == []


def test_pinned_images_stay(store, archive):
    folder, img = archive
    store.run("load", "--unpack", folder)
    os.symlink(img.manifest, store.path / "pins/some-instance")
    store.fails("rm", "three:1", status=CONFLICT, says="some-instance")
    store.run("rm", "--force", "three:1")
    store.run("gc")
    assert len(files(store, "layers")) == 3
    os.unlink(store.path / "pins/some-instance")
    store.run("gc")
    assert files(store, "layers", "blobs/sha256") == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a b", "x/../y", "three:1\n"])
def test_bad_names(store, archive, name):
    """Rule 19: a name from outside has one shape, and is never a path."""
    store.run("load", archive[0])
    store.fails("inspect", name, status=NOT_FOUND)
    store.fails("tag", "three:1", name, status=INVALID)
    assert list(store.ls()) == ["docker.io/library/three:1"]


def test_what_is_damaged_is_found(store, archive):
    folder, img = archive
    store.run("load", folder)
    blob = store.path / "blobs/sha256" / img.layers[1][7:]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = store.run("verify", status=1)
    assert img.layers[1] in done.out + done.err
    # And not unpacked: the very bytes that are used are hashed.
    done = subprocess.run(store.args("unpack", "three:1"), env=store.env, text=True,
                          capture_output=True)
    assert done.returncode != 0
    assert files(store, "tmp") == [] and len(files(store, "layers")) == 0


def test_a_layer_that_is_not_the_configs(store, tmp_path):
    """diff_ids that lie would let one image put its files in another's layer."""
    img = images.Image([layers.tar([layers.entry("a", data=b"a")])])
    config = json.loads(img.blobs[img.config])
    config["rootfs"]["diff_ids"] = ["sha256:" + "1" * 64]
    lie = images.Image([layers.tar([layers.entry("a", data=b"a")])])
    lie.config = lie.add(json.dumps(config).encode())
    lie.manifest = lie.add(json.dumps({
        "schemaVersion": 2, "mediaType": images.OCI_MANIFEST,
        "config": lie.desc(lie.config, images.OCI_CONFIG),
        "layers": [lie.desc(lie.layers[0], images.OCI_LAYER + "+gzip")]}).encode())
    images.write_layout(str(tmp_path / "l"), [lie], ["docker.io/library/lie:1"])
    done = subprocess.run(store.args("load", "--unpack", tmp_path / "l"), env=store.env, text=True,
                          capture_output=True)
    assert done.returncode != 0 and "sha256:" in done.stderr
    assert files(store, "layers", "tmp") == []


def test_full_disk(archive, tmp_path):
    """A clear error, nothing half-made; with room again it works."""
    folder, _ = archive
    disk, at = tmp_path / "disk", tmp_path / "at"
    at.mkdir()
    with open(disk, "wb") as f:
        f.truncate(9 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, at], check=True)
    store = Store()
    try:
        store.path = at / "store"
        filler = at / "filler"
        for room in (200_000, 2_000_000, 4_500_000):
            # Leave so much room: the load fails over blobs, over blobs, over layers.
            free = os.statvfs(at)
            with open(filler, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, max(free.f_bavail * free.f_frsize - room, 1))
            last = store.fails("load", "--unpack", folder, status=LIMIT)
            assert "space" in last
            assert files(store, "tmp") == []
            store.whole()
            filler.unlink()
            if "docker.io/library/three:1" in store.ls():
                store.run("rm", "three:1")
            store.run("gc", "--partials")
            assert files(store, "blobs/sha256", "layers", "trash", "partial") == []
    finally:
        subprocess.run(["umount", at], check=True)
        store.close()


# --- lesser rights -----------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)


def in_userns(count, argv, env):
    """Run as root of a user namespace of `count` ids, with a mount namespace of its own."""
    to_child, to_parent = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        if LIBC.unshare(0x10000000 | 0x00020000) != 0:   # CLONE_NEWUSER | CLONE_NEWNS
            os._exit(99)
        os.write(to_parent[1], b"1")
        os.read(to_child[0], 1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.execve(argv[0], [str(a) for a in argv], env)
    os.read(to_parent[0], 1)
    for what in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{what}", "w", encoding="ascii") as f:
            f.write(f"0 700000 {count}")
    os.write(to_child[1], b"1")
    _, status = os.waitpid(pid, 0)
    for fd in (*to_child, *to_parent):
        os.close(fd)
    return os.waitstatus_to_exitcode(status)


def test_in_a_user_namespace(archive):
    """Root of a range of ids, as in a container: the ids of the range, by a plain namespace."""
    folder, _ = archive
    store = Store()
    try:
        for top, _, names in os.walk(store.folder):
            for p in [top, *(os.path.join(top, n) for n in names)]:
                os.chown(p, 700000, 700000)
        copy = store.folder / "layout"
        subprocess.run(["cp", "-r", folder, copy], check=True)
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        os.chmod(store.folder, 0o755)
        assert in_userns(65536, store.args("load", "--unpack", copy), store.env) == 0
        names = os.listdir(store.path / "layers")
        docs = {n: json.loads((store.path / "layers" / n / "layer.json").read_text())
                for n in names}
        assert len(docs) == 3 and all(d["ids"] == "plain" for d in docs.values())
        top = next(n for n, d in docs.items() if d["entries"] == 3)
        assert os.stat(store.path / "layers" / top / "root/noise/new").st_uid == 701000
    finally:
        store.close()
