# SPDX-License-Identifier: Apache-2.0
"""Pulling from and pushing to a real registry, beside a real client (skopeo)."""
import json
import os
import pathlib
import subprocess
import threading
import time

import pytest

from lib import images
from lib.holm_image import DENIED, INVALID, NOT_FOUND, UNAVAILABLE, Store
from lib.registry import PASSWORD, USER, Authority, Issuer, Registry, Server
from lib.wait import wait_for

WORKER_UID = 64711


@pytest.fixture(scope="module")
def plain():
    r = Registry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def basic():
    r = Registry(auth="basic")
    yield r
    r.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secure(authority):
    r = Registry(tls=authority)
    yield r
    r.close()


@pytest.fixture(scope="module")
def issuer():
    i = Issuer(public=("public/image",))
    yield i
    i.close()


@pytest.fixture(scope="module")
def tokens(issuer):
    r = Registry(auth=issuer)
    yield r
    r.close()


def skopeo(*args):
    done = subprocess.run(["skopeo", "--insecure-policy", *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout


@pytest.fixture
def layout(tmp_path):
    """A layout with one image, busy:1, and the image."""
    image = images.busybox_image(extra=[("hello", os.urandom(50000))])
    images.write_layout(tmp_path / "layout", [image], ["busy:1"])
    return tmp_path / "layout", image


@pytest.mark.parametrize("how", ["gzip", "zstd", "none"])
def test_from_skopeo_and_back(plain, store, tmp_path, how):
    image = images.busybox_image(how=how, extra=[("hello", how.encode())])
    images.write_layout(tmp_path / "in", [image], ["busy:1"])
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{tmp_path}/in:busy:1",
           f"docker://{plain.host}/a/{how}:1")

    out = store.run("pull", "--plain-http", f"{plain.host}/a/{how}:1").out
    assert out.strip() == image.manifest
    store.whole()
    assert store.inspect(f"{plain.host}/a/{how}:1")["config"]["config"]["Cmd"] == ["/bin/sh"]

    store.run("push", "--plain-http", f"{plain.host}/a/{how}:1", f"{plain.host}/b/{how}:2")
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false",
           f"docker://{plain.host}/b/{how}:2", f"oci:{tmp_path}/out:x")
    for d, data in image.blobs.items():
        assert (tmp_path / "out/blobs/sha256" / d[7:]).read_bytes() == data


def test_by_digest(plain, store, layout):
    _, image = layout
    plain.put(image, "digest", "t")
    name = f"{plain.host}/digest@{image.manifest}"
    store.run("pull", "--plain-http", name)
    assert store.inspect(name)["digest"] == image.manifest
    other = "sha256:" + "0" * 64
    store.fails("pull", "--plain-http", f"{plain.host}/digest@{other}", status=NOT_FOUND)


def test_chooses_by_platform(plain, store):
    amd = images.busybox_image(arch="amd64", extra=[("arch", b"amd64")])
    arm = images.busybox_image(arch="arm64", extra=[("arch", b"arm64")])
    for image in (amd, arm):
        plain.put(image, "multi", image.arch)
    plain.put_manifest("multi", "all", images.index_of([arm, amd], platforms=True))
    name = f"{plain.host}/multi:all"
    assert store.run("pull", "--plain-http", name).out.strip() == amd.manifest
    out = store.run("pull", "--plain-http", "--platform", "linux/arm64", name).out
    assert out.strip() == arm.manifest
    assert store.inspect(name)["config"]["architecture"] == "arm64"
    store.fails("pull", "--plain-http", "--platform", "linux/s390x", name, status=NOT_FOUND,
                says=["linux/amd64", "linux/arm64"])
    # By the digest of the index, too.
    index = images.digest(images.index_of([arm, amd], platforms=True))
    store.run("pull", "--plain-http", f"{plain.host}/multi@{index}")


def test_pulls_layers_in_parallel(plain, store):
    image = images.Image([images.tar([(f"f{i}", os.urandom(200000))]) for i in range(12)])
    plain.put(image, "many", "1")
    active, most = set(), 0
    for line in store.progress("pull", "--plain-http", "--parallel", "3", f"{plain.host}/many:1"):
        if line["type"] == "item":
            (active.add if line["state"] == "active" else active.discard)(line["item"])
            most = max(most, len(active))
    assert 2 <= most <= 3
    store.whole()


def test_a_layer_twice(plain, store):
    layer = images.tar([("same", b"same" * 1000)])
    image = images.Image([images.busybox_layer(), layer, layer])
    plain.put(image, "twice", "1")
    store.run("pull", "--plain-http", f"{plain.host}/twice:1")
    store.run("push", "--plain-http", f"{plain.host}/twice:1", f"{plain.host}/twice2:1")


