# All kernels there are, the table, and what was found: what is not in the table, or exceeds its budget.
BEGIN {
  FS = "\t"
  count = split("registers stack spills shared code loop HMMA LDSM LDGSTS EX2 BAR ARRIVE", column, " ")
}
/^#/ { next }
FILENAME ~ /shared\.tsv$/ { is[$1] = 1; next }
FILENAME !~ /found$/ {
  for (k = 1; k <= count; k++) budget[$1, k] = $(k + 1)
  known[$1] = 1
  if (!($1 in is)) { print $1 ": in the table, but not in instances.def"; failed = 1 }
  next
}
{
  for (k = 1; k <= count && $1 in known; k++) {
    most = budget[$1, k]
    if (most == "-" || $(k + 1) == "-") continue
    if (column[k] ~ /^(registers|code|loop)$/) most = int(most * 1.05)
    if ($(k + 1) + 0 > most + 0) { print $1 ": " column[k] ": " most " allowed, " $(k + 1) " found"; failed = 1 }
  }
}
END {
  for (k in is) if (!(k in known)) { print k ": not in the table"; failed = 1 }
  exit failed
}
