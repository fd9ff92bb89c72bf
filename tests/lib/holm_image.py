# SPDX-License-Identifier: Apache-2.0
"""Running holm-image on a store of its own."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("HOLM_BUILD", TOP / "build"))
PROGRAM = str(BUILD / "bin/holm-image")
# Built with -Dfaults=true by "make asan" and "make test".
FAULTY = TOP / "build-asan/bin/holm-image"

# err_codes[] of base/err.c
INVALID, NOT_FOUND, CONFLICT, DENIED, UNSUPPORTED, LIMIT, UNAVAILABLE, HOST = 2, 3, 4, 5, 6, 7, 8, 1


class Result:
    def __init__(self, done):
        self.status = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()


class Store:
    """A store in a folder that close() removes; its HOME has no credentials."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-store-"))
        self.path = self.folder / "store"
        self.program = PROGRAM
        self.env = {**os.environ, "HOME": str(self.folder)}
        self.env.pop("DOCKER_CONFIG", None)
        self.env.pop("REGISTRY_AUTH_FILE", None)

    def close(self):
        shutil.rmtree(self.folder)

    def args(self, *args):
        return [self.program, "--store", str(self.path), *map(str, args)]

    def start(self, *args, **kw):
        return subprocess.Popen(self.args(*args), env=self.env, stdin=subprocess.DEVNULL, **kw)

    def run(self, *args, status=0, input=b"", timeout=120):
        done = subprocess.run(self.args(*args), env=self.env, input=input, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        result = Result(done)
        assert result.status == status, f"{args}: status {result.status}: {result.err}"
        assert "AddressSanitizer" not in result.err and "runtime error" not in result.err
        return result

    def fails(self, *args, status, says=(), **kw):
        """It fails with this status and says each of the words."""
        result = self.run(*args, status=status, **kw)
        last = result.err.strip().splitlines()[-1]
        for words in [says] if isinstance(says, str) else says:
            assert words in last, last
        return last

    def progress(self, *args, status=0):
        """The JSON lines that a command writes."""
        r, w = os.pipe()
        p = subprocess.Popen([PROGRAM, "--store", str(self.path), "--progress-fd", str(w),
                              *map(str, args)], env=self.env, pass_fds=[w],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        os.close(w)
        with open(r, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        assert p.wait(60) == status
        return lines

    def ls(self):
        return {i.get("name"): i for i in json.loads(self.run("ls", "--json").out)}

    def inspect(self, name):
        return json.loads(self.run("inspect", name).out)[0]

    def whole(self):
        """Nothing in the store is damaged."""
        self.run("verify")
