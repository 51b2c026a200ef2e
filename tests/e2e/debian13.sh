#!/bin/bash
# Other scripts of this directory with what Debian 13 has: pacemaker 3, libvirt 11, QEMU 10, and the C suite
# 4.16. They run in a chroot of it, which debootstrap creates once, in target/debian13/root.
#
#   debian13.sh SCRIPT...   in this order; without arguments: those of `make check-debian13`
#
# The programs are those that were built for this machine, in target/debug. Mounts exist in a private namespace
# only, which ends with this script. A script's settings are passed on. Exit code: 0 all passed, 1 not all, 77
# skipped.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
work=$PWD/target/debian13
root=$work/root
suite=trixie
packages="bash corosync fence-virt fence-virtd iproute2 libvirt-clients libvirt-daemon-system pacemaker
	pacemaker-cli-utils procps psmisc python3 qemu-system-x86"

skip() {
	echo "*** SKIPPED debian13: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	exit 77
}
. dist/debian-root

# ---------------------------------------------------- outside of the namespace

if [ -z "${DEBIAN_INNER:-}" ]; then
	[ "$(id -u)" = 0 ] || skip "it must run as root"
	needs_debootstrap $suite || skip "debootstrap, gpgv or the archive's keys are missing"
	unshare --mount --pid --fork --kill-child --mount-proc mount -t tmpfs tmpfs /mnt 2>/dev/null ||
		skip "it may not make namespaces and mounts here"
	[ -x target/debug/fence_virtd ] || skip "no target/debug/fence_virtd (cargo build)"
	# If this shell is killed, pdeathsig ends unshare, and --kill-child ends the rest.
	DEBIAN_INNER=1 exec setpriv --pdeathsig KILL \
		unshare --mount --pid --fork --kill-child --mount-proc bash "$here/debian13.sh" "$@"
fi

# ------------------------------------------------------------------- inside

fill_root() { # FOLDER
	# shellcheck disable=SC2016
	install_in_root "$1" 'apt-get -q update; apt-get -q install -y --no-install-recommends $1' "$packages"

}
mkdir -p "$work"
create_root "$root" $suite "$suite: $packages" fill_root ||
	skip "cannot create the Debian $suite chroot, see target/debian13/root.log"

checkout=$PWD
mkdir -p "$root$checkout" "$root/old"
mount --bind "$root" "$root"
mount --rbind "$checkout" "$root$checkout"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
cd "$root"
# The scripts make namespaces and overlays of their own: it has to be the root.
pivot_root . old
cd "$checkout"
umount -l /old

code=0
[ $# != 0 ] || set -- host-fencing.sh WATCHDOG=1 host-fencing.sh KINDS=oco cluster.sh
settings=()
for script; do
	case $script in
	*=*) settings+=("$script") && continue ;;
	esac
	echo "Debian $(cat /etc/debian_version): ${settings[*]} $script"
	env "${settings[@]}" "tests/e2e/$script" || code=1
	settings=()
done
exit $code
