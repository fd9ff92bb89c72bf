# SPDX-License-Identifier: Apache-2.0
"""Files in and out, and archives that try to leave (threat model, rules 1 and 16)."""

import io
import os
import pathlib
import subprocess
import tarfile

import lib
import pytest
from lib.api import Api, ApiError, Connection
from lib.daemon import BIN, Daemon, make_rootfs
from lib.wait import wait_for


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, kind, content in entries:
            i = tarfile.TarInfo(name)
            i.type, i.mode, i.uid, i.gid = kind, 0o640, 5, 6
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                i.linkname = content
                t.addfile(i)
            elif kind == tarfile.REGTYPE:
                i.size = len(content)
                t.addfile(i, io.BytesIO(content))
            else:
                t.addfile(i)
    return out.getvalue()


def get(api, name, path, more=""):
    status, data = api.raw("GET", f"/v1/instances/{name}/archive?path={path}{more}")
    assert status == 200, data
    return tarfile.open(fileobj=io.BytesIO(data))


def put(api, name, path, data):
    return api.call("PUT", f"/v1/instances/{name}/archive?path={path}", data)


@pytest.mark.parametrize("running", [True, False])
def test_both_ways(api, running):
    api.create("c", "sleep", "100")
    if running:
        api.post("/v1/instances/c/start")
    big = os.urandom(3 << 20)
    put(api, "c", "/tmp", tar(("d", tarfile.DIRTYPE, None), ("d/f", tarfile.REGTYPE, big),
                              ("d/l", tarfile.SYMTYPE, "/etc/passwd"),
                              ("d/h", tarfile.LNKTYPE, "d/f")))
    t = get(api, "c", "/tmp/d")
    assert sorted(t.getnames()) == ["d", "d/f", "d/h", "d/l"]
    assert t.extractfile("d/f").read() == big
    assert (t.getmember("d/f").uid, t.getmember("d/f").gid) == (5, 6)
    assert t.getmember("d/l").linkname == "/etc/passwd"
    st = api.get("/v1/instances/c/archive?path=/tmp/d/l&stat=true")
    assert st["type"] == "link"
    base = api.status("c")["id_base"]
    if running:
        s = os.stat(f"/proc/{api.status('c')['pid']}/root/tmp/d/f")
        assert s.st_uid == base + 5 and s.st_nlink == 2
    with pytest.raises(ApiError) as e:
        api.get("/v1/instances/c/archive?path=/none")
    assert e.value.status == 404
    with pytest.raises(ApiError) as e:
        put(api, "c", "/none", tar(("f", tarfile.REGTYPE, b"x")))
    assert e.value.status == 404


ATTACKS = [
    ("dotdot", [("../evil", tarfile.REGTYPE, b"x")]),
    ("dotdot-inside", [("a/../../evil", tarfile.REGTYPE, b"x")]),
    ("absolute", [("/tmp/../../evil", tarfile.REGTYPE, b"x")]),
    ("device", [("dev", tarfile.CHRTYPE, None)]),
    ("fifo", [("fifo", tarfile.FIFOTYPE, None)]),
    ("hardlink-out", [("h", tarfile.LNKTYPE, "../../etc/passwd")]),
    ("hardlink-absolute", [("h", tarfile.LNKTYPE, "/etc/shadow")]),
    ("hardlink-through-link", [("l", tarfile.SYMTYPE, "/etc"), ("h", tarfile.LNKTYPE, "l/passwd")]),
]


@pytest.mark.parametrize("entries", [a[1] for a in ATTACKS], ids=[a[0] for a in ATTACKS])
def test_refused(api, entries):
    api.run("c", "sleep", "100")
    with pytest.raises(ApiError) as e:
        put(api, "c", "/tmp", tar(*entries))
    assert e.value.status in (400, 403, 404), e.value
    assert not (api.daemon.base / "evil").exists()
    assert api.status("c")["state"] == "running"


