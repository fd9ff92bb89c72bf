"""Rules 15 to 23 against the whole: what the daemon makes of a hostile image, who may speak to
it, what it makes of hostile requests, and what streams cost it."""
import http.client
import io
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import tarfile
import time
import urllib.parse

import pytest

from lib import images
from lib.daemon import BIN, Daemon
from lib.victim import ATTACK

NOBODY = 65534


@pytest.fixture(scope="module")
def daemon():
    d = Daemon("attacks")
    load(d, "victim:1")
    yield d
    d.close()


def load(daemon, name, extra=(), **run):
    """An image with the attack program and whatever else an attacker puts into it."""
    img = images.busybox_image(extra=[("bin/attack", ATTACK.read_bytes(), 0o755), *extra], **run)
    tar = daemon.base / "image.tar"
    tar.write_bytes(images.tar(images.layout_entries([img], [name])))
    done = subprocess.run([BIN / "holm-image", "--store", daemon.state / "images", "load", tar],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(daemon, *command, image="victim:1", options=(), timeout=60):
    return daemon.holm("run", "--rm", "--network", "none", *options, image, *command, check=False,
                       timeout=timeout)


def attack(daemon, *args, **kw):
    done = run(daemon, "/bin/attack", *args, **kw)
    text = done.stdout + done.stderr
    assert f"done {args[0]}" in text, text
    assert "ESCAPED" not in text, text
    return text


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def request(daemon, method, path, body=None, headers=None):
    c = UnixConnection(daemon.socket)
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    c.request(method, path, body, headers or {"Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read().decode("utf-8", "replace")
    c.close()
    return r.status, text


def create(daemon, name, spec):
    query = "?name=" + urllib.parse.quote(name, safe="") if name is not None else ""
    return request(daemon, "POST", "/v1/instances" + query, spec)


def alive(daemon):
    assert daemon.proc.poll() is None, daemon.log.read_text()[-3000:]
    assert request(daemon, "GET", "/v1/version")[0] == 200


# --- an instance as users make it ---------------------------------------------------------------

@pytest.mark.parametrize("what", [["filter"], ["fds"], ["mounts"], ["memory"], ["release-agent"],
                                  ["handle", "/etc/shadow"], ["vsock"]], ids=lambda w: w[0])
def test_default_instance(daemon, what):
    """`holm run IMAGE` with no options at all: filter, descriptors, mounts, nodes, cgroups."""
    attack(daemon, *what)


def test_default_instance_is_a_nobody(daemon):
    text = attack(daemon, "creds")
    assert "inheritable 0000000000000000" in text and "ambient 0000000000000000" in text
    bounding = int(re.search(r"bounding (\w+)", text).group(1), 16)
    for cap in (2, 12, 13, 16, 17, 19, 21, 22, 25, 27):  # DAC_READ_SEARCH NET_ADMIN ... MKNOD
        assert not bounding & 1 << cap
    done = run(daemon, "cat", "/proc/self/uid_map")
    base = int(done.stdout.split()[1])
    assert base >= 65536, done.stdout


def test_default_instance_hides(daemon):
    attack(daemon, "masked", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi",
           "/proc/acpi", "/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap")
    attack(daemon, "writable", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
           "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper")


def test_userns_host_sets_no_new_privileges(daemon):
    """Rule 10: without ids of its own an instance cannot gain privileges."""
    load(daemon, "suid:1", extra=[("bin/suid", ATTACK.read_bytes(), 0o4755)])
    done = run(daemon, "/bin/suid", "creds", image="suid:1",
               options=["--userns", "host", "--user", "1000"])
    assert "uid 1000 1000 1000" in done.stdout and "nnp 1" in done.stdout, done.stdout + done.stderr


def test_two_instances_have_other_ids(daemon):
    """One instance's root is nobody to another's files."""
    first = run(daemon, "cat", "/proc/self/uid_map")
    name = daemon.holm("run", "-d", "--network", "none", "victim:1", "sleep", "100").stdout.strip()
    try:
        second = daemon.holm("exec", name, "cat", "/proc/self/uid_map")
        third = run(daemon, "cat", "/proc/self/uid_map")
        assert second.stdout.split()[1] != third.stdout.split()[1]
        assert first.returncode == 0
    finally:
        daemon.holm("rm", "-f", name)


# --- rule 18: what an image says ----------------------------------------------------------------

@pytest.mark.parametrize("user", ["-1", "4294967295", "4294967296", "99999999999", "root:-1",
                                  "a:b:c", "nobody-here", "1000:nogroup-here", "+0", "0x0",
                                  "\n0", "0\n"])
def test_image_user(daemon, user):
    """USER of an image: refused, never root by accident (containerd CVE-2024-40635)."""
    load(daemon, "user:1", User=user)
    done = run(daemon, "/bin/attack", "creds", image="user:1")
    assert "done creds" not in done.stdout, done.stdout
    assert done.returncode != 0


def test_image_user_is_that_user(daemon):
    load(daemon, "user:2", User="2147483")
    done = run(daemon, "/bin/attack", "creds", image="user:2")
    assert "uid 0" not in done.stdout, done.stdout     # it is outside of the range: refused


@pytest.mark.parametrize("what", ["fifo", "device", "link", "huge"])
def test_image_passwd(daemon, what):
    """/etc/passwd of an image (podman CVE-2024-9676): no hang, nothing of the host's read."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name in ("etc/passwd", "etc/group"):
            info = tarfile.TarInfo(name)
            data = b""
            if what == "fifo":
                info.type = tarfile.FIFOTYPE
            elif what == "device":
                info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 5
            elif what == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/../../../../../etc/shadow"
            else:
                data = b"root:x:0:0:" + b"a" * (3 << 20)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    img = images.Image([images.busybox_layer(), out.getvalue()])
    tar = daemon.base / "image.tar"
    tar.write_bytes(images.tar(images.layout_entries([img], ["passwd:1"])))
    subprocess.run([BIN / "holm-image", "--store", daemon.state / "images", "load", tar],
                   capture_output=True, check=False)
    done = run(daemon, "id", image="passwd:1")
    assert "daemon" not in done.stdout
    alive(daemon)


@pytest.mark.parametrize("config", [
    {"WorkingDir": "/proc/self/fd/7"},
    {"WorkingDir": "/proc/self/fd/../../../../../../../.."},
    {"WorkingDir": "../../../../.."},
    {"Volumes": {"/../../../../../../../tmp": {}}},
    {"Volumes": {"/proc/self/attr": {}, "/dev/../etc": {}}},
    {"Labels": {"holm.privileged": "true", "io.containerd.runc.options": "binary:///bin/evil"}},
    {"Env": ["PATH=/bin", "LD_PRELOAD=/evil.so", "HOLM_FAULT=openat:1:EIO", "LISTEN_FDS=5", "=x",
             "y"]},
    {"StopSignal": "99999999999999"},
    {"Healthcheck": {"Test": ["CMD-SHELL", "touch /escaped"]}},
    {"ExposedPorts": {"99999999/tcp": {}, "x": {}}},
], ids=lambda c: next(iter(c)))
def test_image_config(daemon, config):
    """WORKDIR, VOLUME, LABEL, ENV (CVE-2022-23648, CVE-2026-53488, CVE-2025-23266)."""
    load(daemon, "config:1", **config)
    for args in (["fds"], ["cwd", "/etc/shadow"]):
        done = run(daemon, "/bin/attack", *args, image="config:1")
        text = done.stdout + done.stderr
        assert "ESCAPED" not in text, text
    alive(daemon)


def test_image_entrypoint_is_the_runtime(daemon):
    """CVE-2019-5736 by an image: ENTRYPOINT /proc/self/exe."""
    before = (BIN / "holm-oci").read_bytes()
    load(daemon, "exe:1", Entrypoint=["/proc/self/exe"], Cmd=["--version"])
    run(daemon, image="exe:1")
    assert (BIN / "holm-oci").read_bytes() == before


def test_image_root_is_full_of_links(daemon):
    """/dev, /proc, /sys, /etc of the image are links out."""
    busybox = pathlib.Path("/bin/busybox").read_bytes()
    layer = images.tar([("bin", None), ("bin/busybox", busybox, 0o755), ("bin/sh", ("link", "busybox")),
                        ("dev", ("link", "/../../../../tmp")),
                        ("etc", ("link", "../../../../../../etc")), ("proc", ("link", "/sys")),
                        ("sys", ("link", "/proc/1/root")), (".holm-init", ("link", "/etc/shadow"))])
    img = images.Image([layer])
    tar = daemon.base / "image.tar"
    tar.write_bytes(images.tar(images.layout_entries([img], ["links:1"])))
    subprocess.run([BIN / "holm-image", "--store", daemon.state / "images", "load", tar],
                   capture_output=True, check=False)
    def look():
        return os.listdir("/tmp"), [os.stat(f"/etc/{n}").st_mtime for n in ("hosts", "hostname")]

    before = look()
    run(daemon, "sh", "-c", "echo overwritten > /etc/hosts", image="links:1")
    after = look()
    assert before[1] == after[1]
    new = {n for n in after[0] if n not in before[0]}
    assert not new & {"null", "zero", "pts", "shm", "mqueue", "ptmx", "console", "hosts"}, new


# --- rules 15, 20, 23: who may speak ------------------------------------------------------------

AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as e:
    print("refused", e.errno); sys.exit()
for line in sys.argv[2:]:
    method, path = line.split()
    try:
        s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])
        body = sys.stdin.readline().strip() if path.startswith("/v1/instances?") else ""
        s.sendall((f"{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
                   f"Content-Type: application/json\\r\\nContent-Length: {len(body)}"
                   f"\\r\\n\\r\\n{body}").encode())
        print(line, s.recv(4096).split(b"\\r\\n")[0].decode())
    except OSError as e:
        print(line, "closed", e.errno)
"""


def as_nobody(daemon, *lines, body=""):
    done = subprocess.run(["/usr/bin/python3", "-c", AS_NOBODY, str(daemon.socket), *lines],
                          input=body, capture_output=True, text=True, timeout=60)
    return done.stdout


def routes(daemon):
    doc = json.loads(request(daemon, "GET", "/v1/openapi.json")[1])
    return [f"{m.upper()} {p.replace('{id}', 'x').replace('{exec}', 'y')}"
            for p, methods in doc["paths"].items() for m in methods if m != "parameters"]


def test_socket_is_private(daemon):
    """Another user does not even connect."""
    assert as_nobody(daemon, "GET /v1/version").startswith("refused"), "nobody connected"
    assert stat.S_IMODE(daemon.socket.stat().st_mode) & 0o007 == 0


def test_every_route_asks_who_it_is(daemon):
    """Rule 20: with the socket left open to all, each route refuses by the peer's credentials:
    what is a whole request with 403, and nothing is ever done."""
    name = daemon.holm("run", "-d", "--network", "none", "victim:1", "sleep", "100").stdout.strip()
    old = [(p, stat.S_IMODE(p.stat().st_mode))
           for p in (daemon.base, daemon.run_dir, daemon.socket)]
    try:
        for path, mode in old:
            path.chmod(mode | 0o777 if path == daemon.socket else mode | 0o711)
        lines = [line.replace("/x", "/" + name) for line in routes(daemon)]
        assert len(lines) > 15
        lines.append("POST /v1/instances?name=of-nobody")
        body = json.dumps({"image": "victim:1", "network": "none"})
        answers = as_nobody(daemon, *lines, body=body).splitlines()
        assert len(answers) == len(lines), answers
        let_in = [a for a in answers if not re.search(r" HTTP/1.1 4\d\d |closed", a)]
        assert not let_in, let_in
        for line in ("GET /v1/version", "GET /v1/instances", f"GET /v1/instances/{name}",
                     f"DELETE /v1/instances/{name}", f"POST /v1/instances/{name}/pause",
                     "GET /v1/openapi.json", "GET /v1/events", "POST /v1/instances?name=of-nobody"):
            assert [a for a in answers if a.startswith(line + " ") and " 403 " in a], answers
    finally:
        daemon.holm("rm", "-f", name)
        for path, mode in old:
            path.chmod(mode)
    alive(daemon)


def test_folders_are_private(daemon):
    """State 0700, run 0711, instances 0700; nothing that others can write (CVE-2024-25621)."""
    name = daemon.holm("run", "-d", "--network", "none", "victim:1", "sleep", "100").stdout.strip()
    try:
        for top in (daemon.state, daemon.run_dir):
            for at, folders, files in os.walk(top):
                if "/root" in at or "/layers" in at or "/rootfs" in at:
                    folders.clear()
                    continue
                for entry in [at] + [os.path.join(at, f) for f in files]:
                    st = os.lstat(entry)
                    if not stat.S_ISLNK(st.st_mode) and entry != str(daemon.socket):
                        assert st.st_mode & 0o022 == 0, f"{entry}: {oct(st.st_mode)}"
        for path in (daemon.run_dir / "instances").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        sockets = [os.path.join(at, f) for at, _, files in os.walk(daemon.run_dir) for f in files
                   if stat.S_ISSOCK(os.lstat(os.path.join(at, f)).st_mode)]
        sockets.remove(str(daemon.socket))  # it is asked above
        for path in sockets:
            assert os.lstat(path).st_mode & 0o077 == 0, path
    finally:
        daemon.holm("rm", "-f", name)


def test_no_abstract_sockets(daemon):
    """CVE-2020-15257."""
    name = daemon.holm("run", "-d", "--network", "none", "victim:1", "sleep", "100").stdout.strip()
    try:
        names = [line.split()[-1] for line in open("/proc/net/unix", encoding="utf-8")]
        assert not [n for n in names if n[0] == "@" and ("holm" in n or daemon.base.name in n)]
    finally:
        daemon.holm("rm", "-f", name)


def test_nothing_is_setuid():
    """Rule 23: no program of ours has set-id bits or capabilities in its file."""
    for path in BIN.iterdir():
        if path.is_file():
            assert path.stat().st_mode & 0o6000 == 0, path
            assert "security.capability" not in os.listxattr(path), path


# --- rules 19 and 20: requests ------------------------------------------------------------------

@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "-x", "a b", "a\nb", "a\u0000b",
                                  "é", "x" * 129, "_x", ".x", "%2e%2e", "a;b", "$(id)", "a\tb"])
def test_names(daemon, name):
    """Rule 19: one form of name (Incus CVE-2026-23954 and its kin)."""
    status, text = create(daemon, name, {"image": "victim:1", "network": "none"})
    assert status in (400, 422), f"{status} {text}"
    instances = daemon.state / "instances"
    if instances.exists():
        assert all(re.fullmatch(r"[0-9a-f]{64}", p.name) for p in instances.iterdir())


@pytest.mark.parametrize("path", ["/v1/instances/..%2f..%2fetc%2fpasswd", "/v1/instances/%00",
                                  "/v1/instances/%2e%2e", "/v1/instances/../../etc/passwd",
                                  "/v1/instances/" + "a" * 4000, "//v1//instances",
                                  "/v1/instances/%", "/v1/instances/%zz", "/", "*", "/v1/instances/a%0ab"])
def test_paths(daemon, path):
    for method in ("GET", "DELETE", "POST"):
        try:
            status, _ = request(daemon, method, path)
            assert status >= 400, f"{method} {path}: {status}"
        except (http.client.HTTPException, OSError):
            pass    # closed on us
    alive(daemon)


@pytest.mark.parametrize("spec", [
    {"privileged": True}, {"no_such_field": 1}, {"image": 5}, {"env": "A=1"}, {"env": ["\n"]},
    {"hostname": "a\nb"}, {"domainname": "a\n127.0.0.1 evil"}, {"dns": ["1.1.1.1\noptions x"]},
    {"extra_hosts": ["a:b\nc"]}, {"user": ""}, {"workdir": "relative"},
    {"mounts": [{"type": "bind", "source": "relative", "target": "/x"}]},
    {"mounts": [{"type": "bind", "source": "/", "target": "x"}]},
    {"cap_add": ["CAP_EVERYTHING"]}, {"security_opt": ["seccomp=/etc/shadow"]},
    {"security_opt": ["whatever"]}, {"resources": {"memory": -1}}, {"resources": {"cpus": 1e300}},
    {"sysctls": {"kernel.core_pattern": "|/evil"}},
    {"ulimits": [{"name": "x", "soft": 1, "hard": 1}]},
    {"isolation": "none"}, {"userns": "root"}, {"network": "container:x"}, {"stop_signal": "EVIL"},
], ids=str)
def test_specs_are_refused(daemon, spec):
    """Unknown, wrong or reaching for the host: refused at the latest when it is to start, and
    nothing stays behind."""
    status, text = create(daemon, "refused", {"image": "victim:1", "network": "none",
                                              "command": ["true"], **spec})
    if status < 300:
        done = daemon.holm("start", "refused", check=False)
        gone = daemon.holm("rm", "-f", "refused", check=False)
        assert done.returncode != 0, f"{spec} was started"
        assert gone.returncode == 0
    else:
        assert status in (400, 404, 422, 501), f"{status} {text}"
    alive(daemon)


@pytest.mark.parametrize("body", [
    '{"image":"victim:1","network":"host","network":"none"}', '{"image":"victim:1"}x',
    "[" * 50000, '{"a":' * 1000 + "1" + "}" * 1000, "\ufeff{}", "null", "[]", '"x"', "", "{",
    '{"image":"\\ud800"}', '{"image":"a\\u0000b"}', '{"env": [' + '"a=b",' * 100000 + '"a=b"]}',
], ids=lambda b: b[:20])
def test_bodies(daemon, body):
    """Repeated keys, trailing bytes, depth, no body: one meaning or none (CVE-2024-41110)."""
    status, text = request(daemon, "POST", "/v1/instances", body.encode("utf-8", "surrogatepass"))
    assert 400 <= status < 500, f"{status} {text[:200]}"
    alive(daemon)


def raw(daemon, data, wait=3.0):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(wait)
    s.connect(str(daemon.socket))
    got = b""
    try:
        s.sendall(data)
        while True:
            part = s.recv(65536)
            if not part:
                break
            got += part
            if b"\r\n\r\n" in got:
                break
    except OSError:
        pass
    s.close()
    return got


def test_large_bodies(daemon):
    """Rule 20: over the limit is 413, before anything looks at it; no part is acted on."""
    head = b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    got = raw(daemon, head + b"Content-Length: 99999999999\r\n\r\n{")
    assert b" 413 " in got.split(b"\r\n")[0] or not got, got
    got = raw(daemon, head + b"Content-Length: -1\r\n\r\n{}")
    assert b" 20" not in got.split(b"\r\n")[0], got
    got = raw(daemon, head + b"Content-Length: 18446744073709551617\r\n\r\n{}")
    assert b" 20" not in got.split(b"\r\n")[0], got
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    got = raw(daemon, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 8)
    assert b" 20" not in got.split(b"\r\n")[0], got
    both = raw(daemon, head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"2\r\n{}\r\n0\r\n\r\n")
    assert b" 20" not in both.split(b"\r\n")[0], both
    alive(daemon)


def rss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))


