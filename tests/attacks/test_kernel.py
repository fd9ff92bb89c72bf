"""Rules 5, 11, 13 and 14: fake procfs, system calls, cgroups, kernel parameters."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from lib.bundle import BUILD
from lib.victim import CAPS
from lib.wait import wait_for

KINDS = ["root", "userns", "rootless"]


def read(path):
    return pathlib.Path(path).read_text()


# --- rule 5: procfs -----------------------------------------------------------------------------

def fake_proc(box):
    """A volume that looks like a procfs and leads to the canary."""
    volume = box.folder("fake")
    for at in ("self/attr/apparmor", "thread-self/attr/apparmor", "1/attr/apparmor", "sys/kernel",
               "sys/net/ipv4", "self/fd"):
        (volume / at).mkdir(parents=True)
    for at in ("self/oom_score_adj", "thread-self/oom_score_adj", "1/oom_score_adj",
               "self/attr/exec", "thread-self/attr/exec", "1/attr/exec",
               "self/attr/apparmor/exec", "thread-self/attr/apparmor/exec",
               "sys/kernel/shmmni", "sys/net/ipv4/ip_forward", "self/uid_map",
               "self/setgroups", "self/loginuid"):
        (volume / at).symlink_to("/" + "../" * 12 + str(box.outside / "canary"))
    for path in [volume, *volume.rglob("*")]:
        os.lchown(path, box.base, box.base)
    return volume


def test_parameters_do_not_go_to_a_fake_procfs(box):
    """CVE-2019-19921, CVE-2025-52881: /proc is a volume of the container's; what the runtime
    sets must be set for real, or refused, and not be written into the volume."""
    volume = fake_proc(box)
    box.without("/proc")
    box.mount("/proc", type="bind", source=str(volume), options=["rbind"])
    box.config["linux"]["sysctl"] = {"kernel.shmmni": "1234", "net.ipv4.ip_forward": "1"}
    box.config["linux"]["maskedPaths"] = []
    box.config["linux"]["readonlyPaths"] = []
    box.process["oomScoreAdj"] = 500
    done = box.script("mkdir -p /tmp/p; cat /proc/self/oom_score_adj; true")
    assert "500" not in done.out    # the fake file shows the canary or nothing


def test_parameters_are_set_for_real(box):
    """Positive control of the same: with a procfs the values are there."""
    box.config["linux"]["sysctl"] = {"kernel.shmmni": "1234", "net.ipv4.ip_forward": "1"}
    box.process["oomScoreAdj"] = 500
    done = box.script("cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward "
                      "/proc/self/oom_score_adj")
    assert done.out.split() == ["1234", "1", "500"], done.out


def test_proc_is_a_link(box):
    """CVE-2023-27561: /proc of the image is a link to another folder of it."""
    volume = box.rootfs / "elsewhere"
    shutil.copytree(fake_proc(box), volume, symlinks=True)
    if box.base:
        box.own()
    box.link("/proc", "/elsewhere")
    box.config["linux"]["sysctl"] = {"kernel.shmmni": "1234"}
    box.process["oomScoreAdj"] = 500
    box.go("/bin/true")
    assert (volume / "sys/kernel/shmmni").is_symlink()


def test_proc_is_a_link_outside(box):
    box.link("/proc", str(box.outside))
    box.link("/sys", str(box.outside))
    box.go("/bin/true")


@pytest.mark.parametrize("at", ["/proc/self", "/proc/self/attr", "/proc/sys/kernel",
                                "/proc/sys/kernel/core_pattern", "/proc/1", "/proc/self/fd",
                                "/proc/thread-self/attr/exec", "/proc/../proc/self/exe"])
def test_nothing_is_mounted_in_proc(box, at):
    """CVE-2019-16884: a volume over files of /proc that the runtime itself uses."""
    volume = fake_proc(box)
    box.mount(at, type="bind", source=str(volume), options=["rbind"])
    box.process["oomScoreAdj"] = 500
    done = box.script("cat /proc/self/oom_score_adj")
    assert done.returncode != 0 or done.out.strip() == "500", done.out


def test_label_does_not_go_to_a_fake_procfs_at_exec(box):
    """CVE-2019-16884 at `exec`: root of the container has covered /proc."""
    box.caps("CAP_SYS_ADMIN")
    fake = fake_proc(box)
    box.mount("/vol", type="bind", source=str(fake), options=["rbind"])
    name = box.start("/bin/sh", "-c", "mount -o bind /vol /proc && echo covered; "
                                      "exec sleep 1000")
    wait_for("the mount", lambda: "covered" in box.log())
    assert "covered" in box.log(), box.log()
    process = dict(box.process, args=["/bin/true"], selinuxLabel="system_u:system_r:t:s0",
                   apparmorProfile="evil", oomScoreAdj=500)
    (box.dir / "process.json").write_text(json.dumps(process))
    done = box.enter(name, options=["--process", box.dir / "process.json"])
    # This kernel has neither: refused, and the fake files are links to the canary still.
    assert done.returncode != 0, done.out
    process = dict(box.process, args=["/bin/echo", "joined"], oomScoreAdj=500)
    (box.dir / "process.json").write_text(json.dumps(process))
    done = box.enter(name, options=["--process", box.dir / "process.json"])
    assert (fake / "self/oom_score_adj").is_symlink()


# --- rule 11: system calls ----------------------------------------------------------------------

def default_profile(*caps):
    done = subprocess.run([BUILD / "tests/default-profile", *caps], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_default_profile(box):
    """AF_ALG (CVE-2026-31431), AF_VSOCK, socketcall, io_uring, userfaultfd, keyrings, bpf, perf,
    kexec, mounts and new user namespaces, by all three ABIs."""
    box.config["linux"]["seccomp"] = default_profile(*CAPS)
    done = box.attack("filter")
    assert done.out.count("held") >= 25


def test_default_profile_control(rootbox):
    """Positive control: without a profile several of these go through."""
    done = rootbox.go("/bin/attack", "filter")
    for name in ("AF_VSOCK", "clone3 user", "io_uring_setup", "AF_UNIX by socketcall"):
        assert f"ESCAPED {name}" in done.out, done.out


def test_default_profile_with_admin(box):
    """With CAP_SYS_ADMIN mounts are allowed, but no AF_ALG, AF_VSOCK or keyring."""
    box.caps("CAP_SYS_ADMIN")
    box.config["linux"]["seccomp"] = default_profile(*CAPS, "CAP_SYS_ADMIN")
    done = box.go("/bin/attack", "filter")
    assert "done filter" in done.out
    for name in ("AF_ALG", "AF_ALG with high bits", "AF_VSOCK", "AF_VSOCK with high bits", "keyctl",
                 "AF_VSOCK by socketcall", "io_uring_setup", "userfaultfd", "kexec_load",
                 "AF_ALG by 32-bit socket"):
        assert f"held {name}:" in done.out, done.out
    assert "ESCAPED mount" in done.out, done.out    # positive control of the capability


def test_profile_holds_at_exec(box):
    """A program that joins is under the filter too."""
    box.config["linux"]["seccomp"] = default_profile(*CAPS)
    name = box.start()
    box.judge(box.enter(name, "/bin/attack", "filter"), "filter")


def test_profile_is_not_shed_by_execve(box):
    """A setuid program, and one started by it, is under the filter still."""
    box.needs("other users")
    box.config["linux"]["seccomp"] = default_profile(*CAPS)
    shutil.copy(box.rootfs / "bin/attack", box.rootfs / "bin/suid")
    box.own_path(box.rootfs / "bin/suid")
    (box.rootfs / "bin/suid").chmod(0o4755)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.judge(box.script("/bin/sh -c '/bin/suid filter'"), "filter")


def test_caller_keys(box):
    """Keys of whoever started the container are out of reach."""
    serial = subprocess.run(["/usr/bin/python3", "-c", ADD_KEY], capture_output=True, text=True)
    if not serial.stdout.strip().isdigit():
        pytest.skip(f"no keyrings: {serial.stderr}")
    box.process["args"] = ["/bin/attack", "key", "SERIAL"]
    box.write()
    code = ADD_KEY + WITH_KEY
    line = box.command("run", "--bundle", box.dir, box.new_id())
    done = subprocess.run(["/usr/bin/python3", "-c", code, str(box.dir / "config.json"), *line],
                          capture_output=True, text=True, timeout=60)
    assert "done key" in done.stdout, done.stdout + done.stderr
    assert "ESCAPED" not in done.stdout, done.stdout


# A key in a session keyring of its own; prints its number.
ADD_KEY = """
import ctypes, json, subprocess, sys
call = ctypes.CDLL(None).syscall
call(250, 1, 0, 0, 0)
serial = call(248, b"user", b"host-key", b"top-secret", 10, ctypes.c_int(-3))
print(serial, flush=True)
"""
WITH_KEY = """
path = sys.argv[1]
text = open(path).read().replace("SERIAL", str(serial))
open(path, "w").write(text)
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


