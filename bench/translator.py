"""The translator against QEMU's and against the host itself: the same programs in all three.

The programs are those of bench/guest: one boot of each machine, then each program runs in turn in
every machine and natively, so often as there are rounds, and the quick ones more than once in each:
what else the host does for a moment must not be the median of a few short runs. Medians count. A
program's time is what its own clock says (CLOCK_MONOTONIC), which is compared with the host's: a
guest whose clock is slow would win. QEMU's time is that of its fastest way for each program.

    bench/run translator                               all, five rounds
    bench/run translator --only sha256,gzip --no-tcg   while tuning
    bench/run translator --only node,java              programs that make code; they take an hour
    bench/run translator --rounds 1 --processor-time   on a machine that others use, too
"""
import argparse
import contextlib
import functools
import os
import pathlib
import statistics
import subprocess

import debian
from benchlib import Row, geometric_mean, need, scratch, spread
from guests import HOST, Bench, Sink, started
from lib.netns import network, tap_namespace

INTEGER = ["intloop", "coremark", "sha256", "gzip", "bytecode", "calls", "indirect"]
PROGRAMS = {   # by the kind of machine
    "one": [*INTEGER, "memcpy16m", "memcpy16k", "nbody", "matrix-sse", "matrix-avx", "x87",
            "rewrite", "getpid", "clock", "pipe", "fork", "forkexec", "faults"],
    "two": ["mutex", "atomics", "parallel1", "parallel2"],
    "devices": ["disk", "net"],
    "compile": ["compile"],
    "jits": ["node", "java"],
}
ON_DEMAND = ["jits"]    # not unless somebody asks for them
GUESTS_ONLY = ["devices", "jits"]
SUITE = [*PROGRAMS["one"], "mutex", "atomics"]   # what the means are of
BOOT = "boot"
OF_NATIVE = {"coremark": 0.45, "sha256": 0.45, "gzip": 0.45, "bytecode": 0.45, "nbody": 0.6,
             "matrix-sse": 0.6, "matrix-avx": 0.6, "x87": 0.6, "memcpy16m": 0.7, "memcpy16k": 0.4,
             "calls": 0.4, "indirect": 0.4}
OF_TCG = {"getpid": 1.5, "pipe": 1.5, "fork": 1.5, "forkexec": 1.5, "faults": 1.5,
          "disk": 1.5, "net": 2, "compile": 2, "node": 1, "java": 1}
CLOCK_LEAST = 0.1       # seconds of a run that shows whether a clock is right
CLOCK_SLACK = 0.02      # seconds that its lines may be under way
QUICK = 1               # seconds: shorter runs are done again,
TURNS = 3               # so often in each round
LONGEST = 8             # a ratio counts as at most so much in the mean of all


def options(argv):
    p = argparse.ArgumentParser(prog="bench/run translator")
    p.add_argument("--only", metavar="NAME,...", help="these programs")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--scale", type=float, default=1, help="so many times the usual work")
    for name in ("native", "tcg", "holm"):
        p.add_argument(f"--no-{name}", action="store_true", help="without this column")
    p.add_argument("--one-qemu", action="store_true", help="only the one that is installed")
    p.add_argument("--engine", default="soft", help="of holm-vmm")
    p.add_argument("--also", metavar="BUILD", type=pathlib.Path,
                   help="another build folder, a column of its own")
    p.add_argument("--processor-time", action="store_true",
                   help="not the clock counts, but what a machine's threads took: for a busy host, "
                        "and not for parallel2, disk, net")
    return p.parse_args(argv)


def qemus(o):
    """QEMU's versions: what starts each."""
    found = {}
    for program in (["qemu-system-x86_64"], *([] if o.one_qemu else [debian.qemu()])):
        text = subprocess.run([*program, "--version"], check=True, capture_output=True, text=True)
        found[f"tcg {text.stdout.split()[3].rpartition('.')[0]}"] = program
    return found


def columns(bench, o, kind):
    """What runs the programs: its name, and the command."""
    if not o.no_native and kind not in GUESTS_ONLY:
        yield "native", bench.native()
    if not o.no_tcg:
        for version, program in qemus(o).items():
            for name, cpu in ((version, None), (f"{version} max", "max")):
                yield name, bench.tcg(kind, program=program, cpu=cpu)
    if not o.no_holm:
        yield "holm", bench.holm(kind, engine=o.engine)
    if o.also:
        yield "also", bench.holm(kind, engine=o.engine, binaries=o.also / "bin")


@contextlib.contextmanager
def machines(bench, o, kind):
    """All of a kind, running: {name: Runner}. Those with a network have a namespace each."""
    with contextlib.ExitStack() as stack:
        runners = {}
        for number, (name, command) in enumerate(columns(bench, o, kind)):
            with contextlib.ExitStack() as inside:
                if kind == "devices":
                    there = stack.enter_context(tap_namespace(f"bench{number}", HOST))
                    inside.enter_context(network(there))
                    stack.callback(Sink().close)
                more = {"BENCH_SOURCE": str(debian.sqlite())} if kind == "compile" else {}
                runners[name] = started(name, command, {**os.environ, **more})
            stack.callback(runners[name].close)
            if kind == "two" and runners[name].cpus < 2:
                raise RuntimeError(f"{name} has {runners[name].cpus} processors")
        yield runners


def in_turns(names, run):
    """One round: each name's run in turn, and again of those that were quick, by the seconds that
    run() tells."""
    for _ in range(TURNS):
        names = [name for name in names if run(name) < QUICK]


