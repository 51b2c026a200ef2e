#!/bin/bash
# Guest of pacemaker.sh: the first process of its namespaces, which
# becomes a cluster node. Killing it cuts the guest's power.
#
#   pacemaker-node.sh NODE    with the work directory in $W
set -u
node=$1
home=$W/$node

source "$(dirname "$0")/machine.sh"
# libqb's sockets are abstract: the network namespace separates those of the nodes.
be_machine "$node" "$home"
mount --bind "$home/pacemaker" /var/lib/pacemaker
# Our agents, the key, and the cluster's configuration, over the installed files.
# Overlays of lower directories only are read-only and need no writable layer.
mount -t overlay -o "lowerdir=$W/sbin:/usr/sbin" overlay /usr/sbin
mount -t overlay -o "lowerdir=$W/etc:/etc" overlay /etc

# A key of its own.
if [ "$KEYS" = own ]; then mount --bind "$home/key" /etc/cluster/fence_xvm.key; fi

use_network "$(awk -v node="$node" '$2 == node { print $1 }' /etc/hosts)"
ip route add default via "$HOST"

corosync -f &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.1; done
echo "$(date +%T) corosync runs, starting pacemaker"
PCMK_logfile=/var/log/pacemaker.log PCMK_logfacility=none pacemakerd -f &
wait
echo "$(date +%T) corosync and pacemaker have ended"
