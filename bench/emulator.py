"""The interpreter against QEMU's translator: a stock kernel boots, then integer work runs.

The work is user code of one process in the guest (bench/guest), so page tables, the timer and the
kernel's upkeep are part of it. It is timed by the processor time that the emulator's threads took,
which for work that never waits is the time it takes on a quiet machine; the boot by the clock on
the wall.
"""
import pathlib
import statistics

from benchlib import Row, geometric_mean, need, scratch, spread
from guests import Bench, Runner

ROUNDS = 3
ENGINE = "interp"
WORKS = ["sort", "hash", "crc", "digest", "strings", "intmatrix", "pointers", "branches", "calls"]


def once(args, known):
    """One boot: seconds until the init's first line and of each work, whose sums are `known`."""
    guest = Runner(args)
    try:
        seconds = {"boot": guest.boot}
        for name in WORKS:
            result = guest.run(name, guest.programs[name])
            seconds[name] = result.processor
            if known.setdefault(name, result.sum) != result.sum:
                raise RuntimeError(f"{name}: two results, {result.sum} and {known[name]}")
    finally:
        guest.close()
    return seconds


def measure():
    need("qemu-system-x86_64", "cc")
    ours, theirs, known = [], [], {}
    with scratch("emulator") as tmp:
        bench = Bench(pathlib.Path(tmp))
        for _ in range(ROUNDS):
            ours.append(once(bench.holm(engine=ENGINE), known))
            theirs.append(once(bench.tcg(), known))
    medians = [{name: statistics.median(r[name] for r in runs) for name in ("boot", *WORKS)}
               for runs in (ours, theirs)]
    speed = {name: medians[1][name] / medians[0][name] for name in WORKS}
    rows = [Row("interpreter, integer code in the guest: speed", "TCG", 0.2, "at least")
            .set(geometric_mean(speed.values()), f"geometric mean of {len(WORKS)} programs")]
    for name in WORKS:
        rows.append(Row(f"  {name}", "TCG", None)
                    .set(speed[name], f"{spread([r[name] for r in ours])} to "
                                      f"{spread([r[name] for r in theirs])}"))
    rows.append(Row("interpreter, stock kernel to our init: time", "TCG", 8)
                .set(medians[0]["boot"] / medians[1]["boot"],
                     f"{spread([r['boot'] for r in ours])} to "
                     f"{spread([r['boot'] for r in theirs])}"))
    return rows
