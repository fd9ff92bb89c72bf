"""A daemon of its own for a benchmark, on folders of its own."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from benchlib import BIN, in_memory


class Holm:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="holm-bench-", dir=in_memory()))
        self.socket = self.run / "holm.sock"
        self.log = open(self.folder / "holmd.log", "w")
        self.env = dict(os.environ, HOLM_HOST=str(self.socket))
        self.daemon = subprocess.Popen(
            [BIN / "holmd", "--state", self.folder / "state", "--run", self.run,
             "--socket", self.socket], stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not self.socket.exists():
            if time.monotonic() > end or self.daemon.poll() is not None:
                raise RuntimeError(f"holmd did not start; see {self.log.name}")
            time.sleep(0.01)

    def args(self, *args):
        return [str(BIN / "holm"), *map(str, args)]

    def call(self, *args):
        done = subprocess.run(self.args(*args), env=self.env, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"holm {args}: {done.stdout[-400:]}{done.stderr[-800:]}")
        return done.stdout.strip()

    def close(self):
        names = self.call("ps", "-aq").split()
        for start in range(0, len(names), 50):
            self.call("rm", "-f", *names[start:start + 50])
        self.daemon.terminate()
        self.daemon.wait(30)
        self.log.close()
        shutil.rmtree(self.run, ignore_errors=True)
