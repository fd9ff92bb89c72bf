"""One more process in a container; terminals."""
import json
import os
import pathlib
import signal
import subprocess

import pytest

from lib.oci import Box, ConsoleSocket, in_terminal, leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=["root", "userns"])
def box(request, tmp_path):
    with Box(tmp_path, userns=request.param == "userns") as b:
        yield b
    assert leftovers(b) == []


@pytest.fixture
def running(box):
    box.detached("/bin/sleep", "1000")
    return box


@pytest.fixture
def short():
    """A folder with a short name, for sockets."""
    path = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/rtXXXXXX"], check=True, text=True,
                                       capture_output=True).stdout.strip())
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


def test_status_and_output(running):
    done = running.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert running.exec("/bin/sh", "-c", "kill -KILL $$").returncode == 137


def test_all_namespaces(running):
    names = "cgroup ipc mnt net pid uts user"
    done = running.exec("/bin/sh", "-c",
                        f"for n in {names}; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done")
    lines = done.stdout.split()
    assert lines[0::2] == lines[1::2]
    assert len(lines) == 14


def test_same_cgroups(running):
    done = running.exec("/bin/cat", "/proc/1/cgroup", "/proc/self/cgroup")
    lines = done.stdout.splitlines()
    half = len(lines) // 2
    assert lines[:half] == lines[half:]


def test_input(running):
    assert running.exec("/bin/cat", stdin=None, input="text").stdout == "text"


def test_options(running):
    done = running.exec("/bin/sh", "-c", "pwd; id -u; id -g; id -G; echo $A $B",
                        options=["--cwd", "/tmp", "--user", "12:34", "-g", "56", "-e", "A=b",
                                 "--env", "B=c d"])
    assert done.stdout == "/tmp\n12\n34\n34 56\nb c d\n", done.stderr


@pytest.mark.parametrize("user", ["-1", "4294967295", "4294967296", "1x", "", "1:", "root",
                                  "1:4294967295", "99999999999999999999"])
def test_users_that_are_none(running, user):
    done = running.exec("/bin/id", "-u", options=["--user", user])
    assert done.returncode == 255
    assert done.stdout == ""


def test_capabilities(running):
    def mask(kind, *options):
        done = running.exec("/bin/grep", f"Cap{kind}:", "/proc/self/status", options=options)
        return int(done.stdout.split()[1], 16)

    before = mask("Eff")
    assert not before & 1 << 13  # CAP_NET_RAW
    assert mask("Eff", "--cap", "CAP_NET_RAW") == before | 1 << 13
    assert mask("Inh", "--cap", "CAP_NET_RAW") == 0


def test_no_new_privs(running):
    def flag(*options):
        return running.exec("/bin/grep", "NoNewPrivs", "/proc/self/status",
                            options=options).stdout.split()[1]

    assert flag() == "0"
    assert flag("--no-new-privs") == "1"


def test_process_file(running):
    process = {"args": ["/bin/sh", "-c", "pwd; id -u; echo $X; cat /proc/self/oom_score_adj; umask"],
               "cwd": "/var", "env": ["X=y", "PATH=/bin"],
               "user": {"uid": 9, "gid": 9, "umask": 0o27}, "oomScoreAdj": 500}
    path = running.dir / "process.json"
    path.write_text(json.dumps(process))
    done = running.call("exec", "--process", str(path), running.id)
    assert done.stdout == "/var\n9\ny\n500\n0027\n", done.stderr


def test_process_file_that_is_wrong(running):
    path = running.dir / "process.json"
    path.write_text('{"args": ["x"], "cwd": 5}')
    done = running.call("exec", "--process", str(path), running.id)
    assert done.returncode == 255
    assert "/cwd" in done.stderr


