"""Every kernel call of a create fails once: it says so, and nothing stays behind."""
import json
import os
import pathlib
import subprocess

import pytest

from lib.bundle import TOP
from lib.oci import Box, leftovers
from lib.wait import wait_for

FAULTY = pathlib.Path(os.environ.get("HOLM_BUILD_ASAN", TOP / "build-asan")) / "bin/holm-oci"
STEP = int(os.environ.get("HOLM_FAULTS_STEP", "17"))

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not FAULTY.exists(), reason="no build with -Dfaults=true in build-asan"),
]


@pytest.mark.parametrize("userns", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("errno", ["EIO", "ENOMEM"])
def test_create(tmp_path, userns, errno):
    failed = 0
    # A call whose failure does not matter makes a success of it: several in a row are the end.
    successes = 0
    first = 1 if errno == "EIO" else 1 + STEP // 2
    for n in range(first, 3000, STEP):
        with Box(tmp_path, userns=userns, runtime=str(FAULTY)) as box:
            box.hook("createRuntime", "exit 0")
            box.config["process"]["args"] = ["/bin/true"]
            box.write()
            done = create(box, f"any:{n}:{errno}")
            assert done.returncode in (0, 1), f"call {n}: {done.returncode}: {done.stderr}"
            if done.returncode == 1:
                failed += 1
                successes = 0
                assert done.stderr.startswith("holm-oci: "), f"call {n}: {done.stderr}"
                assert leftovers(box) == [], f"call {n}: {done.stderr}"
            else:
                successes += 1
                box.ok("delete", "--force", box.id)
                assert leftovers(box) == [], f"call {n} (success)"
        if successes > 6:
            break
    assert failed > 170 // STEP
    assert successes > 6


def create(box, fault):
    """Output to a file: the container's process would keep a pipe open."""
    with open(box.dir / "err", "w+") as err:
        done = subprocess.run([box.runtime, "--root", str(box.state), "create", "--bundle",
                               str(box.dir), box.id], env={**os.environ, "HOLM_FAULT": fault},
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                              timeout=60)
        err.seek(0)
        done.stderr = err.read()
    return done


def under_fault(box, fault, *args):
    with open(box.dir / "err", "w+") as err:
        done = subprocess.run([box.runtime, "--root", str(box.state), *args],
                              env={**os.environ, "HOLM_FAULT": fault}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=err, timeout=60)
        err.seek(0)
        done.stderr = err.read()
    return done


def processes(box):
    return json.loads(box.ok("ps", "--format", "json", box.id))


def test_exec(tmp_path):
    """A failed exec leaves the container as it was, and no process in it."""
    failed = 0
    with Box(tmp_path, runtime=str(FAULTY)) as box:
        box.detached("/bin/sleep", "1000")
        for n in range(1, 400, STEP // 2 + 1):
            done = under_fault(box, f"any:{n}:EIO", "exec", box.id, "/bin/true")
            assert done.returncode in (0, 255), f"call {n}: {done.returncode}: {done.stderr}"
            failed += done.returncode == 255
            wait_for(f"the end after call {n}", lambda: processes(box) == [box.pid()])
            assert box.status() == "running"
    assert leftovers(box) == []
    assert failed > 5


def test_start_and_delete(tmp_path):
    """After a failed start or delete the same command, or delete, works."""
    failed = 0
    for n in range(1, 120, STEP // 4 + 1):
        with Box(tmp_path, runtime=str(FAULTY)) as box:
            box.create("/bin/sleep", "1000")
            done = under_fault(box, f"any:{n}:EIO", "start", box.id)
            assert done.returncode in (0, 1), f"start, call {n}: {done.stderr}"
            failed += done.returncode
            if done.returncode and box.status() == "created":
                box.ok("start", box.id)
            done = under_fault(box, f"any:{n}:EIO", "delete", "--force", box.id)
            assert done.returncode in (0, 1), f"delete, call {n}: {done.stderr}"
            failed += done.returncode
            box.ok("delete", "--force", box.id)
            assert leftovers(box) == [], f"call {n}"
    assert failed > 5
