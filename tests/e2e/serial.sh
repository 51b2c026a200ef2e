#!/bin/bash
# fence_virt, ours beside the C agent, on a real serial line:
# the second UART of a QEMU guest, whose other end is a unix socket that a
# fence_virtd with a serial listener connects to.
#
#   FENCE_VIRT=  our agent  (target/debug/fence_virt of this project)
#   THEIRS=      C agent    (/usr/sbin/fence_virt)
#   DAEMON=      daemon     (/usr/sbin/fence_virtd, the C daemon)
#   KEEP=1       keeps the work directory
#
# One line a check, then `N passed, M failed`; 77 if something is missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/guest.sh"
FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
THEIRS=$(realpath -m "${THEIRS:-/usr/sbin/fence_virt}")
C_DAEMON=/usr/sbin/fence_virtd
DAEMON=$(realpath -m "${DAEMON:-$C_DAEMON}")
LIMIT=300 # seconds for the guest; it needs about 20
CHECKS=27
VMS=100 # beside the two that are fenced: a list of 13 KiB

[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
[ -x "$THEIRS" ] || skip "no $THEIRS (package fence-virt)"
[ -x "$DAEMON" ] || skip "no $DAEMON (package fence-virtd)"
guest_fetch

work=$(mktemp -d -t fence-serial.XXXXXX) || exit 1
GUEST_PID=
daemon=
clean() {
	[ -z "$GUEST_PID" ] || kill "$GUEST_PID"
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null
	if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap clean EXIT
trap 'exit 143' INT TERM HUP

# --- The host: libvirt's test driver has the requester's VM with its socket.
socket=$work/asker
vm() { # NAME UUID STATE DEVICES
	echo "<domain type='test'><name>$1</name><uuid>$2</uuid><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>" \
		"<devices>${4:-}</devices>" \
		"<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>$3</test:runstate></domain>"
}
A=11111111-aaaa-4111-8111-111111111111
B=22222222-bbbb-4222-8222-222222222222
{
	echo "<node>"
	vm asker $A 1 "<serial type='unix'><source mode='bind' path='$socket'/><target port='1'/></serial>"
	vm victim $B 1
	for ((at = 0; at < VMS; at++)); do
		vm "vm$at" "$(printf '%08x-cccc-4ccc-8ccc-cccccccccccc' $at)" 5
	done
	echo "</node>"
} >"$work/node.xml"
# The C daemon requires a key that it does not use.
(umask 077 && head -c 4096 /dev/urandom >"$work/key" && cat >"$work/conf" <<-CONF
	fence_virtd { listener = "serial"; backend = "libvirt"; }
	listeners { serial { mode = "serial"; path = "$work"; uri = "test://$work/node.xml"; key_file = "$work/key"; } }
	backends { libvirt { uri = "test://$work/node.xml"; } }
CONF
)
(
	until [ -S "$socket" ]; do sleep 0.1; done # QEMU makes it
	exec "$DAEMON" -F -f "$work/conf" -p "$work/pid" >"$work/daemon.log" 2>&1
) &
daemon=$!

# --- The guest.
root=$work/guest
guest_new "$root"
guest_add "$root" "$FENCE_VIRT" "$THEIRS" || exit 1
steps=$root/etc/steps
printf '%s=%q\n' OURS "$FENCE_VIRT" THEIRS "$THEIRS" >"$steps"
cat >>"$steps" <<'GUEST'
ours() { timeout 60 "$OURS" -D /dev/ttyS1 "$@"; }
theirs() { timeout 60 "$THEIRS" -D /dev/ttyS1 "$@"; }
until theirs -o monitor -t 2 >/dev/null 2>&1; do usleep 100000; done
GUEST
for agent in ours theirs; do
	action() { check "$agent: $1${5:+ of $5}${4:-}" "$2" "$3" "$agent -t 30 -o $1${5:+ -n $5}"; }
	action status 0 '^Status: ON$' '' victim
	action off 0 '^$' '' victim
	action status 2 '^Status: OFF$' ', which is off' victim
	action on 0 '^$' '' $B
	action reboot 0 '^$' '' victim
	action status 0 '^Status: ON$' ' after reboot' victim
	action monitor 0 '^$'
	action null 1 . ''
	action off 1 . ', which is unknown' nobody
	check "$agent: a list of $((VMS + 2)) VMs" 0 '^102$' "$agent -t 30 -o list | grep -c ' o[nf]'"
done
# A line with a pending request: answers to other requests are not accepted.
if [ "$DAEMON" = "$C_DAEMON" ]; then
	check "ours: killed while it waits" 0 '^1$' \
		'timeout 1 "$OURS" -D /dev/ttyS1 -o reboot -n victim >/dev/null 2>&1; wc -c </run/fence_virt-dev-ttyS1'
else # it reboots too fast to be in time
	check "ours: killed while it waits, so to say" 0 '^1$' 'printf x | tee /run/fence_virt-dev-ttyS1 | wc -c'
fi
check "ours: the next one probes for stale answers" 1 'probing for its end.*lists no VM' 'ours -d -t 30 -o off -n nobody'
check "ours: and the one after it does not have to" 0 '^Status: ON$' 'ours -t 30 -o status -n victim'
check "ours: another speed" 0 '^Status: ON$' 'ours -P 921600,8N1 -t 30 -o status -n victim'
check "ours: on stdin" 2 '^Status: OFF$' \
	'ours -t 30 -o off -n victim; printf "%s\n" serial_device=/dev/ttyS1 serial_params=115200,8N1 action=status plug=victim | timeout 60 "$OURS"'
check "ours: two at once" 0 '^Status: OFF;Status: OFF$' \
	'(ours -o status -n victim & ours -o status -n victim & wait); true'
check "ours: a line that nobody answers" 1 'timed out after 1 s' 'timeout 60 "$OURS" -D /dev/ttyS2 -t 1 -o off -n victim'

guest_run "$root" $LIMIT "$work/console" -chardev socket,id=line,path="$socket",server=on,wait=off \
	-serial mon:stdio -serial chardev:line -serial null ||
	echo "the guest ended with $? (124: after $LIMIT s)"
guest_judge "$work/console" $CHECKS
