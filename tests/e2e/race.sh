#!/bin/bash
# Guests that power each other off at the same moment, with a real libvirtd and real
# QEMU guests: of two exactly one may go down, over tcp, multicast and serial lines, by
# our agent and by the C agent. A ring of three: the one whose fencer went down first lives.
#
#   FENCE_VIRT=  our agent     (target/debug/fence_virt of this project)
#   THEIRS=      C agent       (/usr/sbin/fence_virt)
#   DAEMON=      daemon        (target/debug/fence_virtd of this project)
#   ROUNDS=      rounds of each agent and transport (3)
#   KEEP=1       keeps the work directory, with all logs
#   LIMIT=       timeout of each wait in seconds (60)
#
# The guests boot once and are saved; before each round those that are off are restored.
# race-lab.sh makes them. When this script ends, or is killed, every process ends with it.
#
# One line a check, then `N passed, M failed`; 77 if something is missing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/guest.sh"
. "$here/inside.sh"
C_DAEMON=/usr/sbin/fence_virtd
DAEMON=$(realpath -m "${DAEMON:-$here/../../target/debug/fence_virtd}")
LIMIT=${LIMIT:-60}
ROUNDS=${ROUNDS:-3}
CHECKS=21
[ "$DAEMON" != "$C_DAEMON" ] || CHECKS=15 # it has no log of requests

# ------------------------------------------------- outside of the namespaces

