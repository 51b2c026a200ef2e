#!/bin/bash
# VMs that are powered off while they migrate, between two real libvirtds with real QEMU processes. A daemon
# of ours serves the first host, and knows nothing of the second one.
#
#   FENCE_VIRT=  agent to run  (target/debug/fence_virt of this project)
#   DAEMON=      daemon        (target/debug/fence_virtd of this project)
#   ROUNDS=      offs at any moment of a migration (20)
#   KEEP=1       keeps the work directory, with all logs
#   LIMIT=       timeout of each wait in seconds (60)
#
# The hosts are namespaces with one network. The machines have no devices, and a firmware that halts the
# processor. When this script ends, or is killed, every process ends with it.
#
# One line a check, then `N passed, M failed`; 77 if something is missing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/inside.sh"
DAEMON=$(realpath -m "${DAEMON:-$here/../../target/debug/fence_virtd}")
LIMIT=${LIMIT:-60}
ROUNDS=${ROUNDS:-20}
CHECKS=7
# Milliseconds: libvirt gives a process that hangs 10 s, and the query for its migration has 1 s.
HUNG_MAX=13000

skip() { echo "*** SKIPPED migration: $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; exit 77; }

# ------------------------------------------------- outside of the namespaces

if [ -z "${MIGRATION_INNER:-}" ]; then
	needs libvirtd:libvirt-daemon-system virsh:libvirt-clients ip:iproute2 qemu-system-x86_64:qemu-system-x86
	unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc mount -t tmpfs private /run 2>/dev/null ||
		skip "it may not make namespaces here"
	FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
	[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
	[ -x "$DAEMON" ] || skip "no $DAEMON (cargo build)"
	W=$(mktemp -d -t fence-migration.XXXXXX) || exit 1
	export FENCE_VIRT DAEMON W ROUNDS LIMIT MIGRATION_INNER=1
	run_inside "$here/migration.sh"
fi

. "$here/checking.sh"
. "$here/libvirt-lab.sh"

# ----------------------------------- inside: this shell is one of the two hosts

if [ -n "${HOST_INNER:-}" ]; then
	hostname "$HOST_INNER"
	W=$W/$HOST_INNER
	mkdir -p "$W/sock"
	URI="qemu+unix:///system?socket=$W/sock/libvirt-sock"
	private_libvirt
	start_libvirtd "unix_sock_dir = \"$W/sock\"" "host_uuid = \"$(cat /proc/sys/kernel/random/uuid)\""
	wait "$libvirtd"
	exit
fi

# ----------------------------------------------- inside: this shell is a client

show_logs() { tail -n 20 "$W/daemon.log"; }

SOURCE="qemu+unix:///system?socket=$W/source/sock/libvirt-sock"
TARGET="qemu+unix:///system?socket=$W/target/sock/libvirt-sock"
at_source() { virsh -q -c "$SOURCE" "$@"; }
at_target() { virsh -q -c "$TARGET" "$@"; }

start_host() { # NAME
	mkdir "$W/$1"
	HOST_INNER=$1 unshare --mount --uts bash "$here/migration.sh" >"$W/$1.log" 2>&1 &
	hosts[$1]=$!
	until_true "$LIMIT" virsh -q -c "qemu+unix:///system?socket=$W/$1/sock/libvirt-sock" version >/dev/null 2>&1 ||
		{ cat "$W/$1.log"; return 1; }
}

# define NAME NUMBER [FILE] - with the file in its memory.
define() {
	local loader=
	[ -z "${3:-}" ] || loader="<qemu:commandline><qemu:arg value='-device'/>
		<qemu:arg value='loader,file=$3,addr=0x200000,force-raw=on'/></qemu:commandline>"
	cat >"$W/$1.xml" <<-XML
		<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>$1</name>
		<uuid>00000000-0000-4111-8111-00000000000$2</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>$W/firmware</loader></os>
		<devices><emulator>$(command -v qemu-system-x86_64)</emulator><controller type='usb' model='none'/></devices>
		$loader</domain>
	XML
	at_source define "$W/$1.xml" >"$W/define.log" || need "the VM $1 is defined" false
}

asked() { "$FENCE_VIRT" -T 127.0.0.1 -k "$W/key" -t 30 -o "$1" ${2:+-n "$2"}; }
answers() { asked list >/dev/null 2>&1; }
last_line() { grep "$1 \"$2\": " "$W/daemon.log" | tail -n 1; } # ACTION VM

# process_of VM [incoming] - of the source, or of the target.
process_of() {
	local process command
	for process in /proc/[0-9]*; do
		command=$({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null)
		case $command in
		*"guest=$1,"*" -incoming "*) [ "${2:-}" != incoming ] || echo "${process#/proc/}" ;;
		*"guest=$1,"*) [ "${2:-}" = incoming ] || echo "${process#/proc/}" ;;
		esac
	done
}

migrate() { # VM [OPTION...]
	at_source migrate "$1" "$TARGET" --live --migrateuri tcp://127.0.0.1:49300 "${@:2}" >"$W/migrate.log" 2>&1
}
sends_data() { at_source domjobinfo "$1" 2>/dev/null | grep -q '^Data processed'; }
# begin_migration VM - one that takes long, and has begun to send the memory. Its client is $migration.
begin_migration() {
	at_source start "$1" >"$W/start.log" || return
	migrate "$1" --bandwidth 1 &
	migration=$!
	until_true "$LIMIT" sends_data "$1" || { echo "the migration does not begin"; return 1; }
}

runs_at_target() { [ "$(at_target domstate "$1" 2>/dev/null)" = running ]; }
is_off_everywhere() { # VM
	same "$(at_source domstate --reason "$1")" "shut off (destroyed)" &&
		until_true 10 lacks_target "$1" || { at_target list --all; return 1; }
}
lacks_target() { ! at_target domstate "$1" >/dev/null 2>&1; }

# --------------------------------------------------------------- the stages

off_during_migration() {
	begin_migration slow || return
	asked off slow || return
	! wait "$migration" || { echo "the migration has succeeded"; return 1; }
	is_off_everywhere slow
}

# libvirtd 9.0 often crashes when the process of such a VM ends, whoever has destroyed it. Then nothing is known.
off_of_a_vm_that_hangs() {
	local begin code process
	begin_migration slow || return
	process=$(process_of slow)
	kill -STOP "$process"
	begin=${EPOCHREALTIME/./}
	asked off slow
	code=$?
	took=$(((${EPOCHREALTIME/./} - begin) / 1000))
	kill -KILL "$process" && { echo "its process is still there"; return 1; }
	! wait "$migration" || { echo "the migration has succeeded"; return 1; }
	[ $took -le $HUNG_MAX ] || { echo "it took $took ms"; return 1; }
	if [ $code = 0 ]; then
		is_off_everywhere slow && log_remarks slow
	else
		until_true 5 has_ended "${hosts[source]}" || { last_line off slow; return 1; }
		crashed=" (libvirtd has crashed)"
	fi
}

log_remarks() { last_line off "$1" | grep 'success: .*, verified off, perhaps during a migration: ' || { last_line off "$1"; return 1; }; }
log_is_certain() { last_line off "$1" | grep 'success: .*, verified off: ' || { last_line off "$1"; return 1; }; }
off_without_migration() { at_source start slow && asked off slow && is_off_everywhere slow; }

fails_after_migration() {
	local action
	at_source start quick && migrate quick || { cat "$W/migrate.log"; return 1; }
	for action in off reboot status on; do
		! asked $action quick || { echo "$action is successful"; return 1; }
		last_line $action quick | grep -F 'the VM has migrated away' || return
	done
	runs_at_target quick
}

# one_round MICROSECONDS - an off so long after the begin of the migration.
one_round() {
	local code
	at_source start quick >"$W/start.log" || return
	migrate quick &
	migration=$!
	sleep "$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))"
	asked off quick
	code=$?
	wait "$migration"
	if [ $code = 0 ]; then
		ended=$((ended + 1))
		lacks_target quick || { echo "off after $1 us is successful, and the VM runs on the other host"; return 1; }
		same "$(at_source domstate --reason quick)" "shut off (destroyed)"
	else
		moved=$((moved + 1))
		until_true 5 runs_at_target quick || { echo "off after $1 us fails, and the VM does not run"; return 1; }
		at_target destroy quick
	fi
}
many_rounds() {
	local round begin takes
	at_source start quick >"$W/start.log" || return
	begin=${EPOCHREALTIME/./}
	migrate quick || { cat "$W/migrate.log"; return 1; }
	takes=$((${EPOCHREALTIME/./} - begin))
	at_target destroy quick || return
	echo "a migration takes $takes us"
	for ((round = 0; round < ROUNDS; round++)); do
		one_round $((takes * (20 + (RANDOM % 90)) / 100)) || return
	done
}

declare -A hosts
ip link set lo up
head -c 65536 /dev/zero >"$W/firmware"
printf '\xfa\xf4\xeb\xfd' | dd of="$W/firmware" bs=1 seek=65520 conv=notrunc status=none
# At 1 MiB/s it takes half a minute.
head -c 32M /dev/urandom >"$W/memory"
(umask 077 && head -c 4096 /dev/urandom >"$W/key")
for host in source target; do need "libvirtd of the $host" start_host $host; done
cat >"$W/fence_virt.conf" <<-CONF
	fence_virtd { listener = "tcp"; backend = "libvirt"; }
	listeners { tcp { address = "127.0.0.1"; key_file = "$W/key"; } }
	backends { libvirt { uri = "$SOURCE"; } }
CONF
chmod 600 "$W/fence_virt.conf"
"$DAEMON" -F -f "$W/fence_virt.conf" -p "$W/daemon.pid" >"$W/daemon.log" 2>&1 &
need "the daemon answers" answers
define slow 1 "$W/memory"
define quick 2

check "off of a VM that does not migrate" off_without_migration
check "... the log is certain" log_is_certain slow
check "off during a migration: the VM is off on both hosts" off_during_migration
check "... the log says so" log_remarks slow
check "a VM that has migrated away: off, reboot, status and on fail, and it runs on" fails_after_migration
at_target destroy quick >"$W/destroy.log" 2>&1
ended=0 moved=0
check "$ROUNDS offs at any moment of a migration: none succeeds while the VM runs on the other host" many_rounds
echo "     $ended have ended it, $moved came too late"
took=0 crashed=
check "off of a VM that hangs during its migration is true" off_of_a_vm_that_hangs
echo "     after $took ms$crashed"
finish
