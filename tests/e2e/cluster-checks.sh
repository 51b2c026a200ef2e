# Checks of cluster.sh while corosync works.
# shellcheck shell=bash

OURS=() THEIRS=()
for node in "${ALL[@]}"; do
	if is_ours "$node"; then OURS+=("$node"); else THEIRS+=("$node"); fi
done
# First and last node of ours: requester and owner. Empty if there is none.
FIRST=${OURS[0]:-} OTHER=""
[ ${#OURS[@]} -lt 2 ] || OTHER=${OURS[-1]}

vm() { echo "vm${1#n}${2:-a}"; } # NODE [WHICH]

# at_once COMMAND... - its last `try` ends long before the deadline.
at_once() {
	"$@" || return
	[ "$took" -lt 10000 ] || { echo "that is not at once"; return 1; }
}
# seconds MILLISECONDS - as `sleep` takes them.
seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
# at MICROSECONDS COMMAND... - runs it then, by EPOCHREALTIME.
at() {
	local left=$((($1 - ${EPOCHREALTIME/./}) / 1000))
	[ $left -le 0 ] || sleep "$(seconds $left)"
	"${@:2}"
}
# events_are SINCE TEXT
events_are() {
	local events
	events=$(events "$1")
	same "$events" "$2"
}
# works ASKER OWNER - off and on of a VM of OWNER, each exactly once.
works() {
	local since vm
	since=$(lines "$W/events") vm=$(vm "$2" b)
	gets 0 "$1" off "$vm" && gets 2 "$1" status "$vm" && gets 0 "$1" on "$vm" && gets 0 "$1" status "$vm" &&
		events_are "$since" "$2 $vm Stopped $2 $vm Started"
}
# works_again ASKER OWNER - as works, after the requester knows the VM.
works_again() {
	within ask "$1" status "$(vm "$2" b)" 2 && works "$1" "$2"
}
both_ways() { works_again "$1" "$2" && works_again "$2" "$1"; }

# ------------------------------------------------------------------- requests

# all_operations ASKER OWNER
all_operations() {
	local vm since
	vm=$(vm "$2") since=$(lines "$W/events")
	gets 0 "$1" status "$vm" && says "Status: ON" &&
		gets 0 "$1" off "$vm" && gets 2 "$1" status "$vm" && says "Status: OFF" &&
		gets 0 "$1" off "$vm" && gets 0 "$1" reboot "$vm" &&
		events_are "$since" "$2 $vm Stopped" &&
		gets 0 "$1" on "$vm" && gets 0 "$1" on "$vm" && gets 0 "$1" status "$vm" &&
		gets 0 "$1" reboot "$vm" && gets 0 "$1" status "$vm" && gets 2 "$1" status "$(vm "$2" off)" &&
		events_are "$since" "$2 $vm Stopped $2 $vm Started $2 $vm Stopped $2 $vm Started"
}

rows() { # NODE...
	local node vm state
	for node; do
		for vm in "$(vm "$node" a)" "$(vm "$node" b)" "$(vm "$node" off)"; do
			state=on
			[[ $vm != *off ]] || state=off
			echo "$vm $(uuid "$vm") $state"
		done
	done | sort
}
# lists ASKER OWNER... - lists the owners' VMs, each once.
lists() {
	gets 0 "$1" list none && same "$(awk '{ print $1, $2, $3 }' <<<"$out" | sort)" "$(rows "${@:2}")"
}

# doctor_sees NODE - reports quorum and group, and changes nothing.
doctor_sees() {
	local group
	try in_node "$1" "$FENCE_VIRTD" --doctor -f "$W/$1/fence_virt.conf" -p /run/daemon.pid
	echo "$out"
	group=$(grep '^ok .* members of group fence-agents: ' <<<"$out") && says "quorate with nodes" &&
		same "$(grep -o 'node [0-9]* (process' <<<"$group" | sort -u | wc -l)" "$NODES" && sees_daemons "$1" "$NODES"
}

# history_of ASKER OWNER - both have an off of OWNER's VM in their histories: the one as its client's, the other as
# done for ASKER.
history_of() {
	try in_node "$1" "$FENCE_VIRTD" --history --json -f "$W/$1/fence_virt.conf" && echo "$out" &&
		says "\"listener\":\"tcp\",\"requester\":\"127.0.0.1\",\"operation\":\"off\",\"vm\":\"$(vm "$2")\",\"verdict\":\"success\"" || return
	try in_node "$2" "$FENCE_VIRTD" --history --json -f "$W/$2/fence_virt.conf" && echo "$out" &&
		says "\"listener\":\"cpg\",\"requester\":\"node $(id "$1")\",\"operation\":\"off\",\"vm\":"
}

stage_requests() {
	local at asker owner
	for at in "${!ALL[@]}"; do
		asker=${ALL[at]}
		# With many nodes: the node itself, its neighbours and the last one only.
		for owner in "${ALL[@]}"; do
			case $NODES:$(((${owner#n} - ${asker#n} + NODES) % NODES)) in
			3:* | *:[012]) ;;
			*) [ "$owner" = "$LAST" ] || continue ;;
			esac
			check_c "$(label "$asker") asks for a VM of $(label "$owner"): every operation" all_operations "$asker" "$owner"
		done
	done
	for asker in "${ALL[@]}"; do
		if is_ours "$asker"; then
			check "$(label "$asker") lists the VMs of all nodes, each once" lists "$asker" "${ALL[@]}"
		else
			check_c "$(label "$asker") lists its own VMs" lists "$asker" "$asker"
		fi
		check_c "$(label "$asker") is well: monitor" gets 0 "$asker" monitor none
	done
	for asker in "${OURS[@]}"; do
		check "$(label "$asker"): --doctor sees quorum and group, and joins neither" doctor_sees "$asker"
		for owner in "${OURS[@]}"; do
			[ "$owner" = "$asker" ] || [ "$NODES" != 3 ] ||
				check "an off is in the histories of $(label "$asker"), which asked, and $(label "$owner"), which did it" history_of "$asker" "$owner"
		done
	done
}

# --------------------------------------------------------------- unknown VMs

unknown_fails() {
	local since
	since=$(lines "$W/events")
	gets 1 "$1" off nosuch && gets 1 "$1" reboot nosuch && gets 1 "$1" on nosuch && ! gets 0 "$1" status nosuch &&
		events_are "$since" ""
}
unknown_is_off() {
	gets 0 "$1" off nosuch && gets 0 "$1" reboot nosuch && gets 2 "$1" status nosuch && gets 1 "$1" on nosuch
}
with_unknown_off() { restart "$1" 'unknown_vm = "off";' && unknown_is_off "$1" && works "$1" "$2" && restart "$1" && works_again "$1" "$2"; }

stage_unknown() {
	local asker
	for asker in "${OURS[@]}"; do check "$(label "$asker"): a VM that nobody knows fails" unknown_fails "$asker"; done
	[ -z "$FIRST" ] || check "$(label "$FIRST") with unknown_vm = \"off\": a VM that nobody knows is off" \
		with_unknown_off "$FIRST" "$LAST"
	# The node with the highest id answers C daemons.
	is_ours "$LAST" || for asker in "${THEIRS[@]}"; do
		check_c "$(label "$asker"): a VM that nobody knows is off" unknown_is_off "$asker"
	done
}

# ------------------------------------------------------------ frozen daemons

# Freezes a daemon and sends a request for one of its VMs, which is pending
# during the following checks.
freeze() { # ASKER OWNER
	signal "$2" daemon STOP
	late_since=$(lines "$W/events")
	gets 1 "$1" off "$(vm "$2")" 40 >"$W/late.out" 2>&1 &
	late=$!
}
answered_at_deadline() {
	local code ms
	wait "$late"
	code=$?
	cat "$W/late.out"
	ms=$(sed -n 's/.*-> 1 after \([0-9]*\) ms/\1/p' "$W/late.out")
	[ $code = 0 ] && [ "$ms" -gt $((DEADLINE * 1000 - 1000)) ] && [ "$ms" -lt $((DEADLINE * 1000 + 3000)) ]
}
thaw() { # ASKER OWNER
	local log
	log=$(lines "$W/$2/daemon.log")
	signal "$2" daemon CONT && within answers "$2" && within ask "$1" status "$(vm "$2" b)" 2 || return
	if is_ours "$2"; then
		tail -n "+$((log + 1))" "$W/$2/daemon.log"
		events "$late_since" | grep -F "$2 $(vm "$2") Stopped" && { echo "the VM was stopped"; return 1; }
	fi
	works "$1" "$2"
}

# at_the_same_time OPERATION ASKER ASKER OWNER
at_the_same_time() {
	local job code since vm count events
	since=$(lines "$W/events") vm=$(vm "$4")
	gets 0 "$2" "$1" "$vm" 20 >"$W/other.out" 2>&1 &
	job=$!
	gets 0 "$3" "$1" "$vm" 20
	code=$?
	wait $job || code=1
	cat "$W/other.out"
	[ $code = 0 ] || return
	events=$(events "$since")
	echo "$events"
	case $1 in
	off) same "$events" "$4 $vm Stopped" && gets 2 "$2" status "$vm" ;;
	reboot) # each stop has its start
		count=$(grep -o Stopped <<<"$events" | wc -l)
		{ [ "$count" = 1 ] || [ "$count" = 2 ]; } && same "$(grep -o Started <<<"$events" | wc -l)" "$count" && runs "$4" "$vm"
		;;
	esac
}

# burst_of NODE WHICH COUNT - COUNT requests from NODE for the VMs of ASKED;
# prints each output of the agents with its count. A VM that is off at a C daemon may have moved, to the frozen node
# too: it is not asked for.
burst_of() {
	local vms=() node
	for node in "${ASKED[@]}"; do [ "$2" != off ] || is_ours "$node" || continue; vms+=("$(vm "$node" "$2")"); done
	for ((at = 0; at < $3; at++)); do echo "${vms[at % ${#vms[@]}]}"; done |
		in_node "$1" timeout $((LIMIT + BURST / 20)) xargs -P 8 -n 1 "$FENCE_VIRT" -T 127.0.0.1 -k "$W/key" -t 20 -o status -n >"$W/$1/burst.$2" 2>&1
	sort "$W/$1/burst.$2" | uniq -c | xargs
}
# burst ASKER... - concurrent bursts; half of the requests are for VMs that are off.
burst() {
	local asker which count=$((BURST / 2 / $#)) code=0
	for which in a off; do
		each "$@" -- burst_of "$which" "$count" >/dev/null
		for asker; do
			state=ON
			[ $which = a ] || state=OFF
			same "$(sort "$W/$asker/burst.$which" | uniq -c | xargs)" "$count Status: $state" || code=1
		done
	done
	return $code
}

# Checks that do not use the frozen node's VMs.
beside() { # FROZEN
	local node ASKED=() askers=() second
	for node in "${ALL[@]}"; do [ "$node" = "$1" ] || ASKED+=("$node"); done
	for node in "${OURS[@]}"; do [ "$node" = "$1" ] || askers+=("$node"); done
	check "burst of $BURST requests from ${askers[*]}" burst "${askers[@]}"
	second=${ASKED[-1]}
	for node in "${ASKED[@]}"; do
		for operation in off reboot; do
			check_c "$(label "${askers[0]}") and $(label "$second") ask at the same time: $operation of a VM of $(label "$node")" \
				at_the_same_time "$operation" "${askers[0]}" "$second" "$node"
		done
	done
}

stage_frozen() {
	[ -n "$FIRST" ] || return 0
	local frozen=${OTHER:-$LAST}
	freeze "$FIRST" "$frozen"
	beside "$frozen"
	check "the daemon of $(label "$frozen") is frozen: off fails after $DEADLINE s" answered_at_deadline
	check_c "it is thawed: nothing is done late, new requests work" thaw "$FIRST" "$frozen"
}
