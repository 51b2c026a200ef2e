# Machines of race.sh, which sources this file inside the namespaces of the host:
# that host with its libvirtd and its daemons, three guests on a bridge, and functions
# that make them begin together and tell how it ended.
# shellcheck shell=bash
. "$here/libvirt-lab.sh"

SOCKETS=/run/fence # short: the path of a unix socket has at most 107 bytes
HOST=10.77.0.1
declare -A ADDRESS=([a]=10.77.0.11 [b]=10.77.0.12 [c]=10.77.0.13)
declare -A PID=() # of the daemons, by listener

show_logs() {
	local guest
	libvirt list --all
	for guest in a b c; do
		echo "--- the end of the console of $guest, with the time in microseconds; its last command was ${NUMBER[$guest]-none}"
		tail -n 3 "$W/$guest.console" | cut -c 1-300 | cat -v
	done
	echo "--- the end of the daemon's log"
	tail -n 20 "$W/daemon.log" | cut -c 1-500 | cat -v
	echo "---"
}

private_host() {
	private_libvirt
	ip link add br0 type bridge forward_delay 0 mcast_snooping 0
	ip address add $HOST/24 dev br0
	ip link set br0 up
	mkdir "$SOCKETS"
	(umask 077 && head -c 4096 /dev/urandom >"$W/key")
}

# start_daemon LISTENER... - one daemon.
start_daemon() {
	local listeners=$*
	cat >"$W/$1.conf" <<-CONF
		fence_virtd { listener = "${listeners// /, }"; backend = "libvirt"; }
		listeners {
			tcp { address = "$HOST"; key_file = "$W/key"; }
			multicast { interface = "br0"; key_file = "$W/key"; }
			serial { mode = "serial"; path = "$SOCKETS"; uri = "$URI"; key_file = "$W/key"; }
		}
		backends { libvirt { uri = "$URI"; } }
	CONF
	chmod 600 "$W/$1.conf"
	"$DAEMON" -F -d 1 -f "$W/$1.conf" -p "$W/$1.pid" >>"$W/daemon.log" 2>&1 &
	for listener; do PID[$listener]=$!; done
}
# The C daemon has one listener each.
start_daemons() {
	local listener
	[ "$DAEMON" = "$C_DAEMON" ] || { start_daemon tcp multicast serial; return; }
	for listener in tcp multicast serial; do start_daemon $listener; done
}

watch_events() { virsh -q -c "$URI" event --all --loop >"$W/events" 2>&1 & }

# ---------------------------------------------------------------- the guests

