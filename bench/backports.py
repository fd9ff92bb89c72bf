"""Debian's newer QEMU beside the one that is installed: unpacked, never installed.

Its packages come from the distribution's backports with package lists of their own, so that
nothing changes for the system's apt. They are kept in $HOLM_CACHE (default: build).
"""
import pathlib
import shutil
import subprocess
import tempfile

from guests import CACHE

SUITE = "bookworm-backports"
PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"]
SOURCE = f"""Types: deb
URIs: http://deb.debian.org/debian
Suites: {SUITE}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def apt(folder, *args):
    ways = {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": folder / "sources",
            "Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root"}
    subprocess.run(["apt-get", "-qq", *[f"-o{k}={v}" for k, v in ways.items()], *args],
                   cwd=folder, check=True, stdin=subprocess.DEVNULL)


def fetch(folder):
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources/backports.sources").write_text(SOURCE)
    apt(folder, "update")
    apt(folder, "download", *PACKAGES)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
        package.unlink()
    for name in ("lists", "cache"):
        shutil.rmtree(folder / name)


def qemu():
    """The command and its first arguments; the libraries are those of the stable release."""
    folder = CACHE / f"qemu-{SUITE}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
        try:
            temporary.chmod(0o755)
            fetch(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    share = folder / "root/usr/share"
    return [str(folder / "root/usr/bin/qemu-system-x86_64"), "-L", str(share / "qemu"), "-L",
            str(share / "seabios")]
