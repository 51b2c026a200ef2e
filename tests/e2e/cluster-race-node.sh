#!/bin/bash
# Host of cluster-race.sh: the first process of its namespaces. It has a libvirtd with
# one QEMU guest, which is defined and off.
#
#   cluster-race-node.sh NODE    with the work directory in $W
set -u
node=$1
home=$W/$node

source "$(dirname "$0")/machine.sh"
be_machine "$node" "$home"
mkdir /run/fence
mount --bind "$W/corosync" /etc/corosync
mkdir -p /dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt; do mount -t tmpfs -o mode=755 private $folder; done

use_network "$(cat "$home/address")"

libvirt() { virsh -q -c "$(cat "$home/uri")" "$@"; }
mkdir -p "$home/libvirt" /var/log/libvirt/qemu
printf '%s\n' 'security_driver = "none"' 'user = "root"' 'group = "root"' 'dynamic_ownership = 0' 'remember_owner = 0' \
	'cgroup_controllers = [ ]' 'namespaces = [ ]' 'stdio_handler = "file"' >/etc/libvirt/qemu.conf
printf '%s\n' "unix_sock_dir = \"$home/libvirt\"" 'auth_unix_rw = "none"' 'log_outputs = "3:stderr"' >"$home/libvirtd.conf"
libvirtd -f "$home/libvirtd.conf" -p /run/libvirtd.pid >>"$home/log/libvirtd.log" 2>&1 &
until libvirt version >/dev/null 2>&1; do sleep 0.05; done
libvirt define "$home/guest.xml"
echo "$(date +%T) $node is up"
touch "$home/up"
wait
