#!/bin/bash
# Power operations beside VMs whose QEMU hangs, with a real libvirtd and real QEMU
# processes: libvirt's destroy of a stopped process takes 10 s. Meanwhile both
# agents ask over tcp for other VMs, and each call is compared with the same call
# on a quiet host.
#
#   FENCE_VIRT=  our agent     (target/debug/fence_virt of this project)
#   THEIRS=      C agent       (/usr/sbin/fence_virt)
#   DAEMON=      daemon        (target/debug/fence_virtd of this project)
#   HUNG=        numbers of VMs that hang at once, a list (4 24)
#   WORKERS=     min_workers and max_workers of libvirtd (64; libvirt has 5 and 20)
#   KEEP=1       keeps the work directory, with all logs
#   LIMIT=       timeout of each wait in seconds (60)
#
# The default of libvirtd, 20 workers and 5 for short calls, is too small for 24: that
# many destroys leave it no worker, and it answers nobody until the first of them ends.
#
# The machines have 32 MiB, no devices, and a firmware that halts the processor.
# hung-lab.sh makes and asks for them. When this script ends, or is killed, every process ends with it.
#
# One line a check, then `N passed, M failed`; 77 if something is missing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/inside.sh"
C_DAEMON=/usr/sbin/fence_virtd
DAEMON=$(realpath -m "${DAEMON:-$here/../../target/debug/fence_virtd}")
HUNG=${HUNG:-4 24}
WORKERS=${WORKERS:-64}
LIMIT=${LIMIT:-60}
HEALTHY=8
# Milliseconds: libvirt gives a process 10 s until it is killed; its caller has the rest.
HUNG_MAX=12000
AT_ONCE=1000
# Seconds that a start is held while other calls are unanswered.
HELD_MAX=8
# A power-off waits for the end of a start for 2 s, then as for a process that hangs.
STUCK_MAX=$((2000 + HUNG_MAX))
CHECKS=25 # and for each number of VMs, twice:
CHECKS_OF_HANGS=11
[ "$DAEMON" != "$C_DAEMON" ] || CHECKS=22

