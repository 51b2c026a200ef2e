#!/bin/bash
# Node of cluster.sh: the first process of its namespaces. It has a
# libvirtd with VMs of libvirt's test driver. Killing it cuts the power.
#
#   cluster-node.sh NODE    with the work directory in $W
set -u
node=$1
home=$W/$node

source "$(dirname "$0")/machine.sh"
be_machine "$node" "$home"
mount --bind "$W/corosync" /etc/corosync

use_network "$(cat "$home/address")"

libvirt() { virsh -q -c "$(cat "$home/uri")" "$@"; }
# Without modules it has its built-in drivers only.
rm -rf "$home/libvirt"
mkdir -p "$home/libvirt/drivers"
printf '%s\n' "unix_sock_dir = \"$home/libvirt\"" 'auth_unix_rw = "none"' 'log_outputs = "3:stderr"' >"$home/libvirtd.conf"
LIBVIRT_DRIVER_DIR=$home/libvirt/drivers \
	libvirtd -f "$home/libvirtd.conf" -p /run/libvirtd.pid >>"$home/log/libvirtd.log" 2>&1 &
echo $! >"$home/libvirtd.pid"
until libvirt version >/dev/null 2>&1; do sleep 0.02; done
# The file has the events of all nodes, a line each, as "n2 vm2a Stopped".
# The test driver's state lasts while a client such as this is connected: also to a libvirtd that is frozen (-k 0).
libvirt -k 0 event --event lifecycle --loop 2>&1 |
	sed -un "s/^event 'lifecycle' for domain '\([^']*\)': \([A-Za-z]*\).*/$node \1 \2/p" >>"$W/events" &
until libvirt suspend test && libvirt resume test && grep -q "^$node test" "$W/events"; do sleep 0.02; done
libvirt destroy test
libvirt undefine test
for xml in "$home"/vm*.xml; do libvirt define "$xml"; done
for vm in "vm${node#n}a" "vm${node#n}b"; do libvirt start "$vm"; done
echo "$(date +%T) $node is up"
touch "$home/up"
wait
