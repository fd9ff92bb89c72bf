"""Rules 8, 9 and 10: the runtime's own program, descriptors, the working folder, identities."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import time

import pytest

from lib.bundle import BUILD, RUNTIME
from lib.victim import Victim
from lib.wait import PATIENCE, wait_for

KINDS = ["root", "userns", "rootless"]


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def creds(text):
    """The lines of `attack creds` as a dictionary."""
    return dict(line.split(" ", 1) if " " in line else (line, "") for line in text.splitlines())


# --- rule 9: descriptors and the working folder -------------------------------------------------

def test_no_descriptor_at_create(box):
    """CVE-2024-21626: whatever the caller has open, the container has 0, 1 and 2."""
    fds = [os.open(box.outside, os.O_RDONLY) for _ in range(5)]
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        # The program finds a leak, if there is one: on the host it has these.
        seen = subprocess.run(["/bin/sh", "-c", "ls /proc/self/fd | wc -l"], pass_fds=fds,
                              capture_output=True, text=True)
        assert int(seen.stdout) >= 3 + len(fds)
        box.attack("fds", box.secret, pass_fds=fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_no_descriptor_at_exec(box):
    """The same for a program that joins (CVE-2016-9962)."""
    name = box.start()
    fd = os.open(box.outside, os.O_RDONLY)
    try:
        os.set_inheritable(fd, True)
        done = box.enter(name, "/bin/attack", "fds", box.secret, pass_fds=[fd])
        box.judge(done, "fds")
    finally:
        os.close(fd)


def test_preserved_descriptors_are_those_asked_for(box):
    """--preserve-fds 1 gives 3 and not 4."""
    a, b = os.open("/dev/null", os.O_RDONLY), os.open(box.outside, os.O_RDONLY)
    try:
        os.dup2(a, 53)
        os.dup2(b, 54)
        # Shifted into place by a shell, as 3 and 4 are pytest's own.
        box.process["args"] = ["/bin/sh", "-c", "ls -l /proc/self/fd; exec /bin/attack fds"]
        box.write()
        line = " ".join(box.command("run", "--preserve-fds", "1", "--bundle", box.dir,
                                    box.new_id())) + " 3<&53 4<&54 53<&- 54<&-"
        done = subprocess.run(["/bin/bash", "-c", line], pass_fds=[53, 54], capture_output=True,
                              text=True, timeout=60)
        assert "ESCAPED fds: 3 is /dev/null" in done.stdout, done.stdout + done.stderr
        assert "fds: 4" not in done.stdout, done.stdout
    finally:
        for fd in (a, b, 53, 54):
            os.close(fd)


def test_closed_standard_streams(box):
    """A caller that closed 0, 1 and 2: no file of the runtime's takes their place, to be given
    to the container, or to its user."""
    box.needs("other users")
    volume = box.folder("volume")
    volume.chmod(0o777)
    box.mount("/mnt", type="bind", source=str(volume), options=["rbind"])
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["args"] = ["/bin/sh", "-c", "ls -l /proc/self/fd > /mnt/out; "
                           f"/bin/attack fds {box.secret} >> /mnt/out"]
    box.write()
    line = " ".join(box.command("run", "--bundle", box.dir, box.new_id()))
    subprocess.run(["/bin/bash", "-c", f"exec {line} 0<&- 1>&- 2>&-"], timeout=60)
    text = (volume / "out").read_text()
    assert "done fds" in text and "ESCAPED" not in text, text
    assert "0 -> /dev/null" in text and "2 -> /dev/null" in text, text
    for path in [box.state, *box.state.rglob("*")]:
        assert path.lstat().st_uid == 0, path
    assert os.stat("/dev/null").st_uid == 0


@pytest.mark.parametrize("number", range(3, 20))
def test_cwd_by_descriptor(rootbox, number):
    """CVE-2024-21626: a working folder that is one of the runtime's own descriptors."""
    rootbox.process["cwd"] = f"/proc/self/fd/{number}"
    fd = os.open(rootbox.outside, os.O_RDONLY)
    try:
        os.set_inheritable(fd, True)
        done = rootbox.go("/bin/attack", "cwd", rootbox.secret, pass_fds=[fd])
    finally:
        os.close(fd)
    assert "ESCAPED" not in done.out, done.out


def test_cwd_by_descriptor_userns(userbox):
    for number in range(3, 20):
        userbox.process["cwd"] = f"/proc/self/fd/{number}"
        done = userbox.go("/bin/attack", "cwd", userbox.secret)
        assert "ESCAPED" not in done.out, done.out


