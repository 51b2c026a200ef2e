# Machines of cluster.sh, which sources this file inside its namespaces: a
# switch, the nodes on it, and functions to control and query them.
#
# The VMs of n1 are vm1a and vm1b, running, and vm1off. They belong to libvirt's
# test driver: simulated, but with a state outside of fence_virtd. The file
# `events` records all their events.
# shellcheck shell=bash
source "$here/lab.sh"

# shellcheck disable=SC2153 # that is not `nodes`
for ((at = 1; at <= NODES; at++)); do ALL+=("n$at"); done
LAST=n$NODES
# The first process of each node.
node_script=cluster-node.sh

# kind NODE - o or c; empty for the node without a daemon.
kind() { echo "${KINDS:${1#n} - 1:1}"; }
is_ours() { [ "$(kind "$1")" = o ]; }
label() { if is_ours "$1"; then echo "$1 (ours)"; else echo "$1 (C)"; fi; }
# The last id is large, as ids made from addresses are.
id() { if [ "$1" = "$LAST" ]; then echo $((3000000000 + NODES)); else echo "${1#n}"; fi; }
address() { echo "10.78.0.$((${1#n} + 10))"; }
pid_of() { cat "$W/$1/$2.pid" 2>/dev/null; } # NODE NAME, as numbered inside

show_logs() {
	local node
	for node in "${ALL[@]}"; do
		echo "--- $node: console, corosync's log, the daemon's log"
		tail -n 3 "$W/$node/console"
		tail -n 6 "$W/$node/log/corosync.log"
		tail -n 14 "$W/$node/daemon.log"
	done
	echo "--- the last events"
	tail -n 12 "$W/events"
	echo "---"
} 2>&1

# ----------------------------------------------------------------- the switch

private_host() {
	ip link set lo up
	# br1 is the other side of a partition.
	for bridge in br0 br1; do
		ip link add "$bridge" type bridge mcast_snooping 0
		ip link set "$bridge" up
	done
	private_dev
	(umask 077 && head -c 4096 /dev/urandom >"$W/key")
	touch "$W/events"
}

pull_cable() { ip link set "p${1#n}" down; }
plug_cable() { ip link set "p${1#n}" up; }
# part NODE... - separates these nodes from all others.
part() {
	local node
	for node; do ip link set "p${node#n}" master br1; done
}
heal() {
	local node
	for node in "${ALL[@]}"; do ip link set "p${node#n}" master br0; done
}

# ------------------------------------------------------------------ the nodes

domain() { # NAME UUID [DEVICES]
	echo "<domain type='test'><name>$1</name><uuid>$2</uuid><memory>8192</memory><os><type>hvm</type></os>" \
		"<devices>${3:-}</devices></domain>"
}
# uuid VM - for vm2a 000000a2-...
uuid() {
	local vm=${1#vm} letter=f
	case $vm in *a) letter=a ;; *b) letter=b ;; esac
	printf '000000%s%d-1111-4111-8111-%012d' "$letter" "${vm%%[a-z]*}" "${vm%%[a-z]*}"
}

# node_files NODE - its address, the URI of its libvirt, and its VMs.
node_files() {
	local node=$1 vm
	mkdir -p "$W/$node/log" "$W/$node/corosync"
	address "$node" >"$W/$node/address"
	echo "test+unix:///default?socket=$W/$node/libvirt/libvirt-sock" >"$W/$node/uri"
	for vm in "vm${node#n}"{a,b,off}; do domain "$vm" "$(uuid "$vm")" >"$W/$node/$vm.xml"; done
}

# Writes the files of all nodes.
make_nodes() {
	local node members=""
	for node in "${ALL[@]}"; do
		node_files "$node"
		members+=$(corosync_node "$node" "$(id "$node")" "$(address "$node")")
		write_conf "$node"
	done
	mkdir "$W/corosync"
	corosync_conf test "$members" >"$W/corosync/corosync.conf"
}

# write_conf NODE [SETTING...] - its fence_virt.conf, with settings of backends/cpg. LINES_IN is the directory of
# serial lines, PERMITTED the text of the groups; empty means none.
LINES_IN="" PERMITTED=""
write_conf() {
	local node=$1 names=tcp lines="" groups=""
	shift
	[ -z "$LINES_IN" ] || names="tcp, serial" lines="serial { path = \"$LINES_IN\"; }"
	[ -z "$PERMITTED" ] || groups="groups { $PERMITTED }"
	cat >"$W/$node/fence_virt.conf" <<-CONF
		fence_virtd { listener = "$names"; backend = "cpg"; }
		listeners { tcp { key_file = "$W/key"; address = "127.0.0.1"; } $lines }
		backends { cpg { uri = "$(cat "$W/$node/uri")"; $* } }
		$groups
	CONF
	chmod 600 "$W/$node/fence_virt.conf"
}

