#!/bin/bash
# Guests on several hosts that power each other off at the same moment, each at its own
# host: real corosync, libvirtd and QEMU on each, and our daemon with the backend cpg.
# Of two exactly one goes down; of a ring of three at least one stays.
#
#   FENCE_VIRTD=, FENCE_VIRT=   programs under test (default: target/debug)
#   ROUNDS=                     rounds of two guests (20); of three, half as many
#   TOKEN=                      corosync's token timeout in ms (default: 1000)
#   KEEP=1                      keeps the work directory, with all logs
#   LIMIT=                      timeout of each wait in seconds (60)
#
# A guest is a boot sector that copies bytes between its two serial lines: what is sent to
# the first one, it asks over the second one, which the daemon reads. A guest that is
# powered off asks nothing more, and QEMU's end of its lines goes with it.
#
# The hosts are namespaces on this machine. When this script ends, or is killed, every
# process ends with it. Prints a line for each check. Exit code: 0 all passed, 1 not all,
# 77 skipped.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
LIMIT=${LIMIT:-60}
ROUNDS=${ROUNDS:-20}
TOKEN=${TOKEN:-1000}
NODES=3

source "$here/inside.sh"
skip() { echo "*** SKIPPED cluster-race: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; exit 77; }

# ------------------------------------------------- outside of the namespaces

if [ -z "${CLUSTER_INNER:-}" ]; then
	needs corosync:corosync libvirtd:libvirt-daemon-system virsh:libvirt-clients \
		qemu-system-x86_64:qemu-system-x86 ip:iproute2 xxd:xxd
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		mount -t tmpfs private /run 2>/dev/null || skip "it may not make namespaces here"
	FENCE_VIRTD=$(realpath -m "${FENCE_VIRTD:-$root/target/debug/fence_virtd}")
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$root/target/debug/fence_virt}")
	for program in "$FENCE_VIRTD" "$FENCE_VIRT"; do [ -x "$program" ] || skip "$program is not there: build it first"; done
	W=$(mktemp -d "${TMPDIR:-/tmp}/cluster-race.XXXXXX") || exit 1
	export FENCE_VIRTD FENCE_VIRT W ROUNDS LIMIT TOKEN CLUSTER_INNER=1
	run_inside "$here/cluster-race.sh" --uts
fi

# --------------------------------------- inside: this shell is the switch

source "$here/checking.sh"
source "$here/cluster-lab.sh"
# shellcheck disable=SC2034 # for cluster-lab.sh
node_script=cluster-race-node.sh

guest() { echo "guest${1#n}"; } # NODE

# boot_sector FILE - sets both lines to 115200 baud, says R on the first one, and copies in
# both directions; halts until the next tick of the clock while nothing comes.
boot_sector() {
	{
		xxd -r -p <<-HEX
			fa31c08ed88ed0bc007cfbbafb03b080eebaf803b001eebafb03b003ee
			bafb02b080eebaf802b001eebafb02b003eebaf803b052ee
			31c9bafd03eca801750dbafd02eca801750de2eef4ebeb
			baf803bbf802eb06baf802bbf803ec88c489da83c205eca82074fb89da88e0eeebc7
		HEX
		head -c 512 /dev/zero
	} | head -c 510
	printf '\x55\xaa'
	head -c $((1024 * 1024 - 512)) /dev/zero
}