def run_all(runners, programs, o):
    """{program: {column: seconds of each round}}, and by program and column what part of the
    host's seconds the guests' clocks showed."""
    known, clocks, times = {}, {}, {p: {c: [] for c in runners} for p in programs}

    def run(program, name):
        runner = runners[name]
        r = runner.run(program, max(1, int(runner.programs[program] * o.scale)))
        if name != "native" and r.wall > CLOCK_LEAST:
            clocks.setdefault(f"{program}, {name}", []).append((r.seconds + CLOCK_SLACK) / r.wall)
        if known.setdefault(program, r.sum) != r.sum:
            raise RuntimeError(f"{program}: {name} computed {r.sum}, not {known[program]}")
        processor = r.own_processor if name == "native" else r.processor
        times[program][name].append(processor if o.processor_time else r.seconds)
        return r.wall

    for n in range(o.rounds):
        for program in programs:
            in_turns(runners, functools.partial(run, program))
        print(f"{', '.join(programs)}: round {n + 1} of {o.rounds}", flush=True)
    return times, clocks


class Medians:
    """Of one program: seconds natively, of QEMU's best, of Holm; None where it did not run."""

    def __init__(self, times):
        self.values = values = {name: statistics.median(v) for name, v in times.items()}
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


def tcg_table(medians):
    """Each of QEMU's versions and models, where there are several."""
    names = dict.fromkeys(n for m in medians.values() for n in m.values if n.startswith("tcg"))
    if len(names) > 1:
        print(f"\n{'seconds':12} {' '.join(f'{n:>13}' for n in names)}")
        for program, m in medians.items():
            print(f"{program:12} {' '.join(f'{m.values[n]:13.4f}' for n in names)}")


def mean_row(what, bound, values, note):
    row = Row(what, "TCG", bound, "at least")
    return row.set(geometric_mean(values), note) if values else row


def rows(medians):
    tcg = {p: medians[p].to_tcg for p in SUITE if p in medians and medians[p].to_tcg is not None}
    part = "" if len(tcg) == len(SUITE) else f" ({len(tcg)} of {len(SUITE)} programs)"
    yield mean_row("translator, all programs: speed", 3.0, [min(v, LONGEST) for v in tcg.values()],
                   f"geometric mean, each at most {LONGEST}{part}")
    yield mean_row("translator, integer programs: speed", 2.5,
                   [tcg[p] for p in INTEGER if p in tcg], "geometric mean")
    least = Row("translator, the slowest program: speed", "TCG", 1.0, "at least")
    yield least.set(min(tcg.values()), min(tcg, key=tcg.get)) if tcg else least
    for bounds, peer, of in ((OF_NATIVE, "native", "to_native"), (OF_TCG, "TCG", "to_tcg")):
        for program, bound in bounds.items():
            if program in medians:
                yield Row(f"  {program}: speed", peer, bound, "at least") \
                    .set(getattr(medians[program], of))
    one, two = (medians[n].holm if n in medians else None for n in ("parallel1", "parallel2"))
    if one and two:
        yield Row("  two vCPUs, parallel integer load: speed", "one vCPU", 1.9, "at least") \
            .set(2 * one / two)


def boot_row(bench, o):
    """From the start of the process to the first line of our init, the kernel unpacked before."""
    row = Row("translator, stock kernel to our init: time", "TCG", 0.4)
    commands = {n: c for n, c in columns(bench, o, "one") if n != "native"}
    times = {name: [] for name in commands}

    def run(name):
        runner = started(name, commands[name])
        times[name].append(runner.boot)
        runner.close()
        return runner.boot

    for _ in range(o.rounds):
        in_turns(commands, run)
    for name, all_ in times.items():
        print(f"boot, {name}: {spread(all_)}", flush=True)
    best = Medians(times)
    if best.to_tcg:
        row.set(1 / best.to_tcg, f"{spread(times['holm'])} to {spread(times[best.tcg_name])}, "
                                 f"{best.tcg_name}")
    return row


def wanted(o):
    """The programs to run, by the kind of machine; one that has no place in the suite in "one"."""
    if not o.only:
        return {k: [] if k in ON_DEMAND else p for k, p in PROGRAMS.items()} | {BOOT: [BOOT]}
    names = o.only.split(",")
    kind_of = {n: kind for kind, programs in PROGRAMS.items() for n in programs} | {BOOT: BOOT}
    return {kind: [n for n in names if kind_of.get(n, "one") == kind]
            for kind in (*PROGRAMS, BOOT)}


def measure(argv=()):
    o = options(argv)
    todo, times, clocks, boot = wanted(o), {}, {}, []
    need("cc", *[] if o.no_tcg else ["qemu-system-x86_64"], *["mmdebstrap"] if todo["jits"] else [])
    with scratch("translator") as tmp:
        bench = Bench(tmp)
        if unknown := set(sum(todo.values(), [])) - set(bench.programs) - {BOOT}:
            raise SystemExit(f"bench: no program {', '.join(unknown)}; there are {BOOT}, "
                             f"{', '.join(bench.programs)}")
        for kind in PROGRAMS:
            if todo[kind]:
                with machines(bench, o, kind) as runners:
                    more, clock = run_all(runners, todo[kind], o)
                times |= more
                clocks |= clock
        if todo[BOOT]:
            boot = [boot_row(bench, o)]
    medians = {program: Medians(t) for program, t in times.items()}
    table(medians)
    tcg_table(medians)
    honest = Row("the guests' clocks, by the host's", "host", 0.9, "at least")
    if clocks:
        honest.set(*min((statistics.median(parts), where) for where, parts in clocks.items()))
    return [*rows(medians), *boot, honest]
