"""A thousand idle containers: start them, list them, stop them; the daemon's memory stays flat."""
import concurrent.futures
import pathlib
import time

from benchlib import Row, busybox_root, pss_kib, scratch
from holmenv import Holm

import tarfile

COUNT = 1000
AT_ONCE = 8
BATCH = 200


def start_batch(holm, network, first, count):
    def start(i):
        holm.call("run", "-d", "--network", network, "--name", f"m{i}", "bench:latest", "sleep",
                  "100000")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(start, range(first, first + count)))


def thousand(holm, network):
    """KiB of the daemon for each container over the last batches, and the three times."""
    sizes = []
    begin = time.perf_counter()
    for first in range(0, COUNT, BATCH):
        start_batch(holm, network, first, BATCH)
        sizes.append(pss_kib(holm.daemon.pid))
    started = time.perf_counter() - begin
    begin = time.perf_counter()
    listed = len(holm.call("ps", "-q").split())
    listing = time.perf_counter() - begin
    if listed != COUNT:
        raise RuntimeError(f"{listed} of {COUNT} are running")
    begin = time.perf_counter()
    for first in range(0, COUNT, 50):
        holm.call("rm", "-f", *[f"m{i}" for i in range(first, first + 50)])
    stopped = time.perf_counter() - begin
    early = (sizes[1] - sizes[0]) / BATCH
    late = (sizes[-1] - sizes[-2]) / BATCH
    note = (f"start {started:.0f} s, list {listing:.2f} s, remove {stopped:.0f} s; the daemon grew "
            f"{early:.1f} KiB a container at first and {late:.1f} at the end")
    return (sizes[-1] - sizes[0]) / (COUNT - BATCH), note


def measure():
    rows = []
    with scratch("many") as tmp:
        root = busybox_root(tmp / "image")
        tar = pathlib.Path(tmp) / "root.tar"
        with tarfile.open(tar, "w") as out:
            out.add(root, arcname=".")
        holm = Holm(tmp)
        try:
            holm.call("image", "import", tar, "bench:latest")
            for network, what in (("host", "without a network namespace"), ("none", "with one")):
                per_container, note = thousand(holm, network)
                rows.append(Row(f"1,000 idle, {what}: KiB of holmd each", "-", 16)
                            .set(per_container, note))
        finally:
            holm.close()
    return rows
