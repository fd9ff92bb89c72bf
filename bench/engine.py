"""holm and its daemon against podman: one start, many at once, memory of what watches."""
import concurrent.futures
import statistics
import subprocess
import time

from benchlib import Row, busybox_root, interleaved, need, pss_kib, ratio, scratch, timed
from holmenv import Holm
from podmanenv import Podman

RUNS = 21
AT_ONCE = 4
STARTS = 40
IDLE = 10


def rate(start_one, starts):
    """Starts a second with AT_ONCE in flight."""
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: start_one(), range(starts)))
    return starts / (time.perf_counter() - begin)


def children_named(name):
    done = subprocess.run(["pgrep", "-x", name], capture_output=True, text=True)
    return {int(pid) for pid in done.stdout.split()}


def watchers(program, start, count):
    """The mean PSS in KiB of the processes called `program` that `count` starts bring."""
    before = children_named(program)
    for i in range(count):
        start(i)
    time.sleep(2)
    new = children_named(program) - before
    if len(new) != count:
        raise RuntimeError(f"{len(new)} {program} for {count} containers")
    return statistics.mean(pss_kib(pid) for pid in new)


def measure():
    need("podman", "conmon", "pgrep")
    rows = []
    with scratch("engine") as tmp:
        root = busybox_root(tmp / "image")
        podman = Podman(tmp, root)
        holm = Holm(tmp)
        try:
            holm.call("image", "import", tmp / "root.tar", "bench:latest")
            one = holm.args("run", "--rm", "--network", "none", "bench:latest", "true")
            other = podman.base + ["run", "--rm", "--network", "none", podman.image, "true"]

            def ours():
                return timed(one, env=holm.env)

            def theirs():
                return timed(other, env=podman.env)

            rows.append(Row("holm run --rm --network none IMAGE true", "podman", 0.10)
                        .set(*ratio(*interleaved(ours, theirs, RUNS))))
            a, b = rate(ours, STARTS), rate(theirs, STARTS // 2)
            rows.append(Row(f"starts a second, {AT_ONCE} in flight", "podman", 10, "at least")
                        .set(a / b, f"{a:.1f}/s to {b:.1f}/s"))
            shim = watchers("holm-shim", lambda i: holm.call(
                "run", "-d", "--network", "none", "--name", f"idle{i}", "bench:latest", "sleep",
                "1000"), IDLE)
            conmon = watchers("conmon", lambda i: podman.call(
                "run", "-d", "--network", "none", podman.image, "sleep", "1000"), IDLE)
            rows.append(Row("memory of what watches an idle container (PSS)", "conmon", 1.0)
                        .set(shim / conmon, f"{shim:.0f} KiB to {conmon:.0f} KiB"))
        finally:
            holm.close()
            podman.close()
    return rows