def test_pushes_mount_what_is_there(plain, store, layout):
    _, image = layout
    plain.put(image, "origin", "1")
    store.run("pull", "--plain-http", f"{plain.host}/origin:1")
    err = store.run("push", "--plain-http", f"{plain.host}/origin:1",
                    f"{plain.host}/copy-{time.monotonic_ns()}:1").err
    assert err.count("mounted") == len(image.layers)
    err = store.run("push", "--plain-http", f"{plain.host}/origin:1").err
    assert err.count("exists") == len(image.layers) + 1


def test_pushes_in_parts(plain, store, layout):
    folder, image = layout
    store.run("load", folder)
    store.run("push", "--plain-http", "--chunk-size", "100000", "busy:1", f"{plain.host}/parts:1")
    store.run("rm", "busy:1")
    store.run("pull", "--plain-http", f"{plain.host}/parts:1")
    assert store.inspect(f"{plain.host}/parts:1")["digest"] == image.manifest


def test_docker_archives_can_be_pushed(plain, store, tmp_path):
    image = images.busybox_image(extra=[("x", b"y")])
    path = tmp_path / "d.tar"
    path.write_bytes(images.tar(images.docker_entries(image, ["d:1"])))
    store.run("load", path)
    store.run("push", "--plain-http", "d:1", f"{plain.host}/d:1")
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{plain.host}/d:1"))


def test_names_that_are_not_there(plain, store):
    says = ["no such image", plain.host, "tags"]
    store.fails("pull", "--plain-http", f"{plain.host}/nothing:1", status=NOT_FOUND, says=says)
    store.fails("push", "--plain-http", "nothing", f"{plain.host}/x:1", status=NOT_FOUND)
    store.fails("pull", f"{plain.host}/UPPER", status=INVALID)


def test_hosts_that_are_not_there(store):
    quick = ["--retries", "1", "--retry-delay", "10ms"]
    store.fails("pull", *quick, "no-such-host.invalid/a:1", status=UNAVAILABLE,
                says="does not resolve")
    store.fails("pull", *quick, "--plain-http", "localhost:1/a:1", status=UNAVAILABLE,
                says="localhost:1")
    err = store.run("pull", *quick, "--plain-http", "localhost:1/a:1", status=UNAVAILABLE).err
    assert "trying again in 0.0 s" in err


def test_lists(plain, store, layout):
    _, image = layout
    for i in range(5):
        plain.put(image, "tags", f"t{i}")
    out = store.run("tags", "--plain-http", f"{plain.host}/tags").out
    assert out.split() == [f"t{i}" for i in range(5)]
    assert json.loads(store.run("tags", "--json", "--plain-http", f"{plain.host}/tags").out)
    out = store.run("tags", "--plain-http", "--catalog", plain.host).out
    assert "tags" in out.split()
    store.fails("tags", "--plain-http", f"{plain.host}/nothing", status=NOT_FOUND)


def test_lists_go_on(store):
    """Pages are followed on the same host only; what is no tag is not shown."""
    def answer(h):
        if "last=b" in h.path:
            return h.reply(200, b'{"tags":["c"]}')
        h.reply(200, b'{"tags":["a","b","\\u001b[31mred","-x"]}',
                {"Link": '</v2/x/tags/list?last=b&n=1000>; rel="next"'})

    def elsewhere(h):
        h.reply(200, b'{"tags":["a"]}', {"Link": '<http://127.0.0.1:1/v2/x>; rel="next"'})

    for do, check in ((answer, lambda s: s.run(*args).out.split() == ["a", "b", "c"]),
                      (elsewhere, lambda s: s.fails(*args, status=1, says="goes on nowhere"))):
        server = Server(do)
        try:
            args = ("tags", "--plain-http", f"{server.host}/x")
            assert check(store)
        finally:
            server.close()


# TLS

def certs_dir(tmp_path, host, authority, client=None):
    folder = tmp_path / "certs" / host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.ca.read_bytes())
    if client:
        (folder / "client.cert").write_bytes(client[0].read_bytes())
        (folder / "client.key").write_bytes(client[1].read_bytes())
        (folder / "client.key").chmod(0o600)
    return folder.parent


def test_tls(secure, authority, store, layout, tmp_path):
    folder, image = layout
    certs = certs_dir(tmp_path, secure.host, authority)
    name = f"{secure.host}/a/busy:1"
    skopeo("copy", "--dest-cert-dir", certs / secure.host, f"oci:{folder}:busy:1",
           f"docker://{name}")
    store.fails("pull", name, status=UNAVAILABLE, says=["TLS", "ca.crt", "--cacert"])
    store.run("pull", "--cacert", authority.ca, name)
    store.run("pull", "--certs-dir", certs, name)
    store.run("pull", "--tls-no-verify", name)
    store.run("push", "--certs-dir", certs, name, f"{secure.host}/b/busy:2")
    skopeo("inspect", "--cert-dir", certs / secure.host, f"docker://{secure.host}/b/busy:2")


