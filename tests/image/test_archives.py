# SPDX-License-Identifier: Apache-2.0
"""Archives: in and out, beside skopeo; hostile ones."""
import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
import time
import zlib

import pytest

from lib import images
from lib.holm_image import FAULTY, HOST, INVALID, LIMIT, NOT_FOUND, UNSUPPORTED, Store


@pytest.fixture(scope="module")
def image():
    return images.busybox_image(extra=[("hello", b"hello")])


def packed(data, how):
    if how in ("gzip", "zstd", "none"):
        return images.compress(data, how)
    return lzma.compress(data, preset=0) if how == "xz" else bz2.compress(data)


@pytest.mark.parametrize("how", ["none", "gzip", "zstd", "xz", "bzip2"])
def test_layout_as_tar(store, image, tmp_path, how):
    path = tmp_path / "image.tar"
    path.write_bytes(packed(images.tar(images.layout_entries([image], ["busy:1"])), how))
    store.run("load", path)
    assert store.inspect("busy:1")["digest"] == image.manifest
    store.whole()


@pytest.mark.parametrize("first", ["blobs", "index"])
def test_from_a_pipe_in_any_order(store, image, first):
    entries = images.layout_entries([image], ["busy:1"])
    entries.sort(key=lambda e: e[0].startswith("blobs"), reverse=first == "blobs")
    store.run("load", "-", input=images.tar(entries))
    assert store.inspect("busy:1")["digest"] == image.manifest


def test_layout_as_folder(store, image, tmp_path):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["busy:1"]))
    assert store.inspect("busy:1")["digest"] == image.manifest
    store.run("load", tmp_path / "l", "--name", "other:2")
    assert store.inspect("other:2")["digest"] == image.manifest


def test_several_images(store, image, tmp_path):
    second = images.busybox_image(extra=[("second", b"2")])
    store.run("load", images.write_layout(tmp_path / "l", [image, second], ["a:1", "b:1"]))
    assert store.inspect("a:1")["digest"] == image.manifest
    assert store.inspect("b:1")["digest"] == second.manifest
    store.fails("load", tmp_path / "l", "--name", "x", status=INVALID, says="2 images")


def test_one_image_for_several_platforms(store, tmp_path):
    amd = images.busybox_image(arch="amd64")
    arm = images.busybox_image(arch="arm64")
    # As entries of index.json, and as an index within it.
    images.write_layout(tmp_path / "flat", [arm, amd], ["m:1", "m:1"], platforms=True)
    inner = images.index_of([arm, amd], platforms=True)
    d = amd.add(inner)
    outer = json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": images.OCI_INDEX, "digest": d, "size": len(inner),
         "annotations": {"org.opencontainers.image.ref.name": "m:1"}}]}).encode()
    images.write_layout(tmp_path / "nested", [arm, amd], index=outer)
    for folder in ("flat", "nested"):
        store.run("load", tmp_path / folder)
        assert store.inspect("m:1")["digest"] == amd.manifest
        store.run("load", "--platform", "linux/arm64", tmp_path / folder)
        assert store.inspect("m:1")["digest"] == arm.manifest
        store.fails("load", "--platform", "linux/s390x", tmp_path / folder, status=NOT_FOUND)


def test_only_a_tag(store, image, tmp_path):
    """skopeo's oci:FOLDER:TAG: loaded without a name, and said so."""
    images.write_layout(tmp_path / "l", [image], ["latest"])
    assert "--name" in store.run("load", tmp_path / "l").err
    assert list(store.ls()) == [None]


@pytest.mark.parametrize("layer_dir", [True, False])
def test_docker_archive(store, image, tmp_path, layer_dir):
    path = tmp_path / "d.tar"
    path.write_bytes(images.tar(images.docker_entries(image, ["d:1", "x.y/d:2"], layer_dir)))
    store.run("load", path)
    assert set(store.ls()) == {"docker.io/library/d:1", "x.y/d:2"}
    assert store.inspect("d:1")["config"]["config"]["Cmd"] == ["/bin/sh"]
    assert store.inspect("d:1")["id"] == image.config
    store.whole()
    store.run("load", path, "--name", "only:1")
    assert "docker.io/library/only:1" in store.ls()


def test_docker_archive_with_linked_layers(store, tmp_path):
    """A layer that comes twice is a link in what older docker wrote."""
    layer = images.tar([("same", b"x")])
    image = images.Image([layer, layer])
    entries = images.docker_entries(image, ["d:1"])
    name = entries[2][0]
    entries[2] = (name, ("link", "../" + entries[1][0]))
    path = tmp_path / "d.tar"
    path.write_bytes(images.tar(entries))
    store.run("load", path)
    assert len(store.inspect("d:1")["manifest"]["layers"]) == 2


