# SPDX-License-Identifier: Apache-2.0
"""`holm logs -f` over the deaths of the daemon: no line is missing, none comes twice."""

import json
import re
import signal
import subprocess

import pytest

from lib.api import Api
from lib.daemon import BIN, Daemon, make_rootfs
from lib.wait import wait_for


@pytest.fixture
def own():
    d = Daemon("follow")
    d.rootfs = make_rootfs(d.base / "root")
    try:
        yield d
    finally:
        d.close()


@pytest.mark.parametrize("options", [[], ["--timestamps"], ["--tail", "0"]],
                         ids=["all", "timestamps", "tail"])
def test_follow_over_deaths(own, tmp_path, options):
    api = Api(own)
    tmp_path.chmod(0o777)
    # Small files, so that the log is rotated while nobody reads it; and lines without an end.
    api.run("a", "sh", "-c", "i=0; while [ ! -e /tmp/x/stop ]; do i=$((i+1)); "
            "printf 'begin '; echo number $i; echo err $i >&2; sleep 0.01; done; echo last",
            log={"max_size": 65536, "max_files": 10}, userns="host",
            mounts=[{"type": "bind", "source": str(tmp_path), "target": "/tmp/x"}])
    api.wait_log("a", "number 3\n")
    out = tmp_path / "out"
    with open(out, "wb") as f, open(tmp_path / "err", "wb") as err:
        proc = subprocess.Popen([BIN / "holm", "logs", "-f", *options, "a"], env=own.env, stdout=f,
                                stderr=err)
    try:
        def seen():
            found = re.findall(rb"number (\d+)\n", out.read_bytes())
            return int(found[-1]) if found else 0
        wait_for("lines", lambda: seen() > 3)
        for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            own.kill(sig)
            log = own.state / "instances"
            before = sum(p.stat().st_size for p in log.glob("*/output.log*"))
            wait_for("what nobody reads", lambda: sum(
                p.stat().st_size for p in log.glob("*/output.log*")) > before + 3000)
            assert proc.poll() is None
            own.start()
            last = seen()
            wait_for("more", lambda: seen() > last + 5)
        (tmp_path / "stop").touch()
        assert proc.wait(60) == 0
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.wait()
    text = out.read_bytes().decode()
    assert text.endswith("last\n")
    numbers = [int(n) for n in re.findall(r"begin number (\d+)\n", text)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] == 1 or options == ["--tail", "0"]
    errors = [int(n) for n in re.findall(r"err (\d+)\n", (tmp_path / "err").read_text())]
    assert errors == list(range(errors[0], errors[-1] + 1)) and abs(errors[-1] - numbers[-1]) < 2
    if options == ["--timestamps"]:
        stamp = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "
        assert all(re.fullmatch(stamp + r"(begin number \d+|last)", line)
                   for line in text.splitlines())


def test_a_place_that_is_gone(own):
    """What was rotated away is lost; what is there comes."""
    api = Api(own)
    api.run("a", "sh", "-c", "echo one; echo two")
    api.get("/v1/instances/a/wait")
    for place in ("1-2-3-0", "0-0-0-0", "x", "9-9", "18446744073709551615-0-0-1"):
        assert api.logs("a", f"?from={place}") == "one\ntwo\n"


def test_no_daemon_at_all(own):
    """Only a daemon that was there once is waited for."""
    own.kill(signal.SIGTERM)
    done = own.holm("logs", "-f", "a", check=False)
    assert done.returncode == 8 and "holmd" in done.stderr
    own.start()
    done = own.holm("logs", "-f", "nosuch", check=False)
    assert done.returncode == 3
    assert json.loads(own.holm("ps", "-a", "--json").stdout) == []
