"""What the benchmarks take from Debian's archive and never install: a newer QEMU, SQLite's source.

apt is given package lists of its own, so that nothing changes for the system's. What was made is
kept in $HOLM_CACHE (default: build).
"""
import pathlib
import shutil
import subprocess
import tempfile

from benchlib import CACHE
from lib.kept import kept

QEMU = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"]


def run(folder, *args):
    done = subprocess.run([str(a) for a in args], cwd=folder, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{args[0]} ended with {done.returncode}: {done.stdout[-2000:]}")


def apt(folder, kind, suite, *args):
    """apt-get with that suite alone; what it fetches comes into the folder."""
    with tempfile.TemporaryDirectory(prefix="holm-bench-apt-") as tmp:
        state = pathlib.Path(tmp)
        for name in ("sources", "lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "sources/one.sources").write_text(
            f"Types: {kind}\nURIs: http://deb.debian.org/debian\nSuites: {suite}\n"
            "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n")
        ways = {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": state / "sources",
                "Dir::State::lists": state / "lists", "Dir::Cache": state / "cache",
                "APT::Sandbox::User": "root"}
        command = ["apt-get", "-qq", *[f"-o{k}={v}" for k, v in ways.items()]]
        run(folder, *command, "update")
        run(folder, *command, *args)


def make_qemu(folder):
    apt(folder, "deb", "bookworm-backports", "download", *QEMU)
    for package in folder.glob("*.deb"):
        run(folder, "dpkg-deb", "-x", package, folder / "root")
        package.unlink()


def qemu():
    """The command and its first arguments; the libraries are those of the stable release."""
    root = kept(CACHE / "qemu-backports", make_qemu) / "root/usr"
    return [str(root / "bin/qemu-system-x86_64"), "-L", str(root / "share/qemu"), "-L",
            str(root / "share/seabios")]


def make_sqlite(folder):
    apt(folder, "deb-src", "bookworm", "source", "--only-source", "--download-only", "sqlite3")
    source = folder / "source"
    source.mkdir()
    run(source, "tar", "--strip-components=1", "-xf", next(folder.glob("sqlite3_*.orig.tar.xz")))
    run(source, "./configure")
    run(source, "make", "sqlite3.c")
    run(source, "gcc", "-E", "-o", folder / "sqlite3.i", "sqlite3.c")
    for path in folder.iterdir():
        if path.name != "sqlite3.i":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def sqlite():
    """Its amalgamation, preprocessed."""
    return kept(CACHE / "sqlite-source", make_sqlite) / "sqlite3.i"
