# SPDX-License-Identifier: Apache-2.0
"""Networks and registries that fail, and registries that lie."""
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from lib import images
from lib.holm_image import DENIED, HOST, INVALID, LIMIT, NOT_FOUND, UNAVAILABLE
from lib.registry import PASSWORD, USER, Authority, Issuer, Proxy, Registry, Server
from lib.shim import alive
from lib.wait import wait_for

QUICK = ["--plain-http", "--retry-delay", "10ms"]


@pytest.fixture(scope="module")
def registry():
    r = Registry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def image(registry):
    """Two layers: the shell, and four megabytes that do not compress."""
    i = images.busybox_image(extra=[("noise", os.urandom(4 << 20))])
    registry.put(i, "faulty", "1")
    return i


@pytest.fixture
def proxies():
    made = []

    def make(*args, **kw):
        made.append(Proxy(*args, **kw))
        return made[-1]

    yield make
    for p in made:
        p.close()


def big(image):
    """The large layer's digest and bytes."""
    return image.layers[1], image.blobs[image.layers[1]]


def sizes(image):
    """Bytes of all that is fetched as a blob: config and layers."""
    return sum(len(image.blobs[d]) for d in [image.config, *image.layers])


def is_blob(h, digest):
    return h.command == "GET" and h.path.endswith("/blobs/" + digest)


def test_resumes_a_broken_download(registry, image, store, proxies):
    """Cut three times: no byte is fetched twice."""
    digest, data = big(image)
    cuts = [100000, 700000, 1500000]

    def fault(h, status, headers, body):
        if is_blob(h, digest) and cuts:
            p.send_cut(h, status, headers, body, cuts.pop(0))
            return True

    p = proxies(registry, fault)
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    store.whole()
    assert not cuts
    ranges = [h.get("Range") for _, path, h in p.seen if path.endswith(digest)]
    assert ranges[0] is None and len(ranges) == 4
    assert ranges[1:] == ["bytes=100000-", "bytes=800000-", "bytes=2300000-"]
    assert p.served == sizes(image)


def test_begins_anew_without_ranges(registry, image, store, proxies):
    """A server that does not know ranges answers with all of it."""
    digest, data = big(image)
    cuts = [1000000]

    def fault(h, status, headers, body):
        if is_blob(h, digest):
            headers.pop("Content-Range", None)
            if cuts:
                p.send_cut(h, 200, headers, data, cuts.pop())
            else:
                h.reply(200, data, headers)
            return True

    p = proxies(registry, fault)
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    store.whole()


