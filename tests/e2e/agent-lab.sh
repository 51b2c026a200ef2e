# The host of agent.sh, which sources this file inside its namespaces: fence_virtd with the backend
# agent, and what its fence agents ask. pacemaker-lab.sh makes the network, libvirt and the guest.
# shellcheck shell=bash
source "$here/pacemaker-lab.sh"

# The one node of the cluster. It fences VMs of the stub, which are no nodes.
NODES=(g1)
# The multicast agent of the C suite listens on 1229 on all addresses.
TCP_PORT=1230
# Seconds that a client waits.
PATIENCE=25
SSH_PORT=2222
PVE_PORT=8006
PASSWORD='not-in-a-log'
THEIRS=/usr/sbin

show_logs() {
	echo "--- the daemon's log, the calls of the stub, logs of sshd and pacemaker"
	tail -n 15 "$W/daemon.log"
	tail -n 8 "$W/pve/calls" "$W/pve/log" "$W/ssh/log"
	grep -sE ' (warning|error|crit):|fence_(xvm|virt)|stonith_admin' "$W/g1/log/pacemaker.log" | grep -v cib_perform_op | tail -n 8
	echo "---"
} 2>&1

agent_host() {
	private_host
	# A port, with which the bridge has a carrier.
	ip link add port0 type veth peer name port1 && ip link set port0 master br0 up && ip link set port1 up
	# Terminals, for ssh.
	mkdir -p /dev/pts && mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && ln -s pts/ptmx /dev/ptmx
	mknod -m 666 /dev/tty c 5 0
	mount -t tmpfs -o mode=700 home /root
	mkdir -p "$W/ssh" "$W/pve/vms"
	touch "$W/daemon.log" "$W/pve/calls" "$W/pve/log" "$W/ssh/log"
}

# ------------------------------------------------------------------- daemon

# start_daemon BACKEND SECTIONS [OPTION...] - with these sections of backends, over tcp and multicast.
start_daemon() {
	local log backend=$1 sections=$2
	shift 2
	write_conf "$backend" "$sections"
	log=$(lines "$W/daemon.log")
	"$FENCE_VIRTD" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" "$@" >>"$W/daemon.log" 2>&1 &
	daemon=$!
	need "the daemon is ready" logged "$W/daemon.log" "$log" "is ready"
}

write_conf() { # BACKEND SECTIONS
	(umask 077 && cat >"$W/fence_virt.conf") <<-CONF
		fence_virtd { listener = "multicast, tcp"; backend = "$1"; status_socket = "$W/status.sock"; }
		listeners {
		multicast { key_file = "$W/etc/cluster/fence_xvm.key"; interface = "br0"; }
		tcp { key_file = "$W/etc/cluster/fence_xvm.key"; address = "$HOST"; port = "$TCP_PORT"; }
		}
		backends { $2 }
	CONF
}

stop_daemon() { kill -TERM "$daemon" && wait "$daemon" 2>/dev/null; }

# refuses CONDITION-OF-THE-LOG - the daemon does not start with the configuration.
refuses() {
	! try "$FENCE_VIRTD" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" && says "$1"
}

# ask AGENT OPERATION [VM] - by the program under test, or by that of the package fence-virt.
ask() {
	local agent=$1 operation=$2 vm=()
	[ -z "${3:-}" ] || vm=(-H "$3")
	case $agent in
	multicast) try "$W/sbin/fence_xvm" -k "$KEY" -t "$PATIENCE" -o "$operation" "${vm[@]}" ;;
	tcp) try "$W/sbin/fence_virt" -T "$HOST" -p "$TCP_PORT" -k "$KEY" -t "$PATIENCE" -o "$operation" "${vm[@]}" ;;
	their-multicast) try "$THEIRS/fence_xvm" -k "$KEY" -t "$PATIENCE" -o "$operation" "${vm[@]}" ;;
	their-tcp) try "$THEIRS/fence_virt" -T "$HOST" -p "$TCP_PORT" -k "$KEY" -t "$PATIENCE" -o "$operation" "${vm[@]}" ;;
	esac
}
# gives CODE AGENT OPERATION [VM]
gives() {
	local wanted=$1 code=0
	shift
	ask "$@" || code=$?
	same "$code" "$wanted"
}

