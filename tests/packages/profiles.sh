#!/bin/bash
# The AppArmor profile, the SELinux module and the scripts for sh, compiled or
# parsed, and not loaded. `make check-profiles` runs it.
# Prints a line for each check. Exit code: 0 all passed, 1 not all.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
cd "$(dirname "$0")/../.." || exit 1
W=$(mktemp -d "${TMPDIR:-/tmp}/profiles.XXXXXX")
trap 'rm -rf "$W"' EXIT
trap 'exit 143' TERM INT HUP
source tests/e2e/checking.sh
source tests/packages/checks.sh

# Commands from the module's header.
selinux() {
	gives 0 checkmodule -M -m -o "$W/fence_virt.mod" dist/selinux/fence_virt.te &&
		gives 0 semodule_package -o "$W/fence_virt.pp" -m "$W/fence_virt.mod" -f dist/selinux/fence_virt.fc && [ -s "$W/fence_virt.pp" ]
}
# Neither loaded nor cached, so the kernel needs no AppArmor.
apparmor() { gives 0 apparmor_parser -Q -K dist/apparmor/usr.sbin.fence_virtd; }
# The rules for the backend agent, as they are and with all that are commented out, which only local files can bring in.
apparmor_agent() {
	local file=$W/local/usr.sbin.fence_virtd
	mkdir -p "$W/local" && cp dist/apparmor/agent "$file" && knows_agents &&
		sed 's/^\( *\)#\([/a-z].*,\)$/\1\2/' dist/apparmor/agent >"$file" && [ "$(diff dist/apparmor/agent "$file" | grep -c '^>')" -ge 10 ] && knows_agents
}
knows_agents() {
	gives 0 apparmor_parser -Q -K -I "$W" dist/apparmor/usr.sbin.fence_virtd && gives 0 apparmor_parser -Q -N -I "$W" dist/apparmor/usr.sbin.fence_virtd &&
		says "fence_virtd//agent"
}
outside_of_it() {
	local file
	for file in dist/apparmor/usr.sbin.fence_virtd docs/SERVICE.md; do
		gives 0 cat "$file" && says "aa-exec -p unconfined -- fence_virtd -c" && says "aa-exec -p unconfined -- fence_virtd --doctor" || return
	done
}
# What the daemon may execute, it may become. A rule begins with a path, its modes end in x.
no_program() { gives 1 grep -E '^ *(owner )?[/@][^#]* [a-zA-Z]*x,' dist/apparmor/usr.sbin.fence_virtd; }
# decides WANTED USER ACTION... - what the rule returns, read by node in place of polkitd.
# shellcheck disable=SC2154 # `gives` sets `out`
decides() {
	local wanted=$1
	shift
	gives 0 node -e '
		let rule;
		const polkit = { Result: { YES: "yes", NO: "no", NOT_HANDLED: "none" }, addRule(added) { rule = added; } };
		const [file, user, ...actions] = process.argv.slice(1);
		new Function("polkit", require("fs").readFileSync(file, "utf8"))(polkit);
		const results = actions.map((action) => rule({ id: "org.libvirt." + action }, { user }));
		console.log([...new Set(results)].join(" "));' dist/polkit-1/rules.d/60-fence_virtd.rules "$@" && same "$out" "$wanted"
}
polkit() {
	local allowed=(unix.manage api.connect.{getattr,search-domains} api.domain.{getattr,read,start,stop})
	local refused=(api.domain.{write,delete,migrate,open-device,read-secure} api.connect.write api.storage-vol.delete)
	decides yes fence_virtd "${allowed[@]}" && decides no fence_virtd "${refused[@]}" &&
		decides none nobody "${allowed[@]}" "${refused[@]}" && decides none fence_virtd unix.monitor
}
parse() {
	local script shell
	for script; do
		for shell in sh dash; do gives 0 "$shell" -n "$script" && same "$out" "" || return; done
	done
}

check "SELinux: the module compiles, and packs with its file contexts" selinux
check "AppArmor: the profile compiles" apparmor
check "AppArmor: the profile compiles with the rules for fence agents" apparmor_agent
check "AppArmor: profile and documentation say how -c and --doctor are run" outside_of_it
check "AppArmor: the daemon may run no program" no_program
if command -v node >/dev/null; then
	check "polkit: the user fence_virtd may look at VMs, start and stop them" polkit
else
	echo "*** SKIPPED: polkit's rule is not read: node is not installed"
fi
check "System V init, OpenRC: sh and dash parse the start scripts" parse dist/sysv/fence_virtd dist/openrc/fence_virtd
check "deb: sh and dash parse the maintainer's scripts" parse dist/deb/fence-virtd.p*
finish
