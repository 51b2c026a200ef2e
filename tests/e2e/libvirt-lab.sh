# A host with a libvirtd of its own, for scripts to source inside their namespaces.
# Needs $W, $LIMIT and inside.sh.
# shellcheck shell=bash
. "$here/lab.sh"

URI=qemu:///system

# private_libvirt - a network with lo, a /dev for QEMU, and libvirt's directories, all empty.
private_libvirt() {
	local folder
	ip link set lo up
	private_dev
	mkdir -p "$W/log" /dev/pts /dev/net
	mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
	ln -s pts/ptmx /dev/ptmx
	mknod -m 666 /dev/net/tun c 10 200
	for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt; do
		mount -t tmpfs -o mode=755 private "$folder"
	done
	mount --bind "$W/log" /var/log/libvirt
	mkdir -p /run/lock
}

libvirt() { virsh -q -c "$URI" "$@"; }
libvirt_answers() { libvirt version >/dev/null 2>&1; }
state_is() { [ "$(libvirt domstate "$1" 2>&1)" = "$2" ]; } # VM STATE

# start_libvirtd [SETTING...] - without a service manager and virtlogd, with consoles
# owned by root; settings of libvirtd.conf. Its process is $libvirtd.
start_libvirtd() {
	cat >/etc/libvirt/qemu.conf <<-CONF
		security_driver = "none"
		user = "root"
		group = "root"
		dynamic_ownership = 0
		remember_owner = 0
		cgroup_controllers = [ ]
		namespaces = [ ]
		stdio_handler = "file"
	CONF
	printf '%s\n' 'auth_unix_rw = "none"' 'log_outputs = "3:stderr"' "$@" >"$W/libvirtd.conf"
	libvirtd -f "$W/libvirtd.conf" -p /run/libvirtd.pid >>"$W/libvirtd.log" 2>&1 &
	libvirtd=$!
	need "libvirtd answers" libvirt_answers
}

# has_ended PID - true also for a zombie.
has_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# connections_of PID FOLDER - names of the sockets in it that this process is connected to.
connections_of() {
	ss -Hxp | awk -v pid=",pid=$1," -v lines="$2/" '
		{ path[$6] = $5 }
		index($0, pid) { peers[$8] }
		END { for (peer in peers) if (index(path[peer], lines) == 1) print substr(path[peer], length(lines) + 1) }' | sort | xargs
}
