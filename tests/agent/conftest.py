# SPDX-License-Identifier: Apache-2.0
"""holm-init serving on a unix socket of this host."""
import json
import os
import subprocess
import time

import pytest

from lib.guest import Guest
from lib.wait import PATIENCE


class Agent:
    def __init__(self, programs, folder, rootfs):
        self.dir, self.socket, self.rootfs = folder / "run", str(folder / "sock"), rootfs
        self.oci = os.path.join(programs, "holm-oci")
        self.process = subprocess.Popen(
            [os.path.join(programs, "holm-init"), "--listen", self.socket, "--oci", self.oci,
             "--dir", str(self.dir)], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PATIENCE
        self.guests = []
        while True:
            try:
                self.connect(hello=False)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert self.process.poll() is None, self.process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def connect(self, setup=False, **kw):
        guest = Guest(self.socket, **kw)
        self.guests.append(guest)
        if setup:
            guest.call("setup", seed=os.urandom(32))
        return guest

    def config(self, args, terminal=False, change=None):
        folder = self.dir.parent / "spec"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        subprocess.run([self.oci, "spec"], cwd=folder, check=True)
        config = json.loads((folder / "config.json").read_text())
        config["root"] = {"path": self.rootfs, "readonly": False}
        config["process"].update(args=args, terminal=terminal)
        config["linux"]["cgroupsPath"] = f"/agent-{os.getpid()}-{self.process.pid}"
        if change:
            change(config)
        return json.dumps(config)

    def process_json(self, args, terminal=False):
        process = json.loads(self.config(args, terminal))["process"]
        return json.dumps(process)

    def clean(self):
        for guest in self.guests:
            guest.close()
        subprocess.run([self.oci, "--root", str(self.dir / "records"), "delete", "--force", "init"],
                       capture_output=True, check=False)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


@pytest.fixture
def agent(programs, busybox_rootfs, tmp_path):
    a = Agent(programs, tmp_path, busybox_rootfs)
    yield a
    a.clean()
