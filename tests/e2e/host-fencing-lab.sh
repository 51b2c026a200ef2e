# Machines of host-fencing.sh, which sources this file inside its namespaces, after
# cluster-lab.sh: pacemaker on the hosts, and the switch that its fence agent asks.
# shellcheck shell=bash

# Pacemaker takes no larger node ids.
id() { echo "${1#n}"; }

show_logs() {
	local node
	for node in "${ALL[@]}"; do
		echo "--- $node: pacemaker's log, the daemon's log"
		grep -E ' (warning|error|crit):|fence_lab|fence' "$W/$node/log/pacemaker.log" | grep -v cib_perform_op | tail -n 8
		tail -n 12 "$W/$node/daemon.log"
	done
	echo "--- the switch"
	tail -n 12 "$W/switch.log"
	echo "---"
} 2>&1

# write_conf NODE [SETTING...] - as in cluster-lab.sh, with the lines that tell when fences count.
write_conf() {
	local node=$1
	shift
	cat >"$W/$node/fence_virt.conf" <<-CONF
		fence_virtd { listener = "tcp"; backend = "cpg"; debug = "1"; status_socket = "/run/status.sock"; }
		listeners { tcp { key_file = "$W/key"; address = "127.0.0.1"; } }
		backends { cpg { uri = "$(cat "$W/$node/uri")"; $* } }
	CONF
	chmod 600 "$W/$node/fence_virt.conf"
}

# Writes the files of all nodes.
make_nodes() {
	local node members=""
	mkdir -p "$W/sbin" "$W/switch" "$W/corosync"
	cp "$here/host-fencing-agent.sh" "$W/sbin/fence_lab"
	# Pacemaker looks for a process of this program. The checks do what SBD does when the watchdog is not fed.
	cp "$(command -v sleep)" "$W/sbin/sbd"
	cat >"$W/cib.xml" <<-XML
		<cib validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0"><configuration>
		<crm_config><cluster_property_set id="options">
		$(nvpairs options stonith-enabled=true startup-fencing=false dc-deadtime=2s stonith-max-attempts=1000 \
			stonith-watchdog-timeout=$([ "$WATCHDOG" ] && echo "${STONITH_WATCHDOG_TIMEOUT}s" || echo 0))
		</cluster_property_set></crm_config>
		<nodes>$(for node in "${ALL[@]}"; do echo "<node id=\"$(id "$node")\" uname=\"$node\"/>"; done)</nodes>
		<resources><primitive id="switch" class="stonith" type="fence_lab">
		<instance_attributes id="switch-attributes">
		$(nvpairs switch "work=$W" "pcmk_host_list=$([ "$WATCHDOG" ] && echo n1 || echo "${ALL[*]}")" pcmk_reboot_timeout=20 pcmk_off_timeout=20)
		</instance_attributes>
		<operations><op id="switch-monitor" name="monitor" interval="1h" timeout="30s"/></operations>
		</primitive></resources><constraints/>
		</configuration><status/></cib>
	XML
	for node in "${ALL[@]}"; do
		node_files "$node"
		mkdir -p "$W/$node/pacemaker/"{blackbox,cib,cores,pengine}
		cp "$W/cib.xml" "$W/$node/pacemaker/cib/"
		chown -R hacluster:haclient "$W/$node/pacemaker"
		chmod 600 "$W/$node/pacemaker/cib/cib.xml"
		members+=$(corosync_node "$node" "$(id "$node")" "$(address "$node")")
		write_conf "$node"
	done
	corosync_conf hosts "$members" >"$W/corosync/corosync.conf"
}

# host_on NODE - power, corosync and pacemaker.
host_on() {
	power_on "$1" || return
	in_node "$1" mount --bind "$W/$1/pacemaker" /var/lib/pacemaker &&
		in_node "$1" mount -t overlay -o "lowerdir=$W/sbin:/usr/sbin" overlay /usr/sbin || return
	[ -z "$WATCHDOG" ] || { launch "$1" sbd sbd infinity && in_node "$1" cp "$W/$1/sbd.pid" /run/; } || return
	start_pacemaker "$1"
}
start_pacemaker() { # NODE
	launch "$1" pacemaker env PCMK_logfile=/var/log/pacemaker.log PCMK_logfacility=none \
		SBD_WATCHDOG_TIMEOUT=$WATCHDOG_TIMEOUT pacemakerd -f
}

crm() { in_node "$1" timeout 5 crm_mon --one-shot --output-as=xml 2>/dev/null; }
# is_managed NODE COUNT - COUNT nodes are online, and the fencing device is started.
is_managed() {
	local state
	state=$(crm "$1")
	[ "$(grep '<node name=.*online="true"' <<<"$state" | grep 'pending="false"' | grep -c 'unclean="false"')" = "$2" ] &&
		grep -q '<resource id="switch".*role="Started".*failed="false"' <<<"$state"
}

# ------------------------------------------------------------------ the switch

# The switch does what `mode` says: ok, fail, or hold, which answers later. "on" changes
# nothing, and succeeds.
set_switch() { echo "$1" >"$W/mode"; }
# answered REQUEST CODE
answered() { echo "$2" >"$1.answer.new" && mv "$1.answer.new" "$1.answer"; }
# Runs in the background. After a reboot the host stays off until a check starts it.
run_switch() {
	local asked request node action mode
	while :; do
		for asked in "$W/switch/"*.asked; do
			[ -e "$asked" ] || continue
			mode=$(cat "$W/mode")
			[ "$mode" != hold ] || continue
			request=${asked%.asked}
			rm "$asked"
			IFS=. read -r node action _ <<<"${request##*/}"
			echo "$(date +%T.%3N) $action $node: $mode"
			if [ "$action" = on ]; then
				answered "$request" 0
			elif [ "$mode" = fail ]; then
				answered "$request" 1
			else
				! has_power "$node" || power_cut "$node"
				answered "$request" 0
			fi
		done
		sleep 0.05
	done
}
# is_asked NODE - the switch holds a request about it.
is_asked() { compgen -G "$W/switch/$1.*.asked" >/dev/null; }

# history ASKER NODE - fencing actions that its fencer knows.
history() { in_node "$1" stonith_admin --history "$2" --verbose 2>/dev/null; }
# has_history ASKER NODE STATE COUNT - it knows of more than COUNT actions of this state.
count_history() { history "$1" "$2" | grep -c "$3"; }
has_more() { [ "$(count_history "$1" "$2" "$3")" -gt "$4" ]; }
