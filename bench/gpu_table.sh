#!/bin/sh
# The table that bench/gpu ends with, from what it recorded: gpu_table.sh FOLDER. Also draws it again later.
set -u
cd "${1:?usage: gpu_table.sh FOLDER}" || exit 2
[ -s environment.json ] && sed -n 's/.*"commit": "\([^"]*\)".*"name": "\([^"]*\)", "driver_version": "\([^"]*\)".*/\2, driver \3, commit \1/p' environment.json
grep -q '"name": "emulated"' environment.json 2>/dev/null && echo "Emulated: times show that the script works, and nothing of a GPU."
[ -s bench.jsonl ] || { echo "nothing was timed"; exit 0; }
[ -f baseline.jsonl ] || : >baseline.jsonl

awk '
  function value(key,  field) {
    if (!match($0, "\"" key "\": \"?[^,\"}]*")) return ""
    field = substr($0, RSTART, RLENGTH)
    sub("\"" key "\": \"?", "", field)
    return field
  }
  function tflops(key) { return key in rate ? sprintf("%.1f", rate[key] / 1e12) : "-" }
  function share(a, b) { return a in rate && b in rate ? sprintf("%.2f", rate[a] / rate[b]) : "-" }
  function shape() { return value("dtype") " D=" value("head_dim") " " value("heads") "/" value("kv_heads") " B=" value("batch") }

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
  value("phase") == "decode" {
    decode[++decodes] = sprintf("%-28s %9d  %-8s %10.3f %10.0f", shape(), value("seq_len"), value("keys"), value("median_s") * 1e3,
                                value("bytes_per_s") / 1e9)
    next
  }
  value("method") == "default" {
    reading = value("keys") == "rotated" ? "rotated" : value("schedule")
    row = shape() SUBSEP value("seq_len")
    if (!(row in seen) && reading != "auto") { seen[row] = 1; order[++rows] = row }
    key = row SUBSEP reading
    if (!(key in rate)) rate[key] = value("flops_per_s")
    next
  }
  {
    group = value("seq_len") SUBSEP value("keys")
    if (!(group in groups)) { groups[group] = 1; group_order[++num_groups] = group }
    family = value("family")
    ratio = value("ratio_to_plain") + 0
    count[group, family]++
    if (!((group, family) in slowest) || ratio > slowest[group, family]) { slowest[group, family] = ratio; slow_name[group, family] = value("method") }
    if (!((group, family) in fastest) || ratio < fastest[group, family]) { fastest[group, family] = ratio; fast_name[group, family] = value("method") }
    if (family == "remap" || family == "bias") named[group] = named[group] sprintf("  %s %.2f", value("method"), ratio)
  }

  END {
    if (rows) {
      print "\nPrefill, plain RoPE, causal: TFLOP/s, medians. cuBLAS: GEMM, softmax, GEMM. PyTorch: its fastest SDPA. Both without rotation."
      printf "%-28s %9s %9s %11s %9s %9s %9s %10s %10s\n", "shape", "keys", "rotated", "pre-rotate", "in-loop", "cuBLAS", "PyTorch", "pre/cuBLAS", "loop/pre"
      for (r = 1; r <= rows; r++) {
        split(order[r], part, SUBSEP)
        row = order[r]
        printf "%-28s %9d %9s %11s %9s %9s %9s %10s %10s\n", part[1], part[2], tflops(row SUBSEP "rotated"), tflops(row SUBSEP "pre-rotate"),
               tflops(row SUBSEP "in-loop"), tflops(row SUBSEP "cublas"), tflops(row SUBSEP "torch"), share(row SUBSEP "pre-rotate", row SUBSEP "cublas"),
               share(row SUBSEP "in-loop", row SUBSEP "pre-rotate")
      }
    }
    families = split("rope remap bias logits mask mix", family_name, " ")
    for (g = 1; g <= num_groups; g++) {
      split(group_order[g], part, SUBSEP)
      printf "\nMethods at %d keys, %s: time against plain RoPE, from the fastest to the slowest of a family\n", part[1], part[2]
      for (f = 1; f <= families; f++) {
        id = group_order[g] SUBSEP family_name[f]
        if (id in slowest)
          printf "  %-7s %3d methods  %5.2f %-28s %5.2f %s\n", family_name[f], count[id], fastest[id], fast_name[id], slowest[id], slow_name[id]
      }
      if (named[group_order[g]] != "") print "  each:" named[group_order[g]]
    }
    if (decodes) {
      print "\nDecode, plain RoPE, one row a request: Q, K, V, O and LSE over the median time"
      printf "%-28s %9s  %-8s %10s %10s\n", "shape", "keys", "state", "ms", "GB/s"
      for (k = 1; k <= decodes; k++) print decode[k]
    }
    printf "%s", accuracy
  }' baseline.jsonl bench.jsonl

if [ -s clocks.csv ]; then
  awk -F ', ' 'NR > 1 && $2 + 0 > 0 { if (!n++ || $2 < low) low = $2; if ($2 > high) high = $2; if ($4 > watts) watts = $4; if ($5 > heat) heat = $5 }
    END { if (n) printf "\nWhile timing: SM clock %d to %d MHz, at most %d W and %d degrees C\n", low, high, watts, heat }' clocks.csv
fi