def test_another_part_than_asked(registry, image, store, proxies):
    digest, data = big(image)
    cuts = [1000000]

    def fault(h, status, headers, body):
        if is_blob(h, digest):
            if cuts:
                p.send_cut(h, status, headers, body, cuts.pop())
            else:
                h.reply(206, data, {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"})
            return True

    p = proxies(registry, fault)
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=HOST, says="another part")


def test_resumes_in_a_later_call(registry, image, store, proxies):
    """kill -9 in the middle: the next pull asks for the rest only."""
    digest, data = big(image)
    stop = threading.Event()
    half = threading.Event()

    def fault(h, status, headers, body):
        if is_blob(h, digest) and not half.is_set():
            h.send_response(200)
            h.send_header("Content-Length", str(len(body)))
            h.end_headers()
            h.wfile.write(body[:2 << 20])
            h.wfile.flush()
            half.set()
            stop.wait(300)
            return True

    p = proxies(registry, fault)
    first = store.start("pull", *QUICK, f"{p.host}/faulty:1", stderr=subprocess.DEVNULL)
    assert half.wait(60)
    partial = store.path / "partial"
    wait_for("half of it", lambda: sum(f.stat().st_size for f in partial.rglob("*")
                                       if f.is_file()) >= 2 << 20)
    first.kill()
    first.wait()
    stop.set()
    assert store.ls() == {}

    before = p.served
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    store.whole()
    assert p.served - before <= sizes(image) - (2 << 20)
    assert any(h.get("Range", "").startswith("bytes=") for _, path, h in p.seen
               if path.endswith(digest))


def test_a_signal_stops_it(registry, image, store, proxies):
    for sig, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        stop = threading.Event()
        waiting = threading.Event()

        def fault(h, code, headers, body):
            if is_blob(h, big(image)[0]):
                waiting.set()
                stop.wait(300)
                h.cut()
                return True

        p = proxies(registry, fault)
        pull = store.start("pull", *QUICK, f"{p.host}/faulty:1", stderr=subprocess.DEVNULL)
        assert waiting.wait(60)
        children = pathlib.Path(f"/proc/{pull.pid}/task/{pull.pid}/children").read_text().split()
        pull.send_signal(sig)
        assert pull.wait(60) == status   # long before the server says anything
        stop.set()
        for child in children:
            wait_for("its children's end", lambda child=child: not alive(int(child)))
        assert store.ls() == {}
    store.run("gc", "--partials")
    assert not [f for f in (store.path / "partial").rglob("*") if f.is_file()]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_tries_again(registry, image, store, proxies, status):
    """Each kind of request fails twice, then works."""
    count = {}

    def fault(h, code, headers, body):
        count[h.path] = count.get(h.path, 0) + 1
        if count[h.path] <= 2:
            h.reply(status, b"later")
            return True

    p = proxies(registry, fault)
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    store.whole()
    assert all(n == 3 for n in count.values()) and len(count) == 4


def test_waits_as_long_as_it_is_told(registry, image, store, proxies):
    times = []

    def fault(h, code, headers, body):
        if "/manifests/" in h.path:
            times.append(time.monotonic())
            if len(times) == 1:
                h.reply(429, b"", {"Retry-After": "2"})
                return True

    p = proxies(registry, fault)
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    assert times[1] - times[0] >= 1.9


def test_gives_up(registry, image, store, proxies):
    answers = iter([(503, UNAVAILABLE, "503"), (429, LIMIT, "fewer requests")])
    for code, status, words in answers:
        p = proxies(registry, lambda h, *a, code=code: h.reply(code) or True)
        store.fails("pull", *QUICK, "--retries", "2", f"{p.host}/faulty:1", status=status,
                    says=words)
        assert len(p.seen) == 3
    # 4xx is not tried again.
    p = proxies(registry, lambda h, *a: h.reply(400) or True)
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=HOST, says="400")
    assert len(p.seen) == 1


def test_cut_off_for_good(registry, image, store, proxies):
    """The connection always breaks at once: an end, and an error that says so."""
    p = proxies(registry, lambda h, *a: h.cut() or True)
    store.fails("pull", *QUICK, "--retries", "2", f"{p.host}/faulty:1", status=UNAVAILABLE)
    assert len(p.seen) == 3


def test_silence_ends(registry, image, store, proxies):
    """A connection that says nothing is given up, and the rest is fetched by another."""
    digest, data = big(image)
    stop = threading.Event()
    hung = []

    def fault(h, status, headers, body):
        if is_blob(h, digest) and not hung:
            hung.append(1)
            h.send_response(200)
            h.send_header("Content-Length", str(len(body)))
            h.end_headers()
            h.wfile.write(body[:1000])
            h.wfile.flush()
            stop.wait(300)
            return True

    p = proxies(registry, fault)
    try:
        store.run("pull", *QUICK, "--stall-timeout", "1s", f"{p.host}/faulty:1")
        store.whole()
    finally:
        stop.set()


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def test_wrong_layer(registry, image, store, proxies):
    """security.md 1.17. Once is forgiven, twice is not, and nothing of it stays."""
    digest, data = big(image)
    wrong = [1]

    def fault(h, status, headers, body):
        if is_blob(h, digest) and wrong:
            wrong.pop()
            h.reply(200, flipped(data))
            return True

    p = proxies(registry, fault)
    store.run("pull", *QUICK, f"{p.host}/faulty:1")
    store.whole()
    store.run("rm", f"{p.host}/faulty:1")
    store.run("gc", "--partials")

    p = proxies(registry, lambda h, s, hd, b: is_blob(h, digest) and
                (h.reply(200, flipped(data)) or True))
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=INVALID, says=["digest", "layer"])
    assert store.ls() == {}
    store.whole()
    assert not list(store.path.rglob(digest[7:]))


