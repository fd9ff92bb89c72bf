# SPDX-License-Identifier: Apache-2.0
"""The command line against a daemon: run, exec, attach and their terminals."""

import os
import re
import signal
import subprocess
import time

import pytest

from lib.daemon import BIN
from lib.wait import wait_for

ROOT = ("--network", "none", "--userns", "host", "--rootfs")


@pytest.fixture
def name(daemon, request):
    """A name for an instance, which is gone after the test."""
    n = re.sub(r"[^a-z0-9]+", "-", request.node.name).strip("-")
    yield n
    daemon.holm("rm", "-f", n, check=False)


def test_exit_codes(run):
    assert run("sh", "-c", "exit 7", options=["--rm"]).returncode == 7
    assert run("sh", "-c", "sh -c 'kill -9 $$'; exit $?", options=["--rm"]).returncode == 137
    missing = run("nosuchprogram", options=["--rm"])
    assert missing.returncode == 127 and "not found" in missing.stderr
    folder = run("/etc", options=["--rm"])
    assert folder.returncode == 126
    ours = run("true", options=["--rm", "--cpus", "lots"])
    assert ours.returncode == 125 and "cpus" in ours.stderr


def test_streams_stay_apart(run):
    r = run("sh", "-c", "echo out; echo err >&2", options=["--rm"])
    assert (r.stdout, r.stderr) == ("out\n", "err\n")


def test_stdin(run):
    text = "".join(f"line {n}\n" for n in range(20000))
    r = run("cat", options=["--rm", "-i"], input=text)
    assert r.returncode == 0 and r.stdout == text
    # Without -i nothing is read.
    assert run("cat", options=["--rm"], input="text").stdout == ""


def test_much_output_through_a_slow_pipe(daemon, rootfs):
    cmd = [str(BIN / "holm"), "run", "--rm", *ROOT, rootfs, "seq", "1", "200000"]
    p = subprocess.Popen(cmd, env=daemon.env, stdout=subprocess.PIPE)
    time.sleep(0.5)
    out = p.stdout.read()
    assert p.wait() == 0
    assert out == b"".join(b"%d\n" % n for n in range(1, 200001))


def test_rm_leaves_nothing(daemon, run, name):
    assert run("true", options=["--rm", "--name", name]).returncode == 0
    wait_for("its end", lambda: daemon.holm("inspect", name, check=False).returncode == 3)


def test_signals_are_passed_on(daemon, rootfs, name):
    p = subprocess.Popen([str(BIN / "holm"), "run", "--rm", "--name", name, *ROOT, rootfs, "sh",
                          "-c", "trap 'echo got it; exit 9' TERM; echo ready; "
                          "while :; do sleep 0.05; done"], env=daemon.env, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.stdout.read() == b"got it\n"
    assert p.wait(60) == 9


def test_terminal(daemon, rootfs, name):
    t = daemon.terminal("run", "-it", "--name", name, *ROOT, rootfs, "sh", rows=31, cols=91)
    t.until(b"# ")
    assert t.is_raw()
    t.type(b"stty size\n")
    t.until(b"31 91")
    t.resize(40, 120)
    os.kill(t.proc.pid, signal.SIGWINCH)
    t.type(b"while [ \"$(stty size)\" != '40 120' ]; do sleep 0.05; done; echo is\"\" resized\n")
    t.until(b"is resized")
    t.type(b"exit 4\n")
    assert t.wait() == 4
    assert not t.is_raw()


def test_detach_and_attach(daemon, rootfs, name):
    t = daemon.terminal("run", "-it", "--name", name, *ROOT, rootfs, "sh")
    t.until(b"# ")
    t.type(b"\x10")       # held back: it may be the first of the detach keys
    t.type(b"\x11")
    assert t.wait() == 0
    assert not t.is_raw()
    assert daemon.inspect(name)["status"]["state"] == "running"
    t = daemon.terminal("attach", "--detach-keys", "ctrl-x,x", name)
    t.type(b"echo still $((40+2))\n")
    t.until(b"still 42")
    t.type(b"\x18x")
    assert t.wait() == 0
    t = daemon.terminal("attach", name)
    t.type(b"exit 6\n")
    assert t.wait() == 6


def test_terminal_is_asked_for(run):
    r = run("true", options=["-it"])
    assert r.returncode == 125 and "leave out -t" in r.stderr


def test_exec(daemon, run, name):
    assert run("sleep", "1000", options=["-d", "--name", name]).returncode == 0
    r = daemon.holm("exec", "-i", "-e", "A=b c", "-w", "/tmp", name, "sh", "-c",
                    "pwd; echo $A; cat; exit 11", input="typed", check=False)
    assert (r.returncode, r.stdout) == (11, "/tmp\nb c\ntyped")
    assert daemon.holm("exec", name, "nosuch", check=False).returncode == 127
    assert daemon.holm("exec", "nosuchinstance", "true", check=False).returncode == 125
    t = daemon.terminal("exec", "-it", name, "sh", rows=22, cols=66)
    t.until(b"# ")
    t.type(b"stty size; exit 3\n")
    t.until(b"22 66")
    assert t.wait() == 3


def test_daemon_dies_under_a_session(daemon, rootfs, name):
    """kill -9 of the daemon: the terminal goes on, and so does the instance."""
    t = daemon.terminal("run", "-it", "--name", name, *ROOT, rootfs, "sh")
    t.until(b"# ")
    pid = daemon.inspect(name)["status"]["pid"]
    daemon.kill()
    t.type(b"echo alive $((6*7))\n")
    t.until(b"alive 42")
    daemon.start()
    status = daemon.inspect(name)["status"]
    assert (status["state"], status["pid"]) == ("running", pid)
    t.type(b"exit 8\n")
    assert t.wait() == 8
    daemon.holm("wait", name)
    assert daemon.inspect(name)["status"]["exit_code"] == 8


def test_end_while_the_daemon_is_away(daemon, run, name):
    assert run("sh", "-c", "sleep 0.5; exit 5", options=["-d", "--name", name]).returncode == 0
    daemon.kill()
    time.sleep(1)
    daemon.start()
    assert daemon.holm("wait", name).stdout == "5\n"
    status = daemon.inspect(name)["status"]
    assert (status["state"], status["exit_code"]) == ("exited", 5)


def test_a_reader_that_rests_loses_nothing(daemon, rootfs):
    """The reader of `holm run | ...` stops for longer than an attached client may."""
    cmd = [str(BIN / "holm"), "run", "--rm", *ROOT, rootfs, "seq", "1", "100000"]
    p = subprocess.Popen(cmd, env=daemon.env, stdout=subprocess.PIPE)
    p.send_signal(signal.SIGSTOP)
    time.sleep(11)
    p.send_signal(signal.SIGCONT)
    out = p.stdout.read()
    assert p.wait() == 0 and out.endswith(b"\n100000\n") and out.count(b"\n") == 100000
