"""Snapshot and restore of a guest with 512 MiB against QEMU's migration to and from a file.

Both run the same kernel and initramfs by software (guests.py has the machines). The guest has
booted and holds some data. Saving: from the order to stop until all is in the files; QEMU
writes straight to the file that it is given, with its limit of bandwidth off. Restoring: from the
start of the program until it says that the guest runs. Neither waits for the disk.
"""
import json
import os
import pathlib
import socket
import statistics
import subprocess
import time

import guests
from benchlib import BIN, Row, need, scratch
from lib.vmm import Control, newc, snapshot_files, stock_kernel

ROUNDS = 5
PATIENCE = 300
DATA_MIB = 96
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	size_t n = DATA_MIB << 20;
	char *data = malloc(n);

	memset(data, 0x5a, n);
	for (size_t i = 0; i < n; i += 4096) {
		memcpy(data + i, &i, sizeof(i));
	}
	for (unsigned i = 0; data[i % n] != 0x77; i++) {
		printf("count %u\\n", i);
		fflush(stdout);
		usleep(200000);
	}
	return 0;
}
"""


def make_initramfs(folder, path):
    (folder / "init.c").write_text(PROGRAM)
    subprocess.run(["cc", "-O2", f"-DDATA_MIB={DATA_MIB}ul", "-static", "-o", folder / "init",
                    folder / "init.c"], check=True, stdin=subprocess.DEVNULL)
    path.write_bytes(newc([("dev", 0o40755, b""), ("dev/console", 0o20600, (5, 1)),
                           ("init", 0o100755, (folder / "init").read_bytes())]))


def wait_for(what):
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise RuntimeError("it does not come")
        time.sleep(0.001)


class Machine:
    """A run of either program; its serial port goes to a file."""

    def __init__(self, folder, args, pass_fds=()):
        self.log = folder / "log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, pass_fds=pass_fds)

    def counts(self):
        return self.log.read_text(errors="replace").count("count ")

    def works(self, more=2):
        want = self.counts() + more

        def there():
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text(errors="replace")[-2000:])
            return self.counts() >= want

        wait_for(there)

    def end(self):
        self.process.kill()
        self.process.wait(PATIENCE)


class Qmp:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)

        def there():
            try:
                self.sock.connect(str(path))
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        wait_for(there)
        self.file = self.sock.makefile("r")
        self.events = []
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, fd=None, **arguments):
        data = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self.sock, [data], [] if fd is None else [fd])
        while True:
            got = json.loads(self.file.readline())
            if "event" in got:
                self.events.append(got)
            elif "error" in got:
                raise RuntimeError(f"{command}: {got['error']}")
            else:
                return got["return"]

    def close(self):
        self.file.close()
        self.sock.close()


def qemu(command, folder, extra=(), fds=()):
    args = [a if a != "stdio" else f"file:{folder}/serial" for a in command]
    return Machine(folder, [*args, "-qmp", f"unix:{folder}/qmp,server=on,wait=off", *extra], fds)


def qemu_save(qmp, file):
    with open(file, "wb") as out:
        qmp.ask("getfd", fd=out.fileno(), fdname="file")
        begin = time.perf_counter()
        qmp.ask("stop")
        qmp.ask("migrate", uri="fd:file")
        wait_for(lambda: qmp.ask("query-migrate").get("status") in ("completed", "failed"))
        took = time.perf_counter() - begin
        if qmp.ask("query-migrate")["status"] != "completed":
            raise RuntimeError("QEMU does not save")
    return took


def qemu_restore(command, folder, file):
    (folder / "qmp").unlink(missing_ok=True)
    with open(file, "rb") as source:
        begin = time.perf_counter()
        m = qemu(command, folder, ["-incoming", f"fd:{source.fileno()}"], (source.fileno(),))
        try:
            qmp = Qmp(folder / "qmp")
            # It comes back as it was saved.
            wait_for(lambda: qmp.ask("query-status")["status"] == "paused")
            qmp.ask("cont")
            took = time.perf_counter() - begin
            qmp.close()
        except BaseException:
            m.end()
            raise
    return took, m


def ours(folder, *args):
    return Machine(folder, [str(BIN / "holm-vmm"), "--engine", "soft", "--memory", "512m",
                            "--control", str(folder / "ctl"), "--no-reboot", *map(str, args)])


def ours_save(control, folder):
    folder.mkdir(exist_ok=True)
    with snapshot_files(folder) as files:
        begin = time.perf_counter()
        control.ask("pause")
        errnum, fields, _ = control.ask("snapshot", [f.fileno() for f in files])
        took = time.perf_counter() - begin
    if errnum:
        raise RuntimeError(f"holm-vmm does not save: {fields}")
    return took


def ours_restore(folder, saved):
    (folder / "ctl").unlink(missing_ok=True)
    begin = time.perf_counter()
    m = ours(folder, "--restore", saved)
    try:
        control = Control(folder / "ctl")
        if control.state() != "running":
            raise RuntimeError("it does not run")
        took = time.perf_counter() - begin
        control.close()
    except BaseException:
        m.end()
        raise
    return took, m


def rounds(tmp, command):
    """Seconds of each: [ours saves, QEMU saves, ours restores, QEMU restores]."""
    times = [[], [], [], []]
    here, there = tmp / "holm", tmp / "qemu"
    control, qmp = Control(here / "ctl"), Qmp(there / "qmp")
    qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    for i in range(ROUNDS):
        times[0].append(ours_save(control, tmp / "saved"))
        times[1].append(qemu_save(qmp, tmp / "migrated"))
        control.ask("resume")
        qmp.ask("cont")
    control.close()
    qmp.close()
    for i in range(ROUNDS):
        for at, restore in ((2, lambda f: ours_restore(f, tmp / "saved")),
                            (3, lambda f: qemu_restore(command, f, tmp / "migrated"))):
            folder = tmp / f"again{at}"
            folder.mkdir(exist_ok=True)
            took, m = restore(folder)
            times[at].append(took)
            try:
                if i == 0 and at == 2:
                    m.works()
            finally:
                m.end()
    return times


def text(values):
    ms = [v * 1e3 for v in values]
    return f"{statistics.median(ms):.0f} ms ({min(ms):.0f}-{max(ms):.0f})"


def measure():
    need("qemu-system-x86_64", "cc")
    with scratch("snapshot") as tmp:
        tmp = pathlib.Path(tmp)
        os.chmod(tmp, 0o755)
        initrd, cache = tmp / "initrd", tmp / "cache"
        make_initramfs(tmp, initrd)
        cache.mkdir()
        os.chmod(cache, 0o777)
        machines = []
        try:
            (tmp / "holm").mkdir()
            (tmp / "qemu").mkdir()
            machines.append(ours(tmp / "holm", "--kernel",
                                 next(stock_kernel().glob("boot/vmlinuz-*")), "--initrd", initrd,
                                 "--cmdline", guests.CMDLINE, "--cache", cache))
            machines[0].works()
            command = guests.qemu(next(cache.iterdir()), initrd)
            machines.append(qemu(command, tmp / "qemu"))
            machines[1].log = tmp / "qemu" / "serial"
            wait_for(machines[1].log.exists)
            machines[1].works()
            times = rounds(tmp, command)
            used = sum(f.stat().st_blocks for f in (tmp / "saved").glob("memory-*")) // 2048
        finally:
            for m in machines:
                m.end()
    save, restore = (statistics.median(times[i]) / statistics.median(times[i + 1]) for i in (0, 2))
    return [Row("snapshot of a 512 MiB guest: time", "QEMU TCG", 0.35)
            .set(save, f"{text(times[0])} to {text(times[1])}; {used} MiB in the files"),
            Row("restore of a 512 MiB guest: time", "QEMU TCG", 0.1)
            .set(restore, f"{text(times[2])} to {text(times[3])}")]
