# Code sizes, loops, dynamic shared memory and ptxas -v: a line of the table for every kernel that was compiled.
function number(hex,  x, k) {
  x = 0
  for (k = 1; k <= length(hex); k++) x = x * 16 + index("0123456789abcdef", substr(hex, k, 1)) - 1
  return x
}
# _ZN7spindle12prefill_sm80INS_4bf16ELi128ELNS_6ScoresE0EEEv... as prefill_sm80<bf16,128,PLAIN>; Hopper's have two dims, decode no scores
function name(mangled,  s, k, type, dim, v, scores) {
  s = mangled
  sub(/^_ZN7spindle/, "", s)
  if (s == mangled) return mangled
  k = s + 0
  sub(/^[0-9]+/, "", s)
  type = dim = substr(s, k + 1)
  s = substr(s, 1, k)
  if (type !~ /^INS_[0-9]+[a-z0-9]+ELi[0-9]+E/) return s
  sub(/^INS_[0-9]/, "", type)
  sub(/ELi.*/, "", type)
  sub(/^[^L]*Li/, "", dim)
  v = dim
  v = sub(/^[0-9]+ELi/, "", v) ? "," (v + 0) : ""
  scores = dim ~ /ScoresE1/ ? ",GENERAL" : dim ~ /ScoresE0/ ? ",PLAIN" : ""
  return s "<" type "," (dim + 0) v scores ">"
}
FILENAME ~ /\.code$/ { code[$1] = number($2); next }
FILENAME ~ /\.loops$/ { loop[$1] = $2 "\t" $3 "\t" $4 "\t" $5 "\t" $6 "\t" $7 "\t" $8; next }
FILENAME ~ /shared\.tsv$/ { dynamic[$1] = $2; next }
/Compiling entry function/ { split($0, part, "'"); kernel = part[2]; kernels[kernel] = 1 }
/bytes stack frame/ {
  if ($1 > stack[kernel] + 0) stack[kernel] = $1
  spills[kernel] += $5 + $9
}
/Used [0-9]+ registers/ {
  match($0, /Used [0-9]+/)
  registers[kernel] = substr($0, RSTART + 5, RLENGTH - 5)
  if (match($0, /[0-9]+ bytes smem/)) fixed[kernel] = substr($0, RSTART, RLENGTH) + 0
}
END {
  for (k in kernels)
    printf "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", name(k), registers[k], stack[k], spills[k],
           fixed[k] + dynamic[name(k)], code[k], loop[k] ? loop[k] : "-\t-\t-\t-\t-\t-\t-"
}
