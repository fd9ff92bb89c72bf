# SPDX-License-Identifier: Apache-2.0
"""Shims that end when they should not: who waits is told why."""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import time

import lib
import pytest
from lib.api import Api, ApiError, Connection, alive
from lib.daemon import Daemon, make_rootfs
from lib.wait import wait_for

STANDIN = pathlib.Path(lib.__path__[0]) / "standin.py"


@pytest.fixture
def odd():
    """A daemon whose shims are stand-ins."""
    d = Daemon("odd", args=("--shim", STANDIN))
    d.rootfs = make_rootfs(d.base / "root")
    try:
        yield Api(d)
    finally:
        d.close()


def state_of(pid):
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text.rsplit(")", 1)[1].split()[0]


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def expect_reason(answer):
    error = json.loads(answer.read())["error"]
    assert answer.status == 500 and error["code"] == "host"
    assert "no fish is left: Too many open files" in error["message"]


def test_reason_of_a_shim_that_does_not_start(odd):
    odd.create("one", "true")
    status, data = odd.raw("POST", "/v1/instances/one/start", "{}")
    assert status == 500 and b"no fish is left: Too many open files" in data
    assert "no fish" in odd.status("one")["error"]


def test_reason_of_a_shim_that_gave_up(odd):
    """It ends while the daemon looks away; what the daemon then asks is answered by the reason."""
    daemon = odd.daemon
    odd.create("one", "true", stdin_open=True)
    sock, _ = odd.upgrade("/v1/instances/one/attach")
    shim = odd.status("one")["shim_pid"]
    until(lambda: pathlib.Path(f"/proc/{shim}/cmdline").read_bytes().find(b"standin") > 0)
    until(lambda: b"SigCgt:\t0000000000004" in pathlib.Path(f"/proc/{shim}/status").read_bytes())
    call = Connection(daemon.socket)
    call.connect()
    odd.get("/v1/version")
    os.kill(daemon.proc.pid, signal.SIGSTOP)
    try:
        until(lambda: state_of(daemon.proc.pid) == "T")
        call.request("POST", "/v1/instances/one/start", "{}")
        os.kill(shim, signal.SIGTERM)
        until(lambda: state_of(shim) == "Z")
    finally:
        os.kill(daemon.proc.pid, signal.SIGCONT)
    expect_reason(call.getresponse())
    assert odd.status("one")["state"] == "exited" and "no fish" in odd.status("one")["error"]
    assert odd.status("one")["exit_code"] == 125
    sock.close()
    call.close()


@pytest.fixture
def real():
    d = Daemon("broke")
    d.rootfs = make_rootfs(d.base / "root")
    try:
        yield Api(d)
    finally:
        d.close()


def cut_connections(pid):
    """End the daemon's connections to a shim, which knows as little of it; how many there were."""
    pidfd_getfd, cut = 438, 0
    pidfd = os.pidfd_open(pid)
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
            continue
        got = ctypes.CDLL(None).syscall(pidfd_getfd, pidfd, int(fd), 0)
        if got < 0:
            raise OSError("it is closed by now")
        with socket.socket(fileno=got) as s:
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0:
                s.shutdown(socket.SHUT_RDWR)
                cut += 1
    os.close(pidfd)
    return cut


def test_a_connection_that_breaks_is_made_again(real):
    """The instance goes on, and everything can be asked of it."""
    real.run("one", "sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done")
    real.wait_log("one", "ready")
    before = real.status("one")
    for _ in range(3):
        assert cut_connections(before["shim_pid"]) == 1

        def answers():
            try:
                return real.get("/v1/instances/one/stats")
            except ApiError as error:
                assert error.code == "unavailable" and "broke" in error.message, error
            return None

        wait_for("an answer", answers)
        now = real.status("one")
        assert (now["state"], now["pid"], now["shim_pid"]) == ("running", before["pid"],
                                                               before["shim_pid"])
    real.post("/v1/instances/one/exec", {"command": ["true"]})
    real.post("/v1/instances/one/stop")
    assert real.get("/v1/instances/one/wait")["exit_code"] == 6


def test_a_connection_that_breaks_again_and_again_is_given_up(real):
    """Otherwise the two would be busy with it for ever. What ran is killed, and that is told."""
    real.run("one", "sleep", "1000")
    status = real.status("one")

    def given_up():
        with contextlib.suppress(OSError):  # it may be going
            cut_connections(status["shim_pid"])
        return real.status("one")["state"] == "exited"

    wait_for("its end", given_up)
    assert "shim" in real.status("one")["error"]
    wait_for("the process's end", lambda: not alive(status["pid"]))
