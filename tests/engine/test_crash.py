# SPDX-License-Identifier: Apache-2.0
"""The daemon, the shims, both and the host itself die at any moment; nothing is lost or half there."""
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import pytest

from lib import leftovers
from lib.daemon import BIN
from lib.wait import PATIENCE, wait_for

IMAGE = "small:1"
WORKERS = 3


def start(daemon, name, *command, options=()):
    return daemon.holm("run", "-d", "--network", "none", "--name", name, *options, IMAGE,
                       *command).stdout.strip()


def status(daemon, name):
    return daemon.inspect(name)["status"]


def state(daemon, name):
    return status(daemon, name)["state"]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def shim_of(daemon, ident):
    found = [pid for pid, text in leftovers.processes(daemon).items()
             if "holm-shim" in text and ident in text]
    assert len(found) == 1, found
    return found[0]


class Expected:
    """What is known of one instance: how it ends by itself, and what it was told."""

    def __init__(self, code):
        self.code = code          # its own exit code
        self.sure = False         # the daemon said that it was made
        self.removed = False      # the daemon said that it was removed
        self.maybe_removed = False
        self.hit = False          # stop or kill was sent, whatever came back
        self.started = False      # the daemon said that it was started


class Worker(threading.Thread):
    """Makes, starts, stops, looks at and removes instances of its own, at random."""

    def __init__(self, daemon, number, seed):
        super().__init__()
        self.daemon_under_test, self.number = daemon, number
        self.random = random.Random(seed)
        self.known = {}
        self.over = threading.Event()
        self.wrong = []
        self.calls = 0

    def holm(self, *args):
        self.calls += 1
        done = subprocess.run([BIN / "holm", *args], env=self.daemon_under_test.env, timeout=90,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode < 0 or "assert" in done.stderr:
            self.wrong.append(f"{args}: {done.returncode} {done.stderr}")
        return done.returncode == 0

    def make(self):
        name = f"w{self.number}-{len(self.known)}"
        e = self.known[name] = Expected(self.random.randrange(1, 100))
        life = self.random.choice((0, 0.2, 1, 3, 1000))
        e.started = self.random.random() < 0.7
        args = ["--network", "none", "--name", name, IMAGE, "sh", "-c",
                f"echo {name}; sleep {life}; exit {e.code}"]
        e.sure = self.holm(*(["run", "-d"] if e.started else ["create"]), *args)
        e.started = e.started and e.sure

    def touch(self, name, e):
        what = self.random.choice(("start", "stop", "kill", "exec", "logs", "rm", "inspect"))
        if what == "start":
            e.started = self.holm("start", name) or e.started
        elif what in ("stop", "kill"):
            e.hit = True
            self.holm(what, *(["-t", "1"] if what == "stop" else []), name)
        elif what == "exec":
            self.holm("exec", name, "true")
        elif what == "rm":
            e.maybe_removed = e.hit = True
            e.removed = self.holm("rm", "-f", name)
        else:
            self.holm(what, name)

    def run(self):
        while not self.over.is_set():
            there = [(n, e) for n, e in self.known.items() if not e.removed]
            if len(there) < 3 or (len(there) < 8 and self.random.random() < 0.3):
                self.make()
            else:
                self.touch(*self.random.choice(there))


def settled(daemon):
    """All instances, once none is starting."""
    def look():
        rows = json.loads(daemon.holm("ps", "-a", "--json").stdout)
        return all(r["state"] in ("created", "running", "exited") for r in rows) and (rows or [0])
    rows = wait_for("instances to settle", look)
    return [] if rows == [0] else rows


def check_one(daemon, name, e, row):
    if e.removed:
        assert row is None, f"{name} was removed and is {row}"
        return
    if row is None:
        assert not e.sure or e.maybe_removed, f"{name} is lost"
        return
    if row["state"] == "running":
        if not alive(row["pid"]):  # its own end came in between: that must be known by now
            wait_for(f"the end of {name}", lambda: state(daemon, name) != "running")
            return
        done = daemon.holm("exec", name, "echo", "here", check=False)
        if done.stdout != "here\n":  # then its end came in between: its first process dies last
            wait_for(f"the end of {name} ({done.returncode} {done.stderr})",
                     lambda: not alive(row["pid"]))
    elif row["state"] == "exited":
        detail = status(daemon, name)
        allowed = {e.code} | ({137, 143} if e.hit else set())
        assert detail["exit_code"] in allowed, f"{name}: {detail}"
        if detail["exit_code"] == e.code:
            assert name in daemon.holm("logs", name).stdout
    else:
        assert not e.started, f"{name} was started and is said to be only created"


def storm(daemon, seconds, seed):
    print("seed", seed)
    chance = random.Random(seed)
    workers = [Worker(daemon, n, chance.random()) for n in range(WORKERS)]
    for w in workers:
        w.start()
    kills = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 1.5))
            daemon.kill()
            kills += 1
            daemon.start()
    finally:
        for w in workers:
            w.over.set()
        for w in workers:
            w.join()
    print(kills, "kills,", sum(w.calls for w in workers), "calls")
    assert not [x for w in workers for x in w.wrong]
    return {n: e for w in workers for n, e in w.known.items()}


