"""Layers of images, honest and hostile, and the tool that unpacks one by hand."""
import gzip
import io
import os
import pathlib
import subprocess
import tarfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
TOOL = BUILD / "src/image/test-image-unpack-tool"
MTIME = 1_000_000_000


def entry(name, kind="f", data=b"", *, mode=None, uid=0, gid=0, link="", pax=None, dev=(1, 3),
          mtime=MTIME):
    """(TarInfo, data). kind: f file, d folder, l symlink, h hard link, p FIFO, c b device."""
    info = tarfile.TarInfo(name)
    info.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE,
                 "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE, "c": tarfile.CHRTYPE,
                 "b": tarfile.BLKTYPE}[kind]
    info.mode = mode if mode is not None else (0o755 if kind == "d" else 0o644)
    info.uid, info.gid, info.linkname, info.mtime = uid, gid, link, mtime
    if kind in "cb":
        info.devmajor, info.devminor = dev
    if kind == "f":
        info.size = len(data)
    info.pax_headers = pax or {}
    return info, data


def tar(entries, fmt=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def header(name, size=0, kind=b"0", **fields):
    """One raw ustar header, its checksum right whatever is in it."""
    raw = bytearray(512)

    def put(at, text):
        raw[at:at + len(text)] = text

    put(0, name if isinstance(name, bytes) else name.encode())
    put(100, b"0000644\0")
    put(108, b"0000000\0")
    put(116, b"0000000\0")
    put(124, fields.get("size_text", b"%011o\0" % size))
    put(136, b"%011o\0" % MTIME)
    put(148, b" " * 8)
    put(156, kind)
    put(157, fields.get("link", b""))
    put(257, b"ustar\0" + b"00")
    put(148, b"%06o\0 " % sum(raw))
    return bytes(raw)


def pad(data):
    return data + bytes(-len(data) % 512)


class Unpacked:
    def __init__(self, folder, done):
        self.root = pathlib.Path(folder) / "root"
        self.status = done.returncode
        self.err = done.stderr.strip()
        self.info = dict(w.split("=", 1) for w in done.stdout.split())


def unpack(folder, data, kind="tar", lower=(), **env):
    """Unpack a layer into a new folder below `folder`; lower: Unpacked below it."""
    folder = pathlib.Path(folder)
    n = len(list(folder.iterdir()))
    blob, out = folder / f"blob{n}", folder / f"out{n}"
    blob.write_bytes(gzip.compress(data, 1) if kind == "gz" else data)
    out.mkdir()
    done = subprocess.run([TOOL, "gzip" if kind == "gz" else kind, blob, out,
                           *(x.root for x in lower)], text=True, capture_output=True, timeout=120,
                          env={**os.environ, **{k: str(v) for k, v in env.items()}})
    return Unpacked(out, done)
