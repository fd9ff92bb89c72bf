# SPDX-License-Identifier: Apache-2.0
"""What a daemon's instances leave on the host: processes, mounts, control groups, folders, pins."""
import os
import pathlib
import time

from lib.wait import PATIENCE

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def processes(daemon):
    """{pid: command line} of those that name the daemon's folder or are in its groups."""
    found = {}
    mark = daemon.base.name
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        pid = int(proc.name)
        if pid in (os.getpid(), daemon.proc.pid if daemon.proc else 0):
            continue
        try:
            text = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (proc / "cgroup").read_text()
            state = (proc / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (mark in text or mark in groups) and state != "Z":
            found[pid] = text
    return found


def processes_after_a_while(daemon, seconds=PATIENCE):
    """What processes() finds once what is ending has been given time to end."""
    end = time.monotonic() + seconds
    while (found := processes(daemon)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def mounts(daemon):
    """Mounts that the host sees below the daemon's folder, but not of the folder itself."""
    mark = str(daemon.base) + "/"
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    known = getattr(daemon, "own_mounts", ())
    return [p for p in points if p.startswith(mark) and p not in known]


def groups(daemon):
    """Control groups of instances."""
    return [str(d) for h in CGROUPS.iterdir() if h.is_dir()
            for d in (h / daemon.cgroup.strip("/")).glob("*") if d.is_dir()]


def folders(daemon):
    """Folders of instances that are not in the daemon's list."""
    known = set(daemon.holm("ps", "-aq", "--no-trunc").stdout.split())
    places = (daemon.state / "instances", daemon.run_dir / "instances", daemon.run_dir / "oci",
              daemon.state / "images/pins")
    return [str(d) for p in places if p.is_dir() for d in p.iterdir()
            if d.name not in known and d.name != "seccomp:cache"]


def all_of(daemon, running=()):
    """Everything that is there and should not be, `running` being the ids that may run."""
    found = [f"process {pid}: {text}" for pid, text in processes(daemon).items()
             if not any(i in text or i in cgroup_of(pid) for i in running)]
    found += [f"mount {m}" for m in mounts(daemon)]
    found += [f"group {g}" for g in groups(daemon) if pathlib.Path(g).name not in running]
    return found + [f"folder {f}" for f in folders(daemon)]


def cgroup_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def none_left(daemon, running=(), seconds=PATIENCE):
    """Fails if something is still there after `seconds`: what ends is given time to."""
    end = time.monotonic() + seconds
    while found := all_of(daemon, running):
        assert time.monotonic() < end, "\n".join(found)
        time.sleep(0.1)
