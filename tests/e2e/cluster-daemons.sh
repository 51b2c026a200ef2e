# Daemons of cluster.sh and their VMs: start, stop, requests, events.
# shellcheck shell=bash

# ---------------------------------------------------------------- the daemons

# ask NODE OPERATION VM [SECONDS] - runs an agent on NODE.
ask() {
	in_node "$1" timeout -k 1 $((${4:-$ANSWER} + 5)) "$FENCE_VIRT" -T 127.0.0.1 -k "$W/key" -t "${4:-$ANSWER}" -o "$2" -n "$3"
}
answers() { ask "$1" status "vm${1#n}a" 2 >/dev/null 2>&1; }

# daemon NODE - command of a daemon. A thread of the C daemon reads what its
# main thread writes a moment later: with this scheduling class, on one processor,
# the main thread runs first. Otherwise up to 90 % are members that receive nothing.
daemon() {
	if is_ours "$1"; then echo "$FENCE_VIRTD"; else echo "$MAIN_FIRST$C_DAEMON"; fi
}
MAIN_FIRST="taskset -c 0 chrt -f 1 "
$MAIN_FIRST true 2>/dev/null || MAIN_FIRST=

# start_daemon NODE - starts it and waits for an answer about its own VM; restarts a deaf C daemon.
start_daemon() {
	local tries=0 seconds=$LIMIT command
	is_ours "$1" || seconds=2
	read -ra command < <(daemon "$1")
	end "$1" daemon KILL
	until launch "$1" daemon "${command[@]}" -F -f "$W/$1/fence_virt.conf" -p /run/daemon.pid &&
		until_true "$seconds" answers "$1"; do
		end "$1" daemon KILL
		tries=$((tries + 1))
		if is_ours "$1" || [ $tries = 30 ]; then return 1; fi
	done
	[ $tries = 0 ] || echo "     the C daemon of $1 was deaf, it was started $((tries + 1)) times" >&"$TERMINAL"
}
# restart NODE [SETTING...]
restart() {
	write_conf "$@"
	! is_ours "$1" || end "$1" daemon TERM
	start_daemon "$1"
}
# Restarts C daemons, which may hang for ever: they lose a wake-up in 2 % of
# requests, and do not reconnect to a restarted corosync.
restart_c() {
	local node
	for node in "${ALL[@]}"; do
		is_ours "$node" || ! has_power "$node" || restart "$node" || return
	done
}

# ------------------------------------------------------- the VMs and their events

# all_run - all VMs run except those that are off by definition.
all_run() {
	local node vm running
	for node in "${ALL[@]}"; do
		has_power "$node" || continue
		running=$(libvirt "$node" list --state-running --name)
		for vm in "vm${node#n}"{a,b}; do
			grep -qx "$vm" <<<"$running" || libvirt "$node" start "$vm" || return
		done
	done
}

defined() { grep -c "^$1 vm${1#n}off Defined" "$W/events"; }
more_defined() { [ "$(defined "$1")" -gt "$2" ]; }
# settle - waits until the file `events` has all events so far.
settle() {
	local node before
	for node in "${ALL[@]}"; do
		has_power "$node" || continue
		before=$(defined "$node")
		libvirt "$node" define "$W/$node/vm${node#n}off.xml" >/dev/null
		until_true "$LIMIT" more_defined "$node" "$before" || return
	done
}
# events SINCE - events after that line, by node.
events() {
	settle
	tail -n "+$(($1 + 1))" "$W/events" | grep -vE ' (Defined|Undefined)$' | sort -s -k 1,1 | xargs
}
# runs NODE VM
runs() { [ "$(libvirt "$1" domstate "$2" 2>&1)" = running ]; }

# gets CODE NODE OPERATION VM [SECONDS] - the agent's exit code.
gets() {
	local code expected=$1
	shift
	try ask "$@"
	code=$?
	[ $code = "$expected" ] || { echo "the exit code is not $expected"; return 1; }
}
