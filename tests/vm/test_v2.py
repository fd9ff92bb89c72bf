# SPDX-License-Identifier: Apache-2.0
"""What needs a host with pure cgroup v2 and systemd, in a virtual machine (machine.py)."""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402

pytestmark = pytest.mark.long

SUITES = {"cgroup": 40, "attacks": 40, "attacks-systemd": 40}   # and how many must pass at least
SUITES = {name: n for name, n in SUITES.items()
          if name == "cgroup" or list((machine.TOP / "tests/attacks").glob("test_*.py"))}


@pytest.fixture(scope="module")
def vm():
    """One machine for all suites: its console and the files that they left."""
    return machine.boot(list(SUITES), timeout=3000)


def text(vm, name):
    console, results = vm
    assert name in results, f"the machine left no {name}; its console:\n{console[-6000:]}"
    return results[name].decode("utf-8", "replace")


def test_is_a_v2_host_with_systemd(vm):
    assert text(vm, "cgroup").strip() == "cgroup2fs"
    assert text(vm, "init").strip() == "systemd"


@pytest.mark.parametrize("suite", SUITES)
def test_suite(vm, suite):
    cases = list(ElementTree.fromstring(text(vm, f"{suite}.xml")).iter("testcase"))
    bad = [f"{c.get('classname')}::{c.get('name')}: {(found[0].text or '')[-1500:]}" for c in cases
           if (found := c.findall("failure") + c.findall("error"))]
    good = [c for c in cases if len(c) == 0 or {e.tag for e in c} <= {"system-out", "system-err",
                                                                       "properties"}]
    assert not bad, "\n".join(bad)
    assert len(good) >= SUITES[suite], text(vm, f"{suite}.txt")[-3000:]


def test_nothing_is_left_behind(vm):
    assert text(vm, "leftovers").strip() == ""
