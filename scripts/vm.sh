#!/bin/bash
# Boots Debian's cloud kernel and systemd in an emulated machine that has cgroup v2 and nothing else, runs tests there, and
# ends with their status. The machine is switched off once without warning on the way, for the tests that tests/vm/boot.py
# makes ready:
#
#     scripts/vm.sh                    the tests that tests/vm/guest.sh lists
#     scripts/vm.sh PYTEST-ARGUMENTS   others
#
# Kernel and root file system are kept in /var/tmp/kist-vm and made anew when what they are made of has changed.
# KIST_VM_SECONDS bounds a run, KIST_VM_CPUS and KIST_VM_MEMORY are the machine's, KIST_VM_DIR is where else it is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "only root can make the machine's root file system" >&2; exit 1; }

kept=${KIST_VM_DIR:-/var/tmp/kist-vm}
python=.venv/bin/python
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
docker=$(readlink -f "$(command -v "${DOCKER_CLI:-docker}")")
packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *//p')
version=${kernel#linux-image-}
# What the tests call: nft, ip, ps, openssl, mkfs.ext4, and programs that kist works with; the rest is in every Debian.
inside=systemd-sysv,python3,kmod,iproute2,nftables,procps,openssl,e2fsprogs,runc,criu
scratch=$(mktemp -d /var/tmp/kist-vm-XXXXXX)
trap 'rm -rf "$scratch"' EXIT

inputs() {
    cat scripts/vm.sh tests/vm/kist-tests.service
    echo "$suite $inside"
    apt-cache policy "$kernel" | sed -n 2,3p
    stat -c '%n %s %Y' "$docker" "$packages"/*.dist-info
}

make_root() { # the guest's Debian, with the kernel's modules, the tests' Python packages and a docker command
    local root=$1/root
    mmdebstrap --quiet --variant=minbase --mode=root --include="$inside" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$root"
    (cd "$1" && apt-get download -q "$kernel" && dpkg-deb -x "$kernel"_*.deb kernel)
    cp -a "$1/kernel/lib/modules" "$root/usr/lib/"
    chroot "$root" depmod "$version"
    install "$docker" "$root/usr/local/bin/docker"
    local into=$root/usr/local/lib/python3.11/dist-packages
    tar -C "$packages" --exclude=pip --exclude=setuptools --exclude='mypy*' --exclude='ruff*' --exclude='*-stubs' \
        --exclude='*.pth' --exclude='kist-*' --exclude='[0-9a-f]*__mypyc*' -c . | tar -C "$into" -x
    echo /kist/src >"$into/kist.pth"
    local name
    for name in kist:kist.cli.main kistd:kist.daemon.main kist-runtime:kist.lowlevel.main; do # as pip makes them
        printf '#!/usr/bin/python3\nfrom %s import main\nmain()\n' "${name#*:}" >"$root/usr/local/bin/${name%:*}"
        chmod 755 "$root/usr/local/bin/${name%:*}"
    done
    cp tests/vm/kist-tests.service "$root/etc/systemd/system/"
    ln -s ../kist-tests.service "$root/etc/systemd/system/multi-user.target.wants/"
    ln -sf /dev/null "$root/etc/systemd/system/tmp.mount"
    $python -m compileall -q "$into" || true # a package may carry a file for another Python
    mkdir "$root/kist"
}

make_initramfs() { # loads what a virtio disk needs, mounts the disks and goes over to them
    local ram=$1/initramfs module
    mkdir -p "$ram"/{bin,dev,modules,root}
    install "$(command -v busybox)" "$ram/bin/busybox"
    for module in $(chroot "$1/root" modprobe -S "$version" --show-depends -a virtio_pci virtio_blk |
        sed -n 's/^insmod //p' | awk '!seen[$0]++'); do
        install -m 644 "$1/root/$module" "$ram/modules/"
        echo "insmod /modules/$(basename "$module")" >>"$1/load"
    done
    { cat <<-'END'
		#!/bin/busybox sh
		busybox mount -t devtmpfs dev /dev
	END
    sed 's/^/busybox /' "$1/load"
    cat <<-'END'
		until [ -b /dev/vda ] && [ -b /dev/vdb ]; do busybox usleep 50000; done
		busybox mount -t ext4 -o noatime /dev/vda /root
		busybox mount -t ext4 -o ro /dev/vdb /root/kist
		busybox mount -o move /dev /root/dev
		exec busybox switch_root /root /sbin/init
	END
    } >"$ram/init"
    chmod 755 "$ram/init"
    (cd "$ram" && find . | cpio --quiet -o -H newc | gzip -1) >"$1/initramfs.gz"
}

disk() { # DIRECTORY FILE MEGABYTES
    truncate -s "$3M" "$2"
    mke2fs -q -t ext4 -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$1" "$2"
}

build() {
    local key
    key=$(inputs | sha256sum | cut -c1-16)
    machine=$kept/$key
    [ -d "$machine" ] && return
    echo "making the machine for $kernel in $machine"
    make_root "$scratch"
    make_initramfs "$scratch"
    mkdir -p "$kept" "$scratch/machine"
    disk "$scratch/root" "$scratch/machine/root.img" 1024
    cp "$scratch/initramfs.gz" "$scratch/kernel/boot/vmlinuz-$version" "$scratch/machine/"
    rm -rf "${kept:?}"/*
    mv "$scratch/machine" "$machine"
}

source_disk() { # the project as it is now, compiled, with the image that tests start containers from
    local tree=$scratch/source
    mkdir "$tree"
    cp -a src tests packaging pyproject.toml "$tree/"
    cp --sparse=always "$machine/root.img" "$scratch/root.img"
    $python -m compileall -q "$tree/src" "$tree/tests"
    cp "$($python -c 'from tests.conftest import busybox; print(busybox())')" "$tree/busybox.tar"
    printf '%s\n' "$@" >"$tree/arguments"
    disk "$tree" "$scratch/source.img" 64
}

run() {
    TMPDIR=$scratch timeout -k 5 "${KIST_VM_SECONDS:-1800}" qemu-system-x86_64 \
        -machine q35,accel=tcg -cpu max -smp "${KIST_VM_CPUS:-2}" -m "${KIST_VM_MEMORY:-2G}" \
        -nodefaults -no-reboot -display none -serial stdio -monitor none -net none \
        -kernel "$machine/vmlinuz-$version" -initrd "$machine/initramfs.gz" \
        -append 'console=ttyS0 quiet panic=-1 systemd.getty_auto=no systemd.show_status=no' \
        -drive "file=$scratch/root.img,format=raw,if=virtio,cache=unsafe" \
        -drive "file=$scratch/source.img,format=raw,if=virtio,snapshot=on" </dev/null |
        sed -u 's,\r,,g' | tee -a "$scratch/console"
}

build
source_disk "$@"
run # to the power failure, if there are tests for it
grep -q '^the power fails$' "$scratch/console" && run
grep -q '^tests ended' "$scratch/console" || echo "the machine was stopped after ${KIST_VM_SECONDS:-1800} seconds, or did not start" >&2
status=$(sed -n 's/^tests ended with status \([0-9]*\)$/\1/p' "$scratch/console" | tail -n 1)
exit "${status:-125}"
