#!/bin/bash
# Hosts that real pacemaker fences: three hosts with corosync, pacemaker and our
# daemon with the backend cpg. A lost host counts as off when its fencing has
# succeeded, and for no other reason.
#
#   FENCE_VIRTD=, FENCE_VIRT=   programs under test (default: target/debug)
#   TOKEN=                      corosync's token timeout in ms (default: 1000)
#   BRIEF=1                     the first checks only: fences that fail and succeed, a power cut
#   WATCHDOG=1                  only this: hosts that end themselves by a watchdog (SBD without disk)
#   KEEP=1                      keep the work directory, with all logs
#   LIMIT=                      timeout of each wait in seconds (default: 60)
#
# The hosts are namespaces (network, processes, mounts, names) on this machine; the
# script changes nothing outside of them. When it ends or is killed, every process
# ends with it. cluster-lab.sh and host-fencing-lab.sh make the machines,
# host-fencing-agent.sh is their fence agent.
#
# Prints a line for each check. Exit code: 0 all passed, 1 not all, 77 skipped.
# shellcheck disable=SC2034,SC2154 # variables of the files that it sources
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
NODES=3
KINDS=ooo
BRIEF=${BRIEF:-}
WATCHDOG=${WATCHDOG:-}
CHECKS=22
[ -z "$BRIEF" ] || CHECKS=8
[ -z "$WATCHDOG" ] || CHECKS=3
TOKEN=${TOKEN:-1000}
# Seconds. LIMIT: timeout of each wait, on a busy machine; ANSWER: of an agent.
LIMIT=${LIMIT:-60}
ANSWER=6
# Seconds in which a watchdog ends a host, and after which pacemaker takes it for off.
WATCHDOG_TIMEOUT=2 STONITH_WATCHDOG_TIMEOUT=8
C_DAEMON=none

source "$here/inside.sh"

skip() {
	echo "*** SKIPPED host-fencing: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	exit 77
}

# ------------------------------------------------- outside of the namespaces

if [ -z "${FENCING_INNER:-}" ]; then
	needs corosync:corosync pacemakerd:pacemaker stonith_admin:pacemaker-cli-utils \
		libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2
	needs_overlays
	find_builds
	W=$(mktemp -d "${TMPDIR:-/tmp}/host-fencing.XXXXXX") || exit 1
	chmod 755 "$W" # pacemaker's daemons are not root
	export W TOKEN LIMIT BRIEF WATCHDOG FENCING_INNER=1
	run_inside "$here/host-fencing.sh" --uts
fi

# --------------------------------------- inside: this shell is the switch

source "$here/checking.sh"
exec {TERMINAL}>&1
source "$here/cluster-lab.sh"
source "$here/cluster-daemons.sh"
source "$here/host-fencing-lab.sh"

# log_of NODE - its daemon's log since it was last marked.
mark_logs() {
	local node
	for node in "${ALL[@]}"; do lines "$W/$node/daemon.log" >"$W/$node/mark"; done
}
log_of() { tail -n "+$(($(cat "$W/$1/mark") + 1))" "$W/$1/daemon.log"; }
has_logged() { log_of "$1" | grep -qF -- "$2"; }

