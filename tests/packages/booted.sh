# Checks inside the booted root of units.sh: the unit under systemd.
# shellcheck shell=bash
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
W=/packages
source /packages/checking.sh
source /packages/checks.sh
source /packages/inside.sh

KEY=/etc/cluster/fence_xvm.key
CREDENTIAL=/run/credentials/fence_virtd.service/fence_xvm.key
DROP_IN=/etc/systemd/system/fence_virtd.service.d/own-user.conf
AGENT=(-T 127.0.0.1 -t 10 -k "$KEY")

# config LISTENERS BACKEND URI KEY [SERIAL]
config() {
	cat >/etc/fence_virt.conf <<-CONF
		fence_virtd { listener = "$1"; backend = "$2"; }
		listeners { tcp { key_file = "$4"; } serial { ${5:-} } }
		backends { libvirt { uri = "$3"; } }
	CONF
	chmod 600 /etc/fence_virt.conf
}
start() { gives 0 systemctl restart "$@" || { journalctl -n 20 --no-pager -u "${@: -1}"; return 1; }; }
property() { systemctl show -p "$1" --value fence_virtd; }
status_of() { sed -n "s/^$1:\t*//p" "/proc/$(property MainPID)/status"; }
is_on() { fence_virt "${AGENT[@]}" -o status -H test; }
# Logs after a failure: of the daemon, libvirtd and corosync.
logs() { journalctl --no-pager -n 25 -u fence_virtd -u libvirtd -u polkit -u corosync; return 1; }
# With -w it is ready before libvirt or the cluster.
fences() {
	until_true "$LIMIT" is_on >/dev/null 2>&1
	gives 0 fence_virt "${AGENT[@]}" -o off -H test && gives 2 is_on &&
		gives 0 fence_virt "${AGENT[@]}" -o on -H test && gives 0 is_on || logs
}
log_says() { journalctl --no-pager -u fence_virtd | grep -F -- "$1"; }

