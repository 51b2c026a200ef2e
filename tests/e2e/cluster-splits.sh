# Checks of cluster.sh with partitions, with one VM on two nodes, and with
# a member of the group that is not fence_virtd.
# shellcheck shell=bash

# ------------------------------------------------------- the cluster is split

# The second side has no quorum; with an even number of nodes neither has.
SIDE1=("${ALL[@]:0:NODES - NODES / 2}")
SIDE2=("${ALL[@]:NODES - NODES / 2}")
MAJORITY=1
[ $((NODES % 2)) = 1 ] || MAJORITY=0
is_in() { [[ " ${*:2} " = *" $1 "* ]]; } # NODE NODE...
# beyond NODE - a node on the other side.
beyond() { if is_in "$1" "${SIDE1[@]}"; then echo "$LAST"; else echo n1; fi; }

split() {
	part "${SIDE2[@]}"
	within sees_no_quorum "$LAST" || return
	if [ $MAJORITY = 1 ]; then within sees_nodes n1 ${#SIDE1[@]}; else within sees_no_quorum n1; fi
}
mend() {
	heal
	within all_see "$NODES" && within sees_daemons n1 "$NODES"
}

# never_fenced NODE VM SINCE - not before nor after the loss is known, nor long
# after the delay.
never_fenced() {
	local end=$(($3 + TOKEN * 3000 + (DELAY + 2) * 1000000))
	while [ "${EPOCHREALTIME/./}" -lt $end ]; do
		gets 1 "$1" off "$2" 20 && gets 1 "$1" status "$2" 20 || return
		sleep 0.1
	done
}
# as_promised NODE SINCE - answers about the other side are as documented.
as_promised() {
	local vm
	vm=$(vm "$(beyond "$1")")
	if [ "$1" != "$FIRST" ] && [ $MAJORITY = 1 ] && is_in "$1" "${SIDE1[@]}"; then
		fenced_after_delay "$1" "$vm" "$2"
	else
		never_fenced "$1" "$vm" "$2"
	fi >"$W/$1/promise" 2>&1
}
split_with_delay() {
	local since begin=${EPOCHREALTIME/./} node code
	since=$(lines "$W/events")
	part "${SIDE2[@]}"
	each "${OURS[@]}" -- as_promised "$begin"
	code=$?
	for node in "${OURS[@]}"; do echo "--- $node" && tail -n 8 "$W/$node/promise"; done
	split && events_are "$since" "" && return $code
}

# During a partition and while it heals, each node of ours sends requests
# continuously: watch.a has the status of the VMs, watch.b fences one that is not
# used otherwise. A line has the time, the exit code, the VM, and libvirt's state.
watch_status() {
	local node code
	while [ -e "$W/watching" ]; do
		for node in "${ALL[@]}"; do
			ask "$1" status "$(vm "$node")" >/dev/null 2>&1
			code=$?
			echo "$(date +%T.%3N) $code $(vm "$node")"
		done
		sleep 0.05
	done >"$W/$1/watch.a"
}
watch_off() {
	local code state owner
	owner=${ALL[${1#n} % NODES]}
	while [ -e "$W/watching" ]; do
		ask "$1" off "$(vm "$owner" b)" 20 >/dev/null 2>&1
		code=$?
		state=$(libvirt "$owner" domstate "$(vm "$owner" b)")
		echo "$(date +%T.%3N) $code $(vm "$owner" b) $state"
		[ "$state" != "shut off" ] || libvirt "$owner" start "$(vm "$owner" b)" >/dev/null
		sleep 0.05
	done >"$W/$1/watch.b"
}
# sees_ours_run NODE - true if all VMs of our nodes were on in its last round.
sees_ours_run() {
	local vms
	vms=$(for node in "${OURS[@]}"; do vm "$node"; done)
	[ "$(tail -n "$NODES" "$W/$1/watch.a" | grep -Fw "$vms" | grep -c ' 0 ')" = ${#OURS[@]} ]
}
heals() {
	local jobs=() node wrong
	split || return
	touch "$W/watching"
	for node in "${OURS[@]}"; do
		rm -f "$W/$node/watch".[ab]
		watch_status "$node" & jobs+=($!)
		watch_off "$node" & jobs+=($!)
	done
	for node in "${OURS[@]}"; do until_true "$LIMIT" test -s "$W/$node/watch.b"; done
	mend
	for node in "${OURS[@]}"; do
		within sees_ours_run "$node"
		# After a failure the agent looks for the reason for some seconds.
		touches_c "${ALL[${node#n} % NODES]}" || within grep -q ' 0 ' "$W/$node/watch.b"
	done
	sleep 2 # what comes late would be wrong as well
	rm "$W/watching"
	wait "${jobs[@]}"
	for node in "${OURS[@]}"; do
		echo "--- $node: $(awk '{ print $2 }' "$W/$node/watch.a" | sort | uniq -c | xargs) and $(awk '{ print $2 }' "$W/$node/watch.b" | sort | uniq -c | xargs)"
		wrong+=$(grep ' 2 ' "$W/$node/watch.a")$(grep ' 0 .* running' "$W/$node/watch.b")
		sees_ours_run "$node" || wrong+="$node: not all of ours run"
		grep -q ' 0 ' "$W/$node/watch.b" || touches_c "${ALL[${node#n} % NODES]}" || wrong+="$node: no off at all"
	done
	same "$wrong" ""
}
refused_from_both() {
	local node
	for node in "${OURS[@]}"; do refused "$node" "$(beyond "$node")" || return; done
}
split_refused() { split && refused_from_both; }
mended() { # ASKER OWNER...
	local owner
	mend && restart_c || return
	for owner in "${@:2}"; do both_ways "$1" "$owner" || return; done
}

cable() { # NODE ASKER
	pull_cable "$1"
	within sees_nodes "$2" $((NODES - 1)) && refused "$2" "$1"
	local code=$?
	plug_cable "$1"
	within all_see "$NODES" && within sees_daemons "$2" "$NODES" && both_ways "$1" "$2" && return $code
}

stage_partition() {
	local at
	if [ -z "$FIRST" ]; then
		check "${SIDE1[*]} and ${SIDE2[*]} are split" split
		check_c "they are one cluster again: requests both ways work" mended n1 "$LAST"
		return
	fi
	[ -z "$OTHER" ] || check "the cable of $(label "$OTHER") is pulled, and plugged in" cable "$OTHER" "$FIRST"
	with_delay "${OURS[@]:1}"
	check "${SIDE1[*]} and ${SIDE2[*]} are split: no success without quorum and host_fence_delay" split_with_delay
	for node in "${OURS[@]:1}"; do restart "$node"; done
	check_c "they are one cluster again: requests both ways work" mended "$FIRST" "${OURS[@]:1}" "$LAST"
	check "they are split: VMs of the other side fail" split_refused
	check_c "they are one cluster again: requests both ways work" mended "$FIRST" "${OURS[@]:1}" "$LAST"
	for ((at = 0; at < HEALS; at++)); do
		check "split and healed: no VM that runs is ever off" heals
		restart_c
	done
}

# ----------------------------------------------------------- one VM, two nodes

SHARED=0000005a-1111-4111-8111-0000005a005a
define_shared() {
	local node
	for node; do
		domain shared $SHARED >"$W/shared.xml"
		libvirt "$node" define "$W/shared.xml" || return
	done
}
undefine_shared() {
	local node
	for node; do
		libvirt "$node" destroy shared
		libvirt "$node" undefine shared
	done
} >/dev/null 2>&1
on_two() { # ASKER NODE NODE
	local since log
	undefine_shared "$2" "$3"
	define_shared "$2" "$3" && libvirt "$2" start shared && within ask "$1" status shared 2 &&
		libvirt "$3" start shared && gets 0 "$1" status shared || return
	gets 0 "$1" list none && same "$(grep -c "^shared .*$SHARED" <<<"$out")" 1 || return
	since=$(lines "$W/events") log=$(lines "$W/$1/daemon.log")
	gets 0 "$1" off shared 20 && events_are "$since" "$2 shared Stopped $3 shared Stopped" && gets 2 "$1" status shared &&
		gets 1 "$1" on shared && events_are "$since" "$2 shared Stopped $3 shared Stopped" || return
	try tail -n "+$((log + 1))" "$W/$1/daemon.log"
	grep shared <<<"$out" | grep -E "\b($2|$(id "$2"))\b" | grep -qE "\b($3|$(id "$3"))\b" || { echo "it does not name them"; return 1; }
	libvirt "$3" start shared && gets 0 "$1" status shared || return
	since=$(lines "$W/events")
	gets 0 "$1" reboot shared 20 && events_are "$since" "$3 shared Stopped $3 shared Started"
}
# With a C daemon, which may not learn of the second copy: no success while one runs.
on_two_in_doubt() { # ASKER NODE NODE
	local code
	undefine_shared "$2" "$3"
	define_shared "$2" "$3" && libvirt "$2" start shared && within ask "$1" status shared 2 && libvirt "$3" start shared || return
	try ask "$1" off shared 20
	code=$?
	libvirt "$2" domstate shared && libvirt "$3" domstate shared
	[ $code != 0 ] || { ! runs "$2" shared && ! runs "$3" shared; }
}
stage_same() {
	[ -n "$OTHER" ] || return 0
	local asker=${OURS[1]}
	[ "$asker" != "$OTHER" ] || asker=$FIRST
	check "one VM on $(label "$FIRST") and $(label "$OTHER"), asked at $asker: every copy counts" on_two "$asker" "$FIRST" "$OTHER"
	undefine_shared "$FIRST" "$OTHER"
	[ ${#THEIRS[@]} != 0 ] || return 0
	check "one VM on $(label "${THEIRS[0]}") and $(label "$OTHER"): no false success" on_two_in_doubt "$FIRST" "${THEIRS[0]}" "$OTHER"
	undefine_shared "${THEIRS[0]}" "$OTHER"
}

# ------------------------------------------------- a hostile member of the group

# memory NODE - resident memory of its daemon in KiB.
memory() { in_node "$1" sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$(pid_of "$1" daemon)/status"; }
# zeros COUNT - COUNT bytes in hex.
zeros() { printf '%0*d' $(($1 * 2)) 0; }
# anything VM UUID - hostile messages, except that the sender claims no VM.
anything() {
	local type length
	for length in 1 4 15 16 155 157 4096 200000; do echo "raw $(zeros $length)"; done
	# Each type, ours included: without a name, without its end, with the largest numbers.
	for type in 00000000 01000000 02000000 03000000 01005646 02005646 03005646 04005646 05005646 06005646 07005646 08005646 ffffffff; do
		echo "raw $type$(zeros 152)"
		echo "raw $type$(printf 'f%.0s' $(seq 304))"
		echo "raw $type$(printf '61%.0s' $(seq 152))"
	done
	# Other nodes' VMs, replies to possible requests, a flood of requests.
	echo "store $1 $2 5 1"
	echo "gone $1 $2 1"
	for number in $(seq 50); do echo "reply 1 $number 0 $1 off"; done
	echo "flood 200 03005646$(zeros 152)"
	echo "flood 5000 00000000$(zeros 4)ffffffff$(zeros 144)"
	echo "random 5000 $RANDOM"
	echo quit
}
# has_suppressed NODE SINCE MEMBER - its log reports thousands of suppressed lines.
# The next logged line has their number.
has_suppressed() {
	printf '%s\n' "raw 00" quit | in_node "$3" "$GROUP_MEMBER" >/dev/null
	tail -n "+$(($2 + 1))" "$W/$1/daemon.log" | grep -q 'malformed message from .*([0-9]\{4,\} similar lines suppressed)'
}
survives() { # NODE MEMBER'S
	local node vm since before=() after
	local -A log
	since=$(lines "$W/events") vm=$(vm "$1")
	for node in "${OURS[@]}"; do before+=("$(memory "$node")") log[$node]=$(lines "$W/$node/daemon.log"); done
	anything "$vm" "$(uuid "$vm")" | in_node "$2" timeout $((LIMIT * 2)) "$GROUP_MEMBER" | tail -n 1
	[ "${PIPESTATUS[1]}" = 0 ] || { echo "the member has failed"; return 1; }
	for node in "${OURS[@]}"; do
		! has_ended "$node" daemon || { echo "the daemon of $node has ended"; return 1; }
		within has_suppressed "$node" "${log[$node]}" "$2" || return
		after=$(memory "$node")
		echo "$node: ${before[0]} KiB, then $after"
		[ "$after" -lt $((before[0] + 16384)) ] || { echo "it has grown"; return 1; }
		before=("${before[@]:1}")
		gets 0 "$node" status "$vm" 20 || return
	done
	events_are "$since" "" && both_ways "$1" "$2"
}
# C daemons read past the end of a short message.
stage_member() {
	[ ${#THEIRS[@]} = 0 ] || return 0
	check "a member that says anything: nothing comes of it" survives "$FIRST" "$LAST"
}
