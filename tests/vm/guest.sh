#!/bin/sh
# What systemd runs in the machine that scripts/vm.sh starts: the tests, and their status on the console.
mount -t tmpfs -o mode=1777 tmpfs /tmp
hostname vm
modprobe -a overlay loop bridge veth tun nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_ipv4
export KIST_TEST_SLOWNESS=5
cp /kist/busybox.tar /var/tmp/kist-test-busybox.tar
cd /kist
while IFS= read -r argument; do [ -z "$argument" ] || set -- "$@" "$argument"; done <arguments
# Left out: tests/clients (docker-py and the terminals are the same on every kernel), tests/oracle (no dockerd here),
# tests/unit (nothing of the kernel). Two tests of test_daemon.py
# skip themselves without dockerd and systemd-analyze, those of test_answers.py without the contract file.
[ $# -gt 0 ] || set -- tests/vm tests/conformance tests/integration
if [ ! -e /var/lib/kist-tests-booted ]; then
    touch /var/lib/kist-tests-booted
    if python3 tests/vm/boot.py "$@"; then
        sync
        echo "the power fails"
        sleep 1
        echo b >/proc/sysrq-trigger
        sleep 60
    fi
fi
python3 -m pytest -p no:cacheprovider -p no:xdist -v --timeout 600 --durations 10 "$@"
echo "tests ended with status $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
