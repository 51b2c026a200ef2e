#!/bin/bash
# Fencing across hosts, measured: a group of daemons that are all ours, beside
# one of C daemons. See docs/BENCHMARK.md.
#
#   ROUNDS=5                     fresh daemons of either kind for each figure
#   REQUESTS=500                 timed requests of each kind in a round; C daemons
#                                that tell many VMs for each get as many as take
#                                about as long
#   VMS="10 1000"                how many VMs a node has
#   FENCE_VIRTD=, FENCE_VIRT=    the programs (default: target/release)
#   RESULTS=FILE                 keep every figure, a line each
#   KEEP=1                       keep the work directory, with all logs
#
# The machines are those of tests/e2e/cluster-lab.sh, four of them: n1 has no
# daemon, but a member of the group that counts messages; n2 is asked, n3 has the
# VMs that are not on n2, and n4 is one more. The VMs are of libvirt's test
# driver, in a libvirtd for each node.
#
# It takes about seven minutes, as root, with corosync, libvirt-daemon-system,
# libvirt-clients, fence-virtd and iproute2. Exit code: 0 measured, 1 something
# does not work, 77 skipped. A slow figure is an aim missed, and fails nothing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
benches=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$benches")
here=$root/tests/e2e # as the lab calls it
C_DAEMON=/usr/sbin/fence_virtd
NODES=4
KINDS=-ooo
ROUNDS=${ROUNDS:-5}
REQUESTS=${REQUESTS:-500}
VMS=${VMS:-10 1000}
TOKEN=${TOKEN:-1000}
LIMIT=${LIMIT:-60}
ANSWER=6
# How many requests are counted for the messages of one, while the group is quiet.
COUNTED=20
# Milliseconds after which a C daemon is taken to hang for ever.
PATIENCE=10000

source "$here/inside.sh"

if [ -z "${CLUSTER_INNER:-}" ]; then
	skip() {
		echo "*** SKIPPED benchmark cluster: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
		exit 77
	}
	[ "$(id -u)" = 0 ] || skip "it must run as root"
	for need in corosync:corosync corosync-cpgtool:corosync libvirtd:libvirt-daemon-system \
		virsh:libvirt-clients ip:iproute2 "$C_DAEMON:fence-virtd"; do
		command -v "${need%:*}" >/dev/null || skip "${need%:*} is missing (package ${need#*:})"
	done
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		mount -t tmpfs private /run 2>/dev/null || skip "it may not make namespaces here"
	FENCE_VIRTD=$(realpath -m "${FENCE_VIRTD:-$root/target/release/fence_virtd}")
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$(dirname "$FENCE_VIRTD")/fence_virt}")
	GROUP_MEMBER=$(dirname "$FENCE_VIRTD")/examples/group-member
	ASK_OFTEN=$(dirname "$FENCE_VIRTD")/examples/ask-often
	for program in "$FENCE_VIRTD" "$FENCE_VIRT" "$GROUP_MEMBER" "$ASK_OFTEN"; do
		[ -x "$program" ] || { echo "$program is not there: cargo build --release --bins --examples"; exit 1; }
	done
	[ -z "${RESULTS:-}" ] || RESULTS=$(realpath -m "$RESULTS")
	W=$(mktemp -d "${TMPDIR:-/tmp}/cluster.XXXXXX") || exit 1
	export FENCE_VIRTD FENCE_VIRT GROUP_MEMBER ASK_OFTEN W ROUNDS REQUESTS VMS TOKEN LIMIT CLUSTER_INNER=1
	export RESULTS=${RESULTS:-$W/results}
	: >"$RESULTS"
	run_inside "$benches/cluster.sh" --uts
fi

# --------------------------------------- inside: this shell is the switch

failed=0
exec {TERMINAL}>&1
source "$here/cluster-lab.sh"
source "$here/cluster-daemons.sh"
finish() { exit $((failed > 0)); }
DAEMONS=(n2 n3 n4)
ASKED=n2
# The VMs that are asked for: one runs, one is off, one is stopped and started.
declare -A ON=([local]=vm2a [remote]=vm3a) OFF=([local]=vm2off [remote]=vm3off) PLAYED=([local]=vm2b [remote]=vm3b)
declare -A OWNER=([local]=n2 [remote]=n3)