def test_wrong_config(registry, image, store, proxies):
    p = proxies(registry, lambda h, s, hd, b: is_blob(h, image.config) and
                (h.reply(200, b[:-1] + b" ") or True))
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=INVALID, says="digest")


def test_wrong_manifest(registry, image, store, proxies):
    """Another manifest than the digest that was asked for, or than the registry announces."""
    other = images.busybox_image(extra=[("other", b"1")])

    def fault(h, status, headers, body):
        if "/manifests/" in h.path:
            h.reply(200, other.blobs[other.manifest],
                    {"Content-Type": images.OCI_MANIFEST,
                     "Docker-Content-Digest": image.manifest})
            return True

    p = proxies(registry, fault)
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=INVALID, says="another digest")
    store.fails("pull", *QUICK, f"{p.host}/faulty@{image.manifest}", status=INVALID,
                says="another digest")
    assert store.ls() == {}


def test_too_long_and_too_short(registry, image, store, proxies):
    digest, data = big(image)
    p = proxies(registry, lambda h, s, hd, b: is_blob(h, digest) and
                (h.reply(200, data + b"x") or True))
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=LIMIT, says="more than the manifest")
    p = proxies(registry, lambda h, s, hd, b: is_blob(h, digest) and
                (h.reply(200 if not h.headers.get("Range") else 206, b[:10],
                         {"Content-Range": hd.get("Content-Range", "")}) or True))
    store.fails("pull", *QUICK, "--retries", "1", f"{p.host}/faulty:1", status=UNAVAILABLE,
                says="too early")


def test_huge_documents(store):
    """Bounds on what is kept in memory: manifests, tokens, errors, headers."""
    def manifest(h):
        h.reply(200, b'{"schemaVersion":2,' + b" " * (5 << 20) + b"}",
                {"Content-Type": images.OCI_MANIFEST})

    def error(h):
        h.reply(404, b'{"errors":[' + b" " * (5 << 20))

    for do, status in ((manifest, LIMIT), (error, NOT_FOUND)):
        s = Server(do)
        try:
            store.fails("pull", *QUICK, f"{s.host}/x:1", status=status)
        finally:
            s.close()


def test_documents_of_two_kinds(store, image):
    """A manifest that is an index too; a type that differs from what is inside; schema 1."""
    m = json.loads(image.blobs[image.manifest])
    cases = [
        ({**m, "manifests": []}, images.OCI_MANIFEST),
        ({**m, "mediaType": images.OCI_INDEX}, images.OCI_MANIFEST),
        (m, images.OCI_INDEX),
        ({"schemaVersion": 1, "fsLayers": [], "name": "x"},
         "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ({"schemaVersion": 2, "config": m["config"], "layers": [{"mediaType": "x"}]},
         images.OCI_MANIFEST),
        ([], images.OCI_MANIFEST),
        ("x", "text/html"),
    ]
    for doc, kind in cases:
        s = Server(lambda h: h.reply(200, json.dumps(doc).encode(), {"Content-Type": kind}))
        try:
            r = subprocess.run(store.args("pull", *QUICK, f"{s.host}/x:1"), env=store.env,
                               stderr=subprocess.PIPE)
            assert r.returncode in (INVALID, 6), (doc, r.stderr)
            assert all("/blobs/" not in path for _, path, _ in s.seen)
        finally:
            s.close()


def test_terminals_are_safe(store):
    """What a registry says does not reach the terminal as control characters."""
    text = json.dumps({"errors": [{"code": "DENIED\x1b]0;x\x07", "message": "a\x1b[31mb\nc"}]})
    s = Server(lambda h: h.reply(403, text.encode()))
    try:
        last = store.fails("pull", *QUICK, f"{s.host}/x:1", status=DENIED)
        assert "\x1b" not in last and "\x07" not in last
    finally:
        s.close()


