# SPDX-License-Identifier: Apache-2.0
"""holm-shim, spoken to directly. The runtime is holm-oci, or what HOLM_TEST_RUNTIME names."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest

from lib.shim import REASONS, STATES, Client, Connection, Shim, ShimError, alive
from lib.wait import wait_for


@pytest.fixture
def make(programs, busybox_rootfs, tmp_path):
    made = []
    own = os.path.join(programs, "holm-oci")
    runtime = os.environ.get("HOLM_TEST_RUNTIME") or (own if os.path.exists(own) else
                                                      "/usr/sbin/runc")

    def build(args, **kw):
        s = Shim(programs, str(tmp_path), busybox_rootfs, args,
                 runtime=kw.pop("run_with", runtime), **kw)
        made.append(s)
        return s

    yield build
    for s in made:
        s.clean()


def add_mount(config):
    config["mounts"].append({"destination": "/x", "type": "bind", "options": ["bind"],
                             "source": "/no/such/folder, permission denied"})


def test_words_are_no_reason(make):
    """What the runtime says for people does not decide the exit status."""
    shim = make(["true"], change=add_mount)
    conn = shim.connect()
    client = conn.attach(streams=6)
    with pytest.raises(ShimError) as error:
        conn.call("start")
    assert "permission denied" in error.value.reply["message"]
    assert REASONS[error.value.reply["reason"]] == "runtime"
    assert client.all()[3] == 125
    conn.wait_state("failed")
    assert shim.record()["exit_code"] == 125
    conn.call("ack")
    shim.wait_left()


def test_daemon_of_version_1(make):
    """It is told what that version has, and nothing else."""
    shim = make(["nosuchprogram"])
    conn = shim.connect(versions=(1, 1))
    assert conn.welcome["version"] == 1
    with pytest.raises(ShimError) as error:
        conn.call("start")
    assert (error.value.reply["exit_code"], error.value.reply["reason"]) == (127, 0)
    failed = conn.wait_state("failed")
    assert failed["exit_code"] == 127 and failed["error"]
    assert (failed["reason"], failed["errnum"], failed["code"]) == (0, 0, 0)
    conn.call("ack")
    shim.wait_left()


def finish(shim, conn):
    """The container is over: acknowledge, and see the shim leave."""
    conn.wait_state("gone", "failed")
    conn.call("ack")
    shim.wait_left()


def test_whole_life(make):
    shim = make(["sh", "-c", "echo out; echo err >&2; exit 7"])
    conn = shim.connect()
    assert conn.welcome["instance"] == shim.id and conn.welcome["pid"] == shim.pid
    assert STATES[conn.wait_event("status")["state"]] == "idle"
    client = conn.attach(streams=6)
    assert conn.call("start")["errnum"] == 0
    running = conn.wait_state("running")
    assert running["pid"] > 0 and running["started_ns"] > 0
    exited = conn.wait_state("exited")
    assert (exited["exit_code"], exited["signal"], exited["oom"]) == (7, 0, False)
    record = shim.record()
    assert record["exit_code"] == 7 and record["instance"] == shim.id
    assert record["started_ns"] <= record["exited_ns"]
    assert client.all() == (b"out\n", b"err\n", b"", 7)
    finish(shim, conn)
    lines = shim.log_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "
    assert sorted(re.sub(stamp, "", line) for line in lines) == ["stderr F err", "stdout F out"]
    listing = subprocess.run([shim.runtime, "--root", shim.oci_root, "list", "-q"],
                             capture_output=True, text=True, check=False)
    assert shim.id not in listing.stdout
    assert not os.path.exists(os.path.join(shim.dir, "shim.sock"))


def test_signal_status(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    pid = conn.call("start")["value"]
    assert alive(pid)
    conn.call("signal", signal=9)
    exited = conn.wait_state("exited")
    assert (exited["exit_code"], exited["signal"]) == (137, 9)
    finish(shim, conn)


def test_no_daemon_when_it_ends(make):
    """The exit is found by a daemon that was not there when it happened."""
    shim = make(["sh", "-c", "sleep 0.3; exit 3"])
    conn = shim.connect()
    conn.call("start")
    conn.close()
    wait_for("the record", lambda: os.path.exists(os.path.join(shim.dir, "exit.json")))
    assert shim.record()["exit_code"] == 3
    conn = shim.connect(epoch=2)
    status = conn.wait_state("gone")
    assert status["exit_code"] == 3
    conn.call("ack")
    shim.wait_left()


def test_no_daemon_comes(make):
    """Nothing runs and nobody asks: the record stays, the shim does not."""
    shim = make(["sh", "-c", "exit 3"], options=["--patience", "1"])
    conn = shim.connect()
    conn.call("start")
    conn.wait_state("gone")
    conn.close()
    shim.wait_left()
    assert shim.record()["exit_code"] == 3
    failed = make(["/nosuch/path"], options=["--patience", "1"])
    conn = failed.connect()
    with pytest.raises(ShimError):
        conn.call("start")
    conn.close()
    failed.wait_left()
    assert failed.record()["exit_code"] == 127


def test_folder_removed(make):
    """No daemon can find it any more: it leaves as soon as its container has ended."""
    shim = make(["sleep", "1000"], options=["--patience", "3600"])
    conn = shim.connect()
    pid = conn.call("start")["value"]
    conn.close()
    shutil.rmtree(shim.dir)
    assert alive(shim.pid) and alive(pid)
    os.kill(pid, signal.SIGKILL)
    shim.wait_left()
    listing = subprocess.run([shim.runtime, "--root", shim.oci_root, "list", "-q"],
                             capture_output=True, text=True, check=False)
    assert shim.id not in listing.stdout


def full(pid):
    """Leave a process no descriptor; its old limit."""
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    free = next(n for n in range(len(used) + 1) if n not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, old[1]))
    return old


def test_no_descriptor_for_the_first_connection(make):
    """A shim that nobody can reach says why and leaves."""
    shim = make(["true"])
    full(shim.pid)
    with pytest.raises((EOFError, ConnectionError)):
        shim.connect()
    shim.wait_left(30)
    with open(os.path.join(shim.dir, "shim.log")) as f:
        assert "Too many open files" in f.read()


def test_no_descriptor_for_another_connection(make):
    """It goes on, and takes the connection once it can."""
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    old = full(shim.pid)
    waiting = shim.connect(hello=False)
    serial = waiting.send("hello", version_min=1, version_max=1, epoch=1, instance=shim.id)
    conn.status()
    resource.prlimit(shim.pid, resource.RLIMIT_NOFILE, old)
    assert waiting.answer(serial, 30)["pid"] == shim.pid
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_terminated_when_nothing_runs(make):
    shim = make(["true"], options=["--patience", "3600"])
    os.kill(shim.pid, signal.SIGTERM)
    shim.wait_left()


@pytest.mark.parametrize("args,code", [(["nosuchprogram"], 127), (["/nosuch/path"], 127),
                                       (["/etc"], 126)])
def test_start_fails(make, args, code):
    shim = make(args)
    conn = shim.connect()
    client = conn.attach(streams=6)
    with pytest.raises(ShimError) as error:
        conn.call("start")
    reason = "command-not-found" if code == 127 else "command-not-executable"
    assert REASONS[error.value.reply["reason"]] == reason
    assert error.value.reply["exit_code"] == 0 and error.value.reply["message"]
    out, err, messages, status = client.all()
    assert status == code and messages
    failed = conn.wait_state("failed")
    assert failed["error"] and REASONS[failed["reason"]] == reason
    assert (failed["errnum"], failed["code"]) == (error.value.errnum, error.value.reply["code"])
    assert failed["exit_code"] == code
    assert shim.record()["exit_code"] == code and shim.record()["error"]
    conn.call("ack")
    shim.wait_left()


def test_stdin(make):
    shim = make(["cat"], interactive=True)
    conn = shim.connect()
    client = conn.attach()
    client.stdin(b"before start\n")
    conn.call("start")
    data = os.urandom(300000)
    client.sock.settimeout(60)
    client.until(b"before start\n")
    got = b""
    for at in range(0, len(data), 30000):
        client.stdin(data[at:at + 30000])
        while len(got) < at + 30000:
            kind, part = client.frame()
            assert kind == 1
            got += part
    assert got == data
    client.send(1)
    assert client.all() == (b"", b"", b"", 0)
    finish(shim, conn)


def test_stdin_once(make):
    """The going of a client ends standard input only where it said so."""
    shim = make(["cat"], interactive=True)
    conn = shim.connect()
    conn.call("start")
    stays = conn.attach(streams=6)
    passing = conn.attach()
    passing.stdin(b"one\n")
    stays.until(b"one\n")
    passing.close()
    last = conn.attach(stdin_once=True)
    last.stdin(b"two\n")
    stays.until(b"two\n")
    last.close()
    assert stays.all() == (b"", b"", b"", 0)
    finish(shim, conn)


def test_stdin_once_of_a_client_that_leaves_before_output(make):
    """That nobody takes the output is noticed first; standard input ends all the same."""
    shim = make(["sh", "-c", "sleep 0.5; echo out; cat; exit 3"], interactive=True)
    conn = shim.connect()
    conn.call("start")
    client = conn.attach(stdin_once=True)
    client.stdin(b"in\n")
    os.kill(shim.pid, signal.SIGSTOP)
    time.sleep(1)
    client.close()
    os.kill(shim.pid, signal.SIGCONT)
    assert conn.wait_state("exited")["exit_code"] == 3
    assert "in" in shim.log_text()
    finish(shim, conn)


def test_input_of_a_client_that_left_is_read(make):
    """What was written before the end of a connection reaches a process that is slow to read."""
    shim = make(["sh", "-c", "trap 'wc -c; exit' USR1; echo ready; while :; do sleep 0.1; done"],
                interactive=True)
    conn = shim.connect()
    conn.call("start")
    wait_for("its trap", lambda: os.path.exists(shim.log) and "ready" in shim.log_text())
    stays = conn.attach(streams=6)
    client = conn.attach(stdin_once=True)
    sent = 0
    client.sock.settimeout(1)
    try:
        while sent < 1 << 24:
            client.stdin(b"x" * 1000)
            sent += 1000
    except TimeoutError:
        pass
    client.close()
    time.sleep(0.2)
    conn.call("signal", signal=signal.SIGUSR1)
    out = stays.all()[0]
    assert sent > 100000 and int(out) in range(sent, sent + 1008), (sent, out)
    finish(shim, conn)


def test_terminal(make):
    shim = make(["sh"], terminal=True, interactive=True)
    conn = shim.connect()
    client = conn.attach()
    conn.call("start", rows=33, cols=77)
    client.stdin(b"stty size; tty\n")
    client.until(b"33 77")
    client.send(2, b"\0\x28\0\x64")
    client.stdin(b"stty size\n")
    client.until(b"40 100")
    conn.call("resize", rows=50, cols=132)
    client.stdin(b"stty size\n")
    client.until(b"50 132")
    # A detached client does no harm; the next one goes on.
    client.send(4)
    assert client.all()[3] == -1
    client = conn.attach()
    client.stdin(b"exit 5\n")
    assert client.all()[3] == 5
    finish(shim, conn)


def test_terminal_end_of_file(make):
    shim = make(["cat"], terminal=True, interactive=True)
    conn = shim.connect()
    conn.call("start")
    conn.call("close-stdin")
    assert conn.wait_state("exited")["exit_code"] == 0
    finish(shim, conn)


def test_exec(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    ours, theirs = socket.socketpair()
    pid = conn.call("exec", exec="one", open_stdin=True, connection=theirs.fileno(), streams=7,
                    process=shim.process(["sh", "-c", "cat; echo problem >&2; exit 9"]))["value"]
    theirs.close()
    assert pid > 0
    client = Client(ours)
    client.stdin(b"to and fro")
    client.send(1)
    assert client.all() == (b"to and fro", b"problem\n", b"", 9)
    ended = conn.wait_event("exec-status", lambda f: not f["running"])
    assert (ended["exec"], ended["exit_code"]) == ("one", 9)

    # Its end is remembered for a daemon that comes later, until it is acknowledged.
    later = shim.connect(epoch=2)
    assert later.wait_event("exec-status")["exit_code"] == 9
    later.call("ack", exec="one")
    client.close()

    def forgotten():
        try:
            later.call("ack", exec="one")
        except ShimError as error:
            return error.errnum == errno.ENOENT
        return False

    wait_for("the session's end", forgotten)
    # What is said in a session is not in the container's log.
    assert not os.path.exists(shim.log) or "problem" not in shim.log_text()
    later.call("signal", signal=9)
    finish(shim, later)


def test_exec_terminal_and_signal(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    conn.call("exec", exec="t", terminal=True, open_stdin=True, rows=11, cols=22,
              process=shim.process(["sh"], terminal=True))
    client = conn.attach(exec="t")
    client.stdin(b"stty size\n")
    client.until(b"11 22")
    conn.call("resize", exec="t", rows=12, cols=23)
    client.stdin(b"stty size\n")
    client.until(b"12 23")
    conn.call("signal", exec="t", signal=9)
    assert client.all()[3] == 137
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_exec_fails(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    for args, code, reason in ((["nosuchprogram"], 127, "command-not-found"),
                               (["/etc"], 126, "command-not-executable")):
        ours, theirs = socket.socketpair()
        with pytest.raises(ShimError) as error:
            conn.call("exec", exec="bad", connection=theirs.fileno(), streams=6,
                      process=shim.process(args))
        theirs.close()
        assert REASONS[error.value.reply["reason"]] == reason, error.value
        assert Client(ours).all()[3] == code
    wait_for("its files to go", lambda: not [n for n in os.listdir(shim.dir)
                                             if n.startswith(("x-", "rt-"))])
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_client_that_is_not_taken_is_told(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    conn.call("signal", signal=9)
    conn.wait_state("exited")
    for name, fields in (("exec", {"exec": "late", "process": shim.process(["true"])}),
                         ("attach", {"exec": "unknown"})):
        ours, theirs = socket.socketpair()
        with pytest.raises(ShimError) as error:
            conn.call(name, connection=theirs.fileno(), streams=7, **fields)
        theirs.close()
        assert Client(ours).all() == (b"", b"", error.value.reply["message"].encode(), 125)
    finish(shim, conn)


def test_many_short_execs(make):
    """Processes that end before their start was reported keep their status."""
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    for n in range(12):
        name = f"e{n}"
        conn.call("exec", exec=name, process=shim.process(["sh", "-c", f"exit {n}"]))
        done = conn.wait_event("exec-status", lambda f: f["exec"] == name and not f["running"])
        assert done["exit_code"] == n
        conn.call("ack", exec=name)
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_pause_resume_update_stats(make):
    shim = make(["sh", "-c", "while :; do echo tick; sleep 0.02; done"])
    conn = shim.connect()
    conn.call("start")
    client = conn.attach(streams=2)
    client.until(b"tick")
    conn.call("pause")
    assert STATES[conn.status()["state"]] == "paused"
    with pytest.raises(ShimError) as error:
        conn.call("exec", exec="no", process=shim.process(["true"]))
    assert error.value.errnum == errno.EINVAL
    # What stood in its pipe comes before the answers to these.
    for _ in range(20):
        conn.status()
    client.buffer = b""
    client.sock.setblocking(False)
    try:
        while client.sock.recv(65536):
            pass
    except BlockingIOError:
        pass
    time.sleep(0.2)
    with pytest.raises(BlockingIOError):
        client.sock.recv(1)
    client.sock.setblocking(True)
    conn.call("resume")
    client.until(b"tick")
    stats = json.loads(conn.call("stats")["text"])
    assert stats["id"] == shim.id
    pids = json.loads(conn.call("pids")["text"])
    assert conn.status()["pid"] in pids
    conn.call("update", resources=json.dumps({"pids": {"limit": 77}}))
    # Killed while paused: it dies all the same.
    conn.call("pause")
    conn.call("signal", signal=9)
    assert conn.wait_state("exited")["exit_code"] == 137
    finish(shim, conn)


def test_signal_to_all_fails(make, programs, tmp_path):
    """What the runtime could not do is no success."""
    real = os.path.join(programs, "holm-oci")
    script = tmp_path / "runtime"
    script.write_text('#!/bin/sh\nfor a; do [ "$a" = kill ] && { echo no fish >&2; exit 1; }; done\n'
                      f'exec {real} "$@"\n')
    script.chmod(0o755)
    shim = make(["sleep", "1000"], run_with=str(script))
    conn = shim.connect()
    conn.call("start")
    with pytest.raises(ShimError) as error:
        conn.call("signal", signal=9, all=True)
    assert "no fish" in error.value.reply["message"]
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_epochs(make):
    shim = make(["sleep", "1000"])
    first = shim.connect(epoch=5)
    first.call("start")
    with pytest.raises(ShimError) as error:
        shim.connect(epoch=4)
    assert error.value.errnum == errno.ESTALE
    same = shim.connect(epoch=5)
    first.call("get-status")
    newer = shim.connect(epoch=6)
    for old in (first, same):
        with pytest.raises((EOFError, ConnectionError)):
            old.call("get-status")
    with pytest.raises(ShimError):
        Connection(shim.dir, "another-instance", epoch=7)
    newer.call("shutdown", kill=True)
    shim.wait_left()


def test_protocol_errors(make):
    shim = make(["true"])
    conn = shim.connect(hello=False)
    with pytest.raises(ShimError) as error:
        conn.call("get-status")
    assert error.value.errnum == errno.EPROTO
    with pytest.raises((EOFError, ConnectionError)):
        conn.receive()
    with pytest.raises(ShimError) as error:
        shim.connect(versions=(3, 9))
    assert error.value.errnum == errno.EPROTO
    # A newer daemon that also speaks our version is welcome.
    conn = shim.connect(versions=(1, 9))
    assert conn.welcome["version"] == 2
    # Garbage ends its own connection and nothing else.
    bad = socket.socket(socket.AF_UNIX)
    bad.connect(os.path.join(shim.dir, "shim.sock"))
    bad.sendall(os.urandom(4096))
    bad.settimeout(60)
    try:
        assert bad.recv(1) == b""
    except ConnectionResetError:
        pass
    with pytest.raises(ShimError) as error:
        conn.call("signal", signal=99)
    assert error.value.errnum == errno.EBADMSG
    assert STATES[conn.status()["state"]] == "idle"
    conn.call("shutdown")
    shim.wait_left()


def test_flood_is_bounded(make):
    """Endless output: the log stays within its bound, the shim's memory small."""
    shim = make(["yes", "a line of output that comes for ever and ever"],
                options=["--log-max-size", "100k", "--log-max-files", "3"])
    conn = shim.connect()
    conn.call("start")
    wait_for("two rotations", lambda: os.path.exists(shim.log + ".2"))
    with open(f"/proc/{shim.pid}/status") as f:
        rss = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
    assert rss < 16384
    conn.call("signal", signal=9)
    conn.wait_state("gone")
    sizes = [os.path.getsize(os.path.join(shim.base, n))
             for n in os.listdir(shim.base) if n.startswith("log")]
    assert len(sizes) == 3 and max(sizes) <= 100 * 1024
    conn.call("ack")
    shim.wait_left()