def test_tls_checks_the_name(secure, authority, store):
    """A certificate of the right CA for another name."""
    name = secure.host.replace("localhost", "127.0.0.2") + "/a:1"
    store.fails("pull", "--cacert", authority.ca, "--retries", "1", "--retry-delay", "1ms", name,
                status=UNAVAILABLE)


def test_plain_only_where_asked(plain, secure, store, layout):
    _, image = layout
    plain.put(image, "asked", "1")
    name = f"{plain.host}/asked:1"
    store.fails("pull", name, status=UNAVAILABLE, says=["does not speak TLS", "--plain-http"])
    store.run("pull", "--insecure-registry", plain.host, name)
    store.fails("pull", "--insecure-registry", "other:1", name, status=UNAVAILABLE)
    # And a server with TLS is not spoken to in plain text by mistake.
    store.fails("pull", "--plain-http", "--retries", "1", "--retry-delay", "1ms",
                f"{secure.host}/a:1", status=1)


def test_client_certificates(authority, store, layout, tmp_path):
    registry = Registry(tls=authority, client_certs=True)
    try:
        folder, _ = layout
        client = authority.issue("client", "clientAuth")
        certs = certs_dir(tmp_path, registry.host, authority, client)
        name = f"{registry.host}/a/busy:1"
        store.run("load", folder)
        store.fails("push", "--cacert", authority.ca, "--retries", "1", "--retry-delay", "1ms",
                    "busy:1", name, status=UNAVAILABLE)
        store.run("push", "--certs-dir", certs, "busy:1", name)
        store.run("pull", "--cacert", authority.ca, "--cert", client[0], "--key", client[1], name)
    finally:
        registry.close()


# Authentication

def test_basic(basic, store, layout, tmp_path):
    folder, image = layout
    auth = tmp_path / "auth.json"
    name = f"{basic.host}/a/busy:1"
    skopeo("copy", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}",
           f"oci:{folder}:busy:1", f"docker://{name}")
    net = ["--plain-http", "--authfile", auth]
    store.fails("pull", *net, name, status=DENIED, says=["unauthorised", f"login {basic.host}"])
    store.fails("login", *net, "-u", USER, "--password-stdin", basic.host, input=b"wrong\n",
                status=DENIED)
    assert not auth.exists()
    store.run("login", *net, "-u", USER, "--password-stdin", basic.host,
              input=PASSWORD.encode() + b"\n")
    assert auth.stat().st_mode & 0o777 == 0o600
    store.run("pull", *net, name)
    store.run("push", *net, name, f"{basic.host}/b/busy:2")
    store.run("login", *net, "-u", USER, "--password", PASSWORD, basic.host)
    # What we wrote is what skopeo reads.
    skopeo("inspect", "--tls-verify=false", "--authfile", auth, f"docker://{basic.host}/b/busy:2")
    store.run("logout", "--authfile", auth, basic.host)
    store.fails("pull", *net, name, status=DENIED)
    store.run("pull", "--plain-http", "--creds", f"{USER}:{PASSWORD}", name)
    store.fails("pull", "--plain-http", "--creds", f"{USER}:nope", name, status=DENIED,
                says="does not take these credentials")


def test_reads_what_skopeo_wrote(basic, store, tmp_path):
    auth = tmp_path / "auth.json"
    skopeo("login", "--tls-verify=false", "--authfile", auth, "-u", USER, "-p", PASSWORD,
           basic.host)
    store.fails("pull", "--plain-http", "--authfile", auth, f"{basic.host}/nothing:1",
                status=NOT_FOUND)


