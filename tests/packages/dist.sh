# Checks of the tarball: the same bytes from two directories, and from itself.
# Sourced by ../packages.sh.
# shellcheck shell=bash

# Offline, with the crates that were fetched before.
export CARGO_NET_OFFLINE=true

# folder NAME UMASK - a copy of the source with this umask.
folder() {
	(
		umask "$2"
		if [ -e "$root/.git" ]; then
			git -c safe.directory='*' clone --quiet "$root" "$W/$1"
		else
			mkdir "$W/$1" && tar -c -C "$root" --exclude=./target . | tar -x -C "$W/$1"
		fi
	)
}
tarball() { gives 0 "$W/$1/dist/tarball" "$W/$1-out" && mv "$W/$1-out"/*.tar.gz "$W/$1.tar.gz"; }
# Another directory, umask and time zone, and files that are not part of the source.
same_bytes() {
	folder one 022 && folder two 077 && touch "$W/two/stray" && tarball one && TZ=Asia/Tokyo tarball two &&
		gives 0 cmp "$W/one.tar.gz" "$W/two.tar.gz"
}
from_itself() {
	mkdir "$W/three" && gives 0 tar -xzf "$W/one.tar.gz" --strip-components=1 -C "$W/three" && tarball three &&
		gives 0 cmp "$W/one.tar.gz" "$W/three.tar.gz"
}
owners_and_order() {
	out=$(tar -tvzf "$W/one.tar.gz" --numeric-owner --full-time)
	same "$(awk '{ print $2 }' <<<"$out" | sort -u)" 0/0 && same "$(awk '{ print $4, $5 }' <<<"$out" | sort -u | wc -l)" 1 &&
		says /vendor/ && says /.cargo/config.toml && says /Cargo.lock && same "$(head -c 10 "$W/one.tar.gz" | od -An -tx1 -j4 -N4 | tr -d ' ')" 00000000
}

check "make dist: the same bytes from two folders" same_bytes
check "and from the unpacked tarball" from_itself
check "all belong to root, are of one time, and the crates are there" owners_and_order
