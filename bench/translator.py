"""The translator against QEMU's and against the host itself: the same programs in all three.

The programs are those of bench/guest: one boot of each machine, then each program runs in turn in
every machine and natively, so often as there are rounds; medians count. A program's time is what
its own clock says (CLOCK_MONOTONIC), which is compared with the host's: a guest whose clock is
slow would win. QEMU's time is that of its fastest way for each program.

    bench/run translator                               all, five rounds
    bench/run translator --only sha256,gzip --no-tcg   while tuning
    bench/run translator --rounds 1 --processor-time   on a machine that others use, too
"""
import argparse
import pathlib
import statistics

from benchlib import Row, geometric_mean, need, scratch
from guests import Bench, Runner

INTEGER = ["intloop", "coremark", "sha256", "gzip", "bytecode", "calls", "indirect"]
PROGRAMS = [*INTEGER, "memcpy16m", "memcpy16k"]
OF_NATIVE = {"coremark": 0.45, "sha256": 0.45, "gzip": 0.45, "bytecode": 0.45, "nbody": 0.6,
             "matrix-sse": 0.6, "matrix-avx": 0.6, "x87": 0.6, "memcpy16m": 0.7, "memcpy16k": 0.4,
             "calls": 0.4, "indirect": 0.4}
OF_TCG = {"getpid": 1.5, "pipe": 1.5, "fork": 1.5, "forkexec": 1.5, "faults": 1.5}
LONGEST = 8             # a ratio counts as at most so much in the mean of all


def options(argv):
    p = argparse.ArgumentParser(prog="bench/run translator")
    p.add_argument("--only", metavar="NAME,...", help="these programs")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--scale", type=float, default=1, help="so many times the usual work")
    for name in ("native", "tcg", "holm"):
        p.add_argument(f"--no-{name}", action="store_true", help="without this column")
    p.add_argument("--engine", default="soft", help="of holm-vmm")
    p.add_argument("--also", metavar="BUILD", type=pathlib.Path,
                   help="another build folder, a column of its own")
    p.add_argument("--processor-time", action="store_true",
                   help="what a machine's threads took counts, not its clock: for a busy host")
    return p.parse_args(argv)


def columns(bench, o):
    """What runs the programs: its name, and the command."""
    if not o.no_native:
        yield "native", bench.native()
    if not o.no_tcg:
        yield "tcg", bench.tcg(cpu=None)
        yield "tcg max", bench.tcg(cpu="max")
    if not o.no_holm:
        yield "holm", bench.holm(engine=o.engine)
    if o.also:
        yield "also", bench.holm(engine=o.engine, binaries=o.also / "bin")


def check_clock(name, program, result):
    """What was prepared is in the time outside, so only too long a time by the guest is wrong;
    too short a time shows where nothing is prepared."""
    if result.seconds > result.wall * 1.02 + 0.01:
        raise RuntimeError(f"{program}, {name}: {result.seconds} s of {result.wall} s")


def run_all(runners, programs, o):
    """{program: {column: seconds of each round}}."""
    known, times = {}, {p: {c: [] for c in runners} for p in programs}
    for n in range(o.rounds):
        for program in programs:
            for name, runner in runners.items():
                work = max(1, int(runner.programs[program] * o.scale))
                r = runner.run(program, work)
                check_clock(name, program, r)
                if known.setdefault(program, r.sum) != r.sum:
                    raise RuntimeError(f"{program}: {name} computed {r.sum}, not {known[program]}")
                outside = o.processor_time and name != "native"
                times[program][name].append(r.processor if outside else r.seconds)
        print(f"round {n + 1} of {o.rounds}", flush=True)
    return times


class Medians:
    """Of one program: seconds natively, of QEMU's best, of Holm; None where it did not run."""

    def __init__(self, times):
        values = {name: statistics.median(v) for name, v in times.items()}
        self.native, self.holm, self.also = (values.get(n) for n in ("native", "holm", "also"))
        tcg = {name: v for name, v in values.items() if name.startswith("tcg")}
        self.tcg_name = min(tcg, key=tcg.get) if tcg else None
        self.tcg = tcg.get(self.tcg_name)
        self.to_tcg = self.tcg / self.holm if self.tcg and self.holm else None
        self.to_native = self.native / self.holm if self.native and self.holm else None


def table(medians):
    def cell(value, form):
        return f"{'-' if value is None else format(value, form):>9}"

    print(f"\n{'seconds':12} {'native':>9} {'tcg':>9} {'holm':>9} {'x tcg':>9} {'x native':>9}  "
          f"{'tcg by':14} other build")
    for program, m in medians.items():
        print(f"{program:12} {cell(m.native, '.4f')} {cell(m.tcg, '.4f')} {cell(m.holm, '.4f')} "
              f"{cell(m.to_tcg, '.2f')} {cell(m.to_native, '.2f')}  {m.tcg_name or '-':14} "
              f"{cell(m.also, '.4f').strip()}")


def mean_row(what, bound, values, note):
    row = Row(what, "TCG", bound, "at least")
    return row.set(geometric_mean(values), note) if values else row


def rows(medians):
    tcg = {p: m.to_tcg for p, m in medians.items() if m.to_tcg is not None}
    part = "" if set(PROGRAMS) <= set(tcg) else f" ({len(tcg)} of {len(PROGRAMS)} programs)"
    yield mean_row("translator, all programs: speed", 3.0, [min(v, LONGEST) for v in tcg.values()],
                   f"geometric mean, each at most {LONGEST}{part}")
    yield mean_row("translator, integer programs: speed", 2.5,
                   [tcg[p] for p in INTEGER if p in tcg], f"geometric mean{part}")
    least = Row("translator, the slowest program: speed", "TCG", 1.0, "at least")
    yield least.set(min(tcg.values()), min(tcg, key=tcg.get)) if tcg else least
    for bounds, peer, of in ((OF_NATIVE, "native", "to_native"), (OF_TCG, "TCG", "to_tcg")):
        for program, bound in bounds.items():
            if program in medians:
                row = Row(f"  {program}: speed", peer, bound, "at least")
                row.value = getattr(medians[program], of)
                yield row


def measure(argv=()):
    o = options(argv)
    programs = o.only.split(",") if o.only else PROGRAMS
    need("cc", *[] if o.no_tcg else ["qemu-system-x86_64"])
    runners = {}
    with scratch("translator") as tmp:
        try:
            for name, command in columns(Bench(tmp), o):
                runners[name] = Runner(command)
                if unknown := set(programs) - set(runners[name].programs):
                    raise SystemExit(f"bench: no program {', '.join(unknown)}; there are "
                                     f"{', '.join(runners[name].programs)}")
            times = run_all(runners, programs, o)
        finally:
            for runner in runners.values():
                runner.close()
    medians = {program: Medians(t) for program, t in times.items()}
    table(medians)
    return list(rows(medians))