def check_storm(daemon, known):
    rows = {r["name"]: r for r in settled(daemon)}
    for name, e in known.items():
        check_one(daemon, name, e, rows.get(name))
    running = [r["id"] for r in json.loads(daemon.holm("ps", "--json").stdout)]
    # Those that end by themselves within this second are not leftovers.
    leftovers.none_left(daemon, running)
    daemon.holm("rm", "--all", "--force")
    leftovers.none_left(daemon)


def test_daemon_killed_in_a_storm(daemon):
    check_storm(daemon, storm(daemon, 20, random.randrange(1 << 30)))


@pytest.mark.long
def test_daemon_killed_in_a_long_storm(daemon):
    for _ in range(8):
        check_storm(daemon, storm(daemon, 60, random.randrange(1 << 30)))


def test_running_one_survives_and_reports_its_true_status(daemon):
    shared = daemon.base / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    start(daemon, "a", "sh", "-c", "while [ ! -e /x/go ]; do sleep 0.1; done; echo bye; exit 41",
          options=("-v", f"{shared}:/x"))
    pid = status(daemon, "a")["pid"]
    daemon.kill()
    assert alive(pid)
    (shared / "go").touch()
    wait_for("its end", lambda: not alive(pid))
    daemon.start()
    assert wait_for("its status", lambda: state(daemon, "a") == "exited")
    assert status(daemon, "a")["exit_code"] == 41
    assert daemon.holm("logs", "a").stdout == "bye\n"
    daemon.holm("rm", "a")
    leftovers.none_left(daemon)


def test_adopted_within_a_second(daemon):
    def exec_takes():
        begin = time.monotonic()
        assert daemon.holm("exec", "a", "echo", "in").stdout == "in\n"
        return time.monotonic() - begin

    def adoption_takes():
        daemon.kill()
        daemon.start()
        return exec_takes()

    start(daemon, "a", "sleep", "1000")
    usual = exec_takes()
    took = [adoption_takes() for _ in range(3)]
    assert min(took) < 1 + 2 * usual, (usual, took)
    assert state(daemon, "a") == "running"


def test_shim_killed(daemon):
    ident = start(daemon, "a", "sleep", "1000")
    pid = status(daemon, "a")["pid"]
    os.kill(shim_of(daemon, ident), signal.SIGKILL)
    wait_for("it to be noticed", lambda: state(daemon, "a") == "exited")
    wait_for("the container's end", lambda: not alive(pid))
    leftovers.none_left(daemon, seconds=PATIENCE) if daemon.holm("rm", "a") else None
    assert start(daemon, "a", "true")


def test_shim_killed_restarts_by_its_policy(daemon):
    ident = start(daemon, "a", "sleep", "1000", options=("--restart", "always"))
    pid = status(daemon, "a")["pid"]
    os.kill(shim_of(daemon, ident), signal.SIGKILL)
    wait_for("the new one", lambda: status(daemon, "a").get("pid") not in (None, 0, pid)
             and state(daemon, "a") == "running")
    assert not alive(pid)
    daemon.holm("rm", "-f", "a")
    leftovers.none_left(daemon)


