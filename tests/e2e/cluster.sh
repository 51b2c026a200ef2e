#!/bin/bash
# Hosts that fence each other's VMs through corosync: each node has a daemon with
# the backend cpg, ours or the C daemon. Daemons, corosync, nodes and cables fail.
#
#   NODES=3|5|8                 number of nodes
#   KINDS=oco                   daemon of each node: o ours, c the C daemon
#   STAGES=                     stages to run: see below
#   BURST=300, HEALS=1          concurrent requests, partitions that heal
#   RESTARTS=5                  restarts of one daemon in a row
#   FREEZES=20                  seconds for which a libvirtd is frozen, a list; "20+": amid power-offs
#   CUTS=1                      rounds of a cut that moves
#   FENCE_VIRTD=, FENCE_VIRT=   programs under test (default: target/debug)
#   GROUP_MEMBER=               test member (default: target/debug/examples)
#   VM_LINE=                    VM on a serial line (default: target/debug/examples)
#   TOKEN=                      corosync's token timeout in ms (default: 1000)
#   KEEP=1                      keep the work directory, with all logs
#   LIMIT=                      timeout of each wait in seconds (default: 60)
#
# Many checks send requests to our daemon only. If a known flaw of the C daemon may
# have caused a failure, the C daemons are restarted and the check is retried; its
# line then mentions the retry.
#
# The nodes are namespaces (network, processes, mounts, names) on this machine;
# the script changes nothing outside of them. When it ends or is killed, every
# process ends with it. cluster-lab.sh makes the machines, cluster-node.sh is a
# node's first process, cluster-daemons.sh controls daemons; the checks are in
# cluster-checks.sh, cluster-libvirtd.sh, cluster-losses.sh, cluster-splits.sh,
# cluster-moves.sh and cluster-borrowed.sh.
#
# Prints a line for each check. Exit code: 0 all passed, 1 not all, 77 skipped.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
C_DAEMON=/usr/sbin/fence_virtd
NODES=${NODES:-3}
KINDS=${KINDS:-oco}
STAGES=${STAGES:-requests unknown frozen libvirtd killed restarts emptied corosync power partition moves same borrowed member term}
BURST=${BURST:-300}
HEALS=${HEALS:-1}
RESTARTS=${RESTARTS:-5}
FREEZES=${FREEZES:-20}
CUTS=${CUTS:-1}
TOKEN=${TOKEN:-1000}

# Seconds. LIMIT: timeout of each wait, on a busy machine.
LIMIT=${LIMIT:-60}
# Timeout of an agent whose daemon must answer at once.
# shellcheck disable=SC2034 # read by cluster-daemons.sh
ANSWER=6
# Time after which the daemon answers failure to an unanswered request.
# shellcheck disable=SC2034 # read by cluster-checks.sh
DEADLINE=28

source "$here/inside.sh"

skip() {
	echo "*** SKIPPED cluster ($KINDS): $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	[ "$1" = "the test member:" ] || exit 77
}

# ------------------------------------------------- outside of the namespaces

if [ -z "${CLUSTER_INNER:-}" ]; then
	[[ $KINDS =~ ^[oc]{$NODES}$ ]] || { echo "KINDS=$KINDS is not $NODES letters o or c"; exit 1; }
	needs corosync:corosync corosync-cpgtool:corosync libvirtd:libvirt-daemon-system \
		virsh:libvirt-clients ip:iproute2
	[[ $KINDS != *c* ]] || [ -x "$C_DAEMON" ] || skip "$C_DAEMON is missing (package fence-virtd)"
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		mount -t tmpfs private /run 2>/dev/null || skip "it may not make namespaces here"
	FENCE_VIRTD=$(realpath -m "${FENCE_VIRTD:-$root/target/debug/fence_virtd}")
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$root/target/debug/fence_virt}")
	GROUP_MEMBER=$(realpath -m "${GROUP_MEMBER:-$(dirname "$FENCE_VIRTD")/examples/group-member}")
	VM_LINE=$(realpath -m "${VM_LINE:-$(dirname "$FENCE_VIRTD")/examples/vm-line}")
	for program in "$FENCE_VIRTD" "$FENCE_VIRT" "$VM_LINE"; do
		[ -x "$program" ] || skip "$program is not there: build it first"
	done
	W=$(mktemp -d "${TMPDIR:-/tmp}/cluster.XXXXXX") || exit 1
	export FENCE_VIRTD FENCE_VIRT GROUP_MEMBER VM_LINE W NODES KINDS STAGES BURST HEALS RESTARTS FREEZES CUTS TOKEN LIMIT CLUSTER_INNER=1
	run_inside "$here/cluster.sh" --uts
fi

# --------------------------------------- inside: this shell is the switch

source "$here/checking.sh"
# shellcheck disable=SC2034 # read by cluster-daemons.sh
exec {TERMINAL}>&1
source "$here/cluster-lab.sh"
source "$here/cluster-daemons.sh"
source "$here/cluster-checks.sh"
source "$here/cluster-libvirtd.sh"
source "$here/cluster-losses.sh"
source "$here/cluster-splits.sh"
source "$here/cluster-moves.sh"
source "$here/cluster-borrowed.sh"

# touches_c ARGUMENT... - true if one of them is a node with the C daemon.
touches_c() {
	local word
	for word; do
		[[ ! $word =~ ^n[0-9]+$ ]] || is_ours "$word" || return 0
	done
	return 1
}

# check TEXT FUNCTION [ARGUMENT...] - shows the function's output if it fails. All
# VMs except those defined as off must run at its start.
check() {
	local text=$1 begin verdict ms try=1 again=""
	shift
	until
		begin=${EPOCHREALTIME/./} verdict=ok
		{ all_run && "$@"; } >"$W/check.out" 2>&1 || verdict=FAIL
		ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
		[ "$verdict" = ok ] || [ "$try" -ge "$tries" ]
	do
		mv "$W/check.out" "$W/check.out.$passed.$try"
		try=$((try + 1)) again=" (the C daemons were restarted: try $try)"
		restart_c
	done
	printf '%-4s %3d.%03d s  %s\n' "$verdict" $((ms / 1000)) $((ms % 1000)) "$text$again"
	if [ "$verdict" = ok ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "--- what the check did"
		tail -n 40 "$W/check.out"
		show_logs
	fi
}
tries=1

# check_c TEXT FUNCTION [ARGUMENT...] - as check, retried if a C daemon is involved.
check_c() {
	local tries=1
	! touches_c "${@:3}" || tries=4
	check "$@"
}

private_host
make_nodes
each "${ALL[@]}" -- power_on || need "the nodes have power" false
need "all nodes are one cluster" all_see "$NODES"
for node in "${ALL[@]}"; do
	start_daemon "$node" || need "the daemon of $(label "$node") answers" false
done
need "all daemons are in the group" sees_daemons n1 "$NODES"

for stage in $STAGES; do "stage_$stage"; done
finish