# --- rule 13: cgroups ---------------------------------------------------------------------------

def test_release_agent(box):
    """CVE-2022-0492: no hierarchy whose release_agent can be written, neither as it is nor in
    namespaces of the container's own."""
    box.attack("release-agent")


def test_release_agent_with_namespaces(userbox):
    """The same with CAP_SYS_ADMIN of a user namespace."""
    userbox.caps("CAP_SYS_ADMIN")
    userbox.attack("release-agent")


def cgroup_files(box):
    done = box.script("for f in $(busybox find /sys/fs/cgroup -maxdepth 3); do echo $f; done; "
                      "echo end")
    return done.out.split()


def test_cgroup_files_cannot_be_written(box):
    """release_agent, notify_on_release, tasks, limits: mounted read-only."""
    box.needs("cgroups")
    done = box.script(
        "n=0; for f in $(busybox find /sys/fs/cgroup -type f -maxdepth 3); do n=$((n+1)); "
        "( echo 1 > $f ) 2>/dev/null && echo ESCAPED $f; done; echo tried $n; "
        "mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>/dev/null && echo ESCAPED mkdir; echo end")
    assert "end" in done.out and "ESCAPED" not in done.out, done.out
    assert int(re.search(r"tried (\d+)", done.out).group(1)) > 5, done.out


