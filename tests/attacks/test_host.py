"""Rules 7, 12 and 15, and what an image's files may not do: user namespaces, helpers, hooks,
state on the host, hostile passwd files, names."""
import json
import os
import pathlib
import re
import stat
import subprocess
import time

import pytest

from lib.bundle import BASE_ID, RUNTIME
from lib.wait import wait_for

KINDS = ["root", "userns", "rootless"]


# --- rule 7: user namespaces --------------------------------------------------------------------

def test_root_of_a_namespace_is_nobody_outside(userbox):
    """A private file of the host's root, handed in as a volume, cannot be read; what root in
    there makes belongs to its range outside, and its setuid bit is worth nothing."""
    volume = userbox.folder("volume")
    host = userbox.dir / "private"
    host.write_text("top-secret\n")
    host.chmod(0o600)
    userbox.mount("/mnt", type="bind", source=str(volume), options=["rbind"])
    (userbox.rootfs / "private").touch()
    userbox.mount("/private", type="bind", source=str(host), options=["bind"])
    done = userbox.script("cat /private; cp /bin/busybox /mnt/suid; chmod 4755 /mnt/suid; "
                          "chown 1000:1000 /mnt/x; id -u")
    assert "top-secret" not in done.out, done.out
    st = (volume / "suid").stat()
    assert st.st_uid == BASE_ID and st.st_mode & stat.S_ISUID


def test_root_of_a_namespace_control(rootbox):
    """Positive control: without a user namespace root reads it."""
    host = rootbox.dir / "private"
    host.write_text("top-secret\n")
    host.chmod(0o600)
    (rootbox.rootfs / "private").touch()
    rootbox.mount("/private", type="bind", source=str(host), options=["bind"])
    assert "top-secret" in rootbox.go("/bin/cat", "/private").out


def test_nodes_cannot_be_made_in_a_namespace(userbox):
    userbox.caps("CAP_MKNOD")
    userbox.attack("memory")


def test_mapping_cannot_be_widened(userbox):
    """Root of the namespace writes no further mapping for itself."""
    userbox.caps("CAP_SYS_ADMIN")
    done = userbox.script("echo '0 0 1' > /proc/self/uid_map && echo ESCAPED; "
                          "echo '0 0 1' > /proc/1/uid_map && echo ESCAPED; cat /proc/self/uid_map; "
                          "echo end")
    assert "end" in done.out and "ESCAPED" not in done.out, done.out
    assert f"{BASE_ID}" in done.out


def test_host_hostname_and_time(userbox):
    """Capabilities of the namespace are none over the host."""
    userbox.caps("CAP_SYS_TIME", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYSLOG", "CAP_NET_ADMIN",
                 "CAP_SYS_ADMIN")
    before = time.time()
    done = userbox.script("busybox date -s 2001-01-01; busybox dmesg | head -1; "
                          "busybox hostname inner; echo end")
    assert "end" in done.out and "can't set date" in done.out, done.out
    assert abs(time.time() - before) < 60


# --- rule 12: helpers and hooks -----------------------------------------------------------------

def test_runtime_is_static():
    """No library of the container's root, no NSS (docker CVE-2019-14271)."""
    done = subprocess.run(["ldd", RUNTIME], capture_output=True, text=True)
    assert "not a dynamic executable" in done.stdout + done.stderr or \
        "statically linked" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer",
                                  "poststart", "poststop"])
