#!/bin/bash
# The backend agent with real fence agents: fence_dummy, fence_virsh at an sshd and a libvirtd of
# this test (libvirt's test driver), fence_pve at a stub of Proxmox's API (pve-stub.py), and all that
# below pacemaker.
#
#   FENCE_VIRTD=, FENCE_VIRT=   programs under test (default: target/debug)
#   KEEP=1                      keep the work directory, with all logs
#   LIMIT=                      timeout of each wait in seconds (default: 60)
#
# Host and guest are namespaces of this machine; the script changes nothing outside of them. When it
# ends or is killed, every process ends with it. agent-lab.sh makes the host.
#
# Prints a line for each check. Exit code: 0 all passed, 1 not all, 77 skipped.
# The files that it sources use and set variables of this one.
# shellcheck disable=SC2034,SC2154
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")

# Seconds. LIMIT: timeout of each wait, on a busy machine.
LIMIT=${LIMIT:-60}
BACKEND=libvirt
KEYS=shared
AGENT_TIMEOUT=25

source "$here/inside.sh"

skip() {
	echo "*** SKIPPED agent: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"
	exit 77
}

# ------------------------------------------------- outside of the namespaces

if [ -z "${AGENT_INNER:-}" ]; then
	needs /usr/sbin/fence_dummy:fence-agents /usr/sbin/fence_pve:fence-agents /usr/sbin/fence_virsh:fence-agents \
		/usr/sbin/fence_xvm:fence-virt /usr/sbin/sshd:openssh-server ssh:openssh-client openssl:openssl \
		corosync:corosync pacemakerd:pacemaker stonith_admin:pacemaker-cli-utils \
		libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2
	needs_overlays
	find_builds
	W=$(mktemp -d "${TMPDIR:-/tmp}/agent.XXXXXX")
	chmod 755 "$W" # pacemaker's daemons are not root
	export W BACKEND KEYS AGENT_INNER=1
	run_inside "$here/agent.sh" --uts
fi

# --------------------------------------- inside: this shell is the host itself

CHECKS=24
source "$here/checking.sh"
source "$here/agent-lab.sh"
KEY=$W/etc/cluster/fence_xvm.key

# ------------------------------------------------------------- what is checked

dummy_is() { same "$(cat "$W/dummy")" "$1"; }
# cycles AGENT VM IS - off, on and reboot of a VM, whose state `IS on` or `IS off` must follow. A
# reboot is a success once the VM is off; it comes on after that.
cycles() {
	gives 0 "$1" status "$2" && gives 0 "$1" off "$2" && gives 2 "$1" status "$2" && "$3" off &&
		gives 0 "$1" on "$2" && gives 0 "$1" status "$2" && "$3" on &&
		gives 0 "$1" reboot "$2" && within "$3" on && gives 0 "$1" status "$2"
}
lists() { # AGENT VM STATE...
	local agent=$1
	shift
	gives 0 "$agent" list || return
	while [ "$#" -gt 0 ]; do
		grep -qE "^$1 .*[[:space:]]$2\$" <<<"$out" || { echo "$1 is not listed as $2"; return 1; }
		shift 2
	done
}
refuses_other() { ! ask tcp off other && ! ask tcp status other; }

virsh_is() { case $1 in on) vm_is web running ;; off) vm_is web "shut off" ;; esac; }
virsh_is_gone() {
	kill -TERM "$sshd" && wait "$sshd" 2>/dev/null
	! ask tcp off web && vm_is web running
}

