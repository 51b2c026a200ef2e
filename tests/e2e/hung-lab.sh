# Machines of hung.sh, which sources this file inside the namespaces of the host:
# libvirtd, a daemon, bare VMs, and calls of the agents with their times.
# shellcheck shell=bash
. "$here/libvirt-lab.sh"

SETTINGS=("min_workers = $WORKERS" "max_workers = $WORKERS")

# What the daemon has logged since the last time.
shown=0
show_logs() {
	echo "--- the daemon's log"
	tail -n "+$((shown + 1))" "$W/daemon.log" | tail -n 30 | cut -c 1-500 | cat -v
	shown=$(lines "$W/daemon.log")
	echo "---"
}

private_host() {
	private_libvirt
	mkdir "$W/answers"
	(umask 077 && head -c 4096 /dev/urandom >"$W/key")
	# A firmware of one instruction, at the address where the processor begins: it halts.
	head -c 65536 /dev/zero >"$W/firmware"
	printf '\xfa\xf4\xeb\xfd' | dd of="$W/firmware" bs=1 seek=65520 conv=notrunc status=none
	mkdir /etc/libvirt/hooks
	mkfifo "$W/release"
	cat >/etc/libvirt/hooks/qemu <<-HOOK
		#!/bin/sh
		[ "\$1 \$2" = "held prepare" ] && [ -e "$W/hold" ] || exit 0
		: >"$W/is-held"
		read -r line <"$W/release"
	HOOK
	chmod 755 /etc/libvirt/hooks/qemu
	cat >"$W/emulator" <<-EMULATOR
		#!/bin/sh
		case \$* in *guest=stuck,*) [ ! -e "$W/stick" ] || kill -STOP \$\$ ;; esac
		exec $(command -v qemu-system-x86_64) "\$@"
	EMULATOR
	chmod 755 "$W/emulator"
}

hold_starts() { rm -f "$W/is-held" && : >"$W/hold"; }
start_is_held() { [ -e "$W/is-held" ]; }
release_starts() {
	rm "$W/hold"
	# Opened for both: nobody may be there to read.
	echo go 1<>"$W/release"
}

# Starts of `stuck` hang: its QEMU stops itself before it answers libvirt.
stick_starts() { : >"$W/stick"; }
start_is_stuck() { grep -q '^State:.T' "/proc/$(process_of stuck)/status" 2>/dev/null; }
release_stuck() { rm "$W/stick"; } # those that begin from now on

start_daemon() {
	cat >"$W/fence_virt.conf" <<-CONF
		fence_virtd { listener = "tcp"; backend = "libvirt"; }
		listeners { tcp { address = "127.0.0.1"; key_file = "$W/key"; } }
		backends { libvirt { uri = "$URI"; } }
	CONF
	chmod 600 "$W/fence_virt.conf"
	"$DAEMON" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" >"$W/daemon.log" 2>&1 &
}

# ------------------------------------------------------------------- the VMs

