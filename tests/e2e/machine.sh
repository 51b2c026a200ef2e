# Start of a machine of the cluster tests: functions for the first process of its namespaces.
# shellcheck shell=bash

# be_machine NODE HOME - its name, and the state that machines do not share.
be_machine() {
	hostname "$1"
	mount -t tmpfs -o mode=755 run /run
	mount -t tmpfs -o mode=1777 shm /dev/shm
	mkdir /run/lock
	mount --bind "$2/log" /var/log
	mount --bind "$2/corosync" /var/lib/corosync
}

# use_network ADDRESS - brings its network up. The lab creates the veth pair.
use_network() {
	ip link set lo up
	until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
	ip addr add "$1/24" dev eth0
	ip link set eth0 up
}
