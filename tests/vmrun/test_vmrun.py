# SPDX-License-Identifier: Apache-2.0
"""holm-vm: what its callers see. Behind it the agent runs in namespaces of this host."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from lib.daemon import BIN
from lib.shim import Shim, ShimError, alive

HERE = pathlib.Path(__file__).resolve().parent


class Machine:
    """One container of holm-vm, driven as an engine drives a runtime."""

    def __init__(self, folder, rootfs):
        self.folder, self.rootfs = folder, rootfs
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        (folder / "vmlinuz").touch()
        self.id = f"vmrun-{os.getpid()}-{folder.name[-8:]}".replace("_", "-")
        self.env = dict(os.environ, HOLM_PROGRAMS=str(BIN))

    def run(self, *args, **kw):
        kw.setdefault("timeout", 60)
        return subprocess.run(
            [str(BIN / "holm-vm"), "--root", str(self.folder / "state"), "--vmm",
             str(HERE / "stand_in.py"), "--kernel", str(self.folder), "--agent-image", "/nowhere",
             *args], capture_output=True, text=True, check=False, env=self.env, **kw)

    def config(self, args, change=None, **process):
        (self.bundle / "config.json").unlink(missing_ok=True)
        subprocess.run([str(BIN / "holm-oci"), "spec"], cwd=self.bundle, check=True)
        config = json.loads((self.bundle / "config.json").read_text())
        config["root"] = {"path": self.rootfs}
        config["process"].update(args=args, terminal=False, **process)
        if change:
            change(config)
        (self.bundle / "config.json").write_text(json.dumps(config))

    def create(self, out, kernel=None):
        """Create it with its output going to a file; the proxy's process id."""
        with open(out, "wb") as f:
            r = subprocess.run(
                [str(BIN / "holm-vm"), "--root", str(self.folder / "state"), "--vmm",
                 str(HERE / "stand_in.py"), "create", "--bundle", str(self.bundle), "--pid-file",
                 str(self.folder / "pid"), self.id], stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                env=dict(self.env, HOLM_KERNEL=str(kernel or self.folder)), timeout=60, check=False)
        assert r.returncode == 0, out.read_text()
        return int((self.folder / "pid").read_text())

    def state(self):
        r = self.run("state", self.id)
        return json.loads(r.stdout) if r.returncode == 0 else None

    def clean(self):
        self.run("delete", "--force", self.id)


@pytest.fixture
def machine(tmp_path, busybox_rootfs):
    m = Machine(tmp_path, busybox_rootfs)
    yield m
    m.clean()


def wait_gone(pid):
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_life(machine):
    out = machine.folder / "out"
    machine.config(["sh", "-c", "echo hello from $(hostname); cat /etc/own; exit 7"])
    pid = machine.create(out)
    state = machine.state()
    assert state["status"] == "created" and state["pid"] == pid and out.read_bytes() == b""
    assert machine.run("start", machine.id).returncode == 0
    wait_gone(pid)
    assert machine.state()["status"] == "stopped"
    assert "hello from" in out.read_text() and "own" in out.read_text()
    assert machine.run("delete", machine.id).returncode == 0
    assert machine.state() is None and os.listdir(machine.folder / "state") == []


@pytest.fixture
def shim(tmp_path, programs, busybox_rootfs, monkeypatch):
    """holm-shim over holm-vm instead of holm-oci: it does not know."""
    made = []
    wrapper = tmp_path / "runtime"
    wrapper.write_text(f"""#!/bin/sh
if [ "$1" = spec ]; then exec {programs}/holm-oci spec; fi
exec {programs}/holm-vm --vmm {HERE}/stand_in.py "$@"
""")
    wrapper.chmod(0o755)
    monkeypatch.setenv("HOLM_PROGRAMS", programs)
    monkeypatch.setenv("HOLM_KERNEL", str(tmp_path))
    (tmp_path / "vmlinuz").touch()

    def build(args, **kw):
        made.append(Shim(programs, str(tmp_path), busybox_rootfs, args, runtime=str(wrapper), **kw))
        return made[-1]

    yield build
    for s in made:
        s.clean()


def finish(shim, conn):
    conn.wait_state("gone")
    conn.call("ack")
    shim.wait_left()


def test_streams_and_status(shim):
    s = shim(["sh", "-c", "cat; echo err >&2; exit 9"], interactive=True)
    conn = s.connect()
    client = conn.attach()
    conn.call("start", timeout=60)
    data = b"a line that goes in and comes out\n" * 10000
    for at in range(0, len(data), 30000):
        client.stdin(data[at:at + 30000])
    client.send(1)
    assert client.all() == (data, b"err\n", b"", 9)
    assert conn.wait_state("exited")["exit_code"] == 9
    finish(s, conn)


def test_terminal(shim):
    s = shim(["sh"], terminal=True, interactive=True)
    conn = s.connect()
    client = conn.attach()
    conn.call("start", rows=33, cols=77, timeout=60)
    client.stdin(b"stty size; tty\n")
    client.until(b"33 77")
    client.send(2, b"\0\x28\0\x64")
    client.stdin(b"until stty size | grep '40 100'; do :; done; exit 4\n")
    client.until(b"40 100")
    assert client.all()[3] == 4
    finish(s, conn)


