# Functions that cluster-lab.sh and pacemaker-lab.sh share: checks, a private
# /dev, corosync's configuration. Needs $W, $LIMIT, $TOKEN and inside.sh.
# shellcheck shell=bash

# need WHAT COMMAND... - a condition of all checks: ends the script if it stays false.
need() {
	local what=$1
	shift
	until_true "$LIMIT" "$@" && return
	echo "FAIL $what: not within $LIMIT s, nothing else can be checked"
	failed=$((failed + 1))
	show_logs
	finish
}

# try COMMAND... - runs and shows it; its output is in $out, its milliseconds in $took.
try() {
	local code begin=${EPOCHREALTIME/./}
	echo "$(date +%T.%3N) \$ $*"
	out=$("$@" 2>&1)
	code=$?
	# shellcheck disable=SC2034 # for the caller
	took=$(((${EPOCHREALTIME/./} - begin) / 1000))
	echo "$out"
	echo "  -> $code after $took ms"
	return "$code"
}

# within COMMAND... - waits until it succeeds.
within() {
	echo "waiting for: $*"
	until_true "$LIMIT" "$@" || { echo "not within $LIMIT s"; return 1; }
}

lines() { wc -l <"$1"; }
# logged FILE SINCE TEXT
logged() { tail -n "+$(($2 + 1))" "$1" | grep -qF -- "$3"; }

# is_first PID - unshare PID has started its child, the first process inside.
is_first() { [ "$(cat "/proc/$1/task/$1/children")" ]; }

# private_dev - a /dev of basic devices, and an empty /run.
private_dev() {
	local device
	mkdir "$W/dev"
	mount -t tmpfs -o mode=755 dev "$W/dev"
	for device in null:3 zero:5 full:7 random:8 urandom:9; do
		mknod -m 666 "$W/dev/${device%:*}" c 1 "${device#*:}"
	done
	mkdir "$W/dev/shm"
	ln -s /proc/self/fd "$W/dev/fd"
	mount --rbind "$W/dev" /dev
	mount -t tmpfs -o mode=755 run /run
}

# corosync_node NAME ID ADDRESS [SETTING] - a block of a nodelist, after an empty line.
corosync_node() { printf '\nnode {\nring0_addr: %s\nname: %s\nnodeid: %d\n%s\n}' "$3" "$1" "$2" "${4:-}"; }
# corosync_conf NAME NODES [SETTING] - with this setting of the quorum section.
corosync_conf() {
	cat <<-CONF
		system {
		move_to_root_cgroup: no
		}
		totem {
		version: 2
		cluster_name: $1
		transport: udpu
		token: $TOKEN
		token_coefficient: 0
		crypto_cipher: none
		crypto_hash: none
		}
		nodelist {
		$2
		}
		quorum {
		provider: corosync_votequorum
		${3:-}
		}
		logging {
		to_syslog: no
		to_stderr: no
		to_logfile: yes
		logfile: /var/log/corosync.log
		timestamp: hires
		}
	CONF
}

# nvpairs PREFIX NAME=VALUE... - in the form of pacemaker's CIB.
nvpairs() {
	local prefix=$1 pair
	shift
	for pair; do
		echo "<nvpair id=\"$prefix-${pair%%=*}\" name=\"${pair%%=*}\" value=\"${pair#*=}\"/>"
	done
}
