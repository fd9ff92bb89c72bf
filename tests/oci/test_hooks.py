"""Hooks of all six kinds: when, where, with what, and what their failure does."""
import json
import os
import pathlib
import shutil
import tempfile

import pytest

from lib.oci import Box, leftovers
from lib.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture(params=["root", "userns"])
def box(request):
    # Where the container's root can walk, too.
    top = pathlib.Path(tempfile.mkdtemp(prefix="holm-hooks-", dir="/var/tmp"))
    top.chmod(0o755)
    try:
        with Box(top, userns=request.param == "userns") as b:
            b.trace = b.dir / "trace"
            b.trace.touch()
            b.trace.chmod(0o666)
            b.mount("/trace", source=str(b.trace), type="bind", options=["bind"])
            yield b
        assert leftovers(b) == []
    finally:
        shutil.rmtree(top)


def note(box, kind):
    """A hook that writes its kind and the state that it was given."""
    path = "/trace" if kind == "startContainer" else box.trace
    box.hook(kind, f"echo {kind} $(cat) >> {path}")


def entries(box):
    return [line.split(" ", 1) for line in box.trace.read_text().splitlines()]


def test_order_and_state(box):
    for kind in KINDS:
        note(box, kind)
    box.create("/bin/sh", "-c", "echo program >> /trace; sleep 1000")
    assert [k for k, _ in entries(box)] == ["prestart", "createRuntime", "createContainer"]
    box.ok("start", box.id)
    wait_for("the program", lambda: "program" in box.trace.read_text())
    wait_for("poststart", lambda: "poststart" in box.trace.read_text())
    pid = box.pid()
    box.ok("delete", "--force", box.id)
    trace = [(e[0], json.loads(e[1]) if len(e) > 1 else None) for e in entries(box)]
    order = [k for k, _ in trace if k != "program"]
    assert order == list(KINDS)
    assert [k for k, _ in trace].index("startContainer") < [k for k, _ in trace].index("program")
    status = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating",
              "startContainer": "created", "poststart": "running", "poststop": "stopped"}
    for kind, state in trace:
        if kind == "program":
            continue
        assert state["id"] == box.id
        assert state["status"] == status[kind]
        assert state["bundle"] == str(box.dir)
        inside = kind in ("createContainer", "startContainer")
        assert state.get("pid") == (None if kind == "poststop" else 1 if inside else pid)


def test_where_they_run(box):
    """createRuntime on the host, createContainer in the container's namespaces with the host's
    files still there, startContainer in the container."""
    box.hook("createRuntime", f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {box.trace}")
    box.hook("createContainer", f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {box.trace}")
    box.hook("startContainer", "readlink /proc/self/ns/mnt >> /trace; readlink /proc/self/ns/uts >> /trace; "
                               "ls / >> /trace")
    box.detached("/bin/sleep", "1000")
    pid = box.pid()
    lines = box.trace.read_text().split()
    own = [os.readlink(f"/proc/self/ns/{k}") for k in ("mnt", "uts")]
    theirs = [os.readlink(f"/proc/{pid}/ns/{k}") for k in ("mnt", "uts")]
    assert lines[:2] == own
    assert lines[2:4] == theirs
    assert lines[4:6] == theirs
    assert "trace" in lines[6:]
    assert "boot" not in lines[6:]


def test_the_tree_is_mounted_before_the_runtimes_hooks(box):
    box.hook("createRuntime",
             f"sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' | (read p; ls -d /proc/$p/root{box.rootfs}/proc/1/status) "
             f">> {box.trace} 2>&1")
    box.create("/bin/true")
    assert "status" in box.trace.read_text()
    assert "No such file" not in box.trace.read_text()


def test_environment_is_only_what_the_config_says(box, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    box.hook("createRuntime", f"env >> {box.trace}", env=["A=b", "PATH=/bin:/usr/bin"])
    box.hook("createRuntime", f"/usr/bin/env >> {box.trace}")
    box.create("/bin/true")
    names = {line.split("=")[0] for line in box.trace.read_text().splitlines()}
    assert names <= {"A", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    assert "A=b" in box.trace.read_text()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_undoes_the_create(box, kind):
    note(box, "poststop")
    box.hook(kind, "echo the reason >&2; exit 3")
    box.config["process"]["args"] = ["/bin/sleep", "1000"]
    box.write()
    text = box.fails("create", "--bundle", str(box.dir), box.id)
    assert kind in text
    assert "the reason" in text
    assert "3" in text
    assert leftovers(box) == []
    assert [k for k, _ in entries(box)] == ["poststop"]


def test_failure_of_start_container(box):
    box.hook("startContainer", "exit 3")
    box.create("/bin/sleep", "1000")
    assert "startContainer" in box.fails("start", box.id)
    wait_for("the end", lambda: box.status() == "stopped")


def test_failure_of_poststart_is_a_warning(box):
    box.hook("poststart", "exit 3")
    note(box, "poststart")
    log = box.dir / "log"
    box.create("/bin/sleep", "1000")
    box.ok("--log", str(log), "start", box.id)
    assert box.status() == "running"
    assert "poststart" in log.read_text()
    assert [k for k, _ in entries(box)] == ["poststart"]


def test_failure_of_poststop_is_a_warning(box):
    box.hook("poststop", "exit 3")
    note(box, "poststop")
    box.create("/bin/sleep", "1000")
    box.ok("delete", box.id)
    assert leftovers(box) == []
    assert [k for k, _ in entries(box)] == ["poststop"]


def test_timeout(box):
    box.hook("createRuntime", "exec sleep 1000", timeout=1)
    box.config["process"]["args"] = ["/bin/true"]
    box.write()
    assert "killed" in box.fails("create", "--bundle", str(box.dir), box.id)


def test_program_that_is_not_there(box):
    box.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    box.write()
    assert "/no/such/hook" in box.fails("create", "--bundle", str(box.dir), box.id)
    assert leftovers(box) == []


def test_relative_path_is_refused(box):
    box.config["hooks"] = {"createRuntime": [{"path": "true"}]}
    box.write()
    assert "/hooks/createRuntime/0/path" in box.fails("create", "--bundle", str(box.dir), box.id)


def test_much_output_does_not_block(box):
    box.hook("createRuntime", "dd if=/dev/zero bs=1M count=4 2>/dev/null; exit 0")
    box.create("/bin/true")


def test_a_hook_that_asks_for_the_state(box):
    """As the specification allows: the runtime can be called from a hook."""
    box.hook("createRuntime", f"{box.runtime} --root {box.state} state {box.id} >> {box.trace}")
    box.create("/bin/true")
    assert json.loads(box.trace.read_text())["status"] == "creating"
