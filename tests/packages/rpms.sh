# Checks of the rpms, in a separate root. Sourced by ../packages.sh.
# shellcheck shell=bash

# Without network and without this machine's crates: the tarball builds offline.
build() {
	OUT=$W/rpms TARBALL=$W/one.tar.gz CARGO_HOME=$W/cargo gives 0 "$root/dist/rpm/build" && gone "$W/cargo/registry"
}
# Debian's rpm requires this option.
rpm_in() { rpm --root "$R" --nodeps --force-debian "$@"; }
packed() { rpm -qp --qf "$2" "$W/rpms/$1-$version"-*."$(uname -m)".rpm; }

version_and_names() {
	same "$(packed fence-virt '%{NAME} %{VERSION}')" "fence-virt $version" && same "$(packed fence-virtd '%{NAME} %{VERSION}')" "fence-virtd $version" || return
	out=$(packed fence-virtd '[%{OBSOLETES} %{OBSOLETEFLAGS:depflags} %{OBSOLETEVERSION}\n][provides %{PROVIDES}\n]')
	echo "$out"
	for part in cpg libvirt multicast serial tcp; do
		says "fence-virtd-$part < $version-1" && says "provides fence-virtd-$part" || return
	done
	out=$(packed fence-virt '[%{REQUIRES}\n]')
	! grep -E 'libvirt|libcpg' <<<"$out"
}
# Mode, owner and path of all files except documentation, man pages and completions.
file_list() {
	packed "$1" '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES} %{FILELINKTOS}\n]' |
		grep -vE '/(doc|man|\.build-id|bash-completion|zsh)(/|$| )' | sed 's/ *$//'
}
files() {
	gives 0 diff <(file_list fence-virt) - <<-END || return
		-rwxr-xr-x root:root /usr/sbin/fence_virt
		lrwxrwxrwx root:root /usr/sbin/fence_xvm fence_virt
	END
	gives 0 diff <(file_list fence-virtd) - <<-END
		-rw------- root:root /etc/fence_virt.conf
		-rw-r--r-- root:root /usr/lib/firewalld/services/fence_virtd.xml
		-rw-r--r-- root:root /usr/lib/systemd/system/fence_virtd.service
		-rw-r--r-- root:root /usr/lib/sysusers.d/fence_virt.conf
		-rwxr-xr-x root:root /usr/sbin/fence_virtd
		drwxr-xr-x root:root /usr/share/fence-virt
		-rw-r--r-- root:root /usr/share/fence-virt/fence_virt.conf.example
		-rw-r--r-- root:root /usr/share/polkit-1/rules.d/60-fence_virtd.rules
	END
}
mans_and_docs() {
	out=$(packed fence-virt '[%{FILENAMES}\n]' && packed fence-virtd '[%{FILENAMES}\n]')
	for page in "$root"/man/*.[58]; do
		[ ! -e "$page" ] || says "/${page##*/}" || return
	done
	says own-user.conf.example && says /doc/fence-virt/LICENSE-MIT && says /doc/fence-virtd/SERVICE.md
}
scripts() {
	for script in postin preun postun posttrans; do
		packed fence-virtd "%{$script}" >"$W/script"
		echo "$script:" && cat "$W/script" && [ "$(wc -l <"$W/script")" -gt 1 ] && gives 0 sh -n "$W/script" || return
	done
	same "$(packed fence-virt '%{PREIN}%{POSTIN}%{PREUN}%{POSTUN}')" "(none)(none)(none)(none)"
}
WANTS_OF_RPM=/etc/systemd/system/multi-user.target.wants/fence_virtd.service
installed() {
	# Removes files of this machine's debs.
	rm -rf "$R"/usr/share/doc/fence-virt* && rm -f "$R"/usr/sbin/fence_* "$R/etc/fence_virt.conf" "$R/lib/systemd/system/fence_virtd.service" "$R$WANTS_OF_RPM"
	mkdir -p "$R/etc/systemd/system-preset" && echo 'enable fence_virtd.service' >"$R/etc/systemd/system-preset/00-test.preset"
	gives 0 rpm_in -i "$W/rpms/fence-virt-$version"-*."$(uname -m)".rpm "$W/rpms/fence-virtd-$version"-*."$(uname -m)".rpm &&
		gives 0 rpm_in -V fence-virt fence-virtd && [ -L "$R$WANTS_OF_RPM" ] &&
		gives 0 in_root fence_virtd -V && gives 0 in_root fence_xvm -V && gives 1 in_root fence_virtd --check && says fence_xvm.key
}
keeps_config() {
	echo '# by hand' >>"$R/etc/fence_virt.conf" && rm "$R$WANTS_OF_RPM"
	out=$(sha256sum "$R/etc/fence_virt.conf")
	gives 0 rpm_in -U --replacepkgs "$W/rpms/fence-virtd-$version"-*."$(uname -m)".rpm &&
		grep -qx '# by hand' "$R/etc/fence_virt.conf" && same "$(stat -c %a "$R/etc/fence_virt.conf")" 600 && gone "$R$WANTS_OF_RPM"
}
# Calls of systemctl by the scripts, while a daemon runs.
of_systemd() {
	mkdir -p "$R/run/systemd/system" && mv "$R/usr/bin/systemctl" "$R/usr/bin/systemctl.real" || return
	printf '#!/bin/sh\necho "$*" >>/run/systemctl.calls\n' >"$R/usr/bin/systemctl" && chmod 755 "$R/usr/bin/systemctl"
}
upgraded() {
	: >"$R/run/systemctl.calls"
	gives 0 rpm_in -U --replacepkgs "$W/rpms/fence-virtd-$version"-*."$(uname -m)".rpm || return
	cat "$R/run/systemctl.calls"
}
restarts() { grep -c -- restart\ fence_virtd "$R/run/systemctl.calls"; }
# A running daemon is not replaced by one that would not start.
restarts_if_it_starts() {
	cp -p "$R/etc/fence_virt.conf" "$W/rpm.conf" && of_systemd || return
	cat >"$R/etc/fence_virt.conf" <<-CONF
		fence_virtd { listener = "tcp"; backend = "libvirt"; colour = "red"; }
		listeners { tcp { key_file = "/run/credentials/fence_virtd.service/fence_xvm.key"; } }
		backends { libvirt { uri = "test:///default"; } }
	CONF
	gives 1 in_root fence_virtd --check && upgraded && same "$(restarts)" 1 || return
	echo 'group { uuid = "test"; }' >>"$R/etc/fence_virt.conf"
	upgraded && says "needs a change" && same "$(restarts)" 0 && grep -q "Markers=-needs-restart" "$R/run/systemctl.calls" || return
	mv "$R/usr/bin/systemctl.real" "$R/usr/bin/systemctl" && rmdir "$R/run/systemd/system" && cp -p "$W/rpm.conf" "$R/etc/fence_virt.conf"
}
erased() {
	gives 0 rpm_in -e fence-virtd fence-virt && gone "$R/usr/sbin/fence_virtd" && gone "$R/usr/sbin/fence_xvm" &&
		gone "$R/usr/share/doc/fence-virtd" && grep -qx '# by hand' "$R/etc/fence_virt.conf.rpmsave"
}

if ls "$OUT"/*.rpm >/dev/null 2>&1; then
	mkdir "$W/rpms" && cp "$OUT"/*.rpm "$W/rpms" || exit 1
else
	check "the tarball builds offline, and the rpms of it" build
fi
new_root rpm-root
check "rpms: names, version, what they replace" version_and_names
check "rpms: files, modes, owners" files
check "rpms: man pages and documentation" mans_and_docs
check "rpms: scripts" scripts
check "rpms: installed, enabled as presets say" installed
check "rpms: an upgrade keeps the configuration, and disabled what was" keeps_config
check "rpms: an upgrade restarts the daemon only if the new one would start" restarts_if_it_starts
check "rpms: erased, the configuration is kept aside" erased
