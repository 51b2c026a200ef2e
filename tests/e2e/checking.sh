# Checks and their count. Needs $W, a directory of the caller; after a failure
# calls the caller's show_logs, if defined. If CHECKS is set, so many there must be.
# shellcheck shell=bash

passed=0 failed=0

finish() {
	if [ -n "${CHECKS-}" ] && [ $((passed + failed)) != "$CHECKS" ]; then
		echo "FAIL there were $((passed + failed)) checks, not $CHECKS"
		failed=$((failed + 1))
	fi
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
	exit
}

# check TEXT FUNCTION [ARGUMENT...] - shows the function's output if it fails.
check() {
	local text=$1 begin=${EPOCHREALTIME/./} verdict=ok ms
	shift
	"$@" >"$W/check.out" 2>&1 || verdict=FAIL
	ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
	printf '%-4s %3d.%03d s  %s\n' "$verdict" $((ms / 1000)) $((ms % 1000)) "$text"
	if [ "$verdict" = ok ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "--- what the check did"
		tail -n 40 "$W/check.out"
		! declare -F show_logs >/dev/null || show_logs
	fi
}

same() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }
# says TEXT - true if the last output, $out, contains it.
says() { grep -qF -- "$1" <<<"$out" || { echo "it does not say: $1"; return 1; }; }
