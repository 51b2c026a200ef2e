#!/bin/bash
# Power operations, measured with a real libvirtd and real QEMU processes: our
# daemon, beside the C daemon. See docs/BENCHMARK.md.
#
#   ROUNDS=5                     fresh daemons of either kind for each figure; with
#                                VMs that hang, the C daemon gets two of them
#   HUNG="1 4 24"                numbers of VMs that hang at once
#   WORKERS=64                   min_workers and max_workers of libvirtd
#   FENCE_VIRTD=, FENCE_VIRT=    the programs (default: target/release)
#   RESULTS=FILE                 keep every figure, a line each
#   KEEP=1                       keep the work directory, with all logs
#
# The machines are those of tests/e2e/hung-lab.sh. A VM hangs when its QEMU process
# is stopped: libvirt's destroy of it takes 10 s. All requests are made by our agent.
#
# It takes about twelve minutes, as root, with libvirt-daemon-system, libvirt-clients,
# qemu-system-x86, fence-virtd and iproute2. Exit code: 0 measured, 1 something does
# not work, 77 skipped. A slow figure fails nothing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
benches=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$benches")
here=$root/tests/e2e # as the lab calls it
C_DAEMON=/usr/sbin/fence_virtd
ROUNDS=${ROUNDS:-5}
HUNG=${HUNG:-1 4 24}
WORKERS=${WORKERS:-64}
LIMIT=${LIMIT:-60}
HEALTHY=8
# Rounds of the C daemon in which VMs hang: it takes 10 s for each of them.
C_ROUNDS=2
# Seconds that a request waits for its answer.
PATIENCE=60
REQUESTS=500

source "$here/inside.sh"

if [ -z "${POWER_INNER:-}" ]; then
	skip() {
		echo "*** SKIPPED benchmark power: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
		exit 77
	}
	[ "$(id -u)" = 0 ] || skip "it must run as root"
	for need in libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 \
		qemu-system-x86_64:qemu-system-x86 "$C_DAEMON:fence-virtd"; do
		command -v "${need%:*}" >/dev/null || skip "${need%:*} is missing (package ${need#*:})"
	done
	unshare --net --mount --pid --ipc --fork --kill-child --mount-proc mount -t tmpfs private /run 2>/dev/null ||
		skip "it may not make namespaces here"
	FENCE_VIRTD=$(realpath -m "${FENCE_VIRTD:-$root/target/release/fence_virtd}")
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$(dirname "$FENCE_VIRTD")/fence_virt}")
	ASK_OFTEN=$(dirname "$FENCE_VIRTD")/examples/ask-often
	for program in "$FENCE_VIRTD" "$FENCE_VIRT" "$ASK_OFTEN"; do
		[ -x "$program" ] || { echo "$program is not there: cargo build --release --bins --examples"; exit 1; }
	done
	[ -z "${RESULTS:-}" ] || RESULTS=$(realpath -m "$RESULTS")
	W=$(mktemp -d "${TMPDIR:-/tmp}/power.XXXXXX") || exit 1
	export FENCE_VIRTD FENCE_VIRT ASK_OFTEN W ROUNDS HUNG WORKERS LIMIT POWER_INNER=1
	export RESULTS=${RESULTS:-$W/results}
	: >"$RESULTS"
	run_inside "$benches/power.sh"
fi

# --------------------------------------- inside: this shell is the host itself

failed=0
source "$here/hung-lab.sh"
# libvirtd has all workers from its start: it does not always add one for each of
# many calls that come at once.
SETTINGS+=("min_workers = $WORKERS")
finish() { exit $((failed > 0)); }
die() {
	echo "FAIL: $*"
	failed=1
	show_logs
	finish
}

# result VALUE FIGURE
result() { echo "$kind $round $1 $2" >>"$RESULTS"; }

# ---------------------------------------------------------------- the daemon

answers_status() { asked status v1 >/dev/null 2>&1; }

# start - a fresh daemon, which listens on every address of the host.
start() {
	local command=$FENCE_VIRTD
	[ "$kind" = o ] || command=$C_DAEMON
	cat >"$W/fence_virt.conf" <<-CONF
		fence_virtd { listener = "tcp"; backend = "libvirt"; }
		listeners { tcp { address = "0.0.0.0"; key_file = "$W/key"; } }
		backends { libvirt { uri = "$URI"; } }
	CONF
	chmod 600 "$W/fence_virt.conf"
	"$command" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" >>"$W/daemon.log" 2>&1 &
	daemon=$!
	need "the daemon answers" answers_status
}
stop() { kill -KILL "$daemon" && wait "$daemon" 2>/dev/null; }

