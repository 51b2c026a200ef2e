# The machines of guests.sh, which reads this file inside the namespaces of the
# host: that host with its libvirtd and its daemons, three guests, and what can
# be asked of them.
# shellcheck shell=bash

ASKER=11111111-aaaa-4111-8111-111111111111
VICTIM=22222222-bbbb-4222-8222-222222222222
STRANGER=33333333-cccc-4333-8333-333333333333
URI=qemu:///system
LINES=/run/lines # short: the path of a unix socket has at most 107 bytes

# until_true SECONDS COMMAND... - runs it until it succeeds.
until_true() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@"; do
		[ "${EPOCHREALTIME/./}" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# need WHAT COMMAND... - what all checks stand on.
need() {
	local what=$1
	shift
	until_true "$LIMIT" "$@" && return
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
	local device folder
	ip link set lo up
	mkdir -p "$W/dev" "$W/log"
	mount -t tmpfs -o mode=755 dev "$W/dev"
	for device in null:3 zero:5 full:7 random:8 urandom:9; do
		mknod -m 666 "$W/dev/${device%:*}" c 1 "${device#*:}"
	done
	mkdir "$W"/dev/{shm,pts}
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$W/dev/pts"
	ln -s pts/ptmx "$W/dev/ptmx"
	ln -s /proc/self/fd "$W/dev/fd"
	mount --rbind "$W/dev" /dev
	for folder in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt; do
		mount -t tmpfs -o mode=755 private "$folder"
	done
	mount --bind "$W/log" /var/log/libvirt
	mkdir -p /run/lock "$LINES"/{serial,channel,agent}
	(umask 077 && head -c 4096 /dev/urandom >"$W/key")
}

libvirt() { virsh -q -c "$URI" "$@"; }
libvirt_answers() { libvirt version >/dev/null 2>&1; }

start_libvirtd() {
	# No service manager, no virtlogd, and consoles that are root's.
	cat >/etc/libvirt/qemu.conf <<-CONF
		security_driver = "none"
		user = "root"
		group = "root"
		dynamic_ownership = 0
		remember_owner = 0
		cgroup_controllers = [ ]
		namespaces = [ ]
		stdio_handler = "file"
	CONF
	printf '%s\n' 'auth_unix_rw = "none"' 'log_outputs = "3:stderr"' >"$W/libvirtd.conf"
	libvirtd -f "$W/libvirtd.conf" -p /run/libvirtd.pid >>"$W/libvirtd.log" 2>&1 &
	libvirtd=$!
	need "libvirtd answers" libvirt_answers
}

declare -A daemon # the process for each mode

# start_daemon MODE FOLDER
start_daemon() {
	# The C daemon asks for a key that it does not use.
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

# has_ended PID - also if nobody has waited for it yet.
has_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# ends_well MODE - SIGTERM ends that daemon in time.
ends_well() {
	local code pid=${daemon[$1]}
	kill "$pid" || { echo "it was gone already"; return 1; }
	until_true 5 has_ended "$pid" || { echo "still there after 5 s"; return 1; }
	wait "$pid"
	code=$?
	[ $code = 0 ] || { echo "exit code $code"; return 1; }
}

# connections MODE - the sockets of lines that this daemon is connected to, by name.
connections() {
	ss -Hxp | awk -v pid=",pid=${daemon[$1]}," -v lines="$LINES/" '
		{ path[$6] = $5 }
		index($0, pid) { peers[$8] }
		END { for (peer in peers) if (index(path[peer], lines) == 1) print substr(path[peer], length(lines) + 1) }' | sort | xargs
}

# Who is connected to the socket of the guest agent, or waits there to be; added
# to $W/agent. libvirtd always is, which shows that a connection can be seen.
look_at_agent() {
	local sockets
	sockets=$(ss -Haxp)
	awk -v path="$LINES/agent/asker" '
		$5 == path && $2 == "LISTEN" && $3 > 0 { print "waiting: " $3 }
		$5 == path && $2 == "ESTAB" { ours[$8] }
		{ who[$6] = $NF }
		END { for (peer in ours) print who[peer] }' <<<"$sockets" >>"$W/agent"
}
agent_is_libvirts() { # and nobody else's
	grep -q '"libvirtd",' "$W/agent" || { echo "not even libvirtd was seen there"; return 1; }
	! grep -v '"libvirtd",' "$W/agent"
}

# ---------------------------------------------------------------- the guests

# What the guests run: `bare` only says that it is up, `agents` obeys its console.
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
			printf '%s=%q\n' OURS "$FENCE_VIRT" THEIRS "$THEIRS" >"$root/etc/steps"
			cat >>"$root/etc/steps" <<-'GUEST'
				load_modules
				ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up # where there is a card
				# over AGENT WAY OPTION..
				over() {
					program=$THEIRS way="-D /dev/ttyS1"
					[ "$1" != ours ] || program=$OURS
					[ "$2" != vmchannel ] || way="-A 10.0.2.179 -p 1229"
					shift 2
					timeout 50 "$program" $way "$@"
				}
				# served WAY SECONDS: whether a daemon answers there in time
				served() {
					until over theirs "$1" -o monitor -t 2 >/dev/null; do
						read -r now _ </proc/uptime
						[ -n "$end" ] || end=$((${now%.*} + $2))
						[ ${now%.*} -lt $end ] || return 1
						usleep 100000
					done
				}
				stty raw -echo
				echo @ready
				while read -r number command; do
					run "$number" "$command"
					echo "@$number end"
				done
			GUEST
		fi
		(cd "$root" && find . | "$GUEST_CACHE/busybox" cpio -o -H newc 2>/dev/null) >"$root.cpio"
	done
}

# define NAME UUID INITRAMFS DEVICES [MORE] - its console is two FIFOs, and what
# it writes is in NAME.console.
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

serial_line() { echo "<serial type='unix'><source mode='bind' path='$LINES/serial/$1'/><target port='1'/></serial>"; }

define_guests() {
	# The first channel is `channel0`: libvirt gives its user network no card,
	# and QEMU wants one.
	define asker "$ASKER" agents "$(serial_line asker)
		<channel type='unix'><source mode='bind' path='$LINES/channel/asker'/>
		<target type='guestfwd' address='10.0.2.179' port='1229'/></channel>
		<channel type='unix'><source mode='bind' path='$LINES/agent/asker'/>
		<target type='virtio' name='org.qemu.guest_agent.0'/></channel>" \
		"<qemu:commandline><qemu:arg value='-device'/>
		<qemu:arg value='virtio-net-pci,netdev=channel0,addr=0x10,romfile='/></qemu:commandline>" &&
		define victim "$VICTIM" bare "" && define stranger "$STRANGER" agents "$(serial_line stranger)"
}

boots() { grep -ac '^@ready' "$W/$1.console"; }
has_booted() { [ "$(boots "$1")" -gt "$2" ]; } # NAME BEFORE
state_is() { [ "$(libvirt domstate "$1" 2>&1)" = "$2" ]; }

# tell GUEST COMMAND - the guest runs it: its exit code and output are in $code and $text.
tell() {
	number=$((number + 1)) code="none within $LIMIT s" text=
	printf '%s %s\n' $number "$2" 1<>"$W/$1.in"
	until_true "$LIMIT" grep -aqs "^@$number end" "$W/$1.console" &&
		read -r _ code text < <(tr -d '\r' <"$W/$1.console" | grep -a "^@$number ")
}
