#!/bin/bash
# Builds the reaper of --init for every architecture a compiler is here for (gcc; gcc-aarch64-linux-gnu for arm64).
set -eu
cd "$(dirname "$0")/../src/kist/runtime/init"
for machine in x86_64 aarch64; do
	compiler="$machine-linux-gnu-gcc"
	command -v "$compiler" >/dev/null || { [ "$(uname -m)" = "$machine" ] && compiler=gcc || continue; }
	"$compiler" -Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -no-pie \
		-fno-builtin -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,norelro -s -o "$machine.bin" init.c
	chmod 755 "$machine.bin"
	ls -l "$machine.bin"
done