def test_cgroup_namespace(box):
    """The container sees its groups as the roots: no path of the host."""
    done = box.go("/bin/cat", "/proc/self/cgroup")
    paths = {line.split(":", 2)[2] for line in done.out.splitlines() if line.count(":") >= 2}
    assert paths == {"/"}, done.out


def test_cgroup_cannot_be_left(box):
    """No way to another group: the files of the parent are not there."""
    done = box.script("for f in /sys/fs/cgroup/*/../cgroup.procs /sys/fs/cgroup/*/../../tasks "
                      "/sys/fs/cgroup/../cgroup.procs; do ( echo $$ > $f ) 2>/dev/null && "
                      "echo ESCAPED $f; done; echo end")
    assert "end" in done.out and "ESCAPED" not in done.out, done.out


def test_writable_cgroup_needs_namespaces(userbox):
    """CVE-2023-25809: a writable cgroup mount stays within the container's own group."""
    for m in userbox.config["mounts"]:
        if m["type"] == "cgroup":
            m["options"] = ["nosuid", "noexec", "nodev", "rw"]
    done = userbox.script("cat /proc/self/cgroup; for f in $(busybox find /sys/fs/cgroup -name "
                          "release_agent); do ( echo /evil > $f ) && echo ESCAPED $f; done; echo end")
    assert "end" in done.out and "ESCAPED" not in done.out, done.out


