# How checks are made and counted. Needs $W, a folder of the caller's.
# shellcheck shell=bash

passed=0 failed=0

# check TEXT FUNCTION [ARGUMENT...] - the function's output says what it did.
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
	fi
}

same() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }
# gives CODE COMMAND... - runs it; its output is in $out.
gives() {
	local expected=$1 code
	shift
	echo "\$ $*"
	out=$("$@" 2>&1)
	code=$?
	echo "$out"
	same "$code" "$expected"
}
says() { grep -qF -- "$1" <<<"$out" || { echo "it does not say: $1"; return 1; }; }
differs() { ! cmp -s "$1" "$2" || { echo "$1 is still $2"; return 1; }; }
gone() { [ ! -e "$1" ] && [ ! -L "$1" ] || { echo "$1 is still there"; return 1; }; }