def test_cwd_by_link_to_descriptor(box):
    """The image's WORKDIR is a link to such a descriptor."""
    for number in range(3, 14):
        box.link("/work", f"/proc/self/fd/{number}")
        box.process["cwd"] = "/work"
        done = box.go("/bin/attack", "cwd", box.secret)
        assert "ESCAPED" not in done.out, done.out


def test_exec_cwd_by_descriptor(box):
    """CVE-2024-21626 through `exec --cwd`."""
    name = box.start()
    for number in range(3, 20):
        done = box.enter(name, "/bin/attack", "cwd", box.secret,
                         options=["--cwd", f"/proc/self/fd/{number}"])
        assert "ESCAPED" not in done.out, done.out


def test_program_by_descriptor(box):
    """The program's path leads through a descriptor of the runtime's to a host program."""
    for number in range(3, 14):
        done = box.go(f"/proc/self/fd/{number}/../../../../../../../../usr/bin/env")
        assert done.returncode != 0, done.out


def test_cwd_is_inside(box):
    """Positive control: an ordinary folder works and is what getcwd says."""
    box.process["cwd"] = "/home"
    done = box.attack("cwd", box.secret)
    assert "held cwd: /home" in done.out


# --- rule 8: the runtime's own program, and its processes while they join -----------------------

def test_program_is_proc_self_exe(box):
    """CVE-2019-5736: the container's command is /proc/self/exe, that is, the runtime."""
    before = digest(RUNTIME)
    box.link("/evil", "/proc/self/exe")
    done = box.go("/evil", "--version")
    assert digest(RUNTIME) == before
    # If it ran at all it must not be a program outside that could be written to.
    (box.rootfs / "evil.sh").write_text("#!/proc/self/exe\n")
    (box.rootfs / "evil.sh").chmod(0o755)
    box.own() if box.base else None
    done = box.go("/evil.sh")
    assert done.returncode != 0
    assert digest(RUNTIME) == before


def start_watch(box, also=""):
    """A container whose root looks at every process that comes in; until watched() ends it."""
    name = box.start("/bin/sh", "-c",
                     f"/bin/attack watch {box.secret} 120000 {also}; exec sleep 1000")
    wait_for("the watcher", lambda: "watching" in box.log())
    return name


def watched(box):
    """Its log, with what it saw."""
    (box.rootfs / "tmp/enough").touch()
    wait_for("the watcher's end", lambda: "done watch" in box.log())
    return box.log()


def watch(box, *caps, also=""):
    box.caps(*caps)
    name = start_watch(box, also)
    # On a busy machine the watcher is not always there in time: until it has seen enough.
    end, entered = time.monotonic() + PATIENCE, 0
    while entered < 15 or ("saw 5" not in box.log() and time.monotonic() < end):
        done = box.enter(name, "/bin/true")
        assert done.returncode == 0, done.out
        entered += 1
    return watched(box)


def test_joining_process_is_not_reached(box):
    """CVE-2019-5736 and CVE-2016-9962: while `exec` joins, root of the container looks at the
    joining process: its program, descriptors, root and memory."""
    before = digest(RUNTIME)
    log = watch(box)
    assert "ESCAPED" not in log, log
    assert digest(RUNTIME) == before
    seen = int(re.search(r"seen (\d+)", log).group(1))
    assert seen >= 5, f"the watcher saw too little to be a test: {log}"


def test_joining_process_is_not_reached_with_ptrace(box):
    """The same with CAP_SYS_PTRACE. Without a user namespace that capability is one over the
    memory of whoever comes in (docs/decisions/); what it must not see are the host's files."""
    before = digest(RUNTIME)
    log = watch(box, "CAP_SYS_PTRACE", also="" if box.in_userns else "nomem")
    assert "ESCAPED" not in log, log
    assert digest(RUNTIME) == before


def test_container_that_shares_pids_is_not_reached(box):
    """A second container joins the pid namespace of the first (a pod), whose root watches the
    second one's first process while that still has the host's root."""
    name = start_watch(box)
    pid = box.info(name)["pid"]
    folder = box.folder("second")
    second = Victim(folder, box.kind)
    try:
        second.drop_namespace("pid")
        second.config["linux"]["namespaces"].append({"type": "pid", "path": f"/proc/{pid}/ns/pid"})
        if box.in_userns:   # the pid namespace belongs to that user namespace
            second.drop_namespace("user")
            second.config["linux"]["namespaces"].append(
                {"type": "user", "path": f"/proc/{pid}/ns/user"})
            for key in ("uidMappings", "gidMappings"):
                del second.config["linux"][key]
        second.without("/proc")     # the namespace's own is not always to be had
        second.mount("/proc", type="proc", source="proc", options=["nosuid", "noexec", "nodev"])
        end, times = time.monotonic() + PATIENCE, 0
        while times < 8 or ("saw 3" not in box.log() and time.monotonic() < end):
            second.config["linux"]["cgroupsPath"] = f"/{second.new_id()}"
            done = second.go("/bin/true")
            assert done.returncode == 0, done.out
            times += 1
    finally:
        second.close()
    log = watched(box)
    assert "ESCAPED" not in log, log
    assert int(re.search(r"seen (\d+)", log).group(1)) >= 3, log