def test_many_idle_connections(daemon):
    """Connections that say nothing, or half a header, cost little, and others are served."""
    before = rss_kib(daemon.proc.pid)
    kept = []
    try:
        for i in range(150):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(daemon.socket))
            s.sendall(b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nX-" + b"a" * (i % 50))
            kept.append(s)
        alive(daemon)
        assert rss_kib(daemon.proc.pid) - before < 64 * 1024
    finally:
        for s in kept:
            s.close()
    alive(daemon)


# --- rule 21: streams ---------------------------------------------------------------------------

def test_flood_of_output(daemon):
    """An instance that floods its output fills neither the disk nor anyone's memory."""
    spec = {"image": "victim:1", "network": "none", "command": ["sh", "-c", "yes " + "x" * 200],
            "log": {"max_size": 1048576, "max_files": 2}}
    load(daemon, "victim:1", extra=[("bin/yes", ("link", "busybox"))])
    status, text = create(daemon, "flood", spec)
    assert status < 300, text
    daemon.holm("start", "flood")
    try:
        before = rss_kib(daemon.proc.pid)
        shim = daemon.inspect("flood")["status"]["shim_pid"]
        time.sleep(4)
        size = sum(os.lstat(os.path.join(at, f)).st_blocks * 512
                   for at, _, files in os.walk(daemon.state / "instances") for f in files
                   if "log" in f or "log" in at)
        assert size < 8 << 20, size
        assert rss_kib(shim) < 32 * 1024 and rss_kib(daemon.proc.pid) - before < 32 * 1024
        assert daemon.inspect("flood")["status"]["state"] == "running"
    finally:
        daemon.holm("rm", "-f", "flood")


def test_client_that_does_not_read(daemon):
    """`logs -f` of that flood by a client that never reads: bounded, and gone with the client."""
    daemon.holm("run", "-d", "--name", "flood2", "--network", "none", "victim:1", "sh", "-c",
                "yes " + "x" * 200)
    try:
        before = rss_kib(daemon.proc.pid)
        kept = []
        for _ in range(10):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(daemon.socket))
            s.sendall(b"GET /v1/instances/flood2/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
            kept.append(s)
        time.sleep(3)
        alive(daemon)
        assert rss_kib(daemon.proc.pid) - before < 64 * 1024
        for s in kept:
            s.close()
        alive(daemon)
    finally:
        daemon.holm("rm", "-f", "flood2")


def test_fork_bomb(daemon):
    """The default limit of processes holds; the host and the daemon go on."""
    name = daemon.holm("run", "-d", "--network", "none", "victim:1", "sh", "-c",
                       "f() { f | f & }; f; sleep 1000").stdout.strip()
    time.sleep(2)
    alive(daemon)
    assert subprocess.run(["/bin/true"]).returncode == 0
    done = daemon.holm("rm", "-f", name, check=False)
    assert done.returncode == 0, done.stderr


# --- class C: copying between host and instance -------------------------------------------------

@pytest.fixture(params=["auto", "host"])
def copied(daemon, request, tmp_path):
    """A running instance with and without ids of its own, and a folder of the host's that no
    copy may reach."""
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    (outside / "secret").write_text("top-secret\n")
    load(daemon, "copy:1", extra=[(f"bin/{n}", ("link", "busybox")) for n in ("mkdir", "ln")])
    name = daemon.holm("run", "-d", "--network", "none", "--userns", request.param, "copy:1",
                       "sleep", "1000").stdout.strip()
    yield name, outside
    daemon.holm("rm", "-f", name)
    assert sorted(p.name for p in outside.iterdir()) == ["secret"], "a copy got out"
    assert (outside / "secret").read_text() == "top-secret\n"


def put_tar(daemon, name, path, data):
    return request(daemon, "PUT", f"/v1/instances/{name}/archive?path={urllib.parse.quote(path)}",
                   data, {"Content-Type": "application/x-tar"})


def get_tar(daemon, name, path, **query):
    query = urllib.parse.urlencode({"path": path, **query})
    return request(daemon, "GET", f"/v1/instances/{name}/archive?{query}")


def test_copy_out_through_links(daemon, copied):
    """CVE-2018-15664: a link of the instance's leads inside it, also where it is followed."""
    name, outside = copied
    up = "/" + "../" * 12
    for i, target in enumerate([f"{outside}/secret", f"{up}{outside}/secret", str(outside),
                                f"/proc/1/root{outside}", f"/proc/self/root{outside}/secret",
                                "/proc/self/cwd", "/proc/self/fd/3"]):
        daemon.holm("exec", name, "ln", "-s", target, f"/tmp/link{i}")
        for query in ({}, {"follow": "true"}):
            for path in (f"/tmp/link{i}", f"/tmp/link{i}/secret"):
                assert "top-secret" not in get_tar(daemon, name, path, **query)[1]
    for path in (f"{up}{outside}/secret", f"/proc/1/root/{outside}/secret",
                 f"/proc/self/root{outside}"):
        assert "top-secret" not in get_tar(daemon, name, path)[1]
    assert get_tar(daemon, name, "/etc/passwd")[0] == 200    # positive control
    alive(daemon)


def test_copy_in_through_links(daemon, copied):
    """CVE-2026-41568: what is written goes to the instance, whatever its links say."""
    name, outside = copied
    data = images.tar([("made", b"made\n"), ("folder", None), ("folder/made", b"made\n")])
    for i, target in enumerate([str(outside), "/" + "../" * 12 + str(outside),
                                f"/proc/1/root{outside}", f"/proc/self/root{outside}"]):
        daemon.holm("exec", name, "ln", "-s", target, f"/tmp/to{i}")
        put_tar(daemon, name, f"/tmp/to{i}", data)
        put_tar(daemon, name, "/tmp", images.tar([(f"to{i}/made", b"made\n")]))
    assert put_tar(daemon, name, "/tmp", data)[0] < 300      # positive control
    assert daemon.holm("exec", name, "cat", "/tmp/folder/made").stdout == "made\n"


@pytest.mark.parametrize("entries", [
    [("../../../../../../../../tmp/holm-escaped", b"x")],
    [("/tmp/../../../../tmp/holm-escaped", b"x")],
    [("a", ("link", "/")), ("a/tmp/holm-escaped-inside", b"x")],
    [("a/../../../../../../holm-escaped", b"x")], [("..", None)], [("", b"x")],
], ids=lambda e: e[0][0][:20] or "empty")
def test_copy_in_of_hostile_tars(daemon, copied, entries):
    name, _ = copied
    put_tar(daemon, name, "/tmp", images.tar(entries))
    for at in ("/holm-escaped", "/tmp/holm-escaped", "/tmp/holm-escaped-inside"):
        assert not os.path.exists(at)
    alive(daemon)


def test_copy_while_folders_are_swapped(daemon, copied):
    """docker cp's race: the instance swaps a folder with a link out, again and again."""
    name, outside = copied
    daemon.holm("exec", name, "mkdir", "-p", "/tmp/v/a")
    daemon.holm("exec", name, "ln", "-s", "/" + "../" * 12 + str(outside), "/tmp/v/b")
    swapper = subprocess.Popen([BIN / "holm", "exec", name, "/bin/attack", "swap", "/tmp/v", "a",
                                "b"], env=daemon.env, stdin=subprocess.DEVNULL)
    try:
        data = images.tar([("made", b"made\n")])
        stored = 0
        for _ in range(40):
            stored += put_tar(daemon, name, "/tmp/v/a", data)[0] < 300
            assert "top-secret" not in get_tar(daemon, name, "/tmp/v/a/secret")[1]
            assert "top-secret" not in get_tar(daemon, name, "/tmp/v")[1]
        assert swapper.poll() is None and stored > 0
    finally:
        swapper.kill()
        swapper.wait()