# memory WHEN - resident and private KiB of the daemon, and its threads.
memory() {
	local private
	private=$(awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { print sum }' "/proc/$daemon/smaps_rollup")
	result "$(sed -n 's/^VmRSS:\s*\([0-9]*\) kB$/\1/p' "/proc/$daemon/status")" "resident memory, $1"
	result "$private" "of it private, $1"
	result "$(sed -n 's/^Threads:\s*//p' "/proc/$daemon/status")" "threads, $1"
}

# -------------------------------------------------------------- the requests

# off NAME VM [ADDRESS] - the answer NAME; the request comes from this address.
off() {
	timed "$1" "$FENCE_VIRT" -T "${3:-127.0.0.1}" -k "$W/key" -t "$PATIENCE" -o off -n "$2"
}
# took NAME - sets $ms to the time of an answer, at most $PATIENCE seconds. Any other
# answer than success is an error.
took() {
	local code text
	read -r _ ms code text <"$W/answers/$1"
	if [ "$kind" = c ] && [ "$ms" -ge $((PATIENCE * 1000)) ]; then
		ms=$((PATIENCE * 1000))
	elif [ "$code" != 0 ]; then
		die "$1 of kind $kind: exit code $code after $ms ms: $text"
	fi
}
none_runs() { [ "$(ids_of "$@" | grep -c -- ' -$')" = $# ]; }
# run_again VM... - each was switched off, and is started.
run_again() {
	none_runs "$@" || die "not all are off: $*"
	start_vms "$@"
}
address() { echo "10.9.0.$1"; }

alone() {
	off alone v1
	took alone
	result "$ms" "off alone"
	run_again v1
}

# at_once FIGURE [FUNCTION] - of all healthy VMs; the addresses are those of the function.
at_once() {
	local at begin calls=() last
	rm -f "$W"/answers/once.*
	begin=$(now)
	for ((at = 1; at <= HEALTHY; at++)); do
		off "once.$at" "v$at" $(${2:-true} "$at") &
		calls+=($!)
	done
	wait "${calls[@]}"
	for ((at = 1; at <= HEALTHY; at++)); do took "once.$at"; done
	last=$(ends_of once | maximum)
	result $((last - begin)) "$1"
	run_again $(healthy_vms)
}

# status FIGURE - p50 in microseconds, after some that are not counted.
status() {
	local count
	for count in $((REQUESTS / 10)) "$REQUESTS"; do
		timeout "$LIMIT" "$ASK_OFTEN" 127.0.0.1:1229 "$W/key" status v1 "$count" 10000 >"$W/often" 2>&1 ||
			die "$1: $(tail -n 1 "$W/often")"
	done
	result "$(sed -n 's/^p50=\([0-9]*\) .*/\1/p' "$W/often")" "$1"
}

# ------------------------------------------------------------- VMs that hang

some_dying() {
	local vm
	for vm; do all_dying "$vm" && return; done
	return 1
}

# hang ADDRESS VM... - they are stopped, and asked to be switched off.
hang() {
	local from=$1 vm
	shift
	hanging=("$@")
	callers=()
	rm -f "$W"/answers/hung.*
	freeze "$@"
	for vm; do
		off "hung.$vm" "$vm" "$from" &
		callers+=($!)
	done
	# The C daemon asks libvirt for one after the other.
	if [ "$kind" = o ] && [ "$from" = 127.0.0.1 ]; then
		need "all are being destroyed" all_dying "$@"
	else
		need "one is being destroyed" some_dying "$@"
	fi
}
# release - a fresh daemon, with all VMs running.
release() {
	local vm
	stop
	for vm in "${hanging[@]}"; do
		! grep -q '^State:.T' "/proc/$(process_of "$vm")/status" 2>/dev/null || kill -KILL "$(process_of "$vm")"
	done
	wait "${callers[@]}"
	need "all that hung are off" none_runs "${hanging[@]}"
	# A request that had no answer may not have been carried out.
	[ "$ms" -ge $((PATIENCE * 1000)) ] || none_runs v1 || die "v1 is not off"
	start_vms "${hanging[@]}" v1
	start
}

# beside NUMBER - one healthy fence, and for ours status, while so many hang.
beside() {
	local vm last
	begin=$(now)
	hang 127.0.0.1 $(hung_vms "$1")
	off healthy v1 &
	wait $!
	took healthy
	result "$ms" "off beside $1 hung"
	if [ "$kind" = o ]; then
		memory "$1 hung"
		status "status p50 beside $1 hung"
		wait "${callers[@]}"
		for vm in "${hanging[@]}"; do took "hung.$vm"; done
		last=$(ends_of hung | maximum)
		result $((last - begin)) "off of $1 hung"
	fi
	release
}

# beside_another - the fence of the one that hangs was asked for from another address.
beside_another() {
	hang "$(address 2)" h1
	off healthy v1 "$(address 1)"
	took healthy
	result "$ms" "off beside 1 hung, from another address"
	release
}

# ---------------------------------------------------------------- what is done

private_host
for ((at = 1; at <= HEALTHY; at++)); do ip addr add "$(address "$at")/32" dev lo; done
start_libvirtd "${SETTINGS[@]}"
define_vms
start_vms $(hung_vms "$(maximum < <(tr ' ' '\n' <<<"$HUNG"))") $(healthy_vms)

for ((round = 1; round <= ROUNDS; round++)); do
	kinds="o c"
	[ $((round % 2)) = 1 ] || kinds="c o"
	for kind in $kinds; do
		echo "$(date +%T) load $(cut -d ' ' -f 1 /proc/loadavg): round $round, $kind"
		start
		memory idle
		status "status p50 alone"
		alone
		at_once "off of $HEALTHY at once"
		at_once "off of $HEALTHY at once, from $HEALTHY addresses" address
		if [ $kind = o ] || [ "$round" -le $C_ROUNDS ]; then
			for number in $HUNG; do beside "$number"; done
			beside_another
		fi
		stop
	done
done

awk -f "$benches/power/table.awk" "$RESULTS"
finish
