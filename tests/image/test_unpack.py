"""Unpacking of layers: what comes out on disk, and what archives cannot do (rule 16)."""
import gzip
import hashlib
import os
import pathlib
import stat
import subprocess
import tarfile
import tempfile

import pytest

from lib.layers import BUILD, TOOL, entry, header, pad, tar, unpack
from lib.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FULL = [
    entry("./", "d", mode=0o751),
    entry("bin/", "d", mode=0o555),
    entry("bin/su", data=b"su", mode=0o4755),
    entry("bin/su2", "h", link="bin/su"),
    entry("etc", "d"),
    entry("etc/user", data=b"u", uid=1000, gid=70000, mode=0o640),
    entry("link", "l", link="/etc/user", uid=7, gid=8),
    entry("fifo", "p", mode=0o622, uid=3),
    entry("null", "c", mode=0o666, dev=(1, 3)),
    entry("disk", "b", mode=0o660, dev=(8, 0), gid=6),
    entry("x", data=b"x", pax={"SCHILY.xattr.user.note": "hello"}),
    entry("caps", data=b"c", mode=0o755, pax={
        # cap_net_raw, permitted and effective
        "SCHILY.xattr.security.capability":
            b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
            .decode("latin-1")}),
    entry("größe", data=b"utf"),
    entry("a/b/c/implied", data=b"i"),
]


def ok(done):
    assert done.status == 0, done.err
    return done


def refused(done, name, why=""):
    """It failed with a message that names the entry, and in no other way."""
    assert done.status in (2, 7), f"status {done.status}: {done.err}"
    assert name in done.err, done.err
    assert why in done.err, done.err


@pytest.mark.parametrize("kind", ["tar", "gz"])
@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_everything_that_a_layer_has(tmp_path, kind, fmt):
    data = tar(FULL, fmt)
    out = ok(unpack(tmp_path, data, kind))
    root = out.root
    assert out.info["ids"] == "mapped"
    assert out.info["devices"] == "2"
    assert out.info["diff"] == "sha256:" + hashlib.sha256(data).hexdigest()

    def st(name):
        return os.lstat(root / name)

    assert stat.S_IMODE(st("").st_mode) == 0o751
    assert stat.S_IMODE(st("bin").st_mode) == 0o555
    assert stat.S_IMODE(st("bin/su").st_mode) == 0o4755
    assert st("bin/su").st_ino == st("bin/su2").st_ino and st("bin/su").st_nlink == 2
    assert (st("etc/user").st_uid, st("etc/user").st_gid) == (1000, 70000)   # the image's own
    assert os.readlink(root / "link") == "/etc/user" and st("link").st_uid == 7
    assert stat.S_ISFIFO(st("fifo").st_mode) and stat.S_IMODE(st("fifo").st_mode) == 0o622
    assert all(st(n).st_mtime == 1_000_000_000 for n in ("", "bin", "bin/su", "link", "etc/user"))
    for name, what in (("null", b"c 1:3"), ("disk", b"b 8:0")):
        assert stat.S_ISREG(st(name).st_mode) and st(name).st_size == 0
        assert os.getxattr(root / name, "user.holm.device") == what
    assert stat.S_IMODE(st("disk").st_mode) == 0o660 and st("disk").st_gid == 6
    assert (root / "größe").read_bytes() == b"utf"
    assert (root / "a/b/c/implied").exists() and stat.S_IMODE(st("a/b").st_mode) == 0o755
    if fmt == tarfile.PAX_FORMAT:
        assert os.getxattr(root / "x", "user.note") == b"hello"
        # Of the image's root, as the kernel shows it to the host's.
        assert os.getxattr(root / "caps", "security.capability")[:1] == b"\x01"


def test_zstd(tmp_path):
    data = tar(FULL)
    packed = subprocess.run(["zstd", "-q", "-19"], input=data, capture_output=True, check=True)
    out = ok(unpack(tmp_path, packed.stdout, "zstd"))
    assert (out.root / "bin/su").read_bytes() == b"su"


