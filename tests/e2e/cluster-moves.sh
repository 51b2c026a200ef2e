# Checks of cluster.sh with a cut that moves: one host is cut off, then another one, then the first one, while VMs
# move and run where they are cut off; or one link is cut, then another one. No host is fenced, so no VM counts as
# off while it runs.
# shellcheck shell=bash

# What differs from round to round; each list is taken in turn.
# Milliseconds from one cut to the next; "seen" is until the hosts and their daemons know it.
DWELLS=(seen seen seen 1200 2500 300 seen 1700 900 seen 3500)
# Milliseconds from the end of a cut to the next one; negative: the next one comes first.
GAPS=(0 150 -150 600 -1500)
# Milliseconds from a cut to the first request for a VM; each VM has another one.
MOMENTS=(0 1300 -100 250)

# VMs that n1 and n2 have: two move from n1 to n2, two back. The host that asks for each.
declare -A ASKER_OF=([mover1]=n1 [mover2]=n3 [mover3]=n2 [mover4]=n3)
THERE=(mover1 mover2) BACK=(mover3 mover4)

define_movers() {
	local vm files=()
	for vm in "${THERE[@]}" "${BACK[@]}"; do
		files+=("$W/$vm.xml")
		domain "$vm" "000000d0-1111-4111-8111-00000000000${vm#mover}" >"$W/$vm.xml"
	done
	on_each n1 define "${files[@]}" && on_each n2 define "${files[@]}"
}
undefine_movers() {
	local node
	for node in n1 n2; do
		on_each $node destroy "${THERE[@]}" "${BACK[@]}"
		on_each $node undefine "${THERE[@]}" "${BACK[@]}"
	done
} 2>/dev/null

# finds_on NODE VM... - its daemon finds that they run.
finds_on() {
	local vm
	for vm in "${@:2}"; do ask "$1" status "$vm" 2 || return; done
} >/dev/null 2>&1
all_find_on() { # VM...
	local node
	for node in n1 n2 n3; do within finds_on $node "$@" || return; done
}
# move_all FROM TO VM... - as by a migration: it runs there before it is off here. In every other round it is no more
# defined here then. Both hosts know it at the end.
move_all() {
	on_each "$2" start "${@:3}" && on_each "$1" destroy "${@:3}" || return
	[ $((round % 2)) = 0 ] || on_each "$1" undefine "${@:3}" || return
	within finds_on "$1" "${@:3}" && within finds_on "$2" "${@:3}"
}