def in_group(path, group):
    try:
        zombie = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return group in path.read_text() and not zombie
    except OSError:
        return False


def test_frozen_container_is_killed(box):
    """A frozen container is thawed to be killed: nothing is left that cannot die."""
    box.needs("cgroups")
    name = box.start("/bin/sh", "-c", "sleep 1000 & sleep 1000 & echo up; sleep 1000")
    wait_for("its start", lambda: "up" in box.log())
    pid = box.info(name)["pid"]
    assert box.raw("pause", name).returncode == 0
    done = box.raw("delete", "--force", name)
    assert done.returncode == 0, done.out
    wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}"))
    left = [p for p in pathlib.Path("/proc").glob("[0-9]*/cgroup") if in_group(p, box.id)]
    assert not left


# --- rule 14: kernel parameters -----------------------------------------------------------------

@pytest.mark.parametrize("key,value", [
    ("kernel.core_pattern", "|/evil"),
    ("kernel/core_pattern", "|/evil"),
    ("kernel.modprobe", "/evil"),
    ("kernel.sysrq", "1"),
    ("vm.overcommit_memory", "1"),
    ("fs.suid_dumpable", "2"),
    ("net/../kernel/core_pattern", "|/evil"),
    ("net.ipv4.../kernel.core_pattern", "|/evil"),
    ("../kernel/core_pattern", "|/evil"),
    ("kernel.shm_rmid_forced\nkernel.core_pattern", "1"),
    ("", "1"),
])
def test_parameter_is_refused(rootbox, key, value):
    """Only what belongs to a namespace (CVE-2022-0811); by name."""
    rootbox.config["linux"]["sysctl"] = {key: value}
    done = rootbox.go("/bin/true")
    assert done.returncode != 0


@pytest.mark.parametrize("value", ["1+kernel.core_pattern=|/evil", "1\nkernel.core_pattern=|/evil",
                                   "1 kernel.core_pattern=|/evil", "1;kernel.core_pattern=|/evil"])
def test_parameter_value_is_one_value(box, value):
    """CVE-2022-0811: a value is never split; core_pattern is as before (the fixture looks)."""
    box.config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": value}
    box.go("/bin/true")


@pytest.mark.parametrize("kind,key", [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax"),
                                      ("uts", "kernel.domainname"), ("ipc", "fs.mqueue.msg_max")])
def test_parameter_needs_its_namespace(rootbox, kind, key):
    """In the host's namespace, or one that is joined and turns out to be the host's."""
    rootbox.drop_namespace(kind)
    if kind == "ipc":
        rootbox.without("/dev/mqueue")
    rootbox.config["linux"]["sysctl"] = {key: read("/proc/sys/" + key.replace(".", "/")).strip()
                                         if kind != "network" else "1"}
    rootbox.config["hostname"] = ""
    done = rootbox.go("/bin/true")
    assert done.returncode != 0, done.out
    file = {"network": "net"}.get(kind, kind)
    rootbox.config["linux"]["namespaces"].append({"type": kind, "path": f"/proc/1/ns/{file}"})
    done = rootbox.go("/bin/true")
    assert done.returncode != 0, done.out


def test_parameters_cannot_be_set_from_inside(box):
    """With CAP_NET_ADMIN and CAP_SYS_ADMIN: the host's parameters are not those in here."""
    box.caps("CAP_NET_ADMIN", "CAP_SYS_ADMIN")
    box.config["linux"]["readonlyPaths"] = []
    done = box.script("echo 99 > /proc/sys/net/core/somaxconn; echo inner > "
                      "/proc/sys/kernel/hostname; echo end")
    assert "end" in done.out


def test_namespaces_of_the_host(box):
    """No name in here leads to a namespace of the host's."""
    box.caps("CAP_SYS_ADMIN")
    done = box.go("/bin/attack", "setns", *[f"/proc/{p}/ns/{n}" for p in (2, os.getpid())
                                            for n in ("mnt", "pid", "net", "user")])
    box.judge(done, "setns")
