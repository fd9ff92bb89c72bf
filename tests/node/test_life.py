# SPDX-License-Identifier: Apache-2.0
"""Instances through their lives; the daemon through its deaths."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from lib import leftovers
from lib.api import ApiError, alive, kill, read_session, send_stdin
from lib.daemon import BIN
from lib.wait import PATIENCE


def test_life(api):
    i = api.create("one", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert i["status"]["state"] == "created" and len(i["id"]) == 64
    with pytest.raises(ApiError) as e:
        api.create("one", "true")
    assert e.value.status == 409
    api.post("/v1/instances/one/start")
    assert api.get("/v1/instances/one/wait")["exit_code"] == 7
    s = api.status("one")
    assert (s["state"], s["exit_code"]) == ("exited", 7) and "pid" not in s
    assert api.logs("one") == "out\nerr\n"
    assert api.logs("one", "?stderr=false") == "out\n"
    assert [x["name"] for x in api.get("/v1/instances?all=true")["instances"]] == ["one"]
    assert api.get("/v1/instances")["instances"] == []
    api.post("/v1/instances/one/rename", {"name": "uno"})
    assert api.get(f"/v1/instances/{i['id'][:6]}")["name"] == "uno"
    api.post("/v1/instances/uno/start")
    api.get("/v1/instances/uno/wait")
    api.call("DELETE", "/v1/instances/uno")
    assert api.get("/v1/instances?all=true")["instances"] == []
    assert os.listdir(api.daemon.state / "instances") == []
    assert os.listdir(api.daemon.run_dir / "instances") == []


def test_start_failures(api):
    for command, code, text in ((["/no/such"], 127, "invalid"), (["/etc"], 126, None)):
        with pytest.raises(ApiError) as e:
            api.run("f", *command)
        if text:
            assert e.value.code == text
        assert api.status("f")["exit_code"] == code
        assert api.status("f")["error"]
        api.call("DELETE", "/v1/instances/f")
    with pytest.raises(ApiError):
        api.run("g", "true", rootfs="/no/such/folder")
    assert api.status("g")["state"] == "exited"
    with pytest.raises(ApiError) as e:
        api.run("h", "true", user="nobody-of-this-name")
    assert "nobody-of-this-name" in e.value.message


def test_stop_kill_pause(api):
    api.run("s", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    api.wait_log("s", "ready")
    assert api.post("/v1/instances/s/stop")["status"]["exit_code"] == 5
    api.post("/v1/instances/s/start")
    api.post("/v1/instances/s/pause")
    assert api.status("s")["state"] == "paused"
    with pytest.raises(ApiError):
        api.post("/v1/instances/s/exec", {"command": ["true"]})
    api.post("/v1/instances/s/resume")
    api.wait_state("s", "running")
    first = api.status("s")["pid"]
    assert api.post("/v1/instances/s/restart")["status"]["pid"] != first
    api.post("/v1/instances/s/kill", {"signal": "KILL"})
    assert api.get("/v1/instances/s/wait")["signal"] == 9
    assert api.status("s")["exit_code"] == 137
    api.run("t", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    api.wait_log("t", "ready")
    start = time.monotonic()
    assert api.post("/v1/instances/t/stop", {"timeout": 1})["status"]["exit_code"] == 137
    assert time.monotonic() - start > 0.9
    api.post("/v1/instances/t/start")
    api.post("/v1/instances/t/pause")
    with pytest.raises(ApiError) as e:
        api.call("DELETE", "/v1/instances/t")
    assert e.value.status == 409
    api.call("DELETE", "/v1/instances/t?force=true")


def test_auto_remove_and_policies(api):
    api.run("r", "sh", "-c", "sleep 0.2", auto_remove=True)
    assert api.get("/v1/instances/r/wait?condition=removed")["removed"]
    with pytest.raises(ApiError):
        api.status("r")
    api.run("p", "sh", "-c", "exit 3", restart={"policy": "on-failure", "max_retries": 2})
    end = time.monotonic() + PATIENCE
    while api.status("p").get("restarts", 0) < 2 or api.status("p")["state"] != "exited":
        assert time.monotonic() < end, api.status("p")
        time.sleep(0.05)
    assert api.status("p")["restarts"] == 2
    api.run("q", "sh", "-c", "sleep 0.1", restart={"policy": "always"})
    end = time.monotonic() + PATIENCE
    while api.status("q").get("restarts", 0) < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    api.post("/v1/instances/q/stop")
    time.sleep(0.5)
    assert api.status("q")["state"] == "exited"


def test_attach_and_exec(api):
    api.create("a", "sh", "-c", "read x; echo got $x; exit 4", stdin_open=True)
    sock, rest = api.upgrade("/v1/instances/a/attach")
    api.post("/v1/instances/a/start")
    send_stdin(sock, b"hello\n")
    assert read_session(sock, rest) == (b"got hello\n", 4)
    sock.close()
    api.run("b", "sleep", "100")
    body = json.dumps({"command": ["sh", "-c", "echo $0 $FOO; id -u; exit 9"],
                       "env": ["FOO=bar"]}).encode()
    sock, rest = api.upgrade("/v1/instances/b/exec", body)
    assert read_session(sock, rest) == (b"sh bar\n0\n", 9)
    sock.close()
    x = api.post("/v1/instances/b/exec", {"command": ["sleep", "100"]})
    assert x["running"] and alive(x["pid"])
    api.post(f"/v1/instances/b/execs/{x['id']}/kill")
    end = time.monotonic() + PATIENCE
    while api.get(f"/v1/instances/b/execs/{x['id']}")["running"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert api.get(f"/v1/instances/b/execs/{x['id']}")["exit_code"] == 137
    with pytest.raises(ApiError) as e:
        api.post("/v1/instances/b/exec", {"command": ["/no/such"]})
    assert e.value.code in ("not-found", "invalid")
    with pytest.raises(ApiError):
        api.post("/v1/instances/b/exec", {"command": ["true"], "user": "nobody-of-this-name"})


def test_logs(api):
    api.run("l", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 0.5; echo last")
    assert api.logs("l", "?follow=true").splitlines()[-1] == "last"
    assert api.logs("l", "?tail=2") == "line 5\nlast\n"
    assert api.logs("l", "?tail=0") == ""
    assert api.logs("l", "?since=2100-01-01T00:00:00Z") == ""
    stamped = api.logs("l", "?timestamps=true&tail=1")
    assert stamped.startswith("20") and stamped.endswith("Z last\n")


def test_update_and_stats(api):
    api.run("u", "sleep", "100")
    i = api.call("PATCH", "/v1/instances/u", {"resources": {"pids_limit": 77},
                                              "labels": {"a": "b"}})
    assert i["spec"]["resources"]["pids_limit"] == 77 and i["spec"]["labels"] == {"a": "b"}
    assert api.get("/v1/instances/u/stats")["pids_limit"] in (0, 77)
    assert api.get("/v1/instances?label=a=b")["instances"]
    assert not api.get("/v1/instances?label=a=c")["instances"]
    with pytest.raises(ApiError):
        api.call("PATCH", "/v1/instances/u", {"resources": {"pids_limit": 0}})
    top = api.get("/v1/instances/u/top")
    assert top["processes"][0][-1].startswith("sleep 100")
    assert api.get("/v1/instances/u/stats")["pids"] == 1


def test_daemon_killed(daemon, api):
    """What runs goes on; an end meanwhile has its true status; a session survives."""
    api.run("long", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    api.run("short", "sh", "-c", "sleep 0.5; exit 42")
    api.create("talk", "sh", "-c", "while read x; do echo re:$x; done; exit 6", stdin_open=True)
    sock, rest = api.upgrade("/v1/instances/talk/attach")
    api.post("/v1/instances/talk/start")
    pid = api.status("long")["pid"]
    daemon.kill(signal.SIGKILL)
    assert alive(pid)
    send_stdin(sock, b"one\n")
    assert read_session(sock, rest, until=b"re:one\n")[0] == b"re:one\n"
    time.sleep(1)
    daemon.start()
    s = api.wait_state("short", "exited")
    assert s["exit_code"] == 42
    s = api.status("long")
    assert s["state"] == "running" and s["pid"] == pid
    last = int(api.logs("long").splitlines()[-1])
    api.wait_log("long", f"\n{last + 3}\n")
    api.post("/v1/instances/long/exec", {"command": ["true"]})
    send_stdin(sock, b"two\n")
    assert read_session(sock, b"", until=b"re:two\n")[0] == b"re:two\n"
    sock.close()
    api.post("/v1/instances/long/stop", {"timeout": 0})
    assert api.status("long")["exit_code"] == 137


def test_shim_dies(daemon, api):
    api.run("x", "sleep", "100")
    s = api.status("x")
    kill(s["shim_pid"])
    e = api.wait_state("x", "exited")
    assert "shim" in e["error"]
    end = time.monotonic() + PATIENCE
    while alive(s["pid"]):
        assert time.monotonic() < end
        time.sleep(0.02)
    api.post("/v1/instances/x/start")
    s = api.status("x")
    daemon.kill(signal.SIGKILL)
    kill(s["shim_pid"])
    daemon.start()
    e = api.wait_state("x", "exited")
    end = time.monotonic() + PATIENCE
    while alive(s["pid"]):
        assert time.monotonic() < end
        time.sleep(0.02)
    api.call("DELETE", "/v1/instances/x")


def test_reboot(daemon, api):
    """A boot id that is another: nothing runs, leftovers are gone, policies apply."""
    api.run("no", "sleep", "100")
    api.run("always", "sleep", "100", restart={"policy": "always"})
    api.run("unless", "sleep", "100", restart={"policy": "unless-stopped"})
    api.run("rm", "sleep", "100", auto_remove=True)
    api.create("never", "true")
    api.post("/v1/instances/unless/stop", {"timeout": 0})
    daemon.kill(signal.SIGKILL)
    for pid in leftovers.processes(daemon):   # also the shim that waits to be acknowledged
        with contextlib.suppress(ProcessLookupError):   # it ended with those before it
            kill(pid)
    old = list(daemon.args)
    daemon.args = [*old, "--boot-id", "another"]
    daemon.start()
    api.wait_state("always", "running")
    assert api.status("no")["state"] == "exited" and "restart" in api.status("no")["error"]
    assert api.status("unless")["state"] == "exited"
    assert api.status("never")["state"] == "created"
    end = time.monotonic() + PATIENCE
    while any(i["name"] == "rm" for i in api.get("/v1/instances?all=true")["instances"]):
        assert time.monotonic() < end
        time.sleep(0.02)
    ids = {i["id"] for i in api.get("/v1/instances")["instances"]}
    assert set(os.listdir(daemon.run_dir / "instances")) <= ids


def test_killed_at_any_moment(daemon, api):
    """The daemon dies between a create and an end; afterwards nothing half-made is there."""
    import threading
    for n in range(6):
        stop = threading.Event()

        def work():
            k = 0
            while not stop.is_set():
                try:
                    api.run(f"n{n}-{k}", "true", auto_remove=k % 2 == 0)
                except Exception:   # the daemon is dying under us
                    pass
                k += 1
        t = threading.Thread(target=work)
        t.start()
        time.sleep(0.1 + n * 0.06)
        daemon.kill(signal.SIGKILL)
        stop.set()
        t.join()
        daemon.start()
    end = time.monotonic() + PATIENCE
    while True:
        left = api.get("/v1/instances?all=true")["instances"]
        if all(i["state"] in ("exited", "created") for i in left):
            break
        assert time.monotonic() < end, left
        time.sleep(0.05)
    ids = {i["id"] for i in left}
    assert set(os.listdir(daemon.state / "instances")) == ids
    assert set(os.listdir(daemon.run_dir / "instances")) <= ids
    for i in left:
        api.call("DELETE", f"/v1/instances/{i['id']}?force=true")
    assert os.listdir(daemon.state / "instances") == []


def test_no_more_descriptors(daemon, api):
    api.run("ok", "sleep", "100")
    fds = len(os.listdir(f"/proc/{daemon.proc.pid}/fd"))
    subprocess.run(["prlimit", "--pid", str(daemon.proc.pid), f"--nofile={fds + 3}:"], check=True)
    with pytest.raises((ApiError, OSError)) as e:
        for n in range(20):
            api.run(f"f{n}", "sleep", "100")
    if isinstance(e.value, ApiError):
        assert e.value.code == "host"
    subprocess.run(["prlimit", "--pid", str(daemon.proc.pid), "--nofile=1024:"], check=True)
    assert api.status("ok")["state"] == "running"
    for i in api.get("/v1/instances?all=true")["instances"]:
        assert i["state"] in ("running", "exited", "created")
        api.call("DELETE", f"/v1/instances/{i['id']}?force=true")
    assert os.listdir(daemon.state / "instances") == []


def test_full_disk(tmp_path):
    """A state folder without room: a clear error, nothing half-made, and it goes on after."""
    from lib.api import Api
    from lib.daemon import Daemon, make_rootfs
    d = Daemon("nodefull")
    try:
        api = Api(d)
        d.rootfs = make_rootfs(d.base / "root")
        d.kill(signal.SIGTERM)
        os.makedirs(d.base / "small")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", d.base / "small"], check=True)
        d.state = d.base / "small/state"
        d.start()
        api.run("a", "true")
        api.get("/v1/instances/a/wait")
        filler = d.base / "small/fill"
        with open(filler, "wb") as f:
            try:
                while True:
                    f.write(b"x" * 65536)
                    f.flush()
            except OSError:
                pass
        with pytest.raises(ApiError) as e:
            for n in range(200):
                api.create(f"b{n}", "true", labels={"x": "y" * 5000})
        assert e.value.status == 500 and ("full" in e.value.message or "space" in e.value.message)
        made = {i["id"] for i in api.get("/v1/instances?all=true")["instances"]}
        assert set(os.listdir(d.state / "instances")) == made
        os.unlink(filler)
        api.run("after", "true")
        api.get("/v1/instances/after/wait")
    finally:
        d.close()
        subprocess.run(["umount", d.base / "small"], check=False)
        shutil.rmtree(d.base, ignore_errors=True)


def test_second_daemon_is_refused(daemon):
    r = subprocess.run([BIN / "holmd", "--state", daemon.state, "--run", daemon.run_dir],
                       capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert r.returncode == 4 and "another holmd" in r.stderr


def test_socket_activation(daemon, api):
    """A socket that systemd opened, and READY=1."""
    import socket
    daemon.kill(signal.SIGTERM)
    path, note = str(daemon.base / "a.sock"), str(daemon.base / "notify")
    listen = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listen.bind(path)
    listen.listen(8)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(note)
    notify.settimeout(PATIENCE)
    env = dict(os.environ, NOTIFY_SOCKET=note, LISTEN_FDS="1")
    script = 'exec 3<&%d; export LISTEN_PID=$$; exec "$0" "$@"' % listen.fileno()
    p = subprocess.Popen(["bash", "-c", script, str(BIN / "holmd"), "--state", str(daemon.state),
                          "--run", str(daemon.run_dir)], env=env, pass_fds=[listen.fileno()])
    try:
        assert notify.recv(64) == b"READY=1"
        daemon.socket = pathlib.Path(path)
        assert api.get("/v1/version")["api"] == "v1"
    finally:
        p.terminate()
        p.wait()
        daemon.socket = daemon.run_dir / "holm.sock"
