"""Peak memory of unpacking an image of 500 MB."""
import os
import pathlib
import random
import resource
import subprocess
import tarfile

from benchlib import BIN, Row, scratch

MIB = 1 << 20
IMAGE_MIB = 500


def write_root(folder):
    """Files that do not compress, of all sizes."""
    source = random.Random(1)
    left = IMAGE_MIB * MIB
    number = 0
    while left > 0:
        size = min(left, source.choice((4096, 65536, MIB, 20 * MIB)))
        path = folder / f"d{number % 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
        left -= size
        number += 1


def peak_of(args):
    """The largest resident set in MiB of any process of a command, children included."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(write, f"{done.returncode} {usage.ru_maxrss}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    status, kib = os.read(read, 100).decode().split()
    if status != "0":
        raise RuntimeError(f"{args} ended with {status}")
    return int(kib) / 1024


def measure():
    with scratch("image") as tmp:
        root = pathlib.Path(tmp) / "root"
        root.mkdir()
        write_root(root)
        tar = tmp / "root.tar"
        with tarfile.open(tar, "w") as out:
            out.add(root, arcname=".")
        store = ["--store", str(tmp / "store")]
        peak = peak_of([str(BIN / "holm-image"), *store, "import", str(tar), "large:1"])
        peak = max(peak, peak_of([str(BIN / "holm-image"), *store, "unpack", "large:1"]))
    return [Row("peak memory of importing and unpacking 500 MB, MiB", "-", 64).set(peak)]
