# SPDX-License-Identifier: Apache-2.0
"""The user network: outgoing only, and rule 22: no metadata address."""

import pathlib

import pytest
from lib.api import alive, kill
from lib.daemon import has_route
from lib.wait import wait_for


needs_pasta = pytest.mark.skipif(
    not pathlib.Path("/usr/bin/pasta").exists() or not has_route(),
    reason="pasta is not installed, or the host has no default route")


@needs_pasta
@pytest.mark.parametrize("userns", ["auto", "host"])
def test_user_network(api, userns):
    (pathlib.Path(api.daemon.rootfs) / "etc/hosts").touch()
    api.run("n", "sh", "-c", "cat /proc/net/route /etc/resolv.conf /etc/hosts; "
            "nc -w 2 169.254.169.254 80 </dev/null; echo nc $?; sleep 100",
            network="user", userns=userns, extra_hosts=["db:10.1.2.3"])
    text = api.wait_log("n", "nc ")
    assert "eth0" in text.split("\n")[1] or "\t00000000\t" in text
    assert "FEA9FEA9" in text and "nc 0" not in text
    assert "nameserver 169.254.1.1" in text and "10.1.2.3\tdb" in text
    run = api.daemon.run_dir / "instances" / api.get("/v1/instances/n")["id"]
    helper = int((run / "net.pid").read_text())
    assert alive(helper)
    # The helper goes with the instance, also when the shim cannot end it.
    kill(api.status("n")["shim_pid"])
    api.wait_state("n", "exited")
    wait_for("the helper's end", lambda: not alive(helper))


def test_other_networks(api):
    api.run("none", "sh", "-c", "cat /proc/net/dev; echo end; sleep 100")
    lines = api.wait_log("none", "end\n").splitlines()[2:-1]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    api.run("host", "sh", "-c", "cat /proc/net/dev", network="host")
    api.get("/v1/instances/host/wait")
    ours = pathlib.Path("/proc/net/dev").read_text().splitlines()[2:]
    assert len(api.logs("host").splitlines()[2:]) == len(ours)
