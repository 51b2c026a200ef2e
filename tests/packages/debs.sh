# Checks of the debs: over those of the C suite and back. Sourced by ../packages.sh.
# shellcheck shell=bash

UNIT=/lib/systemd/system/fence_virtd.service
WANTS=/etc/systemd/system/multi-user.target.wants/fence_virtd.service
INIT=/etc/init.d/fence_virtd
KEY=/etc/cluster/fence_xvm.key
AGENT=(-T 127.0.0.1 -p 1229 -t 10)

# Globs are expanded inside the root.
theirs_in() { in_root sh -c "dpkg -i /packages/fence-virt_${theirs_version}_*.deb /packages/fence-virtd_${theirs_version}_*.deb"; }
ours_in() { in_root sh -c "dpkg -i /packages/fence-virt_${ours_version}_*.deb /packages/fence-virtd_${ours_version}_*.deb"; }
theirs() { gives 0 theirs_in; }
ours() { gives 0 ours_in; }

# Files of an administrator, which the packages must not change.
administrator() {
	mkdir -p "$R/etc/cluster"
	(umask 077 && head -c 4096 /dev/urandom >"$R$KEY")
	cat >"$R/etc/fence_virt.conf" <<-CONF
		# by hand
		fence_virtd { listener = "tcp"; backend = "libvirt"; }
		listeners { tcp { address = "127.0.0.1"; port = "1229"; key_file = "$KEY"; } }
		backends { libvirt { uri = "test:///default"; } }
	CONF
	chmod 600 "$R/etc/fence_virt.conf" # the C daemon would do it
	echo 'FENCE_VIRTD_ARGS=-w' >"$R/etc/default/fence_virtd"
	state_of_files >"$W/administrator"
}
state_of_files() { (cd "$R/etc" && sha256sum fence_virt.conf default/fence_virtd cluster/fence_xvm.key && stat -c '%n %a %u:%g %Y' fence_virt.conf default/fence_virtd cluster/fence_xvm.key); }
files_are_unchanged() { gives 0 diff "$W/administrator" <(state_of_files); }

pid_of_daemon() { cat "$R/run/fence_virtd.pid" 2>/dev/null; }
# runs ours|theirs - true if that daemon has written the pid file.
runs() {
	until_true "$LIMIT" daemon_is "$W/$1.unpacked/usr/sbin/fence_virtd" ||
		{ echo "it is not $1: $(pid_of_daemon) $(readlink "/proc/$(pid_of_daemon)/exe")"; return 1; }
}
daemon_is() { cmp -s "/proc/$(pid_of_daemon)/exe" "$1"; }
service() { gives 0 in_root "$INIT" "$@"; }

is_on() { in_root fence_virt "${AGENT[@]}" -k "$KEY" -o status -H test; }
answers() { is_on; [ $? != 1 ]; }
# fences AGENT - switches the VM, which is on at first, off and on.
fences() {
	until_true "$LIMIT" answers >/dev/null 2>&1
	gives 0 in_root "$1" "${AGENT[@]}" -k "$KEY" -o off -H test && gives 2 is_on &&
		gives 0 in_root "$1" "${AGENT[@]}" -k "$KEY" -o on -H test && gives 0 is_on
}

version() { in_root dpkg-query -W -f '${Version} ${db:Status-Status}' "$1"; }
are() { same "$(version fence-virt)" "$1 installed" && same "$(version fence-virtd)" "$1 installed"; }

c_packages() {
	gives 0 in_root dpkg --purge fence-virtd fence-virt
	theirs && administrator || return
	cp "$R/usr/sbin/fence_virt" "$R/usr/sbin/c_agent"
	[ -L "$R$WANTS" ] || { echo "not enabled"; return 1; }
	service restart && fences fence_virt
}
takes_over() {
	local old
	old=$(pid_of_daemon)
	ours && are "$ours_version" && files_are_unchanged || return
	[ ! -d "/proc/$old" ] || grep -qv fence_virtd "/proc/$old/comm" || { echo "the C daemon still runs"; return 1; }
	runs ours
}
apt_takes_it() {
	gives 0 in_root sh -c "apt-get -s -o Dir::Etc::sourceparts=/none install /packages/fence-virt_${ours_version}_*.deb /packages/fence-virtd_${ours_version}_*.deb" &&
		says "Inst fence-virtd [$theirs_version]" && says "Inst fence-virt [$theirs_version]"
}
config_loads() { gives 0 in_root fence_virtd --check && says "0 errors"; }
no_leftovers() {
	gone "$R/usr/lib/x86_64-linux-gnu/fence-virt" && gives 0 in_root dpkg -V fence-virt fence-virtd &&
		same "$(readlink "$R/usr/sbin/fence_xvm")" fence_virt
}
still_enabled() { same "$(readlink "$R$WANTS")" "$UNIT" && [ -e "$R$UNIT" ]; }

