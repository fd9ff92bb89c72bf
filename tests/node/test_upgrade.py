# SPDX-License-Identifier: Apache-2.0
"""Today's daemon on what version 1 left: its store, its run-time folders, its shims."""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

import lib
import pytest
from lib.api import Api, ApiError, alive, read_session
from lib.daemon import BIN, Daemon, make_rootfs
from lib.wait import PATIENCE

OLD_SHIM = pathlib.Path(lib.__path__[0]) / "shim_v1.py"
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()

# As version 1 made it: schema 1 of docs/formats/resource-store.md, and schema 2.
SCHEMA = """
CREATE TABLE resource(
 kind TEXT NOT NULL, id TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,
 host TEXT, version INTEGER NOT NULL, epoch INTEGER NOT NULL,
 revision INTEGER NOT NULL, created_ns INTEGER NOT NULL,
 spec TEXT NOT NULL, status TEXT NOT NULL,
 PRIMARY KEY(kind, id), UNIQUE(kind, project, name)) WITHOUT ROWID;
CREATE TABLE change(
 revision INTEGER PRIMARY KEY, change INTEGER NOT NULL, kind TEXT NOT NULL,
 id TEXT NOT NULL, name TEXT NOT NULL);
PRAGMA user_version=1;
"""
SCHEMA_2 = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version=2;
"""


class Old(Daemon):
    """Folders as a daemon of version 1 left them; start() begins today's."""

    def __init__(self, schema):
        self.shims = []
        self.schema = schema
        self.prepared = False
        super().__init__("upgrade")

    def start(self):
        if self.prepared:
            super().start()
            return
        self.prepared = True
        self.rootfs = make_rootfs(self.base / "root")
        self.state.mkdir(mode=0o700)
        for folder in (self.run_dir, self.run_dir / "instances"):
            folder.mkdir(mode=0o711)
        self.db = sqlite3.connect(self.state / "holm.db")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.executescript(SCHEMA)
        if self.schema == 2:
            self.db.executescript(SCHEMA_2)
            self.db.execute("INSERT INTO meta VALUES('boot-id', ?)", (BOOT_ID,))
            self.db.execute("INSERT INTO meta VALUES('epoch', '3')")

    def leave(self, number, name, state, *command, idle=False):
        """An instance with its shim."""
        ident = f"{number:064x}"
        run, keep = self.run_dir / "instances" / ident, self.state / "instances" / ident
        (run / "bundle").mkdir(parents=True)
        os.chmod(run, 0o700)
        keep.mkdir(parents=True, mode=0o700)
        subprocess.run([BIN / "holm-oci", "spec"], cwd=run / "bundle", check=True)
        shim = subprocess.Popen([sys.executable, OLD_SHIM, *(["--idle"] if idle else []), run,
                                 keep / "output.log", ident, *command])
        self.shims.append(shim)
        end = time.monotonic() + PATIENCE
        while not (run / "shim.sock").exists():
            assert time.monotonic() < end and shim.poll() is None
            time.sleep(0.01)
        spec = {"rootfs": self.rootfs, "command": list(command), "isolation": "container",
                "network": "none", "userns": "host",
                "resources": {"cpus": 0.0}, "restart": {"policy": "no"}, "log": {}}
        status = {"state": state, "started": "2026-01-02T03:04:05.000000006Z",
                  "shim_pid": shim.pid, "boot_id": BOOT_ID}
        self.db.execute("INSERT INTO resource VALUES('instance', ?, 'default', ?, NULL, 1, 0, ?, "
                        "1767323045000000006, ?, ?)",
                        (ident, name, number, json.dumps(spec), json.dumps(status)))
        self.db.execute("INSERT INTO change VALUES(?, 0, 'instance', ?, ?)", (number, ident, name))
        self.db.commit()
        return ident

    def close(self):
        try:
            super().close()
            fault = self.run_dir / "fault"
            assert not fault.exists(), fault.read_text()
        finally:
            for shim in self.shims:
                shim.kill()
                shim.wait()


