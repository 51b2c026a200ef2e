#!/bin/bash
# A host that loses its bridge, an address, and its libvirtd, and gets them back; and reloads. At each moment
# the status report (text, JSON, OpenMetrics, the text file), the doctor, the log and what an agent is answered
# must agree.
#
#   FENCE_VIRT=  agent to run  (target/debug/fence_virt of this project), by both of its names
#   DAEMON=      daemon        (target/debug/fence_virtd of this project)
#   KEEP=1       keeps the work directory, with all logs
#   LIMIT=       timeout of each wait in seconds (60)
#
# The host is a network namespace with a bridge for multicast, an interface for tcp, and a real libvirtd with its
# test driver; a guest is another network namespace on the bridge. When this script ends, or is killed, every
# process ends with it.
#
# One line a check, then `N passed, M failed`; 77 if something is missing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/inside.sh"
DAEMON=$(realpath -m "${DAEMON:-$here/../../target/debug/fence_virtd}")
LIMIT=${LIMIT:-60}
# shellcheck disable=SC2034 # for checking.sh
CHECKS=14

skip() { echo "*** SKIPPED host-changes: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; exit 77; }

# ------------------------------------------------- outside of the namespaces

if [ -z "${CHANGES_INNER:-}" ]; then
	needs libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 python3:python3
	unshare --net --mount --pid --ipc --fork --kill-child --mount-proc mount -t tmpfs private /run 2>/dev/null ||
		skip "it may not make namespaces here"
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
	[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
	[ -x "$DAEMON" ] || skip "no $DAEMON (cargo build)"
	W=$(mktemp -d -t fence-changes.XXXXXX) || exit 1
	export FENCE_VIRT DAEMON W LIMIT CHANGES_INNER=1
	run_inside "$here/host-changes.sh"
fi

# --------------------------------------- inside: this shell is the host itself

. "$here/checking.sh"
. "$here/libvirt-lab.sh"

URI="test+unix:///default?socket=/run/libvirt/libvirt-sock"
CONF=$W/fence_virt.conf
TCP=198.51.100.1

show_logs() { tail -n 30 "$W/daemon.log"; }

# add_bridge - with the guest's cable in it.
add_bridge() {
	ip link add br0 type bridge mcast_snooping 0 && ip addr add 192.0.2.1/24 dev br0 && ip link set br0 up &&
		ip link set cable master br0
}
add_address() { ip addr add $TCP/24 dev lan0; }

# configure HASH - writes the configuration; the hash may be wrong.
configure() {
	cat >"$CONF" <<-CONF
		fence_virtd { listener = "multicast, tcp"; backend = "libvirt"; status_socket = "$W/status.sock"; }
		listeners {
		  multicast { interface = "br0"; key_file = "$W/key"; hash = "$1"; }
		  tcp { address = "$TCP"; key_file = "$W/key"; }
		}
		backends { libvirt { uri = "$URI"; } }
	CONF
}

start_daemon() {
	"$DAEMON" -F -d 1 -w -f "$CONF" -p "$W/daemon.pid" >>"$W/daemon.log" 2>&1 &
	daemon=$!
}

# --------------------------------------------------- what each of them says

by_multicast() { ip netns exec guest "$W/fence_xvm" -k "$W/key" -t 5 -o status -H test; }
by_tcp() { "$FENCE_VIRT" -T $TCP -k "$W/key" -t 5 -o status -H test; }

asks_status() { "$DAEMON" --status -f "$CONF" "$@"; }
# facts - what the JSON report says on one line: multicast, tcp, libvirt and the last reload, 1 for well, and
# the number of problems.
facts() {
	asks_status --json | python3 -c '
import json, sys
report = json.load(sys.stdin)
listens = {one["name"]: one["listening"] for one in report["listeners"]}
facts = [listens["multicast"], listens["tcp"], report["uris"][0]["connected"], not report["reload_refused"]]
print(*map(int, facts), len(report["problems"]))' 2>&1
}
# metrics - the same of OpenMetrics on stdin.
metrics() {
	local text line
	text=$(cat)
	for line in 'fence_virtd_listener_up{listener="multicast"}' 'fence_virtd_listener_up{listener="tcp"}' \
		"fence_virtd_uri_connected{uri=\"$URI\"}" fence_virtd_reload_taken fence_virtd_problems; do
		awk -v name="$line" '$1 == name { printf "%s ", $2 }' <<<"$text"
	done | xargs
}
# reports_are FACTS CODE - JSON, OpenMetrics and the text file have these facts, and each call has this exit code.
reports_are() {
	local code problems=${1##* }
	[ "$(facts)" = "$1" ] && asks_status --openmetrics >"$W/metrics" || [ $? = "$2" ] || return
	asks_status --textfile "$W/fence_virtd.prom"
	code=$?
	out=$(asks_status)
	[ $? = "$2" ] && [ $code = "$2" ] && [ "$(metrics <"$W/metrics")" = "$1" ] &&
		[ "$(metrics <"$W/fence_virtd.prom")" = "$1" ] && [ "$(grep -c '^ERROR ' <<<"$out")" = "$problems" ]
}
# answered MULTICAST TCP LIBVIRT - requests by multicast and tcp are answered, or are not, as this says.
answered() {
	local multicast=0 tcp=0
	! try by_multicast || multicast=1
	! try by_tcp || tcp=1
	same "by multicast $multicast, by tcp $tcp" "by multicast $(($1 & $3)), by tcp $(($2 & $3))"
}
# doctor_says TEXT... - with an error in a line that has each; no error if there is none.
doctor_says() {
	local text code
	out=$("$DAEMON" --doctor --errors-only -f "$CONF" -p "$W/daemon.pid" 2>&1)
	code=$?
	[ $# != 0 ] || { [ $code != 2 ]; return; }
	[ $code = 2 ] || { echo "the doctor has found no error"; return 1; }
	for text; do says "$text" || return; done
}
# moment FACTS LOG DOCTOR... - soon the reports have these facts; a line of the log since the mark has each word
# of LOG (none if empty); the doctor finds an error with each text; and requests are answered as the facts say.
moment() {
	local facts=$1 log=$2 code=2
	shift 2
	[ "${facts##* }" != 0 ] || code=0
	within reports_are "$facts" $code || { asks_status; facts; return 1; }
	asks_status
	{ [ -z "$log" ] || within logged "$W/daemon.log" "$mark" "$log"; } && try doctor_says "$@" &&
		answered "${facts:0:1}" "${facts:2:1}" "${facts:4:1}"
}
mark() { mark=$(lines "$W/daemon.log"); }

# ------------------------------------------------------------- what is checked

starts_without() {
	start_daemon
	mark=0
	moment "0 0 1 1 2" "multicast: " br0 $TCP
}
gets_bridge() { mark && add_bridge && moment "1 0 1 1 1" "multicast: " $TCP; }
gets_address() { mark && add_address && moment "1 1 1 1 0" "tcp: "; }
loses_bridge() { mark && ip link del br0 && moment "0 1 1 1 1" "multicast: " br0; }
gets_bridge_again() { mark && add_bridge && moment "1 1 1 1 0" "multicast: "; }
loses_address() { mark && ip addr del $TCP/24 dev lan0 && moment "1 0 1 1 1" "tcp: " $TCP; }
# shellcheck disable=SC2154 # $libvirtd is from libvirt-lab.sh
libvirtd_frozen() { mark && kill -STOP "$libvirtd" && moment "1 1 0 1 1" "$URI" "$URI"; }
libvirtd_thawed() { mark && kill -CONT "$libvirtd" && moment "1 1 1 1 0" ""; }
libvirtd_killed() {
	mark && kill -KILL "$libvirtd" && { wait "$libvirtd"; true; } && moment "1 1 0 1 1" "$URI" "$URI"
}
libvirtd_back() { mark && start_libvirtd && moment "1 1 1 1 0" "$URI: connected"; }
reload_refused() {
	mark && configure sha7 && kill -HUP "$daemon" && moment "1 1 1 0 1" "sha7" "sha7"
}
reload_taken() { mark && configure sha256 && kill -HUP "$daemon" && moment "1 1 1 1 0" "reloaded $CONF"; }
ended() {
	mark && kill "$daemon" && wait "$daemon" || return
	asks_status
	same $? 1 && { asks_status --textfile "$W/fence_virtd.prom"; same $? 1; } &&
		same "$(awk '$1 == "fence_virtd_up" { print $2 }' "$W/fence_virtd.prom")" 0
}

private_libvirt
ln -s "$FENCE_VIRT" "$W/fence_xvm"
ip netns add guest
ip link add cable type veth peer name eth0 netns guest
ip link set cable up
ip -n guest addr add 192.0.2.2/24 dev eth0
ip -n guest link set eth0 up
ip -n guest link set lo up
ip -n guest route add default dev eth0
ip link add lan0 type bridge
ip link set lan0 up
start_libvirtd
head -c 4096 /dev/urandom >"$W/key"
chmod 600 "$W/key"
configure sha256

check "a start with -w, without the bridge and the address: neither is heard, and all say so" starts_without
check "the bridge is there: multicast is heard, tcp is not" gets_bridge
check "the address is there: all is well" gets_address
check "the bridge is deleted" loses_bridge
check "it is there again: all is well" gets_bridge_again
check "the address is gone" loses_address
check "it is there again: all is well" gets_address
check "libvirtd is frozen" libvirtd_frozen
check "libvirtd goes on: all is well" libvirtd_thawed
check "libvirtd is killed" libvirtd_killed
check "libvirtd is back: all is well" libvirtd_back
check "a reload is refused" reload_refused
check "the next one is taken: all is well" reload_taken
check "the daemon ends: the report fails, and the text file says that it is down" ended
finish
