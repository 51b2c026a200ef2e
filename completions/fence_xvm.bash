# Completion of fence_xvm and fence_virt for bash; goes to
# /usr/share/bash-completion/completions/fence_xvm, with a link fence_virt to it

_fence_agent() {
	local options=$1 word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]}
	# bash takes "--action=off" for three words.
	if [[ $word == = ]]; then
		word=
	elif [[ $option == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	local words=
	COMPREPLY=()
	case $option in
	-o | --action)
		words='off on reboot status list list-status monitor validate-all metadata null'
		;;
	-c | --hash)
		words='none sha1 sha256 sha512 hmac-sha256'
		;;
	-C | --auth)
		words='none sha1 sha256 sha512'
		;;
	-i | --ip-family)
		words='auto ipv4 ipv6'
		;;
	-P | --serial-params)
		words='9600,8N1 115200,8N1'
		;;
	-k | --key-file | -D | --serial-device)
		# Fails where nobody completes, as in tests.
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	-[nHaAprtwIT] | --plug | --port | --domain | --multicast-address | --channel-address | \
		--ipport | --retrans | --timeout | --delay | --interface | --ipaddr)
		# What stands there, the one who types knows.
		return
		;;
	*)
		words=$options
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

_fence_xvm() {
	_fence_agent '-d --debug -i --ip-family -a --multicast-address -p --ipport
		-r --retrans -C --auth -c --hash -k --key-file -n --plug -H --port --domain
		-u --use-uuid -o --action -t --timeout -w --delay -I --interface
		--key-fingerprint -V --version -h --help'
}

_fence_virt() {
	_fence_agent '-d --debug -D --serial-device -P --serial-params
		-A --channel-address -p --ipport -n --plug -H --port --domain -o --action
		-t --timeout -T --ipaddr -S --vsock -C --auth -c --hash -k --key-file
		-w --delay --key-fingerprint -V --version -h --help'
}

complete -F _fence_xvm fence_xvm
complete -F _fence_virt fence_virt
