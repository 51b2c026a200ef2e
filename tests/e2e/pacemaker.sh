#!/bin/bash
# Agents under real pacemaker and corosync: three guests form a cluster and
# fence each other through fence_virtd on their host.
#
#   BACKEND=libvirt             or cpg: two hosts with their own corosync
#   KEYS=shared                 or own: each guest has a key of its own, and version 2 of the protocol alone is spoken
#   FENCE_VIRTD=, FENCE_VIRT=   programs under test (default: target/debug)
#   KEEP=1                      keep the work directory, with all logs
#   LIMIT=                      timeout of each wait in seconds (default: 60)
#
# The host and every guest are namespaces (network, processes, mounts, names)
# on this machine; the script changes nothing outside of them. When it ends or
# is killed, every process ends with it. pacemaker-lab.sh makes the machines,
# pacemaker-node.sh runs in each guest.
#
# Prints a line for each check. Exit code: 0 all passed, 1 not all, 77 skipped.
# The files that it sources use and set variables of this one.
# shellcheck disable=SC2034,SC2154
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")

# Seconds. LIMIT: timeout of each wait, on a busy machine.
LIMIT=${LIMIT:-60}
BACKEND=${BACKEND:-libvirt}
KEYS=${KEYS:-shared}
# Timeouts of an agent, and of a fencing action that must fail.
AGENT_TIMEOUT=6
FENCING_TIMEOUT=10

source "$here/inside.sh"

skip() {
	echo "*** SKIPPED pacemaker: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	exit 77
}

# ------------------------------------------------- outside of the namespaces

if [ -z "${PACEMAKER_INNER:-}" ]; then
	needs corosync:corosync pacemakerd:pacemaker stonith_admin:pacemaker-cli-utils \
		libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2
	needs_overlays
	find_builds
	W=$(mktemp -d "${TMPDIR:-/tmp}/pacemaker.XXXXXX")
	chmod 755 "$W" # pacemaker's daemons are not root
	export W BACKEND KEYS PACEMAKER_INNER=1
	run_inside "$here/pacemaker.sh" --uts
fi

# --------------------------------------- inside: this shell is the host itself

source "$here/checking.sh"
source "$here/pacemaker-lab.sh"

