# SPDX-License-Identifier: Apache-2.0
"""The software engine's instructions, and the whole engine with paging and faults, against the
host's own CPU, and its decoder against capstone: more cases than the unit tests have."""
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SOFT = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build")) / "src/vm/cpu/soft"


def run(name, *args):
    done = subprocess.run([SOFT / name, *map(str, args)], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_instructions():
    run("test-soft-oracle", 10**6, 1)


def test_engine():
    run("test-soft-oracle-engine", 300000, 1)


def test_decoder():
    run("test-soft-decode", 10**6, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_instructions_long(seed):
    run("test-soft-oracle", 10**7, seed * 0x1234567)


@pytest.mark.long
def test_litmus_long():
    run("test-soft-litmus", 300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_engine_long(seed):
    run("test-soft-oracle-engine", 10**6, seed * 0x1234567)


@pytest.mark.long
@pytest.mark.parametrize("how", [[], ["shaken"]])
def test_programs_long(how):
    run("test-soft-programs", 3 * 10**4, 7, 1, *how)


@pytest.mark.long
def test_decoder_long():
    run("test-soft-decode", 10**7, 0x7654321)