def test_docker_archive_of_skopeo(store, image, tmp_path):
    images.write_layout(tmp_path / "l", [image], ["busy:1"])
    subprocess.run(["skopeo", "--insecure-policy", "copy", f"oci:{tmp_path}/l:busy:1",
                    f"docker-archive:{tmp_path}/d.tar:busy:1"], check=True, stdout=subprocess.DEVNULL)
    store.run("load", tmp_path / "d.tar")
    assert store.inspect("busy:1")["id"] == image.config


# Out

def test_save_and_load(store, image, tmp_path):
    second = images.busybox_image(how="zstd", extra=[("second", b"2")])
    store.run("load", images.write_layout(tmp_path / "l", [image, second], ["a:1", "b:1"]))
    for fmt in ("oci", "docker", "oci-dir"):
        out = tmp_path / fmt
        store.run("save", "--format", fmt, "-o", out, "a:1", "b:1")
        other = Store()
        try:
            other.run("load", out)
            assert set(other.ls()) == {"docker.io/library/a:1", "docker.io/library/b:1"}
            assert other.inspect("a:1")["id"] == image.config
            if fmt != "docker":
                assert other.inspect("a:1")["digest"] == image.manifest
            other.whole()
        finally:
            other.close()


@pytest.mark.parametrize("fmt,source", [("oci", "oci-archive"), ("docker", "docker-archive"),
                                        ("oci-dir", "oci")])
def test_skopeo_reads_what_we_save(store, image, tmp_path, fmt, source):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["a:1"]))
    store.run("save", "--format", fmt, "-o", tmp_path / "out", "a:1")
    name = "a:1" if fmt == "docker" else "docker.io/library/a:1"
    done = subprocess.run(["skopeo", "--insecure-policy", "copy", f"{source}:{tmp_path}/out:{name}",
                           f"dir:{tmp_path}/dir"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def test_save_gives_the_same_bytes(store, image, tmp_path):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["a:1"]))
    for fmt in ("oci", "docker"):
        store.run("save", "--format", fmt, "-o", tmp_path / "1", "a:1")
        time.sleep(1.1)
        with open(tmp_path / "2", "wb") as f:   # a pipe or file, it makes no difference
            subprocess.run(store.args("save", "--format", fmt, "a:1"), stdout=f, check=True,
                           env=store.env)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_save_leaves_no_half(store, image, tmp_path):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["a:1"]))
    (blob,) = store.path.rglob(image.layers[0][7:])
    blob.chmod(0o600)
    data = blob.read_bytes()
    blob.write_bytes(data[:5000] + bytes(100) + data[5100:])
    for fmt in ("oci", "docker"):
        store.fails("save", "--format", fmt, "-o", tmp_path / "out", "a:1", status=HOST)
        assert [p.name for p in tmp_path.iterdir()] == ["l"]
    store.fails("save", "-o", tmp_path / "out", "nothing", status=NOT_FOUND)
    store.fails("save", "-o", tmp_path / "no/where", "a:1", status=HOST)


# Plain root file systems

@pytest.mark.parametrize("how", ["none", "gzip", "zstd", "xz"])
@pytest.mark.parametrize("compress", ["keep", "zstd", "gzip", "none"])
def test_import(store, how, compress):
    plain = images.busybox_layer()
    out = store.run("import", "-", "root:1", "--compress", compress, "--cmd", "/bin/sh", "--cmd",
                    "-l", "-e", "A=b c", "-l", "k=v=w", "-u", "1:2", "-w", "/tmp",
                    input=packed(plain, how)).out
    info = store.inspect("root:1")
    assert out.strip() == info["digest"]
    assert info["config"]["rootfs"]["diff_ids"] == [images.digest(plain)]
    assert info["config"]["config"] == {"User": "1:2", "Env": ["A=b c"], "Cmd": ["/bin/sh", "-l"],
                                        "WorkingDir": "/tmp", "Labels": {"k": "v=w"}}
    media = info["manifest"]["layers"][0]["mediaType"]
    kept = {"gzip": "gzip", "zstd": "zstd"}.get(how, "zstd")
    want = {"keep": kept, "none": "tar"}.get(compress, compress)
    assert media.endswith(want)
    store.whole()


