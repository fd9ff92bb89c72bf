"""podman, docker and containerd with holm-oci as their runtime, each on storage of its own.

HOLM_TEST_RUNTIME names another runtime, to see whether a failure is the engine's own.
"""
import os
import pathlib
import shutil
import subprocess
import tarfile

from lib.wait import wait_for

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
RUNTIME = os.environ.get("HOLM_TEST_RUNTIME", str(BUILD / "bin" / "holm-oci"))
APPLETS = ("sh", "true", "false", "sleep", "cat", "echo", "id", "env", "ls", "tty", "stty", "kill",
           "touch", "mkdir", "mount", "hostname", "grep", "ps", "wc", "head", "dd", "test")
PODMAN_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def root_tar(folder):
    """A tar of a small root file system: busybox and an /etc."""
    root = folder / "root"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\nstaff:x:50:user\n")
    tar = folder / "root.tar"
    with tarfile.open(tar, "w") as out:
        out.add(root, arcname=".")
    return tar


class Engine:
    """A command line that runs containers; call() fails the test, run() returns the result."""

    base: list
    env: dict

    def run(self, *args, **kw):
        # conmon writes a file "oom" where it stands.
        return subprocess.run(self.base + [str(a) for a in args], env=self.env, text=True,
                              capture_output=True, timeout=120, cwd=self.folder,
                              **{"stdin": subprocess.DEVNULL, **kw})

    def call(self, *args, **kw):
        done = self.run(*args, **kw)
        assert done.returncode == 0, f"{self.base[0]} {args}: {done.stdout}{done.stderr}"
        return done.stdout


class Podman(Engine):
    image = "localhost/small:latest"
    remove = ("rm", "-f", "-t", "0")

    def __init__(self, folder):
        self.folder = folder
        conf = folder / "containers.conf"
        conf.write_text(PODMAN_CONF.format(runtime=RUNTIME))
        self.env = dict(os.environ, CONTAINERS_CONF=str(conf), TMPDIR=str(folder), PATH=PATH)
        self.base = ["podman", "--runtime", RUNTIME, "--root", str(folder / "storage"),
                     "--runroot", str(folder / "run")]
        self.call("import", root_tar(folder), self.image)

    def close(self):
        self.run("pod", "rm", "-fa", "-t", "0")
        self.run("rm", "-fa", "-t", "0")
        subprocess.run(["umount", str(self.folder / "storage/overlay")], capture_output=True)


class Docker(Engine):
    image = "small:1"
    remove = ("rm", "-f")

    def __init__(self, folder):
        self.folder = folder
        sock = folder / "docker.sock"
        self.env = dict(os.environ, DOCKER_HOST=f"unix://{sock}", PATH=PATH,
                        DOCKER_CONFIG=str(folder / "config"))
        self.base = ["/usr/bin/docker"]
        self.log = open(folder / "dockerd.log", "w")
        self.daemon = subprocess.Popen(
            ["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
             "--pidfile", str(folder / "pid"), "--host", f"unix://{sock}", "--iptables=false",
             "--ip6tables=false", "--bridge=none", "--oom-score-adjust=0",
             "--default-ulimit", "nofile=1024:1024", "--exec-opt", "native.cgroupdriver=cgroupfs",
             "--add-runtime", f"under-test={RUNTIME}", "--default-runtime", "under-test"],
            env=self.env, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for("dockerd", lambda: sock.exists() and self.run("version").returncode == 0)
        self.call("import", root_tar(folder), self.image)

    def close(self):
        for name in self.run("ps", "-aq").stdout.split():
            self.run("rm", "-f", name)
        self.daemon.terminate()
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        self.log.close()


class Containerd(Engine):
    def __init__(self, folder):
        self.folder = folder
        sock = folder / "containerd.sock"
        conf = folder / "containerd.toml"
        conf.write_text(f'version = 2\nroot = "{folder}/root-state"\nstate = "{folder}/state"\n'
                        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                        f'[grpc]\naddress = "{sock}"\n')
        self.env = dict(os.environ, PATH=PATH)
        self.base = ["ctr", "-a", str(sock)]
        self.log = open(folder / "containerd.log", "w")
        self.daemon = subprocess.Popen(["containerd", "--config", str(conf)], env=self.env,
                                       stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for("containerd", lambda: sock.exists() and self.run("version").returncode == 0)
        root_tar(folder)
        self.rootfs = folder / "root"

    def run_container(self, name, *command, options=()):
        return self.run("run", "--rm", "--runc-binary", RUNTIME, *options, "--rootfs",
                        self.rootfs, name, *command)

    def close(self):
        for name in self.run("task", "ls", "-q").stdout.split():
            self.run("task", "rm", "-f", name)
        for name in self.run("container", "ls", "-q").stdout.split():
            self.run("container", "rm", name)
        self.daemon.terminate()
        self.daemon.wait(30)
        self.log.close()