make_hosts() {
	local node members="" home
	for node in "${ALL[@]}"; do
		home=$W/$node
		mkdir -p "$home/log" "$home/corosync"
		address "$node" >"$home/address"
		echo "qemu+unix:///system?socket=$home/libvirt/libvirt-sock" >"$home/uri"
		boot_sector >"$home/disk"
		mkfifo "$home/line.in" "$home/line.out"
		cat <>"$home/line.out" >>"$home/said" &
		cat >"$home/guest.xml" <<-XML
			<domain type='qemu'>
			<name>$(guest "$node")</name><uuid>$(uuid "vm${node#n}a")</uuid>
			<memory unit='MiB'>16</memory><vcpu>1</vcpu>
			<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
			<devices><emulator>$(command -v qemu-system-x86_64)</emulator>
			<controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
			<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$home/disk'/><target dev='hda' bus='ide'/></disk>
			<serial type='pipe'><source path='$home/line'/><target port='0'/></serial>
			<serial type='unix'><source mode='bind' path='/run/fence/$(guest "$node")'/><target port='1'/></serial>
			</devices>
			</domain>
		XML
		cat >"$home/fence_virt.conf" <<-CONF
			fence_virtd { listener = "tcp, serial"; backend = "cpg"; }
			listeners {
				tcp { key_file = "$W/key"; address = "127.0.0.1"; }
				serial { mode = "serial"; path = "/run/fence"; }
			}
			backends { cpg { uri = "$(cat "$home/uri")"; } }
		CONF
		chmod 600 "$home/fence_virt.conf"
		members+=$(corosync_node "$node" "$(id "$node")" "$(address "$node")")
	done
	mkdir "$W/corosync"
	corosync_conf race "$members" >"$W/corosync/corosync.conf"
}

start_daemon() { launch "$1" daemon "$FENCE_VIRTD" -F -d 1 -f "$W/$1/fence_virt.conf" -p /run/daemon.pid; }
agent() { # NODE SECONDS ARGUMENT...
	in_node "$1" timeout -k 1 $(($2 + 5)) "$FENCE_VIRT" -T 127.0.0.1 -k "$W/key" -t "$2" "${@:3}"
}
# has_status NODE EXIT-CODE - what the daemon of NODE knows of all guests.
has_status() {
	local other
	for other in "${ALL[@]}"; do
		agent "$1" 5 -o status -n "$(guest "$other")" >/dev/null 2>&1
		[ $? = "$2" ] || return 1
	done
}

# ------------------------------------------------------------------ the guests

is_off() { [ "$(libvirt "$1" domstate "$(guest "$1")" 2>&1)" = "shut off" ]; }
waits() { grep -aq R "$W/$1/said"; }
# The daemon is connected to its line.
is_connected() { in_node "$1" ss -Hx state established | grep -q "/run/fence/$(guest "$1") "; }

is_ready() { waits "$1" && is_connected "$1"; }

# restored - all guests run and wait, and every daemon knows that.
restored() {
	local node
	for node in "${ALL[@]}"; do
		is_off "$node" || continue
		: >"$W/$node/said"
		libvirt "$node" start "$(guest "$node")" || return
	done
	for node in "${ALL[@]}"; do
		until_true "$LIMIT" is_ready "$node" || { echo "$node is not ready"; return 1; }
	done
	for node in "${ALL[@]}"; do
		until_true "$LIMIT" has_status "$node" 0 || { echo "$node does not know all guests"; return 1; }
	done
}

