#!/bin/bash
# Checks of the packages: over those of the C suite and back, as debs and rpms, and
# of the tarball from which they are built.
#
#   OUT=      directory with debs, or debs and rpms, to test (default: they are built)
#   KEEP=1    keep the work directory
#   LIMIT=    timeout of each wait in seconds (default: 60)
#
# The roots are overlays of this machine's in namespaces without a network:
# nothing is installed on the machine itself, and every process ends with this
# script. packages/ has the checks.
#
# Prints a line for each check. Exit code: 0 all passed, 1 not all, 77 skipped.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
LIMIT=${LIMIT:-60}
source "$here/e2e/inside.sh"

skip() {
	echo "*** SKIPPED packages: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	exit 77
}

# ------------------------------------------------- outside of the namespaces

if [ -z "${PACKAGES_INNER:-}" ]; then
	[ "$(id -u)" = 0 ] || skip "it must run as root"
	for need in apt-get:apt dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev rpmbuild:rpm fence_virtd:fence-virtd ip:iproute2; do
		command -v "${need%:*}" >/dev/null || skip "${need%:*} is missing (package ${need#*:})"
	done
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
		mount -t overlay -o lowerdir=/usr/sbin:/etc overlay /etc 2>/dev/null ||
		skip "it may not make namespaces and overlay mounts here"
	W=$(mktemp -d "${TMPDIR:-/tmp}/packages.XXXXXX")
	chmod 755 "$W"
	trap 'rm -rf "$W"' EXIT
	trap 'exit 143' TERM INT HUP
	# Downloads and builds: the rest runs without network and build directory.
	mkdir "$W/theirs"
	(cd "$W/theirs" && apt-get -qq -o APT::Sandbox::User=root download fence-virt fence-virtd >/dev/null 2>&1) ||
		skip "the packages of the C suite cannot be downloaded"
	cargo fetch --quiet --locked --manifest-path "$root/Cargo.toml" || skip "the crates cannot be downloaded"
	if [ -z "${OUT:-}" ]; then
		OUT=$W/ours
		"${MAKE:-make}" -s -C "$root" deb OUT="$OUT" ${CARGO_TARGET_DIR:+"CARGO_TARGET_DIR=$CARGO_TARGET_DIR"} || exit 1
	fi
	export W OUT PACKAGES_INNER=1
	run_inside "$here/packages.sh" --uts
fi

# ------------------------------------------------------------------- inside

source "$here/e2e/checking.sh"
source "$here/packages/checks.sh"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

# overlay NAME - an overlay $R of this machine's root, without its mounts.
overlay() {
	R=$W/$1
	mkdir "$R" && mount -t tmpfs tmpfs "$R" && mkdir "$R/upper" "$R/work" "$R/root" &&
		mount -t overlay overlay -o "lowerdir=/,upperdir=$R/upper,workdir=$R/work" "$R/root" || exit 1
	R=$R/root
	# Allows packages to start daemons.
	rm -f "$R/usr/sbin/policy-rc.d"
	mkdir "$R/packages" && cp "$W"/theirs/*.deb "$OUT"/*.deb "$R/packages" || exit 1
}
# new_root NAME - an overlay for in_root.
new_root() {
	overlay "$1"
	mount --bind /dev "$R/dev" && mount -t proc proc "$R/proc" &&
		mount -t tmpfs tmpfs "$R/run" && mount -t tmpfs tmpfs "$R/tmp" || exit 1
}
in_root() { chroot "$R" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }

mount -t tmpfs tmpfs /run # sockets of this machine are none of ours
ip link set lo up || exit 1
source "$here/packages/debs.sh"
source "$here/packages/units.sh"
source "$here/packages/dist.sh"
source "$here/packages/rpms.sh"
finish
