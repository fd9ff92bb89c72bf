# SPDX-License-Identifier: Apache-2.0
"""Files in and out, and archives that try to leave (threat model, rules 1 and 16)."""

import io
import os
import tarfile

import pytest
from lib.api import ApiError


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
