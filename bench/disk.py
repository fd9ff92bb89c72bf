"""The disk device, driven without a guest, against the host's own O_DIRECT reads."""
import os
import statistics
import subprocess

from benchlib import BUILD, Row, scratch

MIB = 1 << 20
FILE_MIB = 512
ROUNDS = 12


def make_file(path):
    with open(path, "wb") as out:
        for _ in range(FILE_MIB):
            out.write(os.urandom(MIB))
        out.flush()
        os.fsync(out.fileno())


def rates(path, way, depth):
    done = subprocess.run([str(BUILD / "src/vm/dev/bench-blk"), str(path), way, str(depth),
                           str(ROUNDS)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"bench-blk ended with {done.returncode}: {done.stderr[-500:]}")
    pairs = [[float(v) for v in line.split()] for line in done.stdout.splitlines()[2:]]
    return [statistics.median(column) for column in zip(*pairs)]


def measure():
    rows = []
    with scratch("disk") as tmp:
        path = tmp / "disk"
        make_file(path)
        for way, bound in (("io_uring", 0.9), ("threads", None)):
            for depth in (1, 4):
                device, host = rates(path, way, depth)
                rows.append(Row(f"raw disk, {way}, random 4 KiB reads, depth {depth}", "O_DIRECT",
                                bound, "at least")
                            .set(device / host, f"{device:.0f}/s to {host:.0f}/s"))
    return rows
