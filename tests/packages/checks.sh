# Functions of the package checks, in addition to e2e/checking.sh.
# shellcheck shell=bash

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
differs() { ! cmp -s "$1" "$2" || { echo "$1 is still $2"; return 1; }; }
gone() { [ ! -e "$1" ] && [ ! -L "$1" ] || { echo "$1 is still there"; return 1; }; }