# $VERSION is that of the source, from units.sh.
installed() { gives 0 sh -c "dpkg -i /packages/fence-virt_$VERSION-*.deb /packages/fence-virtd_$VERSION-*.deb"; }
starts() { config tcp libvirt test:///default "$KEY" && start fence_virtd && same "$(property ActiveState)" active && fences; }
is_confined() {
	# 2 is CAP_DAC_OVERRIDE alone.
	for set in CapBnd CapPrm CapEff; do same "$(status_of $set)" 0000000000000002 || return; done
	same "$(status_of NoNewPrivs)" 1 && same "$(status_of Seccomp)" 2
}
# Its view: /run is writable, little else; no devices.
inside() { nsenter --mount --target "$(property MainPID)" "$@"; }
sees_read_only() {
	local folder
	for folder in /etc /usr /var/lib /home /root /tmp /sys/fs/cgroup /boot; do
		[ ! -d "$folder" ] || gives 1 inside touch "$folder/by-fence_virtd" || return
	done
	gives 0 inside touch /run/by-fence_virtd && gives 0 inside touch /dev/shm/by-fence_virtd &&
		gives 1 inside test -e /dev/kmsg && gives 0 rm /run/by-fence_virtd /dev/shm/by-fence_virtd
}
reloads() {
	local pid
	pid=$(property MainPID)
	gives 0 systemctl reload fence_virtd && same "$(property ActiveState)" active && same "$(property MainPID)" "$pid" && fences
}
denies() { [ "$(fence_virt "${AGENT[@]}" -o status -H test >/dev/null 2>&1; echo $?)" = 3 ]; }
fails_a_wrong_reload() {
	local pid
	pid=$(property MainPID)
	cp -p /etc/fence_virt.conf /root/right.conf && echo 'nonsense {' >>/etc/fence_virt.conf || return
	gives 1 systemctl reload fence_virtd && same "$(property ActiveState)" active && log_says "reload refused" &&
		cp -p /root/right.conf /etc/fence_virt.conf && gives 0 systemctl reload fence_virtd &&
		same "$(property MainPID)" "$pid" && fences
}
# Adds a group without the VM, and removes it.
reloads_groups() {
	local pid
	pid=$(property MainPID)
	cp -p /etc/fence_virt.conf /root/all.conf
	echo 'groups { group { uuid = "other"; ip = "127.0.0.1"; } }' >>/etc/fence_virt.conf
	gives 0 systemctl reload fence_virtd && until_true "$LIMIT" denies && cp -p /root/all.conf /etc/fence_virt.conf &&
		gives 0 systemctl reload fence_virtd && fences && same "$(property MainPID)" "$pid"
}
is_held() { until_true "$LIMIT" is_on >/dev/null 2>&1; gives 1 fence_virt "${AGENT[@]}" -o off -H test && gives 0 is_on; }
# The unit preserves the directory, also over a stop and a start.
keeps_holds() {
	gives 0 fence_virtd --hold test --for 1h --reason maintenance && is_held && start fence_virtd && is_held &&
		gives 0 systemctl stop fence_virtd && start fence_virtd && is_held && gives 0 fence_virtd --release test && fences
}
reports() { gives 0 fence_virtd --status && says test:///default && [ -n "$(property StatusText)" ]; }
fed_since() { [ "$(property WatchdogTimestampMonotonic)" != "$1" ]; }
watchdog() {
	local pid at turn
	mkdir -p /run/systemd/system/fence_virtd.service.d
	printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/fence_virtd.service.d/watchdog.conf
	systemctl daemon-reload && start fence_virtd || return
	pid=$(property MainPID)
	for turn in 1 2 3; do
		at=$(property WatchdogTimestampMonotonic)
		until_true "$LIMIT" fed_since "$at" || { echo "not fed after turn $turn"; return 1; }
	done
	same "$(property MainPID)" "$pid" || return
	kill -STOP "$pid" && until_true "$LIMIT" other_daemon "$pid" || return
	journalctl --no-pager -u fence_virtd | grep -F "Watchdog timeout"
	rm /run/systemd/system/fence_virtd.service.d/watchdog.conf && systemctl daemon-reload
}
other_daemon() { local now; now=$(property MainPID); [ "$now" != 0 ] && [ "$now" != "$1" ] && is_on; }
comes_back() {
	local pid
	pid=$(property MainPID)
	kill -KILL "$pid" && until_true "$LIMIT" other_daemon "$pid"
}
stops() { gives 0 systemctl stop fence_virtd && same "$(property Result)" success && gone /run/fence_virtd.pid; }

# Socket of a VM with the permissions of QEMU's user: closed to others.
line_socket() {
	install -d -o nobody -m 700 /tmp/lines
	cat >/etc/systemd/system/line.socket <<-UNIT
		[Socket]
		ListenStream=/tmp/lines/vm
		SocketUser=nobody
		SocketMode=0600
		Accept=yes
	UNIT
	cat >/etc/systemd/system/line@.service <<-UNIT
		[Service]
		ExecStart=/bin/cat
		StandardInput=socket
		StandardOutput=null
	UNIT
	cat >/etc/node.xml <<-XML
		<node><domain type='test'><name>test</name><uuid>11111111-aaaa-4111-8111-111111111111</uuid><memory>65536</memory>
		<vcpu>1</vcpu><os><type>hvm</type></os><devices><serial type='unix'><source mode='bind' path='/tmp/lines/vm'/>
		<target port='1'/></serial></devices></domain></node>
	XML
	systemctl daemon-reload && gives 0 systemctl start line.socket
}
is_connected() { systemctl list-units --no-legend --state=active 'line@*' | grep -q line@; }
reaches_lines() {
	line_socket && config "tcp, serial" libvirt test:///etc/node.xml "$KEY" 'mode = "serial";' &&
		start fence_virtd && until_true "$LIMIT" is_connected && fences && gives 0 systemctl stop fence_virtd
}
# libvirt's test driver behind libvirtd's socket, which authenticates clients.
BEHIND_LIBVIRTD='test+unix:///default?socket=/run/libvirt/libvirt-sock'
asks_libvirtd() { config tcp libvirt "$BEHIND_LIBVIRTD" "$KEY" && start libvirtd && start fence_virtd && fences; }

corosync_conf() {
	cat >/etc/corosync/corosync.conf <<-CONF
		totem {
			version: 2
			cluster_name: booted
			transport: udpu
		}
		nodelist {
			node {
				ring0_addr: 127.0.0.1
				nodeid: 1
				name: booted
			}
		}
		quorum {
			provider: corosync_votequorum
		}
		logging {
			to_syslog: yes
		}
	CONF
}
joins_corosync() {
	corosync_conf && start corosync && config tcp cpg test:///default "$1" && start fence_virtd && fences
}

own_user() {
	gives 0 systemd-sysusers fence_virt.conf && mkdir -p "${DROP_IN%/*}" &&
		cp /usr/share/doc/fence-virtd/examples/own-user.conf.example "$DROP_IN" && systemctl daemon-reload &&
		config tcp libvirt test:///default "$CREDENTIAL" && start fence_virtd && fences &&
		same "$(stat -c %U "/proc/$(property MainPID)")" fence_virtd && same "$(status_of CapBnd)" 0000000000000000 && reports
}
# The key is not visible outside of the unit; the running daemon is replaced anyway.
own_user_upgrades() {
	local pid
	pid=$(property MainPID)
	gives 0 fence_virtd --check --lenient && installed && ! says "needs a change" &&
		until_true "$LIMIT" other_daemon "$pid" && same "$(stat -c %U "/proc/$(property MainPID)")" fence_virtd && fences
}
# fence_dummy keeps the state of its VM in a file below /tmp, which only the drop-in makes writable.
agent_config() { # [SETTING]
	cat >/etc/fence_virt.conf <<-CONF
		fence_virtd { listener = "tcp"; backend = "agent"; }
		listeners { tcp { key_file = "$KEY"; } }
		backends { agent = "test" { program = "/usr/sbin/fence_dummy"; option = "status_file=/tmp/dummy"; ${1:-} } }
	CONF
	chmod 600 /etc/fence_virt.conf
}
agent_fences() {
	start fence_virtd && until_true "$LIMIT" answers &&
		gives 0 fence_virt "${AGENT[@]}" -o on -H test && gives 0 is_on &&
		gives 0 fence_virt "${AGENT[@]}" -o off -H test && gives 2 is_on || logs
}
answers() { fence_virt "${AGENT[@]}" -o monitor; } >/dev/null 2>&1
runs_agents() {
	local drop_in=${DROP_IN%/*}/agent.conf
	[ -x /usr/sbin/fence_dummy ] || { echo "fence_dummy is missing (package fence-agents)"; return 1; }
	agent_config && start fence_virtd && until_true "$LIMIT" answers && gives 1 fence_virt "${AGENT[@]}" -o on -H test || return
	mkdir -p "${DROP_IN%/*}" && cp /usr/share/doc/fence-virtd/examples/agent.conf.example "$drop_in" && systemctl daemon-reload &&
		agent_fences && is_confined || return
	# Another user's agents need the lines that are commented out, and have nothing of the first user's.
	agent_config 'user = "nobody";' && gives 1 systemctl restart fence_virtd &&
		sed -i 's/^#\(CapabilityBoundingSet\|SystemCallFilter\)=/\1=/' "$drop_in" && systemctl daemon-reload && agent_fences || logs || return
	rm "$drop_in" && systemctl daemon-reload && gives 0 systemctl stop fence_virtd
}
removed() { gives 0 dpkg -r fence-virtd && same "$(property ActiveState)" inactive; }
comes_with_package() {
	gives 0 systemctl enable fence_virtd && removed && installed && same "$(property ActiveState)" active && fences
}
# Without a running daemon: it starts once the configuration is correct.
comes_when_right() {
	cp -p /etc/fence_virt.conf /root/right.conf
	removed && echo 'group { uuid = "test"; }' >>/etc/fence_virt.conf && installed && says "needs a change" &&
		gives 1 is_on && cp -p /root/right.conf /etc/fence_virt.conf && fences || return
	# Restores the disabled state.
	gives 0 systemctl disable fence_virtd
}
# A daemon whose configuration is now refused keeps running.
left_alone() {
	local pid
	pid=$(property MainPID)
	cp -p /etc/fence_virt.conf /root/right.conf
	echo 'group { uuid = "test"; }' >>/etc/fence_virt.conf
	installed && says "needs a change" && same "$(property MainPID)" "$pid" && fences && cp -p /root/right.conf /etc/fence_virt.conf
}
# The rpm's scripts, after those of a package that requested a restart, as Fedora's do.
marked() { gives 0 systemctl set-property fence_virtd Markers=+needs-restart && same "$(property Markers)" needs-restart; }
script_of_rpm() {
	local pid
	pid=$(property MainPID)
	cp -p /etc/fence_virt.conf /root/right.conf
	echo 'group { uuid = "test"; }' >>/etc/fence_virt.conf
	marked && gives 0 sh /packages/posttrans && says "needs a change" && same "$(property Markers)" "" &&
		gives 0 systemctl reload-or-restart --marked && same "$(property MainPID)" "$pid" && fences || return
	cp -p /root/right.conf /etc/fence_virt.conf
	marked && gives 0 sh /packages/posttrans && other_daemon "$pid" && fences
}
refuses_reload() {
	gives 1 systemctl reload fence_virtd && same "$(property ActiveState)" active && fences && log_says "a reload changes nothing"
}
own_user_asks_libvirtd() {
	config tcp libvirt qemu:///system "$CREDENTIAL" && start fence_virtd &&
		{ until_true "$LIMIT" fence_virt "${AGENT[@]}" -o monitor || logs; } || return
	config tcp libvirt "$BEHIND_LIBVIRTD" "$CREDENTIAL" && start fence_virtd && fences || return
	# Without the group polkit's rule admits it.
	echo 'unix_sock_rw_perms = "0777"' >>/etc/libvirt/libvirtd.conf
	echo 'auth_unix_rw = "polkit"' >>/etc/libvirt/libvirtd.conf
	sed -i '/^SupplementaryGroups=/d' "$DROP_IN"
	mkdir -p /etc/systemd/system/libvirtd.socket.d && printf '[Socket]\nSocketMode=0666\n' >/etc/systemd/system/libvirtd.socket.d/open.conf
	systemctl daemon-reload && gives 0 systemctl stop fence_virtd libvirtd libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket &&
		start libvirtd && same "$(stat -L -c %a /run/libvirt/libvirt-sock)" 666 && start fence_virtd && fences || return
	mv /usr/share/polkit-1/rules.d/60-fence_virtd.rules /root && gives 0 systemctl stop fence_virtd && gives 0 systemctl restart polkit
	systemctl --no-block start fence_virtd
	{ until_true "$LIMIT" log_says "authentication" || logs; } && gives 1 fence_virt "${AGENT[@]}" -o off -H test
}
own_user_joins_corosync() {
	install -m 644 /usr/share/doc/fence-virtd/examples/corosync-uidgid /etc/corosync/uidgid.d/fence_virtd && joins_corosync "$CREDENTIAL"
}

install -d -m 755 /etc/cluster && (umask 077 && head -c 4096 /dev/urandom >"$KEY")
check "systemd: our packages are installed" installed
check "systemd: the unit starts, and is ready; the daemon fences" starts
check "systemd: it has CAP_DAC_OVERRIDE alone, and a filter of system calls" is_confined
check "systemd: files are read-only for it, but for /run and /dev/shm" sees_read_only
check "systemd: reload leaves it running" reloads
check "systemd: a reload of a wrong configuration fails, and says so" fails_a_wrong_reload
check "systemd: a reload takes groups over" reloads_groups
check "systemd: a hold outlives a restart, and a stop with a start" keeps_holds
check "systemd: --status answers, and systemctl status says what it does" reports
check "systemd: killed, it comes back" comes_back
check "systemd: the watchdog is fed, and ends a daemon that stands still" watchdog
check "systemd: it stops, and leaves no pid file" stops
check "systemd: sockets of VMs that belong to another user, in /tmp" reaches_lines
check "systemd: through libvirtd's socket" asks_libvirtd
check "systemd: with corosync, backend cpg" joins_corosync "$KEY"
check "systemd: fence agents, with the drop-in, as root and as another user" runs_agents
check "systemd: as the user fence_virtd, with credentials and no capability" own_user
check "systemd: as that user a reload says that it changes nothing" refuses_reload
check "systemd: as that user the upgrade replaces the running daemon" own_user_upgrades
check "systemd: an upgrade with a configuration that is refused leaves it running" left_alone
check "systemd: the rpm's script leaves it running then, also where a restart was asked for" script_of_rpm
check "systemd: removed and installed again, it runs" comes_with_package
check "systemd: the same with a refused configuration: it runs when that is right" comes_when_right
check "systemd: as that user with corosync, let in by uidgid.d" own_user_joins_corosync
check "systemd: as that user through libvirtd's socket, by its group and by polkit's rule" own_user_asks_libvirtd
echo "end of the checks under systemd"
