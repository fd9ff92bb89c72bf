# SPDX-License-Identifier: Apache-2.0
"""What the translator tells of itself: --stats, ctl stats, --perf-map, --code-cache."""
import json
import os
import pathlib
import re
import subprocess

import pytest
from lib.daemon import BIN
from lib.vmm import PATIENCE, Machine


def counters(text):
    """{group: {name: value}} of what is printed for people."""
    found, group = {}, None
    for line in text.replace("\r", "").splitlines():
        number = re.fullmatch(r" *(\d+)  (\S.*)", line)
        if number and group is not None:
            group[number[2]] = int(number[1])
        elif not number:
            group = found.setdefault(line, {})
    return {name: rows for name, rows in found.items() if rows}


def ctl(*args):
    done = subprocess.run([BIN / "holm-vmm", "ctl", *map(str, args)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_counters_and_names(machine, tmp_path):
    control, names = tmp_path / "control", tmp_path / "names"
    m = machine("echo counted\nsleep 100000\n", "--control", control, "--stats", "--perf-map", names,
                "--code-cache", "16m", cmdline="quiet")
    m.wait_output("counted")
    during = counters(ctl("stats", control))
    told = json.loads(ctl("status", control))["counters"]
    assert during["translated"]["blocks"] > 1000 and during["translated"]["nanoseconds"] > 0
    assert told["code cache"]["bytes"] == during["code cache"]["bytes"] == 16 << 20
    assert told["translated"]["blocks"] >= during["translated"]["blocks"]
    ctl("quit", control)
    assert m.wait() == 13
    end = counters(m.output())
    # Nobody runs any more: it adds up.
    assert end["entered"]["times"] == sum(end["left"].values())
    listed = end["instructions not translated"].values()
    assert list(listed) == sorted(listed, reverse=True) and len(listed) <= 20
    assert sum(listed) <= end["calls of the interpreter"]["instruction not translated"]
    assert end["TLB misses"]["read, filled"] > 0 and end["TLB misses"]["write, filled"] > 0
    assert end["translated"]["blocks"] >= during["translated"]["blocks"]
    check_names(names, end)


def check_names(names, end):
    lines = [re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) (\S+)", line)
             for line in names.read_text().splitlines()]
    assert all(lines) and lines[0][3] == "translator:routines"
    assert all(re.fullmatch(r"guest-(user|kernel|direct)(-ways)?:[0-9a-f]+@[0-9a-f]+", line[3])
               for line in lines[1:])
    assert any(line[3].startswith("guest-user:") for line in lines[1:])
    assert len(lines) - 1 == 2 * end["translated"]["blocks"]
    assert sum(int(line[2], 16) for line in lines[1:]) == end["translated"]["host bytes"]


def test_small_cache(machine):
    """A boot needs several times as much: what was translated goes, and is made again."""
    m = machine("echo done\npoweroff -f\n", "--stats", "--code-cache", "1m", cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    end = counters(m.output())
    assert end["code cache"]["bytes"] == 1 << 20
    assert end["translated"]["host bytes"] > 2 << 20
    assert end["code cache"]["bytes in use"] <= 1 << 20


def test_all_direct(machine):
    """Whatever program runs, its memory is mapped."""
    m = machine("i=0; while [ $i -lt 50 ]; do cat /proc/self/stat > /dev/null; i=$((i + 1)); done\n"
                "echo $i is right\npoweroff -f\n", "--stats", "--direct", "--shake", "--cpus", 2,
                cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    assert "50 is right" in m.output()
    shadow = counters(m.output()).get("shadow mappings")
    if not shadow:
        pytest.skip("this build or host maps no memory where the guest has it")
    assert shadow["address spaces taken"] > 50 and shadow["pages mapped"] > 1000, shadow


def test_interpreter_alone(machine):
    m = machine("echo done\npoweroff -f\n", "--engine", "interp", "--stats", cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    end = counters(m.output())
    assert end["interpreted"]["instructions of blocks"] > 10**8
    assert "entered" not in end and "translated" not in end


COUNT = """
n=0; s=7
while :; do
	i=0; while [ $i -lt 300 ]; do s=$(((s * 31 + i) % 1000003)); i=$((i + 1)); done
	n=$((n + 1)); echo "n $n $s"
done
"""


def test_engines_hand_over(tmp_path):
    """A guest goes from the interpreter to the translator and back, and counts on."""
    text, source, made = "", None, []
    try:
        for hop, engine in enumerate(("interp", "soft", "interp")):
            folder = tmp_path / f"run{hop}"
            folder.mkdir()
            boot = {"cmdline": "quiet"} if hop == 0 else {"kernel": False}
            m = Machine(folder, COUNT, "--engine", engine, "--control", folder / "ctl", "--memory",
                        "128m", *(["--restore", source] if source else []), **boot)
            made.append(m)
            m.wait_output(f"n {20 * (hop + 1)} ")
            source = tmp_path / f"snapshot{hop}"
            ctl("snapshot", "--quit", folder / "ctl", source)
            assert m.wait() == 13
            text += m.output()
    finally:
        for m in made:
            m.close()
    s, lines = 7, re.findall(r"^n (\d+) (\d+)$", text.replace("\r", ""), re.M)
    assert len(lines) >= 60
    for number, line in enumerate(lines, 1):
        for i in range(300):
            s = (s * 31 + i) % 1000003
        assert line == (str(number), str(s))


# A host whose kernel does not let programs write FS and GS.
LESS = """
#include <dlfcn.h>
unsigned long getauxval(unsigned long type)
{
	unsigned long (*real)(unsigned long) = dlsym(RTLD_NEXT, "getauxval");

	return type == 26 ? 0 : real(type);
}
"""


def test_host_that_cannot(machine, tmp_path):
    """It is told once, and the guest is interpreted."""
    (tmp_path / "less.c").write_text(LESS)
    subprocess.run([*os.environ.get("CC", "gcc").split()[-1:], "-D_GNU_SOURCE", "-shared", "-fPIC",
                    "-o", tmp_path / "less.so", tmp_path / "less.c"], check=True)
    m = machine("echo $((6 * 7)) is right\npoweroff -f\n", "--stats", cmdline="quiet",
                wrapper=("env", f"LD_PRELOAD={tmp_path}/less.so"))
    assert m.wait() == 0, m.output()[-3000:]
    notice = "the guest is interpreted: this host cannot translate"
    assert m.output().count(notice) == 1 and "lacks=FSGSBASE" in m.output(), m.output()
    assert "42 is right" in m.output()
    end = counters(m.output())
    assert end["interpreted"]["instructions of blocks"] > 10**8
    assert "entered" not in end and "translated" not in end


def test_32_bits(machine, tmp_path):
    """A 32-bit program computes what it does natively, and as translated code."""
    program = tmp_path / "compat"
    source = pathlib.Path(__file__).resolve().parent / "guest" / "compat.c"
    subprocess.run(["gcc", "-m32", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pic",
                    "-no-pie", "-fno-stack-protector", "-msse2", "-o", program, source], check=True,
                   stdin=subprocess.DEVNULL)
    try:
        want = subprocess.run([program], check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL).stdout
    except OSError as e:
        pytest.skip(f"this host runs no 32-bit programs: {e}")
    m = machine("chmod +x /lib/compat; echo begin; /lib/compat; echo end\npoweroff -f\n", "--stats",
                files=[("lib/compat", program.read_bytes())], cmdline="quiet")
    assert m.wait() == 0, m.output()[-3000:]
    output = m.output().replace("\r", "")
    assert output.partition("begin\n")[2].partition("end\n")[0] == want and want.count("\n") == 6
    # Of its 30 million instructions and the boot's few that are cold.
    assert counters(output)["interpreted"]["instructions of blocks"] < 10**7
