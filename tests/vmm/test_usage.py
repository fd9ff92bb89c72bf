# SPDX-License-Identifier: Apache-2.0
"""holm-vmm by hand: what is wrong is named before a machine begins."""
import pathlib
import subprocess

import pytest

from lib.daemon import BIN
from lib.vmm import Machine, stock_kernel

WRONG = {
    "no kernel": ((), "one of --kernel, --restore"),
    "kernel that is not there": (("--kernel", "/nope"), "/nope: No such file"),
    "kernel that is none": (("--kernel", "/etc/passwd"), "neither a bzImage nor an ELF file"),
    "no memory": (("--memory", "0"), "--memory: 0"),
    "odd memory": (("--memory", "4097"), "--memory: 4097 is not a multiple of 4096"),
    "little memory": (("--memory", "8m"), "do not fit into the guest's memory"),
    "no vCPU": (("--cpus", "0"), "--cpus: 0"),
    "disk without a key": (("--disk", "/nope"), "path=FILE[,ro]"),
    "disk that is not there": (("--disk", "path=/nope"), "cannot open the disk /nope"),
    "tap that is not there": (("--net", "tap=holmnone0"), "there is no tap device holmnone0"),
    "little code cache": (("--code-cache", "4k"), "--code-cache: from 1m to 1g"),
    "perf map in no folder": (("--perf-map", "/nope/map"), "cannot open the file for perf /nope/map"),
    "network of no kind": (("--net", "bridge"), "tap=NAME[,mac=MAC], user"),
}


@pytest.mark.parametrize("args, named", WRONG.values(), ids=WRONG.keys())
def test_named(args, named):
    kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
    args = args if not args or "--kernel" in args else ("--kernel", kernel, *args)
    done = subprocess.run([BIN / "holm-vmm", "--engine", "soft", *args], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode not in (0, 10, 11, 12, 13) and named in done.stderr, done
    assert not pathlib.Path("/sys/class/net/holmnone0").exists()


def test_kernel_speaks_by_default(tmp_path):
    kernel = next(stock_kernel().glob("boot/vmlinuz-*"))
    machine = Machine(tmp_path, "", "--kernel", kernel, kernel=False)
    try:
        machine.wait_output("Linux version")
    finally:
        machine.close()