def test_hooks_get_a_clean_environment(rootbox, kind):
    """nvidia CVE-2025-23266: what the image has in its environment (LD_PRELOAD) never reaches
    a hook, nor do descriptors of the runtime's."""
    out = rootbox.dir / "hook-out"
    hook = rootbox.dir / "hook"
    inside = kind in ("startContainer",)
    target = "/hook-out" if inside else out
    hook.write_text(f"#!/bin/sh\n{{ env; ls /proc/self/fd; }} > {target}\n")
    hook.chmod(0o755)
    if inside:
        (rootbox.rootfs / "hook").write_text(hook.read_text())
        (rootbox.rootfs / "hook").chmod(0o755)
    rootbox.process["env"] += ["LD_PRELOAD=/evil.so", "EVIL=1"]
    rootbox.config["hooks"] = {kind: [{"path": "/hook" if inside else str(hook),
                                       "env": ["PATH=/bin:/usr/bin", "GIVEN=1"]}]}
    fd = os.open(rootbox.outside, os.O_RDONLY)
    os.set_inheritable(fd, True)
    rootbox.process["args"] = ["/bin/true"]
    rootbox.write()
    env = dict(os.environ, RUNTIME_EVIL="1")
    done = rootbox.raw("run", "--bundle", rootbox.dir, rootbox.new_id(), env=env, pass_fds=[fd])
    os.close(fd)
    assert done.returncode == 0, done.out
    path = rootbox.rootfs / "hook-out" if inside else out
    wait_for("the hook", lambda: path.exists() and path.read_text())
    lines = path.read_text().splitlines()
    assert "GIVEN=1" in lines, lines
    assert not [line for line in lines if "EVIL" in line or "LD_PRELOAD" in line], lines
    # 0, 1, 2 and the one that ls itself reads by.
    assert len([line for line in lines if line.isdigit()]) <= 4, lines


def test_program_is_searched_inside(box):
    """PATH of the container names folders in the container: a program that only the host has
    is not found."""
    box.process["env"] = ["PATH=/usr/bin:/usr/sbin:/bin", "LD_LIBRARY_PATH=/evil"]
    done = box.go("perl", "-e", "1")
    assert done.returncode != 0


def test_interpreter_is_inside(box):
    """#! of a script is looked up inside."""
    script = box.rootfs / "script"
    script.write_text("#!/usr/bin/python3\nprint(open('/etc/hostname').read())\n")
    script.chmod(0o755)
    box.own() if box.base else None
    assert box.go("/script").returncode != 0


# --- class F: files of the image that the runtime reads -----------------------------------------

@pytest.mark.parametrize("what", ["fifo", "endless", "device", "link", "folder", "line"])
def test_passwd_cannot_hold_up(box, what):
    """podman CVE-2024-9676, containerd CVE-2026-47262: /etc/passwd and /etc/group of the image."""
    for name in ("passwd", "group"):
        at = box.rootfs / "etc" / name
        if at.exists():
            at.unlink()
        if what == "fifo":
            os.mkfifo(at)
        elif what == "endless":
            with open(at, "wb") as f:
                f.truncate(1 << 40)
        elif what == "device":
            os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        elif what == "link":
            at.symlink_to(box.secret)
        elif what == "folder":
            at.mkdir()
        else:
            at.write_text("root:x:0:0:" + "a" * (1 << 20))
    if box.base:
        box.own()
    box.process["env"] = ["PATH=/bin"]      # no HOME: it is looked up
    done = box.script("echo home $HOME; echo end")
    assert "top-secret" not in done.out
    name = box.start()
    box.enter(name, "/bin/true", options=["--user", "1000"])


def test_home_does_not_inject(box):
    """A home folder with a line break is one variable."""
    (box.rootfs / "etc/passwd").write_text("root:x:0:0:root:/home\x01\rx LD_PRELOAD=/e:/bin/sh\n")
    box.process["env"] = ["PATH=/bin"]
    done = box.go("/bin/env")
    assert not [line for line in done.out.splitlines() if line.startswith("LD_PRELOAD")], done.out


# --- rule 15 and class L: state, names, sockets -------------------------------------------------

@pytest.mark.parametrize("name", ["../escape", "a/b", "/abs", "..", ".", "", "a\nb", "-x", "a b",
                                  "x" * 2000, "ä", "a%2fb", "$(id)", "*"])
def test_id_is_a_name(rootbox, name):
    """An id is never a path (class L)."""
    rootbox.process["args"] = ["/bin/true"]
    rootbox.write()
    for command in (["run", "--bundle", rootbox.dir], ["delete", "--force"], ["state"], ["kill"]):
        done = rootbox.raw(*command, "--", name)
        assert done.returncode != 0 or command[0] == "delete", done.out
    assert not (rootbox.dir / "escape").exists()
    assert not rootbox.state.exists() or \
        [p.name for p in rootbox.state.iterdir() if ":" not in p.name] == []


