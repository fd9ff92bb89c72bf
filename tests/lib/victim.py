"""A bundle under attack: with the attack program in it, and a canary outside of it."""
import json
import os
import shutil
import subprocess
import uuid

import pytest

from lib.bundle import BASE_ID, BUILD, Bundle

ATTACK = BUILD / "tests" / "attack"
CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
        "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
        "CAP_SYS_CHROOT"]
ROOTLESS_ID = 54321     # who runs the runtime where it has no privileges
CGROUP_MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}


class Victim(Bundle):
    """kind: "root", "userns" (a range of ids), "rootless" (the runtime is run by a user who has
    nothing but a user namespace with one id in it)."""

    def __init__(self, folder, kind="root"):
        self.base = {"root": 0, "userns": BASE_ID, "rootless": ROOTLESS_ID}[kind]
        self.kind, self.rootless = kind, kind == "rootless"
        self.in_userns = kind != "root"
        super().__init__(folder, kind == "userns")
        self.ids = []
        self.outside = self.dir / "outside"
        self.secret = self.outside / "secret"
        self.outside.mkdir()
        self.outside.chmod(0o700)
        (self.outside / "canary").write_text("intact\n")
        self.secret.write_text("top-secret\n")
        self.secret.chmod(0o600)
        for name in ("mnt", "home", "vol"):
            (self.rootfs / name).mkdir()
        shutil.copy(ATTACK, self.rootfs / "bin/attack")
        (self.rootfs / "tmp").chmod(0o1777)
        self.caps()
        self.config["mounts"].append(dict(CGROUP_MOUNT, options=list(CGROUP_MOUNT["options"])))
        self.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        if self.rootless:
            self.make_rootless()
        if self.base:
            self.own()

    def make_rootless(self):
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            linux[name] = [{"containerID": 0, "hostID": self.base, "size": 1}]
        for m in self.config["mounts"]:
            m["options"] = [o for o in m["options"] if not o.startswith("gid=")]
        self.without("/sys/fs/cgroup")
        del linux["resources"], linux["cgroupsPath"]
        self.own_path(self.dir)     # it makes its state there

    def needs(self, *what):
        """Skip what a runtime without privileges cannot have been asked to do."""
        if self.rootless:
            pytest.skip(f"rootless, with one id and no cgroups: no {' and '.join(what)}")

    def own(self):
        for path in [self.rootfs, *self.rootfs.rglob("*")]:
            os.lchown(path, self.base, self.base)

    @property
    def process(self):
        return self.config["process"]

    def caps(self, *more, inheritable=()):
        sets = {name: CAPS + list(more) for name in ("bounding", "effective", "permitted")}
        if inheritable:
            sets["inheritable"] = list(inheritable)
        self.process["capabilities"] = sets

    def without(self, destination):
        self.config["mounts"] = [m for m in self.config["mounts"]
                                 if m["destination"] != destination]

    def drop_namespace(self, kind):
        linux = self.config["linux"]
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != kind]

    def own_path(self, path):
        shutil.chown(path, self.base, self.base)

    def link(self, path, target):
        """A link in the root file system, as a hostile image has it."""
        at = self.rootfs / path.lstrip("/")
        if at.is_dir() and not at.is_symlink():
            shutil.rmtree(at)
        elif at.is_symlink() or at.exists():
            at.unlink()
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(target)
        if self.base:
            self.own()

    def folder(self, name):
        """A folder of the container's beside its root: a volume."""
        at = self.dir / name
        at.mkdir()
        self.own_path(at)
        return at

    def new_id(self):
        self.ids.append(f"security-{uuid.uuid4().hex[:12]}")
        return self.ids[-1]

    def command(self, *args):
        drop = ["setpriv", f"--reuid={self.base}", f"--regid={self.base}", "--clear-groups", "env",
                "-i", "PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_leaks=0"] if self.rootless else []
        return drop + [self.runtime, "--root", str(self.state)] + [str(a) for a in args]

    def raw(self, *args, prefix=(), timeout=60, **kw):
        """Run the runtime; .out has both of its streams."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run([str(p) for p in prefix] + self.command(*args),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              **kw)
        done.out = done.stdout.decode("utf-8", "replace")
        return done

    def go(self, *argv, prefix=(), options=(), **kw):
        """Run one container of the config as it stands, to its end."""
        if argv:
            self.process["args"] = [str(a) for a in argv]
        self.write()
        return self.raw("run", "--bundle", self.dir, *options, self.new_id(), prefix=prefix, **kw)

    def script(self, text, **kw):
        return self.go("/bin/sh", "-c", text, **kw)

    def attack(self, *args, **kw):
        """Let the attack program try from inside. It must have come to its end, and nothing
        of it may have got out."""
        done = self.go("/bin/attack", *args, **kw)
        return self.judge(done, args[0])

    def judge(self, done, name):
        assert f"done {name}" in done.out, f"{name} was not tried: {done.out}"
        assert "ESCAPED" not in done.out, done.out
        return done

    def start(self, *argv):
        """A container that stays. Its output goes to self.log(). Returns its id."""
        self.process["args"] = [str(a) for a in (argv or ("/bin/sleep", "1000"))]
        self.write()
        name = self.new_id()
        with open(self.dir / "log", "wb") as log:
            done = subprocess.run(self.command("run", "--detach", "--bundle", self.dir, name),
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60)
        assert done.returncode == 0, self.log()
        return name

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def enter(self, name, *argv, options=(), **kw):
        return self.raw("exec", *options, name, *argv, **kw)

    def info(self, name):
        return json.loads(self.raw("state", name).out)

    def close(self):
        for name in self.ids:
            self.raw("delete", "--force", name)

    def assert_intact(self):
        """Nothing outside the root has changed."""
        found = sorted(p.name for p in self.outside.iterdir())
        assert found == ["canary", "secret"], f"made outside: {found}"
        assert (self.outside / "canary").read_text() == "intact\n"
        assert self.secret.read_text() == "top-secret\n"
        for path in [self.outside, *self.outside.iterdir()]:
            st = path.lstat()
            assert (st.st_uid, st.st_gid) == (0, 0), f"{path} was given away"
        assert self.outside.stat().st_mode & 0o7777 == 0o700
        assert self.secret.stat().st_mode & 0o7777 == 0o600
