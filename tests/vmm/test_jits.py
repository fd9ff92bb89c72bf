# SPDX-License-Identifier: Apache-2.0
"""Debian's nodejs and OpenJDK in a guest: programs that make code while they run."""
import re

import pytest
from lib import jits
from lib.vmm import module

pytestmark = pytest.mark.long

MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk"]

# What the programs say anywhere.
NODE = """sieve 25997
nbody 1.000470340
objects 998712 5003
regex 199993
made 979737
sorts 633378
big 1409 471663
deopt 760003 1000
hash 9560f39e2a25448a91c9fbad195c01fcf5edb6a4f2db4cc00f6fa0e047be7e43
"""
JAVA = """sieve 78498
shapes 9012000
maps 998712
threads 2199964
matrix 6.32784375E9
exceptions 405712
streams -1154111784
text 30660736 209261
"""

SCRIPT = f"""
mount -t devtmpfs dev /dev
for m in {' '.join(MODULES)}; do insmod /lib/$m.ko; done
mkdir /mnt
mount -t ext4 -o ro /dev/vda /mnt || echo "BAD mount"
for d in proc sys dev; do mount -o bind /$d /mnt/$d; done
mount -t tmpfs tmp /mnt/tmp
cp /lib/Program.java /lib/program.js /mnt/tmp
export PATH=/usr/bin:/bin
echo begin:
chroot /mnt /usr/bin/node /tmp/program.js | cat
echo node ends
chroot /mnt /usr/bin/java /tmp/Program.java
echo java ends
/bin/busybox poweroff -f
"""


@pytest.fixture(scope="module")
def disk():
    return jits.disk()


@pytest.mark.parametrize("cpus, args", [(1, ()), (2, ()), (4, ()), (2, ("--shake",)),
                                        (2, ("--shake", "--direct")),
                                        (1, ("--code-cache", "8m"))])
def test_programs(machine, disk, cpus, args):
    """What they come to is known; stores beside code seldom go the long way."""
    m = machine(SCRIPT, "--cpus", cpus, "--memory", "1g", "--disk", f"path={disk},ro", "--stats",
                *args, cmdline="quiet", files=[*map(module, MODULES),
                                        *[(f"lib/{p.name}", p.read_bytes())
                                          for p in jits.PROGRAMS]])
    assert m.process.wait(timeout=3600) == 0, m.output()[-3000:]
    said = m.output().replace("\r", "")
    said = said[said.index("begin:\n") + 7:]
    assert said[:said.index("node ends\n")] == NODE
    assert said[said.index("node ends\n") + 10:said.index("java ends\n")] == JAVA
    if not args:
        # Millions of them lie beside code.
        count = {name: int(n) for n, name in re.findall(r"^ *(\d+)  (\S.*)$", said, re.M)}
        assert count["write, page with code"] < 2_000_000, count
        assert count["blocks made stale by writes"] > 1000, count
