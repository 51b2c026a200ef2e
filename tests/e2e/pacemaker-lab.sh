# Machines of pacemaker.sh and agent.sh, which source this file inside the namespaces of
# the host: that host, its guests, and functions to control and query them.
#
# The host has a libvirtd with libvirt's test driver, whose VMs are simulated:
# `power` turns the events of such a VM into the end or the start of the guest
# that represents it.
#
# With BACKEND=cpg there is a second host: a separate corosync joins the two,
# and g3 runs there. All requests still arrive at the first one.
# shellcheck shell=bash
source "$here/lab.sh"

TOKEN=2000 # ms; a busy machine does not lose the token
NODES=(g1 g2 g3) # the VM of g1 is vmg1
export HOST=10.77.0.1
SECOND=10.77.0.2
has_second() { [ "$BACKEND" = cpg ]; }
has_own_keys() { [ "$KEYS" = own ]; }
# How the agents sign.
if has_own_keys; then HASH=hmac-sha256; else HASH=sha256; fi
# host_of NODE - where its VM is.
host_of() { if has_second && [ "$1" = g3 ]; then echo h2; else echo h1; fi; }

show_logs() {
	local node
	for node in "${NODES[@]}"; do
		echo "--- $node: console, pacemaker's log"
		tail -n 3 "$W/$node/log/console"
		grep -E ' (warning|error|crit):|fence_(xvm|virt)|stonith_admin' "$W/$node/log/pacemaker.log" |
			grep -v cib_perform_op | tail -n 8
	done
	echo "--- libvirt's events, libvirtd's log, the daemon's log"
	tail -n 6 "$W/events" "$W"/h?/power.log "$W"/h?/libvirtd.log
	tail -n 12 "$W/daemon.log"
	! has_second || tail -n 12 "$W/h2/daemon.log" "$W"/h?/log/corosync.log
	echo "---"
} 2>&1

# ------------------------------------------------------------------ the host

private_host() {
	ip link set lo up
	# A bridge that floods multicast, because there is no IGMP querier.
	# A fixed address: otherwise it changes with the ports.
	ip link add br0 address 02:00:00:00:00:01 type bridge mcast_snooping 0
	ip addr add "$HOST/24" dev br0
	ip link set br0 up
	private_dev
}

uri() { echo "test+unix:///default?socket=$W/$1/libvirt/libvirt-sock"; } # HOST
libvirt() { virsh -q -c "$(uri "$1")" "${@:2}"; } # HOST COMMAND...
vm_libvirt() { libvirt "$(host_of "$1")" "${@:2}"; } # NODE COMMAND...
libvirt_answers() { libvirt "$1" version >/dev/null 2>&1; }

start_libvirtd() { # HOST
	local home=$W/$1
	mkdir -p "$home/libvirt/drivers"
	cat >"$home/libvirt/conf" <<-CONF
		unix_sock_dir = "$home/libvirt"
		auth_unix_rw = "none"
		log_outputs = "3:stderr"
	CONF
	# Without modules it has its built-in drivers only.
	LIBVIRT_DRIVER_DIR=$home/libvirt/drivers \
		libvirtd -f "$home/libvirt/conf" -p "$home/libvirt/pid" >"$home/libvirtd.log" 2>&1 &
	need "libvirtd of $1 answers" libvirt_answers "$1"
}

# The hosts' own cluster. The first host is where this script runs.
start_hosts() {
	local host
	mkdir "$W/hosts"
	corosync_conf hosts "$(corosync_node h1 1 "$HOST")$(corosync_node h2 2 "$SECOND")" "two_node: 1" >"$W/hosts/corosync.conf"
	for host in h1 h2; do mkdir -p "$W/$host/log" "$W/$host/corosync"; done
	ip link add h2 type veth peer name port2
	ip link set port2 master br0 up
	unshare --net --mount --uts --ipc bash "$here/pacemaker-host.sh" h2 "$SECOND" >"$W/h2/console" 2>&1 </dev/null &
	second=$!
	until_true "$LIMIT" has_own_network "$second"
	ip link set h2 netns "$second"
	bash "$here/pacemaker-host.sh" h1 >"$W/h1/console" 2>&1 </dev/null &
	need "the hosts are a cluster" hosts_are_two
}
has_own_network() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
on_second() { nsenter -t "$second" -n -m -u -i -- "$@"; }
hosts_are_two() {
	corosync-quorumtool -s 2>/dev/null | grep -q '^Nodes: *2$' &&
		on_second corosync-quorumtool -s 2>/dev/null | grep -q '^Nodes: *2$'
}

