#!/bin/bash
# A guest of pacemaker.sh: the first process of namespaces of its own, which
# becomes a cluster node. Whoever kills it cuts the guest's power.
#
#   pacemaker-node.sh NODE    with the work folder in $W
set -u
node=$1
home=$W/$node

hostname "$node"
# What a machine has for itself. libqb's sockets are abstract ones: the network
# namespace keeps those of the nodes apart.
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir /run/lock
mount --bind "$home/log" /var/log
mount --bind "$home/corosync" /var/lib/corosync
mount --bind "$home/pacemaker" /var/lib/pacemaker
# Our agents, the key, and the cluster's configuration, over what is installed.
# Overlays of lower folders alone are read-only and need no writable layer.
mount -t overlay -o "lowerdir=$W/sbin:/usr/sbin" overlay /usr/sbin
mount -t overlay -o "lowerdir=$W/etc:/etc" overlay /etc

# The cable is plugged in from outside.
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip addr add "$(awk -v node="$node" '$2 == node { print $1 }' /etc/hosts)/24" dev eth0
ip link set eth0 up
ip route add default via "$HOST"

corosync -f &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.1; done
echo "$(date +%T) corosync runs, starting pacemaker"
PCMK_logfile=/var/log/pacemaker.log PCMK_logfacility=none pacemakerd -f &
wait
echo "$(date +%T) corosync and pacemaker have ended"