number=0
# request NODE VICTIM - sends the guest's request (docs/WIRE.md).
request() {
	local name pad
	name=$(guest "$2")
	printf -v pad '\\0%.0s' $(seq $((64 - ${#name})))
	# shellcheck disable=SC2059 # that is a format
	printf "abba\x01\x00$name$pad$(printf '\\x%02x\\x%02x\\x02\\x03' $((number % 256)) $((number / 256)))" 1<>"$W/$1/line.in"
}
# answer NODE - the last byte of its answer; nothing if there is none.
answer() { xxd -p "$W/$1/said" | tr -d '\n' | grep -o '61626261..' | tail -n 1 | cut -c 9-10; }
is_over() { [ -n "$(answer "$1")" ] || is_off "$1"; }

# contest OFFSET VICTIMS - each pair NODE:NODE fences, so many ms after the one before.
contest() {
	local pair node offset=$1
	shift
	restored || return 1
	number=$((number + 1))
	for node in "${ALL[@]}"; do printf R >"$W/$node/said"; done
	for pair; do
		request "${pair%:*}" "${pair#*:}"
		[ "$offset" = 0 ] || sleep "$(printf '0.%03d' "$offset")"
	done
	for pair; do until_true 40 is_over "${pair%:*}" || { echo "$pair: no end within 40 s"; return 1; }; done
	# A request may still be under way whose guest is off.
	for node in "${ALL[@]}"; do until_true 40 owes_nothing "$node" || { echo "$node: requests are under way"; return 1; }; done
}
# owes_nothing NODE - each of the requests that its daemon has received has an end.
owes_nothing() { in_node "$1" "$FENCE_VIRTD" --status -f "$W/$1/fence_virt.conf" | grep -q ' 0 requests in flight'; }
# stay NODE... - those whose guest runs.
stay() {
	local node staying=""
	for node; do is_off "$node" || staying+="$node "; done
	echo "$staying"
}

# Milliseconds between the requests, by round.
OFFSETS=(0 2 5 0 10 20 1 40 3 80)

# duels NODE NODE - of two guests one stays, and its request has succeeded; that of the other one has failed, if it
# was answered at all.
duels() {
	local round first second staying both=0 none=0 one=0
	for ((round = 0; round < ROUNDS; round++)); do
		first=$1 second=$2
		[ $((round % 2)) = 0 ] || first=$2 second=$1
		contest "${OFFSETS[round % ${#OFFSETS[@]}]}" "$first:$second" "$second:$first" || return
		staying=$(stay "$first" "$second")
		case $staying in
		"") both=$((both + 1)) && echo "round $round: both are off" ;;
		*" "*" ") none=$((none + 1)) && echo "round $round: both stay: $(answer "$first") $(answer "$second")" ;;
		*)
			one=$((one + 1))
			[ "$(answer "${staying% }")" = 00 ] || { echo "round $round: $staying stays, its answer is $(answer "${staying% }")"; return 1; }
			;;
		esac
	done
	summary="one off in $one rounds, both in $both, none in $none"
	echo "$summary"
	[ $one = "$ROUNDS" ]
}
# rings - of three guests at least one stays, and at least one is off.
rings() {
	local round staying counts=(0 0 0 0)
	for ((round = 0; round < (ROUNDS + 1) / 2; round++)); do
		case $((round % 3)) in
		0) contest "${OFFSETS[round % ${#OFFSETS[@]}]}" n1:n2 n2:n3 n3:n1 ;;
		1) contest "${OFFSETS[round % ${#OFFSETS[@]}]}" n3:n1 n2:n3 n1:n2 ;;
		2) contest "${OFFSETS[round % ${#OFFSETS[@]}]}" n2:n3 n1:n2 n3:n1 ;;
		esac || return
		staying=$(stay "${ALL[@]}")
		counts[$(wc -w <<<"$staying")]=$((${counts[$(wc -w <<<"$staying")]} + 1))
	done
	summary="rounds in which none, one, two, three stay: ${counts[*]}"
	echo "$summary"
	[ "${counts[0]}${counts[3]}" = 00 ]
}
# explained - some daemon says why it has not carried a request out.
explained() {
	grep -h "may have been fenced itself" "$W"/*/daemon.log | tail -n 3
	grep -qh "may have been fenced itself" "$W"/*/daemon.log
}
# alone NODE NODE - one fences the other one, which asks for nothing.
alone() {
	contest 0 "$1:$2" || return
	same "$(answer "$1")" 00 && is_off "$2" && ! is_off "$1"
}

private_host
make_hosts
each "${ALL[@]}" -- power_on || need "the hosts have power" false
need "all hosts are one cluster" all_see "$NODES"
for node in "${ALL[@]}"; do start_daemon "$node" || need "the daemon of $node starts" false; done
need "all daemons are in the group" sees_daemons n1 "$NODES"
summary=""
check "a guest has the guest of another host switched off" alone n1 n2
check "two guests fence each other over two hosts: exactly one goes down ($ROUNDS rounds)" duels n1 n2
echo "     $summary"
check "the same with the host of the highest id" duels n3 n1
echo "     $summary"
check "a ring of three over three hosts: at least one stays" rings
echo "     $summary"
check "the log says why a request was not carried out" explained
finish