def test_import_keeps_odd_names(store):
    """Names that are not ASCII, long ones, and what stands behind the end of the archive."""
    name = "ü" * 60 + "/" + "n" * 200
    plain = images.tar([("ü" * 60, None), (name, b"1")]) + b"\0" * 20480
    store.run("import", "-", "odd:1", input=plain)
    assert store.inspect("odd:1")["config"]["rootfs"]["diff_ids"] == [images.digest(plain)]


HOSTILE_ROOTS = {
    "empty": b"",
    "no tar": b"hello, world\n" * 1000,
    "no entries": b"\0" * 10240,
    "leaves": images.tar([("a/../../etc/passwd", b"x")]),
    "absolute": images.tar([("/etc/passwd", b"x")]),
    "cut off": images.tar([("a", b"x" * 100000)])[:50000],
    "cut gzip": gzip.compress(images.busybox_layer())[:-100000],
    "broken gzip": gzip.compress(images.busybox_layer())[:-8] + b"\0" * 8,
    "control": images.tar([("a\x1b[31m", b"x")]),
}


@pytest.mark.parametrize("what", HOSTILE_ROOTS)
def test_import_refuses(store, what):
    last = store.fails("import", "-", "bad:1", input=HOSTILE_ROOTS[what], status=INVALID)
    assert "\x1b" not in last
    assert store.ls() == {}


def test_import_refuses_hard_links_out(store):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("inside")
        info.type, info.linkname = tarfile.LNKTYPE, "../../etc/shadow"
        t.addfile(info)
    store.fails("import", "-", "bad:1", input=out.getvalue(), status=INVALID, says='"inside"')


# Hostile archives of images: security.md 1.16, 1.17

def hardlinked(name, target):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.CHRTYPE if target is None else tarfile.LNKTYPE, target or ""
        t.addfile(info)
    return out.getvalue()


def with_index(image, doc):
    return images.tar(images.layout_entries([image], index=json.dumps(doc).encode()))


def desc(image, **more):
    return {**image.desc(image.manifest, images.OCI_MANIFEST), **more}


def hostile_archives():
    image = images.busybox_image(extra=[("hello", b"hello")])
    entries = images.layout_entries([image], ["a:1"])
    docker = images.docker_entries(image, ["d:1"])
    blob = "blobs/sha256/" + image.layers[1][7:]
    config = "blobs/sha256/" + image.config[7:]

    def replace(name, data, base=entries):
        return images.tar([(n, data if n == name else c, *m) for n, c, *m in base])

    def without(name, base=entries):
        return images.tar([e for e in base if e[0] != name])

    loop = images.Image([])
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    deep = index
    for _ in range(8):
        d = image.add(deep)
        deep = json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": images.OCI_INDEX, "digest": d, "size": len(deep),
             "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
    swapped = images.Image([images.tar([("other", b"1")])])
    return {
        "nothing": (images.tar([("file", b"x")]), INVALID, "import"),
        "not a tar": (b"x" * 5000, INVALID, None),
        "cut off": (images.tar(entries)[:600000], INVALID, None),
        "leaves": (images.tar([("../x.json", b"{}")] + entries), INVALID, "../x.json"),
        "absolute": (images.tar([("/index.json", b"{}")] + entries), INVALID, "/index.json"),
        "twice": (images.tar(entries + [("index.json", b"{}")]), INVALID, "index.json"),
        "twice a blob": (images.tar(entries + [(blob, b"x")]), INVALID, blob),
        "device": (hardlinked("index.json", None), INVALID, "index.json"),
        "wrong layer": (replace(blob, b"x" * 500), INVALID, blob),
        "wrong config": (replace(config, b'{"x":1}'), INVALID, config),
        "no layer": (without(blob), INVALID, "lacks"),
        "no manifest": (without("blobs/sha256/" + image.manifest[7:]), INVALID, "lacks"),
        "size": (with_index(image, {"schemaVersion": 2, "manifests": [desc(image, size=1)]}),
                 INVALID, "bytes"),
        "two kinds": (with_index(image, {"schemaVersion": 2, "manifests": [desc(image)],
                                         "layers": [], "config": {}}), INVALID, None),
        "no json": (replace("index.json", b"{"), INVALID, "index.json"),
        "deep": (images.tar(images.layout_entries([image], index=deep)), LIMIT, "deep"),
        "another type": (with_index(image, {"schemaVersion": 2, "manifests": [
            desc(image, mediaType="text/plain")]}), UNSUPPORTED, "text/plain"),
        "digest": (with_index(image, {"schemaVersion": 2, "manifests": [
            desc(image, digest="sha256:../../x")]}), INVALID, None),
        "huge index": (replace("index.json", b" " * (5 << 20)), LIMIT, "index.json"),
        "bad name": (images.tar(images.layout_entries([image], ["a b:1"])), INVALID, "a b"),
        "docker: other layer": (replace(docker[1][0], swapped.plain[0], docker), INVALID,
                                docker[1][0]),
        "docker: no layer": (without(docker[1][0], docker), INVALID, "lacks layer"),
        "docker: no config": (without(docker[0][0], docker), INVALID, "lacks the config"),
        "docker: too few": (replace("manifest.json", json.dumps([
            {"Config": docker[0][0], "Layers": [docker[1][0]]}]).encode(), docker), INVALID,
            "names 1 layers"),
        "docker: out": (replace("manifest.json", json.dumps([
            {"Config": "../../etc/passwd", "Layers": []}]).encode(), docker), INVALID, "lacks"),
        "docker: link out": (images.tar(docker[:1] + [(docker[1][0], ("link", "../../../etc/shadow"))]
                                        + docker[2:]), INVALID, "lacks layer"),
        "docker: link to itself": (images.tar(docker[:1] + [(docker[1][0], (
            "link", "../" + docker[1][0]))] + docker[2:]), INVALID, "lacks layer"),
        "docker: name": (images.tar(images.docker_entries(image, ["UPPER:1"])), INVALID, "UPPER"),
        "docker: empty": (replace("manifest.json", b"[]", docker), INVALID, "manifest.json"),
        "many entries": (images.tar([(f"{i}.json", b"") for i in range(10001)]), LIMIT,
                         "10000 entries"),
        "no image": (images.tar(images.layout_entries([loop], index=index)), INVALID, "no image"),
    }