def test_exec_and_signals(shim):
    s = shim(["sleep", "1000"])
    conn = s.connect()
    conn.call("start", timeout=60)
    conn.call("exec", exec="a", process=s.process(["sh", "-c", "trap 'exit 5' TERM; "
                                                     "while :; do echo up; sleep 0.1; done"]),
              timeout=60)
    client = conn.attach("a")
    client.until(b"up")
    conn.call("signal", signal=signal.SIGTERM, exec="a")
    assert client.all()[3] == 5
    with pytest.raises(ShimError) as error:
        conn.call("exec", exec="b", process=s.process(["nothing"]), timeout=60)
    assert error.value.reply["reason"] == 1
    conn.call("signal", signal=signal.SIGKILL)
    status = conn.wait_state("exited")
    assert status["exit_code"] == 137 and status["signal"] == 9
    finish(s, conn)


def test_signal_of_the_container_is_its_end(shim):
    s = shim(["sh", "-c", "kill -USR1 $$; sleep 1000"])
    conn = s.connect()
    conn.call("start", timeout=60)
    # Process 1 of a namespace only hears signals that it handles: it goes on.
    conn.call("signal", signal=signal.SIGKILL)
    assert conn.wait_state("exited")["signal"] == 9
    finish(s, conn)


REFUSED = [
    (lambda c: c.update(hooks={"poststop": [{"path": "/bin/true"}]}), "hooks"),
    (lambda c: c["mounts"].append({"destination": "/x", "type": "bind", "source": "/etc",
                                   "options": ["rbind"]}), "bind"),
    (lambda c: c["linux"]["namespaces"].append({"type": "time", "path": "/proc/1/ns/time"}),
     "namespace"),
    (lambda c: c.pop("linux"), "linux"),
    (lambda c: c["process"].update(args=["nothing-here"]), "nothing-here"),
    (lambda c: c["root"].update(path="/not/there"), "not/there"),
]


@pytest.mark.parametrize("change, text", REFUSED, ids=[t for _, t in REFUSED])
def test_what_is_refused_leaves_nothing(machine, change, text):
    machine.config(["true"], change)
    r = machine.run("create", "--bundle", str(machine.bundle), machine.id)
    assert r.returncode == 1 and text in r.stderr, r.stderr
    state = machine.folder / "state"
    assert not state.exists() or os.listdir(state) == []


def test_no_kernel(machine):
    machine.config(["true"])
    (machine.folder / "vmlinuz").unlink()
    r = machine.run("create", "--bundle", str(machine.bundle), machine.id)
    assert r.returncode == 1 and "holm kernel import" in r.stderr
    assert not (machine.folder / "state").exists()


def test_unpacked_kernels_are_kept(machine, tmp_path):
    """Beside the packed one, by whoever may write there."""
    args = tmp_path / "args"
    machine.env["STAND_IN_ARGS"] = str(args)
    machine.config(["true"])
    machine.create(tmp_path / "out")
    assert f"--cache={machine.folder}" in args.read_text().splitlines()
    machine.run("delete", "--force", machine.id)
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", kernel], check=True)
    try:
        (kernel / "vmlinuz").touch()
        subprocess.run(["mount", "-o", "remount,ro", kernel], check=True)
        machine.create(tmp_path / "out", kernel)
        assert f"--kernel={kernel}/vmlinuz" in args.read_text().splitlines()
        assert "--cache" not in args.read_text()
        machine.run("delete", "--force", machine.id)
    finally:
        subprocess.run(["umount", kernel], check=True)


def test_a_monitor_that_does_not_start(machine):
    machine.config(["true"])
    machine.env["STAND_IN_FAILS"] = "1"
    r = machine.run("create", "--bundle", str(machine.bundle), machine.id)
    assert r.returncode == 1 and "no such engine" in r.stderr
    assert os.listdir(machine.folder / "state") == []


def test_proxy_has_nothing_left(machine):
    """It reads what a guest says: it may not change what root reads of it later."""
    machine.config(["sleep", "1000"])
    pid = machine.create(machine.folder / "out")
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = fields["Uid"].split()[0]
    assert uid != "0" and set(fields["Uid"].split()) == {uid} and set(fields["Gid"].split()) == {uid}
    assert {fields[f"Cap{s}"] for s in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1" and fields["Groups"].strip() == ""
    kept = machine.folder / "state" / machine.id
    assert kept.stat().st_uid == 0 and kept.stat().st_mode & 0o022 == 0
    assert (kept / "state.json").stat().st_uid == 0


def test_files_that_the_host_binds(machine):
    own = machine.folder / "own"
    own.write_text("bound\n")
    machine.config(["sh", "-c", "cat /etc/own > /proc/1/fd/1"], lambda c: c["mounts"].append(
        {"destination": "/etc/own", "type": "bind", "source": str(own), "options": ["bind", "ro"]}))
    out = machine.folder / "out"
    pid = machine.create(out)
    machine.run("start", machine.id)
    wait_gone(pid)
    assert out.read_text() == "bound\n"