# The second host's daemon; guests do not reach its listener.
start_second_daemon() {
	local log
	cat >"$W/h2/fence_virt.conf" <<-CONF
		fence_virtd { listener = "tcp"; backend = "cpg"; }
		listeners { tcp { key_file = "$W/etc/cluster/fence_xvm.key"; address = "127.0.0.1"; } }
		backends { cpg { uri = "$(uri h2)"; } }
	CONF
	chmod 600 "$W/h2/fence_virt.conf"
	touch "$W/h2/daemon.log"
	log=$(lines "$W/h2/daemon.log")
	nsenter -t "$second" -n -m -u -i -- "$FENCE_VIRTD" -F -f "$W/h2/fence_virt.conf" -p "$W/h2/daemon.pid" >>"$W/h2/daemon.log" 2>&1 &
	second_daemon=$!
	need "the daemon of the second host is ready" logged "$W/h2/daemon.log" "$log" "is ready"
}

# Power of the VMs: turns libvirt's events into guests that end and
# start, and writes them to the file `events`, a line each, as "vmg2 Stopped".
power() { # HOST
	local line vm
	# The test driver's state lasts while a client such as this is connected.
	libvirt "$1" event --event lifecycle --loop | while read -r line; do
		vm=${line#*domain \'}
		vm=${vm%%\'*}
		case $line in
		*': Stopped'*) power_off "${vm#vm}" && echo "$vm Stopped" >>"$W/events" ;;
		*': Started'*) power_on "${vm#vm}" && echo "$vm Started" >>"$W/events" ;;
		*) echo "$1 $line" >>"$W/events" ;;
		esac
	done
}

guest_pid() { cat "$W/$1.pid" 2>/dev/null; }
is_up() { kill -0 "$(guest_pid "$1")" 2>/dev/null; }
is_down() { ! is_up "$1"; }

# The end of a guest's first process ends all its processes.
power_off() {
	is_up "$1" && kill -KILL "$(guest_pid "$1")"
	until_true "$LIMIT" is_down "$1"
}

power_on() {
	local unshare pid
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		bash "$here/pacemaker-node.sh" "$1" >>"$W/$1/log/console" 2>&1 </dev/null &
	unshare=$!
	until_true "$LIMIT" is_first "$unshare" || return
	read -r pid <"/proc/$unshare/task/$unshare/children"
	echo "$pid" >"$W/$1.pid.new" && mv "$W/$1.pid.new" "$W/$1.pid"
	# The veth pair of the previous guest may still exist. The new one has the
	# same address, as with a VM.
	ip link del "$1" 2>/dev/null
	ip link add "$1" type veth peer name eth0 address "02:00:00:00:01:0${1#g}" netns "$pid" && ip link set "$1" master br0 up
}

power_works() { # HOST
	libvirt "$1" suspend test && libvirt "$1" resume test && grep -q "^$1 .*'test'" "$W/events"
} >/dev/null 2>&1

start_power() { # HOST
	local node
	touch "$W/events"
	power "$1" >"$W/$1/power.log" 2>&1 &
	need "libvirt's events of $1 arrive" power_works "$1"
	for node in "${NODES[@]}"; do
		[ "$(host_of "$node")" = "$1" ] || continue
		echo "<domain type='test'><name>vm$node</name><memory>65536</memory><os><type>hvm</type></os></domain>" >"$W/domain.xml"
		libvirt "$1" define "$W/domain.xml" >/dev/null
	done
	# All hosts have it with the same UUID, so no host owns it.
	if has_second; then libvirt "$1" destroy test && libvirt "$1" undefine test; fi >/dev/null
}

listener_keys() {
	if has_own_keys; then echo 'hash = "hmac-sha256";'; else echo "key_file = \"$W/etc/cluster/fence_xvm.key\";"; fi
}

# A key for each VM, by which the group knows it: no address is listed.
guest_keys() {
	local node
	has_own_keys || return 0
	echo "keys { folder = \"$W/keys\"; shared = \"no\"; }"
	echo "groups { group { name = \"cluster\"; $(for node in "${NODES[@]}"; do echo "uuid = \"vm$node\";"; done) } }"
}

