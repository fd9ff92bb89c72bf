"""What the benchmarks share: interleaved timing, ratios, a root file system, reports.

Every figure is a ratio against a peer measured in the same run, the two in turn, so that a
machine whose speed drifts does not decide. Medians are quoted; the spread stands beside them.
"""
import contextlib
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
BIN = BUILD / "bin"
CACHE = pathlib.Path(os.environ.get("HOLM_CACHE", TOP / "build")).resolve() / "vm"   # as in tests


class Row:
    """One line of the report."""

    def __init__(self, what, peer, bound, better="at most"):
        self.what, self.peer, self.bound, self.better = what, peer, bound, better
        self.value = None
        self.note = ""

    def set(self, value, note=""):
        self.value, self.note = value, note
        return self

    def met(self):
        if self.value is None or self.bound is None:
            return None
        return self.value <= self.bound if self.better == "at most" else self.value >= self.bound


def report(rows):
    print()
    print(f"{'what':58} {'against':10} {'measured':>9} {'bound':>14}  result")
    for r in rows:
        value = "-" if r.value is None else f"{r.value:.3f}" if r.value < 10 else f"{r.value:.1f}"
        bound = "-" if r.bound is None else f"{r.better} {r.bound}"
        unbound = "-" if r.value is not None else "not measured"
        verdict = {True: "met", False: "NOT MET", None: unbound}[r.met()]
        print(f"{r.what:58} {r.peer:10} {value:>9} {bound:>14}  {verdict}  {r.note}")
    return all(r.met() is not False for r in rows)


def timed(args, **kw):
    """Wall seconds of one run of a command, which has to succeed."""
    start = time.perf_counter()
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, **kw)
    took = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{args} ended with {done.returncode}: {done.stderr.decode()[-800:]}")
    return took


def interleaved(a, b, runs, quiet=0.0, warmup=2):
    """Times a() and b() in turn; returns the two lists of seconds."""
    for _ in range(warmup):
        a()
        b()
    times_a, times_b = [], []
    for _ in range(runs):
        time.sleep(quiet)
        times_a.append(a())
        time.sleep(quiet)
        times_b.append(b())
    return times_a, times_b


def ratio(times_a, times_b):
    """The ratio of the medians, with both and the spread as text."""
    a, b = statistics.median(times_a), statistics.median(times_b)
    note = (f"{a * 1e3:.2f} ms ({min(times_a) * 1e3:.2f}-{max(times_a) * 1e3:.2f}) to "
            f"{b * 1e3:.2f} ms ({min(times_b) * 1e3:.2f}-{max(times_b) * 1e3:.2f})")
    return a / b, note


def spread(values):
    """The median of seconds, and between which they lie."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def need(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        sys.exit(f"bench: {', '.join(missing)} not found; run `make bench`, which installs it")


@contextlib.contextmanager
def scratch(prefix, where=None):
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"holm-bench-{prefix}-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def in_memory():
    """Where folders belong that a reboot empties: /run, as every engine has it, is a tmpfs."""
    return "/run" if os.path.ismount("/run") else "/dev/shm"


def busybox_root(path):
    """A root file system of one static program."""
    busybox = "/bin/busybox"
    for folder in ("bin", "dev", "proc", "sys", "tmp", "etc", "root", "run"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, path / "bin" / "busybox")
    for name in ("sh", "true", "sleep", "cat", "ls", "echo", "id", "env", "mkdir"):
        with contextlib.suppress(FileExistsError):
            (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\n")
    return path


def pss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Pss for {pid}")
