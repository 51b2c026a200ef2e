#!/bin/bash
# Guests that fence each other over their serial lines and vmchannels, with a
# real libvirtd and real QEMU guests. In one of them the C agent and our agent
# send requests over both transports; two fence_virtd serve them, one for each
# transport.
#
#   FENCE_VIRT=  our agent     (target/debug/fence_virt of this project)
#   THEIRS=      C agent       (/usr/sbin/fence_virt)
#   DAEMON=      daemon        (target/debug/fence_virtd of this project)
#   STAGES=      stages to run (1 2 3 4 5 6)
#   KEEP=1       keeps the work directory, with all logs
#   LIMIT=       timeout of each wait in seconds (60)
#
#   1  all actions                  4  a guest that starts later, without permissions
#   2  the requester restarts,      5  sockets that the daemons are connected to
#      crashes, is saved and        6  the daemons end
#      restored as in a migration
#   3  libvirtd is killed
#
# The host is a set of namespaces on this machine: when this script ends, or is
# killed, every process ends with it. guests-lab.sh makes the machines.
#
# The C daemon receives no events after libvirtd was killed, so with it stage 4
# comes before stage 3. Without libvirtd it answers monitor only, with success;
# the checks of that are for our daemon only.
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
CHECKS_OF=(0 45 14 26 5 5 2) # so many are below, by stage: one that got lost is a failure
if [ "$DAEMON" = "$C_DAEMON" ]; then
	STAGES=${STAGES:-1 2 4 3 5 6}
	CHECKS_OF[3]=18 CHECKS_OF[5]=3
fi
STAGES=${STAGES:-1 2 3 4 5 6}

# ------------------------------------------------- outside of the namespaces

