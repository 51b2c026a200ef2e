# The figures of cluster.sh as tables in markdown, and whether the aims are met.
# A line of input: VMS o|c ROUND FIGURE... VALUE.

{
	figure = $4
	for (at = 5; at < NF; at++) figure = figure " " $at
	if (figure == "hung" || figure == "wrong") { happened[figure, $1]++; next }
	if (figure ~ /^messages/ && $2 == "o") most[figure] = $NF > most[figure] ? $NF : most[figure]
	value[$1, $2, figure, $3] = $NF
	if ($3 > rounds) rounds = $3
	if (!($1 in known)) { known[$1]; vms[++sizes] = $1 }
}

# list(VMS, KIND, FIGURE) - the figures of all rounds in `sorted`; gives how many.
function list(size, kind, figure,    round, count) {
	count = 0
	for (round = 1; round <= rounds; round++)
		if ((size, kind, figure, round) in value) put(value[size, kind, figure, round], ++count)
	return count
}
# ratios(VMS, KIND, VMS, KIND, FIGURE) - of each round, in `sorted`.
function ratios(size, kind, other, less, figure,    round, count) {
	count = 0
	for (round = 1; round <= rounds; round++)
		if (value[other, less, figure, round] > 0 && (size, kind, figure, round) in value)
			put(value[size, kind, figure, round] / value[other, less, figure, round], ++count)
	return count
}
function put(number, at) {
	for (; at > 1 && sorted[at - 1] > number; at--) sorted[at] = sorted[at - 1]
	sorted[at] = number
}
function median(count) {
	return count % 2 ? sorted[(count + 1) / 2] : (sorted[count / 2] + sorted[count / 2 + 1]) / 2
}
# shown(NUMBER, UNIT, SCALE) - times in the unit that suits SCALE.
function shown(number, unit, scale) {
	if (unit == "ratio") return sprintf(scale < 0.0095 ? "%.4f" : "%.2f", number)
	if (unit != "us") return number == int(number) ? number "" : sprintf("%.2f", number)
	if (scale < 1000) return sprintf("%.0f µs", number)
	if (scale < 1e6) return sprintf(scale < 10000 ? "%.2f ms" : scale < 100000 ? "%.1f ms" : "%.0f ms", number / 1000)
	return sprintf("%.2f s", number / 1e6)
}
# cell(COUNT, UNIT) - what is in `sorted`: median (min .. max).
function cell(count, unit,    middle, least, greatest) {
	if (!count) return "-"
	middle = median(count)
	least = shown(sorted[1], unit, middle)
	greatest = shown(sorted[count], unit, middle)
	if (least == greatest) return least
	sub(/ [^ ]*$/, "", least)
	sub(/ [^ ]*$/, "", greatest)
	return shown(middle, unit, middle) " (" least " .. " greatest ")"
}
function words(figure,    word) {
	split(figure, word, " ")
	return (word[2] == "off-running" ? "off of a running VM" : word[2] == "off" ? "off, the VM is off" : word[2]) \
		", " (word[3] == "local" ? "on the asked node" : "on another")
}
function times(what, which,    at, figure, ours) {
	for (at = 1; at <= 6; at++) {
		figure = what " " figures[at]
		ours = cell(list(which, "o", figure), "us")
		printf "| %s, %s | %s | %s | %s |\n", words(figure), what, ours, cell(list(which, "c", figure), "us"), \
			cell(ratios(which, "o", which, "c", figure), "ratio")
	}
}
function aim(text, figure, met) {
	printf "| %s | %s | %s |\n", text, figure, met ? "yes" : "no"
}

END {
	split("status local,status remote,off local,off remote,off-running local,off-running remote", figures, ",")
	for (at = 1; at <= sizes; at++) {
		size = vms[at]
		printf "\n%s VMs on each of 3 nodes:\n\n| messages on the group for a request (bytes) | ours | C | ours / C |\n| --- | --- | --- | --- |\n", size
		for (row = 1; row <= 6; row++) {
			figure = "messages " figures[row]
			printf "| %s", words(figure)
			for (kind = 1; kind <= 2; kind++) {
				count = list(size, kind == 1 ? "o" : "c", figure)
				printf " | %s", cell(count, "")
				if (count) printf " (%d)", median(count) * 156 + 0.5
			}
			printf " | %s |\n", cell(ratios(size, "o", size, "c", figure), "ratio")
		}
		print "\n| median (min .. max) | ours | C | ours / C |\n| --- | --- | --- | --- |"
		times("p50", size)
		times("p99", size)
		printf "\nRequests that hung the C daemon: %d; that it answered wrongly or not: %d.\n", happened["hung", size], happened["wrong", size]
	}
	print "\n| aim | figure | met |\n| --- | --- | --- |"
	for (row = 1; row <= 6; row++) {
		figure = "messages " figures[row]
		if (figures[row] ~ /^(status|off) remote/)
			aim("two messages, ours: " words(figure), shown(most[figure], ""), most[figure] == 2)
	}
	few = vms[1]
	many = vms[sizes]
	for (row = 1; row <= 6; row++) {
		figure = "p50 " figures[row]
		if (sizes > 1) {
			count = ratios(many, "o", few, "o", figure)
			aim("p50 with " many " VMs / with " few ", ours, up to 1.15: " words(figure), cell(count, "ratio"), median(count) <= 1.15)
		}
	}
	for (row = 1; row <= 6; row++) {
		figure = "p50 " figures[row]
		count = ratios(few, "o", few, "c", figure)
		aim("p50 no slower than C with " few " VMs: " words(figure), cell(count, "ratio"), median(count) <= 1)
	}
}
