# Completion of fence_virtd for bash; goes to
# /usr/share/bash-completion/completions/fence_virtd

_fence_virtd() {
	local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]}
	# bash takes "--config=/etc" for three words.
	if [[ $word == = ]]; then
		word=
	elif [[ $option == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	COMPREPLY=()
	case $option in
	-f | --config | -p | --pid-file | --textfile | --key)
		# Fails where nobody completes, as in tests.
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		;;
	-d | --debug)
		mapfile -t COMPREPLY < <(compgen -W '0 1 2' -- "$word")
		;;
	--vm | --explain | --fence | --hold | --release | --reason | --add-key | --uuid)
		# The name of a VM or group, a requester, or a text.
		;;
	--for)
		mapfile -t COMPREPLY < <(compgen -W '30m 2h 1d' -- "$word")
		;;
	--operation)
		mapfile -t COMPREPLY < <(compgen -W 'status list off reboot on' -- "$word")
		;;
	--log)
		mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -W '
			-F --foreground -f --config -d --debug -w --wait-for-init
			-p --pid-file --log -t --check --lenient -c --configure --doctor --errors-only --explain
			--operation
			--add-key --uuid --self-test --key --fence --yes
			--status --watch --textfile --history --reload --vm --json --openmetrics
			--hold --for --reason --release
			-l --list -V --version -h --help' -- "$word")
		;;
	esac
}

complete -F _fence_virtd fence_virtd