def test_slow_client_is_dropped(make):
    """A client that never reads holds the container up for its patience, not for ever."""
    shim = make(["sh", "-c", "yes x | head -c 3000000; echo done; sleep 1000"])
    conn = shim.connect()
    lazy = conn.attach(streams=2, stall_ms=700)
    eager = conn.attach(streams=2)
    conn.call("start")
    seen = eager.until(b"done", timeout=60)
    assert len(seen) >= 3000000
    gone = conn.wait_event("attach-end")
    assert (gone["attachment"], gone["errnum"]) == (lazy.number, errno.ETIMEDOUT)
    assert conn.status()["dropped"] == 1
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_slow_reader_loses_nothing(make):
    shim = make(["sh", "-c", "seq 1 60000"])
    conn = shim.connect()
    client = conn.attach(streams=2)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    conn.call("start")
    out = b""
    while True:
        kind, data = client.frame()
        if kind == 16:
            break
        out += data
        time.sleep(0.002)
    assert out == b"".join(b"%d\n" % n for n in range(1, 60001))
    finish(shim, conn)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_log_is_whole_when_the_end_is_told(make, tmp_path):
    """What a process wrote before it ended is in the log before anyone hears of the end."""
    size = 60000
    shim = make(["sh", "-c", f"trap 'head -c {size} /dev/zero | tr \\\\0 x; exit 5' TERM; echo ready; "
                             "while :; do sleep 0.1; done"])
    conn = shim.connect()
    pid = conn.call("start")["value"]
    wait_for("its trap", lambda: os.path.exists(shim.log) and "ready" in shim.log_text())
    trace = tmp_path / "trace"
    with subprocess.Popen(["strace", "-s", "80", "-o", trace, "-e", "trace=/write,/rename",
                           "-p", str(shim.pid)], stderr=subprocess.PIPE, text=True) as tracer:
        assert "attached" in tracer.stderr.readline()
        # The shim finds the end and all of the output at once.
        os.kill(shim.pid, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGTERM)
            wait_for("its end", lambda: not alive(pid))
        finally:
            os.kill(shim.pid, signal.SIGCONT)
        assert conn.wait_state("exited")["exit_code"] == 5
        finish(shim, conn)
    assert shim.log_text().count("x") == size
    calls = trace.read_text().splitlines()
    told = next(i for i, call in enumerate(calls) if "rename" in call and "exit.json" in call)
    written = [i for i, call in enumerate(calls) if "xxxxxxxx" in call]
    assert written and written[-1] < told


