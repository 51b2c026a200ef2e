#!/bin/bash
# Host of pacemaker.sh with BACKEND=cpg: its corosync, in the namespaces in which
# it is started.
#
#   pacemaker-host.sh HOST [ADDRESS]    with the work directory in $W; with an
#                                       address: the host's interface h2 gets it
set -u
host=$1
home=$W/$host
mount --make-rprivate /
if [ -n "${2:-}" ]; then
	hostname "$host"
	mount -t tmpfs -o mode=755 run /run
	mount -t tmpfs -o mode=1777 shm /dev/shm
	mkdir /run/lock
	ip link set lo up
	# The lab creates the veth pair.
	until ip link show h2 >/dev/null 2>&1; do sleep 0.02; done
	ip addr add "$2/24" dev h2
	ip link set h2 up
fi
mount --bind "$home/log" /var/log
mount --bind "$home/corosync" /var/lib/corosync
mount --bind "$W/hosts" /etc/corosync
exec corosync -f
