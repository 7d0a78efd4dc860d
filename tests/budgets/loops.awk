# nvdisasm -c: of every kernel the smallest loop around most HMMAs; where there are HGMMAs around any, for Hopper's loop over tiles lies in
# another. kernel, instructions, HMMA, LDSM, LDGSTS, MUFU.EX2, BAR, WARPGROUP.ARRIVE
function finish(  b, best, most, h, shorter) {
  most = 0
  best = 0
  for (b = 1; b <= branches; b++) {
    if (!(target[b] in at) || at[target[b]] > from[b]) continue
    h = hmma[from[b]] - hmma[at[target[b]]]
    shorter = h && best && from[b] - at[target[b]] < from[best] - at[target[best]]
    if (hopper ? h && !best || shorter : h > most || (h == most && shorter)) { most = h; best = b }
  }
  if (best) {
    a = at[target[best]]
    z = from[best]
    printf "%s %d %d %d %d %d %d %d\n", kernel, z - a, hmma[z] - hmma[a], ldsm[z] - ldsm[a],
           ldgsts[z] - ldgsts[a], ex2[z] - ex2[a], bar[z] - bar[a], arrive[z] - arrive[a]
  }
  n = branches = hopper = 0
  split("", at)
}
/^\.text\./ { if (kernel) finish(); kernel = $1; sub(/^\.text\./, "", kernel); sub(/:.*/, "", kernel); next }
/^\.L_x?_?[0-9]+:/ { label = $1; sub(/:.*/, "", label); at[label] = n }
/^ +\/\*[0-9a-f]+\*\// {
  n++
  hmma[n] = hmma[n - 1] + / H(G?)MMA/
  ldsm[n] = ldsm[n - 1] + / LDSM/
  ldgsts[n] = ldgsts[n - 1] + / LDGSTS/
  ex2[n] = ex2[n - 1] + /MUFU\.EX2/
  bar[n] = bar[n - 1] + / BAR\./
  arrive[n] = arrive[n - 1] + /WARPGROUP\.ARRIVE/
  if (/ HGMMA/) hopper = 1
  if (/ BRA / && match($0, /\.L_x?_?[0-9]+/)) { branches++; from[branches] = n; target[branches] = substr($0, RSTART, RLENGTH) }
}
END { if (kernel) finish() }
