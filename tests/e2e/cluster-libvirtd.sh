# Checks of cluster.sh with a libvirtd that is frozen (SIGSTOP). The VMs of its test driver
# cannot change then, so an off that succeeds before the end of the freeze is false.
# shellcheck shell=bash

# VMs that are asked for once each: about the moment of the freeze, and during it.
ABOUT=(extra{1..8}) DURING=(extra{11..16})
EXTRA=("${ABOUT[@]}" "${DURING[@]}")
# Microseconds between two requests about that moment.
STEP=20000
# Milliseconds in which the VM of another host is fenced.
PROMPT=2000

define_extra() { # NODE
	local vm files=()
	for vm in "${EXTRA[@]}"; do
		files+=("$W/$1/$vm.xml")
		domain "$vm" "$(printf '000000e0-1111-4111-8111-%012d' "${vm#extra}")" >"$W/$1/$vm.xml"
	done
	on_each "$1" define "${files[@]}" && on_each "$1" start "${EXTRA[@]}"
}
undefine_extra() { # NODE
	on_each "$1" destroy "${EXTRA[@]}"
	on_each "$1" undefine "${EXTRA[@]}"
} 2>/dev/null

# ------------------------------------------------------------------- requests

# asks NODE OPERATION VM OWNER - a line of `asked` has the times of request and answer, the exit code, the VM, its
# state then ("-" if libvirtd does not say), and what the agent said.
asks() {
	local begin=${EPOCHREALTIME/./} end code said state
	said=$(ask "$1" "$2" "$3" 30 2>&1)
	code=$?
	end=${EPOCHREALTIME/./}
	state=$(timeout 1 virsh -q -c "$(cat "$W/$4/uri")" domstate "$3" 2>/dev/null)
	state=${state// /-}
	echo "$begin $end $code $3 ${state:--} $2 at $1: $said" >>"$W/asked"
	return $code
}
# keeps_asking NODE VM OWNER END - until off succeeds, or END is over.
keeps_asking() {
	until asks "$1" off "$2" "$3" || [ "${EPOCHREALTIME/./}" -gt "$4" ]; do sleep 0.2; done
}
# asks_about_stop ASKER OWNER and asks_until_thaw ASKER OWNER - they start the requests, whose processes are in
# `jobs`; that moment is $stop, the end of the freeze $thaw.
asks_about_stop() {
	local vm moment=$((stop - STEP * (${#ABOUT[@]} - 1)))
	for vm in "${ABOUT[@]}"; do
		at $moment asks "$1" off "$vm" "$2" &
		jobs+=($!)
		moment=$((moment + STEP))
	done
}
asks_until_thaw() {
	local index askers=("$1" "$2") operations=(reboot off off)
	keeps_asking "$1" "$(vm "$2" a)" "$2" $((thaw + LIMIT * 1000000)) &
	jobs+=($!)
	keeps_asking "$2" "$(vm "$2" b)" "$2" $((thaw + LIMIT * 1000000)) &
	jobs+=($!)
	for index in "${!DURING[@]}"; do
		at $((stop + (thaw - stop) * index / ${#DURING[@]} + STEP)) \
			asks "${askers[index % 2]}" "${operations[index % 3]}" "${DURING[index]}" "$2" &
		jobs+=($!)
	done
}

# others_are_prompt ASKER OWNER - VMs of the other hosts are fenced at once until $thaw. Before a start all hosts may
# be asked to look for the VM, which a host whose libvirtd is frozen does not answer.
others_are_prompt() {
	local node
	while [ "${EPOCHREALTIME/./}" -lt "$thaw" ]; do
		for node in "${OURS[@]}"; do
			[ "$node" != "$2" ] || continue
			gets 0 "$1" off "$(vm "$node" b)" 20 || return
			# shellcheck disable=SC2154 # `try` sets it
			[ "$took" -lt $PROMPT ] || { echo "not within $PROMPT ms"; return 1; }
			gets 0 "$1" on "$(vm "$node" b)" 20 || return
		done
		sleep 0.5
	done
}

# -------------------------------------------------------------------- answers

# was_stopped VM FROM TO - lines of `events` in this range have its end.
was_stopped() { sed -n "$2,$3p" "$W/events" | grep -q " $1 Stopped"; }
# was_refused VM
was_refused() { grep -q "^[0-9]* [0-9]* 1 $1 " "$W/asked"; }

# is_right BEGIN END CODE VM STATE TEXT - judges one answer. Events since the freeze begin at line $since of `events`,
# those before its end are up to line $until.
is_right() {
	if [ "$3" != 0 ]; then
		# That of the daemon, in time. Nothing is done for it later; but libvirtd may have had the destroy before it
		# was frozen, and vm... are asked for again.
		[[ $6 = *"the daemon answered failure"* ]] &&
			{ [ "$1" -lt "$stop" ] || [[ $4 = vm* ]] || ! was_stopped "$4" "$since" '$'; }
	elif [ "$2" -lt "$thaw" ]; then
		# Only the end of the VM before the freeze makes that true.
		[ "$1" -lt "$stop" ] && was_stopped "$4" "$since" "$until"
	else
		was_stopped "$4" "$since" '$' && [[ $5 = shut-off || $6 = reboot* ]]
	fi
}
all_right() {
	local begin end code vm state text wrong=0
	while read -r begin end code vm state text; do
		is_right "$begin" "$end" "$code" "$vm" "$state" "$text" || { wrong=$((wrong + 1)) && echo "WRONG:"; }
		echo "$vm asked at $(((begin - stop) / 1000)) ms, answered $code at $(((end - stop) / 1000)) ms, $state, $text"
	done <"$W/asked"
	[ $wrong = 0 ]
}
# says_why ASKER OWNER SINCE SINCE - their logs do, after so many lines of each.
says_why() {
	local vm
	vm=$(vm "$2")
	has_logged "$1" "$3" "off \"$vm\": failure: node $(id "$2") " &&
		has_logged "$2" "$4" "cpg: node $(id "$1"): off " "failure: " "$(cat "$W/$2/uri")"
}

# frozen SECONDS ASKER OWNER - with "+" after the seconds, power-offs are in progress when it begins. If libvirtd had
# a destroy by then, its outcome is unknown: it contests requests of others until 20 s after its failure.
frozen() {
	local jobs=() logs job since until stop thaw code=0
	define_extra "$3" && within ask "$2" status "${DURING[-1]}" 2 && settle || return
	: >"$W/asked"
	since=$(($(lines "$W/events") + 1))
	logs=("$(lines "$W/$2/daemon.log")" "$(lines "$W/$3/daemon.log")")
	stop=$((${EPOCHREALTIME/./} + 500000))
	[[ $1 != *+ ]] || asks_about_stop "$2" "$3"
	at $stop signal "$3" libvirtd STOP
	stop=${EPOCHREALTIME/./} thaw=$((${EPOCHREALTIME/./} + ${1%+} * 1000000))
	asks_until_thaw "$2" "$3"
	others_are_prompt "$2" "$3" || code=1
	at $thaw true
	until=$(lines "$W/events") thaw=${EPOCHREALTIME/./}
	signal "$3" libvirtd CONT
	for job in "${jobs[@]}"; do wait "$job"; done
	all_run && both_ways "$2" "$3" || code=1
	sleep 2 # what comes late would be wrong as well
	settle && all_right || code=1
	! was_refused "$(vm "$3")" || says_why "$2" "$3" "${logs[@]}" || code=1
	undefine_extra "$3"
	return $code
}

stage_libvirtd() {
	[ -n "$OTHER" ] || return 0
	local seconds amid
	for seconds in $FREEZES; do
		amid=""
		[[ $seconds != *+ ]] || amid=" amid power-offs"
		check "the libvirtd of $(label "$OTHER") is frozen for ${seconds%+} s$amid: no false success, nothing late, VMs of others are fenced at once" \
			frozen "$seconds" "$FIRST" "$OTHER"
	done
}
