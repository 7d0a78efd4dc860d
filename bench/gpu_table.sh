#!/bin/sh
# The table that bench/gpu ends with, from what it recorded: gpu_table.sh FOLDER. Also draws it again later.
set -u
table=$(cd "$(dirname "$0")/table" && pwd) || exit 2
cd "${1:?usage: gpu_table.sh FOLDER}" || exit 2
[ -s environment.json ] && sed -n 's/.*"commit": "\([^"]*\)".*"name": "\([^"]*\)", "driver_version": "\([^"]*\)".*/\2, driver \3, commit \1/p' environment.json
grep -q '"name": "emulated"' environment.json 2>/dev/null && echo "Emulated: times show that the script works, and nothing of a GPU."
for file in bench.jsonl baseline.jsonl decode.jsonl; do [ -f $file ] || : >$file; done
cat bench.jsonl decode.jsonl | grep -q . || { echo "nothing was timed"; exit 0; }

status=0
print() { awk -f "$table/rows.awk" -f "$table/$1.awk" "$2" "$3" || status=1; }
print prefill baseline.jsonl bench.jsonl
print chunk bench.jsonl /dev/null
print methods bench.jsonl /dev/null
print decode bench.jsonl decode.jsonl
print missing bench.jsonl decode.jsonl

if [ -s clocks.csv ]; then
  awk -F ', ' 'NR > 1 && $2 + 0 > 0 { if (!n++ || $2 < low) low = $2; if ($2 > high) high = $2; if ($4 > watts) watts = $4; if ($5 > heat) heat = $5 }
    END { if (n) printf "\nWhile timing: SM clock %d to %d MHz, at most %d W and %d degrees C\n", low, high, watts, heat }' clocks.csv
fi
exit $status
