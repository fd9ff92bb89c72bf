#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the suites named in /holm/suites; what they leave in /run/result goes to the result disk.
cd /holm || exit 1
mkdir -p /run/result /tmp/w
export HOLM_VM=1 HOLM_BUILD=/holm/build PYTHONDONTWRITEBYTECODE=1 HOME=/root TMPDIR=/tmp/w
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
modprobe -aq overlay fuse loop tun veth
cut -d ' ' -f 1 /proc/uptime > /run/result/boot-seconds
stat -f -c %T /sys/fs/cgroup > /run/result/cgroup
cat /proc/1/comm > /run/result/init

[ -e /etc/hosts ] || echo 127.0.0.1 localhost > /etc/hosts

# Two at a time, a file at a time unless said otherwise.
tests()	# NAME ARGUMENT...
{
	name=$1; shift
	timeout -k 10 3600 python3 -m pytest -v --durations=20 -p no:cacheprovider -n 2 --dist loadfile \
		--junitxml="/run/result/$name.xml" "$@" 2>&1 | tee "/run/result/$name.txt"
}

# A suite's name, or by hand "pytest ARGUMENTS" and "sh COMMAND".
while read -r suite; do
	case $suite in
	cgroup)  tests cgroup --dist load tests/oci/test_cgroup.py ;;
	mounts)  tests mounts --dist load tests/oci/test_mounts.py ;;
	attacks) tests attacks --dist load tests/attacks ;;
	attacks-systemd)   # those in which cgroups matter; a user's systemd is not there
		HOLM_TEST_RUNTIME=/holm/tests/vm/guest/holm-oci-systemd tests attacks-systemd \
			tests/attacks/test_process.py tests/attacks/test_kernel.py -k 'not rootless' ;;
	user)    tests user -n 0 tests/vm/guest/test_user.py ;;
	labels)  tests labels -n 0 tests/vm/guest/test_labels.py ;;
	selinux) tests selinux -n 0 tests/vm/guest/test_selinux.py ;;   # needs a machine of its own
	package) tests package -n 0 tests/vm/guest/test_package.py ;;
	run)     tests run -n 0 tests/cli/test_run.py ;;
	shell)   setsid -c /bin/bash -l ;;
	pytest\ *) eval "tests other ${suite#pytest }" ;;
	sh\ *)   eval "${suite#sh }" ;;
	*)       echo "no suite $suite" ;;
	esac
done < /holm/suites
find /sys/fs/cgroup -name 'holm*' ! -name holm-guest.service -type d > /run/result/leftovers
systemctl list-units --all --plain --no-legend 'holm-*.scope' '*libpod*' >> /run/result/leftovers
tar -C /run/result -cf /dev/nvme2n1 .
sync
