# SPDX-License-Identifier: Apache-2.0
"""The API as an API: limits, refusals, who may, the document."""

import json
import os
import socket
import subprocess
import sys

import pytest
from lib.api import ApiError
from lib.wait import PATIENCE, wait_for


def refused(call, status, code, field=None):
    with pytest.raises(ApiError) as e:
        call()
    assert (e.value.status, e.value.code) == (status, code), e.value
    if field is not None:
        assert e.value.field == field
    return e.value


def test_unknown_fields_and_values(api):
    refused(lambda: api.create("a", "true", bogus=1), 400, "invalid", "/bogus")
    refused(lambda: api.create("a", "true", resources={"memory": "lots"}), 400, "invalid",
            "/resources/memory")
    refused(lambda: api.create("-a", "true"), 400, "invalid", "/name")
    refused(lambda: api.create("a", "true", privileged=True), 501, "unsupported")
    refused(lambda: api.get("/v1/instances?bogus=1"), 400, "invalid")
    refused(lambda: api.get("/v1/instances?all=maybe"), 400, "invalid", "/all")
    refused(lambda: api.get("/v1/instances/none"), 404, "not-found")
    assert api.raw("PUT", "/v1/instances")[0] == 405
    assert api.raw("GET", "/v2/x")[0] == 404
    assert api.raw("GET", "/v1/images/a%2")[0] == 404
    assert api.get("/v1/instances?all=true") == {"instances": []}


def test_body_limits(api):
    # Said but not sent: refused before anything is read.
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect(str(api.daemon.socket))
    s.sendall(b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    answer = s.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "limit"
    s.close()
    # Chunked, without saying how much: cut off, never executed.
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect(str(api.daemon.socket))
    s.sendall(b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        for _ in range(40):
            s.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert s.recv(4096)[:12] in (b"", b"HTTP/1.1 413", b"HTTP/1.1 400")
    except (BrokenPipeError, ConnectionResetError):
        pass
    s.close()
    assert api.raw("POST", "/v1/instances", b"{")[0] == 400
    assert api.raw("POST", "/v1/instances", b"[]")[0] == 400
    assert api.raw("POST", "/v1/instances", b'{"image":"a","image":"b"}')[0] == 400
    assert api.get("/v1/instances?all=true") == {"instances": []}


def test_only_root(api):
    """Rule 20: who connects is asked of the kernel."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import os\n"
            "from lib.api import Connection\n"
            "c = Connection(sys.argv[2]); c.connect(); os.setgid(65534)\n"
            "os.setuid(65534)\n"
            "d = Connection(sys.argv[2])\n"
            "d.request('GET', '/v1/version')\n"
            "r = d.getresponse(); print(r.status); print(r.read().decode())\n")
    os.chmod(api.daemon.base, 0o755)
    os.chmod(api.daemon.socket, 0o666)
    top = str(os.path.join(os.path.dirname(__file__), ".."))
    r = subprocess.run([sys.executable, "-c", code, top, str(api.daemon.socket)],
                       capture_output=True, text=True, check=False)
    assert r.stdout.startswith("403"), r.stdout + r.stderr
    assert json.loads(r.stdout.split("\n", 1)[1])["error"]["code"] == "denied"


def test_document(api):
    """Each route of the document is there, and what is not in it is not."""
    doc = api.get("/v1/openapi.json")
    assert doc["openapi"] == "3.1.0"
    seen = 0
    for path, item in doc["paths"].items():
        for method, op in item.items():
            assert op["x-holm-action"] and op["summary"]
            if method == "get" and "{" not in path and "events" not in path and \
                    "watch" not in path and "save" not in path:
                assert api.raw("GET", path)[0] == 200, path
                seen += 1
    assert seen >= 6


def test_events_and_watch(api):
    import threading
    from lib.api import Connection
    got = {"events": [], "watch": []}

    def listen(kind):
        c = Connection(api.daemon.socket)
        c.request("GET", f"/v1/{kind}")
        r = c.getresponse()
        ready[kind].set()
        while True:
            line = r.readline()
            if not line:
                return
            got[kind].append(json.loads(line))
            if got[kind][-1].get("action") == "remove" or got[kind][-1].get("change") == "deleted":
                return

    ready = {k: threading.Event() for k in got}
    threads = [threading.Thread(target=listen, args=(k,)) for k in got]
    for t in threads:
        t.start()
    for r in ready.values():
        assert r.wait(PATIENCE)
    api.run("e", "true")
    api.get("/v1/instances/e/wait")
    api.call("DELETE", "/v1/instances/e")
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive()
    assert [e["action"] for e in got["events"]] == ["create", "start", "die", "remove"]
    assert got["events"][2]["attributes"]["exit_code"] == "0"
    revisions = [w["revision"] for w in got["watch"]]
    assert revisions == sorted(revisions)
    assert got["watch"][0]["change"] == "created" and got["watch"][-1]["change"] == "deleted"
    past = api.raw("GET", "/v1/events?no_follow=true&since=2020-01-01T00:00:00Z")[1]
    assert len(past.splitlines()) == 4


def test_many_clients_that_go(api):
    """Clients that vanish while they wait leave no descriptor behind."""
    from lib.api import Connection
    api.run("w", "sleep", "100")
    fds = f"/proc/{api.daemon.proc.pid}/fd"
    before = len(os.listdir(fds))
    conns = []
    for i in range(60):
        c = Connection(api.daemon.socket)
        c.request("GET", ["/v1/instances/w/wait", "/v1/events",
                          "/v1/instances/w/logs?follow=true"][i % 3])
        conns.append(c)
    api.get("/v1/version")
    assert len(os.listdir(fds)) > before + 40
    for c in conns:
        c.close()
    wait_for("the descriptors to be closed", lambda: api.get("/v1/version") and
             len(os.listdir(fds)) <= before + 1)
