#!/bin/sh
# Process 1 of the machine that scripts/vm.sh starts: mounts what an init mounts, runs the tests, says their status.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup # as systemd does
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
for place in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $place; done
chmod 1777 /tmp /dev/shm
ln -sfn /proc/self/fd /dev/fd
hostname vm
ip link set lo up
modprobe -a overlay loop bridge veth tun nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_ipv4
cp /kist/busybox.tar /var/tmp/kist-test-busybox.tar
cd /kist
while IFS= read -r argument; do [ -z "$argument" ] || set -- "$@" "$argument"; done <arguments
# Left out: tests/clients (docker-py and the terminals are the same on every kernel), tests/oracle (no dockerd here),
# tests/unit (nothing of the kernel). Two tests of test_daemon.py
# skip themselves without dockerd and systemd-analyze, those of test_answers.py without the contract file.
[ $# -gt 0 ] || set -- tests/vm tests/conformance tests/integration
python3 -m pytest -p no:cacheprovider -p no:xdist -v --timeout 600 --durations 10 "$@"
echo "tests ended with status $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