# fails VM-NODE [ASKER...] - off and status of its VM do not succeed within $ANSWER seconds: they wait for the
# fence, or fail.
fails() {
	local asker operation request vm=vm${1#n}a requests=() code=0
	shift
	for asker in "${@:-n1}"; do
		for operation in off status; do
			gets 1 "$asker" "$operation" "$vm" >"$W/fails.$asker.$operation" 2>&1 &
			requests+=($!)
		done
	done
	for request in "${requests[@]}"; do wait "$request" || code=1; done
	cat "$W/fails."*
	rm "$W/fails."*
	return $code
}
# fails_at_once VM-NODE [ASKER...]
fails_at_once() {
	local begin=$SECONDS
	fails "$@" && [ $((SECONDS - begin)) -lt "$ANSWER" ] || { echo "not at once"; return 1; }
}
# fails_late ASKER VM-NODE - 28 s after it was asked.
fails_late() {
	ANSWER=40 gets 1 "$1" off "vm${2#n}a" || return
	[ "$took" -ge 27000 ] && [ "$took" -lt 31000 ] && try log_of "$1" && says "no fence is known"
}
# is_off VM-NODE ASKER...
is_off() {
	local asker vm=vm${1#n}a
	shift
	for asker; do gets 0 "$asker" off "$vm" && gets 2 "$asker" status "$vm" || return; done
}
# counts_as_off NODE ASKER - soon.
counts_as_off() { ask "$2" status "vm${1#n}a" >/dev/null 2>&1; [ $? = 2 ]; }

# Fences of all other hosts count.
is_ready() {
	local asker node
	for asker in "${ALL[@]}"; do
		for node in "${ALL[@]}"; do
			[ "$node" = "$asker" ] || has_logged "$asker" "fences of node $(id "$node") count from now on" || return
		done
	done
}
is_lost() { sees_nodes "$1" 2; }

has_no_power() { ! has_power "$1"; }
# n3 is a member again, its VMs run, and fences of it count. If it has power, pacemaker
# fences it first.
back() {
	set_switch ok
	within has_no_power n3 || return
	mark_logs
	host_on n3 && within all_see 3 && start_daemon n3 && within is_managed n1 3 && within gets 0 n1 status vm3a &&
		{ runs n3 vm3a || libvirt n3 start vm3a; } &&
		within has_logged n1 "fences of node 3 count from now on" &&
		within has_logged n2 "fences of node 3 count from now on" &&
		within has_synced n1 && within has_synced n2
}

# Nobody has to fence it: pacemaker knows that it is off.
back_from_watchdog() {
	mark_logs
	host_on n3 && within all_see 3 && start_daemon n3 && within is_managed n1 3 && within gets 0 n1 status vm3a &&
		{ runs n3 vm3a || libvirt n3 start vm3a; }
}

# ------------------------------------------------------------- what is checked

found() {
	local node
	for node in "${ALL[@]}"; do
		grep "fence_virtd: info: cpg: pacemaker's fencer answers (libstonithd.so" "$W/$node/daemon.log" || return
		try in_node "$node" "$FENCE_VIRTD" --status -f "$W/$node/fence_virt.conf" && says "host fencing: pacemaker answers" || return
	done
	try in_node n1 "$FENCE_VIRTD" --doctor -f "$W/n1/fence_virt.conf" -p /run/daemon.pid
	says "ok       backend cpg: pacemaker's fencer answers"
}

# Records were taken over since the pacemaker of n3 has joined: another one in the same
# moment would not count.
has_synced() { has_logged "$1" "takes over records of other nodes"; }

# The host is cut off, and runs: nothing but a successful fence may count.
unfenced() {
	local failures
	failures=$(count_history n1 n3 failed)
	set_switch fail
	pull_cable n3
	within is_lost n1 && within has_more n1 n3 failed "$failures" && fails n3 n1 n2 && runs n3 vm3a
}
confirmed() {
	try in_node n1 stonith_admin --confirm n3 && within has_more n1 n3 "a human" 0 && fails n3 n1 n2 && runs n3 vm3a
}
switched_on() {
	try in_node n1 stonith_admin --unfence n3 --timeout 20 && fails n3 n1 n2 && runs n3 vm3a
}
fenced() {
	mark_logs
	set_switch ok
	try in_node n1 stonith_admin --reboot n3 --timeout 20 && ! has_power n3 &&
		within counts_as_off n3 n1 && within counts_as_off n3 n2 && is_off n3 n1 n2 &&
		try log_of n1 && says "cpg: node 3 (n3) was fenced: reboot by "
}
# asks_for_vm3a NODE - a request waits there.
asks_for_vm3a() { in_node "$1" "$FENCE_VIRTD" --status -f "$W/$1/fence_virt.conf" | grep -qE 'cluster: .*, [1-9][0-9]* requests? in flight'; }
# off fails until the fence is recorded; a request that waits for it succeeds then.
power_lost() {
	local waiting request code=0
	set_switch hold
	power_cut n3
	within is_lost n1 && within is_asked n3 && fails n3 n1 n2 && is_asked n3 || return
	ANSWER=25 gets 0 n1 off vm3a >"$W/waiting.off" 2>&1 &
	waiting=$!
	ANSWER=25 gets 2 n2 status vm3a >"$W/waiting.status" 2>&1 &
	waiting="$waiting $!"
	within asks_for_vm3a n1 && within asks_for_vm3a n2 && is_asked n3 || return
	set_switch ok
	for request in $waiting; do wait "$request" || code=1; done
	cat "$W/waiting.off" "$W/waiting.status"
	same "$code" 0 && within counts_as_off n3 n1 && within counts_as_off n3 n2 && is_off n3 n1 n2
}
# The record is there before the loss.
fenced_alive() {
	try in_node n2 stonith_admin --fence n3 --timeout 20 && within counts_as_off n3 n1 && within counts_as_off n3 n2 &&
		is_off n3 n1 n2
}
# A fencer that was restarted takes over the record of an old fence.
synced() {
	mark_logs
	in_node n2 sh -c 'kill -KILL "$(pidof pacemaker-fenced)"'
	within has_logged n2 "no fence of a lost host is known until pacemaker's fencer answers" &&
		within has_logged n2 "pacemaker's fencer answers (" &&
		within has_logged n2 "fences of node 3 count from now on" || return
	same "$(count_history n2 n3 "successful")" 0 || return
	try in_node n1 stonith_admin --history '*' --broadcast && within has_more n2 n3 "successful" 0 && unfenced
}
# The fencer of n1 is not there: n2 tells it.
told() {
	mark_logs
	set_switch ok
	end n1 pacemaker TERM && within has_logged n1 "no fence of a lost host is known" && within is_managed n2 2 || return
	power_cut n3
	within counts_as_off n3 n2 && within counts_as_off n3 n1 && is_off n3 n1 n2 &&
		within has_logged n1 "node 2 tells that node 3 was fenced"
}
# set_sources SETTING - on n1 and n2, by SIGHUP.
set_sources() {
	local node
	for node in n1 n2; do write_conf "$node" "$1" && signal "$node" daemon HUP || return; done
}
# With host_fencing = "none" no fence counts, nor one of that time afterwards.
reloaded() {
	local node count
	mark_logs
	count=$(count_history n1 n3 successful)
	set_sources 'host_fencing = "none";' || return
	for node in n1 n2; do
		within has_logged "$node" "host_fencing none" && within has_logged "$node" "fencer is not asked any more" || return
		try in_node "$node" "$FENCE_VIRTD" --status -f "$W/$node/fence_virt.conf" &&
			says "host fencing: pacemaker is not asked; host_fence_delay is not set" || return
	done
	set_switch ok
	power_cut n3
	within is_lost n1 && within has_more n1 n3 successful "$count" && within has_more n2 n3 successful "$count" &&
		fails_at_once n3 n1 n2 || return
	set_sources '' || return
	for node in n1 n2; do
		within has_logged "$node" "pacemaker's fencer answers (" &&
			within has_logged "$node" "fences of node 3 count from now on" || return
	done
	fails n3 n1 n2 && try in_node n1 stonith_admin --reboot n3 --timeout 20 && within counts_as_off n3 n1 &&
		within counts_as_off n3 n2 && is_off n3 n1 n2
}
pacemaker_returns() {
	start_pacemaker n1 && within has_logged n1 "pacemaker's fencer answers (" && within is_managed n1 2
}
# With a device that provides unfencing, pacemaker switches the host on that is to run it.
# Such devices cut hosts off from storage, and leave them running.
is_unfenced() { # sets $unfenced
	for unfenced in "${ALL[@]}"; do ! has_more n1 "$unfenced" "unfencing of $unfenced successful.*client=pacemaker" 0 || return 0; done
	return 1
}
unfencing() {
	local node askers=()
	set_switch ok
	try in_node n1 crm_resource --resource switch --meta --set-parameter provides --parameter-value unfencing &&
		within is_unfenced || return
	for node in "${ALL[@]}"; do [ "$node" = "$unfenced" ] || askers+=("$node"); done
	for node in "${askers[@]}"; do within has_more "$node" "$unfenced" "unfencing of $unfenced successful" 0 || return; done
	mark_logs
	power_cut "$unfenced"
	for node in "${askers[@]}"; do
		within has_logged "$node" "it does not count, since pacemaker unfences that host by itself" || return
	done
	fails "$unfenced" "${askers[@]}"
}
# No device fences n3. Cut off, it is ended by its watchdog before pacemaker takes it for off.
ended_by_watchdog() {
	local begin
	begin=$(milliseconds)
	pull_cable n3
	within is_lost n1 && within has_no_quorum n3 && power_cut n3 && fails n3 n1 n2 || return
	within counts_as_off n3 n1 && within counts_as_off n3 n2 || return
	took=$(($(milliseconds) - begin))
	echo "off after $took ms"
	[ "$took" -ge $((STONITH_WATCHDOG_TIMEOUT * 1000)) ] && is_off n3 n1 n2 &&
		try history n1 n3 && says "n3 successful" && try log_of n1 && says "cpg: node 3 (n3) was fenced: reboot by "
}
has_no_quorum() { in_node "$1" timeout 2 corosync-quorumtool -s 2>/dev/null | grep -q '^Quorate: *No'; }
milliseconds() { echo $((${EPOCHREALTIME/./} / 1000)); }

# The daemon of n1 asks its fencer, because the daemon of n2 has come back.
frozen() {
	local code
	mark_logs
	in_node n1 sh -c 'kill -STOP "$(pidof pacemaker-fenced)"'
	end n2 daemon TERM && start_daemon n2 && within gets 0 n1 status vm2a && signal n1 daemon TERM &&
		until_true 8 has_ended n1 daemon && same "$(cat "$W/n1/daemon.code")" 0 &&
		try log_of n1 && says "pacemaker's fencer does not answer: ending without it"
	code=$?
	in_node n1 sh -c 'kill -CONT "$(pidof pacemaker-fenced)"'
	return $code
}
# Fences of n1 count again once its daemon is back.
ends_beside_frozen() {
	frozen || return
	mark_logs
	start_daemon n1 && within has_logged n2 "fences of node 1 count from now on" &&
		within has_logged n3 "fences of node 1 count from now on" &&
		within has_logged n1 "fences of node 2 count from now on" && within has_logged n1 "fences of node 3 count from now on"
}

private_host
set_switch ok
make_nodes
run_switch >"$W/switch.log" 2>&1 &
each "${ALL[@]}" -- host_on || need "the hosts have power" false
need "all hosts are one cluster" all_see 3
need "pacemaker manages all hosts" is_managed n1 3
for node in "${ALL[@]}"; do echo 0 >"$W/$node/mark"; touch "$W/$node/daemon.log"; done
for node in "${ALL[@]}"; do start_daemon "$node" || need "the daemon of $node answers" false; done
need "fences of all hosts count" is_ready

check "each daemon has found pacemaker's fencer" found
if [ "$WATCHDOG" ]; then
	check "n3 is cut off, and ended by its watchdog: its VMs fail until stonith-watchdog-timeout is over" ended_by_watchdog
	check "n3 is back: its VMs are on" back_from_watchdog
	finish
fi
check "n3 is cut off, its fencing fails: its VMs fail" unfenced
mark_logs
check "a request for them waits 28 s for the fence" fails_late n1 n3
check "stonith_admin --confirm n3: they fail" confirmed
check "stonith_admin --unfence n3, the action on: they fail" switched_on
check "n3 is fenced: its VMs are off, on each host" fenced
check "n3 is back: its VMs are on" back
check "n3 loses its power: its VMs fail until it is fenced, and a request that waits for that succeeds" power_lost
[ -z "$BRIEF" ] || finish
check "n3 is back: its VMs are on" back
check "n3 is fenced while it is up: its VMs are off" fenced_alive
check "n3 is back: its VMs are on" back
check "n3 is cut off again, its fencing fails: the fences before do not count" unfenced
check "n3 is back: its VMs are on" back
check "the fencer of n2 is restarted and learns of an old fence, n3 is cut off: its VMs fail" synced
check "n3 is back: its VMs are on" back
check "pacemaker of n1 is stopped, n3 is fenced: n2 tells n1" told
check "pacemaker of n1 is back" pacemaker_returns
check "n3 is back: its VMs are on" back
check "host_fencing is none after a reload: a fence does not count; after another reload the next one does" reloaded
check "n3 is back: its VMs are on" back
check "the fencer of n1 is frozen: SIGTERM ends the daemon" ends_beside_frozen
check "a device that provides unfencing has fenced a host: its VMs fail" unfencing
finish
