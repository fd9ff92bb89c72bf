# SPDX-License-Identifier: Apache-2.0
"""AppArmor profiles of real containers, under a kernel that has AppArmor."""
import json
import pathlib
import subprocess

import pytest

from lib.daemon import Daemon, make_rootfs
from lib.oci import Box

PROFILE = """
profile holm-test-narrow flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  signal,
  unix,
  umount,
  deny /tmp/secret rw,
}
profile holm-test-other flags=(attach_disconnected,mediate_deleted) {
  file,
  deny /tmp/open rw,
}
"""


@pytest.fixture(scope="module", autouse=True)
def profiles(tmp_path_factory):
    assert pathlib.Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    file = tmp_path_factory.mktemp("profiles") / "profiles"
    file.write_text(PROFILE)
    subprocess.run(["apparmor_parser", "-r", "-K", file], check=True)
    yield
    subprocess.run(["apparmor_parser", "-R", file], check=True)


@pytest.fixture(params=["root", "userns"])
def box(request, tmp_path):
    with Box(tmp_path, userns=request.param == "userns") as b:
        for name in ("secret", "open"):
            (b.rootfs / "tmp" / name).write_text(f"text of {name}\n")
        (b.rootfs / "tmp").chmod(0o1777)
        if request.param == "userns":
            b.own()
        yield b


READ = "cat /proc/self/attr/current; cat /tmp/secret || echo no; cat /tmp/open || echo no"


@pytest.mark.parametrize("nnp", [False, True])
def test_a_process_runs_under_its_profile(box, nnp):
    box.config["process"]["noNewPrivileges"] = nnp
    control = box.sh(READ)
    assert control.splitlines() == ["unconfined", "text of secret", "text of open"]
    box.config["process"]["apparmorProfile"] = "holm-test-narrow"
    got = box.sh(READ).splitlines()
    assert got == ["holm-test-narrow (enforce)", "no", "text of open"]


def test_exec_has_the_profile_of_its_own(box):
    box.config["process"]["apparmorProfile"] = "holm-test-narrow"
    box.detached("/bin/sleep", "1000")
    done = box.exec("/bin/sh", "-c", READ)
    assert done.stdout.splitlines() == ["holm-test-narrow (enforce)", "no", "text of open"], done.stderr
    done = box.exec("/bin/sh", "-c", READ, options=["--apparmor", "holm-test-other"])
    assert done.stdout.splitlines() == ["holm-test-other (enforce)", "text of secret", "no"], done.stderr


@pytest.mark.parametrize("stage", ["run", "exec"])
def test_an_unknown_profile_is_refused(box, stage):
    if stage == "run":
        box.config["process"]["apparmorProfile"] = "holm-test-nosuch"
        said = box.refused()
    else:
        box.detached("/bin/sleep", "1000")
        said = box.fails("exec", "--apparmor", "holm-test-nosuch", box.id, "/bin/true")
    assert "/process/apparmorProfile" in said and "holm-test-nosuch" in said, said
    assert "apparmor_parser" in said, said


def test_the_daemon_passes_a_profile_on(tmp_path):
    root = pathlib.Path(make_rootfs(tmp_path / "fs"))
    tmp_path.chmod(0o755)
    d = Daemon("labels")
    try:
        run = ["run", "--rm", "--network", "none", "--userns", "host", "--rootfs"]
        done = d.holm(*run, "--security-opt", "apparmor=holm-test-narrow", root, "cat",
                      "/proc/self/attr/current")
        assert done.stdout.strip() == "holm-test-narrow (enforce)"
        done = d.holm(*run, "--security-opt", "apparmor=holm-test-nosuch", root, "true", check=False)
        assert done.returncode == 125 and "holm-test-nosuch" in done.stderr, done.stderr
    finally:
        d.close()


def test_selinux_label_is_refused_by_name(box):
    """This kernel runs without SELinux."""
    box.config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0"
    assert "/process/selinuxLabel" in box.refused()


def test_features_say_so(box):
    assert json.loads(box.ok("features"))["linux"]["apparmor"]["enabled"]
