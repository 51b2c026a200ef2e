# Checks of cluster.sh with failures of daemons, corosync, nodes or cables.
# shellcheck shell=bash

# refused ASKER OWNER [SECONDS] - off and status of a VM of OWNER fail without effect.
refused() {
	local since
	since=$(lines "$W/events")
	at_once gets 1 "$1" off "$(vm "$2")" 20 && at_once gets 1 "$1" status "$(vm "$2")" 20 && events_are "$since" ""
}

# ----------------------------------------------------------------- daemons end

killed() { end "$2" daemon KILL && refused "$1" "$2"; }
# asked NODE - true if an agent waits there. Its request may not have reached the
# group yet, which cannot be observed.
asked() {
	until_true "$LIMIT" agent_waits "$1" && sleep 0.3 && agent_waits "$1"
}
agent_waits() { in_node "$1" ss -Htn state established dport = :1229 | grep -q .; }
killed_while_asked() { # ASKER OWNER
	local job since code
	since=$(lines "$W/events")
	signal "$2" daemon STOP
	at_once gets 1 "$1" off "$(vm "$2")" 20 >"$W/pending.out" 2>&1 &
	job=$!
	asked "$1"
	end "$2" daemon KILL
	wait $job
	code=$?
	cat "$W/pending.out"
	events_are "$since" "" && return $code
}
comes_back() { start_daemon "$2" && both_ways "$1" "$2"; }

stage_killed() {
	[ -n "$FIRST" ] || return 0
	local owner
	for owner in "$OTHER" "${THEIRS[0]:-}"; do
		[ -n "$owner" ] || continue
		check "the daemon of $(label "$owner") is killed: its VMs fail at once" killed "$FIRST" "$owner"
		check "it is back: requests both ways work" comes_back "$FIRST" "$owner"
		check "it is killed while frozen and asked: failure at once" killed_while_asked "$FIRST" "$owner"
		check "it is back: requests both ways work" comes_back "$FIRST" "$owner"
	done
}

# ends NODE - SIGTERM ends its daemon within a few seconds.
ends() { # NODE [SECONDS]
	signal "$1" daemon TERM || return
	until_true "${2:-5}" has_ended "$1" daemon || { echo "it does not end within ${2:-5} s"; return 1; }
	same "$(cat "$W/$1/daemon.code")" 0
}
ends_asked() { # NODE OWNER
	local job code
	signal "$2" daemon STOP
	gets 1 "$1" off "$(vm "$2")" 20 >"$W/pending.out" 2>&1 &
	job=$!
	# Requests in flight have a grace of 5 s; then each kind of thread has 1 s to end.
	asked "$1" && ends "$1" 8
	code=$?
	signal "$2" daemon KILL
	wait $job || code=1
	cat "$W/pending.out"
	return $code
}
ends_beside_frozen_corosync() {
	local code
	signal "$1" corosync STOP
	ends "$1"
	code=$?
	signal "$1" corosync CONT
	within all_see "$NODES" && return $code
}

stage_term() {
	local node other
	for node in "$FIRST" "${THEIRS[0]:-}"; do
		[ -n "$node" ] || continue
		check "SIGTERM ends the daemon of $(label "$node")" ends "$node"
		start_daemon "$node"
	done
	[ -n "$FIRST" ] || return 0
	other=${OTHER:-$LAST}
	check "SIGTERM ends the daemon of $(label "$FIRST") while $(label "$other") owes an answer" ends_asked "$FIRST" "$other"
	restart "$other" && start_daemon "$FIRST"
	check "SIGTERM ends the daemon of $(label "$FIRST") while corosync is frozen" ends_beside_frozen_corosync "$FIRST"
	start_daemon "$FIRST" && restart_c
	check "all is well after that" both_ways "$FIRST" "$other"
}

# ------------------------------------------------- a daemon is restarted often