def test_delete_does_not_follow(rootbox):
    """A folder of the state that is a link to elsewhere is not emptied by delete."""
    rootbox.state.mkdir(mode=0o700)
    (rootbox.state / "victim").symlink_to(rootbox.outside)
    rootbox.raw("delete", "--force", "victim")
    rootbox.raw("state", "victim")


def test_state_is_private(box):
    """Folders 0700 (0711 for the root of all), no file that others can write."""
    old = os.umask(0)
    try:
        name = box.start()
    finally:
        os.umask(old)
    for path in [box.state, *box.state.rglob("*")]:
        st = path.lstat()
        if stat.S_ISDIR(st.st_mode):
            limit = 0o711 if path == box.state else 0o700
            assert st.st_mode & 0o777 & ~limit == 0, f"{path}: {oct(st.st_mode)}"
        elif not stat.S_ISLNK(st.st_mode):
            assert st.st_mode & 0o022 == 0, f"{path}: {oct(st.st_mode)}"
        assert st.st_uid == (box.base if box.rootless else 0)
    assert box.info(name)["status"] == "running"


def test_no_abstract_socket(box):
    """containerd CVE-2020-15257: a container in the host's network finds no socket of ours."""
    def mine():
        return {line.split()[-1] for line in open("/proc/net/unix") if "@" in line.split()[-1]
                and ("holm" in line or "oci" in line)}
    before = mine()
    box.start()
    assert mine() - before == set()


def test_state_is_not_reached(box):
    """No path in the container leads to the runtime's state."""
    done = box.enter(box.start(), "/bin/sh", "-c", f"ls {box.state}; "
                     "busybox find / -xdev -name state.json; echo end")
    assert "end" in done.out and "state.json" not in done.out.replace(str(box.state), ""), done.out


def test_pid_file_is_not_followed_into_the_container(rootbox):
    """A pid file next to the container's files is replaced, not written through a link."""
    volume = rootbox.folder("volume")
    (volume / "pid").symlink_to(rootbox.outside / "canary")
    rootbox.process["args"] = ["/bin/true"]
    rootbox.write()
    rootbox.raw("run", "--pid-file", volume / "pid", "--bundle", rootbox.dir, rootbox.new_id())


def start_time(pid):
    """Of a process, in clock ticks since the host's start."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_recycled_pid_is_not_killed(rootbox):
    """The state names a process by its start time too: another one with that pid lives on."""
    name = rootbox.start()
    pid = rootbox.info(name)["pid"]
    os.kill(pid, 9)
    wait_for("its end", lambda: rootbox.info(name)["status"] == "stopped")
    path = rootbox.state / name / "state.json"
    text = path.read_text()
    # Start times have the kernel's grain, 10 ms: one that began in the same is not another.
    began = json.loads(text)["startTime"]
    bystander = subprocess.Popen(["sleep", "60"])
    while start_time(bystander.pid) == began:
        bystander.kill()
        bystander.wait()
        bystander = subprocess.Popen(["sleep", "60"])
    try:
        path.write_text(re.sub(rf"\b{pid}\b", str(bystander.pid), text))
        rootbox.raw("kill", name, "KILL")
        rootbox.raw("delete", "--force", name)
        time.sleep(0.1)
        assert bystander.poll() is None, "a process that is none of the container's was killed"
    finally:
        bystander.kill()
        bystander.wait()


def test_config_bombs(rootbox):
    """Deep, huge and repeated: refused, and quickly."""
    for text in ("[" * 100000, '{"a":' * 5000 + "1" + "}" * 5000, '{"x":"' + "a" * (8 << 20) + '"}',
                 '{"ociVersion":"1.0.2","ociVersion":"1.0.2"}', "\x00", ""):
        (rootbox.dir / "config.json").write_text(text)
        done = rootbox.raw("run", "--bundle", rootbox.dir, rootbox.new_id())
        assert done.returncode != 0


def test_config_is_a_fifo(rootbox):
    os.mkfifo(rootbox.dir / "config.json")
    done = rootbox.raw("run", "--bundle", rootbox.dir, rootbox.new_id())
    assert done.returncode != 0