def test_output_after_the_end(make):
    """All that was written before the end arrives, however much it is."""
    shim = make(["sh", "-c", "head -c 60000 /dev/zero; exit 4"])
    conn = shim.connect()
    client = conn.attach(streams=6)
    conn.call("start")
    out, _, _, status = client.all()
    assert len(out) == 60000 and status == 4
    # Attaching when all is over tells the status at once.
    assert conn.attach(streams=6).all() == (b"", b"", b"", 4)
    finish(shim, conn)


def test_client_signal(make):
    shim = make(["sh", "-c", "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.05; done"])
    conn = shim.connect()
    client = conn.attach(streams=6)
    conn.call("start")
    client.until(b"ready")
    client.send(3, b"\0\0\0\2")
    assert client.all() == (b"caught\n", b"", b"", 8)
    finish(shim, conn)


def test_bad_client(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    for frame in (b"\x09\0\0\0\0\0\0\0", b"\0\1\0\0\0\0\0\0", b"\0\0\0\0\xff\xff\xff\xff",
                  b"\1\0\0\0\0\0\0\1", b"\2\0\0\0\0\0\0\3"):
        client = conn.attach(streams=6)
        client.sock.sendall(frame)
        assert client.frame() is None
        assert conn.wait_event("attach-end")["errnum"] == errno.EPROTO
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_raw_framing(make):
    shim = make(["cat"], interactive=True)
    conn = shim.connect()
    conn.call("start")
    client = conn.attach(framing=1, stdin_once=True, preread=b"early ")
    client.sock.sendall(b"bird")
    client.sock.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        part = client.sock.recv(100)
        if not part:
            break
        got += part
    assert got == b"early bird"
    finish(shim, conn)


def test_network_helper(make, tmp_path):
    """It runs between create and start, with the process's number, and ends with it."""
    script = tmp_path / "helper"
    script.write_text("#!/bin/sh\necho helper for $1 >> $3\nsleep 1000 >/dev/null 2>&1 &\n"
                      "echo $! > $2\n")
    script.chmod(0o755)
    note = tmp_path / "note"
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    pid = conn.call("start", network=[str(script), "{pid}", "{pidfile}", str(note)])["value"]
    assert note.read_text() == f"helper for {pid}\n"
    with open(os.path.join(shim.dir, "net.pid")) as f:
        helper = int(f.read())
    assert alive(helper)
    conn.call("signal", signal=9)
    finish(shim, conn)
    wait_for("the helper's end", lambda: not alive(helper))


def test_network_helper_fails(make, tmp_path):
    script = tmp_path / "helper"
    script.write_text("#!/bin/sh\necho no network today >&2\nexit 1\n")
    script.chmod(0o755)
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    with pytest.raises(ShimError) as error:
        conn.call("start", network=[str(script), "{pid}"])
    assert "no network today" in error.value.reply["message"]
    assert REASONS[error.value.reply["reason"]] == "network"
    finish(shim, conn)


def test_out_of_memory_is_told(make):
    def limit(config):
        config["linux"].setdefault("resources", {})["memory"] = {"limit": 16 << 20,
                                                                 "swap": 16 << 20}

    shim = make(["sh", "-c", "read go; head -c 200000000 /dev/zero | tail"], change=limit,
                interactive=True)
    conn = shim.connect()
    client = conn.attach()
    conn.call("start")
    client.stdin(b"go\n")
    exited = conn.wait_state("exited")
    assert exited["oom"] and shim.record()["oom"]
    finish(shim, conn)


def test_second_shim_is_refused(make, programs):
    shim = make(["sleep", "1000"])
    again = subprocess.run([os.path.join(programs, "holm-shim"), "--bundle", shim.bundle, "--dir",
                            shim.dir, "--oci", shim.runtime, "other"], capture_output=True,
                           text=True, check=False)
    assert again.returncode == 4 and "another shim" in again.stderr
    os.chmod(shim.dir, 0o755)
    again = subprocess.run([os.path.join(programs, "holm-shim"), "--bundle", shim.bundle, "--dir",
                            shim.dir, "--oci", shim.runtime, "other"], capture_output=True,
                           text=True, check=False)
    assert again.returncode == 5 and "0700" in again.stderr
    os.chmod(shim.dir, 0o700)
    conn = shim.connect()
    conn.call("shutdown")
    shim.wait_left()


def test_confinement(make):
    """In its life it holds no capability but that to send signals, and few descriptors."""
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    conn.call("start")
    with open(f"/proc/{shim.pid}/status") as f:
        status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    cap_kill = 1 << 5
    assert int(status["CapEff"], 16) & ~cap_kill == 0
    assert int(status["CapPrm"], 16) & ~cap_kill == 0
    assert int(status["CapInh"], 16) == 0
    assert len(os.listdir(f"/proc/{shim.pid}/fd")) <= 20
    assert os.getsid(shim.pid) == shim.pid
    # The container's process has none of the shim's descriptors.
    pid = conn.status()["pid"]
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    conn.call("signal", signal=9)
    finish(shim, conn)


def test_killed_shim_can_be_cleaned(make):
    shim = make(["sleep", "1000"])
    conn = shim.connect()
    pid = conn.call("start")["value"]
    os.kill(shim.pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionError)):
        conn.receive()
    subprocess.run([shim.runtime, "--root", shim.oci_root, "delete", "--force", shim.id],
                   check=True)
    wait_for("its end", lambda: not alive(pid))