def test_home_and_helpers(basic, store, layout, tmp_path):
    """~/.docker/config.json with a helper, which gets a short environment."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    helper = bin_dir / "docker-credential-test"
    helper.write_text("#!/bin/sh\ncat >/dev/null\n[ -z \"$SECRET\" ] || exit 9\n"
                      f"printf '%s' '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n")
    helper.chmod(0o755)
    config = store.folder / ".docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credHelpers": {basic.host: "test"}}))
    store.env.update(PATH=f"{bin_dir}:{os.environ['PATH']}", SECRET="x")
    store.fails("pull", "--plain-http", f"{basic.host}/nothing:1", status=NOT_FOUND)
    (config / "config.json").write_text(json.dumps({"credHelpers": {basic.host: "missing"}}))
    store.fails("pull", "--plain-http", f"{basic.host}/nothing:1", status=6,
                says="docker-credential-missing")


def test_tokens(tokens, issuer, store, layout):
    folder, image = layout
    creds = ["--plain-http", "--creds", f"{USER}:{PASSWORD}"]
    store.run("load", folder)
    store.run("push", *creds, "busy:1", f"{tokens.host}/private/image:1")
    store.run("push", *creds, "busy:1", f"{tokens.host}/public/image:1")
    store.run("pull", *creds, f"{tokens.host}/private/image:1")
    store.run("pull", "--plain-http", f"{tokens.host}/public/image:1")
    store.fails("pull", "--plain-http", f"{tokens.host}/private/image:1", status=DENIED,
                says="login")
    store.fails("push", "--plain-http", "busy:1", f"{tokens.host}/public/image:2", status=DENIED)
    store.fails("pull", "--plain-http", "--creds", "u:wrong", f"{tokens.host}/private/image:1",
                status=DENIED)
    # Mounting asks for the right to read the other repository.
    err = store.run("push", *creds, f"{tokens.host}/private/image:1",
                    f"{tokens.host}/other/image:1").err
    assert "mounted" in err
    assert any("repository%3Aprivate%2Fimage%3Apull" in path for _, path, _ in issuer.seen)
    assert store.run("tags", *creds, f"{tokens.host}/private/image").out.split() == ["1"]


def test_refresh_tokens(tokens, issuer, store, layout, tmp_path):
    folder, _ = layout
    auth = tmp_path / "auth.json"
    net = ["--plain-http", "--authfile", auth]
    store.run("load", folder)
    auth.write_text(json.dumps({"auths": {tokens.host: {"identitytoken": "refresh-me"}}}))
    before = len(issuer.seen)
    store.run("push", *net, "busy:1", f"{tokens.host}/refreshed:1")
    assert {m for m, _, _ in issuer.seen[before:]} == {"POST"}
    auth.write_text(json.dumps({"auths": {tokens.host: {"identitytoken": "stale"}}}))
    store.fails("pull", *net, f"{tokens.host}/refreshed:1", status=DENIED)


def test_login_by_token(tokens, store, tmp_path):
    net = ["--plain-http", "--authfile", tmp_path / "a", "-u", USER, "--password-stdin"]
    store.run("login", *net, tokens.host, input=PASSWORD.encode())
    store.fails("login", *net, tokens.host, input=b"wrong", status=DENIED)


def test_token_servers_must_be_encrypted(authority, store):
    """A registry with TLS that would have the password sent in plain text."""
    def answer(h):
        h.reply(401, b"", {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/t"'})

    server = Server(answer, tls=authority)
    try:
        store.fails("pull", "--cacert", authority.ca, "--creds", "a:b", f"{server.host}/x:1",
                    status=DENIED, says="not an encrypted address")
    finally:
        server.close()


# Rights

def processes_of(parent):
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(c) for c in children]


def test_the_parser_has_no_rights(store):
    """security.md 1.16: whatever parses bytes from outside runs without privileges."""
    over = threading.Event()

    def slow(h):
        over.wait(300)
        h.reply(404)

    server = Server(slow)
    p = store.start("pull", "--plain-http", f"{server.host}/x:1", stderr=subprocess.DEVNULL)
    try:
        wait_for("the request", lambda: server.seen or p.poll() is not None)
        (worker,) = processes_of(p.pid)
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{worker}/status").read_text().splitlines()
                      if ":\t" in line)
        assert status["Uid"].split() == [str(WORKER_UID)] * 4
        assert status["Gid"].split() == [str(WORKER_UID)] * 4
        assert status["Groups"].split() == []
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[caps], 16) == 0, caps
        assert status["NoNewPrivs"].strip() == "1"
        if "asan" not in os.environ.get("HOLM_BUILD", ""):
            assert status["Seccomp"].strip() == "2"
        # No file of the store, and no folder at all.
        for fd in pathlib.Path(f"/proc/{worker}/fd").iterdir():
            target = os.readlink(fd)
            assert str(store.folder) not in target, target
            assert not os.path.isdir(fd), target
        # It ends with its parent.
        p.kill()
        p.wait()
        wait_for("its end", lambda: not pathlib.Path(f"/proc/{worker}").exists())
    finally:
        over.set()
        p.kill()
        p.wait()
        server.close()


def test_without_root(plain, layout):
    """A user pulls, loads and pushes in a store of their own."""
    folder, image = layout
    plain.put(image, "user", "1")
    store = Store()
    try:
        os.chown(store.folder, 12345, 12345)
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]

        def run(*args):
            done = subprocess.run(user + store.args(*args), env=store.env, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
            assert done.returncode == 0, done.stderr
            return done.stdout.decode()

        run("pull", "--plain-http", f"{plain.host}/user:1")
        run("push", "--plain-http", f"{plain.host}/user:1", f"{plain.host}/user:2")
        run("verify")
        assert "user:1" in run("ls")
    finally:
        store.close()
