# The table, then what was found: what exceeds its budget. Kernels of files that were not compiled are left out.
BEGIN {
  FS = "\t"
  count = split("registers stack spills shared code loop HMMA LDSM LDGSTS EX2 BAR", column, " ")
}
/^#/ { next }
FNR == NR { for (k = 1; k <= count; k++) budget[$2, k] = $(k + 2); known[$2] = $1; next }
!($2 in known) { print $2 ": not in the table"; failed = 1; next }
{
  seen[$2] = 1
  compiled[$1] = 1
  for (k = 1; k <= count; k++) {
    most = budget[$2, k]
    if (most == "-" || $(k + 2) == "-") continue
    if (column[k] ~ /^(registers|code|loop)$/) most = int(most * 1.05)
    if ($(k + 2) + 0 > most + 0) { print $2 ": " column[k] ": " most " allowed, " $(k + 2) " found"; failed = 1 }
  }
}
END {
  for (k in known) if ((known[k] in compiled) && !(k in seen)) { print k ": in the table, but not compiled"; failed = 1 }
  exit failed
}
