# SPDX-License-Identifier: Apache-2.0
"""What needs a host with pure cgroup v2 and systemd, in a virtual machine (machine.py)."""
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402

pytestmark = pytest.mark.long

# And how many cases must pass at least.
SUITES = {"cgroup": 40, "mounts": 40, "attacks": 400, "attacks-systemd": 80, "user": 11, "labels": 13,
          "package": 10, "run": 10}


@pytest.fixture(scope="module")
def package():
    """The Debian package of the build under test."""
    done = subprocess.run([machine.TOP / "packaging/make-deb"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(machine.TOP.glob("build/holm_*.deb"))


@pytest.fixture(scope="module")
def vm(package):
    """One machine for all suites: its console and the files that they left."""
    return machine.boot(list(SUITES), timeout=7200)


def test_the_package_names_its_libraries(package, tmp_path):
    """All that a program of the package is linked to, is in a package that it depends on."""
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    fields = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True,
                            check=True).stdout
    names = {field.split()[0] for field in fields.split(",")}
    for program in [p for p in tmp_path.rglob("*") if p.is_file() and os.access(p, os.X_OK)]:
        said = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True)
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", said.stdout):
            owner = subprocess.run(["dpkg", "-S", f"*/{library}"], capture_output=True, text=True,
                                   check=True).stdout.split(":")[0]
            assert owner in names, f"{program.name} needs {library} of {owner}"


def text(vm, name):
    console, results = vm
    assert name in results, f"the machine left no {name}; its console:\n{console[-6000:]}"
    return results[name].decode("utf-8", "replace")


def test_is_a_v2_host_with_systemd(vm):
    assert text(vm, "cgroup").strip() == "cgroup2fs"
    assert text(vm, "init").strip() == "systemd"


@pytest.mark.parametrize("suite", SUITES)
def test_suite(vm, suite):
    judge(vm, suite, SUITES[suite])


def judge(vm, suite, least):
    cases = list(ElementTree.fromstring(text(vm, f"{suite}.xml")).iter("testcase"))
    bad = [f"{c.get('classname')}::{c.get('name')}: {(found[0].text or '')[-1500:]}" for c in cases
           if (found := c.findall("failure") + c.findall("error"))]
    good = [c for c in cases if len(c) == 0 or {e.tag for e in c} <= {"system-out", "system-err",
                                                                       "properties"}]
    assert not bad, "\n".join(bad)
    assert len(good) >= least, text(vm, f"{suite}.txt")[-3000:]


def test_nothing_is_left_behind(vm):
    assert text(vm, "leftovers").strip() == ""


def test_selinux():
    """In a machine of its own: it takes the place of AppArmor."""
    judge(machine.boot(["selinux"], timeout=1800), "selinux", 10)