# Redirects

def test_redirects_do_not_carry_rights(image, store, proxies):
    """The Authorization header goes to the registry, not to where it redirects."""
    registry = Registry(auth="basic")
    cdn = Server(lambda h: h.reply(200, image.blobs["sha256:" + h.path.split("/")[-1]]))
    try:
        creds = ["--creds", f"{USER}:{PASSWORD}"]

        def fault(h, status, headers, body):
            if "/blobs/" in h.path and h.command == "GET" and status == 200:
                digest = h.path.split("sha256:")[1]
                h.reply(307, b"", {"Location": f"http://{cdn.host}/{digest}"})
                return True

        p = proxies(registry, fault)
        load_and_push(store, image, registry, creds)
        store.run("rm", "busy:1")
        store.run("gc")
        store.run("pull", *QUICK, *creds, f"{p.host}/r:1")
        store.whole()
        assert len(cdn.seen) == 3
        assert all("Authorization" not in h for _, _, h in cdn.seen)
        assert any("Authorization" in h for _, path, h in p.seen if "/blobs/" in path)
    finally:
        cdn.close()
        registry.close()


def load_and_push(store, image, registry, creds):
    folder = store.folder / "layout"
    images.write_layout(folder, [image], ["busy:1"])
    store.run("load", folder)
    store.run("push", "--plain-http", *creds, "busy:1", f"{registry.host}/r:1")


def test_push_follows_the_question(registry, image, store, proxies):
    """Registries redirect HEAD too."""
    there = Server(lambda h: h.reply(200))
    try:
        p = proxies(registry, lambda h, *a: h.command == "HEAD" and
                    (h.reply(307, b"", {"Location": f"http://{there.host}/x"}) or True))
        folder = store.folder / "layout"
        images.write_layout(folder, [image], ["busy:1"])
        store.run("load", folder)
        assert store.run("push", *QUICK, "busy:1", f"{p.host}/faulty:1").err.count("exists") == 3
    finally:
        there.close()


def test_redirects_end(registry, image, store, proxies):
    p = proxies(registry, lambda h, *a: h.reply(302, b"", {"Location": h.path}) or True)
    store.fails("pull", *QUICK, f"{p.host}/faulty:1", status=HOST, says="redirects too often")


def test_redirects_stay_encrypted(registry, image, store, proxies, tmp_path):
    authority = Authority(tmp_path)
    p = proxies(registry, lambda h, *a: "/blobs/" in h.path and
                (h.reply(307, b"", {"Location": "http://127.0.0.1:1/x"}) or True), tls=authority)
    store.fails("pull", "--cacert", authority.ca, f"{p.host}/faulty:1", status=DENIED,
                says="unencrypted")


def test_redirects_to_other_schemes(registry, image, store, proxies):
    for target in ("file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x"):
        p = proxies(registry, lambda h, *a: "/blobs/" in h.path and
                    (h.reply(307, b"", {"Location": target}) or True))
        store.fails("pull", *QUICK, "--retries", "1", f"{p.host}/faulty:1", status=DENIED)


# Rights that end

def test_tokens_that_run_out(image, store):
    """In the middle the registry no longer takes the token: a new one is fetched."""
    issuer = Issuer()
    registry = Registry(auth=issuer)
    refused = []

    def fault(h, status, headers, body):
        if is_blob(h, big(image)[0]) and not refused:
            refused.append(h.headers["Authorization"])
            h.reply(401, b"", {"WWW-Authenticate":
                    f'Bearer realm="{issuer.url}",service="test-registry",'
                    'scope="repository:r:pull",error="invalid_token"'})
            return True

    p = Proxy(registry, fault)
    try:
        creds = ["--creds", f"{USER}:{PASSWORD}"]
        load_and_push(store, image, registry, creds)
        store.run("rm", "busy:1")
        store.run("gc")
        before = len(issuer.seen)
        store.run("pull", *QUICK, *creds, f"{p.host}/r:1")
        store.whole()
        assert refused and len(issuer.seen) - before == 2
    finally:
        p.close()
        registry.close()
        issuer.close()