if [ -z "${GUESTS_INNER:-}" ]; then
	needs libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 ss:iproute2
	unshare --net --mount --pid --ipc --fork --kill-child --mount-proc mount -t tmpfs private /run 2>/dev/null ||
		skip "it may not make namespaces here"
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
	THEIRS=$(realpath -m "${THEIRS:-/usr/sbin/fence_virt}")
	[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
	[ -x "$THEIRS" ] || skip "no $THEIRS (package fence-virt)"
	[ -x "$DAEMON" ] || skip "no $DAEMON (cargo build)"
	guest_fetch
	W=$(mktemp -d -t fence-guests.XXXXXX) || exit 1
	export FENCE_VIRT THEIRS DAEMON W STAGES LIMIT GUESTS_INNER=1
	run_inside "$here/guests.sh"
fi

# --------------------------------------- inside: this shell is the host itself

passed=0 failed=0 number=0
. "$here/guests-lab.sh"

finish() {
	local stage checks=0
	for stage in $STAGES; do checks=$((checks + CHECKS_OF[stage])); done
	if [ $((passed + failed)) != $checks ]; then
		echo "FAIL there were $((passed + failed)) checks, not $checks"
		failed=$((failed + 1))
	fi
	[ $failed = 0 ] || show_logs
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	exit
}

# judge LABEL BEGIN [REASON] - a failure if there is a reason.
judge() {
	local ms=$(((${EPOCHREALTIME/./} - $2) / 1000)) verdict=ok
	[ $# = 2 ] || verdict=FAIL
	[ $# = 2 ] && passed=$((passed + 1)) || failed=$((failed + 1))
	printf '%-4s %2d.%03d s  %s\n' $verdict $((ms / 1000)) $((ms % 1000)) "$1${3:+: $3}"
}

# asks LABEL CODE REGEX COMMAND [GUEST] - runs it in the guest; REGEX matches its
# output, with the lines joined by semicolons.
asks() {
	local begin=${EPOCHREALTIME/./}
	tell "${5:-asker}" "$4"
	if [ "$code" != "$2" ]; then
		judge "$1" "$begin" "exit code $code, not $2: $text"
	elif ! grep -qE -- "$3" <<<"$text"; then
		judge "$1" "$begin" "it says '$text', not '$3'"
	else
		judge "$1" "$begin"
	fi
}

# holds LABEL COMMAND... - it succeeds; its output is the reason of a failure.
holds() {
	local label=$1 begin=${EPOCHREALTIME/./} wrong
	shift
	if wrong=$("$@" 2>&1); then judge "$label" "$begin"; else judge "$label" "$begin" "${wrong:-$*}"; fi
}
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
other_id() { # THAN
	local id
	id=$(libvirt domid victim)
	[[ $id =~ ^[0-9]+$ && $id != "$1" ]] || { echo "its id was $1 and is $id"; return 1; }
}

# in_all_ways COMMAND - runs it with $agent and $way; $ask is the requester's
# command without the action, and $says the begin of a label.
in_all_ways() {
	for agent in theirs ours; do
		for way in serial vmchannel; do
			ask="over $agent $way -t $((LIMIT / 2)) -o" says="$agent over $way"
			"$@"
		done
	done
}

row() { echo "$1 {$((33 - ${#1}))}$2 $3"; } # NAME UUID STATE
lists() { asks "$says: list${1:-}" 0 "^($A;$V|$V;$A)\$" "$ask list"; }
reboots() {
	local id
	id=$(libvirt domid victim)
	asks "$says: reboot${1:-}" 0 '^$' "$ask reboot -n victim"
	holds "$says: the victim was started anew${1:-}" other_id "$id"
}
A=$(row asker $ASKER on) V=$(row victim $VICTIM on)

# --------------------------------------------------------------- the stages

actions() {
	local before
	lists
	asks "$says: status" 0 '^Status: ON$' "$ask status -n victim"
	asks "$says: monitor" 0 '^$' "$ask monitor"
	before=$(boots victim)
	reboots
	[ "$agent $way" != "theirs serial" ] || holds "the victim boots again" until_true "$LIMIT" has_booted victim "$before"
	asks "$says: off" 0 '^$' "$ask off -n victim"
	holds "$says: the victim is shut off" state_is victim "shut off"
	asks "$says: status when it is off" 2 '^Status: OFF$' "$ask status -n victim"
	asks "$says: on" 0 '^$' "$ask on -n victim"
	holds "$says: the victim runs" state_is victim running
	asks "$says: off of a stranger is denied" 3 . "$ask off -n stranger"
}

after_restart() { asks "$says: status after the asker's restart" 0 '^Status: ON$' "$ask status -n victim"; }
asker_restarts() {
	local before
	before=$(boots asker)
	agent_is_ours >>"$W/agent"
	libvirt destroy asker
	libvirt start asker
	hold_agent
	need "the asker boots again" has_booted asker "$before"
	for way in serial vmchannel; do asks "the asker's $way line is served again" 0 '^0$' "served $way; echo $?"; done
	in_all_ways after_restart
	# A crash: its QEMU is killed.
	before=$(boots asker)
	kill -KILL "$(cat /run/libvirt/qemu/asker.pid)"
	need "libvirt sees the asker's crash" state_is asker "shut off"
	libvirt start asker
	hold_agent
	need "the asker boots after its crash" has_booted asker "$before"
	answers_again "after its crash"
	# Saved and restored, it continues in another QEMU.
	before=$(boots asker)
	libvirt managedsave asker >/dev/null
	need "the asker is saved" state_is asker "shut off"
	libvirt start asker
	hold_agent
	answers_again "after it was restored"
	[ "$(boots asker)" = "$before" ] || judge "the asker went on where it was" "${EPOCHREALTIME/./}" "it booted"
}
answers_again() { # WHEN
	for way in serial vmchannel; do
		asks "the asker's $way line is served $1" 0 '^0$' "served $way; echo $?"
		asks "ours over $way: status $1" 0 '^Status: ON$' "over ours $way -o status -n victim"
	done
}

without_libvirtd() {
	asks "$says: monitor fails without libvirtd" 1 '' "$ask monitor"
	asks "$says: status fails without libvirtd" 1 '' "$ask status -n victim"
}
after_libvirtd() {
	asks "$says: status after libvirtd's restart" 0 '^Status: ON$' "$ask status -n victim"
	lists " after libvirtd's restart"
	reboots " after libvirtd's restart"
}
libvirtd_dies() {
	kill -KILL "$libvirtd"
	wait "$libvirtd" 2>/dev/null
	[ "$DAEMON" = "$C_DAEMON" ] || in_all_ways without_libvirtd
	start_libvirtd
	need "libvirtd knows the victim again" state_is victim running
	for way in serial vmchannel; do asks "libvirtd is back, monitor over $way passes" 0 '^0$' "served $way; echo $?"; done
	in_all_ways after_libvirtd
}

stranger_starts() {
	local id
	id=$(libvirt domid victim)
	libvirt start stranger
	need "the stranger boots" has_booted stranger 0
	asks "the stranger's line is served" 0 '^0$' "served serial; echo $?" stranger
	for agent in theirs ours; do
		asks "$agent in the stranger: status is denied" 3 . "over $agent serial -o status -n victim" stranger
	done
	asks "ours in the stranger: off is denied" 3 . "over ours serial -o off -n victim" stranger
	holds "the victim was left alone" same "$(libvirt domid victim)" "$id"
}

sockets() {
	local serial=serial/asker
	! state_is stranger running || serial+=" serial/stranger"
	holds "one daemon is connected to the serial lines alone" same "$(connections serial)" "$serial"
	holds "the other to the channel alone" same "$(connections vmchannel)" channel/asker
	agent_is_ours >>"$W/agent"
	holds "nobody ever came to the guest agent's socket" same "$(cat "$W/agent")" ""
	[ "$DAEMON" != "$C_DAEMON" ] || return
	libvirt attach-device asker "$W/plugged.xml"
	holds "a channel that is plugged in is served" until_true "$LIMIT" is_connected "channel/asker channel/plugged"
	libvirt detach-device asker "$W/plugged.xml"
	holds "one that is unplugged is not any more" until_true "$LIMIT" is_connected channel/asker
}
is_connected() { [ "$(connections vmchannel)" = "$1" ]; }

daemons_end() {
	for way in serial vmchannel; do
		end_daemon $way
		holds "the daemon for $way ends at SIGTERM" same "$code" 0
	done
}

private_host
make_initramfs || exit 1
start_libvirtd
define_guests || exit 1
libvirt start asker && libvirt start victim || exit 1
hold_agent
start_daemon serial "$SOCKETS/serial"
start_daemon vmchannel "$SOCKETS/channel"
need "the asker boots" has_booted asker 0
need "the victim boots" has_booted victim 0
for way in serial vmchannel; do
	tell asker "served $way"
	need "the daemon for $way answers" [ "$code" = 0 ]
done
for stage in $STAGES; do
	case $stage in
	1) in_all_ways actions ;;
	2) asker_restarts ;;
	3) libvirtd_dies ;;
	4) stranger_starts ;;
	5) sockets ;;
	6) daemons_end ;;
	esac
done
finish
