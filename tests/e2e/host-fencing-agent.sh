#!/bin/bash
# Fence agent of host-fencing.sh: asks the switch of the lab, by a file in the work
# directory that the device names, and waits for its answer.
set -u
action='' node='' work=''
while IFS='=' read -r name value; do
	case $name in
	action) action=$value ;;
	nodename) node=$value ;;
	work) work=$value ;;
	esac
done
case ${1:-} in *metadata*) action=metadata ;; esac

case $action in
metadata)
	cat <<-XML
		<?xml version="1.0"?>
		<resource-agent name="fence_lab" shortdesc="Switch of the lab">
		<longdesc>Switch of the lab.</longdesc>
		<vendor-url>none</vendor-url>
		<parameters>
		<parameter name="action"><content type="string" default="reboot"/><shortdesc lang="en">Action</shortdesc></parameter>
		<parameter name="work" required="1"><content type="string"/><shortdesc lang="en">Work directory</shortdesc></parameter>
		</parameters>
		<actions>
		<action name="on"/><action name="off"/><action name="reboot"/><action name="monitor"/><action name="metadata"/>
		</actions>
		</resource-agent>
	XML
	exit
	;;
monitor) exit 0 ;;
on | off | reboot) ;;
*) exit 1 ;;
esac

request=$work/switch/$node.$action.$$
echo >"$request.new" && mv "$request.new" "$request.asked"
# A switch that does not answer is a timeout of the fencer.
until [ -s "$request.answer" ]; do sleep 0.05; done
exit "$(cat "$request.answer")"