@pytest.mark.parametrize("filtered", [False, True])
def test_process_that_waits_for_start_is_not_reached(box, filtered):
    """Between create and start the first process has no filter yet: who comes in by `exec`
    meanwhile must not get hold of it."""
    box.needs("exec before start")
    box.process["noNewPrivileges"] = True
    if filtered:
        done = subprocess.run([BUILD / "tests/default-profile"], capture_output=True, check=True)
        box.config["linux"]["seccomp"] = json.loads(done.stdout)
    box.process["args"] = ["/bin/sleep", "1000"]
    box.write()
    name = box.new_id()
    with open(box.dir / "log", "wb") as log:
        done = subprocess.run(box.command("create", "--bundle", box.dir, name),
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60)
    assert done.returncode == 0, box.log()
    box.judge(box.enter(name, "/bin/attack", "tamper", "1"), "tamper")
    assert box.raw("start", name).returncode == 0
    for _ in range(50):     # positive control: the program itself is anyone's inside
        done = box.enter(name, "/bin/attack", "tamper", "1")
        if "ESCAPED tamper: ptrace" in done.out:
            break
        time.sleep(0.05)
    assert "ESCAPED tamper: ptrace" in done.out, done.out


@pytest.fixture
def host_process():
    """A process of the host whose number no process in a new namespace has."""
    made = []
    try:
        while not made or made[-1].pid < 100:
            made.append(subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL))
        yield made[-1].pid
    finally:
        for p in made:
            p.kill()
            p.wait()


def test_host_processes(box, host_process):
    """Processes of the host have no number in here, and /proc leads to none of them."""
    box.attack("reach", box.secret, host_process)


def test_host_processes_control(rootbox, host_process):
    """Positive control: with the host's pid namespace the same program reaches a process."""
    rootbox.drop_namespace("pid")
    done = rootbox.go("/bin/attack", "reach", rootbox.secret, host_process)
    assert "ESCAPED reach: kill" in done.out, done.out


# --- rule 10: identities and capabilities -------------------------------------------------------

def test_capabilities_are_exact(box):
    """Nothing inheritable or ambient (CVE-2022-29162), and no more than was asked for."""
    got = creds(box.attack("creds").out)
    asked = 0
    for number in (0, 1, 3, 4, 5, 10, 31, 6, 8, 7, 18):
        asked |= 1 << number
    for name in ("effective", "permitted", "bounding"):
        assert int(got[name], 16) == asked, got
    assert int(got["inheritable"], 16) == 0 and int(got["ambient"], 16) == 0
    assert got["keepcaps"] == "0" and got["nnp"] == "0" and got["securebits"] == "0"


def test_capabilities_at_exec(box):
    name = box.start()
    got = creds(box.judge(box.enter(name, "/bin/attack", "creds"), "creds").out)
    assert int(got["inheritable"], 16) == 0 and int(got["ambient"], 16) == 0
    assert int(got["effective"], 16) & 1 << 21 == 0    # CAP_SYS_ADMIN
    assert got["groups"] in ("", "0")


def test_no_capabilities_for_a_user(box):
    box.needs("other users")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {}
    got = creds(box.attack("creds").out)
    for name in ("effective", "permitted", "inheritable", "bounding", "ambient"):
        assert int(got[name], 16) == 0, got
    assert got["uid"] == "1000 1000 1000" and got["gid"] == "1000 1000 1000"


def test_caller_groups_do_not_leak(box):
    """CVE-2022-36109, CVE-2023-25173: the groups of whoever calls stay outside; the primary
    group is among the container's."""
    box.needs("other users")
    box.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7]}
    box.process["args"] = ["/bin/attack", "creds"]
    box.write()
    done = subprocess.run(box.command("run", "--bundle", box.dir, box.new_id()),
                          extra_groups=[4, 27, 42], capture_output=True, text=True, timeout=60)
    groups = sorted(int(g) for g in creds(done.stdout)["groups"].split())
    assert groups == [7, 1001], done.stdout + done.stderr


@pytest.mark.parametrize("uid", [-1, 4294967295, 4294967296, 1 << 40, "1", 1.5])
def test_uid_out_of_range(rootbox, uid):
    """CVE-2024-40635: no number becomes another one, and least of all 0."""
    rootbox.process["user"] = {"uid": uid, "gid": 0}
    done = rootbox.go("/bin/attack", "creds")
    assert done.returncode != 0 and "done creds" not in done.out, done.out


