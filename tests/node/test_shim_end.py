# SPDX-License-Identifier: Apache-2.0
"""Shims that end when they should not: who waits is told why."""
import json
import os
import pathlib
import signal
import time

import lib
import pytest
from lib.api import Api, Connection
from lib.daemon import Daemon, make_rootfs

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