# ---------------------------------------------------------------------- ssh

# An sshd with keys of its own, on whose commands `virsh` asks the libvirtd of h1.
start_sshd() {
	local key
	for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$W/ssh/$key"; done
	mkdir -p /run/sshd /root/.ssh
	echo "[$HOST]:$SSH_PORT $(cut -d ' ' -f 1,2 "$W/ssh/host.pub")" >/root/.ssh/known_hosts
	# A root whose account is locked could not log in.
	echo 'root:*:19000:0:99999:7:::' >"$W/ssh/shadow"
	grep -v '^root:' /etc/shadow >>"$W/ssh/shadow"
	mount --bind "$W/ssh/shadow" /etc/shadow
	cat >"$W/ssh/conf" <<-CONF
		ListenAddress $HOST:$SSH_PORT
		HostKey $W/ssh/host
		AuthorizedKeysFile $W/ssh/user.pub
		PidFile none
		StrictModes no
		PasswordAuthentication no
		PermitRootLogin prohibit-password
		UsePAM no
		UseDNS no
		PrintMotd no
		SetEnv LIBVIRT_DEFAULT_URI=$(uri h1)
	CONF
	/usr/sbin/sshd -D -e -f "$W/ssh/conf" >"$W/ssh/log" 2>&1 &
	sshd=$!
	need "sshd answers" ssh_answers
}
ssh_answers() { ssh -n -i "$W/ssh/user" -p "$SSH_PORT" -o BatchMode=yes "root@$HOST" virsh version; } >/dev/null 2>&1

# A libvirtd with the test driver, whose state lasts as long as a client is connected.
start_libvirt() {
	mkdir "$W/h1"
	start_libvirtd h1
	echo "<domain type='test'><name>web</name><memory>65536</memory><os><type>hvm</type></os></domain>" >"$W/domain.xml"
	libvirt h1 event --event lifecycle --loop >"$W/events" 2>&1 &
	need "libvirt's events arrive" libvirt_tells
	libvirt h1 define "$W/domain.xml" && libvirt h1 start web
}
libvirt_tells() { libvirt h1 suspend test && libvirt h1 resume test && grep -q "'test'" "$W/events"; } >/dev/null 2>&1
vm_is() { same "$(libvirt h1 domstate "$1")" "$2"; }

# ------------------------------------------------------------------ Proxmox

start_pve() {
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$HOST" -addext "subjectAltName=IP:$HOST" \
		-keyout "$W/pve/key" -out "$W/pve/certificate" 2>/dev/null
	cat "$W/pve/key" "$W/pve/certificate" >"$W/pve/pem"
	pve_password "$PASSWORD"
	(umask 077 && echo "$PASSWORD" >"$W/pve.password")
	echo "web running" >"$W/pve/vms/100"
	echo "db stopped" >"$W/pve/vms/101"
	/usr/bin/python3 "$here/pve-stub.py" "$HOST" "$PVE_PORT" "$W/pve/pem" "$W/pve" >"$W/pve/log" 2>&1 &
	need "the stub of Proxmox listens" pve_listens
}
pve_listens() { (: <"/dev/tcp/$HOST/$PVE_PORT") 2>/dev/null; }
pve_password() { echo "$1" >"$W/pve/password"; }
pve_is() { same "$(cat "$W/pve/vms/$1")" "$2"; }
# calls_since LINE - calls that change a VM.
calls_since() { tail -n "+$(($1 + 1))" "$W/pve/calls" | sed -n 's,^POST nodes/pve1/qemu/\([0-9]*\)/status/\(.*\) 200$,\1 \2,p' | xargs; }

PVE_SECTION() {
	cat <<-CONF
		agent = "pve" {
		program = "/usr/sbin/fence_pve";
		option = "ip=$HOST"; option = "ipport=$PVE_PORT"; option = "username=fence@pve"; option = "ssl_insecure=1";
		option = "pve_node_auto=1"; option = "power_timeout=3"; password_file = "$W/pve.password"; timeout = "15";
		}
	CONF
}

# ---------------------------------------------------------------- pacemaker

devices() {
	device multicast fence_xvm "pcmk_host_map=n2:db"
	device tcp fence_virt "pcmk_host_map=n1:web" "ipaddr=$HOST" "ipport=$TCP_PORT"
}