start_daemon() {
	local log
	cat >"$W/fence_virt.conf" <<-CONF
		fence_virtd { listener = "multicast, tcp"; backend = "$BACKEND"; status_socket = "$W/status.sock"; }
		listeners {
		multicast { $(listener_keys) interface = "br0"; }
		tcp { $(listener_keys) address = "$HOST"; }
		}
		backends { $BACKEND { uri = "$(uri h1)"; } }
		$(guest_keys)
	CONF
	chmod 600 "$W/fence_virt.conf"
	touch "$W/daemon.log"
	log=$(lines "$W/daemon.log")
	"$FENCE_VIRTD" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" >>"$W/daemon.log" 2>&1 &
	daemon=$!
	need "the daemon is ready" logged "$W/daemon.log" "$log" "is ready"
}

# ---------------------------------------------------------------- the guests

# device ID AGENT NAME=VALUE... - a fencing resource. It is monitored after its
# start, but rarely later: that would fail while a check stops the daemon.
device() {
	local id=$1 agent=$2
	shift 2
	cat <<-XML
		<primitive id="$id" class="stonith" type="$agent">
		<instance_attributes id="$id-attributes">$(nvpairs "$id" "timeout=$AGENT_TIMEOUT" "$@")</instance_attributes>
		<operations><op id="$id-monitor" name="monitor" interval="1h" timeout="30s"/></operations>
		</primitive>
	XML
}

# The fencing resources: g1 and g2 are fenced by multicast, g3 over TCP.
devices() {
	device multicast fence_xvm "pcmk_host_map=g1:vmg1;g2:vmg2" "hash=$HASH"
	device tcp fence_virt "pcmk_host_map=g3:vmg3" "ipaddr=$HOST" "hash=$HASH"
}

# Writes the files of all guests.
make_guests() {
	local at node members=""
	mkdir -p "$W/sbin" "$W/etc/corosync" "$W/etc/cluster"
	cp "$FENCE_VIRT" "$W/sbin/fence_virt"
	ln -s fence_virt "$W/sbin/fence_xvm"
	(umask 077 && head -c 4096 /dev/urandom >"$W/etc/cluster/fence_xvm.key")
	echo "127.0.0.1 localhost" >"$W/etc/hosts"
	for at in "${!NODES[@]}"; do
		node=${NODES[at]}
		echo "10.77.0.$((at + 11)) $node" >>"$W/etc/hosts"
		members+=$(corosync_node "$node" "$((at + 1))" "10.77.0.$((at + 11))")
	done
	corosync_conf test "$members" >"$W/etc/corosync/corosync.conf"
	# No fencing of nodes that are merely late to start.
	cat >"$W/cib.xml" <<-XML
		<cib validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0"><configuration>
		<crm_config><cluster_property_set id="options">
		$(nvpairs options stonith-enabled=true startup-fencing=false dc-deadtime=2s)
		</cluster_property_set></crm_config>
		<nodes>$(for at in "${!NODES[@]}"; do echo "<node id=\"$((at + 1))\" uname=\"${NODES[at]}\"/>"; done)</nodes>
		<resources>
		$(devices)
		</resources><constraints/>
		</configuration><status/></cib>
	XML
	for node in "${NODES[@]}"; do
		mkdir -p "$W/$node/log" "$W/$node/corosync"
		mkdir -p "$W/$node/pacemaker/"{blackbox,cib,cores,pengine}
		cp "$W/cib.xml" "$W/$node/pacemaker/cib/"
		if has_own_keys; then
			(umask 077 && mkdir -p "$W/keys" && head -c 4096 /dev/urandom >"$W/$node/key" && cp "$W/$node/key" "$W/keys/vm$node.key")
		fi
		chown -R hacluster:haclient "$W/$node/pacemaker"
		chmod 600 "$W/$node/pacemaker/cib/cib.xml"
	done
}

# in_guest NODE COMMAND...
in_guest() {
	local pid
	pid=$(guest_pid "$1") && shift && nsenter -t "$pid" -m -u -i -n -p -- "$@"
}

crm() { in_guest "$1" crm_mon --one-shot --output-as=xml 2>/dev/null; }
# sees_nodes NODE COUNT - true if it sees COUNT full members.
sees_nodes() {
	[ "$(crm "$1" | grep '<node name=.*online="true"' | grep 'pending="false"' | grep -c 'unclean="false"')" = "$2" ]
}
# sees_started NODE - true if it sees both fencing resources started, on online
# nodes.
sees_started() {
	[ "$(crm "$1" | grep '<resource id=' | grep 'role="Started"' | grep 'failed="false"' | grep -c 'nodes_running_on="1"')" = 2 ]
}