names() { # LETTER NUMBER
	local at
	for ((at = 1; at <= $2; at++)); do echo "$1$at"; done
}
hung_vms() { names h "$1"; }
healthy_vms() { names v $HEALTHY; }
uuid() { # VM
	local number=${1//[a-z]/}
	printf '%08d-%04x-4111-8111-111111111111' "${number:-0}" "'$1"
}

define_vms() {
	local vm emulator commands=""
	for vm in $(hung_vms 24) $(healthy_vms) held stuck; do
		emulator=$(command -v qemu-system-x86_64)
		[ $vm != stuck ] || emulator=$W/emulator
		cat >"$W/$vm.xml" <<-XML
			<domain type='qemu'><name>$vm</name><uuid>$(uuid "$vm")</uuid>
			<memory unit='MiB'>32</memory><vcpu>1</vcpu>
			<os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>$W/firmware</loader></os>
			<devices><emulator>$emulator</emulator><controller type='usb' model='none'/></devices>
			</domain>
		XML
		commands+="define $W/$vm.xml;"
	done
	libvirt "$commands" >"$W/define.log" || need "the VMs are defined" false
}

# ids_of VM... - a line for each: its name and the number of its run; `-` if it is off,
# `?` if it is being started or stopped.
ids_of() {
	libvirt list --all | awk -v names=" $* " '
		index(names, " " $2 " ") { print $2, $3 == "running" ? $1 : $3 == "shut" ? "-" : "?" }'
}
all_run() { ! ids_of "$@" | grep -q -- '[-?]$'; }

# start_vms VM... - those of them that are off, until all run: libvirt may end one of
# them after its start (was_ended_by_libvirt).
start_vms() { need "$* run" all_started "$@"; }
all_started() {
	start_once "$@"
	all_run "$@"
}
# start_once VM... - those of them that are off, two side by side.
start_once() {
	local vm at=0 commands=("" "") starts=()
	for vm in $(ids_of "$@" | sed -n 's/ -$//p'); do
		commands[at++ % 2]+="start $vm;"
	done
	for at in 0 1; do
		[ -z "${commands[at]}" ] || { libvirt "${commands[at]}" >>"$W/start.log" 2>&1 & starts+=($!); }
	done
	[ ${#starts[@]} = 0 ] || wait "${starts[@]}"
}

# was_ended_by_libvirt VM - nobody has asked for it. libvirt 9.0 may take the end of a VM's
# process before for the end of the present one, and kills that, if the VM is started again
# at once. Newer versions compare the number of the run.
was_ended_by_libvirt() {
	grep -o 'shutting down, reason=.*' "$W/log/qemu/$1.log" | tail -n 1 | grep -qE 'failed|crashed'
}

process_of() { cat "/run/libvirt/qemu/$1.pid" 2>/dev/null; }
freeze() { # VM...
	local vm
	for vm; do kill -STOP "$(process_of "$vm")"; done
}
# all_dying VM... - each has a SIGTERM waiting, libvirt's first.
all_dying() {
	local vm pending
	for vm; do
		pending=$(sed -n 's/^ShdPnd:\s*//p' "/proc/$(process_of "$vm")/status" 2>/dev/null)
		[ $((0x${pending:-0} & 0x4000)) != 0 ] || return 1
	done
}

# settle - ends what still hangs, waits until the daemon answers, and starts the healthy
# VMs that calls of a failed check left off.
settle() {
	local vm
	for vm in "${hanging[@]}"; do
		! grep -q '^State:.T' "/proc/$(process_of "$vm")/status" 2>/dev/null || kill -KILL "$(process_of "$vm")"
	done
	need "the daemon answers again" answers_status
	start_vms $(healthy_vms)
}

# ----------------------------------------------------------------- the calls

now() { echo $((${EPOCHREALTIME/./} / 1000)); }

# timed NAME COMMAND... - the answer NAME: the time when it came, how long it took, in
# milliseconds; exit code and output, with the lines joined by semicolons.
timed() {
	local name=$1 begin text code end
	shift
	begin=$(now)
	text=$("$@" 2>&1)
	code=$?
	end=$(now)
	echo "$end $((end - begin)) $code ${text//$'\n'/;} " >"$W/answers/$name"
}
# asked ACTION [VM] - by $program, or our agent.
asked() { "${program:-$FENCE_VIRT}" -T 127.0.0.1 -k "$W/key" -t 30 -o "$1" ${2:+-n "$2"}; }
# ask NAME AGENT ACTION [VM]
ask() {
	local program=$FENCE_VIRT
	[ "$2" = ours ] || program=$THEIRS
	timed "$1" asked "${@:3}"
}

# answers_of SET - names of the answers, which begin so.
answers_of() { (cd "$W/answers" && ls -d "$1".* "$1"[0-9]* "$1" 2>/dev/null); }
ends_of() { answers_field "$1" 1; }
times_of() { answers_field "$1" 2; }
answers_field() { # SET FIELD
	local answers
	answers=$(answers_of "$1")
	[ -z "$answers" ] || (cd "$W/answers" && cut -d ' ' -f "$2" $answers)
}
median() { sort -n | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : 0 }'; }
maximum() { sort -n | tail -n 1 | grep . || echo 0; }
