"""podman as a peer, on a storage of its own, also where limits cannot be raised."""
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from benchlib import in_memory

CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
{runtime}
"""


class Podman:
    def __init__(self, folder, root_fs):
        self.folder = pathlib.Path(folder)
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="podman-bench-", dir=in_memory()))
        self.image = "localhost/bench:latest"
        conf = self.folder / "containers.conf"
        conf.write_text(CONF.format(runtime='runtime = "runc"'))
        self.env = dict(os.environ, CONTAINERS_CONF=str(conf), TMPDIR=str(self.folder))
        self.base = ["podman", "--root", str(self.folder / "storage"), "--runroot",
                     str(self.run), "--cgroup-manager", "cgroupfs"]
        tar = self.folder / "root.tar"
        with tarfile.open(tar, "w") as out:
            out.add(root_fs, arcname=".")
        self.call("import", str(tar), self.image)

    def call(self, *args):
        done = subprocess.run(self.base + list(args), env=self.env, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"podman {args}: {done.stderr[-800:]}")
        return done.stdout.strip()

    def bundle_config(self, command):
        """The config.json that podman hands to a runtime."""
        name = self.call("create", "--network", "none", self.image, *command)
        try:
            self.call("init", name)
            path = json.loads(self.call("inspect", name))[0]["OCIConfigPath"]
            return json.loads(pathlib.Path(path).read_text())
        finally:
            self.call("rm", "-f", name)

    def close(self):
        subprocess.run(self.base + ["rm", "-fa"], env=self.env, capture_output=True)
        subprocess.run(["umount", str(self.folder / "storage/overlay")], capture_output=True)
        shutil.rmtree(self.run, ignore_errors=True)
