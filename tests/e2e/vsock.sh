#!/bin/bash
# The vsock transport of fence_virt, ours beside the C agent,
# against a fence_virtd in the same guest: the kernel's vsock loopback connects
# the two, so that no request leaves the guest.
#
#   FENCE_VIRT=  our agent  (target/debug/fence_virt of this project)
#   THEIRS=      C agent    (/usr/sbin/fence_virt)
#   DAEMON=      daemon     (/usr/sbin/fence_virtd, the C daemon)
#   KEEP=1       keeps the work directory
#
# Expected values were measured with the C daemon and the C agent; ours follow
# the C man pages. One line a check, then `N passed, M failed`; 77 if
# something is missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/guest.sh"
C_DAEMON=/usr/sbin/fence_virtd
FENCE_VIRT=$(realpath -m "${FENCE_VIRT:-$here/../../target/debug/fence_virt}")
THEIRS=$(realpath -m "${THEIRS:-/usr/sbin/fence_virt}")
DAEMON=$(realpath -m "${DAEMON:-$C_DAEMON}")
LIMIT=300 # seconds for the guest; it needs about 35
CHECKS=62 # so many are below: one that got lost is a failure
[ "$DAEMON" = "$C_DAEMON" ] || CHECKS=72

[ -x "$FENCE_VIRT" ] || skip "no $FENCE_VIRT (cargo build)"
[ -x "$THEIRS" ] || skip "no $THEIRS (package fence-virt)"
[ -x "$DAEMON" ] || skip "no $DAEMON (package fence-virtd)"
plugins=()
if [ "$DAEMON" = "$C_DAEMON" ]; then
	plugins=(/usr/lib/*/fence-virt/{vsock,virt}.so)
	[ -e "${plugins[0]}" ] && [ -e "${plugins[1]}" ] || skip "no vsock.so and virt.so (package fence-virtd)"
fi
guest_fetch

work=$(mktemp -d -t fence-vsock.XXXXXX) || exit 1
GUEST_PID=
clean() {
	[ -z "$GUEST_PID" ] || kill "$GUEST_PID"
	if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap clean EXIT
trap 'exit 143' INT TERM HUP

root=$work/guest
guest_new "$root"
guest_add "$root" "$FENCE_VIRT" "$THEIRS" "$DAEMON" "${plugins[@]}" || exit 1
guest_modules "$root" vsock_loopback
for key in key wrong-key; do (umask 077 && head -c 4096 /dev/urandom >"$root/etc/$key"); done

# libvirt's test driver has these VMs; each daemon has its own set of them.
A=11111111-aaaa-4111-8111-111111111111
B=22222222-bbbb-4222-8222-222222222222
vm() {
	echo "<domain type='test'><name>$1</name><uuid>$2</uuid><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>" \
		"<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>$3</test:runstate></domain>"
}
echo "<node>$(vm node1 $A 1)$(vm node2 $B 1)</node>" >"$root/etc/node.xml"

# --- What the guest does: functions, then the checks.
steps=$root/etc/steps
printf '%s=%q\n' OURS "$FENCE_VIRT" THEIRS "$THEIRS" DAEMON "$DAEMON" >"$steps"
cat >>"$steps" <<'GUEST'
# The C agent accepts no CID below 2. Without a host transport, as here,
# the kernel connects 2 to the guest itself as well; the daemon sees CID 1.
# Without -t an agent has 30 s; one that exceeds them is killed and fails its check.
ours() { timeout 25 "$OURS" -k /etc/key "$@"; }
theirs() {
	timeout 25 "$THEIRS" -S2 -k /etc/key "$@"
	code=$?
	[ $code != 255 ] || code=1 # it has two codes for failure
	return $code
}

# serve PORT CHALLENGE SETTINGS GROUPS: a daemon, which challenges in CHALLENGE
serve() {
	cat >"/etc/$1.conf" <<-CONF
	fence_virtd { listener = "vsock"; backend = "libvirt"; }
	listeners { vsock { key_file = "/etc/key"; port = "$1"; $3 } }
	backends { libvirt { uri = "test:///etc/node.xml"; } }
	$4
	CONF
	chmod 600 "/etc/$1.conf"
	"$DAEMON" -F -f "/etc/$1.conf" -p "/run/$1.pid" >"/tmp/$1.log" 2>&1 &
	until theirs -p "$1" -c sha512 -C "$2" -t 10 -o monitor >/dev/null 2>&1; do
		kill -0 $! 2>/dev/null || { cat "/tmp/$1.log"; return 1; }
		usleep 100000
	done
}

# matrix PORT CHALLENGE AGENT..: exit codes for each way to sign and to answer challenges
matrix() {
	port=$1 challenge=$2
	shift 2
	for hash in none sha1 sha256 sha512; do
		printf '%s:' $hash
		for auth in none sha1 sha256 sha512; do
			# Daemon and agent would wait for each other until the agent's timeout.
			limit=20
			[ $auth != none ] || [ "$challenge" = none ] || limit=1
			"$@" -p "$port" -t $limit -o status -n node1 -c $hash -C $auth >/dev/null 2>&1
			printf ' %s' $?
		done
		echo
	done
}
GUEST

# both LABEL CODE REGEX OPTIONS: by either agent
both() {
	check "C agent: $1" "$2" "$3" "theirs $4"
	check "our agent: $1" "$2" "$3" "ours -S1 $4"
}
ours_only() { [ "$DAEMON" = "$C_DAEMON" ] || check "$@"; }
serve() { check "a daemon listens: $1" 0 '^$' "serve $2 $3 '${4:-}' '${5:-}'"; }

check "our agent: no module is loaded" 1 'vsock.*load the module vmw_vsock_virtio_transport' 'ours -S1 -o status -n node1'
ours_only "our daemon: no module is loaded" 1 'vsock: cannot listen on port 1229: .*modprobe vhost_vsock' \
	'serve 1229 sha256 "" ""'
echo load_modules >>"$steps"
check "our agent: no daemon yet" 1 'cannot connect to CID 1 port 1229 over vsock: .*fence_virtd' 'ours -S1 -o status -n node1'
serve 'defaults' 1229 sha256

for agent in "C agent=theirs" "our agent=ours -S1"; do
	action() { check "${agent%%=*}: $1${5:+ of $5}${4:-}" "$2" "$3" "${agent#*=} -o $1${5:+ -n $5}"; }
	action status 0 '^Status: ON$' '' node1
	action off 0 '^$' '' node1
	action status 2 '^Status: OFF$' ', which is off' node1
	action reboot 0 '^$' ', which is off' node1
	action status 2 '^Status: OFF$' ', which stays off' node1
	action on 0 '^$' '' node1
	action status 0 '^Status: ON$' ' after on' node1
	action reboot 0 '^$' '' "$A"
	action status 0 '^Status: ON$' ' after reboot' "$A"
	check "${agent%%=*}: list" 0 "^node1 {28}$A on;node2 {28}$B on\$" "${agent#*=} -o list | sort"
	action monitor 0 '^$'
	action off 1 . ', which is unknown' nobody
done
if [ "$DAEMON" = "$C_DAEMON" ]; then
	check "our agent: the C daemon drops version 2" 1 'takes no hmac-sha256' 'ours -S1 -c hmac-sha256 -t 5 -o status -n node1'
fi
ours_only "version 2: status" 0 '^Status: ON$' 'ours -S1 -c hmac-sha256 -o status -n node1'
ours_only "version 2: list" 0 "^node1 {28}$A on;node2 {28}$B on\$" 'ours -S1 -c hmac-sha256 -o list | sort'
ours_only "version 2: off and on" 0 '^Status: OFF$' \
	'ours -S1 -c hmac-sha256 -o off -n node1; ours -S1 -c hmac-sha256 -o status -n node1; ours -S1 -c hmac-sha256 -o on -n node1'
ours_only "version 2: wrong key" 1 'does not know this key' 'ours -S1 -c hmac-sha256 -o status -n node1 -k /etc/wrong-key'
ours_only "version 2: the log names the key" 0 'vsock: CID 1: neither this listener nor a VM has the key' 'grep "has the key" /tmp/1229.log'
check "our agent: CID 2" 0 '^Status: ON$' 'ours -S2 -o status -n node1'
check "our agent: -S alone" 0 '^Status: ON$' 'ours -S -o status -n node1'
check "our agent: vsock goes before tcp" 0 '^Status: ON$' 'ours -T 127.0.0.1 -S1 -o status -n node1'
check "our agent: stdin" 2 '^Status: OFF$' \
	'ours -S1 -o off -n node2; printf "%s\n" vsock=1 key_file=/etc/key action=status plug=node2 | timeout 25 "$OURS"'

both "wrong key" 1 . '-t 5 -o status -n node1 -k /etc/wrong-key'
both "no key file" 1 'key file.*/etc/no-key' '-o status -n node1 -k /etc/no-key'
check "C agent: nobody listens" 1 . 'theirs -p 4444 -o status -n node1'
check "our agent: nobody listens" 1 'cannot connect to CID 1 port 4444 over vsock: .*fence_virtd' \
	'ours -S1 -p 4444 -o status -n node1'
check "C agent: no such CID" 1 . 'theirs -S77 -o status -n node1'
check "our agent: no such CID" 1 'cannot connect to CID 77 port 1229 over vsock: .*<vsock>' 'ours -S77 -o status -n node1'

# Connections come from CID 1; one of the two VMs is in its group. (By UUID: the
# C daemon compares the requested name with the group's members as strings.)
serve 'groups' 1230 sha256 '' "groups { group { ip = \"1\"; uuid = \"$A\"; } }"
both "a VM in the group" 0 '^Status: ON$' "-p 1230 -o status -n $A"
both "a VM in no group" 3 . "-p 1230 -o status -n $B"
both "list leaves out what is in no group" 0 "^node1 {28}$A on\$" '-p 1230 -o list'
both "off of a VM in no group" 3 . "-p 1230 -o off -n $B"

# Our daemon matches a VM by name or UUID, and logs the requester and the reason of a denial.
ours_only "our daemon: a VM in the group, by its name" 0 '^Status: ON$' 'ours -S1 -p 1230 -o status -n node1'
ours_only "our daemon: who asked is in the log" 0 'CID 1: off .*permission denied: no group' "grep off.*$B /tmp/1230.log"
ours_only "our daemon: a second one on the port" 1 'cannot listen on port 1230: .*ss -l --vsock' \
	'"$DAEMON" -F -f /etc/1230.conf -p /run/again.pid'
ours_only "our daemon: many at once" 0 '^20$' \
	'for i in $(seq 20); do ours -S1 -o status -n node1 & done | grep -c "Status: ON"'
ours_only "our daemon: ends within its grace" 0 '^0$' \
	'kill $(cat /run/1230.pid); for i in $(seq 60); do [ -e /run/1230.pid ] || break; usleep 100000; done; [ ! -e /run/1230.pid ]; echo $?'

# Each hash and each auth. The C daemon takes `auth` of the section as the
# minimum hash whatever `hash` is, and always challenges in sha256; a daemon that
# follows the man page takes the minimum from `hash`.
# The four daemons are tested concurrently, because many agents run into their
# timeout; each with one agent at a time, because the C daemon lets at most two
# wait, and the kernel resets the others.
port=1240
for pair in "none sha512" "sha1 sha256" "sha256 sha1" "sha512 none"; do
	read -r hash auth <<<"$pair"
	weakest=$auth challenge=sha256
	[ "$DAEMON" = "$C_DAEMON" ] || weakest=$hash challenge=$auth
	serve "hash $hash, auth $auth" $port $challenge "hash = \"$hash\"; auth = \"$auth\";"
	expected='' signed=1
	for word in none sha1 sha256 sha512; do
		[ $word != "$weakest" ] || signed=0
		expected+=";$word:"
		for answer in none sha1 sha256 sha512; do
			[ $answer = "$challenge" ] && expected+=" $signed" || expected+=" 1"
		done
	done
	echo '{' >>"$steps"
	for agent in "C agent=theirs" "our agent=ours -S1"; do
		check "${agent%%=*}: hash $hash, auth $auth at the daemon" 0 "^${expected#;}\$" \
			"matrix $port $challenge ${agent#*=}"
	done
	echo '} & matrices="$matrices $!"' >>"$steps"
	port=$((port + 1))
done
echo 'wait $matrices' >>"$steps"
check "C agent: the first daemon still answers" 0 '^Status: ON$' 'theirs -o status -n node1'
echo 'for log in /tmp/*.log; do sed "s|^|$log: |" "$log"; done' >>"$steps"

# --- The guest, and what is made of it.
guest_run "$root" $LIMIT "$work/console" || echo "the guest ended with $? (124: after $LIMIT s)"
guest_judge "$work/console" $CHECKS
