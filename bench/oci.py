"""holm-oci against runc and crun: one run of /bin/true from the bundle that podman writes."""
import copy
import json
import os
import subprocess

from benchlib import BIN, Row, busybox_root, in_memory, interleaved, need, ratio, scratch, timed
from podmanenv import Podman

RUNS = 25


def write_bundle(folder, config):
    folder.mkdir()
    busybox_root(folder / "rootfs")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def own_root(config):
    """podman's config on a root of ours, without the files that podman keeps beside it."""
    config = copy.deepcopy(config)
    config["root"]["path"] = "rootfs"
    config["mounts"] = [m for m in config["mounts"] if "containers" not in m.get("source", "")
                        and "/storage/" not in m.get("source", "")
                        and "/run/" not in m.get("source", "")]
    config["process"]["terminal"] = False
    config.pop("hooks", None)
    config["linux"]["cgroupsPath"] = f"/holm-bench-{os.getpid()}"
    return config


def crun_config(config):
    """Without what crun cannot do on a host whose memlock limit cannot be raised."""
    config = copy.deepcopy(config)
    config["linux"].pop("resources", None)
    config["linux"].pop("cgroupsPath", None)
    config["process"].pop("rlimits", None)
    return config


class Runtime:
    def __init__(self, args, state, bundle, tag, wrap=()):
        self.args = list(wrap) + list(args) + ["--root", str(state)]
        self.bundle, self.tag, self.count = bundle, tag, 0

    def __call__(self):
        self.count += 1
        name = f"bench-{self.tag}-{os.getpid()}-{self.count}"
        return timed(self.args + ["run", "--bundle", str(self.bundle), name])


def v2_namespace():
    """crun starts only where the v2 tree is at the usual place: a mount namespace that has it."""
    script = "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec \"$@\""
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.procs"):
        return ["unshare", "-m", "sh", "-c", script, "sh"]
    return []


def measure():
    need("runc", "crun", "podman")
    rows = []
    with scratch("oci") as tmp, scratch("oci-state", in_memory()) as states:
        root = busybox_root(tmp / "image")
        podman = Podman(tmp, root)
        try:
            config = own_root(podman.bundle_config(["/bin/true"]))
        finally:
            podman.close()
        bundle = write_bundle(tmp / "bundle", config)
        ours = Runtime([str(BIN / "holm-oci")], states / "holm", bundle, "holm")
        runc = Runtime(["runc"], states / "runc", bundle, "runc")
        rows.append(Row("holm-oci run /bin/true, back to back", "runc", 0.15)
                    .set(*ratio(*interleaved(ours, runc, RUNS))))
        rows.append(Row("the same with 300 ms of quiet between starts", "runc", 0.15)
                    .set(*ratio(*interleaved(ours, runc, RUNS, quiet=0.3))))
        reduced = write_bundle(tmp / "reduced", crun_config(config))
        wrap = v2_namespace()
        ours = Runtime([str(BIN / "holm-oci")], states / "holm", reduced, "holmr", wrap)
        crun = Runtime(["crun"], states / "crun", reduced, "crun", wrap)
        rows.append(Row("the reduced config that crun can run here", "crun", 0.5)
                    .set(*ratio(*interleaved(ours, crun, RUNS))))
    return rows
