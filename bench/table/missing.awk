# What was not measured, by reason: awk -f rows.awk -f missing.awk bench.jsonl decode.jsonl
!measured() {
  reason = value("status")
  if (match($0, /"reason": "[^"]*/)) reason = reason ": " substr($0, RSTART + 11, RLENGTH - 11)
  if (!count[reason]++) order[++reasons] = reason
}

END {
  if (reasons) print "\nNot measured"
  for (r = 1; r <= reasons; r++) printf "%6d  %s\n", count[order[r]], order[r]
}
