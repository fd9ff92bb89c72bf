# SPDX-License-Identifier: Apache-2.0
"""Images through the daemon: operations, names, instances that use them."""

import io
import tarfile

import pytest
from lib.api import ApiError
from lib.images import busybox_image
from lib.registry import Registry


def tar_of(folder):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        t.add(folder, arcname=".")
    return out.getvalue()


def finish(api, op):
    return api.get(f"/v1/operations/{op['id']}/wait")


@pytest.fixture
def image(daemon, api):
    op = api.post("/v1/images/import?name=busy:1", tar_of(daemon.rootfs))
    end = finish(api, op)
    assert end["state"] == "done", end
    return end["result"]


def test_import_run_remove(api, image):
    images = api.get("/v1/images")["images"]
    assert len(images) == 1 and images[0]["name"].endswith("busy:1") and images[0]["unpacked"]
    api.post("/v1/images/busy:1/tag", {"name": "other:2"})
    assert len(api.get("/v1/images/other%3A2")["names"]) == 2
    assert api.get("/v1/images/busy:1/history")["history"]
    api.run("a", "sh", "-c", "echo x > /new; cat /new; id -u", image="busy:1", rootfs=None)
    assert api.get("/v1/instances/a/wait")["exit_code"] == 0
    assert api.logs("a") == "x\n0\n"
    # What it wrote is there after another start; the image is as it was.
    api.create("b", "cat", "/new", image="busy:1", rootfs=None)
    api.post("/v1/instances/b/start")
    assert api.get("/v1/instances/b/wait")["exit_code"] == 1
    status, data = api.raw("GET", "/v1/instances/a/archive?path=/new")
    assert status == 200
    assert tarfile.open(fileobj=io.BytesIO(data)).extractfile("new").read() == b"x\n"
    # In use: its last name cannot go.
    api.call("DELETE", "/v1/images/other:2")
    with pytest.raises(ApiError) as e:
        api.call("DELETE", "/v1/images/busy:1")
    assert e.value.status == 409
    for name in "ab":
        api.call("DELETE", f"/v1/instances/{name}")
    api.call("DELETE", "/v1/images/busy:1")
    api.post("/v1/images/prune")
    assert api.get("/v1/images")["images"] == []


def test_save_and_load(api, image):
    status, archive = api.raw("GET", "/v1/images/save?name=busy:1")
    assert status == 200 and len(archive) > 1000
    api.call("DELETE", "/v1/images/busy:1")
    api.post("/v1/images/prune", {"all": True})
    end = finish(api, api.post("/v1/images/load", archive))
    assert end["state"] == "done", end
    assert api.get("/v1/images/busy:1")["digest"] == image["digest"]
    assert api.raw("GET", "/v1/images/save?name=none:1")[0] == 404


def test_operations_fail_and_are_told(api):
    end = finish(api, api.post("/v1/images/import?name=bad:1", b"no tar at all" * 1000))
    assert end["state"] == "failed" and end["error"]["message"]
    assert api.get("/v1/images")["images"] == []
    with pytest.raises(ApiError) as e:
        api.create("x", "true", image="none:1", rootfs=None)
    assert (e.value.status, e.value.field) == (404, "/image")
    with pytest.raises(ApiError):
        api.post("/v1/images/pull", {"reference": "--authfile=/etc/shadow"})
    assert any(o["id"] == end["id"] for o in api.get("/v1/operations")["operations"])
    with pytest.raises(ApiError) as e:
        api.post(f"/v1/operations/{end['id']}/cancel")
    assert e.value.status == 409


def test_cancel(api):
    """A pull from a registry that does not answer is stopped at once."""
    import socket
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(1)
    op = api.post("/v1/images/pull", {"reference": f"127.0.0.1:{s.getsockname()[1]}/a:1",
                                      "plain_http": True})
    assert op["state"] == "running"
    assert api.post(f"/v1/operations/{op['id']}/cancel")["state"] == "cancelled"
    assert finish(api, op)["state"] == "cancelled"
    s.close()


@pytest.fixture
def registry():
    r = Registry()
    try:
        yield r
    finally:
        r.close()


def test_pull_policy(api, registry):
    """The daemon fetches the image of a new instance as the policy says."""
    registry.put(busybox_image(), "busy", "1")
    image = f"{registry.host}/busy:1"

    def create(name, policy, image=image):
        more = f"&pull={policy}&plain_http=true" if policy else ""
        return api.post(f"/v1/instances?name={name}{more}",
                        {"image": image, "command": ["true"], "network": "none"}, timeout=120)
    for policy in ("", "never"):
        with pytest.raises(ApiError) as e:
            create("no", policy)
        assert (e.value.status, e.value.field) == (404, "/image")
    digest = create("a", "missing")["status"]["image_digest"]
    api.post("/v1/instances/a/start")
    assert api.get("/v1/instances/a/wait")["exit_code"] == 0
    registry.put(busybox_image(extra=(("new", b"x"),)), "busy", "1")
    assert create("b", "missing")["status"]["image_digest"] == digest
    assert create("c", "always")["status"]["image_digest"] != digest
    with pytest.raises(ApiError):
        create("d", "missing", image=f"{registry.host}/none:1")
    with pytest.raises(ApiError) as e:
        create("d", "sometimes")
    assert e.value.status == 400
    assert {i["name"] for i in api.get("/v1/instances?all=true")["instances"]} == {"a", "b", "c"}