@pytest.fixture(params=[1, 2])
def old(request):
    d = Old(request.param)
    try:
        yield d
    finally:
        if d.proc is None:
            d.db.close()
            d.start()
        d.close()


def begin(old):
    old.db.close()
    old.start()
    return Api(old)


def fault(old):
    path = old.run_dir / "fault"
    return path.read_text() if path.exists() else ""


def test_running_instance_is_adopted(old):
    go = old.base / "go"
    ident = old.leave(1, "one", "running", "sh", "-c",
                      f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo after; "
                      "while :; do sleep 0.05; done")
    api = begin(old)
    s = api.wait_state("one", "running")
    assert alive(s["pid"]) and s["shim_pid"] == old.shims[0].pid
    api.wait_log("one", "before\n")
    go.touch()
    assert api.wait_log("one", "after\n") == "before\nafter\n"
    body = json.dumps({"command": ["sh", "-c", "echo inside; exit 9"]}).encode()
    sock, rest = api.upgrade("/v1/instances/one/exec", body)
    assert read_session(sock, rest) == (b"inside\n", 9)
    sock.close()
    sock, rest = api.upgrade("/v1/instances/one/exec", b'{"command": ["/no/such"]}')
    assert read_session(sock, rest)[1] == 127
    sock.close()
    assert old.holm("exec", "one", "/no/such", check=False).returncode == 127
    assert old.holm("ps", "-q").stdout.strip() == ident[:12]
    s = api.post("/v1/instances/one/stop")["status"]
    assert (s["state"], s["exit_code"], s["signal"]) == ("exited", 143, 15)
    old.shims[0].wait(20)
    # Its next life is one of today's.
    api.call("PATCH", "/v1/instances/one", {"labels": {"a": "b"}})
    old.holm("rm", "one")
    assert not fault(old), fault(old)


def test_end_is_found(old):
    """It ended while no daemon was there."""
    old.leave(1, "one", "running", "sh", "-c", "exit 42")
    end = time.monotonic() + 20
    while not (old.run_dir / "instances" / f"{1:064x}" / "exit.json").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    api = begin(old)
    assert api.wait_state("one", "exited")["exit_code"] == 42
    old.shims[0].wait(20)
    assert not fault(old), fault(old)


@pytest.mark.parametrize("command,code", [("/no/such", 127), ("/bin/true", 0)])
def test_start_is_resumed(old, command, code):
    """The old daemon died before it could say "start"; the shim derives the status itself."""
    old.leave(1, "one", "starting", command, idle=True)
    api = begin(old)
    s = api.wait_state("one", "exited")
    assert s["exit_code"] == code
    assert ("executable file not found" in s.get("error", "")) == (code == 127)
    old.shims[0].wait(20)
    assert not fault(old), fault(old)


def test_next_start_is_todays(old):
    old.leave(1, "one", "running", "sh", "-c", "exit 3")
    api = begin(old)
    assert api.wait_state("one", "exited")["exit_code"] == 3
    old.shims[0].wait(20)
    assert api.post("/v1/instances/one/start")
    assert api.get("/v1/instances/one/wait")["exit_code"] == 3
    with pytest.raises(ApiError):
        api.create("one", "true")
    assert not fault(old), fault(old)


def test_shim_of_version_1_dies(old):
    old.leave(1, "one", "running", "sh", "-c", "while :; do sleep 0.05; done")
    api = begin(old)
    pid = api.wait_state("one", "running")["pid"]
    old.shims[0].send_signal(signal.SIGKILL)
    old.shims[0].wait()
    s = api.wait_state("one", "exited")
    assert s["exit_code"] == 255 and "shim died" in s["error"]
    os.kill(pid, signal.SIGKILL)   # no container: the runtime knew nothing of it
