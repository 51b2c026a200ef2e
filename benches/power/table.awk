# The figures of power.sh as a table in markdown. A line of input: o|c ROUND VALUE FIGURE...
# Times in milliseconds (p50: microseconds), memory in KiB.

{
	kind = $1
	round = $2
	number = $3
	sub(/^[^ ]* [^ ]* [^ ]* /, "")
	value[kind, $0, round] = number
	if (round > rounds) rounds = round
	if (!($0 in known)) { known[$0]; figures[++count] = $0 }
}

# list(KIND, FIGURE) - the values of all rounds in `sorted`; gives how many.
function list(kind, figure,    round, found) {
	for (round = 1; round <= rounds; round++)
		if ((kind, figure, round) in value) put(value[kind, figure, round], ++found)
	return found
}
# ratios(FIGURE) - of each round with both, in `sorted`; `below` is set if C gave no answer.
function ratios(figure,    round, found) {
	below = ""
	for (round = 1; round <= rounds; round++)
		if (("o", figure, round) in value && value["c", figure, round] > 0) {
			put(value["o", figure, round] / value["c", figure, round], ++found)
			if (figure ~ /^off/ && value["c", figure, round] >= 60000) below = "< "
		}
	return found
}
function put(number, at) {
	for (; at > 1 && sorted[at - 1] > number; at--) sorted[at] = sorted[at - 1]
	sorted[at] = number
}
function median(found) {
	return found % 2 ? sorted[(found + 1) / 2] : (sorted[found / 2] + sorted[found / 2 + 1]) / 2
}
function shown(number, figure) {
	if (figure == "ratio") return sprintf(number < 0.0095 ? "%.4f" : "%.2f", number)
	if (figure ~ /threads/) return number
	if (figure ~ /memory|private/) return sprintf("%.1f MiB", number / 1024)
	if (figure ~ /p50/) return number " µs"
	if (number >= 60000) return "> 60 s"
	return number < 1000 ? number " ms" : sprintf("%.2f s", number / 1000)
}
# cell(FOUND, FIGURE) - what is in `sorted`: median (min .. max).
function cell(found, figure) {
	if (!found) return "-"
	if (shown(sorted[1], figure) == shown(sorted[found], figure)) return shown(sorted[1], figure)
	return shown(median(found), figure) " (" shown(sorted[1], figure) " .. " shown(sorted[found], figure) ")"
}

END {
	print "| median (min .. max) | ours | C | ours / C |\n| --- | --- | --- | --- |"
	for (at = 1; at <= count; at++) {
		figure = figures[at]
		ours = cell(list("o", figure), figure)
		theirs = cell(list("c", figure), figure)
		ratio = cell(ratios(figure), "ratio")
		print "| " figure " | " ours " | " theirs " | " below ratio " |"
	}
}