def test_links_stay_inside(api):
    """A link in the instance that leads to the host's path leads to the instance's own."""
    marker = api.daemon.base / "outside"
    marker.mkdir()
    (marker / "secret").write_text("host")
    api.run("c", "sh", "-c", f"ln -s {marker} /tmp/link; ln -s {marker}/secret /tmp/s; "
            "ln -s /proc/1/root /tmp/magic; ln -s / /tmp/up; sleep 100")
    while "/tmp/up" not in api.logs("c") and len(get(api, "c", "/tmp").getnames()) < 5:
        pass
    for path in (f"/tmp/link/secret", "/tmp/s&follow=true", f"/../../../../..{marker}/secret"):
        status, data = api.raw("GET", f"/v1/instances/c/archive?path={path}")
        assert status in (403, 404), data
    # Into a link that leads nowhere in here: made inside, nothing appears outside.
    try:
        put(api, "c", "/tmp/link", tar(("new", tarfile.REGTYPE, b"x")))
    except ApiError:
        pass
    assert sorted(os.listdir(marker)) == ["secret"]
    # A link that the archive itself brings is followed inside, too.
    put(api, "c", "/tmp", tar(("esc", tarfile.SYMTYPE, str(marker)),
                              ("esc/new", tarfile.REGTYPE, b"x")))
    assert sorted(os.listdir(marker)) == ["secret"]
    # Replacing a link replaces the link.
    put(api, "c", "/tmp", tar(("s", tarfile.REGTYPE, b"mine")))
    assert (marker / "secret").read_text() == "host"
    assert get(api, "c", "/tmp/s").extractfile("s").read() == b"mine"


def test_broken_archives(api):
    api.run("c", "sleep", "100")
    good = tar(("f", tarfile.REGTYPE, b"x" * 5000))
    for data in (b"garbage" * 100, good[:700], good[:100]):
        with pytest.raises(ApiError) as e:
            put(api, "c", "/tmp", data)
        assert e.value.status == 400
    put(api, "c", "/tmp", good)


CAPS = sum(1 << n for n in (0, 1, 2, 3, 4))   # chown, dac_override, dac_read_search, fowner, fsetid


@pytest.mark.parametrize("userns", ["auto", "host"])
@pytest.mark.parametrize("running", [True, False])
def test_who_unpacks_can_do_little_else(api, userns, running):
    """Rule 16: what parses the tar has no capability but those over files, and few calls."""
    api.create("c", "sleep", "100", userns=userns)
    if running:
        api.post("/v1/instances/c/start")
    daemon = api.daemon.proc.pid
    # A sanitizer makes calls of its own: that build has no filter.
    filtered = b"__asan_init" not in (BIN / "holmd").read_bytes()

    def workers():
        found = []
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                status = (proc / "status").read_text()
                exe = os.readlink(proc / "exe")
            except OSError:
                continue
            if f"PPid:\t{daemon}\n" in status and exe.endswith("/holmd") and \
                    "NoNewPrivs:\t1" in status and ("Seccomp:\t2" in status or not filtered):
                found.append(status)
        return found
    conn = Connection(api.daemon.socket)
    conn.putrequest("PUT", "/v1/instances/c/archive?path=/tmp")
    conn.putheader("Transfer-Encoding", "chunked")
    conn.endheaders()
    data = tar(("f\u00e4", tarfile.REGTYPE, b"x" * 5000), ("g", tarfile.REGTYPE, b"y"))
    conn.send(b"%x\r\n%s\r\n" % (700, data[:700]))
    status = wait_for("the worker", workers)[0]
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == CAPS and int(fields["CapPrm"], 16) == CAPS
    assert int(fields["CapBnd"], 16) == 0 and int(fields["CapInh"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    conn.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data) - 700, data[700:]))
    answer = conn.getresponse()
    assert answer.status == 200, answer.read()
    conn.close()
    t = get(api, "c", "/tmp")
    assert t.extractfile("tmp/f\u00e4").read() == b"x" * 5000
    assert (t.getmember("tmp/g").uid, t.getmember("tmp/g").gid) == (5, 6)


def test_a_number_is_not_a_process(tmp_path):
    """The process that a shim named must be its child, or its root is not looked at."""
    d = Daemon("liar", args=("--shim", pathlib.Path(lib.__path__[0]) / "standin.py"))
    other = subprocess.Popen(["sleep", "1000"])
    try:
        d.rootfs = make_rootfs(d.base / "root")
        (d.base / "liar").write_text(str(other.pid))
        api = Api(d)
        api.run("c", "true")
        assert api.status("c")["pid"] == other.pid
        status, data = api.raw("GET", "/v1/instances/c/archive?path=/etc/hostname")
        assert status == 409 and b"has just ended" in data
        with pytest.raises(ApiError) as e:
            api.post("/v1/instances/c/exec", {"command": ["true"], "user": "root"})
        assert "has just ended" in e.value.message or e.value.code in ("conflict", "host")
    finally:
        d.close()
        other.kill()
        other.wait()
