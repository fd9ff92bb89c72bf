"""A bundle for holm-oci with busybox in it, and what it takes to run it and to clean up.

    with Bundle(tmp_path) as b:
        b.mount("/data", source=str(folder), options=["bind", "ro"])
        assert b.sh("cat /data/file") == "text"
"""
import copy
import itertools
import json
import os
import pathlib
import shutil
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
RUNTIME = os.environ.get("HOLM_TEST_RUNTIME", str(BUILD / "bin" / "holm-oci"))
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
BASE_ID = 300000
ALL_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID",
            "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_NET_ADMIN"]
MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc",
     "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
     "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
     "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs",
     "options": ["nosuid", "noexec", "nodev", "ro"]},
]
MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
          "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_numbers = itertools.count()


class Bundle:
    def __init__(self, folder, userns=False, runtime=None):
        self.dir = pathlib.Path(folder) / f"bundle{next(_numbers)}"
        self.rootfs = self.dir / "rootfs"
        self.id = f"holm-test-{os.getpid()}-{next(_numbers)}"
        self.runtime = runtime or RUNTIME
        self.state = self.dir / "state"
        self.wrapper = []  # a command that runs the runtime
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin/busybox")
        for name in ("sh", "cat", "ls", "stat", "mount", "umount", "sleep", "true", "id", "touch",
                     "mkdir", "grep", "readlink", "tty", "mknod", "dd", "chmod", "test", "ps",
                     "rm", "ln", "mv", "find", "wc", "head", "echo", "chown", "kill"):
            (self.rootfs / "bin" / name).symlink_to("busybox")
        (self.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        caps = {k: list(ALL_CAPS) for k in ("bounding", "effective", "permitted")}
        self.config = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0},
                        "env": ["PATH=/bin"], "capabilities": caps},
            "hostname": "box",
            "mounts": copy.deepcopy(MOUNTS),
            "linux": {"namespaces": [{"type": t} for t in NAMESPACES],
                      "cgroupsPath": f"/{self.id}",
                      "maskedPaths": list(MASKED), "readonlyPaths": list(READONLY)},
        }
        if userns:
            self.userns()

    def userns(self):
        """A user namespace, the root file system in its ids."""
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            linux[name] = [{"containerID": 0, "hostID": BASE_ID, "size": 65536}]
        self.own()

    def own(self):
        for path in [self.rootfs, *self.rootfs.rglob("*")]:
            os.lchown(path, BASE_ID, BASE_ID)

    def mount(self, destination, **fields):
        self.config["mounts"].append({"destination": destination, **fields})

    def write(self):
        (self.dir / "config.json").write_text(json.dumps(self.config))

    def call(self, *args, **kw):
        return subprocess.run([*self.wrapper, self.runtime, "--root", str(self.state), *args],
                              text=True, timeout=60,
                              **{"stdin": subprocess.DEVNULL, "capture_output": True, **kw})

    def run(self, *argv, options=(), **kw):
        """Run to the end; returns the finished process."""
        self.config["process"]["args"] = list(argv)
        self.write()
        return self.call("run", *options, "--bundle", str(self.dir), self.id, **kw)

    def sh(self, script, **kw):
        """Output of a shell script that must succeed."""
        done = self.run("/bin/sh", "-ec", script, **kw)
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def refused(self, *argv):
        """What it says when it does not run."""
        done = self.run(*(argv or ("/bin/true",)))
        assert done.returncode != 0, f"was not refused: {done.stdout}{done.stderr}"
        return done.stderr.strip()

    def close(self):
        self.call("delete", "--force", self.id)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
