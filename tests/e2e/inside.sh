# Functions of scripts whose host is a set of namespaces on this machine.
# shellcheck shell=bash

# run_inside SCRIPT [OPTION..] - runs it in namespaces (options of unshare) with the
# work directory $W, and exits with its exit code. When this ends or is killed, every
# process inside ends, and the directory is removed unless KEEP is set.
run_inside() {
	local script=$1 code
	shift
	[ -z "${KEEP:-}" ] || echo "everything is kept in $W"
	inner=
	leave() {
		# This ends all processes inside.
		[ -z "$inner" ] || { kill -KILL "$inner" && wait "$inner"; } 2>/dev/null
		[ -z "${KEEP:-}" ] || return
		# A killed process may still be creating a file.
		rm -rf --one-file-system "$W" || { sleep 1; rm -rf --one-file-system "$W"; }
	}
	trap leave EXIT
	trap 'exit 143' TERM INT HUP
	# If this shell is killed, pdeathsig ends unshare, which ends its child.
	setpriv --pdeathsig KILL \
		unshare --net --mount --pid --ipc "$@" --fork --kill-child --mount-proc bash "$script" &
	inner=$!
	wait "$inner"
	code=$?
	inner=
	exit "$code"
}

# needs PROGRAM:PACKAGE... - skips the script unless root runs it, and all programs are there.
needs() {
	local need
	[ "$(id -u)" = 0 ] || skip "it must run as root"
	for need; do
		command -v "${need%:*}" >/dev/null || skip "${need%:*} is missing (package ${need#*:})"
	done
}

# needs_overlays - skips the script where it may not make the namespaces and overlays of machines: overlays of
# lower directories only, as pacemaker's guests use them.
needs_overlays() {
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		mount -t overlay -o lowerdir=/usr/sbin:/etc overlay /etc 2>/dev/null ||
		skip "it may not make namespaces and overlay mounts here"
}

# find_builds - sets and exports FENCE_VIRTD and FENCE_VIRT, which have to be built; $root is the checkout.
find_builds() {
	local program
	FENCE_VIRTD=$(realpath -m "${FENCE_VIRTD:-$root/target/debug/fence_virtd}")
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$root/target/debug/fence_virt}")
	for program in "$FENCE_VIRTD" "$FENCE_VIRT"; do
		[ -x "$program" ] || skip "$program is not there: build it first"
	done
	export FENCE_VIRTD FENCE_VIRT
}

# until_true SECONDS COMMAND... - runs it until it succeeds.
until_true() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@"; do
		[ "${EPOCHREALTIME/./}" -lt "$end" ] || return 1
		sleep 0.05
	done
}