def test_detached(running):
    with open(running.dir / "x", "w") as out:
        subprocess.run([running.runtime, "--root", str(running.state), "exec", "--detach",
                        "--pid-file", str(running.dir / "pid"), running.id, "/bin/sleep", "999"],
                       check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
    pid = int((running.dir / "pid").read_text())
    assert pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\x00999\x00"


@pytest.mark.parametrize("argv, text", [
    (["nosuch"], "executable file not found in $PATH"),
    (["/no/such"], "no such file or directory"),
    (["/etc/passwd"], "permission denied"),
])
def test_program_that_cannot_run(running, argv, text):
    done = running.exec(*argv)
    assert done.returncode == 255
    assert text in done.stderr


def test_nothing_of_the_host_is_open(running):
    done = running.exec("/bin/ls", "/proc/self/fd")
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_folder_that_leads_out(running):
    """CVE-2024-21626: the working directory as a descriptor of the runtime."""
    for fd in range(3, 20):
        done = running.exec("/bin/sh", "-c", "pwd; ls", options=["--cwd", f"/proc/self/fd/{fd}"])
        assert done.returncode == 255, done.stdout


def test_paused(running):
    running.ok("pause", running.id)
    assert "paused" in running.exec("/bin/true").stderr
    with subprocess.Popen([running.runtime, "--root", str(running.state), "exec",
                           "--ignore-paused", running.id, "/bin/echo", "later"],
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as run:
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(0.3)
        running.ok("resume", running.id)
        assert run.stdout.read() == "later\n"
        assert run.wait(60) == 0


def test_created_container(box):
    box.create("/bin/sleep", "1000")
    assert box.exec("/bin/echo", "in").stdout == "in\n"
    assert box.status() == "created"


def test_cgroup(running):
    """A group below the container's that is not there is refused."""
    done = running.exec("/bin/true", options=["--cgroup", "../.."])
    assert done.returncode == 255
    done = running.exec("/bin/true", options=["--cgroup", "none-such"])
    assert done.returncode == 255


def test_signals_go_on(running):
    with subprocess.Popen([running.runtime, "--root", str(running.state), "exec", running.id,
                           "/bin/sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done"],
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as run:
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 5


def test_exec_in_the_foreground_of_a_terminal(running):
    text, status = in_terminal([running.runtime, "--root", str(running.state), "exec", "-t",
                                running.id, "/bin/sh", "-c", "tty; test -t 0 && test -t 1; exit 6"])
    assert status == 6, text
    assert text.startswith("/dev/pts/")


def test_exec_with_a_console_socket(running, short):
    console = ConsoleSocket(short / "s")
    try:
        done = running.exec("/bin/sh", "-c", "tty; cat /dev/tty",
                            options=["--tty", "--detach", "--console-socket", console.path])
        assert done.returncode == 0, done.stderr
        assert console.read(until=b"\n").startswith("/dev/pts/")
        os.write(console.master, b"typed\n\x04")
        assert "typed" in console.read()
    finally:
        console.close()


def test_run_in_a_terminal(box):
    box.config["process"]["terminal"] = True
    box.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    box.config["process"]["args"] = ["/bin/sh", "-c", "tty; ls -l /dev/console; read x; echo got $x; exit 4"]
    box.write()
    text, status = in_terminal([box.runtime, "--root", str(box.state), "run", "--bundle",
                                str(box.dir), box.id], data=b"typed\n")
    assert status == 4, text
    assert "/dev/pts/0" in text
    assert "got typed" in text
    assert "/dev/console" in text


def test_create_with_a_console_socket(box, short):
    console = ConsoleSocket(short / "s")
    try:
        box.config["process"]["terminal"] = True
        box.config["process"]["consoleSize"] = {"height": 33, "width": 77}
        box.create("/bin/sh", "-c", "busybox stty size; tty; echo to the console > /dev/console",
                   options=["--console-socket", console.path])
        box.ok("start", box.id)
        assert console.read() == "33 77\n/dev/pts/0\nto the console\n"
    finally:
        console.close()


def test_terminal_without_a_way_to_hand_it_over(box):
    box.config["process"]["terminal"] = True
    box.write()
    assert "console socket" in box.fails("create", "--bundle", str(box.dir), box.id)
    box.config["process"]["terminal"] = False
    box.write()
    assert "console socket" in box.fails("create", "--console-socket", "/tmp/none", "--bundle",
                                         str(box.dir), box.id)


def test_console_socket_that_is_not_there(box):
    box.config["process"]["terminal"] = True
    box.write()
    assert "/no/such" in box.fails("create", "--console-socket", "/no/such", "--bundle",
                                   str(box.dir), box.id)
    assert leftovers(box) == []