# start_and OPERATION VM NODE - starts the daemon of NODE in the background, and asks it when that has
# succeeded: from then on no request may fail because it is not in the group yet.
start_and() {
	# shellcheck disable=SC2016
	try in_node "$3" bash -c '"$1" -f "$2" -p /run/daemon.pid || exit 99
		exec timeout -k 1 25 "$3" -T 127.0.0.1 -k "$4" -t 20 -o "$5" -n "$6"' \
		start "$FENCE_VIRTD" "$W/$3/fence_virt.conf" "$FENCE_VIRT" "$W/key" "$1" "$2"
}
# is_gone NODE PID
is_gone() { ! in_node "$1" kill -0 "$2" 2>/dev/null; }
end_started() { # NODE
	local pid
	pid=$(in_node "$1" cat /run/daemon.pid) && in_node "$1" kill "$pid" && within is_gone "$1" "$pid"
}
# answers_when_started ROUND NODE OWNER - what it is asked first is by turns the status of a VM of its own,
# that of a VM of OWNER, and the list, which has all VMs of our nodes.
answers_when_started() {
	local rows code
	case $(($1 % 3)) in
	0) start_and status "$(vm "$2")" "$2" && says "Status: ON" ;;
	1) start_and status "$(vm "$3")" "$2" && says "Status: ON" ;;
	2)
		rows=$(rows "${OURS[@]}")
		start_and list none "$2" && same "$(awk '{ print $1, $2, $3 }' <<<"$out" | sort | grep -xF "$rows")" "$rows"
		;;
	esac
	code=$?
	end_started "$2" && return $code
}
restarts() { # NODE OWNER
	local round code=0
	end "$1" daemon TERM || return
	for ((round = 0; round < RESTARTS; round++)); do
		answers_when_started $round "$1" "$2" || { echo "start $((round + 1)) of $RESTARTS"; code=1; break; }
	done
	start_daemon "$1" && both_ways "$1" "$2" && return $code
}
stage_restarts() {
	[ -n "$FIRST" ] || return 0
	check_c "the daemon of $(label "$FIRST") starts $RESTARTS times, and answers each time as soon as it is ready" \
		restarts "$FIRST" "${OTHER:-$LAST}"
}

# ------------------------------------------------------------- corosync fails

corosync_ends() { # NODE SIGNAL OTHER
	local log
	log=$(lines "$W/$1/daemon.log")
	end "$1" corosync "$2" && at_once gets 1 "$1" status "$(vm "$3")" 20 && at_once gets 1 "$1" off "$(vm "$3")" 20 &&
		at_once gets 1 "$1" monitor none 20 &&
		try tail -n "+$((log + 1))" "$W/$1/daemon.log" && grep -qi corosync <<<"$out" &&
		within sees_nodes "$3" $((NODES - 1)) && { ! is_ours "$3" || refused "$3" "$1"; }
}
corosync_returns() { # NODE OTHER
	start_corosync "$1" && within all_see "$NODES" && restart_c &&
		within ask "$1" monitor none 2 && both_ways "$1" "$2" && ! has_ended "$1" daemon
}
# A node whose corosync is frozen is lost, and rejoins after the thaw.
corosync_freezes() { # NODE OTHER
	signal "$1" corosync STOP
	refused "$2" "$1"
	local code=$?
	within sees_nodes "$2" $((NODES - 1))
	signal "$1" corosync CONT
	within all_see "$NODES" && within sees_daemons "$2" "$NODES" && both_ways "$2" "$1" && return $code
}

stage_corosync() {
	[ -n "$FIRST" ] || return 0
	local signal other=${OTHER:-$LAST}
	for signal in KILL TERM; do
		check "corosync of $(label "$FIRST") ends by SIG$signal: failure at once, monitor too" \
			corosync_ends "$FIRST" $signal "$other"
		check "corosync is back: so is the daemon" corosync_returns "$FIRST" "$other"
	done
	[ -z "$OTHER" ] || check "corosync of $(label "$OTHER") stands still: its VMs fail, then work again" \
		corosync_freezes "$OTHER" "$FIRST"
}

# ------------------------------------------------------------- nodes are lost

DELAY=3
# fenced_after_delay NODE VM SINCE - off fails until the delay is over, then succeeds.
fenced_after_delay() {
	local end=$(($3 + LIMIT * 1000000)) over=$(($3 + DELAY * 1000000)) code
	while :; do
		try ask "$1" status "$2"
		code=$?
		[ $code != 2 ] || [ "${EPOCHREALTIME/./}" -ge $over ] || { echo "off too early"; return 1; }
		try ask "$1" off "$2" 20
		code=$?
		[ $code != 0 ] || break
		sleep 0.1
		[ "${EPOCHREALTIME/./}" -lt $end ] || { echo "not within $LIMIT s"; return 1; }
	done
	[ "${EPOCHREALTIME/./}" -ge $over ] || { echo "success too early"; return 1; }
	gets 2 "$1" status "$2"
}
with_delay() { # NODE...
	local node
	for node; do restart "$node" "host_fence_delay = \"$DELAY\";" || return; done
}

