#!/bin/sh
# Draws what `spindle bench --json FILE` recorded: for every phase and length, time and ratio to plain RoPE per method, as SVG.
#   plot.sh FILE.jsonl FOLDER
set -eu
[ $# -eq 2 ] || { echo "usage: $0 FILE.jsonl FOLDER" >&2; exit 2; }
command -v gnuplot >/dev/null 2>&1 || { echo "$0: gnuplot is not installed (Debian: gnuplot-nox)" >&2; exit 1; }
here=$(dirname "$0")
mkdir -p "$2"
rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT

# One file a phase and length, and further ones where a length was timed at further shapes: family, method, median, least and largest
# time in ms, ratio. Tabs, for names hold spaces.
awk -v folder="$rows" '
  function value(key) {
    if (!match($0, "\"" key "\": \"?[^,\"}]*")) return ""
    field = substr($0, RSTART, RLENGTH)
    sub("\"" key "\": \"?", "", field)
    return field
  }
  value("median_s") == "" { next } # not measured
  {
    file = folder "/" value("phase") "-" value("seq_len")
    shape = value("dtype") "-" value("heads") "-" value("kv_heads") "-" value("head_dim") "-" value("batch") "-" value("rest_len") "-" \
            value("q_len") "-" value("page_size") "-" value("keys") "-" value("trained_len")
    if (!(file in first)) first[file] = shape
    if (first[file] != shape) file = file "-" shape
    print value("family") " " value("method") "\t" value("median_s") * 1e3 "\t" value("min_s") * 1e3 "\t" value("max_s") * 1e3 "\t" \
          value("ratio_to_plain") >file
    chunk = value("phase") == "prefill" && value("q_len") + 0 < value("seq_len") + 0
    title[file] = value("phase") ", " (chunk ? value("q_len") " rows over " : "") value("seq_len") " keys, " value("dtype") ", " value("heads") " heads of " value("head_dim") \
                  ", " (value("keys") == "rotated" ? "rotated keys, " : "") (value("batch") + 0 > 1 ? value("batch") " requests, " : "") \
                  value("device") ", " value("threads") " threads"
  }
  END { for (file in title) print title[file] >(file ".title") }
' "$1"

for title in "$rows"/*.title; do
  data=${title%.title}
  for figure in time ratio; do
    gnuplot -e "data='$data'; caption='$(cat "$title")'; out='$2/$figure-$(basename "$data").svg'; methods=$(wc -l <"$data")" "$here/$figure.gp"
  done
done
