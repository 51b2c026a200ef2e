# What is asked of the daemons of cluster.sh, and done to them and their VMs.
# shellcheck shell=bash

# ---------------------------------------------------------------- the daemons

# ask NODE OPERATION VM [SECONDS] - as an agent there.
ask() {
	in_node "$1" timeout -k 1 $((${4:-$ANSWER} + 5)) "$FENCE_VIRT" -T 127.0.0.1 -k "$W/key" -t "${4:-$ANSWER}" -o "$2" -n "$3"
}
answers() { ask "$1" status "vm${1#n}a" 2 >/dev/null 2>&1; }

# daemon NODE - what starts one. The C daemon lets a thread of its own read what
# the main thread writes a moment later: in this class, and on one processor, the
# main thread goes on first. Without, up to nine in ten are in the group but deaf.
daemon() {
	if is_ours "$1"; then echo "$FENCE_VIRTD"; else echo "$MAIN_FIRST$C_DAEMON"; fi
}
MAIN_FIRST="taskset -c 0 chrt -f 1 "
$MAIN_FIRST true 2>/dev/null || MAIN_FIRST=

# start_daemon NODE - and it answers for its own VM. A deaf C daemon is started again.
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
# Those of the C nodes, which may hang for ever: a wake-up is lost in 2 % of
# requests, and they do not come back to a corosync that was away.
restart_c() {
	local node
	for node in "${ALL[@]}"; do
		is_ours "$node" || ! has_power "$node" || restart "$node" || return
	done
}

# ------------------------------------------------------- the VMs and their events

# all_run - every VM runs that should.
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
# settle - whatever happened to a VM until now is in the file of events.
settle() {
	local node before
	for node in "${ALL[@]}"; do
		has_power "$node" || continue
		before=$(defined "$node")
		libvirt "$node" define "$W/$node/vm${node#n}off.xml" >/dev/null
		until_true "$LIMIT" more_defined "$node" "$before" || return
	done
}
# events SINCE - what has happened after that line, by node.
events() {
	settle
	tail -n "+$(($1 + 1))" "$W/events" | grep -vE ' (Defined|Undefined)$' | sort -s -k 1,1 | xargs
}
# runs NODE VM
runs() { [ "$(libvirt "$1" domstate "$2" 2>&1)" = running ]; }