die() {
	echo "FAIL: $*"
	failed=1
	show_logs
	finish
}
say() { echo "$*" >&"$TERMINAL"; }

# result FIGURE VALUE
result() { echo "$vms $kind $round $1 $2" >>"$RESULTS"; }

# ---------------------------------------------------------------- the daemons

# as_usual NODE - a C daemon is started on one processor, for its threads not to
# overtake one another; it runs like any other.
as_usual() {
	[ "$kind" = c ] || return 0
	local pid
	pid=$(pid_of "$1" daemon)
	in_node "$1" sh -c "chrt -a -o -p 0 $pid && taskset -a -p -c 0-$(($(nproc --all) - 1)) $pid" >/dev/null
}
start() {
	local node
	for node; do
		start_daemon "$node" && as_usual "$node" || die "the daemon of $(label "$node") does not answer"
	done
	within_limit knows_all || die "$ASKED does not hear of the VMs of the others"
}
knows_all() { ask "$ASKED" status "${ON[remote]}" 2 >/dev/null 2>&1; }
within_limit() { until_true "$LIMIT" "$@"; }
stop() {
	local node
	for node in "${DAEMONS[@]}"; do end "$node" daemon KILL; done
}

# define COUNT - each daemon's node has so many VMs; all but one run.
define() {
	local node at
	for node in "${DAEMONS[@]}"; do
		for ((at = $(libvirt "$node" list --all --name | grep -c .); at < $1; at++)); do
			domain "vm${node#n}x$at" "$(printf '1000%04x-1111-4111-8111-00000000000%d' "$at" "${node#n}")" >"$W/$node/x$at.xml"
			echo "define $W/$node/x$at.xml"
			echo "start vm${node#n}x$at"
		done >"$W/$node/batch"
		libvirt "$node" <"$W/$node/batch" >"$W/$node/batch.log" 2>&1
		[ "$(libvirt "$node" list --all --name | grep -c .)" = "$1" ] || die "$node has not $1 VMs"
	done
}

# -------------------------------------------------------- messages per request

# The member that counts. In a group of ours it says that it is of this suite.
listen() {
	exec {MEMBER}> >(in_node n1 "$GROUP_MEMBER" >"$W/heard" 2>&1)
	listener=$!
	within_limit grep -q '^config' "$W/heard" || die "the member that counts has not joined"
	[ "$kind" = c ] || printf '%s\n' hello complete >&"$MEMBER"
	quiet
}
# It ends with a check of its lines: all messages have the same length.
stop_listening() {
	echo quit >&"$MEMBER"
	exec {MEMBER}>&-
	wait "$listener"
	local total messages=0 bytes=0
	total=$(tail -n 1 "$W/heard")
	read -r messages bytes < <(sed -n 's/^total messages=\(.*\) bytes=\(.*\)/\1 \2/p' <<<"$total")
	[ "$messages" = "$(heard)" ] && [ "$bytes" = $((messages * 156)) ] || die "it heard $total"
	sleep 1
}
heard() { grep -c '^from ' "$W/heard"; }
# quiet - waits until nothing was said for a while.
quiet() {
	local before now
	now=$(heard)
	until
		before=$now
		sleep 0.5
		now=$(heard)
		[ "$before" = "$now" ]
	do :; done
}
# count FIGURE COUNT COMMAND... - it makes so many requests.
count() {
	local before after
	before=$(heard)
	"${@:3}" || die "$*"
	quiet
	after=$(heard)
	result "messages $1" "$(awk "BEGIN { print ($after - $before) / $2 }")"
	result "bytes $1" "$(awk "BEGIN { print ($after - $before) * 156 / $2 }")"
}

# often OPERATION VM COUNT FILE - that many requests, whose times are added to the
# file. A C daemon that hangs is started again.
often() {
	local left=$3 tries=0
	: >"$W/times"
	while [ "$left" -gt 0 ]; do
		in_node "$ASKED" "$ASK_OFTEN" 127.0.0.1:1229 "$W/key" "$1" "$2" "$left" "$PATIENCE" >"$W/asked" 2>"$W/asked.err" ||
			{ [ "$kind" = c ] && [ $((tries += 1)) -lt 10 ]; } || die "$1 $2: $(cat "$W/asked" "$W/asked.err")"
		[ ! -s "$W/asked.err" ] || { say "     C: $(cat "$W/asked.err")" && result wrong 1; }
		grep -E '^[0-9]+$' "$W/asked" >>"$W/times"
		left=$(($3 - $(wc -l <"$W/times")))
		grep -q hung "$W/asked" || continue
		[ "$kind" = c ] || die "ours hangs: $1 $2"
		result hung 1
		start "$ASKED"
	done
	[ -z "${4:-}" ] || cat "$W/times" >>"$4"
}
# messages - a request that hangs spoils a count: it is done again.
messages() {
	local where hung counted=$COUNTED
	[ "$kind" = o ] || [ "$vms" -lt 100 ] || counted=5
	for where in local remote; do
		for what in status off; do
			local vm=${ON[$where]}
			[ $what = status ] || vm=${OFF[$where]}
			while
				hung=$(grep -c "^$vms $kind $round hung" "$RESULTS")
				quiet
				count "$what $where" "$counted" often "$what" "$vm" "$counted"
				[ "$hung" != "$(grep -c "^$vms $kind $round hung" "$RESULTS")" ]
			do sed -i "/^$vms $kind $round \(messages\|bytes\) $what $where /d" "$RESULTS"; done
		done
		# It ends with the VM running.
		while
			hung=$(grep -c "^$vms $kind $round hung" "$RESULTS")
			quiet
			count "off-running $where" 1 often off "${PLAYED[$where]}" 1
			libvirt "${OWNER[$where]}" start "${PLAYED[$where]}" || die "${PLAYED[$where]} was not stopped"
			[ "$hung" != "$(grep -c "^$vms $kind $round hung" "$RESULTS")" ]
		do sed -i "/^$vms $kind $round \(messages\|bytes\) off-running $where /d" "$RESULTS"; done
	done
}

# ----------------------------------------------------------------------- times

times() { # REQUESTS
	local where at
	for where in local remote; do
		for what in status off; do
			local vm=${ON[$where]}
			[ $what = status ] || vm=${OFF[$where]}
			often "$what" "$vm" $(($1 / 10 + 1)) # a warm-up
			often "$what" "$vm" "$1" "$W/times.$what.$where"
			percentiles "$what $where" "$W/times"
		done
		# The VM runs each time.
		: >"$W/all"
		for ((at = 0; at < $1 / 20 + 5; at++)); do
			often off "${PLAYED[$where]}" 1
			cat "$W/times" >>"$W/all"
			libvirt "${OWNER[$where]}" start "${PLAYED[$where]}" || die "${PLAYED[$where]} was not stopped"
		done
		percentiles "off-running $where" "$W/all"
	done
}
percentiles() { # FIGURE FILE
	local count
	count=$(wc -l <"$2")
	result "p50 $1" "$(sort -n "$2" | sed -n "$(((count - 1) / 2 + 1))p")"
	result "p99 $1" "$(sort -n "$2" | sed -n "$(((count - 1) * 99 / 100 + 1))p")"
}

# ---------------------------------------------------------------- what is done

private_host
make_nodes
each "${ALL[@]}" -- power_on || die "the nodes have no power"
within_limit all_see "$NODES" || die "the nodes are no cluster"

for vms in $VMS; do
	define "$vms"
	for ((round = 1; round <= ROUNDS; round++)); do
		kinds="o c"
		[ $((round % 2)) = 1 ] || kinds="c o"
		for kind in $kinds; do
			KINDS=-$kind$kind$kind
			say "$(date +%T) load $(cut -d ' ' -f 1 /proc/loadavg): $vms VMs on each node, round $round, $kind"
			start "${DAEMONS[@]}"
			if [ "$round" -le 2 ]; then
				listen
				messages
				stop_listening
			fi
			requests=$REQUESTS
			[ $kind = o ] || requests=$((REQUESTS * 25 / (vms + 25) + 10))
			[ "$requests" -le "$REQUESTS" ] || requests=$REQUESTS
			times "$requests"
			stop
		done
	done
done

awk -f "$benches/cluster/table.awk" "$RESULTS"
finish
