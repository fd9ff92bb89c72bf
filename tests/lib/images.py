# SPDX-License-Identifier: Apache-2.0
"""Small images for tests: tar layers, OCI layouts and docker archives, written here byte by
byte so that no other tool decides what is in them."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
BUSYBOX = "/bin/busybox"
APPLETS = ["sh", "cat", "echo", "ls", "true", "false", "sleep", "id", "env", "mount", "ps", "kill"]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(entries):
    """A tar of (name, content) with content bytes, None for a folder, or ("link", target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, content, *mode in entries:
            info = tarfile.TarInfo(name)
            info.mtime = 1700000000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                t.addfile(info)
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[1]
                t.addfile(info)
            else:
                info.size, info.mode = len(content), mode[0] if mode else 0o644
                t.addfile(info, io.BytesIO(content))
    return out.getvalue()


def busybox_layer():
    """A root file system in which a shell runs."""
    with open(BUSYBOX, "rb") as f:
        binary = f.read()
    entries = [(d, None) for d in ("bin", "etc", "tmp", "proc", "sys", "dev", "root")]
    entries.append(("bin/busybox", binary, 0o755))
    entries += [(f"bin/{a}", ("link", "busybox")) for a in APPLETS]
    entries.append(("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"))
    entries.append(("etc/group", b"root:x:0:\n"))
    return tar(entries)


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE,
                              check=True).stdout
    return data


class Image:
    """Documents and blobs of one image."""

    def __init__(self, layers, how="gzip", arch="amd64", **run):
        self.blobs = {}
        self.plain = layers
        packed = [compress(l, how) for l in layers]
        suffix = {"gzip": "+gzip", "zstd": "+zstd"}.get(how, "")
        self.config = self.add(json.dumps({
            "architecture": arch, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **run},
            "rootfs": {"type": "layers", "diff_ids": [digest(l) for l in layers]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"layer {i}"}
                        for i in range(len(layers))],
        }).encode())
        self.layers = [self.add(l) for l in packed]
        self.manifest = self.add(json.dumps({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": self.desc(self.config, OCI_CONFIG),
            "layers": [self.desc(l, OCI_LAYER + suffix) for l in self.layers],
        }).encode())
        self.arch = arch

    def add(self, data):
        d = digest(data)
        self.blobs[d] = data
        return d

    def desc(self, d, media_type, **more):
        return {"mediaType": media_type, "digest": d, "size": len(self.blobs[d]), **more}


def index_of(images, names=(), platforms=False):
    """index.json over images, with a name for each."""
    entries = []
    for i, img in enumerate(images):
        more = {}
        if i < len(names) and names[i]:
            more["annotations"] = {"org.opencontainers.image.ref.name": names[i]}
        if platforms:
            more["platform"] = {"os": "linux", "architecture": img.arch}
        entries.append(img.desc(img.manifest, OCI_MANIFEST, **more))
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def layout_entries(images, names=(), platforms=False, index=None):
    """Files of an OCI layout, as for tar()."""
    out = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
           ("index.json", index or index_of(images, names, platforms)),
           ("blobs", None), ("blobs/sha256", None)]
    for d, data in {d: b for i in images for d, b in i.blobs.items()}.items():
        out.append(("blobs/sha256/" + d.split(":")[1], data))
    return out


def write_layout(folder, images, names=(), platforms=False, index=None):
    for name, data in layout_entries(images, names, platforms, index):
        path = os.path.join(folder, name)
        if data is None:
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
    return folder


def docker_entries(img, tags, layer_dir=True):
    """Files of a docker archive, as "docker save" writes them."""
    names = [f"{i:064x}/layer.tar" if layer_dir else f"{digest(l)[7:]}.tar"
             for i, l in enumerate(img.plain)]
    config = img.config[7:] + ".json"
    manifest = [{"Config": config, "RepoTags": tags, "Layers": names}]
    out = [(config, img.blobs[img.config])]
    out += list(zip(names, img.plain))
    return out + [("manifest.json", json.dumps(manifest).encode())]


def busybox_image(how="gzip", extra=(), **run):
    """The usual test image; `extra` is one more layer's entries."""
    layers = [busybox_layer()] + ([tar(extra)] if extra else [])
    return Image(layers, how, **run)