HOSTILE = hostile_archives()


@pytest.mark.parametrize("what", HOSTILE)
def test_refuses(store, what, tmp_path):
    data, status, words = HOSTILE[what]
    store.fails("load", "-", input=data, status=status, says=words or ())
    assert store.ls() == {}


def test_gzip_bomb(store):
    """Gigabytes of an index in a few kilobytes: refused by its header, not once it is read."""
    info = tarfile.TarInfo("index.json")
    info.size = 6 << 30
    data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b" " * (8 << 20))
    store.fails("load", "-", input=data, status=LIMIT, says="index.json")


def zeros(n):
    """A tar of one file of n zeros, as a stream in pieces."""
    info = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    info.size = n
    yield info.tobuf(tarfile.GNU_FORMAT)
    for _ in range(n // (1 << 20)):
        yield bytes(1 << 20)
    yield bytes(10240)


@pytest.mark.parametrize("command", [["load", "-"], ["import", "-", "bad:1"]])
def test_bombs(store, command):
    """A third of a gigabyte of nothing in a third of a megabyte: refused long before the disk is full."""
    packer = zlib.compressobj(4, zlib.DEFLATED, 31)
    data = b"".join(map(packer.compress, zeros(320 << 20))) + packer.flush()
    store.fails(*command, input=data, status=LIMIT, says="200 times")
    assert store.ls() == {}


@pytest.mark.parametrize("make", ["symlink", "parent", "fifo", "folder"])
def test_folders_do_not_lead_elsewhere(store, image, tmp_path, make):
    """A layout's files are files: a link is not followed, a pipe does not block."""
    folder = images.write_layout(tmp_path / "l", [image], ["a:1"])
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "index.json").read_bytes())
    (folder / "index.json").unlink()
    if make == "parent":
        (folder / "index.json").write_bytes(secret.read_bytes())
        (folder / "blobs").rename(tmp_path / "blobs")
        (folder / "blobs").symlink_to(tmp_path / "blobs")
    elif make == "symlink":
        (folder / "index.json").symlink_to(secret)
    elif make == "fifo":
        os.mkfifo(folder / "index.json")
    else:
        (folder / "index.json").mkdir()
    result = subprocess.run(store.args("load", folder), env=store.env, stderr=subprocess.PIPE,
                            timeout=60)
    assert result.returncode in (INVALID, NOT_FOUND)
    assert store.ls() == {}


# Bootstrap

FAKE = """#!/bin/sh
# Stands for mmdebstrap: writes its arguments beside itself and a small root to its output.
dir=$(dirname "$0")
printf '%s\\n' "$@" > "$dir/args"
env | sort > "$dir/env"
echo "I: doing something" >&2
[ -e "$dir/fail" ] && { echo "E: no such suite" >&2; head -c 3000 "$dir/root.tar"; exit 25; }
cat "$dir/root.tar"
"""