def test_rights_that_never_suffice(store):
    """A registry that always asks for a token, and a token server that always gives one."""
    def answer(h):
        if h.path.startswith("/token"):
            return h.reply(200, b'{"token":"x"}')
        h.reply(401, b"", {"WWW-Authenticate": f'Bearer realm="http://{s.host}/token"'})

    s = Server(answer)
    try:
        store.fails("pull", *QUICK, f"{s.host}/x:1", status=DENIED)
        assert len(s.seen) <= 6
    finally:
        s.close()


# Pushing

def test_push_goes_on(registry, image, store, proxies):
    """Parts that break, answers that are lost: the upload goes on where the registry stands."""
    digest, data = big(image)
    broken = {"PATCH": 2, "PUT": 1, "POST": 1, "HEAD": 1}
    name = f"pushed-{time.monotonic_ns()}"

    def fault(h, status, headers, body):
        if broken.get(h.command, 0) > 0:
            broken[h.command] -= 1
            if h.command == "HEAD":
                h.reply(500)
            else:
                h.cut()      # the registry has done it; the answer is lost
            return True

    p = proxies(registry, fault)
    folder = store.folder / "layout"
    images.write_layout(folder, [image], ["busy:1"])
    store.run("load", folder)
    store.run("push", *QUICK, "--chunk-size", "1m", "busy:1", f"{p.host}/{name}:1")
    assert not any(broken.values())
    r, got = registry.request("GET", f"/v2/{name}/blobs/{digest}")
    assert r.status == 200 and got == data
    assert registry.request("GET", f"/v2/{name}/manifests/1", None,
                            {"Accept": images.OCI_MANIFEST})[1] == image.blobs[image.manifest]


def test_push_that_is_refused(registry, image, store, proxies):
    p = proxies(registry, lambda h, *a: h.command in ("PUT", "PATCH") and (h.reply(
        413, b'{"errors":[{"code":"TOOBIG","message":"no room"}]}') or True))
    folder = store.folder / "layout"
    images.write_layout(folder, [image], ["busy:1"])
    store.run("load", folder)
    store.fails("push", *QUICK, "busy:1", f"{p.host}/refused:1", status=HOST, says="no room")


def test_push_of_a_damaged_store(registry, image, store):
    """A blob that rotted on disk is refused by the registry, and nothing is named there."""
    folder = store.folder / "layout"
    images.write_layout(folder, [image], ["busy:1"])
    store.run("load", folder)
    (blob,) = [f for f in store.path.rglob(big(image)[0][7:])]
    blob.chmod(0o600)
    blob.write_bytes(flipped(blob.read_bytes()))
    name = f"rotten-{time.monotonic_ns()}"
    result = subprocess.run(store.args("push", *QUICK, "--retries", "1", "busy:1",
                                       f"{registry.host}/{name}:1"), env=store.env,
                            stderr=subprocess.PIPE)
    assert result.returncode != 0
    assert registry.request("GET", f"/v2/{name}/manifests/1")[0].status == 404


# Several at a time

def test_two_pulls_of_one_image(registry, image, store, proxies):
    """Each layer is fetched once; both succeed."""
    p = proxies(registry, lambda h, *a: time.sleep(0.3) if "/blobs/" in h.path else None)
    both = [store.start("pull", *QUICK, f"{p.host}/faulty:1", stderr=subprocess.PIPE)
            for _ in range(2)]
    for one in both:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
    store.whole()
    assert p.served <= sizes(image) + len(image.blobs[image.config])


def test_manifest_that_another_one_writes(registry, image, store):
    """A document that is at hand waits for nobody who is just writing the same one."""
    partial = store.path / "partial"
    store.run("pull", *QUICK, f"{registry.host}/faulty:1")
    store.run("rm", f"{registry.host}/faulty:1")
    store.run("gc")
    other = partial / image.manifest.replace(":", "-")
    with open(other, "wb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        store.run("pull", *QUICK, f"{registry.host}/faulty:1")
    store.whole()
