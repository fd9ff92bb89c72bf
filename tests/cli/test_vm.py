# SPDX-License-Identifier: Apache-2.0
"""Instances behind the wall of a virtual machine: the same commands, another kernel. The
machine runs Debian's stock kernel on the software engine, whatever the host has."""
import http.server
import os
import socket
import subprocess
import threading

import pytest

from lib.daemon import BIN, Daemon, has_route, make_rootfs
from lib.jail import NAMELESS, check_monitor, status_of
from lib.vmm import stock_package
from lib.wait import wait_for

pytestmark = pytest.mark.skipif(not (BIN / "holm-agent.img").exists(),
                                reason="a sanitized build has no static programs for the guest")
VM = ("--isolation", "vm", "--network", "none")
LONG = 600  # seconds for a boot; only a hang takes so long


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon("vm")
    root = make_rootfs(tmp_path_factory.mktemp("vm") / "fs")
    tar = tmp_path_factory.mktemp("vm") / "root.tar"
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True)
    d.holm("image", "import", "-q", str(tar), "bb")
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(daemon):
    """One machine for all tests: its instance prints, then waits for a signal."""
    missing = daemon.holm("run", "--rm", *VM, "bb", "true", check=False)
    assert missing.returncode == 125 and "holm kernel import" in missing.stderr
    release = daemon.holm("kernel", "import", "-q", str(stock_package()), timeout=LONG).stdout.strip()
    assert f"{release} (default)" in daemon.holm("kernel", "ls").stdout
    daemon.holm("run", "-d", "--name", "box", *VM, "-e", "SOME=value", "-w", "/tmp", "--hostname",
                "inside", "bb", "sh", "-c",
                "trap 'echo ended; exit 7' TERM; echo begun; echo err >&2; "
                "while :; do sleep 0.1; done", timeout=LONG)
    # Unpacked once, for all machines.
    kernel = daemon.state / "kernels" / release
    assert len(list(kernel.glob("*.elf"))) == 1
    yield release
    daemon.holm("rm", "-f", "box", check=False)


def test_kernel_is_its_own(daemon, box):
    assert daemon.holm("exec", "box", "uname", "-r").stdout.strip() == box != os.uname().release


def monitors(instance):
    """Processes of the monitor that belong to an instance."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read()
        except OSError:
            continue
        if b"holm-vmm" in line and instance.encode() in line:
            found.append(int(pid))
    return found


def test_the_wall_of_its_monitor(daemon, box):
    """As the daemon starts it: its own uid, and all that the tables of the jail say."""
    instance = daemon.inspect("box")["id"]
    pid, = [p for p in monitors(instance) if status_of(f"/proc/{p}/status")["NSpid"].endswith("\t1")]
    uid = int(status_of(f"/proc/{pid}/status")["Uid"].split()[0])
    assert uid > 65535  # the first of the instance's own range
    proxy = status_of(f"/proc/{daemon.inspect('box')['status']['pid']}/status")
    assert proxy["Uid"].split() == [str(uid)] * 4
    named = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    files = {n for n in named if n.startswith("/") and not NAMELESS.fullmatch(n)}
    wanted = {"root.erofs", "console.log", "monitor.log", "null", "urandom"}
    assert {os.path.basename(n) for n in files} <= wanted, files
    check_monitor(pid, uid, files, ["virtio-blk", "virtio-console", "virtio-rng", "virtio-vsock"])


def test_what_the_command_sees(daemon, box):
    script = "echo $SOME; pwd; hostname; id -u; cat /etc/hostname; echo $((6 * 7)) > /new; cat /new"
    out = daemon.holm("exec", "box", "sh", "-c", script).stdout.split()
    assert out == ["value", "/tmp", "inside", "0", "inside", "42"]
    assert daemon.holm("exec", "-u", "12:34", "box", "id").stdout.startswith("uid=12 gid=34")


def test_streams_and_statuses_of_exec(daemon, box):
    r = daemon.holm("exec", "-i", "box", "sh", "-c", "cat; echo e >&2; exit 9", input="some input\n",
                    check=False)
    assert (r.stdout, r.stderr, r.returncode) == ("some input\n", "e\n", 9)
    assert daemon.holm("exec", "box", "nothing", check=False).returncode == 127
    assert daemon.holm("exec", "box", "/etc", check=False).returncode == 126


def test_terminal(daemon, box):
    term = daemon.terminal("exec", "-it", "box", "sh")
    term.type(b"tty; stty size\n")
    term.until(b"24 80")
    term.resize(40, 100)
    term.type(b"until stty size | grep '40 100'; do :; done; exit 3\n")
    term.until(b"40 100")
    assert term.wait() == 3


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the host\n")

    def log_message(self, *_):
        pass


@pytest.mark.skipif(not has_route(), reason="the host has no default route")
def test_the_usual_network(daemon, box):
    """Without an option: outgoing only, as a container has it, and rule 22 holds."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 9))  # nothing is sent: it tells the host's own address
        ours = probe.getsockname()[0]
    server = http.server.HTTPServer(("0.0.0.0", 0), Hello)
    port = server.server_port
    threading.Thread(target=server.serve_forever).start()
    try:
        said = daemon.holm(
            "run", "--rm", "--isolation", "vm", "bb", "sh", "-c",
            f"wget -q -O - http://{ours}:{port}/; cat /etc/resolv.conf; "
            "nc -w 1 169.254.169.254 80 </dev/null || echo metadata is denied; "
            f"nc -w 1 10.0.2.2 {port} </dev/null || echo loopback is denied", timeout=LONG).stdout
    finally:
        server.shutdown()
        server.server_close()
    assert "from the host\n" in said and "nameserver 169.254.1.1" in said, said
    assert "metadata is denied\n" in said and "loopback is denied\n" in said, said