# lose NODE ASKER DELAYED - ASKER answers failure before and after the loss is
# known. The next check uses the answers of DELAYED.
lose() {
	fenced_after_delay "$3" "$(vm "$1")" "${EPOCHREALTIME/./}" >"$W/delayed.out" 2>&1 &
	delayed=$!
	power_cut "$1"
	refused "$2" "$1" && within sees_nodes "$2" $((NODES - 1)) && refused "$2" "$1"
}
after_delay() {
	local code
	wait "$delayed"
	code=$?
	cat "$W/delayed.out"
	return $code
}
# returns NODE ASKER... - restores its power and its daemon.
returns() {
	local asker
	power_on "$1" && within all_see "$NODES" && start_daemon "$1" || return
	for asker in "${@:2}"; do both_ways "$asker" "$1" || return; done
}

stage_power() {
	local lost=n2 askers=()
	[ "$FIRST" != n2 ] || lost=n1
	[ "$OTHER" != n2 ] || lost=n3
	if [ -n "$OTHER" ]; then
		askers=("$FIRST" "$OTHER")
		with_delay "$OTHER"
		check "$(label $lost) loses its power: its VMs fail at once" lose $lost "$FIRST" "$OTHER"
		check "with host_fence_delay = \"$DELAY\" they are off then: $(label "$OTHER")" after_delay
	else
		askers=("${FIRST:-n1}")
		power_cut $lost
		need "the loss is seen" sees_nodes "${askers[0]}" $((NODES - 1))
	fi
	check_c "$(label $lost) has power again: requests both ways work" returns $lost "${askers[@]}"
	[ -z "$OTHER" ] || restart "$OTHER"
}

# ------------------------------------------- a host that is emptied, then stopped

# off_at ASKER NODE VM - off succeeds on NODE at once, and status is off.
off_at() {
	at_once gets 0 "$1" off "$3" && ! runs "$2" "$3" && at_once gets 2 "$1" status "$3" &&
		at_once gets 0 "$1" on "$3" && runs "$2" "$3"
}
home() { local node=${1#vm}; echo "n${node%%[a-z]*}"; } # VM
# moves VM FROM TO - as `virsh migrate --undefinesource --persistent` leaves it.
moves() {
	libvirt "$2" destroy "$1"
	libvirt "$2" undefine "$1"
	libvirt "$3" define "$W/$(home "$1")/$1.xml" && { runs "$3" "$1" || libvirt "$3" start "$1"; }
} >/dev/null 2>&1
# empty ASKER C-NODE NODE - removes the VMs of C-NODE, one of them by a migration:
# a C daemon without VMs neither reports that nor answers.
empty() {
	local vm moved
	moved=$(vm "$2")
	gets 0 "$1" status "$moved" || return
	for vm in "$(vm "$2" b)" "$(vm "$2" off)"; do
		libvirt "$2" destroy "$vm" >/dev/null 2>&1
		libvirt "$2" undefine "$vm" || return
	done
	moves "$moved" "$2" "$3" && within ask "$1" status "$moved" 2 && off_at "$1" "$3" "$moved"
}
# stopped_when_empty ASKER C-NODE NODE - stops that daemon, the last known owner of the VM.
stopped_when_empty() {
	local moved
	moved=$(vm "$2")
	moves "$moved" "$3" "$2" && within gets 0 "$1" status "$moved" 2 && moves "$moved" "$2" "$3" &&
		within ask "$1" status "$moved" 2 && end "$2" daemon KILL && within sees_daemons "$1" $((NODES - 1)) &&
		off_at "$1" "$3" "$moved"
}
emptied() { # ASKER C-NODE NODE
	local code
	empty "$@" && stopped_when_empty "$@"
	code=$?
	moves "$(vm "$2" a)" "$3" "$2" && moves "$(vm "$2" b)" "$3" "$2" && settle && start_daemon "$2" &&
		both_ways "$1" "$2" && return $code
}
stage_emptied() {
	local c=${THEIRS[0]:-}
	if [ -z "$c" ] || [ -z "$OTHER" ]; then return 0; fi
	check_c "the last VM of $(label "$c") moves to $(label "$OTHER"), and its daemon is stopped: the VM is fenced there" \
		emptied "$FIRST" "$c" "$OTHER"
}
