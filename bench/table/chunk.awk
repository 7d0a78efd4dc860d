# The last rows of a text by the way its raw keys are read, against rotated ones, beside the goals for an H200: awk -f rows.awk -f chunk.awk bench.jsonl
# A share is of speed: plain RoPE's time on rotated keys over the call's, in the same rounds.
function tflops(reading) { return (row, reading) in rate ? sprintf("%.1f", rate[row, reading] / 1e12) : "-" }
function share(reading) { return number("%.2f", to_rotated[row, reading] ? 1 / to_rotated[row, reading] : "") }
# How much faster the call is when keys are rotated ahead of it.
function gain() { return to_rotated[row, "pre-rotate"] ? to_rotated[row, "in-loop"] / to_rotated[row, "pre-rotate"] : "" }
function loop_goal(packed) { return packed < 1024 ? ">= 0.88" : "-" }
function ahead_goal(packed) { return packed >= 8192 ? ">= 0.97" : "-" }

measured() && chunk() && value("method") == "default" {
  reading = value("keys") == "rotated" ? "rotated" : value("schedule")
  row = shape() SUBSEP value("seq_len") SUBSEP value("q_len") SUBSEP value("heads") / value("kv_heads") * value("q_len")
  if (reading == "auto") next
  if (!(row in rows)) { rows[row]; order[++count] = row }
  rate[row, reading] = value("flops_per_s")
  to_rotated[row, reading] = value("ratio_to_rotated")
}

END {
  if (!count) exit
  print "\nPrefill of a chunk, plain RoPE: TFLOP/s, medians. Packed: rows that share a KV head. /rotated: speed against rotated keys."
  printf "%-26s %7s %6s %7s %8s %8s %8s %7s %10s %8s %7s %8s\n", "shape", "keys", "rows", "packed", "rotated", "in-loop", "/rotated", "goal", "pre-rotate",
         "/rotated", "goal", "pre/loop"
  for (r = 1; r <= count; r++) {
    row = order[r]
    split(row, part, SUBSEP)
    printf "%-26s %7d %6d %7d %8s %8s %8s %7s %10s %8s %7s %8s\n", part[1], part[2], part[3], part[4], tflops("rotated"), tflops("in-loop"),
           share("in-loop"), loop_goal(part[4]), tflops("pre-rotate"), share("pre-rotate"), ahead_goal(part[4]),
           number("%.2f", gain())
  }
}
