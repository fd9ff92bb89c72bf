"""The life of a container: every command of holm-oci, and what must be gone afterwards."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from lib.oci import Box, leftovers
from lib.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def box(tmp_path):
    with Box(tmp_path) as b:
        yield b
    assert leftovers(b) == []


def test_create_start_kill_delete(box):
    box.create("/bin/sleep", "1000")
    assert box.status() == "created"
    assert (box.dir / "out").read_text() == ""
    box.ok("start", box.id)
    assert box.status() == "running"
    assert pathlib.Path(f"/proc/{box.pid()}/cmdline").read_bytes() == b"/bin/sleep\x001000\x00"
    assert "not stopped" in box.fails("delete", box.id)
    box.ok("kill", box.id, "KILL")
    wait_for("the end", lambda: box.status() == "stopped")
    assert "not running" in box.fails("kill", box.id, "TERM")
    box.ok("delete", box.id)
    assert leftovers(box) == []
    assert "does not exist" in box.fails("state", box.id)


def test_state_has_what_the_specification_asks(box):
    box.config["annotations"] = {"org.example.a": "b"}
    box.create("/bin/sleep", "1000")
    state = box.state_of()
    assert state["id"] == box.id
    assert state["status"] == "created"
    assert state["pid"] > 0
    assert state["bundle"] == str(box.dir)
    assert state["rootfs"] == str(box.rootfs)
    assert state["annotations"] == {"org.example.a": "b"}
    assert state["ociVersion"] == "1.0.2"
    assert state["created"].endswith("Z")


def test_status_of_the_program(box):
    assert box.run("/bin/sh", "-c", "exit 7").returncode == 7
    assert leftovers(box) == []
    assert box.run("/bin/sh", "-c", "sh -c 'kill -TERM $$'; exit $?").returncode == 143


def test_end_by_a_signal_is_128_and_its_number(box):
    box.config["linux"]["namespaces"] = [n for n in box.config["linux"]["namespaces"]
                                         if n["type"] != "pid"]
    assert box.run("/bin/sh", "-c", "kill -USR1 $$").returncode == 128 + signal.SIGUSR1


def test_a_name_can_be_used_once(box):
    box.create("/bin/sleep", "1000")
    assert "already exists" in box.fails("create", "--bundle", str(box.dir), box.id)
    assert box.status() == "created"


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a b", "a\nb", "../x", "é", "-x"])
def test_names_that_are_none(box, name):
    box.write()
    done = box.call("create", "--bundle", str(box.dir), "--", name)
    assert done.returncode == 1
    assert "id" in done.stderr
    assert not box.state.exists() or list(box.state.iterdir()) == []


def test_start_twice(box):
    box.detached("/bin/sleep", "1000")
    assert "already running" in box.fails("start", box.id)


def test_start_of_a_stopped_one(box):
    box.detached("/bin/true")
    wait_for("the end", lambda: box.status() == "stopped")
    assert "stopped" in box.fails("start", box.id)
    assert "stopped container" in box.exec("/bin/true").stderr


def test_delete_of_a_created_one(box):
    box.create("/bin/sleep", "1000")
    box.ok("delete", box.id)
    assert leftovers(box) == []


def test_delete_force(box):
    box.detached("/bin/sleep", "1000")
    box.ok("delete", "--force", box.id)
    assert leftovers(box) == []
    box.ok("delete", "--force", box.id)
    assert "does not exist" in box.fails("delete", box.id)


def test_delete_of_a_paused_one(box):
    box.detached("/bin/sleep", "1000")
    box.ok("pause", box.id)
    box.ok("delete", "--force", box.id)
    assert leftovers(box) == []


def test_pause_and_resume(box):
    box.detached("/bin/sh", "-c", "while :; do echo x; sleep 0.01; done")
    box.ok("pause", box.id)
    assert box.status() == "paused"
    size = len(box.output())
    time.sleep(0.2)
    assert len(box.output()) == size
    assert "paused" in box.exec("/bin/true").stderr
    box.ok("resume", box.id)
    assert box.status() == "running"
    wait_for("output", lambda: len(box.output()) > size)
    assert "not paused" in box.fails("resume", box.id)


def test_kill_of_a_paused_one_ends_it(box):
    box.detached("/bin/sleep", "1000")
    box.ok("pause", box.id)
    box.ok("kill", box.id, "9")
    wait_for("the end", lambda: box.status() == "stopped")


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "10", "usr1"])
def test_kill_by_every_spelling(box, name):
    box.detached("/bin/sh", "-c", "trap 'echo got; exit' USR1; echo ready; while :; do sleep 0.02; done")
    wait_for("the trap", lambda: "ready" in box.output())
    box.ok("kill", box.id, name)
    wait_for("the signal", lambda: "got" in box.output())


def test_kill_with_a_signal_that_is_none(box):
    box.create("/bin/sleep", "1000")
    assert "unknown signal" in box.fails("kill", box.id, "NOPE")


def test_kill_all(box):
    """Without a pid namespace, children outlive the first process."""
    box.config["linux"]["namespaces"] = [n for n in box.config["linux"]["namespaces"]
                                         if n["type"] != "pid"]
    box.detached("/bin/sh", "-c", "sleep 999 & sleep 1000; true")
    wait_for("both", lambda: len(json.loads(box.ok("ps", "--format", "json", box.id))) == 3)
    box.ok("kill", "--all", box.id, "KILL")
    wait_for("the end", lambda: json.loads(box.ok("ps", "--format", "json", box.id)) == [])


def test_delete_takes_what_outlived_the_first_process(box):
    box.config["linux"]["namespaces"] = [n for n in box.config["linux"]["namespaces"]
                                         if n["type"] != "pid"]
    box.detached("/bin/sh", "-c", "sleep 999 & exit 0")
    wait_for("the end", lambda: box.status() == "stopped")
    box.ok("delete", box.id)
    assert leftovers(box) == []


def test_ps(box):
    box.detached("/bin/sh", "-c", "sleep 999 & sleep 1000; true")
    wait_for("both", lambda: len(json.loads(box.ok("ps", "--format", "json", box.id))) == 3)
    table = box.ok("ps", box.id).splitlines()
    assert "PID" in table[0]
    assert len(table) == 4
    assert sum("sleep 1000" in line for line in table[1:]) == 2  # the shell's and its own
    assert len(box.ok("ps", box.id, "-o", "pid,comm", "-A").splitlines()) == 4


def test_list(box):
    box.create("/bin/sleep", "1000")
    table = box.ok("list").splitlines()
    assert len(table) == 2
    assert table[1].split()[0] == box.id
    assert "created" in table[1]
    assert box.ok("list", "--quiet") == box.id + "\n"
    rows = json.loads(box.ok("list", "--format", "json"))
    assert [r["id"] for r in rows] == [box.id]
    assert rows[0]["status"] == "created"


def test_list_of_nothing(box):
    assert json.loads(box.ok("list", "--format", "json")) == []
    assert len(box.ok("list").splitlines()) == 1


def test_update(box):
    box.detached("/bin/sleep", "1000")
    box.ok("update", "--pids-limit", "21", box.id)
    found = [p for p in pathlib.Path("/sys/fs/cgroup").rglob(f"{box.id}/pids.max")]
    assert found[0].read_text() == "21\n"
    (box.dir / "res.json").write_text('{"pids": {"limit": 22}}')
    box.ok("update", "--resources", str(box.dir / "res.json"), box.id)
    assert found[0].read_text() == "22\n"
    box.ok("update", "--resources=-", box.id, stdin=None, input='{"pids": {"limit": 23}}')
    assert found[0].read_text() == "23\n"
    assert "invalid value" in box.fails("update", "--pids-limit", "many", box.id)
    assert found[0].read_text() == "23\n"


def test_events(box):
    box.detached("/bin/sleep", "1000")
    event = json.loads(box.ok("events", "--stats", box.id))
    assert event["type"] == "stats"
    assert event["id"] == box.id
    assert event["data"]["pids"]["current"] >= 1
    with subprocess.Popen([box.runtime, "--root", str(box.state), "events", "--interval", "50ms",
                           box.id], stdout=subprocess.PIPE, text=True) as run:
        lines = [json.loads(run.stdout.readline()) for _ in range(3)]
        assert all(line["type"] == "stats" for line in lines)
        box.ok("kill", box.id, "KILL")
        run.stdout.read()
        assert run.wait(60) == 0


def test_spec(box):
    box.dir.joinpath("new").mkdir()
    box.ok("spec", "--bundle", str(box.dir / "new"))
    config = json.loads((box.dir / "new/config.json").read_text())
    assert config["process"]["args"] == ["sh"]
    assert "exists" in box.fails("spec", "--bundle", str(box.dir / "new"))
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/echo", "from the default"]
    config["root"]["path"] = str(box.rootfs)
    (box.dir / "new/config.json").write_text(json.dumps(config))
    assert box.ok("run", "--bundle", str(box.dir / "new"), box.id) == "from the default\n"


def test_features(box):
    f = json.loads(box.ok("features"))
    assert f["ociVersionMin"] == "1.0.0"
    assert set(f["linux"]["namespaces"]) == {"pid", "network", "mount", "ipc", "uts", "user",
                                             "cgroup", "time"}
    assert "CAP_SYS_ADMIN" in f["linux"]["capabilities"]
    assert "SCMP_ACT_NOTIFY" in f["linux"]["seccomp"]["actions"]
    assert "rbind" in f["mountOptions"]
    assert len(f["hooks"]) == 6


def test_pid_file(box):
    box.create("/bin/sleep", "1000", options=["--pid-file", str(box.dir / "pid")])
    assert int((box.dir / "pid").read_text()) == box.pid()


def test_run_detached(box):
    box.config["process"]["args"] = ["/bin/sleep", "1000"]
    box.write()
    subprocess.run([box.runtime, "--root", str(box.state), "run", "--detach", "--bundle",
                    str(box.dir), box.id], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=60)
    assert box.status() == "running"


def test_run_keep(box):
    assert box.run("/bin/true", options=["--keep"]).returncode == 0
    assert box.status() == "stopped"


def test_signals_go_on_to_the_container(box):
    box.config["process"]["args"] = ["/bin/sh", "-c",
                                     "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done"]
    box.write()
    with subprocess.Popen([box.runtime, "--root", str(box.state), "run", "--bundle", str(box.dir),
                           box.id], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 5


def test_the_bundle_is_read_once(box):
    box.create("/bin/echo", "first")
    box.config["process"]["args"] = ["/bin/echo", "second"]
    box.write()
    box.ok("start", box.id)
    wait_for("output", lambda: box.output() == "first\n")


@pytest.mark.parametrize("argv, text", [
    (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
    (["/no/such"], "no such file or directory"),
    (["/etc/passwd"], "permission denied"),
    (["/bin"], "permission denied"),
])
def test_program_that_cannot_run(box, argv, text):
    done = box.run(*argv)
    assert done.returncode == 1
    assert text in done.stderr
    assert leftovers(box) == []


def test_program_that_is_no_program_is_told_by_start(box):
    (box.rootfs / "bin/bad").write_text("not a program\n")
    (box.rootfs / "bin/bad").chmod(0o755)
    box.create("/bin/bad")
    assert "exec format error" in box.fails("start", box.id)
    assert box.status() == "stopped"
    box.ok("delete", box.id)


def test_log_as_json(box):
    log = box.dir / "log.json"
    box.write()
    done = box.call("--log", str(log), "--log-format", "json", "state", "nosuch")
    assert done.returncode == 1
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error"
    assert "does not exist" in line["msg"]
    assert line["time"]


@pytest.mark.parametrize("change, field", [
    ({"process": None}, "/process"),
    ({"process": {"cwd": "/", "args": []}}, "/process/args"),
    ({"process": {"cwd": "here", "args": ["x"]}}, "/process/cwd"),
    ({"ociVersion": "7.0.0"}, "/ociVersion"),
    ({"linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}}, "/linux/namespaces"),
    ({"linux": {"namespaces": [{"type": "bogus"}]}}, "/linux/namespaces"),
])
def test_bad_config_names_the_field(box, change, field):
    box.config.update(change)
    box.write()
    assert field in box.fails("create", "--bundle", str(box.dir), box.id)
    assert leftovers(box) == []


def test_two_at_work_on_one_container(box):
    """delete waits for a create; what comes out is one or the other, never a half."""
    box.hook("createRuntime", "sleep 0.5")
    box.config["process"]["args"] = ["/bin/sleep", "1000"]
    box.write()
    with open(os.devnull, "w") as null:
        create = subprocess.Popen([box.runtime, "--root", str(box.state), "create", "--bundle",
                                   str(box.dir), box.id], stdout=null, stderr=null)
        wait_for("the record", (box.state / box.id).exists)
        box.ok("delete", "--force", box.id)
        assert create.wait(60) == 0
    assert leftovers(box) == []


def test_a_create_that_was_killed_can_be_deleted(box):
    hook = box.dir / "hook.pid"
    box.hook("createRuntime", f"echo $$ > {hook}.new; mv {hook}.new {hook}; exec sleep 1000")
    box.config["process"]["args"] = ["/bin/sleep", "1000"]
    box.write()
    with open(os.devnull, "w") as null:
        create = subprocess.Popen([box.runtime, "--root", str(box.state), "create", "--bundle",
                                   str(box.dir), box.id], stdout=null, stderr=null)
        try:
            wait_for("the process", lambda: (box.state / box.id / "state.json").exists() and
                     box.status() == "creating" and box.pid() > 0)
            wait_for("the hook", hook.exists)
        finally:
            create.kill()
            create.wait()
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(hook.read_text()), signal.SIGKILL)
    wait_for("its end", lambda: box.status() == "stopped")
    box.ok("delete", "--force", box.id)
    assert leftovers(box) == []


def test_preserved_descriptors(box):
    read, write = os.pipe()
    third = os.open("/etc/hostname", os.O_RDONLY)
    try:
        os.dup2(write, 100)
        box.config["process"]["args"] = ["/bin/sh", "-c", "echo through >&3; ls /proc/self/fd | wc -l"]
        box.write()
        script = f"exec {box.runtime} --root {box.state} run --preserve-fds 1 --bundle {box.dir} " \
                 f"{box.id} 3>&100 9</etc/hostname"
        done = subprocess.run(["bash", "-c", script], pass_fds=[100, third], text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        assert done.returncode == 0, done.stderr
        assert os.read(read, 100) == b"through\n"
        assert done.stdout == "5\n"  # 0, 1, 2, 3 and that of ls
    finally:
        for fd in (read, write, third, 100):
            os.close(fd)


def test_listen_fds(box):
    box.config["process"]["args"] = ["/bin/sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3"]
    box.write()
    (box.dir / "text").write_text("given\n")
    script = f"exec {box.runtime} --root {box.state} run --bundle {box.dir} {box.id} 3<{box.dir}/text"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "LISTEN_FDS": "1"}, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.stdout == "1 1\ngiven\n", done.stderr


def test_descriptor_that_was_not_given(box):
    box.write()
    assert "not open" in box.fails("run", "--preserve-fds", "5", "--bundle", str(box.dir), box.id)


def test_nothing_else_is_open_inside(box):
    os.dup2(1, 77)
    try:
        done = box.run("/bin/sh", "-c", "ls /proc/self/fd", pass_fds=[77])
        assert done.stdout.split() == ["0", "1", "2", "3"], done.stderr
    finally:
        os.close(77)


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="kernel without NUMA")
def test_memory_policy(box):
    box.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0",
                                           "flags": ["MPOL_F_STATIC_NODES"]}
    assert "bind=static:0" in box.sh("cat /proc/self/numa_maps")


@pytest.mark.parametrize("policy, field", [
    ({"mode": "MPOL_NOPE"}, "/linux/memoryPolicy/mode"),
    ({"mode": "MPOL_BIND"}, "/linux/memoryPolicy/nodes"),
    ({"mode": "MPOL_BIND", "nodes": "1-0"}, "/linux/memoryPolicy/nodes"),
    ({"mode": "MPOL_BIND", "nodes": "0,,1"}, "/linux/memoryPolicy/nodes"),
    ({"mode": "MPOL_BIND", "nodes": "1024"}, "/linux/memoryPolicy/nodes"),
    ({"mode": "MPOL_DEFAULT", "nodes": "0"}, "/linux/memoryPolicy/nodes"),
    ({"mode": "MPOL_LOCAL", "flags": ["X"]}, "/linux/memoryPolicy/flags"),
])
def test_memory_policy_that_is_none(box, policy, field):
    box.config["linux"]["memoryPolicy"] = policy
    assert field in box.refused()
