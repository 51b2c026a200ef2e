# Checks of the unit and its drop-in under a separate systemd, which systemd-nspawn
# boots. Sourced by ../packages.sh; booted.sh runs inside.
# shellcheck shell=bash

skip_units() { echo "*** SKIPPED packages (units): $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; }

boot() {
	local name
	overlay units
	cp "$here/packages/booted.sh" "$here/packages/checks.sh" "$here/e2e/checking.sh" "$here/e2e/inside.sh" "$R/packages" || exit 1
	sed -n '/^%posttrans /,/^%[^p{]/ { /^%/d; s,%{_sbindir},/usr/sbin,; s,%{_docdir},/usr/share/doc,; p }' \
		"$root/dist/rpm/fence-virt.spec.in" >"$R/packages/posttrans" || exit 1
	# Disables this machine's services; the checks start what they need.
	rm -rf "$R/etc/systemd/system"/*.wants && rm -f "$R/var/log/corosync.log" || exit 1
	cat >"$R/etc/systemd/system/booted.target" <<-UNIT
		[Unit]
		Requires=multi-user.target booted.service
	UNIT
	cat >"$R/etc/systemd/system/booted.service" <<-UNIT
		[Unit]
		After=multi-user.target
		[Service]
		Type=oneshot
		Environment=LIMIT=$LIMIT VERSION=$version LC_ALL=C
		ExecStart=/bin/bash -c '/bin/bash /packages/booted.sh >/packages/result 2>&1'
		ExecStopPost=/bin/systemctl --no-block --force poweroff
	UNIT
	timeout "$((LIMIT * 5))" systemd-nspawn --quiet --register=no --keep-unit --private-network --machine=booted \
		-D "$R" --boot -- systemd.unit=booted.target >"$W/boot.log" 2>&1 </dev/null
}

if ! command -v systemd-nspawn >/dev/null || [ ! -x /lib/systemd/systemd ]; then
	skip_units "systemd-nspawn is missing (package systemd-container)"
else
	boot
	if [ ! -e "$R/packages/result" ]; then
		skip_units "systemd does not boot in a container here: $(tail -n 1 "$W/boot.log")"
	else
		cat "$R/packages/result"
		passed=$((passed + $(grep -c '^ok  ' "$R/packages/result")))
		failed=$((failed + $(grep -c '^FAIL' "$R/packages/result")))
		check "all checks under systemd were made" grep -qx "end of the checks under systemd" "$R/packages/result"
	fi
fi
