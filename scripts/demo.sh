#!/bin/bash
# Two minutes with kist: a base image without any registry, a private daemon, a container that tells what it sees.
set -eu
bin=$(cd "$1" && pwd)
base=$(mktemp -d /tmp/kist-demo.XXXX)
export KIST_HOST="unix://$base/kist.sock"
"$bin/kistd" --data-root "$base/data" --exec-root "$base/exec" -H "$KIST_HOST" --pidfile "$base/pid" \
	>"$base/log" 2>&1 &
daemon=$!
finish() {
	kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	"$bin/python" -I -c 'import sys; from kist.daemon.purge import purge; purge(sys.argv[1], sys.argv[2])' \
		"$base/data" "$base/exec" || true
	rm -rf "$base"
}
trap finish EXIT
for _ in $(seq 100); do [ -S "$base/kist.sock" ] && break; sleep 0.1; done
[ -S "$base/kist.sock" ] || { cat "$base/log" >&2; exit 1; }

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
say kist image bootstrap busybox
"$bin/kist" image bootstrap busybox
say kist run --rm busybox sh -c '…'
"$bin/kist" run --rm busybox sh -c '
echo "my pid:      $$"
echo "my hostname: $(hostname)"
echo "my address:  $(ip -4 -o addr show eth0 | tr -s " " | cut -d" " -f4)"
echo "my mounts:"
while read -r what where kind rest; do printf "  %-24s %s\n" "$where" "$kind"; done < /proc/mounts
'
say kist ps -a
"$bin/kist" ps -a
