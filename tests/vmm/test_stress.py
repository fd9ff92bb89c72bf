# SPDX-License-Identifier: Apache-2.0
"""Several vCPUs at work on the same things, while the kernel rewrites its own code under them."""
import os
import re

import pytest
from lib.daemon import BIN
from lib.vmm import PATIENCE, module

STRESS = BIN.parent / "tests/stress"
# Of the loads, on each number of vCPUs; an hour in all.
SECONDS = int(os.environ.get("HOLM_STRESS_SECONDS", "1200"))
MODULES = ["dummy", "ifb"]
LOADS = ["messages", "futexes", "atomics", "mappings", "codes"]

SCRIPT = """
mount -t devtmpfs dev /dev
mkdir -p /tmp
mount -t tmpfs tmp /tmp
T=/sys/kernel/tracing
mount -t tracefs trace $T
chmod +x /lib/stress
again() {   # a function, until there is /tmp/stop
	n=0
	until [ $n -gt 0 ] && [ -f /tmp/stop ]; do $1; n=$((n + 1)); done
	echo "$1 $n" > /tmp/count-$1
}
put() { echo "$1" > $2 || echo "BAD $1 > $2"; }
# Static keys, tracepoints, and breakpoints of kprobes.
keys() {
	for v in 1 0; do
		put $v /proc/sys/kernel/sched_schedstats
		put $v /proc/sys/kernel/bpf_stats_enabled
		put $v $T/events/sched/enable
		put $v $T/events/raw_syscalls/enable
	done
	put 'p:opened do_sys_openat2' $T/kprobe_events
	echo 'r:written vfs_write' >> $T/kprobe_events || echo "BAD kprobe"
	put 1 $T/events/kprobes/enable
	cat /proc/uptime > /tmp/uptime
	put 0 $T/events/kprobes/enable
	put "" $T/kprobe_events
}
modules() {
	for m in MODULES; do insmod /lib/$m.ko || echo "BAD insmod $m"; done
	for m in MODULES; do rmmod $m || echo "BAD rmmod $m"; done
}
# The first instruction of every function of the kernel.
functions() {
	put function $T/current_tracer
	cat /proc/self/stat > /dev/null
	put nop $T/current_tracer
}
for f in keys modules functions; do again $f & p="$p $!"; done
echo
/lib/stress SECONDS
echo "stress ends: $?"
touch /tmp/stop
wait $p
cat /tmp/count-*
dmesg | grep -E "BUG|WARNING|Oops|general protection|Kernel panic" | sed 's/^/BAD /'
echo "the end"
poweroff -f
"""


def holds(machine, cpus, seconds, *args):
    script = SCRIPT.replace("SECONDS", str(seconds)).replace("MODULES", " ".join(MODULES))
    # On a host that is busy a vCPU may not run for long.
    m = machine(script, "--cpus", cpus, *args, cmdline="quiet rcupdate.rcu_cpu_stall_suppress=1 nowatchdog",
                files=[*map(module, MODULES), ("lib/stress", STRESS.read_bytes())])
    assert m.process.wait(timeout=PATIENCE + 4 * seconds) == 0, m.output()[-3000:]
    said = m.output().replace("\r", "")
    assert "WRONG" not in said and "BAD" not in said, said[-3000:]
    assert "stress: all is right\nstress ends: 0\n" in said and said.count("the end\n") == 1, said[-3000:]
    for name in LOADS:
        assert re.search(rf"^{name}: [1-9]\d* rounds$", said, re.M), said[-3000:]
    for name in ("keys", "modules", "functions"):
        assert re.search(rf"^{name} [1-9]\d*$", said, re.M), said[-3000:]


@pytest.mark.parametrize("args", [(), ("--direct",)], ids=["", "direct"])
def test_little(machine, args):
    """Once round."""
    holds(machine, 2, 0, *args)


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_long(machine, cpus):
    holds(machine, cpus, SECONDS)


@pytest.mark.long
@pytest.mark.parametrize("cpus", [2, 4])
@pytest.mark.parametrize("args", [(), ("--direct",)], ids=["", "direct"])
def test_shaken(machine, cpus, args):
    holds(machine, cpus, SECONDS // 10, "--shake", "--code-cache", "4m", *args)
