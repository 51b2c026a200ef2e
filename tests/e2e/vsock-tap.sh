#!/bin/bash
# The part of tests/wire_2_tap.rs that needs vsock: version 2 of the wire over the kernel's vsock loopback, in a QEMU
# guest. Recorded messages are tried at our daemon and at our agent.
#
# Prints one line for each check; exit code 77 if something is missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
# shellcheck source=tests/e2e/guest.sh
. "$here/guest.sh"
LIMIT=400 # seconds for the guest; it needs about 40

built=$(cd "$root" && "${CARGO:-cargo}" test --locked --no-run --test wire_2_tap 2>&1) || { echo "$built"; exit 1; }
TAP=$(sed -n 's/.*(\(.*wire_2_tap-[0-9a-f]*\)).*/\1/p' <<<"$built")
TAP=$(cd "$root" && realpath "$TAP") || exit 1
# The test runs these, at the paths where they were built.
programs=$(dirname "$(dirname "$TAP")")
ip=$(command -v ip) || skip "no ip (package iproute2)"
ip=$(realpath "$ip")
guest_fetch

work=$(mktemp -d -t fence-vsock-tap.XXXXXX) || exit 1
GUEST_PID=
clean() {
	[ -z "$GUEST_PID" ] || kill "$GUEST_PID"
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 143' INT TERM HUP

guest=$work/guest
steps=$guest/etc/steps
guest_new "$guest"
guest_add "$guest" "$TAP" "$programs/fence_virtd" "$programs/fence_virt" "$ip" || exit 1
# In place of those of busybox, which know no network namespaces, and no -m with standard input.
ln -sf "$ip" "$guest/bin/ip"
printf '#!/bin/sh\ncat >"$4"; chmod 755 "$4"\n' >"$guest/bin/install.sh"
chmod +x "$guest/bin/install.sh"
ln -sf install.sh "$guest/bin/install"
guest_modules "$guest" vsock_loopback veth

echo load_modules >"$steps"
check "recorded messages are nothing over vsock" 0 'test result: ok\. 1 passed' \
	"cd /tmp && RUST_BACKTRACE=0 $TAP --ignored --test-threads=1 vsock 2>&1"
guest_run "$guest" $LIMIT "$work/console" || echo "the guest ended with $? (124: after $LIMIT s)"
guest_judge "$work/console" 1