@pytest.fixture
def fake(store, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mmdebstrap").write_text(FAKE)
    (folder / "mmdebstrap").chmod(0o755)
    (folder / "root.tar").write_bytes(images.busybox_layer())
    store.env["PATH"] = f"{folder}:/usr/bin:/bin"
    store.env["SECRET"] = "do not pass"
    return folder


def test_bootstrap(store, fake):
    err = store.run("bootstrap", "debian:trixie", "--include", "procps,iproute2", "--include",
                    "libc6:amd64", "--variant", "apt").err
    assert "doing something" in err
    args = (fake / "args").read_text().splitlines()
    assert args[:6] == ["--variant=apt", "--architectures=amd64", "--format=tar",
                        "--include=procps,iproute2,libc6:amd64", "trixie", "-"]
    env = (fake / "env").read_text()
    assert "SECRET" not in env and "SOURCE_DATE_EPOCH=" in env
    info = store.inspect("debian:trixie")
    assert info["config"]["config"]["Cmd"] == ["bash"]
    assert any(e.startswith("PATH=") for e in info["config"]["config"]["Env"])
    assert info["config"]["rootfs"]["diff_ids"] == [images.digest(images.busybox_layer())]
    assert list(store.ls()) == ["docker.io/library/debian:trixie"]


def test_bootstrap_twice_gives_the_same(store, fake):
    store.env["SOURCE_DATE_EPOCH"] = "1700000000"
    store.run("bootstrap", "debian:trixie")
    first = store.inspect("debian:trixie")["digest"]
    time.sleep(1.1)
    store.run("bootstrap", "debian:trixie", "--name", "again:1")
    assert store.inspect("again:1")["digest"] == first


def test_bootstrap_without_a_suite(store, fake):
    store.run("bootstrap", "debian", "--mirror", "http://mirror.invalid/debian", "--cmd",
              "/sbin/init")
    assert "docker.io/library/debian:latest" in store.ls()
    assert (fake / "args").read_text().splitlines()[-1] == "http://mirror.invalid/debian"
    assert store.inspect("debian")["config"]["config"]["Cmd"] == ["/sbin/init"]


def test_bootstrap_fails(store, fake):
    (fake / "fail").touch()
    store.fails("bootstrap", "debian:nosuch", status=HOST, says=["status 25", "no such suite"])
    assert store.ls() == {}
    store.fails("bootstrap", "fedora", status=UNSUPPORTED)
    store.fails("bootstrap", "debian:-x", status=INVALID)
    store.fails("bootstrap", "debian:x", "--include", "--evil", status=INVALID)
    store.fails("bootstrap", "debian:x", "--variant", "huge", status=INVALID)
    (fake / "mmdebstrap").unlink()
    store.env["PATH"] = str(fake)
    store.fails("bootstrap", "debian:x", status=UNSUPPORTED, says="mmdebstrap is not installed")


# Looking and managing

def test_no_store_yet(store):
    assert store.ls() == {}
    store.fails("inspect", "x", status=NOT_FOUND, says=["no image store", "pull"])
    assert not store.path.exists()


def test_manages(store, image, tmp_path):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["a:1"]))
    store.run("tag", "a:1", "b.c/d:2")
    assert set(store.ls()) == {"docker.io/library/a:1", "b.c/d:2"}
    assert json.loads(store.run("history", "--json", "a:1").out)[1]["createdBy"] == "layer 1"
    assert image.config in store.run("ls", "-q").out
    store.fails("tag", "a:1", "Bad", status=INVALID)
    store.fails("inspect", "nothing", status=NOT_FOUND)
    assert "untagged" in store.run("rm", "a:1").out
    assert "deleted" in store.run("rm", "b.c/d:2").out
    assert store.ls() == {}
    assert not list(store.path.rglob(image.layers[0][7:]))


def test_unpacks(store, image, tmp_path):
    lines = store.progress("load", images.write_layout(tmp_path / "l", [image], ["a:1"]), "--unpack")
    assert [l for l in lines if l["type"] == "item" and l["what"] == "unpack"]
    assert store.inspect("a:1")["unpacked"] is True


def test_progress_of_a_failure(store, tmp_path):
    """The last line of the progress is the error, with its code."""
    (tmp_path / "x.tar").write_bytes(b"x" * 1000)
    lines = store.progress("load", tmp_path / "x.tar", status=INVALID)
    assert lines[-1]["type"] == "error" and lines[-1]["code"] == "invalid"
    assert "x.tar" in lines[-1]["message"]