make_initramfs() {
	local root=$W/guest program
	guest_new "$root"
	guest_add "$root" "$FENCE_VIRT" "$THEIRS" || return 1
	for program in "$FENCE_VIRT" "$THEIRS"; do ln -s "$(basename "$program")" "$root/$(dirname "$program")/fence_xvm"; done
	guest_modules "$root" virtio_pci virtio_net
	cp "$W/key" "$root/etc/key"
	printf '%s=%q\n' OURS "$FENCE_VIRT" THEIRS "$THEIRS" HOST $HOST >"$root/etc/steps"
	cat >>"$root/etc/steps" <<-'GUEST'
		load_modules
		ip address add $address/24 dev eth0 # of the kernel's command line
		ip link set eth0 up
		ip route add 224.0.0.0/4 dev eth0
		# fence AGENT WAY ACTION VM
		fence() {
			program=$THEIRS
			[ "$1" != ours ] || program=$OURS
			case $2 in
			tcp) $program -T $HOST -k /etc/key -t 20 -o "$3" -n "$4" ;;
			multicast) ${program%/*}/fence_xvm -k /etc/key -t 20 -o "$3" -n "$4" ;;
			serial) $program -D /dev/ttyS1 -t 20 -o "$3" -n "$4" ;;
			esac
		}
		# wake SECONDS NUMBER - sets the clock, and makes the random numbers and the ports of
		# this run others than those of the last one, which began at the same moment.
		wake() {
			date -s "@$1" && dd if=/dev/urandom of=/dev/null bs=16 count=$(($2 % 64 * 64 + 1)) &&
				echo $((10000 + $2 % 1000 * 50)) $((10049 + $2 % 1000 * 50)) >/proc/sys/net/ipv4/ip_local_port_range &&
				ping -c 1 -w 10 $HOST
		}
		stty raw -echo
		echo @ready
		(
			while read -r number command; do
				run "$number" "$command"
			done
		)
	GUEST
	(cd "$root" && find . | "$GUEST_CACHE/busybox" cpio -o -H newc 2>/dev/null) >"$root.cpio"
}

# Its console is two FIFOs; NAME.console gets its output, each line after the time in microseconds.
define() { # NAME NUMBER
	local line
	mkfifo "$W/$1.in" "$W/$1.out"
	while IFS= read -r line; do echo "${EPOCHREALTIME/./} ${line%$'\r'}"; done <>"$W/$1.out" >"$W/$1.console" &
	cat >"$W/$1.xml" <<-XML
		<domain type='qemu'>
		<name>$1</name><uuid>$2$2$2$2$2$2$2$2-aaaa-4111-8111-111111111111</uuid>
		<memory unit='MiB'>128</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type>
		<kernel>$GUEST_CACHE/vmlinuz</kernel><initrd>$W/guest.cpio</initrd>
		<cmdline>console=ttyS0 quiet loglevel=1 panic=-1 nokaslr tsc=reliable no_timer_check mitigations=off cryptomgr.notests random.trust_cpu=on lpj=4000000 address=${ADDRESS[$1]}</cmdline></os>
		<features><acpi/></features>
		<devices><emulator>$(command -v qemu-system-x86_64)</emulator>
		<controller type='usb' model='none'/><memballoon model='none'/>
		<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:77:00:0$2'/><model type='virtio'/><rom enabled='no'/></interface>
		<serial type='pipe'><source path='$W/$1'/><target port='0'/></serial>
		<serial type='unix'><source mode='bind' path='$SOCKETS/$1'/><target port='1'/></serial>
		</devices>
		</domain>
	XML
	libvirt define "$W/$1.xml"
}
define_guests() { define a 1 && define b 2 && define c 3; }
has_booted() { grep -aq '^[0-9]* @ready' "$W/$1.console"; }
is_off() { state_is "$1" "shut off"; }

# Boots all guests, and saves them as they wait for commands.
save_guests() {
	local guest
	for guest in a b c; do libvirt start $guest || need "$guest starts" false; done
	for guest in a b c; do
		need "$guest boots" has_booted $guest
		does $guest "head -c 1 /dev/random >/dev/null" # which blocks until it is ready
		libvirt save $guest "$W/$guest.save" || need "$guest is saved" false
	done
}

# restored GUEST... - all of them run, wait for a command, and have their lines connected.
restored() {
	local guest asleep=()
	for guest; do ! is_off "$guest" || asleep+=("$guest"); done
	for guest in "${asleep[@]}"; do libvirt restore "$W/$guest.save" >>"$W/restore.log" 2>&1 & done
	for guest in "${asleep[@]}"; do
		need "$guest is restored" state_is "$guest" running
		wakes "$guest"
	done
	for guest; do need "the line of $guest is connected" is_connected "$guest"; done
}
wakes() { does "$1" "wake $EPOCHSECONDS $number"; } # GUEST
does() { # GUEST COMMAND
	together 0 "$1" "$2"
	need "$1 answers" has_answered "$1"
	[ "$(code_of "$1")" = 0 ] || need "$1: $2 ($(answer_of "$1"))" false
}
is_connected() { [[ " $(connections_of "${PID[serial]}" "$SOCKETS") " = *" $1 "* ]]; }

# ------------------------------------------------------------- what they do

number=0
declare -A NUMBER=() BEGIN=() # of the last command of each guest

# together MS GUEST COMMAND [GUEST COMMAND...] - each begins as it gets the end of its
# line, so many milliseconds after the guest before.
together() {
	local guests=() guest offset=$1
	shift
	while [ $# != 0 ]; do
		number=$((number + 1))
		NUMBER[$1]=$number
		guests+=("$1")
		printf '%s' "$number $2" 1<>"$W/$1.in"
		shift 2
	done
	for guest in "${guests[@]}"; do
		BEGIN[$guest]=${EPOCHREALTIME/./}
		echo 1<>"$W/$guest.in"
		[ "$offset" = 0 ] || sleep "$(printf '0.%03d' "$offset")"
	done
}
# Its last answer: exit code and output; nothing if there is none.
answer_of() { grep -a "^[0-9]* @${NUMBER[$1]} " "$W/$1.console" | cut -d ' ' -f 3-; }
code_of() { answer_of "$1" | cut -d ' ' -f 1; }
has_answered() { [ -n "$(answer_of "$1")" ]; }
time_of() { # in milliseconds
	local time
	time=$(grep -a "^[0-9]* @${NUMBER[$1]} " "$W/$1.console" | cut -d ' ' -f 1)
	echo $(((${time:-${EPOCHREALTIME/./}} - BEGIN[$1]) / 1000))
}

# request_of GUEST SINCE - the daemon's log about its power operations since that line, with their answers.
request_of() {
	tail -n "+$(($2 + 1))" "$W/daemon.log" | grep -v 'fence_virtd: debug: ' | grep -E "(tcp|multicast|serial): (${ADDRESS[$1]}|$1 \(.*\)): off"
}
# is_in GUEST - the daemon has its proof, the last bytes before the answer: 304 over tcp,
# 128 of a call-back (docs/WIRE.md).
is_in() {
	ss -OHtni state established dst "${ADDRESS[$1]}" | grep -qE 'bytes_received:(304|128) '
}
are_in() {
	local guest
	for guest; do is_in "$guest" || return 1; done
}

# ended SINCE GUEST... - each of them is off or has its answer, and what it asked for has
# an end. Of a request over a serial line nobody knows whether the daemon has it: 1 s.
ended() {
	local log=$1 guest seconds=5
	shift
	for guest; do until_true 30 is_over "$guest" || echo "$guest: no end within 30 s"; done
	[ "$way" != serial ] || seconds=1
	if [ "$DAEMON" = "$C_DAEMON" ]; then
		until_true 2 all_off "$@"
	else
		for guest; do until_true $seconds is_done "$guest" "$log"; done
	fi
}
is_over() { has_answered "$1" || is_off "$1"; }
is_done() { { [ "$way" != serial ] && ! is_in "$1"; } || [ -n "$(request_of "$1" "$2")" ]; }
all_off() {
	local guest
	for guest; do is_off "$guest" || return 1; done
}