# events_are NODE SINCE TEXT - events of its VM since that line.
events_are() { [ "$(tail -n "+$(($2 + 1))" "$W/events" | sed -n "s/^vm$1 //p" | xargs)" = "$3" ]; }
# rejoined NODE SINCE - its VM was destroyed and started, and it is back.
rejoined() { within events_are "$1" "$2" "Stopped Started" && within sees_nodes "$1" 3 && within sees_started "$1"; }

# ------------------------------------------------------------- what is checked

parameters() { grep -o 'parameter name="[^"]*"' <<<"$1"; }
metadata() { # AGENT
	local own
	try in_guest g1 cmp "$W/sbin/fence_virt" "/usr/sbin/$1" || return
	own=$(in_guest g1 "$1" -o metadata) || return
	try in_guest g1 stonith_admin --metadata --agent "$1" && says "<resource-agent name=\"$1\"" &&
		says 'parameter name="plug"' && says 'parameter name="key_file"' && says 'action name="validate-all"' &&
		same "$(parameters "$out")" "$(parameters "$own")"
}

installed() {
	try in_guest g1 stonith_admin --list-installed &&
		grep -qx ' *fence_xvm' <<<"$out" && grep -qx ' *fence_virt' <<<"$out"
}

validate() { # AGENT OPTION...
	local agent=$1 option options=()
	shift
	for option in nodename=g2 port=vmg2 "$@"; do options+=(--option "$option"); done
	try in_guest g1 stonith_admin --validate --agent "$agent" "${options[@]}"
}
validates() { validate "$@" && says "succeeded"; }
validates_not() { # TEXT AGENT OPTION...
	local text=$1
	shift
	! validate "$@" && says "$text"
}

starts() { within sees_started g1 && try in_guest g1 crm_mon --one-shot && says "Started"; }

# requester NODE - how the log names it, where that is known. Pacemaker may let another node fence.
requester() { if has_own_keys; then echo 'key "vmg[123]" at 10.77.0.1[123]:'; fi; }

reboot() { # NODE FROM HOW
	local events log
	events=$(lines "$W/events") log=$(lines "$W/daemon.log")
	try in_guest "$2" stonith_admin --reboot "$1" --timeout "$LIMIT" && rejoined "$1" "$events" &&
		try tail -n "+$((log + 1))" "$W/daemon.log" &&
		grep "fence_virtd: info: $3: $(requester "$2").* reboot \"vm$1\": success" <<<"$out"
}

off_and_on() { # NODE FROM
	local events
	events=$(lines "$W/events")
	try in_guest "$2" stonith_admin --fence "$1" --timeout "$LIMIT" && within events_are "$1" "$events" Stopped &&
		same "$(vm_libvirt "$1" domstate "vm$1")" "shut off" && try is_down "$1" && within sees_nodes "$2" 2 &&
		try in_guest "$2" stonith_admin --unfence "$1" --timeout "$LIMIT" && rejoined "$1" "$events"
}

# For a device without a list of targets pacemaker asks the agent. The targets are
# names of VMs, not of nodes.
dynamic_list() {
	try in_guest g1 stonith_admin --register dynamic --agent fence_xvm --option pcmk_host_check=dynamic-list --option "hash=$HASH" &&
		try in_guest g1 stonith_admin --list-targets dynamic && says vmg1 && says vmg2 && says vmg3 &&
		try in_guest g1 stonith_admin --list vmg3 && says dynamic &&
		try in_guest g1 stonith_admin --list nosuch && ! says dynamic &&
		try in_guest g1 stonith_admin --deregister dynamic
}
status_check() {
	local log
	log=$(lines "$W/daemon.log")
	try in_guest g1 stonith_admin --register asking --agent fence_xvm --option pcmk_host_check=status --option "hash=$HASH" &&
		try in_guest g1 stonith_admin --list vmg3 && says asking &&
		within logged "$W/daemon.log" "$log" 'status "vmg3": success' &&
		try in_guest g1 stonith_admin --deregister asking
}

power_cut() { kill -KILL "$(guest_pid "$1")"; }
freeze() { in_guest "$1" kill -STOP -- -1; } # all but its first process, which only waits
# successes NODE CLIENT - number of successful fencings for CLIENT that g1 knows.
successes() { in_guest g1 stonith_admin --history "$1" --verbose | grep " of $1 successful" | grep -c "client=$2"; }
more_successes() { [ "$(successes "$1" "$2")" -gt "$3" ]; }
fenced_by_itself() { # NODE HOW
	local events before
	events=$(lines "$W/events") before=$(successes "$1" pacemaker-controld)
	"$2" "$1" && rejoined "$1" "$events" && try in_guest g1 stonith_admin --history "$1" --verbose &&
		within more_successes "$1" pacemaker-controld "$before"
}

state_of() { echo "fenced: $(successes "$1" ""), VM: $(vm_libvirt "$1" domid "vm$1"), guest: $(guest_pid "$1")"; }
# told TEXT - number of lines of all pacemaker logs with this stderr of an agent.
told() { cat "$W"/g*/log/pacemaker.log | grep -cF "stderr: [ $1"; }
told_again() { [ "$(told "$1")" -gt "$2" ]; }
# must_fail NODE REASON - the fencing fails without effect on the node, pacemaker
# does not take it for fenced, and logs the agent's reason.
must_fail() {
	local events before reasons
	events=$(lines "$W/events") before=$(state_of "$1") reasons=$(told "$2")
	! try in_guest g1 stonith_admin --reboot "$1" --timeout "$FENCING_TIMEOUT" && says "Couldn't fence $1" &&
		same "$(state_of "$1")" "$before" &&
		try in_guest g1 stonith_admin --history "$1" --verbose && says "reboot of $1 failed" &&
		try events_are "$1" "$events" "" && try sees_nodes g1 3 && try sees_nodes "$1" 3 &&
		within told_again "$2" "$reasons"
}

# The daemon receives the requests that were sent while it was frozen.
thawed() {
	local log domid
	log=$(lines "$W/daemon.log") domid=$(vm_libvirt g2 domid vmg2)
	kill -CONT "$daemon" && within logged "$W/daemon.log" "$log" "dropped a datagram: it may have waited" &&
		try in_guest g1 fence_xvm -c "$HASH" -o status -n vmg2 && same "$(vm_libvirt g2 domid vmg2)" "$domid"
}

# The second daemon receives a request that was sent while it was frozen.
second_thawed() {
	local log domid
	log=$(lines "$W/h2/daemon.log") domid=$(vm_libvirt g3 domid vmg3)
	kill -CONT "$second_daemon" && within logged "$W/h2/daemon.log" "$log" ": the request is too old" &&
		try in_guest g1 fence_virt -T "$HOST" -c "$HASH" -o status -n vmg3 && same "$(vm_libvirt g3 domid vmg3)" "$domid"
}

# A key speaks for its own VM, whoever has it and wherever that is. Without one nobody is heard.
stolen_key() {
	local log
	log=$(lines "$W/daemon.log")
	try in_guest g2 fence_virt -T "$HOST" -c hmac-sha256 -k "$W/keys/vmg1.key" -o status -n vmg3 &&
		within logged "$W/daemon.log" "$log" 'tcp: key "vmg1" at 10.77.0.12: status "vmg3": success' &&
		! try in_guest g2 fence_virt -T "$HOST" -k "$W/keys/vmg2.key" -o status -n vmg3 &&
		! try in_guest g2 fence_virt -T "$HOST" -c hmac-sha256 -k "$W/etc/cluster/fence_xvm.key" -o status -n vmg3 &&
		within logged "$W/daemon.log" "$log" "requires hmac-sha256" &&
		within logged "$W/daemon.log" "$log" "neither this listener nor a VM has the key"
}

reload() { try "$FENCE_VIRTD" -f "$W/fence_virt.conf" --reload && says "$1"; }
# asks NODE CODE - status of g2's VM by the node's own key.
asks() {
	local code=0
	try in_guest "$1" fence_virt -T "$HOST" -c hmac-sha256 -o status -n vmg2 || code=$?
	same "$code" "$2"
}

revoked() {
	mv "$W/keys/vmg3.key" "$W/keys/vmg3.revoked" && reload 'removed "vmg3"' && asks g3 1 && asks g1 0
}

# The guest's file is the same that the host has.
replaced_key() {
	(umask 077 && head -c 4096 /dev/urandom >"$W/g3/key") && cp "$W/g3/key" "$W/keys/vmg3.key" &&
		chmod 600 "$W/keys/vmg3.key" && reload 'added "vmg3"' && asks g3 0 && reboot g2 g3 multicast
}

private_host
mkdir "$W/h1" "$W/h2"
make_guests
HOSTS=(h1)
if has_second; then HOSTS+=(h2); start_hosts; fi
for host in "${HOSTS[@]}"; do
	start_libvirtd "$host"
	start_power "$host"
done
! has_second || start_second_daemon
start_daemon
for node in "${NODES[@]}"; do vm_libvirt "$node" start "vm$node" >/dev/null; done
need "three nodes are online" sees_nodes g1 3

for agent in fence_xvm fence_virt; do
	check "stonith_admin --metadata shows that of $agent" metadata "$agent"
done
check "stonith_admin --list-installed names both agents" installed
check "stonith_admin --validate passes for fence_xvm" validates fence_xvm
check "stonith_admin --validate passes for fence_virt" validates fence_virt "ipaddr=$HOST"
check "stonith_admin --validate fails for fence_xvm without a key" \
	validates_not "cannot read the key file" fence_xvm key_file=/nonexistent
check "stonith_admin --validate fails for fence_virt without a key" \
	validates_not "cannot read the key file" fence_virt "ipaddr=$HOST" key_file=/nonexistent
check "both fencing resources are started" starts
check "a device with pcmk_host_check=dynamic-list finds its targets" dynamic_list
check "a device with pcmk_host_check=status finds its target" status_check
check "g1 reboots g2 by multicast" reboot g2 g1 multicast
check "g1 reboots g3 over TCP" reboot g3 g1 tcp
check "g2 switches g1 off and on" off_and_on g1 g2
check "g2 loses its power: it is fenced" fenced_by_itself g2 power_cut
check "g3 hangs: it is fenced" fenced_by_itself g3 freeze

kill -STOP "$daemon"
check "the daemon is frozen: fencing g2 fails" must_fail g2 'fence_xvm: reboot of "vmg2" failed: timed out'
check "the daemon is thawed: it does not carry out what was given up" thawed
check "the daemon is thawed: g1 reboots g2" reboot g2 g1 multicast

kill -KILL "$daemon" && wait "$daemon" 2>/dev/null
check "the daemon is dead: fencing g3 fails" must_fail g3 'fence_virt: reboot of "vmg3" failed: cannot connect'
start_daemon
check "the daemon is back: g1 reboots g3" reboot g3 g1 tcp
if has_own_keys; then
	check "g2 has not the key of g1: what it has stolen is of no use from elsewhere" stolen_key
	check "the key of g3 is revoked: it fences nobody, the others do" revoked
	check "g3 has a new key: it fences again" replaced_key
fi
has_second || finish

# Requests arrive at the host that does not own g3's VM.
kill -STOP "$second_daemon"
check "the daemon of g3's host is frozen: fencing g3 fails" must_fail g3 'fence_virt: reboot of "vmg3" failed: timed out'
check "it is thawed: it does not carry out what was given up" second_thawed
check "it is thawed: g1 reboots g3" reboot g3 g1 tcp
kill -KILL "$second_daemon" && wait "$second_daemon" 2>/dev/null
check "the daemon of g3's host is dead: fencing g3 fails" must_fail g3 'fence_virt: reboot of "vmg3" failed: the host lists no VM'
check "that is none of g2's business: g1 reboots g2" reboot g2 g1 multicast
start_second_daemon
check "the daemon of g3's host is back: g1 reboots g3" reboot g3 g1 tcp
finish
