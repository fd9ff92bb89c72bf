# SPDX-License-Identifier: Apache-2.0
"""holm-init: containers and processes as the host asks for them."""
import json
import os
import signal

import pytest

from lib.guest import GuestError


def run(agent, args, **kw):
    """A started container: its connection."""
    guest = agent.connect(setup=True)
    guest.call("create", config=agent.config(args), streams=7, **kw)
    guest.call("start")
    return guest


def test_container_runs(agent):
    guest = run(agent, ["sh", "-c", "cat; echo out; echo err >&2; exit 7"])
    stdin, out, err = (guest.attach("init", s) for s in range(3))
    stdin.sock.sendall(b"in\n")
    stdin.end()
    assert out.all() == b"in\nout\n" and err.all() == b"err\n"
    assert guest.exited("init") == {"session": "init", "exit_code": 7, "signal": 0, "oom": False}


def test_lack_of_memory_is_told(agent):
    def limited(config):
        config["linux"].setdefault("resources", {})["memory"] = {"limit": 16 << 20}

    guest = agent.connect(setup=True)
    args = ["sh", "-c", "tail /dev/zero; exit 3"]  # it keeps what is one line without an end
    guest.call("create", config=agent.config(args, change=limited), streams=7)
    guest.call("start")
    # The kernel takes the greatest in the group, which is not the shell.
    assert guest.exited("init", timeout=120) == {"session": "init", "exit_code": 3, "signal": 0,
                                                 "oom": True}


def test_large_streams(agent):
    guest = run(agent, ["sh", "-c", "cat; cat >&2 < /dev/null"])
    stdin, out = guest.attach("init", 0), guest.attach("init", 1)
    data, got = os.urandom(3_000_000), b""
    for at in range(0, len(data), 50_000):
        stdin.sock.sendall(data[at:at + 50_000])
        while len(got) < at:
            got += out.sock.recv(65536)
    stdin.end()
    assert got + out.all() == data


def test_exec_sees_the_container(agent):
    guest = run(agent, ["sleep", "1000"])
    other = agent.connect()
    other.call("exec", session="a", process=agent.process_json(["sh", "-c", "ps | wc -l; exit 3"]),
               streams=6)
    assert int(other.attach("a", 1).all()) >= 2
    assert other.exited("a")["exit_code"] == 3
    assert len(json.loads(guest.call("pids")["text"])) == 1
    assert json.loads(guest.call("stats")["text"])["id"] == "init"
    guest.call("signal", session="init", signal=signal.SIGKILL)
    assert guest.exited("init") == {"session": "init", "exit_code": 137, "signal": 9, "oom": False}


def test_output_before_anyone_attaches_waits(agent):
    guest = run(agent, ["echo", "early"])
    assert guest.exited("init")["exit_code"] == 0
    assert guest.attach("init", 1).all() == b"early\n"


def test_terminal(agent):
    guest = agent.connect(setup=True)
    guest.call("create", config=agent.config(["sh"], terminal=True), terminal=True, rows=33,
               cols=77)
    guest.call("start")
    tty = guest.attach("init", 3)
    tty.sock.sendall(b"stty size\n")
    tty.until(b"33 77")
    guest.call("resize", session="init", rows=40, cols=100)
    tty.sock.sendall(b"stty size; exit 5\n")
    tty.until(b"40 100")
    assert guest.exited("init")["exit_code"] == 5


@pytest.mark.parametrize("args, code", [(["nothing-like-it"], 127), (["/etc"], 126)])
def test_what_cannot_run(agent, args, code):
    guest = run(agent, ["sleep", "1000"])
    with pytest.raises(GuestError) as error:
        guest.call("exec", session="x", process=agent.process_json(args), streams=0)
    assert error.value.reply["exit_code"] == code and args[0] in error.value.reply["message"]
    guest.call("signal", session="init", signal=9, all=True)
    assert guest.exited("init")["signal"] == 9


def test_processes_of_a_connection_end_with_it(agent):
    guest = run(agent, ["sleep", "1000"])
    other = agent.connect()
    other.call("exec", session="a", process=agent.process_json(["sh", "-c", "trap '' TERM; sleep 999"]),
               streams=2)
    out = guest.attach("a", 1)
    other.close()
    assert out.all() == b""
    guest.call("exec", session="b", process=agent.process_json(["ps"]), streams=2)
    assert b"sleep 1000" in guest.attach("b", 1).all()


def test_refusals(agent):
    guest = agent.connect(hello=False)
    with pytest.raises(GuestError, match="hello"):
        guest.call("pids")
    guest.call("hello", version_min=1, version_max=9)
    with pytest.raises(GuestError, match="not set up"):
        guest.call("start")
    guest.call("setup", seed=os.urandom(32))
    for name, fields, text in [
            ("setup", {"seed": os.urandom(32)}, "already"),
            ("attach", {"session": "none", "stream": 1}, "no session"),
            ("signal", {"session": "none", "signal": 9}, "no session"),
            ("exec", {"session": "../x", "process": "{}"}, "name"),
            ("create", {"config": "{", "streams": 7}, "config.json"),
            ("welcome", {"version": 1}, "not for a guest")]:
        with pytest.raises(GuestError, match=text):
            guest.call(name, **fields)
    with pytest.raises(GuestError, match="versions 1 to 1"):
        agent.connect(hello=False).call("hello", version_min=2, version_max=3)


def test_files_are_there_for_the_config(agent):
    guest = agent.connect(setup=True)
    guest.call("file", number=3, mode=0o640, data=b"content\n")

    def change(config):
        config["mounts"].append({"destination": "/etc/file", "type": "bind",
                                 "source": str(agent.dir / "files/3"), "options": ["bind", "ro"]})

    guest.call("create", streams=2,
               config=agent.config(["sh", "-c", "stat -c %a /etc/file; cat /etc/file"],
                                   change=change))
    guest.call("start")
    assert guest.attach("init", 1).all() == b"640\ncontent\n"


def test_poweroff_ends_it(agent):
    guest = agent.connect()
    guest.call("poweroff")
    assert agent.process.wait(20) == 0