pve_web_is() { case $1 in on) pve_is 100 "web running" ;; off) pve_is 100 "web stopped" ;; esac; }
by_number() { gives 0 tcp off 100 && pve_web_is off && gives 0 tcp on 100 && pve_web_is on; }
stop_then_start() { # AGENT VM ID
	local calls
	calls=$(lines "$W/pve/calls")
	gives 0 "$1" reboot "$2" && within called "$calls" "$3 stop $3 start"
}
stays_on() {
	local calls operation
	echo always >"$W/pve/stuck"
	for operation in off reboot; do
		calls=$(lines "$W/pve/calls")
		! ask tcp "$operation" web && pve_web_is on && same "$(calls_since "$calls")" "100 stop" || return
	done
	rm "$W/pve/stuck" && gives 0 tcp off web && gives 0 tcp on web
}
# The agent's own off succeeds. The daemon asks for the state as long as the client waits.
seems_off() {
	local calls
	calls=$(lines "$W/pve/calls")
	echo once >"$W/pve/stuck"
	! PATIENCE=6 ask tcp off web && pve_web_is on && same "$(calls_since "$calls")" "100 stop" &&
		rm "$W/pve/stuck" && gives 0 tcp off web && gives 0 tcp on web
}
called() { same "$(calls_since "$1")" "$2"; }
wrong_password() {
	local log calls
	log=$(lines "$W/daemon.log") calls=$(lines "$W/pve/calls")
	pve_password "other" && ! ask tcp off web && pve_web_is on && within logged "$W/daemon.log" "$log" "Unable to connect/login" &&
		try tail -n "+$((log + 1))" "$W/daemon.log" && says "agent:pve" && same "$(calls_since "$calls")" ""
}
password_is_not() { ! grep -RF -- "$PASSWORD" "$W/daemon.log" "$W/fence_virt.conf" "$W/pve/calls"; }
refuses_start() { stop_daemon; write_conf agent "$(PVE_SECTION)" && refuses "Unable to connect/login"; }
starts_without() {
	start_daemon agent "$(PVE_SECTION)" -w
	! ask tcp off web && pve_password "$PASSWORD" && within works
}
works() { ask tcp status web; }

crm_starts() { within sees_started g1 && try in_guest g1 crm_mon --one-shot; }
# fences NODE ID VM
fences() {
	local calls
	calls=$(lines "$W/pve/calls")
	try in_guest g1 stonith_admin --reboot "$1" --timeout "$LIMIT" && within called "$calls" "$2 stop $2 start" && pve_is "$2" "$3 running"
}
must_fail() { # NODE
	echo always >"$W/pve/stuck"
	! try in_guest g1 stonith_admin --reboot "$1" --timeout "$AGENT_TIMEOUT" && pve_web_is on &&
		try in_guest g1 stonith_admin --history "$1" --verbose && says "reboot of $1 failed" && rm "$W/pve/stuck"
}

agent_host
make_guests

# fence_dummy fences one VM, which has the section's name. Its file has no newline.
printf on >"$W/dummy"
start_daemon agent "agent = \"web\" { program = \"/usr/sbin/fence_dummy\"; option = \"type=file\"; option = \"status_file=$W/dummy\"; }"
for agent in tcp multicast their-tcp their-multicast; do
	check "fence_dummy: off, on, reboot, status ($agent)" cycles "$agent" web dummy_is
done
check "fence_dummy: monitor (tcp)" gives 0 tcp monitor
check "fence_dummy: monitor (multicast)" gives 0 multicast monitor
check "fence_dummy: it fences no other VM" refuses_other
stop_daemon

start_libvirt >/dev/null
start_sshd
start_daemon "agent:virsh" "agent = \"virsh\" { program = \"/usr/sbin/fence_virsh\"; option = \"ip=$HOST\"; option = \"ipport=$SSH_PORT\";
	option = \"username=root\"; option = \"identity_file=$W/ssh/user\"; timeout = \"15\"; }"
check "fence_virsh: a list with states" lists tcp web on
check "fence_virsh: off, on, reboot, status" cycles tcp web virsh_is
check "fence_virsh: the host has no sshd any more: off fails" virsh_is_gone
stop_daemon

start_pve
start_daemon agent "$(PVE_SECTION)"
check "fence_pve: a list with names and states" lists tcp web on db off
check "fence_pve: off, on, reboot, status" cycles tcp web pve_web_is
check "fence_pve: a VM by its number" by_number
check "fence_pve: reboot is stop and start" stop_then_start multicast web 100
check "fence_pve: a VM that stays on is never reported off" stays_on
check "fence_pve: a VM that seems off to the agent for a moment is never reported off" seems_off
check "fence_pve: the password is wrong: off fails, and the log has the reason" wrong_password
check "fence_pve: the password is wrong: the daemon does not start" refuses_start
check "fence_pve: with -w it starts, and works once the password is right" starts_without

power_on g1
need "the node is online" sees_nodes g1 1
check "pacemaker: both fencing resources are started" crm_starts
check "pacemaker: reboot over tcp" fences n1 100 web
gives 0 tcp on db >/dev/null
check "pacemaker: reboot by multicast" fences n2 101 db
check "pacemaker: a VM that stays on is not fenced" must_fail n1
check "the password is in no log" password_is_not
finish