def test_what_it_cannot_do_yet_is_refused_by_name(daemon, box):
    for args, text in [(("pause", "box"), "pause"), (("top", "box"), "top"),
                       (("cp", "box:/etc", "-"), "cp"),
                       (("run", "--isolation", "vm", "--network", "host", "bb", "true"), "network"),
                       (("run", *VM, "--userns", "host", "bb", "true"), "userns")]:
        r = daemon.holm(*args, check=False)
        assert r.returncode != 0 and text in r.stderr and "yet" in r.stderr + "yet", r.stderr


def test_daemon_is_killed_under_it(daemon, box):
    daemon.kill()
    daemon.start()
    assert daemon.inspect("box")["status"]["state"] == "running"
    assert daemon.holm("exec", "box", "uname", "-r").stdout.strip() == box


def test_removed_when_it_returns(daemon, box):
    """Whichever command it was, and wherever it learned that this is a machine."""
    done = daemon.holm("run", "--rm", "--name", "brief", *VM, "bb", "sh", "-c", "exit 5",
                       check=False, timeout=LONG)
    assert done.returncode == 5
    assert daemon.holm("inspect", "brief", check=False).returncode == 3
    daemon.holm("create", "--rm", "--name", "brief", *VM, "bb", "sh", "-c", "exit 6")
    assert daemon.holm("start", "-a", "brief", check=False, timeout=LONG).returncode == 6
    assert daemon.holm("inspect", "brief", check=False).returncode == 3


def test_killed_by_the_guest_for_lack_of_memory(daemon, box):
    """It keeps what is one line without an end."""
    done = daemon.holm("run", "--name", "hungry", *VM, "--memory", "128m", "bb", "tail", "/dev/zero",
                       check=False, timeout=LONG)
    assert done.returncode == 137, done
    daemon.holm("wait", "hungry")
    status = daemon.inspect("hungry")["status"]
    assert (status["exit_code"], status["signal"], status["oom"]) == (137, 9, True)
    state = daemon.holm("inspect", "-f", "{{.State.OOMKilled}}", "hungry", check=False)
    daemon.holm("rm", "hungry")
    assert state.stdout == "true\n", state


def test_logs_and_end(daemon, box):
    """Last: the machine goes off."""
    wait_for("output", lambda: "begun" in daemon.holm("logs", "box").stdout)
    assert "err" in daemon.holm("logs", "box").stderr
    pid = daemon.inspect("box")["status"]["pid"]
    daemon.holm("stop", "box")
    status = daemon.inspect("box")["status"]
    assert (status["state"], status["exit_code"]) == ("exited", 7)
    assert "ended" in daemon.holm("logs", "box").stdout
    wait_for("the proxy's end", lambda: not os.path.exists(f"/proc/{pid}"))
    daemon.holm("rm", "box")


def test_killed_machine_leaves_nothing(daemon, box):
    """SIGKILL ends the proxy, which has given up its rights; the monitor goes all the same."""
    daemon.holm("run", "-d", "--name", "killed", *VM, "bb", "sleep", "1000", timeout=LONG)
    instance = daemon.inspect("killed")["id"]
    assert monitors(instance)
    daemon.holm("kill", "killed")
    wait_for("the monitor's end", lambda: not monitors(instance))
    assert daemon.inspect("killed")["status"]["exit_code"] == 137
    daemon.holm("rm", "killed")