def test_uid_of_full_width(rootbox):
    rootbox.process["user"] = {"uid": 2147483648, "gid": 4294967294}
    got = creds(rootbox.attack("creds").out)
    assert got["uid"].split()[0] == "2147483648" and got["gid"].split()[0] == "4294967294"


def test_uid_not_mapped(userbox):
    userbox.process["user"] = {"uid": 70000, "gid": 0}
    done = userbox.go("/bin/attack", "creds")
    assert done.returncode != 0 and "done creds" not in done.out, done.out


@pytest.mark.parametrize("user,expect", [("1", "1 1 1"), ("1000", "1000 1000 1000"),
                                         ("1000:7", "1000 1000 1000")])
def test_exec_user_is_that_user(box, user, expect):
    """CVE-2026-30892: `exec --user 1` became root."""
    box.needs("other users")
    name = box.start()
    got = creds(box.judge(box.enter(name, "/bin/attack", "creds", options=["--user", user]),
                          "creds").out)
    assert got["uid"] == expect, got
    assert int(got["effective"], 16) == 0, got


@pytest.mark.parametrize("user", ["-1", "4294967295", "99999999999", "1:x", "1:2:3", "", "1 "])
def test_exec_user_refused(rootbox, user):
    name = rootbox.start()
    done = rootbox.enter(name, "/bin/attack", "creds", options=[f"--user={user}"])
    assert "done creds" not in done.out or "uid 0 0 0" in done.out and user == "", done.out


def test_no_new_privileges(box):
    """A setuid program of the image gains nothing under it."""
    box.needs("other users")
    shutil.copy(box.rootfs / "bin/attack", box.rootfs / "bin/suid")
    box.own_path(box.rootfs / "bin/suid")
    (box.rootfs / "bin/suid").chmod(0o4755)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    control = creds(box.go("/bin/suid", "creds").out)
    assert control["uid"] == "1000 0 0", control    # positive control: without it, it does
    box.process["noNewPrivileges"] = True
    got = creds(box.go("/bin/suid", "creds").out)
    assert got["uid"] == "1000 1000 1000" and got["nnp"] == "1", got
    assert int(got["effective"], 16) == 0


def test_file_capabilities_stay_below_the_bounding_set(rootbox):
    """A program with all capabilities in its file has those of the container at most."""
    target = rootbox.rootfs / "bin/fcaps"
    shutil.copy(rootbox.rootfs / "bin/attack", target)
    # Version 2, not effective by itself: permitted all, inheritable none.
    os.setxattr(target, "security.capability",
                struct.pack("<IIIII", 0x02000000, 0xffffffff, 0, 0xff, 0))
    rootbox.process["user"] = {"uid": 1000, "gid": 1000}
    got = creds(rootbox.go("/bin/fcaps", "creds").out)
    assert int(got["permitted"], 16) == int(got["bounding"], 16) != 0, got
    assert int(got["permitted"], 16) & 1 << 21 == 0


def test_caller_capabilities_do_not_leak(rootbox):
    """Inheritable and ambient capabilities of the caller are not passed on (CVE-2022-29162)."""
    rootbox.process["args"] = ["/bin/attack", "creds"]
    rootbox.process["user"] = {"uid": 1000, "gid": 1000}
    rootbox.write()
    line = rootbox.command("run", "--bundle", rootbox.dir, rootbox.new_id())
    done = subprocess.run(["setpriv", "--inh-caps", "+net_raw,+sys_admin", "--ambient-caps",
                           "+net_raw,+sys_admin"] + line, capture_output=True, text=True, timeout=60)
    got = creds(done.stdout)
    assert int(got["inheritable"], 16) == 0 and int(got["ambient"], 16) == 0, done.stderr
    assert int(got["permitted"], 16) == 0


def test_caller_umask_and_signals_do_not_leak(box):
    """Ignored signals and a strange umask of the caller end at the wall."""
    box.process["args"] = ["/bin/grep", "-E", "SigIgn|SigBlk|Umask", "/proc/self/status"]
    box.write()
    line = " ".join(box.command("run", "--bundle", box.dir, box.new_id()))
    done = subprocess.run(["/bin/bash", "-c", f"umask 0777; trap '' USR1 HUP; {line}"],
                          capture_output=True, text=True, timeout=60, cwd="/")
    assert "0022" in done.stdout, done.stdout + done.stderr
    assert re.search(r"SigBlk:\s*0+$", done.stdout, re.M), done.stdout
    assert re.search(r"SigIgn:\s*0+$", done.stdout, re.M), done.stdout
