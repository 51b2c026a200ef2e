# Machines of guests.sh, which sources this file inside the namespaces of the
# host: that host with its libvirtd and its daemons, three guests, and functions
# to control them.
# shellcheck shell=bash
. "$here/libvirt-lab.sh"

ASKER=11111111-aaaa-4111-8111-111111111111
VICTIM=22222222-bbbb-4222-8222-222222222222
STRANGER=33333333-cccc-4333-8333-333333333333
SOCKETS=/run/fence # short: the path of a unix socket has at most 107 bytes
# Beside the fence channels; the C daemon would take it for one of them.
AGENT=$SOCKETS/channel/guest-agent
[ "$DAEMON" != "$C_DAEMON" ] || AGENT=$SOCKETS/agent/asker

# need WHAT COMMAND... - a condition of all checks: ends the script if it stays false.
need() {
	local what=$1
	shift
	until_true "$LIMIT" "$@" >/dev/null && return
	echo "FAIL $what: not within $LIMIT s, nothing else can be checked"
	failed=$((failed + 1))
	finish
}

show_logs() {
	local log
	for log in "$W"/*.console "$W"/*.log "$W"/log/qemu/*.log; do
		echo "--- the end of ${log#"$W/"}"
		tail -n 12 "$log" | cut -c 1-1000 | cat -v
	done
}

# ------------------------------------------------------------------ the host

private_host() {
	private_libvirt
	mkdir -p "$SOCKETS"/{serial,channel,agent}
	(umask 077 && head -c 4096 /dev/urandom >"$W/key")
}

declare -A daemon # the process for each mode

# start_daemon MODE FOLDER
start_daemon() {
	# The C daemon requires a key that it does not use.
	cat >"$W/$1.conf" <<-CONF
		fence_virtd { listener = "serial"; backend = "libvirt"; }
		listeners { serial { mode = "$1"; path = "$2"; uri = "$URI"; key_file = "$W/key"; } }
		backends { libvirt { uri = "$URI"; } }
		groups { group { uuid = "$ASKER"; uuid = "$VICTIM"; uuid = "victim"; } }
	CONF
	chmod 600 "$W/$1.conf"
	"$DAEMON" -F -f "$W/$1.conf" -p "$W/$1.pid" >"$W/daemon-$1.log" 2>&1 &
	daemon[$1]=$!
}

# end_daemon MODE - SIGTERM; its exit code is in $code.
end_daemon() {
	local pid=${daemon[$1]}
	code="none: it has ended already"
	kill "$pid" 2>/dev/null || return
	code="none: still there after 5 s"
	until_true 5 has_ended "$pid" || return
	wait "$pid"
	code=$?
}

# connections MODE - names of the sockets that this daemon is connected to.
connections() { connections_of "${daemon[$1]}" "$SOCKETS"; }

# Occupies the socket of the guest agent. QEMU accepts one connection; others
# stay in the queue even after their client has closed. virsh is used as a
# program that connects to a socket and waits for ever.
hold_agent() {
	virsh -c "qemu+unix:///system?socket=$AGENT" version >/dev/null 2>&1 </dev/null &
}
agent_is_ours() { # who is connected, and how many wait
	local seen
	seen=$(ss -Haxp | awk -v path="$AGENT" '
		{ split($NF, name, "\""); who[$6] = name[2] }
		$5 == path && $2 == "LISTEN" { print $3 " wait" }
		$5 == path && $2 != "LISTEN" { peers[$8] }
		END { for (peer in peers) print who[peer] }' | sort | xargs)
	same "$seen" "0 wait virsh"
}

# ---------------------------------------------------------------- the guests

# Guests: `bare` only reports that it is up, `agents` runs commands from its console.
make_initramfs() {
	local name root
	for name in bare agents; do
		root=$W/$name
		guest_new "$root"
		if [ "$name" = bare ]; then
			printf '%s\n' 'echo @ready' 'while :; do sleep 1000; done' >"$root/etc/steps"
		else
			guest_add "$root" "$FENCE_VIRT" "$THEIRS" || return 1
			guest_modules "$root" virtio_pci virtio_net
			printf '%s=%q\n' OURS "$FENCE_VIRT" THEIRS "$THEIRS" LIMIT "$LIMIT" >"$root/etc/steps"
			cat >>"$root/etc/steps" <<-'GUEST'
				load_modules
				# Network card of the requester, for its channel.
				ip address add 10.0.2.15/24 dev eth0 2>/dev/null && ip link set eth0 up
				# over AGENT WAY OPTION..
				over() {
					program=$THEIRS way="-D /dev/ttyS1"
					[ "$1" != ours ] || program=$OURS
					[ "$2" != vmchannel ] || way="-A 10.0.2.179 -p 1229"
					shift 2
					timeout $LIMIT "$program" $way "$@"
				}
				# served WAY: waits for a daemon there. A daemon on the line answers
				# within 4 s: a later answer would be taken for the next request's.
				served() {
					read -r end _ </proc/uptime
					end=$((${end%.*} + LIMIT))
					until over theirs "$1" -o monitor -t 4 >/dev/null; do
						read -r now _ </proc/uptime
						[ ${now%.*} -lt $end ] || return 1
						usleep 100000
					done
				}
				stty raw -echo
				echo @ready
				# Not in process 1: the end of an orphan (timeout leaves one) makes
				# busybox's `read` restart and lose its input.
				(
					while read -r number command; do
						run "$number" "$command"
						echo "@$number end"
					done
				)
			GUEST
		fi
		(cd "$root" && find . | "$GUEST_CACHE/busybox" cpio -o -H newc 2>/dev/null) >"$root.cpio"
	done
}

# define NAME UUID INITRAMFS DEVICES [MORE] - its console is two FIFOs; its
# output is in NAME.console.
define() {
	mkfifo "$W/$1.in" "$W/$1.out"
	cat <>"$W/$1.out" >"$W/$1.console" &
	cat >"$W/$1.xml" <<-XML
		<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
		<name>$1</name><uuid>$2</uuid><memory unit='MiB'>192</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type>
		<kernel>$GUEST_CACHE/vmlinuz</kernel><initrd>$W/$3.cpio</initrd>
		<cmdline>console=ttyS0 quiet loglevel=1 panic=-1 nokaslr tsc=reliable no_timer_check mitigations=off cryptomgr.notests random.trust_cpu=on lpj=4000000</cmdline></os>
		<features><acpi/></features>
		<devices><emulator>$(command -v qemu-system-x86_64)</emulator>
		<controller type='usb' model='none'/><memballoon model='none'/>
		<serial type='pipe'><source path='$W/$1'/><target port='0'/></serial>
		$4
		</devices>
		${5:-}
		</domain>
	XML
	libvirt define "$W/$1.xml"
}

serial_line() { echo "<serial type='unix'><source mode='bind' path='$SOCKETS/serial/$1'/><target port='1'/></serial>"; }

define_guests() {
	cat >"$W/plugged.xml" <<-XML
		<channel type='unix'><source mode='bind' path='$SOCKETS/channel/plugged'/>
		<target type='virtio' name='plugged.0'/></channel>
	XML
	# The first channel is `channel0`: libvirt gives its user network no card, which
	# QEMU requires.
	define asker "$ASKER" agents "$(serial_line asker)
		<channel type='unix'><source mode='bind' path='$SOCKETS/channel/asker'/>
		<target type='guestfwd' address='10.0.2.179' port='1229'/></channel>
		<channel type='unix'><source mode='bind' path='$AGENT'/>
		<target type='virtio' name='org.qemu.guest_agent.0'/></channel>" \
		"<qemu:commandline><qemu:arg value='-device'/>
		<qemu:arg value='virtio-net-pci,netdev=channel0,addr=0x10,romfile='/></qemu:commandline>" &&
		define victim "$VICTIM" bare "" && define stranger "$STRANGER" agents "$(serial_line stranger)"
}

boots() { grep -ac '^@ready' "$W/$1.console"; }
has_booted() { [ "$(boots "$1")" -gt "$2" ]; } # NAME BEFORE

# tell GUEST COMMAND - the guest runs it: its exit code and output are in $code and $text.
tell() {
	local seconds=$((LIMIT + 10)) # it has LIMIT for itself
	number=$((number + 1)) code="none within $seconds s" text=
	printf '%s %s\n' $number "$2" 1<>"$W/$1.in"
	until_true $seconds grep -aqs "^@$number end" "$W/$1.console" &&
		read -r _ code text < <(tr -d '\r' <"$W/$1.console" | grep -a "^@$number ")
}
