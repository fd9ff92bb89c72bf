# SPDX-License-Identifier: Apache-2.0
"""Images by the command line: in, out, names, and containers of them."""

import json
import subprocess
import tarfile

import pytest


@pytest.fixture(scope="module")
def imaged(daemon, rootfs, tmp_path_factory):
    """The daemon with an image "box"."""
    tar = tmp_path_factory.mktemp("tar") / "root.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
    made = daemon.holm("image", "import", tar, "box:1")
    assert made.stdout == "box:1\n"
    return daemon


def test_list_and_look(imaged):
    assert imaged.holm("images", "--format", "{{.Repository}} {{.Tag}}").stdout == "box 1\n"
    listed = json.loads(imaged.holm("image", "ls", "--json").stdout)
    assert len(listed) == 1 and listed[0]["size"] > 0
    detail = json.loads(imaged.holm("image", "inspect", "box:1").stdout)[0]
    assert detail["id"] == listed[0]["id"]
    assert json.loads(imaged.holm("inspect", "box:1").stdout)[0]["id"] == detail["id"]
    assert "CREATED BY" in imaged.holm("image", "history", "box:1").stdout
    assert imaged.holm("image", "ls", "-q").stdout.strip() in detail["id"]


def test_run(imaged):
    r = imaged.holm("run", "--rm", "--network", "none", "-e", "A=b", "--hostname", "h", "-w",
                    "/tmp", "box:1", "sh", "-c", "echo $A; hostname; pwd; id -u; exit 9",
                    check=False)
    assert (r.returncode, r.stdout) == (9, "b\nh\n/tmp\n0\n")
    # A range of ids of its own: root inside is somebody else outside.
    r = imaged.holm("run", "--rm", "--network", "none", "box:1", "cat", "/proc/self/uid_map")
    inside, outside, count = map(int, r.stdout.split())
    assert inside == 0 and outside > 65535 and count == 65536


def test_missing_image(imaged):
    r = imaged.holm("run", "--pull", "never", "nosuch:1", "true", check=False)
    assert r.returncode == 125 and "nosuch" in r.stderr
    r = imaged.holm("run", "--rm", "registry.invalid/nosuch:1", "true", check=False)
    assert r.returncode == 125 and "registry.invalid" in r.stderr
    assert imaged.holm("create", "--pull", "never", "nosuch:1", check=False).returncode == 3


def test_tag_save_load_rm(imaged, tmp_path):
    imaged.holm("tag", "box:1", "other/box:2")
    assert "other/box:2" in imaged.holm("images").stdout
    for kind in ("oci-archive", "docker-archive"):
        archive = tmp_path / kind
        imaged.holm("save", "-o", archive, "--format", kind, "other/box:2")
        with tarfile.open(archive) as t:
            names = t.getnames()
        assert ("manifest.json" if kind == "docker-archive" else "oci-layout") in names
        assert imaged.holm("rmi", "other/box:2").stdout == "other/box:2\n"
        assert "other/box:2" not in imaged.holm("images").stdout
        assert "other/box:2" in imaged.holm("load", "-i", archive).stdout
    with open(archive, "rb") as f:
        assert "other/box:2" in imaged.holm("load", stdin=f).stdout
    imaged.holm("image", "rm", "other/box:2")
    assert imaged.holm("image", "rm", "other/box:2", check=False).returncode == 3
    assert imaged.holm("image", "rm", "-f", "other/box:2").returncode == 0
    bad = tmp_path / "bad"
    bad.write_bytes(b"no archive at all" * 1000)
    r = imaged.holm("load", "-i", bad, check=False)
    assert r.returncode != 0 and r.stderr
    assert imaged.holm("load", "-i", tmp_path / "nosuch", check=False).returncode == 3


def test_an_image_in_use_stays(imaged):
    imaged.holm("run", "-d", "--name", "user-of-box", "--network", "none", "box:1", "sleep", "100")
    try:
        imaged.holm("image", "prune", "--all")
        assert "box" in imaged.holm("images").stdout
    finally:
        imaged.holm("rm", "-f", "user-of-box")


def test_completion(imaged):
    assert "box:1" in imaged.holm("__complete", "run", "").stdout.splitlines()
