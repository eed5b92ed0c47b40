#!/bin/bash
# Installs the Debian packages that the tests use, if they are missing: a docker command, an oracle, image tools; with
# the argument vm what scripts/vm.sh wants too.
set -eu
wanted=""
need() { command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"; }
if [ "${1:-}" = vm ]; then
    need qemu-system-x86_64 qemu-system-x86
    need cpio cpio
    need mke2fs e2fsprogs
fi
need busybox busybox-static
need docker docker.io
need dockerd docker.io
need nft nftables
need mmdebstrap mmdebstrap
need nsenter util-linux
need sshd openssh-server
need ssh openssh-client
need openssl openssl
need zsh zsh
need fish fish
need podman podman
need runc runc
need rsyslogd rsyslog
[ -z "$wanted" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "these packages are missing and only root can install them:$wanted" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
# The tests start what they need themselves: the packages' services stay off.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
apt-get update -q
# shellcheck disable=SC2086
apt-get install -qy --no-install-recommends $wanted
