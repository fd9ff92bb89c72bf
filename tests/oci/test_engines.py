"""holm-oci under podman, docker and containerd as Debian ships them, unchanged."""
import json
import os
import subprocess

import pytest

from lib.engines import RUNTIME, Containerd, Docker, Podman
from lib.wait import wait_for

KINDS = {"podman": Podman, "docker": Docker}


@pytest.fixture(scope="module", params=list(KINDS))
def engine(request, tmp_path_factory):
    made = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def name(engine, request):
    """A container name that is gone after the test."""
    text = "t-" + request.node.name.split("[")[0].replace("_", "-")
    yield text
    engine.run(*engine.remove, text)


def run(engine, *args, options=(), **kw):
    return engine.run("run", "--rm", "--network", "none", *options, engine.image, *args, **kw)


def detached(engine, name, *command, options=()):
    engine.call("run", "-d", "--network", "none", "--name", name, *options, engine.image, *command)


def test_output_and_status(engine):
    done = run(engine, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.returncode == 7
    assert "out\n" in done.stdout
    assert "err" in done.stderr


def test_command_that_is_not_there(engine):
    done = run(engine, "/no/such/program")
    assert done.returncode == 127
    assert "/no/such/program" in done.stderr


def test_file_that_cannot_be_run(engine):
    done = run(engine, "/etc/passwd")
    assert done.returncode == 126


def test_signal_becomes_status(engine):
    # The first process of a pid namespace ignores signals that it does not handle.
    done = run(engine, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?")
    assert done.returncode == 143


def test_user_environment_and_folder(engine):
    done = run(engine, "sh", "-c", "id -u; id -g; echo $A; pwd",
               options=("-u", "user", "-e", "A=b c", "-w", "/var"))
    assert done.stdout.split("\n")[:4] == ["1000", "1000", "b c", "/var"]


def test_standard_input(engine):
    done = run(engine, "cat", options=("-i",), stdin=None, input="through\n")
    assert done.stdout == "through\n"


def test_terminal(engine):
    script = f"{' '.join(engine.base)} run --rm -t --network none {engine.image} sh -c 'tty; stty size'"
    done = subprocess.run(["script", "-qec", script, "/dev/null"], env=engine.env, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "/dev/pts/0" in done.stdout or "/dev/console" in done.stdout


def test_exec(engine, name):
    detached(engine, name, "sleep", "1000")
    assert engine.call("exec", name, "echo", "inside").strip() == "inside"
    assert engine.run("exec", name, "sh", "-c", "exit 5").returncode == 5
    assert engine.call("exec", "-u", "1000", "-e", "Q=1", "-w", "/tmp", name, "sh", "-c",
                       "id -u; echo $Q; pwd").split() == ["1000", "1", "/tmp"]
    # The exec'd process is in the container's pid namespace and sees its first process.
    assert "sleep" in engine.call("exec", name, "cat", "/proc/1/cmdline")


def test_exec_of_what_is_not_there(engine, name):
    detached(engine, name, "sleep", "1000")
    done = engine.run("exec", name, "/no/such/program")
    assert done.returncode in (126, 127)


def test_logs_stop_and_wait(engine, name):
    detached(engine, name, "sh", "-c", "trap 'echo stopping; exit 3' TERM; echo ready; "
                                       "while :; do sleep 0.1; done")
    wait_for("output", lambda: "ready" in engine.call("logs", name))
    engine.call("stop", "-t", "10", name)
    assert engine.call("wait", name).strip() == "3"
    assert "stopping" in engine.call("logs", name)


def test_kill(engine, name):
    detached(engine, name, "sleep", "1000")
    engine.call("kill", "-s", "KILL", name)
    assert engine.call("wait", name).strip() == "137"


def test_stop_then_start_again(engine, name):
    detached(engine, name, "sh", "-c", "echo run >> /runs; sleep 1000")
    wait_for("first run", lambda: engine.run("exec", name, "cat", "/runs").stdout == "run\n")
    engine.call("stop", "-t", "0", name)
    engine.call("start", name)
    wait_for("second run",
             lambda: engine.run("exec", name, "cat", "/runs").stdout == "run\nrun\n")


def test_pause(engine, name):
    detached(engine, name, "sh", "-c", "while :; do echo x >> /ticks; sleep 0.05; done")
    wait_for("ticks", lambda: engine.run("exec", name, "cat", "/ticks").stdout)
    engine.call("pause", name)
    state = json.loads(engine.call("inspect", name))[0]["State"]
    assert state["Status"] == "paused"
    engine.call("unpause", name)
    assert engine.call("exec", name, "echo", "awake").strip() == "awake"


def test_removing_a_paused_one(engine, name):
    detached(engine, name, "sleep", "1000")
    engine.call("pause", name)
    pid = json.loads(engine.call("inspect", name))[0]["State"]["Pid"]
    engine.call(*engine.remove, name)
    wait_for("the end of its process", lambda: not os.path.exists(f"/proc/{pid}/root"))


def test_limits_and_update(engine, name):
    detached(engine, name, "sleep", "1000", options=("--memory", "64m", "--pids-limit", "50"))
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    assert engine.call("exec", name, "sh", "-c", limit).strip() == str(64 << 20)
    engine.call("update", "--memory", "96m", *(["--memory-swap", "96m"]
                                               if isinstance(engine, Docker) else []), name)
    assert engine.call("exec", name, "sh", "-c", limit).strip() == str(96 << 20)


def test_out_of_memory(engine, name):
    detached(engine, name, "sh", "-c", "sleep 0.5; dd if=/dev/zero of=/dev/null bs=80M count=1",
             options=("--memory", "16m"))
    assert engine.call("wait", name).strip() in ("137", "1")


def test_stats_and_top(engine, name):
    detached(engine, name, "sleep", "1000")
    fmt = "{{json .}}" if isinstance(engine, Docker) else "json"
    stats = json.loads(engine.call("stats", "--no-stream", "--format", fmt, name))
    row = stats[0] if isinstance(stats, list) else stats
    assert {k.lower() for k in row} & {"cpuperc", "cpu_percent"}
    assert "sleep" in engine.call("top", name)


def test_capabilities_seccomp_and_privileges(engine):
    status = "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status"
    done = run(engine, "sh", "-c", status, options=("--cap-drop", "all", "--cap-add", "chown",
                                                    "--security-opt", "no-new-privileges"))
    fields = dict(line.split(":\t") for line in done.stdout.strip().split("\n"))
    assert int(fields["CapEff"], 16) == 1
    assert int(fields["CapBnd"], 16) == 1
    assert fields["Seccomp"] == "2"
    assert fields["NoNewPrivs"] == "1"


def test_privileged(engine):
    """Also where a capability cannot be granted: that is warned of, not refused.

    Spec: oci-runtime 1.3, config.md, Linux Process, capabilities
    """
    done = run(engine, "sh", "-c", "mount -t tmpfs none /tmp && echo mounted",
               options=("--privileged",))
    assert done.stdout == "mounted\n", done.stderr


def test_read_only_and_tmpfs(engine):
    done = run(engine, "sh", "-c", "touch /x; touch /tmp/y && echo yes",
               options=("--read-only", "--tmpfs", "/tmp"))
    assert "Read-only" in done.stderr
    assert done.stdout == "yes\n"


def test_volume(engine, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    done = run(engine, "sh", "-c", "cat /v/file; echo back > /v/new", options=("-v", f"{tmp_path}:/v"))
    assert done.stdout == "from the host\n"
    assert (tmp_path / "new").read_text() == "back\n"


def test_masked_and_read_only_paths(engine):
    secret = next(p for p in ("/proc/timer_list", "/proc/keys") if os.path.exists(p))
    assert open(secret).read()
    done = run(engine, "sh", "-c", f"cat {secret}; echo 1 > /proc/sys/vm/overcommit_memory")
    assert done.stdout == ""
    assert "Read-only" in done.stderr


def test_host_name_and_sysctl(engine):
    done = run(engine, "sh", "-c", "hostname; cat /proc/sys/kernel/msgmax",
               options=("-h", "inside", "--sysctl", "kernel.msgmax=12345"))
    assert done.stdout.split() == ["inside", "12345"]


def test_device(engine):
    done = run(engine, "sh", "-c", "head -c 4 /dev/other | wc -c",
               options=("--device", "/dev/zero:/dev/other"))
    assert done.stdout.strip() == "4"


def test_copy(engine, name, tmp_path):
    detached(engine, name, "sleep", "1000")
    (tmp_path / "in").write_text("copied\n")
    engine.call("cp", str(tmp_path / "in"), f"{name}:/tmp/there")
    assert engine.call("exec", name, "cat", "/tmp/there") == "copied\n"


def test_nothing_is_left(engine, name):
    detached(engine, name, "sleep", "1000")
    full = json.loads(engine.call("inspect", name))[0]["Id"]
    engine.call(*engine.remove, name)
    left = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"*{full}*"], capture_output=True,
                          text=True).stdout
    assert left == ""
    assert full not in open("/proc/self/mountinfo").read()


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    made = Podman(tmp_path_factory.mktemp("podman-pod"))
    yield made
    made.close()


def test_podman_pod(podman):
    podman.call("pod", "create", "--name", "duo", "--network", "none")
    podman.call("run", "-d", "--pod", "duo", "--name", "one", podman.image, "sleep", "1000")
    podman.call("run", "-d", "--pod", "duo", "--name", "two", podman.image, "sleep", "1000")
    spaces = [podman.call("exec", n, "ls", "-l", "/proc/self/ns/net").split("->")[1]
              for n in ("one", "two")]
    assert spaces[0] == spaces[1]
    podman.call("pod", "stop", "-t", "0", "duo")
    podman.call("pod", "rm", "-f", "duo")


def test_podman_user_namespace(podman):
    done = podman.run("run", "--rm", "--network", "none", "--uidmap", "0:200000:65536",
                      "--gidmap", "0:200000:65536", podman.image, "cat", "/proc/self/uid_map")
    assert done.stdout.split() == ["0", "200000", "65536"], done.stderr


def test_podman_init(podman):
    done = podman.run("run", "--rm", "--init", "--network", "none", podman.image, "ps")
    assert done.returncode == 0, done.stderr
    assert "catatonit" in done.stdout or "init" in done.stdout


@pytest.fixture(scope="module")
def containerd(tmp_path_factory):
    made = Containerd(tmp_path_factory.mktemp("containerd"))
    yield made
    made.close()


def test_containerd_run(containerd):
    done = containerd.run_container("c1", "/bin/sh", "-c", "echo hi; exit 4")
    assert done.stdout == "hi\n", done.stderr
    assert done.returncode == 4


def test_containerd_task(containerd):
    containerd.call("run", "-d", "--runc-binary", RUNTIME, "--rootfs",
                    containerd.rootfs, "c2", "/bin/sleep", "1000")
    assert containerd.call("task", "exec", "--exec-id", "e1", "c2", "/bin/echo", "x").strip() == "x"
    containerd.call("task", "pause", "c2")
    assert "PAUSED" in containerd.call("task", "ls")
    containerd.call("task", "resume", "c2")
    assert len(containerd.call("task", "ps", "c2").strip().split("\n")) == 2
    containerd.call("task", "kill", "-s", "SIGKILL", "c2")
    wait_for("its end", lambda: "STOPPED" in containerd.call("task", "ls"))
    containerd.call("task", "rm", "c2")
    containerd.call("container", "rm", "c2")