if [ -z "${RACE_INNER:-}" ]; then
	needs libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 ss:iproute2
	unshare --net --mount --pid --ipc --fork --kill-child --mount-proc ip link add br0 type bridge 2>/dev/null ||
		skip "it may not make namespaces and bridges here"
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
	THEIRS=$(realpath -m "${THEIRS:-/usr/sbin/fence_virt}")
	[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
	[ -x "$THEIRS" ] || skip "no $THEIRS (package fence-virt)"
	[ -x "$DAEMON" ] || skip "no $DAEMON (cargo build)"
	guest_fetch
	W=$(mktemp -d -t fence-race.XXXXXX) || exit 1
	export FENCE_VIRT THEIRS DAEMON W ROUNDS LIMIT RACE_INNER=1
	run_inside "$here/race.sh"
fi

# --------------------------------------- inside: this shell is the host itself

. "$here/checking.sh"
. "$here/race-lab.sh"

# Milliseconds between the begins of two guests, by round.
OFFSETS=(0 2 5 0 10 20 1 40 3 80)

# -------------------------------------------------------------- two guests

# contest ROUND ACTION SLOW - one asks for the other one to be switched off, and the other
# one at the same moment for that action. If SLOW is 1, libvirtd stands still until both
# requests are in, 1 s at most: its connections take more than that for a failure.
contest() {
	restored a b
	first=a second=b
	[ $(($1 % 2)) = 0 ] || first=b second=a
	log=$(lines "$W/daemon.log")
	[ "$3" = 0 ] || kill -STOP "$libvirtd"
	together "${OFFSETS[$1 % ${#OFFSETS[@]}]}" "$first" "fence $agent $way off $second" "$second" "fence $agent $way $2 $first"
	[ "$3" = 0 ] || { until_true 1 are_in a b; kill -CONT "$libvirtd"; }
	ended "$log" a b
}

# Both agents run as in a real contest, but one of them asks for a status.
quiet_round() { # ROUND
	local first second log
	contest "$1" status 0
	[ "$(code_of $first)" = 0 ] && is_off $second || wrong+=("round $1: $first alone: $(answer_of $first)")
	quiet+=("$(time_of $first)")
}

# Both ask for the other one to be switched off.
round() { # ROUND SLOW
	local first second log dead= alive=a reason
	contest "$1" off "$2"
	! is_off a || dead=a alive=b
	! is_off b || dead+=b
	case $dead in
	ab) both=$((both + 1)) && wrong+=("round $1: both are off") && return ;;
	"") none=$((none + 1)) && wrong+=("round $1: none is off: a: $(answer_of a), b: $(answer_of b)") && return ;;
	esac
	one=$((one + 1))
	[ "$2" = 1 ] || contested+=("$(time_of $alive)")
	[ "$(code_of $alive)" = 0 ] || wrong+=("round $1: $alive survived: $(answer_of $alive)")
	# None if that one was off before it could ask.
	reason=$(request_of $dead "$log")
	[ -z "$reason" ] || reasons+=("$reason")
}
# With a slow libvirtd, again unless both requests were in.
slow_round() { # ROUND
	local try before=$((${#reasons[@]} + both))
	for try in 1 2 3 4 5; do
		round "$1" 1
		[ "$DAEMON" != "$C_DAEMON" ] && [ $((${#reasons[@]} + both)) = $before ] || return
	done
}

contests() { # AGENT WAY
	local agent=$1 way=$2 at one=0 both=0 none=0 what="$1 over $2"
	local quiet=() contested=() wrong=() reasons=()
	for ((at = 0; at < ROUNDS; at++)); do
		quiet_round $at
		round $at 0
		[ $((at % 2)) = 0 ] || slow_round $at
	done
	echo "     $what: one off in $one rounds, both in $both, none in $none;" \
		"${#reasons[@]} requests failed; the success of the other: $(summary "${contested[@]}"), uncontested $(summary "${quiet[@]}")"
	check "$what: exactly one of two goes down, and the agent of the other one succeeds" nothing "${wrong[@]}"
	check "$what: that takes no longer than without the contest" as_fast
	[ "$DAEMON" = "$C_DAEMON" ] || check "$what: the log says why the other request failed" explained
}
nothing() { [ $# = 0 ] || { printf '%s\n' "$@"; return 1; }; }
median() { printf '%s\n' "$@" | sort -n | awk '{ all[NR] = $1 } END { print 0 + all[int((NR + 1) / 2)] }'; }
summary() { echo "median $(median "$@") ms, maximum $(printf '%s\n' 0 "$@" | sort -n | tail -n 1) ms"; }
# Its median is at most 1.2 times the other one and 0.1 s.
as_fast() {
	[ ${#contested[@]} != 0 ] || { echo "nobody survived"; return 1; }
	[ $(($(median "${contested[@]}") * 10)) -le $(($(median "${quiet[@]}") * 12 + 1000)) ] ||
		{ echo "${contested[*]} ms, uncontested ${quiet[*]} ms"; return 1; }
}
explained() {
	[ ${#reasons[@]} != 0 ] || { echo "in no round both had asked"; return 1; }
	! printf '%s\n' "${reasons[@]}" | grep -vE '^$|failure: .*(may have been fenced itself|hung up)'
}

# ------------------------------------------------------------ three guests

# a, b and c: each asks for the next one to be switched off. The first to go down cannot
# fence any more, so its victim lives, and fences the one that was first to fence.
ring_round() { # ROUND
	local -A next=([a]=b [b]=c [c]=a)
	local guest alive="" log events order
	restored a b c
	log=$(lines "$W/daemon.log") events=$(lines "$W/events")
	kill -STOP "$libvirtd"
	together "${OFFSETS[$1 % ${#OFFSETS[@]}]}" a "fence $agent $way off b" b "fence $agent $way off c" c "fence $agent $way off a"
	until_true 1 are_in a b c
	kill -CONT "$libvirtd"
	ended "$log" a b c
	for guest in a b c; do is_off $guest || alive+=$guest; done
	order=$(tail -n "+$((events + 1))" "$W/events" | sed -n "s/.* '\([abc]\)': Stopped.*/\1/p" | xargs)
	[ ${#alive} = 1 ] || { wrong+=("round $1: alive: '$alive', off, in this order: $order"); return; }
	fenced_in_time $alive || wrong+=("round $1: $alive lives, off, in this order: $order")
	[ "$(code_of $alive)" = 0 ] || wrong+=("round $1: $alive survived: $(answer_of $alive)")
}
# fenced_in_time ALIVE - its victim was off only after the victim of that one; or our daemon
# was fencing both at once, as it may if it knows the VMs of all callers.
fenced_in_time() {
	local first=${next[$1]} begun ended
	[ "$order" = "${next[$first]} $first" ] && return
	begun=$(grep -n "off \"${next[$first]}\": begun for \($first (\|${ADDRESS[$first]}\)" "$W/daemon.log" | tail -n 1 | cut -d : -f 1)
	ended=$(grep -n "off \"$first\": success" "$W/daemon.log" | tail -n 1 | cut -d : -f 1)
	[ "${begun:-0}" -gt "$log" ] && [ "$begun" -lt "${ended:-0}" ]
}
rings() { # AGENT WAY
	local agent=$1 way=$2 at wrong=()
	for ((at = 0; at < (ROUNDS + 2) / 3; at++)); do ring_round $at; done
	check "a ring of three, $1 over $2: who was fenced before has fenced nobody" nothing "${wrong[@]}"
}

private_host
make_initramfs || exit 1
start_libvirtd
define_guests || exit 1
watch_events
start_daemons
save_guests
for way in tcp multicast serial; do
	for agent in theirs ours; do contests $agent $way; done
done
rings theirs tcp
rings ours multicast
rings ours serial
finish
