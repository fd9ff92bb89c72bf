# SPDX-License-Identifier: Apache-2.0
"""One record that cannot be read hinders no other instance, and says what to do."""
import json
import os
import signal
import sqlite3

import pytest
from lib import leftovers
from lib.api import ApiError, alive
from lib.wait import wait_for


def change(daemon, which, **columns):
    """What a faulty disk, a person or a newer version may have left in a row."""
    db = sqlite3.connect(daemon.state / "holm.db")
    for column, value in columns.items():
        assert db.execute(f"UPDATE resource SET {column}=? WHERE name=?",
                          (value, which)).rowcount == 1
    db.commit()
    db.close()


def row(daemon, name):
    db = sqlite3.connect(daemon.state / "holm.db")
    found = db.execute("SELECT spec, status, version FROM resource WHERE name=?",
                       (name,)).fetchone()
    db.close()
    return found


BREAKS = {
    "json": {"status": '{"state":"runn'},
    "value": {"spec": '{"rootfs":"/x","restart":{"policy":"sometimes"}}'},
    "empty": {"spec": "", "status": ""},
    "bytes": {"spec": b"\xff\x00\xfe"},
    "newer": {"version": 99},
    "type": {"status": "[]"},
}


@pytest.mark.parametrize("kind", BREAKS)
def test_broken_record(daemon, api, kind):
    api.run("good", "sh", "-c", "echo alive; while :; do sleep 0.05; done")
    api.create("bad", "true", rootfs=daemon.rootfs)
    api.post("/v1/instances/bad/start")
    api.get("/v1/instances/bad/wait")
    daemon.kill(signal.SIGTERM)
    change(daemon, "bad", **BREAKS[kind])
    before = row(daemon, "bad")
    daemon.start()
    api.wait_state("good", "running")
    listed = {i["name"]: i["state"] for i in api.get("/v1/instances")["instances"]}
    assert listed == {"good": "running", "bad": "broken"}
    status = api.status("bad")
    assert status["state"] == "broken" and "holm rm --force bad" in status["error"]
    assert "bad" in daemon.log.read_text() and "is broken" in daemon.log.read_text()
    assert "Broken" in daemon.holm("ps").stdout
    assert daemon.inspect("bad")["status"]["error"] == status["error"]
    for method, path in (("POST", "start"), ("POST", "stop"), ("POST", "restart"),
                         ("GET", "wait"), ("GET", "stats"), ("POST", "pause")):
        with pytest.raises(ApiError) as e:
            api.call(method, f"/v1/instances/bad/{path}", {} if method == "POST" else None)
        assert e.value.status == 409 and "is broken" in e.value.message
    with pytest.raises(ApiError) as e:
        api.post("/v1/instances/bad/rename", {"name": "worse"})
    assert "is broken" in e.value.message
    daemon.kill(signal.SIGTERM)
    assert row(daemon, "bad") == before
    daemon.start()
    api.run("other", "true")
    daemon.holm("rm", "bad")
    api.run("bad", "true")   # its name is free again
    assert api.logs("good") == "alive\n"
    api.post("/v1/instances/good/stop", {"timeout": 0})


def test_broken_record_of_a_running_instance(daemon, api):
    """It runs on; mended, it is as before; it goes only by force."""
    api.run("one", "sh", "-c", "while :; do sleep 0.05; done", userns="auto")
    status = api.status("one")
    daemon.kill(signal.SIGKILL)
    spec, fact, _ = row(daemon, "one")
    change(daemon, "one", status=fact[:-1] + ",,")
    daemon.start()
    wait_for("its process", lambda: api.status("one").get("pid") == status["pid"])
    # Its ids are nobody else's.
    api.run("two", "true", userns="auto")
    assert api.status("two")["id_base"] != status["id_base"]
    with pytest.raises(ApiError) as e:
        api.call("DELETE", "/v1/instances/one")
    assert e.value.status == 409 and "force" in e.value.message
    daemon.kill(signal.SIGTERM)
    change(daemon, "one", status=fact)
    daemon.start()
    assert api.wait_state("one", "running")["pid"] == status["pid"]
    daemon.kill(signal.SIGTERM)
    change(daemon, "one", spec=json.dumps({"nonsense": spec}))
    daemon.start()
    assert api.status("one")["state"] == "broken" and alive(status["pid"])
    api.call("DELETE", "/v1/instances/one?force=true")
    assert not alive(status["pid"])
    api.call("DELETE", "/v1/instances/two")
    leftovers.none_left(daemon)


def test_broken_record_and_a_dead_shim(daemon, api):
    """What nobody watches any more is ended, and the record stays to be seen."""
    api.run("one", "sh", "-c", "while :; do sleep 0.05; done")
    status = api.status("one")
    daemon.kill(signal.SIGKILL)
    change(daemon, "one", spec="{}")
    os.kill(status["shim_pid"], signal.SIGKILL)
    daemon.start()
    wait_for("the end of its process", lambda: not alive(status["pid"]))
    assert api.status("one")["state"] == "broken"
    wait_for("its removal", lambda: daemon.holm("rm", "one", check=False).returncode == 0)
    leftovers.none_left(daemon)


def test_record_without_an_id(daemon, api):
    api.create("good", "true")
    api.create("lost", "true")
    daemon.kill(signal.SIGTERM)
    change(daemon, "lost", id="no id")
    daemon.start()
    assert [i["name"] for i in api.get("/v1/instances?all=true")["instances"]] == ["good"]
    assert "without a valid id" in daemon.log.read_text()


def test_record_with_a_bad_name(daemon, api):
    ident = api.create("good", "true")["id"]
    daemon.kill(signal.SIGTERM)
    change(daemon, "good", name="../x\n")
    daemon.start()
    assert [(i["name"], i["state"]) for i in api.get("/v1/instances")["instances"]] == \
        [(f"i-{ident[:8]}", "broken")]
    daemon.holm("rm", f"i-{ident[:8]}")
    assert api.get("/v1/instances?all=true")["instances"] == []