# in_node NODE COMMAND...
in_node() {
	local pid
	pid=$(cat "$W/$1/pid") && shift && nsenter -t "$pid" -m -u -i -n -p -- "$@"
}
libvirt() { # NODE COMMAND...
	virsh -q -c "$(cat "$W/$1/uri")" "${@:2}"
}
# on_each NODE COMMAND VM... - one virsh for all, which goes on after an error.
on_each() {
	local vm commands=""
	for vm in "${@:3}"; do commands+="$2 $vm; "; done
	libvirt "$1" "$commands" >/dev/null
}

# launch NODE NAME COMMAND... - starts a process on the node. Its pid inside is in
# NAME.pid, its output in NAME.log, its exit code after its end in NAME.code.
launch() {
	local home=$W/$1
	rm -f "$home/$2."{pid,code}
	# shellcheck disable=SC2016
	in_node "$1" bash -c 'exec >>"$1.log" 2>&1 </dev/null
		("${@:2}" & echo $! >"$1.new"; mv "$1.new" "$1.pid"; wait $!; echo $? >"$1.code") &' \
		launch "$home/$2" "${@:3}"
	until_true "$LIMIT" test -s "$home/$2.pid"
}
# signal NODE NAME SIGNAL
signal() { in_node "$1" kill "-$3" "$(pid_of "$1" "$2")"; }
has_ended() { [ -s "$W/$1/$2.code" ]; } # NODE NAME
# end NODE NAME SIGNAL - sends the signal and waits for the process to end.
end() {
	has_ended "$1" "$2" && return
	signal "$1" "$2" "$3" && until_true "$LIMIT" has_ended "$1" "$2"
}

power_on() { # NODE
	local unshare pid port=p${1#n}
	rm -f "$W/$1/up"
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		bash "$here/$node_script" "$1" >>"$W/$1/console" 2>&1 </dev/null &
	unshare=$!
	until_true "$LIMIT" is_first "$unshare" || return
	read -r pid <"/proc/$unshare/task/$unshare/children"
	echo "$pid" >"$W/$1/pid"
	echo "the power was cut" | tee "$W/$1/corosync.code" >"$W/$1/daemon.code"
	# The veth pair of the previous node may still exist.
	ip link del "$port" 2>/dev/null
	ip link add "$port" type veth peer name eth0 netns "$pid" && ip link set "$port" master br0 up &&
		until_true "$LIMIT" test -e "$W/$1/up" && start_corosync "$1"
}
power_cut() { rm "$W/$1/up" && kill -KILL "$(cat "$W/$1/pid")"; }
has_power() { [ -e "$W/$1/up" ]; }

start_corosync() { end "$1" corosync KILL && launch "$1" corosync corosync -f; }
# sees_nodes NODE COUNT - true if it is quorate in a cluster of COUNT nodes.
sees_nodes() {
	local status
	status=$(in_node "$1" timeout 2 corosync-quorumtool -s 2>/dev/null)
	grep -q '^Quorate: *Yes' <<<"$status" && grep -q "^Nodes: *$2\$" <<<"$status"
}
sees_no_quorum() { in_node "$1" timeout 2 corosync-quorumtool -s 2>/dev/null | grep -q '^Quorate: *No'; }
# sees_daemons NODE COUNT - true if it sees COUNT members in the group.
sees_daemons() { [ "$(in_node "$1" timeout 2 corosync-cpgtool 2>/dev/null | grep -c '([0-9]')" = "$2" ]; }
all_see() { # COUNT
	local node
	for node in "${ALL[@]}"; do sees_nodes "$node" "$1" || return; done
}

# each NODE... -- FUNCTION [ARGUMENT...] - runs it for all nodes concurrently.
each() {
	local nodes=() jobs=() node job code=0
	while [ "$1" != -- ]; do nodes+=("$1") && shift; done
	shift
	for node in "${nodes[@]}"; do
		"$1" "$node" "${@:2}" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || code=1; done
	return $code
}