def test_sparse_file_stays_sparse(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    with open(src / "hole", "wb") as f:
        f.seek(64 << 20)
        f.write(b"end")
    for fmt in ("gnu", "pax"):
        data = subprocess.run(["tar", f"--format={fmt}", "-C", src, "--sparse", "-c", "hole"],
                              check=True, capture_output=True).stdout
        assert len(data) < 1 << 20
        out = ok(unpack(tmp_path, data))
        st = os.stat(out.root / "hole")
        assert st.st_size == (64 << 20) + 3 and st.st_blocks * 512 < 1 << 20
        with open(out.root / "hole", "rb") as f:
            f.seek(64 << 20)
            assert f.read() == b"end"


def test_empty_layers(tmp_path):
    ok(unpack(tmp_path, bytes(1024)))
    ok(unpack(tmp_path, bytes(1024), "gz"))
    ok(unpack(tmp_path, b"", "gz"))


# --- layers on layers ---------------------------------------------------------------------------

BASE = [entry("usr/lib", "d"), entry("usr/lib/a", data=b"A", uid=5), entry("lib", "l", link="usr/lib"),
        entry("dir", "d", mode=0o700, uid=9), entry("dir/one", data=b"1"), entry("dir/sub", "d"),
        entry("dir/sub/deep", data=b"d"), entry("gone", data=b"g"), entry("tree", "d"),
        entry("tree/x", data=b"x"), entry("type", "d"), entry("type/x", data=b"x")]


def merged(tmp_path, layers, script):
    """What an overlay of the layers, bottom first, shows."""
    lower = ":".join(str(x.root) for x in reversed(layers))
    at = tmp_path / "merged"
    at.mkdir(exist_ok=True)
    return subprocess.run(["unshare", "-m", "sh", "-ec",
                           f"mount -t overlay overlay -o lowerdir={lower} {at}; cd {at}; {script}"],
                          check=True, capture_output=True, text=True).stdout.split()


def test_whiteouts(tmp_path):
    base = ok(unpack(tmp_path, tar(BASE)))
    top = ok(unpack(tmp_path, tar([
        entry(".wh.gone"), entry(".wh.tree"), entry(".wh.never-there"), entry(".wh..wh.plnk"),
        entry("dir/two", data=b"2"), entry("dir/sub/new", data=b"n"), entry("dir/.wh..wh..opq"),
        entry("dir/three", data=b"3"), entry("type", data=b"now a file"),
    ]), lower=[base]))
    seen = merged(tmp_path, [base, top], "find . -type f -o -type l | sort")
    assert seen == ["./dir/sub/new", "./dir/three", "./dir/two", "./lib", "./type", "./usr/lib/a"]
    # A folder that the layer does not name keeps what the layer below says of it.
    st = os.stat(top.root / "dir")
    assert stat.S_IMODE(st.st_mode) == 0o700 and st.st_uid == 9
    # A third layer sees the whiteouts of the second.
    third = ok(unpack(tmp_path, tar([entry("gone", data=b"back"), entry("tree/y", data=b"y")]),
                      lower=[base, top]))
    seen = merged(tmp_path, [base, top, third], "find gone tree -type f | sort")
    assert seen == ["gone", "tree/y"]


def test_a_folder_that_comes_back_is_empty(tmp_path):
    base = ok(unpack(tmp_path, tar(BASE)))
    top = ok(unpack(tmp_path, tar([entry(".wh.tree"), entry("tree", "d"),
                                   entry("tree/z", data=b"z")]), lower=[base]))
    assert merged(tmp_path, [base, top], "find tree -type f") == ["tree/z"]


def test_links_of_layers_below_are_followed(tmp_path):
    """lib is a link of the layer below: what goes to lib/b goes where it leads."""
    base = ok(unpack(tmp_path, tar(BASE)))
    top = ok(unpack(tmp_path, tar([entry("lib/b", data=b"B"), entry("hard", "h", link="lib/a")]),
                    lower=[base]))
    assert (top.root / "usr/lib/b").read_bytes() == b"B"
    assert not os.path.lexists(top.root / "lib")
    assert (top.root / "hard").read_bytes() == b"A" and os.stat(top.root / "hard").st_uid == 5
    assert merged(tmp_path, [base, top], "cat lib/a lib/b hard; echo; ls lib") == ["ABA", "a", "b"]


def test_without_layers_below_whiteouts_mean_nothing(tmp_path):
    out = ok(unpack(tmp_path, tar([entry("a", data=b"a"), entry(".wh.a"), entry(".wh..wh..opq")])))
    assert os.listdir(out.root) == ["a"]


# --- hostile archives ------------------------------------------------------------------------------

ACL = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
HOSTILE = {
    "climbs": ([entry("../../evil", data=b"x")], "evil", "out of the root"),
    "climbs-inside": ([entry("a/../../evil", data=b"x")], "evil", "out of the root"),
    "dotdot": ([entry("..", "d")], "..", "out of the root"),
    "hard-link-out": ([entry("l", "h", link="../../etc/shadow")], '"l"', "out of the root"),
    "hard-link-absolute": ([entry("l", "h", link="/etc/shadow")], '"l"', "not there"),
    "symlink-out": ([entry("l", "l", link="../../etc/shadow")], '"l"', "out of the root"),
    "symlink-empty": ([entry("l", "l", link="")], '"l"', ""),
    "hard-link-to-folder": ([entry("d", "d"), entry("l", "h", link="d")], '"l"', "folder"),
    "hard-link-to-root": ([entry("l", "h", link="/")], '"l"', "folder"),
    "hard-link-to-itself": ([entry("l", "h", link="l")], '"l"', ""),
    "twice": ([entry("a", data=b"1"), entry("a", data=b"2")], '"a"', "twice"),
    "twice-link": ([entry("a", "l", link="b"), entry("a", data=b"2")], '"a"', "twice"),
    "twice-folder-then-file": ([entry("a", "d"), entry("a", data=b"2")], '"a"', "twice"),
    "file-as-parent": ([entry("a", data=b"1"), entry("a/b", data=b"2")], '"a/b"', ""),
    "dangling-parent": ([entry("a", "l", link="/none"), entry("a/b", data=b"2")], '"a/b"', ""),
    "loop-parent": ([entry("a", "l", link="b"), entry("b", "l", link="a"),
                     entry("a/x", data=b"2")], '"a/x"', ""),
    "root-is-a-file": ([entry(".", data=b"x")], '"."', "folder"),
    "root-is-a-link": ([entry(".", "l", link="/etc")], '"."', "folder"),
    "whiteout-of-dotdot": ([entry(".wh...", data=b"")], ".wh...", "nothing"),
    "whiteout-of-nothing": ([entry(".wh.", data=b"")], ".wh.", "nothing"),
    "whiteout-folder": ([entry(".wh.a/b", data=b"")], ".wh.a/b", "no folder"),
    "trusted-xattr": ([entry("d", data=b"", pax=ACL)], '"d"', "extended attribute"),
    "overlay-xattr": ([entry("d", data=b"", pax={"SCHILY.xattr.user.overlay.redirect": "/"})],
                      '"d"', "extended attribute"),
    "device-xattr": ([entry("d", data=b"", pax={"SCHILY.xattr.user.holm.device": "b 8:0"})],
                     '"d"', "extended attribute"),
    "owner-minus-one": ([entry("o", data=b"", uid=0xffffffff)], '"o"', "owner"),
    "owner-33-bits": ([entry("o", data=b"", uid=1 << 32)], '"o"', "owner"),
    "owner-too-large": ([entry("o", data=b"", gid=0xfffffff0)], '"o"', "owner"),
    "long-component": ([entry("n" * 256, data=b"")], "nnn", "too long"),
    "deep": ([entry("d/" * 300 + "x", data=b"")], "d/d/", "too deep"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("on_top", [False, True])
def test_hostile_entries_are_refused_by_name(tmp_path, case, on_top):
    entries, name, why = HOSTILE[case]
    base = [ok(unpack(tmp_path, tar([entry("base", data=b"b")])))] if on_top else []
    refused(unpack(tmp_path, tar([entry("first", data=b"1"), *entries]), lower=base), name, why)


def test_what_looks_hostile_and_is_not(tmp_path):
    """Absolute names, and links that the archive made, stay inside."""
    out = ok(unpack(tmp_path, tar([
        entry("/etc/absolute", data=b"a"), entry("x/../plain", data=b"p"), entry("x", "d"),
        entry("tmp", "d"), entry("out", "l", link="/tmp"), entry("out/inside", data=b"i"),
        entry("proc", "l", link="/proc/self/cwd")])))
    assert (out.root / "etc/absolute").exists() and (out.root / "plain").exists()
    assert (out.root / "tmp/inside").read_bytes() == b"i"
    assert not pathlib.Path("/tmp/inside").exists()


def test_links_through_procfs_lead_nowhere(tmp_path):
    done = unpack(tmp_path, tar([entry("p", "l", link="/proc/self/root"),
                                 entry("p/evil", data=b"x")]))
    refused(done, '"p/evil"')


def test_malformed_archives(tmp_path):
    good = tar([entry("a", data=b"x" * 100), entry("b", data=b"y")])
    broken = bytearray(good)
    broken[1024:1034] = b"\xff" * 10                      # the second header
    refused(unpack(tmp_path, bytes(broken)), '"a"')
    refused(unpack(tmp_path, good[:1024 - 300]), '"a"')   # in the middle of data
    refused(unpack(tmp_path, b"no archive at all" * 100), "")
    refused(unpack(tmp_path, header("neg", size_text=b"\xff" * 12)), "")
    refused(unpack(tmp_path, header("big", size=0, size_text=b"77777777777\0") + bytes(1024)),
            '"big"')
    refused(unpack(tmp_path, header("odd", kind=b"Z") + bytes(1024), LIMITS="entries=0"), '"odd"')
    refused(unpack(tmp_path, good + b"hidden" + bytes(506)), "behind the end")


def test_pax_size_and_header_size_cannot_disagree(tmp_path):
    """The size that counts is decided once; what another reader would take for entries is data."""
    inner = pad(header("smuggled", size=1) + pad(b"!"))
    pax = b"".join([b"%d size=%d\n" % (len(b"00 size=%d\n" % len(inner)), len(inner))])
    data = header("pax", size=len(pax), kind=b"x") + pad(pax) + header("carrier", size=0) + inner
    out = unpack(tmp_path, data + bytes(1024))
    if out.status == 0:
        assert sorted(os.listdir(out.root)) in (["carrier"], ["carrier", "smuggled"])
        size = os.stat(out.root / "carrier").st_size
        assert (size == len(inner)) == (os.listdir(out.root) == ["carrier"])


def test_bombs(tmp_path):
    zeros = tar([entry("zeros", data=bytes(8 << 20))])
    refused(unpack(tmp_path, zeros, "gz", LIMITS="ratio=100,ratio_from=1000000"), "bomb")
    refused(unpack(tmp_path, zeros, "gz", LIMITS="bytes=1000000"), "larger than")
    refused(unpack(tmp_path, zeros, LIMITS="file_bytes=1000000"), '"zeros"', "too large")
    many = tar([entry(f"f{i}", data=b"") for i in range(50)])
    refused(unpack(tmp_path, many, LIMITS="entries=40"), '"f40"', "too many")
    deep = tar([entry("/".join(f"{i}d{k}" for k in range(20)), data=b"") for i in range(10)])
    refused(unpack(tmp_path, deep, LIMITS="entries=100"), '"5d0/5d1', "too many folders")
    # Bytes that are compressed twice, or not as they say.
    refused(unpack(tmp_path, gzip.compress(gzip.compress(zeros)), "gzip"), "more than once")
    refused(unpack(tmp_path, zeros, "gzip"), "media type")
    refused(unpack(tmp_path, gzip.compress(zeros), "zstd"), "media type")
    refused(unpack(tmp_path, gzip.compress(zeros)[:-400], "gzip"), "decompressed")


def test_sparse_bomb(tmp_path):
    data = header("hole", size=0) + bytes(1024)
    pax = b"27 GNU.sparse.realsize=1e19\n"
    data = header("pax", size=len(pax), kind=b"x") + pad(pax) + data
    done = unpack(tmp_path, data)
    assert done.status in (0, 2, 7)
    if done.status == 0:
        assert os.stat(done.root / "hole").st_blocks == 0


def test_too_many_xattrs(tmp_path):
    pax = {f"SCHILY.xattr.user.a{i}": "1" for i in range(20)}
    refused(unpack(tmp_path, tar([entry("x", data=b"", pax=pax)]), LIMITS="xattrs=10"), '"x"')


def test_names_in_messages_are_harmless(tmp_path):
    done = unpack(tmp_path, tar([entry("../\x1b[31m\nname" + "y" * 200, data=b"")]))
    refused(done, "../?[31m?name")
    assert "\x1b" not in done.err and "\n" not in done.err and len(done.err) < 400


def test_digests(tmp_path):
    data = tar(FULL)
    good = "sha256:" + hashlib.sha256(data).hexdigest()
    other = "sha256:" + "0" * 64
    long = "sha512:" + hashlib.sha512(data).hexdigest()
    for kind in ("tar", "gz"):
        ok(unpack(tmp_path, data, kind, DIFF_ID=good))
        assert ok(unpack(tmp_path, data, kind, DIFF_ID=long)).info["diff"] == long
        refused(unpack(tmp_path, data, kind, DIFF_ID=other), "not the one")
    done = unpack(tmp_path, data, BLOB_DIGEST=other)
    assert done.status == 1 and "damaged on disk" in done.err


# --- the wall ----------------------------------------------------------------------------------------

def children(pid):
    return [int(p) for p in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def settle(pid):
    """Wait until the children are confined and read."""
    return wait_for("the children to be confined", lambda: len(kids := children(pid)) == 2 and
                    all(status(k).get("Seccomp") == "2" for k in kids) and kids)


@pytest.fixture
def waiting(tmp_path):
    """The unpacker in the middle of a layer: (its process, tar reader, decompressor, folder)."""
    if "-fsanitize=address" in (BUILD / "build.ninja").read_text():
        pytest.skip("a sanitizer makes calls that the filter does not allow")
    fifo, out = tmp_path / "fifo", tmp_path / "out"
    os.mkfifo(fifo)
    out.mkdir()
    tool = subprocess.Popen([TOOL, "gzip", fifo, out], stderr=subprocess.PIPE,
                            env={**os.environ, "BLOB_DIGEST": "sha256:" + "0" * 64})
    feed = open(fifo, "wb", buffering=0)
    try:
        feed.write(gzip.compress(tar([entry("a", data=os.urandom(1 << 20))]))[:300000])
        kids = settle(tool.pid)
        by_root = {os.readlink(f"/proc/{k}/root"): k for k in kids}
        reader = next(k for k in kids if status(k)["Uid"].split()[0] == str(0x60000000))
        inflater = next(k for k in kids if k != reader)
        assert by_root
        yield tool, reader, inflater, out
    finally:
        feed.close()
        tool.wait(timeout=60)
        tool.stderr.close()


def test_children_are_shut_in(waiting):
    tool, reader, inflater, out = waiting
    for pid in (reader, inflater):
        st = status(pid)
        assert st["NoNewPrivs"] == "1" and st["Seccomp"] == "2"
        assert st["Uid"].split()[0] != "0" and st["Gid"].split()[0] != "0"
        assert st["CapInh"] == st["CapAmb"] == "0" * 16
        # Its channels and what is below its root: no file of the host, no one else's socket.
        links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
        assert sum(t.startswith(("socket:", "pipe:")) for t in links) == (2 if pid == reader else 3)
        assert len(links) <= 5
        assert st["Groups"].strip() == ""
    assert status(inflater)["CapEff"] == "0" * 16
    # Over files, in its own namespace, and nothing else: chown, dac_override, fowner, fsetid,
    # setfcap.
    assert int(status(reader)["CapEff"], 16) == 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31
    assert int(status(reader)["CapBnd"], 16) == int(status(reader)["CapEff"], 16)
    for ns in ("user", "mnt", "net", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{reader}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns
    # Its root is the layer, and there is no other mount.
    mounts = pathlib.Path(f"/proc/{reader}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and mounts[0].split()[4] == "/" and "nodev" in mounts[0]
    assert os.stat(f"/proc/{reader}/root").st_ino == os.stat(out / "root").st_ino
    assert pathlib.Path(f"/proc/{reader}/net/dev").read_text().count(":") == 1   # lo


def test_children_die_with_their_parent(waiting):
    tool, reader, inflater, _ = waiting
    tool.kill()
    tool.wait(timeout=60)
    for pid in (reader, inflater):
        wait_for("the child to end with its parent", lambda: not os.path.exists(f"/proc/{pid}") or
                 status(pid)["State"].startswith("Z"))


def test_full_disk(tmp_path):
    """A clear error; what was begun is below one folder, for its maker to remove."""
    image, at = tmp_path / "disk", tmp_path / "at"
    at.mkdir()
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        data = tar([entry("big", data=os.urandom(20 << 20))])
        blob, out = tmp_path / "blob", at / "out"
        blob.write_bytes(data)
        out.mkdir()
        done = subprocess.run([TOOL, "tar", blob, out], text=True, capture_output=True)
        assert done.returncode == 7
        assert '"big"' in done.stderr and "no space left" in done.stderr
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.fixture
def open_folder():
    """A folder that everyone can reach."""
    with tempfile.TemporaryDirectory(prefix="holm-test-imgstore-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def test_without_root(open_folder):
    """An unprivileged user unpacks too: everything is his then."""
    base = open_folder
    for name, entries in (("1", BASE), ("2", [entry("lib/b", data=b"B", uid=7), entry(".wh.gone"),
                                              entry("dir/.wh..wh..opq")])):
        (base / name).mkdir()
        (base / f"{name}.tar").write_bytes(tar(entries))
    for p in [base, *base.rglob("*")]:
        os.chown(p, 65534, 65534)

    def run(*args):
        return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                               TOOL, *args], text=True, capture_output=True)

    one = run("tar", base / "1.tar", base / "1")
    assert one.returncode == 0, one.stderr
    assert "ids=squashed" in one.stdout and "without their owners" in one.stderr
    two = run("tar", base / "2.tar", base / "2", base / "1/root")
    assert two.returncode == 0, two.stderr
    assert (base / "2/root/usr/lib/b").read_bytes() == b"B"
    assert os.stat(base / "2/root/usr/lib/b").st_uid == 65534
    hidden = [os.lstat(p) for p in [base / "2/root/gone", *(base / "2/root/dir").iterdir()]]
    assert len(hidden) == 3 and all(stat.S_ISCHR(st.st_mode) and st.st_rdev == 0 for st in hidden)