stays_disabled() {
	theirs && gives 0 in_root systemctl disable fence_virtd.service && gone "$R$WANTS" &&
		ours && gone "$R$WANTS" && files_are_unchanged
}
# The C daemon ignores a section with a misspelt name; ours does not.
a_config_that_is_not_taken() {
	local old
	theirs && service restart && fences fence_virt || return
	old=$(pid_of_daemon)
	cp -p "$R/etc/fence_virt.conf" "$W/good.conf"
	echo 'group { uuid = "test"; }' >>"$R/etc/fence_virt.conf"
	ours && says "UPGRADING.md" && gives 1 in_root fence_virtd --check && runs theirs && same "$(pid_of_daemon)" "$old" && fences fence_virt || return
	cp -p "$W/good.conf" "$R/etc/fence_virt.conf"
	service restart && runs ours && fences fence_virt
}
# An unknown key is an error for --check, and a warning for the daemon.
an_unknown_key() {
	theirs && service restart && fences fence_virt || return
	cp -p "$R/etc/fence_virt.conf" "$W/good.conf"
	echo 'listeners { tcp { colour = "red"; } }' >>"$R/etc/fence_virt.conf"
	ours && gives 1 in_root fence_virtd --check && runs ours && fences fence_virt || return
	# Also after a removal, which stops it.
	gives 0 in_root dpkg -r fence-virtd && gone "$R/run/fence_virtd.pid" && ours && runs ours && fences fence_virt &&
		cp -p "$W/good.conf" "$R/etc/fence_virt.conf"
}
init_script() {
	local old new
	old=$(pid_of_daemon)
	service status && service reload && service start && same "$(pid_of_daemon)" "$old" && service restart || return
	new=$(pid_of_daemon)
	[ "$new" != "$old" ] && service stop && gone "$R/run/fence_virtd.pid" && gives 3 in_root "$INIT" status &&
		gives 3 in_root "$INIT" reload && service stop && gives 2 in_root "$INIT" dance || return
	echo 999999999 >"$R/run/fence_virtd.pid"
	gives 1 in_root "$INIT" status && service start && service status
}
goes_back() {
	gives 0 in_root dpkg -r fence-virtd fence-virt && gone "$R/usr/sbin/fence_virtd" && gone "$R$UNIT" || return
	files_are_unchanged && theirs && are "$theirs_version" && files_are_unchanged && runs theirs && fences fence_virt
}
goes_back_at_once() { ours && fences fence_virt && theirs && files_are_unchanged && runs theirs && fences fence_virt; }
purged() {
	ours && gives 0 in_root dpkg --purge fence-virtd fence-virt || return
	gone "$R/etc/fence_virt.conf" && gone "$R/etc/fence_virt.key" && gone "$R$INIT" && gone "$R$WANTS" && [ -s "$R$KEY" ]
}
at_first() {
	rm -rf "$R/etc/cluster" "$R/etc/default/fence_virtd"
	ours && same "$(stat -c %a:%s "$R$KEY")" 600:4096 && same "$(stat -c %a "$R/etc/fence_virt.conf")" 600 &&
		still_enabled && config_loads && service stop
}

# exposure FILE AT-MOST
exposure() {
	gives 0 in_root systemd-analyze verify --man=no "$1" && same "$out" "" || return
	out=$(in_root systemd-analyze security --offline=yes "$1" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
	echo "exposure: $out"
	awk -v is="$out" -v most="$2" 'BEGIN { exit !(is != "" && is + 0 <= most + 0) }'
}
exposure_with_drop_in() { # NAME AT-MOST
	rm -rf "$R/srv/fence_virtd.service.d" && mkdir -p "$R/srv/fence_virtd.service.d" && cp "$R$UNIT" "$R/srv" &&
		cp "$R/usr/share/doc/fence-virtd/examples/$1.conf.example" "$R/srv/fence_virtd.service.d/$1.conf" &&
		exposure /srv/fence_virtd.service "$2"
}

theirs_version=$(dpkg-deb -f "$W"/theirs/fence-virtd_*.deb Version)
ours_version=$(dpkg-deb -f "$OUT/fence-virtd_$version"-*.deb Version)
new_root debs
# A host with System V's init, in its runlevel 2: packages stop and start the daemon.
rm -f "$R/sbin/runlevel" && printf '#!/bin/sh\necho N 2\n' >"$R/sbin/runlevel" && chmod 755 "$R/sbin/runlevel" || exit 1
dpkg-deb -x "$OUT/fence-virtd_$version"-*.deb "$W/ours.unpacked" && dpkg-deb -x "$W"/theirs/fence-virtd_*.deb "$W/theirs.unpacked" || exit 1

check "our version sorts above $theirs_version" dpkg --compare-versions "$ours_version" gt "$theirs_version"
check "C packages: the C daemon fences, with an administrator's configuration" c_packages
check "apt would take our packages for newer ones" apt_takes_it
check "our packages over them: the running daemon is replaced, no file of the administrator changed" takes_over
check "nothing of the C packages is left, our files are as packed" no_leftovers
check "the old configuration has no errors" config_loads
check "it is still enabled" still_enabled
check "our agent fences through it" fences fence_virt
check "the C agent fences through it" fences c_agent
check "the start script: start, stop, restart, reload, status" init_script
check "the unit verifies, and its exposure is at most 2.5" exposure "$UNIT" 2.5
check "with the user of its own at most 1.5" exposure_with_drop_in own-user 1.5
check "with the drop-in for fence agents at most 2.5" exposure_with_drop_in agent 2.5
check "the C packages over ours, at once: the C daemon fences" goes_back_at_once
check "our packages removed, the C packages again: the C daemon fences" goes_back
check "a configuration that needs a change: the C daemon is left running until it has that" a_config_that_is_not_taken
check "an unknown key does not keep the new daemon from its place, nor after a removal" an_unknown_key
check "what was disabled stays disabled" stays_disabled
check "purged: no configuration, no start script; the key stays" purged
check "on a host that had none: a configuration and a key, closed to others" at_first
