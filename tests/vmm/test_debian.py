# SPDX-License-Identifier: Apache-2.0
"""Debian with systemd on a disk: somebody logs in, works, installs, and switches it off."""
import functools
import http.server
import os
import re
import shutil
import subprocess
import threading

import pytest
from lib.daemon import BIN
from lib.debian import Terminal, assert_clean, fresh_disk, put
from lib.netns import network, tap_namespace
from lib.vmm import Control, run

pytestmark = pytest.mark.long

CONFORM = BIN.parent / "tests/conform"
# A source that cannot be read is an error, if it stays so.
APT = "-q -o APT::Update::Error-Mode=any -o Acquire::Retries=10"
HOST, GUEST = "10.78.0.1", "10.78.0.2"

PROGRAM = r"""
#include <math.h>
#include <pthread.h>
#include <stdio.h>

static void *half(void *arg)
{
	double *v = arg;

	for (int i = 1; i < 1000; i++) {
		v[0] += sqrt(i) / (i + v[1]);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	double v[2][2] = { { 0, 1 }, { 0, 2 } };
	pthread_t t[2];

	for (int i = 0; i < 2; i++) {
		pthread_create(&t[i], NULL, half, v[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
	}
	printf("%d %s: %.17g %.17g\n", argc, argv[1], v[0][0], v[1][0]);
	return argc == 2 ? 42 : 1;
}
"""


@pytest.fixture
def terminal():
    made = []

    def make(*args, **kw):
        made.append(Terminal(*args, **kw))
        return made[-1]

    yield make
    for t in made:
        t.close()


def compiled_here(folder):
    """What the program says on the host."""
    (folder / "program.c").write_text(PROGRAM)
    run("gcc", "-O2", "-o", folder / "program", folder / "program.c", "-lm", "-lpthread")
    done = subprocess.run([folder / "program", "word"], capture_output=True, text=True)
    assert done.returncode == 42
    return done.stdout


def conform_here(folder):
    folder.mkdir()
    return subprocess.run([CONFORM, folder], stdin=subprocess.DEVNULL, capture_output=True,
                          check=True).stdout


@pytest.mark.skipif(not shutil.which("passt"), reason="passt is not installed")
def test_a_day(terminal, tmp_path):
    """Log in, install from the host's apt sources, compile, compare, switch off."""
    said = compiled_here(tmp_path)
    same = conform_here(tmp_path / "here")
    disk = fresh_disk(tmp_path)
    put(disk, tmp_path / "program.c", "/root/program.c", 0o644)
    put(disk, CONFORM, "/root/conform")
    t = terminal(disk, "--net", "user")
    t.login()
    assert t.command("systemctl --failed --no-legend --plain").strip() == ""
    assert t.command("systemd-detect-virt").strip() == "kvm"
    t.command("ip -4 address show eth0 | grep 'scope global'")
    t.command(f"apt-get {APT} update < /dev/null")
    t.command(f"apt-get {APT} -y install hello < /dev/null")
    assert t.command("hello").strip() == "Hello, world!"
    assert re.search(r"^ii +hello ", t.command("dpkg -l hello"), re.M)
    t.command("gcc -O2 -o program program.c -lm -lpthread")
    assert t.command("./program word", 42) == said
    t.command("mkdir here && ./conform here > conform.txt")
    t.type("systemctl poweroff\n")
    assert t.wait() == 0, t.text[-3000:]
    assert_clean(disk)
    run("debugfs", "-R", f"dump /root/conform.txt {tmp_path}/conform.txt", disk)
    assert (tmp_path / "conform.txt").read_bytes() == same


class Mirror:
    """A package source of one package, that counts what is fetched."""

    def __init__(self, folder, address):
        self.package = next(folder.glob("*.deb"))
        self.fetched = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                outer.fetched.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer((address, 0), handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def make_source(folder):
    """The package as the host's apt has it, and an index of it."""
    folder.mkdir()
    folder.chmod(0o755)
    run("apt-get", "download", "hello", cwd=folder)
    package = next(folder.glob("*.deb"))
    fields = run("dpkg-deb", "-f", package)
    digest = run("sha256sum", package).split()[0]
    (folder / "Packages").write_text(f"{fields}Filename: ./{package.name}\n"
                                     f"Size: {package.stat().st_size}\nSHA256: {digest}\n")


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no tap devices here")
def test_on_a_tap(terminal, tmp_path):
    """On the virtio console, with two CPUs and a tap in a namespace; its power button ends it."""
    make_source(tmp_path / "source")
    disk = fresh_disk(tmp_path)
    with tap_namespace("debian", HOST) as name:
        with network(name):
            mirror = Mirror(tmp_path / "source", HOST)
            t = terminal(disk, "--net", "tap=tap0", "--console", "virtio", "--cpus", 2, "--control",
                         tmp_path / "ctl", console="tty0",   # Debian loads its driver late
                         cmdline="systemd.wants=serial-getty@hvc0.service "
                                 "systemd.mask=networking.service")
        try:
            t.login()
            assert t.command("tty").strip() == "/dev/hvc0"
            assert t.command("nproc").strip() == "2"
            t.command(f"ip address add {GUEST}/24 dev eth0 && ip link set eth0 up")
            t.command(f"ping -c 3 -W 100 {HOST}")
            t.command(f"echo 'deb [trusted=yes] http://{HOST}:{mirror.port} ./' > /etc/apt/sources.list"
                      " && rm /etc/apt/sources.list.d/*")
            t.command(f"apt-get {APT} update < /dev/null")
            t.command(f"apt-get {APT} -y install hello < /dev/null")
            assert t.command("hello").strip() == "Hello, world!"
            assert any(path.endswith(".deb") for path in mirror.fetched)
            control = Control(tmp_path / "ctl")
            assert control.ask("power-button")[0] == 0
            assert t.wait() == 0, t.text[-3000:]
            control.close()
        finally:
            mirror.close()
    assert_clean(disk)