# Hosts that fail

@pytest.fixture
def small(store):
    """The store's folder has one megabyte of room."""
    store.path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", store.path], check=True)
    yield store
    subprocess.run(["umount", "-l", store.path], check=True)


def test_full_disk(small, image, tmp_path):
    """A clear error, nothing half-made, and room again for what fits."""
    big = images.Image([images.tar([("noise", os.urandom(3 << 20))])])
    images.write_layout(tmp_path / "big", [big], ["big:1"])
    path = tmp_path / "big.tar"
    path.write_bytes(images.tar(images.layout_entries([big], ["big:1"])))
    for args in (["load", tmp_path / "big"], ["load", path], ["import", path, "big:1"]):
        small.fails(*args, status=LIMIT, says="no space left")
        assert small.ls() == {}
    small.run("gc", "--partials")
    fits = images.Image([images.tar([("noise", os.urandom(100 << 10))])])
    small.run("load", images.write_layout(tmp_path / "fits", [fits], ["fits:1"]))
    small.whole()


def test_save_to_a_full_disk(store, image, tmp_path):
    store.run("load", images.write_layout(tmp_path / "l", [image], ["a:1"]))
    room = tmp_path / "room"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", room], check=True)
    try:
        for fmt in ("oci", "docker"):
            store.fails("save", "--format", fmt, "-o", room / "x.tar", "a:1", status=HOST,
                        says="written")
            assert list(room.iterdir()) == []
        store.fails("save", "--format", "oci-dir", "-o", room / "x", "a:1", status=HOST,
                    says="written")
        assert not (room / "x/index.json").exists()
        with open("/dev/full", "wb") as full:
            done = subprocess.run(store.args("save", "a:1"), env=store.env, stdout=full,
                                  stderr=subprocess.PIPE)
        assert done.returncode == HOST
    finally:
        subprocess.run(["umount", "-l", room], check=True)


FAULTS = ["write", "openat", "renameat2", "fsync", "fdatasync", "socketpair", "fork", "sendmsg",
          "mkdirat", "linkat", "fstat", "flock", "pipe2", "setresuid", "landlock", "memfd_create"]


@pytest.mark.parametrize("call", FAULTS)
def test_calls_that_fail(store, image, tmp_path, call):
    """Each of the first calls of a kind fails: an error or success, and a whole store."""
    if not FAULTY.exists():
        pytest.skip('no build with injected faults: "make asan" makes one')
    store.program = str(FAULTY)
    path = tmp_path / "a.tar"
    path.write_bytes(images.tar(images.layout_entries([image], ["a:1"])))
    for n in (1, 2, 5, 13):
        store.env["HOLM_FAULT"] = f"{call}:{n}:EIO"
        done = subprocess.run(store.args("load", path), env=store.env, stderr=subprocess.PIPE,
                              timeout=60)
        del store.env["HOLM_FAULT"]
        assert 0 <= done.returncode < 10, done.stderr
        assert done.returncode == 0 or b"holm-image: " in done.stderr
        if store.path.exists() and (store.path / "index.json").exists():
            store.whole()
        store.run("load", path)
        store.whole()
        store.run("rm", "a:1")


# Terminals

def test_bars(store):
    """On a terminal bars are drawn and taken away again; TERM=dumb gets lines."""
    import pty
    big = images.Image([images.tar([("noise", os.urandom(6 << 20))])])
    slow = images.tar(images.layout_entries([big], ["a:1"]))
    for term, bars in (("xterm", True), ("dumb", False)):
        main, side = pty.openpty()
        r, w = os.pipe()
        p = subprocess.Popen(store.args("load", "-"), env={**store.env, "TERM": term}, stdin=r,
                             stdout=side, stderr=side)
        os.close(side)
        os.close(r)
        os.write(w, slow[:60000])
        with os.fdopen(w, "wb") as pipe:
            for at in range(60000, len(slow), 1000000):
                pipe.write(slow[at:at + 1000000])
                pipe.flush()
                time.sleep(0.15)
        out = b""
        try:
            while part := os.read(main, 65536):
                out += part
        except OSError:
            pass   # the other end is shut
        os.close(main)
        assert p.wait(60) == 0
        assert (b"\x1b[1A" in out and b"[==" in out) == bars, out
        assert b"done" in out and b"docker.io/library/a:1" in out
        store.run("rm", "a:1")