# fences VM - asks for off and status until off succeeds. A line of `answers` has the times, the operation, the exit
# code, and libvirt's states at n1 and n2 at the answer. Nobody else asks for this VM.
fences() {
	local code=1
	while [ $code != 0 ] && [ -e "$W/watching" ]; do
		asks_mover "$1" off 30
		code=$?
		asks_mover "$1" status 2
		sleep 0.2
	done
}
asks_mover() { # VM OPERATION SECONDS
	local begin=${EPOCHREALTIME/./} code end
	ask "${ASKER_OF[$1]}" "$2" "$1" "$3" >/dev/null 2>&1
	code=$?
	end=${EPOCHREALTIME/./}
	echo "$begin $end $2 of $1 at ${ASKER_OF[$1]}: $code $(state_at n1 "$1"), $(state_at n2 "$1")" >>"$W/answers"
	return $code
}
state_at() { libvirt "$1" domstate "$2" 2>/dev/null; } # NODE VM
all_fenced() { [ "$(grep -c ' off of .*: 0 ' "$W/answers")" = $((${#THERE[@]} + ${#BACK[@]})) ]; }
false_successes() { grep -E '(off of .*: 0|status of .*: 2) .*running' "$W/answers"; }

# ----------------------------------------------------------------------- cuts

# cut_begins CUT, cut_ends CUT - of a host, as n2, or of a link, as n2-n3.
cut_begins() {
	case $1 in
	*-*) isolate on "${1%-*}" "${1#*-}" ;;
	*) part "$1" ;;
	esac
}
cut_ends() {
	case $1 in
	*-*) isolate off "${1%-*}" "${1#*-}" ;;
	*) ip link set "p${1#n}" master br0 ;;
	esac
}
# isolate on|off NODE NODE - they do not reach each other, but all others.
isolate() { bridge link set dev "p${2#n}" isolated "$1" && bridge link set dev "p${3#n}" isolated "$1"; }

# cut_moves_to OLD NEW VM... - the cut moves, and requests for these VMs begin.
cut_moves_to() {
	local vm moment change gap=$((${GAPS[round % ${#GAPS[@]}]} * 1000))
	# Two links have a host in common, so the old cut ends first.
	[[ $2 != *-* ]] || gap=${gap#-}
	change=$((${EPOCHREALTIME/./} + 200000 + ${gap#-}))
	for vm in "${@:3}"; do
		moment=$((${MOMENTS[(round + ${vm#mover}) % ${#MOMENTS[@]}]} * 1000))
		at $((change + moment)) fences "$vm" &
		jobs+=($!)
	done
	[ "$gap" -lt 0 ] || at $((change - gap)) cut_ends "$1"
	at "$change" cut_begins "$2"
	[ "$gap" -ge 0 ] || at $((change - gap)) cut_ends "$1"
	echo "$(date +%T.%3N) the cut has moved from $1 to $2"
}

# sees_all_but NODE ABSENT - all others are in the group, as NODE sees it.
sees_all_but() {
	sees_daemons "$1" $((NODES - 1)) && ! in_node "$1" timeout 2 corosync-cpgtool | grep -qF "($(address "$2"))"
}
# dwell WHICH COMMAND... - as long as the round says; if that is "seen", until COMMAND.
dwell() {
	local ms=${DWELLS[(3 * round + $1) % ${#DWELLS[@]}]}
	echo "$(date +%T.%3N) until the next cut: $ms"
	if [ "$ms" = seen ]; then within "${@:2}"; else sleep "$(seconds "$ms")"; fi
}

# --------------------------------------------------------------------- rounds

hosts_are_cut() {
	cut_begins n3
	dwell 0 sees_all_but n1 n3 && move_all n1 n2 "${THERE[@]}" && move_all n2 n1 "${BACK[@]}" || return
	cut_moves_to n3 n2 "${THERE[@]}"
	dwell 1 sees_all_but n1 n2
	cut_moves_to n2 n1 "${BACK[@]}"
	dwell 2 sees_all_but n2 n1
	cut_ends n1
}
# Two hosts that do not reach each other form clusters with the others by turns.
links_are_cut() {
	move_all n1 n2 "${THERE[@]}" && move_all n2 n1 "${BACK[@]}" && all_find_on "${THERE[@]}" "${BACK[@]}" || return
	cut_moves_to n1-n2 n2-n3 "${THERE[@]}"
	dwell 0 sees_daemons n1 $((NODES - 1))
	cut_moves_to n2-n3 n1-n3 "${BACK[@]}"
	dwell 1 sees_daemons n2 $((NODES - 1))
	cut_moves_to n1-n3 n1-n2
	dwell 2 sees_daemons n3 $((NODES - 1))
	cut_ends n1-n2
}
# begins - where the VMs run at the beginning of a round.
begins() {
	define_movers && on_each n1 start "${THERE[@]}" && on_each n2 start "${BACK[@]}" &&
		all_find_on "${THERE[@]}" "${BACK[@]}"
}
# round_of ROUND WHICH - hosts_are_cut or links_are_cut, then all are together again.
round_of() {
	local round=$1 jobs=() job code=0
	: >"$W/answers"
	touch "$W/watching"
	begins && "$2" || code=1
	mend && within all_fenced || code=1
	rm "$W/watching"
	for job in "${jobs[@]}"; do wait "$job"; done
	undefine_movers
	cat "$W/answers"
	# In other rounds the hosts may be one cluster whenever they are asked.
	[ "$2 $round" != "hosts_are_cut 0" ] || grep -q ': 1 ' "$W/answers" || { echo "no request has met the cut"; code=1; }
	same "$(false_successes)" "" && return $code
}

stage_moves() {
	[ ${#THEIRS[@]} = 0 ] || return 0
	local at
	for ((at = 0; at < CUTS; at++)); do
		if [ $((at % 2)) = 0 ]; then
			check "the cut moves from n3 to n2 to n1: no VM that runs is ever off" round_of $((at / 2)) hosts_are_cut
		elif [ "$NODES" = 3 ]; then
			# Of eight hosts on a busy machine, corosync may not make one cluster again within LIMIT.
			check "the cut moves between the links of n1, n2, n3: no VM that runs is ever off" round_of $((at / 2)) links_are_cut
		fi
	done
}