skip() { echo "*** SKIPPED hung: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; exit 77; }

# ------------------------------------------------- outside of the namespaces

if [ -z "${HUNG_INNER:-}" ]; then
	needs libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 qemu-system-x86_64:qemu-system-x86
	unshare --net --mount --pid --ipc --fork --kill-child --mount-proc mount -t tmpfs private /run 2>/dev/null ||
		skip "it may not make namespaces here"
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
	THEIRS=$(realpath -m "${THEIRS:-/usr/sbin/fence_virt}")
	[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
	[ -x "$THEIRS" ] || skip "no $THEIRS (package fence-virt)"
	[ -x "$DAEMON" ] || skip "no $DAEMON (cargo build)"
	W=$(mktemp -d -t fence-hung.XXXXXX) || exit 1
	export FENCE_VIRT THEIRS DAEMON W HUNG WORKERS LIMIT HUNG_INNER=1
	run_inside "$here/hung.sh"
fi

# --------------------------------------- inside: this shell is the host itself

. "$here/checking.sh"
. "$here/hung-lab.sh"

for number in $HUNG; do CHECKS=$((CHECKS + 2 * CHECKS_OF_HANGS)); done

# -------------------------------------------------- calls for the healthy VMs

# one_pass SET PASS AGENT VM VM - the first VM is switched off and on, the second one is
# rebooted. An answer is SET.OPERATION.PASS.VM.
one_pass() {
	local set=$1 pass=$2 agent=$3
	ask "$set.off.$pass.$4" "$agent" off "$4"
	ask "$set.status.$pass.$4" "$agent" status "$4"
	ask "$set.on.$pass.$4" "$agent" on "$4"
	ask "$set.list.$pass.$4" "$agent" list
	ask "$set.reboot.$pass.$5" "$agent" reboot "$5"
	ask "$set.status.$pass.$5" "$agent" status "$5"
	ask "$set.list.$pass.$5" "$agent" list
}

# all_healthy SET AGENT - the calls of an agent for its half of the healthy VMs; then with
# the VMs of each pair exchanged, unless a VM that hung is off already.
all_healthy() {
	local at first=1
	[ "$2" = ours ] || first=$((HEALTHY / 2 + 1))
	for ((at = first; at < first + HEALTHY / 2; at += 2)); do one_pass "$1" 1 "$2" "v$at" "v$((at + 1))"; done
	[ -z "$(answers_of hanging)" ] || return 0
	for ((at = first; at < first + HEALTHY / 2; at += 2)); do one_pass "$1" 2 "$2" "v$((at + 1))" "v$at"; done
}

# in_time SET OPERATION - median and maximum at most 1.5 times those on a quiet host and
# 0.2 s; of `on`, which keeps a processor busy, three times; of an operation that asks
# only, also within a second.
in_time() {
	local which value alone tenths=15
	[ "$2" != on ] || tenths=30
	for which in median maximum; do
		value=$(times_of "$1.$2" | $which) alone=$(times_of "alone.$2" | $which)
		[ $((value * 10)) -le $((alone * tenths + 2000)) ] ||
			{ echo "the $which is $value ms; on a quiet host it is $alone ms"; return 1; }
	done
	[[ $2 != status && $2 != list ]] || [ "$value" -le $AT_ONCE ] || { echo "the maximum is $value ms"; return 1; }
}
figures() { # SET OPERATION
	echo "median $(times_of "$1.$2" | median) ms, maximum $(times_of "$1.$2" | maximum) ms"
}

# succeed SET - all calls of the set: 0, and 2 for the status of a VM that is off.
succeed() {
	local answer code text wrong=0
	for answer in $(answers_of "$1"); do
		read -r _ _ code text <"$W/answers/$answer"
		[[ $code = 0 || "$code $text" = "2 Status: OFF"* ]] || { echo "$answer: code $code: $text"; wrong=1; }
	done
	[ $wrong = 0 ]
}
# at_most MS SET - each call of the set has its answer within that time.
at_most() {
	local value
	value=$(times_of "$2" | maximum)
	[ "$value" -le "$1" ] || { echo "the maximum is $value ms"; return 1; }
}
answered_meanwhile() { # SET COUNT - that many, before the first VM that hung was off
	local first count
	first=$(ends_of hanging | sort -n | head -n 1)
	count=$(ends_of "$1" | awk -v first="$first" '$1 < first' | wc -l)
	[ "$count" -ge "$2" ] || { echo "$count calls were answered meanwhile, not $2"; return 1; }
}

# --------------------------------------------------------------- the stages

alone() {
	all_healthy alone ours
	all_healthy alone theirs
	for operation in off on reboot status list; do echo "     $operation on a quiet host: $(figures alone $operation)"; done
	check "on a quiet host nobody fails" succeed alone
}

# ask_of_dying SET - about a VM that is being destroyed, by both agents.
ask_of_dying() {
	local agent
	for agent in ours theirs; do
		ask "dying.$1.status.$agent" "$agent" status h1
		ask "dying.$1.list.$agent" "$agent" list
	done
}
dying_is_on() { # SET
	local agent text
	for agent in ours theirs; do
		text=$(cut -d ' ' -f 3- "$W/answers/dying.$1.status.$agent")
		same "$text" "0 Status: ON " || return 1
		grep -qE "h1 +$(uuid h1) on;" "$W/answers/dying.$1.list.$agent" || { cat "$W/answers/dying.$1.list.$agent"; return 1; }
	done
}

run_again() { # as they did before, and under other ids; of many, libvirt may have ended some
	local vm id before
	while read -r vm id; do
		before=$(awk -v vm="$vm" '$1 == vm { print $2 }' <<<"$ids_before")
		[[ $id != "$before" && $id =~ ^[0-9]+$ ]] || { [[ $id = - && ${#hanging[@]} -gt 4 ]] && was_ended_by_libvirt "$vm"; } ||
			{ echo "$vm: its id was $before and is $id"; return 1; }
	done < <(ids_of "${hanging[@]}")
}
all_off() { same "$(ids_of "${hanging[@]}" | cut -d ' ' -f 2 | sort -u)" -; }

# hang NUMBER ACTION - so many are asked for at once, half of them by either agent.
hang() {
	local set=$1.$2 vm calls=() agent=ours beside="beside $1 hung VMs ($2)"
	mapfile -t hanging < <(hung_vms "$1")
	ids_before=$(ids_of "${hanging[@]}")
	rm -f "$W"/answers/hanging.*
	freeze "${hanging[@]}"
	for vm in "${hanging[@]}"; do
		ask "hanging.$vm" $agent "$2" "$vm" &
		calls+=($!)
		[ $agent = ours ] && agent=theirs || agent=ours
	done
	until_true 3 all_dying "${hanging[@]}"
	ask_of_dying "$set" &
	calls+=($!)
	for agent in ours theirs; do
		all_healthy "$set" $agent &
		calls+=($!)
	done
	wait "${calls[@]}"
	for operation in off on reboot status list; do
		check "$beside: $operation: $(figures "$set" $operation)" in_time "$set" $operation
	done
	check "$beside: nobody fails" succeed "$set"
	check "$beside: the calls were answered meanwhile" answered_meanwhile "$set" 28
	check "$beside: status and list of one that is being destroyed: $(figures dying "$set")" at_most $AT_ONCE "dying.$set"
	check "$beside: it is on" dying_is_on "$set"
	check "$2 of the $1 that hung: $(figures hanging h)" at_most $HUNG_MAX hanging
	if [ "$2" = off ]; then
		check "$2 of the $1 that hung: all successful and off" all_hung_off
	else
		check "$2 of the $1 that hung: all successful, and they run again" all_hung_run
		for vm in $(ids_of "${hanging[@]}" | sed -n 's/ -$//p'); do echo "     $vm was ended by libvirt after its start"; done
	fi
	settle
}
all_hung_off() { succeed hanging && all_off; }
all_hung_run() { succeed hanging && { until_true 20 run_again >/dev/null || run_again; }; }

libvirtd_dies() {
	local vm calls=() begin
	mapfile -t hanging < <(hung_vms 4)
	start_vms "${hanging[@]}"
	rm -f "$W"/answers/hanging.*
	freeze "${hanging[@]}"
	for vm in "${hanging[@]}"; do
		ask "hanging.$vm" ours off "$vm" &
		calls+=($!)
	done
	until_true 3 all_dying "${hanging[@]}"
	begin=$(now)
	kill -KILL "${libvirtd:?}"
	wait "$libvirtd" 2>/dev/null
	wait "${calls[@]}"
	check "libvirtd is killed while it destroys 4: all answers within 10 s" answers_since "$begin" 10000
	check "libvirtd is killed while it destroys 4: none is a success" all_fail hanging
	start_libvirtd "${SETTINGS[@]}"
	need "the daemon is connected again" answers_status
	for agent in ours theirs; do
		one_pass "again.$agent" 1 $agent v1 v2
		check "after libvirtd's restart: all works for $agent" succeed "again.$agent"
	done
	rm -f "$W"/answers/hanging.*
	calls=()
	for vm in "${hanging[@]}"; do
		ask "hanging.$vm" theirs off "$vm" &
		calls+=($!)
	done
	wait "${calls[@]}"
	check "after libvirtd's restart: the 4 are successfully off" all_hung_off
	settle
}
answers_since() { # BEGIN MS
	local last
	last=$(ends_of hanging | sort -n | tail -n 1)
	[ $((last - $1)) -le "$2" ] || { echo "the last answer came after $((last - $1)) ms"; return 1; }
}
all_fail() { # SET
	local answer code
	for answer in $(answers_of "$1"); do
		read -r _ _ code _ <"$W/answers/$answer"
		[ "$code" != 0 ] || { echo "$answer was a success"; return 1; }
	done
}
answers_status() { asked status v1 >/dev/null 2>&1; }

# held_start ACTION - the VM `held` cannot start until the hook is released; meanwhile
# it is to be switched off, too, and the agents ask for others, one after the other.
held_start() {
	local set=held.$1 calls=() released what="a start is held ($1)"
	rm -f "$W"/answers/hanging.*
	hold_starts
	ask hanging.start ours "$1" held &
	calls+=($!)
	until_true 10 start_is_held || echo "the start was not held"
	ask hanging.off theirs off held &
	calls+=($!)
	[ "$DAEMON" = "$C_DAEMON" ] || daemon_status "$set"
	ask_for_others "$set"
	released=$(now)
	release_starts
	wait "${calls[@]}"
	check "$what: the others are not delayed: $(figures_of_others "$set")" others_in_time "$set"
	[ "$DAEMON" = "$C_DAEMON" ] || check "$what: --status answers" at_most $AT_ONCE "$set.daemon"
	check "$what: off of that VM is answered after the release" answered_after "$released"
	check "$what: and then that VM is off" state_is held "shut off"
	hanging=(held)
	settle
}
# ask_for_others SET - for v1 and v2 by both agents, one after the other; adds to calls.
ask_for_others() {
	local agent
	for agent in ours theirs; do
		one_pass "$1" 1 $agent v1 v2 &
		calls+=($!)
		until_true $HELD_MAX has_ended $!
	done
}
figures_of_others() { # SET
	local operation
	for operation in status off on reboot list; do echo -n "$operation $(times_of "$1.$operation" | maximum) ms "; done
}
daemon_status() { # SET - 0, or 2 with a problem
	timed "$1.daemon" "$DAEMON" -f "$W/fence_virt.conf" --status
}
others_in_time() {
	local operation
	for operation in status off on reboot list; do in_time "$1" $operation || return 1; done
	succeed "$1"
}
answered_after() { # TIME
	local end code text
	read -r end _ code text <"$W/answers/hanging.off"
	same "$code" 0 && [ "$end" -ge "$1" ] || { echo "code $code: $text, $((end - $1)) ms after the release"; return 1; }
}

# stuck_start ACTION NEXT - the QEMU of `stuck` hangs while it starts; then that VM is to be
# switched off or rebooted, and the agents ask for others.
stuck_start() {
	local set=stuck.$1 calls=() what="a QEMU hangs while it starts ($1)"
	rm -f "$W"/answers/hanging.*
	[ "$1" = on ] || start_vms stuck
	stick_starts
	ask hanging.start ours "$1" stuck &
	calls+=($!)
	until_true 20 start_is_stuck || echo "the start does not hang"
	release_stuck
	ask hanging.next theirs "$2" stuck &
	calls+=($!)
	ask_for_others "$set"
	wait "${calls[@]}"
	check "$what: the others are not delayed: $(figures_of_others "$set")" others_in_time "$set"
	check "$what: $2 of that VM: $(figures hanging next)" at_most $STUCK_MAX hanging.next
	if [ "$2" = off ]; then
		check "$what: and then that VM is off" stuck_is "shut off"
	else
		check "$what: and then that VM runs again" stuck_is running
	fi
	hanging=(stuck)
	settle
}
stuck_is() { # STATE
	succeed hanging.next && { until_true 20 state_is stuck "$1"; } || { libvirt domstate stuck; return 1; }
}

# A VM hangs, and a monitoring client waits for it: until then libvirt answers nobody who asks for its job.
monitored() {
	local what="a monitoring client waits for a VM that hangs" client
	hanging=(h1)
	start_vms h1
	rm -f "$W"/answers/hanging.*
	freeze h1
	libvirt domstats h1 >"$W/domstats.log" 2>&1 &
	client=$!
	until_true 5 is_occupied h1 || echo "nobody waits for it"
	ask hanging.h1 ours off h1
	wait $client
	check "$what: off: $(figures hanging h)" at_most $HUNG_MAX hanging
	check "$what: it is successfully off" all_hung_off
	[ "$DAEMON" = "$C_DAEMON" ] || check "$what: it cannot have migrated" was_staying h1
	settle
}
was_staying() { # VM
	grep "off \"$1\": success" "$W/daemon.log" | tail -n 1 | grep ', verified off: ' ||
		{ grep "off \"$1\":" "$W/daemon.log" | tail -n 1; return 1; }
}
is_occupied() { libvirt domcontrol "$1" | grep -q '^occupied'; }

# One caller that asks for all healthy VMs at once.
many() {
	local vm calls=() limit=$(($(times_of alone.off | median) * 3))
	for vm in $(healthy_vms); do
		ask "many.$vm" ours off "$vm" &
		calls+=($!)
	done
	wait "${calls[@]}"
	check "off of $HEALTHY at once, $(figures many v): less than three times as long as of one" at_most $limit many
	check "off of $HEALTHY at once: nobody fails" succeed many
}

private_host
start_libvirtd "${SETTINGS[@]}"
start_daemon
define_vms
mapfile -t bare < <(hung_vms 24; healthy_vms)
start_vms "${bare[@]}"
need "the daemon answers" answers_status
alone
for number in $HUNG; do
	for action in reboot off; do
		mapfile -t bare < <(hung_vms "$number")
		start_vms "${bare[@]}"
		hang "$number" $action
	done
done
libvirtd_dies
held_start on
start_vms held
held_start reboot
stuck_start on off
stuck_start reboot reboot
monitored
many
finish
