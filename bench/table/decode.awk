# Decode of plain RoPE against a copy, rotated keys and bf16, beside the goals for an H200; then shares of the copy by length:
#   awk -f rows.awk -f decode.awk bench.jsonl decode.jsonl
function lengths() { return value("seq_len") (value("rest_len") + 0 ? "+" value("rest_len") : "") }
# All but the dtype.
function setting() {
  return "D=" value("head_dim") " " value("heads") "/" value("kv_heads") " B=" value("batch") SUBSEP lengths() SUBSEP value("page_size") SUBSEP value("keys")
}

!measured() || value("phase") != "decode" || value("method") != "default" { next }

FILENAME ~ /decode\.jsonl$/ {
  first = first == "" ? value("heads") "/" value("kv_heads") " " value("head_dim") : first
  if (value("heads") "/" value("kv_heads") " " value("head_dim") != first) { others++; next }
  line = shape() SUBSEP value("keys")
  if (!(line in lines)) { lines[line] = 1; line_order[++num_lines] = line }
  if (!(value("seq_len") in columns)) { columns[value("seq_len")] = 1; column_order[++num_columns] = value("seq_len") }
  grid[line, value("seq_len")] = value("share_of_copy")
  next
}

!((value("dtype"), setting()) in seconds) {
  id = value("dtype") SUBSEP setting()
  order[++rows] = id
  seconds[id] = value("median_s")
  rate[id] = value("bytes_per_s")
  copy[id] = value("copy_bytes_per_s")
  share[id] = value("share_of_copy")
  to_rotated[id] = value("ratio_to_rotated")
}

END {
  if (rows) {
    print "\nDecode, plain RoPE, one row a request. /copy: GB/s of Q, K, V, O and LSE against a copy's. /rotated: time against rotated keys."
    printf "%-28s %14s %5s %-8s %9s %7s %7s %6s %8s %8s %8s %7s %7s\n", "shape", "keys", "page", "cache", "ms", "GB/s", "copy", "/copy", "goal", "/rotated",
           "goal", "x bf16", "goal"
    for (r = 1; r <= rows; r++) {
      id = order[r]
      split(id, part, SUBSEP)
      bf16 = "bf16" substr(id, length(part[1]) + 1)
      raw = part[5] == "raw"
      gain = part[1] == "fp8" && bf16 in seconds ? seconds[bf16] / seconds[id] : ""
      printf "%-28s %14s %5s %-8s %9.3f %7.0f %7.0f %6.2f %8s %8s %8s %7s %7s\n", part[1] " " part[2], part[3], part[4], part[5], seconds[id] * 1e3,
             rate[id] / 1e9, copy[id] / 1e9, share[id], part[1] == "bf16" && part[3] !~ /\+/ ? ">= 0.85" : "-", raw ? sprintf("%.3f", to_rotated[id]) : "-",
             raw && part[1] == "bf16" ? "<= 1.03" : "-", number("%.2f", gain), gain == "" ? "-" : raw ? ">= 1.3" : ">= 1.7"
    }
  }
  if (num_lines) {
    print "\nDecode, share of the copy's bandwidth by number of keys"
    printf "%-28s %-8s", "shape", "cache"
    for (c = 1; c <= num_columns; c++) printf " %8d", column_order[c]
    print ""
    for (l = 1; l <= num_lines; l++) {
      split(line_order[l], part, SUBSEP)
      printf "%-28s %-8s", part[1], part[2]
      for (c = 1; c <= num_columns; c++) printf " %8s", number("%.2f", grid[line_order[l], column_order[c]])
      print ""
    }
    if (others) print others " other shapes and lengths: decode.jsonl"
  }
}
