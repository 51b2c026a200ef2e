# QEMU guests, for the other scripts here to source. A guest is Debian's cloud
# kernel with an initramfs of busybox and the programs under test, run by QEMU
# without KVM, disk and network. Kernel and busybox are downloaded and unpacked,
# never installed.
#
#   guest_fetch                   kernel and busybox, once, into the cache
#   guest_new FOLDER              an initramfs that runs /etc/steps and powers off
#   guest_add FOLDER PROGRAM..    programs and modules with the libraries that they need
#   guest_modules FOLDER NAME..   kernel modules; /lib/m/order names them in load order
#   guest_run FOLDER SECONDS LOG [QEMU'S..]  boots it, waits for its end, keeps its console
#   check LABEL CODE REGEX COMMAND           runs it in the guest; expected exit code and output
#   guest_judge LOG CHECKS                   results in the console, which must be CHECKS

GUEST_CACHE=$(realpath -m "${FENCE_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fence-virt-e2e}")

skip() { echo "*** SKIPPED $(basename "$0" .sh): $* ***" | tee -a "${FENCE_SKIPPED:-/dev/null}"; exit 77; }

guest_fetch() {
	local fresh image
	command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64 (package qemu-system-x86)"
	mkdir -p "$GUEST_CACHE" || skip "cannot make $GUEST_CACHE"
	exec 9>"$GUEST_CACHE/lock"
	flock 9 # scripts side by side fetch once
	if [ ! -e "$GUEST_CACHE/complete" ]; then
		command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "no apt to fetch a kernel with"
		fresh=$GUEST_CACHE/fresh
		rm -rf "$fresh" && mkdir -p "$fresh/x"
		image=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
		[ -n "$image" ] || skip "apt knows no linux-image-cloud-amd64 (apt-get update?)"
		(
			cd "$fresh" && apt-get -qq -o APT::Sandbox::User=root download "$image" busybox-static &&
				for package in *.deb; do dpkg -x "$package" x || exit 1; done
		) || skip "cannot download $image and busybox-static"
		rm -rf "$GUEST_CACHE"/{vmlinuz,modules,busybox}
		mv "$fresh"/x/boot/vmlinuz-* "$GUEST_CACHE/vmlinuz" && mv "$fresh"/x/lib/modules/* "$GUEST_CACHE/modules" &&
			mv "$fresh/x/bin/busybox" "$GUEST_CACHE/busybox" || skip "the packages hold something else than expected"
		rm -rf "$fresh"
		touch "$GUEST_CACHE/complete"
	fi
	exec 9>&-
}

guest_new() {
	local root=$1 applet
	mkdir -p "$root"/{bin,sbin,dev,proc,sys,etc,tmp,run,var,root,lib/m}
	cp "$GUEST_CACHE/busybox" "$root/bin/busybox"
	for applet in $("$GUEST_CACHE/busybox" --list); do
		[ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
	done
	ln -s ../run "$root/var/run"
	echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
	echo root:x:0: >"$root/etc/group"
	cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
ip link set lo up
echo # what the firmware wrote has no end of line
load_modules() { while read -r name; do insmod "/lib/m/$name.ko" || echo "cannot load $name"; done </lib/m/order; }
run() { # NUMBER COMMAND
	text=$(eval "$2" 2>&1 </dev/null)
	printf '@%s %s %s\n' "$1" $? "$(printf '%s' "$text" | tr '\n' ';')"
}
. /etc/steps
poweroff -f
INIT
	chmod +x "$root/init"
}

guest_add() {
	local root=$1 program library
	shift
	for program; do
		mkdir -p "$root/$(dirname "$program")"
		# Stripped, because all files are in the guest's memory.
		strip -o "$root/$program" "$program" || return 1
		for library in $(ldd "$program" 2>/dev/null | grep -oE '/[^ ]+'); do
			[ ! -e "$root/$library" ] || continue
			mkdir -p "$root/$(dirname "$library")"
			cp -L "$library" "$root/$library" || return 1
			case $library in
			*/libnss3.so) # loads its ciphers by name, so that ldd does not see them
				guest_add "$root" "${library%nss3.so}"{softokn3,freebl3,freeblpriv3}.so || return 1 ;;
			esac
		done
	done
}

guest_modules() {
	local root=$1 name file needed
	shift
	for name; do
		grep -qsx "$name" "$root/lib/m/order" && continue
		file=$(find "$GUEST_CACHE/modules" -name "${name//_/[-_]}.ko" -print -quit)
		[ -n "$file" ] || skip "the kernel in $GUEST_CACHE has no module $name"
		# Output of modinfo without the program.
		needed=$(grep -zao '^depends=.*' "$file" | tr -d '\0' | sed 's/^depends=//; s/,/ /g')
		[ -z "$needed" ] || guest_modules "$root" $needed
		cp "$file" "$root/lib/m/$name.ko"
		echo "$name" >>"$root/lib/m/order"
	done
}

# Exit code of QEMU, or 124 after a timeout. GUEST_PID serves to end it early.
guest_run() {
	local root=$1 seconds=$2 log=$3 status
	shift 3
	# Not compressed: that would take longer than it saves.
	(cd "$root" && find . | "$GUEST_CACHE/busybox" cpio -o -H newc 2>/dev/null) >"$root.cpio"
	# panic=-1 with -no-reboot: a panic ends QEMU. The other options speed up the boot.
	timeout -k 5 "$seconds" qemu-system-x86_64 -accel tcg -m 512 -nographic -nic none -no-reboot \
		-kernel "$GUEST_CACHE/vmlinuz" -initrd "$root.cpio" \
		-append "console=ttyS0 quiet loglevel=1 panic=-1 nokaslr tsc=reliable no_timer_check mitigations=off cryptomgr.notests random.trust_cpu=on" \
		"$@" </dev/null >"$log" 2>&1 &
	GUEST_PID=$!
	wait "$GUEST_PID"
	status=$?
	GUEST_PID=
	return "$status"
}

labels=() codes=() texts=()
# Appends to $steps, the guest's /etc/steps. REGEX matches the output, lines joined by semicolons.
check() {
	printf 'run %s %q\n' ${#labels[@]} "$4" >>"$steps"
	labels+=("$1") codes+=("$2") texts+=("$3")
}

# Last command of a script; its status is 0 if all checks passed.
guest_judge() {
	local at line code text passed=0 failed=0
	tr -d '\r' <"$1" >"$1.lines"
	for at in "${!labels[@]}"; do
		line=$(grep -a "^@$at " "$1.lines")
		read -r _ code text <<<"$line"
		if [ -z "$line" ]; then
			echo "FAIL ${labels[at]}: the guest did not come that far"
		elif [ "$code" != "${codes[at]}" ]; then
			echo "FAIL ${labels[at]}: exit code $code, not ${codes[at]}: $text"
		elif ! grep -qE -- "${texts[at]}" <<<"$text"; then
			echo "FAIL ${labels[at]}: it says '$text', not '${texts[at]}'"
		else
			echo "ok ${labels[at]}"
			passed=$((passed + 1))
			continue
		fi
		failed=$((failed + 1))
	done
	[ $failed = 0 ] || { echo "--- the end of the guest's console:"; tail -n 60 "$1.lines" | cat -v; }
	if [ ${#labels[@]} != "$2" ]; then
		echo "FAIL there were ${#labels[@]} checks, not $2"
		failed=$((failed + 1))
	fi
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
}
