# Checks of cluster.sh with a tenant's VM that has the UUID or the name of a victim, which
# belongs to another host. Groups are those of a third host, where requests come in.
# shellcheck shell=bash

MINE=0000006d-1111-4111-8111-00000000006d
ASKER=0000006e-1111-4111-8111-00000000006e

# borrows NODE NAME UUID [DEVICES] - defines a VM of the tenant.
borrows() {
	domain "$2" "$3" "${4:-}" >"$W/$1/$2.xml"
	libvirt "$1" define "$W/$1/$2.xml"
}
# gives_back NODE NAME
gives_back() {
	libvirt "$1" destroy "$2"
	libvirt "$1" undefine "$2"
} >/dev/null 2>&1
# permits NODE VM... - restarts it with a group of these VMs and its own.
permits() {
	local node=$1 vm listed=""
	for vm in "$(vm "$node")" "${@:2}"; do listed+="uuid = \"$vm\"; "; done
	PERMITTED="group { ip = \"127.0.0.1\"; $listed}" restart "$node"
}
# nothing_done CODE ASKER VICTIMS TEXT... - the exit code of whatever it asks by these texts, and no VM is touched.
nothing_done() {
	local code=$1 asker=$2 vm text operation since
	shift 2
	vm=$(vm "$1") since=$(lines "$W/events")
	for text in "${@:2}"; do
		for operation in off reboot on status; do gets "$code" "$asker" "$operation" "$text" 40 || return; done
	done
	events_are "$since" "" && runs "$1" "$vm"
}
# has_logged NODE SINCE WORDS... - one line of its log has them all.
has_logged() {
	local found words
	found=$(tail -n "+$(($2 + 1))" "$W/$1/daemon.log")
	for words in "${@:3}"; do found=$(grep -F -- "$words" <<<"$found") || return; done
	echo "$found" | head -n 1
}

# borrowed_uuid ASKER VICTIMS TENANTS
borrowed_uuid() {
	local vm uuid since log
	vm=$(vm "$2") uuid=$(uuid "$vm") log=$(lines "$W/$1/daemon.log")
	borrows "$3" mine "$uuid" && permits "$1" mine && nothing_done 3 "$1" "$2" mine "$vm" "$uuid" &&
		within has_logged "$1" "$log" "off \"mine\": permission denied" "\"mine\"" "on node $(id "$3")" "\"$vm\"" "on node $(id "$2")" || return
	permits "$1" "$vm" && nothing_done 3 "$1" "$2" mine "$vm" "$uuid" || return
	since=$(lines "$W/events")
	permits "$1" "$uuid" && gets 0 "$1" off "$uuid" 40 && events_are "$since" "$2 $vm Stopped"
}
# borrowed_name ASKER VICTIMS TENANTS
borrowed_name() {
	local vm uuid since log
	vm=$(vm "$2") uuid=$(uuid "$vm") log=$(lines "$W/$1/daemon.log")
	borrows "$3" "$vm" $MINE && libvirt "$3" start "$vm" && permits "$1" $MINE &&
		nothing_done 3 "$1" "$2" "$vm" "$uuid" || return
	since=$(lines "$W/events")
	if is_ours "$3"; then
		gets 0 "$1" status $MINE 40 && gets 0 "$1" off $MINE 40 && events_are "$since" "$3 $vm Stopped"
	else
		# A C daemon is not asked for a VM by a name that another VM has as well: so the VM never counts as off.
		at_once gets 1 "$1" status $MINE 40 && at_once gets 1 "$1" off $MINE 40 && events_are "$since" ""
	fi && runs "$2" "$vm" || return
	restart "$1" && nothing_done 1 "$1" "$2" "$vm" &&
		within has_logged "$1" "$log" "off \"$vm\": failure" "matches several VMs" "$uuid on node $(id "$2")" "$MINE on node $(id "$3")" || return
	since=$(lines "$W/events")
	if is_ours "$2"; then gets 0 "$1" off "$uuid" 40 && events_are "$since" "$2 $vm Stopped"; fi
}

# line_says NODE CODES OPERATION VM - what the VM `asker` of NODE is answered over its line is one of these bytes.
line_says() {
	try in_node "$1" "$VM_LINE" "$W/$1/line" "$3" "$4" && [[ $out = [$2] ]] || { echo "the answer is none of $2"; return 1; }
}
# borrowed_requester HOST VICTIMS TENANTS - a VM of HOST is known by its name over its serial line, unless
# TENANTS has a VM of that name, or with its UUID.
borrowed_requester() {
	local vm uuid name borrowed since log
	vm=$(vm "$2") uuid=$(uuid "$vm") log=$(lines "$W/$1/daemon.log")
	borrows "$1" asker $ASKER "<serial type='unix'><source mode='bind' path='$W/$1/line'/></serial>" &&
		libvirt "$1" start asker || return
	LINES_IN=$W/$1 PERMITTED="group { uuid = \"asker\"; uuid = \"$uuid\"; listener = \"serial\"; }
		group { ip = \"127.0.0.1\"; uuid = \"$(vm "$1")\"; listener = \"tcp\"; }" restart "$1" || return
	for name in asker mine; do
		borrowed=$MINE
		[ $name = asker ] || borrowed=$ASKER
		borrows "$3" $name $borrowed && within line_says "$1" 13 status "$uuid" || return
		since=$(lines "$W/events")
		line_says "$1" 13 off "$uuid" && events_are "$since" "" && runs "$2" "$vm" &&
			within has_logged "$1" "$log" "asker ($ASKER): off" "not known by its name because of \"$name\" ($borrowed) on node $(id "$3")" || return
		gives_back "$3" $name
		within line_says "$1" 0 status "$uuid" || return
	done
	since=$(lines "$W/events")
	line_says "$1" 0 off "$uuid" && events_are "$since" "$2 $vm Stopped"
}

# with_borrowed CHECK ASKER VICTIMS TENANTS - runs the check, and removes what it has defined.
with_borrowed() {
	local code name
	"$@"
	code=$?
	for name in mine asker "$(vm "$3")"; do gives_back "$4" "$name"; done
	gives_back "$2" asker
	all_run && restart "$2" && restart_c && both_ways "$2" "$3" && return $code
}

stage_borrowed() {
	[ -n "$FIRST" ] || return 0
	local victims=${OTHER:-$LAST} tenants node
	for node in "${ALL[@]}"; do
		[ "$node" = "$FIRST" ] || [ "$node" = "$victims" ] || tenants=$node
	done
	check_c "a VM of $(label "$tenants") has the UUID of one of $(label "$victims"): a group of $(label "$FIRST") with one name permits neither" \
		with_borrowed borrowed_uuid "$FIRST" "$victims" "$tenants"
	check_c "a VM of $(label "$tenants") has the name of one of $(label "$victims"): it is not taken for that" \
		with_borrowed borrowed_name "$FIRST" "$victims" "$tenants"
	[ ${#OURS[@]} -ge 3 ] || return 0
	tenants=${OURS[1]}
	check "a VM that asks at $(label "$FIRST") is not known by its name if $(label "$tenants") has one of its name or UUID" \
		with_borrowed borrowed_requester "$FIRST" "$victims" "$tenants"
}