def test_daemon_and_shims_killed(daemon):
    ids = [start(daemon, f"b{n}", "sleep", "1000") for n in range(3)]
    pids = [status(daemon, f"b{n}")["pid"] for n in range(3)]
    shims = [shim_of(daemon, i) for i in ids]
    daemon.kill()
    for pid in shims[:2]:
        os.kill(pid, signal.SIGKILL)
    daemon.start()
    for n in range(2):
        wait_for("it to be noticed", lambda n=n: state(daemon, f"b{n}") == "exited")
        wait_for("its end", lambda n=n: not alive(pids[n]))
    assert state(daemon, "b2") == "running" and alive(pids[2])
    leftovers.none_left(daemon, [ids[2]]) if daemon.holm("rm", "b0", "b1") else None


def end_all(daemon):
    """What a reboot does: no process is left, nor what is in memory only."""
    daemon.kill()
    for pid in leftovers.processes(daemon):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for("all to be dead", lambda: not leftovers.processes(daemon))
    subprocess.run(["rm", "-rf", daemon.run_dir], check=True)
    for path in reversed(sorted(leftovers.groups(daemon))):
        os.rmdir(path)


def test_reboot(daemon):
    daemon.args = (*daemon.args, "--boot-id", "11111111-1111-1111-1111-111111111111")
    daemon.kill()
    daemon.start()
    start(daemon, "plain", "sleep", "1000")
    start(daemon, "always", "sleep", "1000", options=("--restart", "always"))
    start(daemon, "unless", "sleep", "1000", options=("--restart", "unless-stopped"))
    start(daemon, "stopped", "sleep", "1000", options=("--restart", "unless-stopped"))
    start(daemon, "gone", "sleep", "1000", options=("--rm",))
    daemon.holm("stop", "-t", "0", "stopped")
    daemon.holm("create", "--name", "new", "--network", "none", IMAGE, "true")
    pids = {n: status(daemon, n).get("pid") for n in ("plain", "always", "unless")}
    end_all(daemon)
    daemon.args = ("--boot-id", "22222222-2222-2222-2222-222222222222")
    daemon.start()
    assert state(daemon, "plain") == "exited"
    assert state(daemon, "stopped") == "exited"
    assert state(daemon, "new") == "created"
    for name in ("always", "unless"):
        wait_for(f"{name} to run", lambda n=name: state(daemon, n) == "running")
        assert alive(status(daemon, name)["pid"]) and status(daemon, name)["pid"] != pids[name]
    wait_for("the --rm one to go", lambda: daemon.holm("inspect", "gone", check=False).returncode)
    daemon.holm("start", "plain", "new")
    daemon.holm("rm", "--all", "--force")
    leftovers.none_left(daemon)


def test_attached_session_goes_on(daemon):
    t = daemon.terminal("run", "-it", "--network", "none", "--name", "t", IMAGE, "sh")
    t.type(b"echo on''e\n")
    t.until(b"one")
    daemon.kill()
    daemon.start()
    t.type(b"echo tw''o\n")
    t.until(b"two")
    t.type(b"exit 9\n")
    assert t.wait() == 9


def test_followed_log_goes_on(daemon):
    """One who follows waits for the daemon, misses nothing, and ends with the instance."""
    start(daemon, "a", "sh", "-c", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done")
    with subprocess.Popen([BIN / "holm", "logs", "-f", "a"], env=daemon.env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL) as p:
        lines = [p.stdout.readline()]
        daemon.kill()
        daemon.start()
        lines += [p.stdout.readline() for _ in range(20)]
        daemon.holm("stop", "-t", "0", "a")
        rest, errors = p.communicate(timeout=PATIENCE)
        assert p.returncode == 0 and errors == ""
    lines = "".join(lines).splitlines() + rest.splitlines()
    assert lines == [f"tick {n + 1}" for n in range(len(lines))]
    assert daemon.holm("logs", "a").stdout.splitlines() == lines
