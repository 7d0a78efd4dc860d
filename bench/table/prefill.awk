# TFLOP/s of plain RoPE by the way keys are read, beside the baselines and the goals for an H200: awk -f rows.awk -f prefill.awk baseline.jsonl bench.jsonl
function tflops(key) { return key in rate ? sprintf("%.1f", rate[key] / 1e12) : "-" }
function share(a, b) { return a in rate && b in rate ? sprintf("%.2f", rate[a] / rate[b]) : "-" }
function rotated_goal(tensors, keys) {
  if (keys < 16384 || tensors !~ /^bf16 D=(64|128|256) 32\/8 /) return "-"
  return tensors ~ /D=64 / ? ">= 470" : ">= 640"
}
# From 8k query rows that share a KV head.
function raw_goal(keys, group) { return keys * group >= 8192 ? ">= 0.97" : "-" }

value("family") == "accuracy" {
  accuracy = accuracy sprintf("\nError against float64, %s D=%d, %d keys, root mean square: Spindle %.2e, PyTorch %.2e\n", value("dtype"),
                              value("head_dim"), value("seq_len"), value("spindle_error_rms"), value("torch_error_rms"))
  next
}
value("backend") == "cublas" || value("backend") == "torch" {
  key = shape() SUBSEP value("seq_len") SUBSEP value("backend")
  if (!(key in rate) || value("flops_per_s") > rate[key] + 0) rate[key] = value("flops_per_s")
  next
}
measured() && value("phase") == "prefill" && value("method") == "default" && !chunk() {
  reading = value("keys") == "rotated" ? "rotated" : value("schedule")
  row = shape() SUBSEP value("seq_len")
  if (reading == "auto") next
  if (!(row in group)) { order[++rows] = row; group[row] = value("heads") / value("kv_heads") }
  if (!((row, reading) in rate)) rate[row, reading] = value("flops_per_s")
}

END {
  if (rows) {
    print "\nPrefill, plain RoPE, causal: TFLOP/s, medians. cuBLAS: GEMM, softmax, GEMM. PyTorch: its fastest SDPA. Both without rotation."
    printf "%-26s %7s %8s %7s %10s %7s %8s %8s %8s %7s %8s %10s\n", "shape", "keys", "rotated", "goal", "pre-rotate", "/rotat.", "goal", "in-loop", "loop/pre",
           "cuBLAS", "PyTorch", "pre/cuBLAS"
    for (r = 1; r <= rows; r++) {
      split(order[r], part, SUBSEP)
      row = order[r]
      pre = row SUBSEP "pre-rotate"
      printf "%-26s %7d %8s %7s %10s %7s %8s %8s %8s %7s %8s %10s\n", part[1], part[2], tflops(row SUBSEP "rotated"), rotated_goal(part[1], part[2]),
             tflops(pre), share(pre, row SUBSEP "rotated"), raw_goal(part[2], group[row]), tflops(row SUBSEP "in-loop"),
             share(row SUBSEP "in-loop", pre), tflops(row SUBSEP "cublas"), tflops(row SUBSEP "torch"), share(pre, row SUBSEP "cublas")
    }
  }
  printf "%s", accuracy
}
