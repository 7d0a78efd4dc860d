#!/bin/sh
# One step of bench/gpu: gpu_steps.sh NAME, in the repository's folder, with the environment that bench/gpu exports. Standard output is the log; a line
# "NOTE ..." is what the report says beside the step. Exit 77: skipped.
set -u
out=$SPINDLE_OUT build=$SPINDLE_GPU_BUILD emulated=$SPINDLE_EMULATED_BUILD
arch=${SPINDLE_ARCH:-${SPINDLE_EMULATED_ARCH:-80}}

note() { echo "NOTE $*"; }
skip() { note "$*"; exit 77; }

if [ -n "$emulated" ]; then
  spindle=$emulated/bin/spindle-emulated
  heads="--heads 2 --kv-heads 1" head_dim=64 other_dims="192/128" flush="--flush 1" some="--method alibi" checked="default"
  prefill_lengths=64,128 far_lengths=160 shape_lengths=64 baseline_lengths=64 peer_lengths=64 long_lengths=128
  method_lengths_16k=96 method_lengths_4k=64 trained=64
  chunks="--seq-len 96 --q-len 16"
  decode_wide="--batch 2 --seq-len 96" decode_long="--seq-len 192" decode_pages="--page-size 16"
  decode_mixed="--batch 4 --seq-len 192 --rest-len 20 --page-size 16"
  decode_matrix="--heads 2/1 --head-dim 64 --dtype bf16 --batch 2 --seq-len 64"
else
  spindle=$build/bin/spindle
  heads="--heads 32 --kv-heads 8" head_dim=128 other_dims="64 192/128 256" flush="" some="--method all"
  prefill_lengths=1k,2k,4k,8k,16k,32k far_lengths=64k,128k shape_lengths=16k,32k,64k,128k baseline_lengths=1k,2k,4k,8k,16k,32k,64k
  peer_lengths=1k,4k,16k,64k long_lengths=16k method_lengths_16k=16k method_lengths_4k=4k trained=1k
  chunks=""
  decode_wide="--batch 32 --seq-len 4k" decode_long="--seq-len 256k" decode_pages="--page-size 64" decode_mixed="" decode_matrix=""
  # One of each kind of segment list, bias class and row scale.
  checked="yarn rerope dca alibi window yarn+rerope+logn+sinks"
fi

# ---- Before anything is timed ----

environment() {
  commit=${SPINDLE_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
  nvcc=$(nvcc --version 2>/dev/null | sed -n 's/.*release .*, V/V/p')
  cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | sed -n 1p | tr -d '"')
  fields=name,driver_version,compute_cap,memory.total,power.limit,clocks.max.sm,clocks.max.mem,clocks.sm,clocks.mem,temperature.gpu
  if [ -n "$emulated" ]; then gpu="emulated, none, $(echo "${SPINDLE_EMULATED_ARCH:-80}" | sed 's/\(.*\)\(.\)/\1.\2/')"
  else gpu=$(nvidia-smi -i 0 --query-gpu=$fields --format=csv,noheader,nounits); fi || return 1
  echo "$gpu" | awk -F ', ' -v fields="$fields" -v commit="$commit" -v nvcc="$nvcc" -v cpu="$cpu" -v date="$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    -v cores="$(nproc)" -v gcc="$(gcc -dumpfullversion 2>/dev/null)" -v cmake="$(cmake --version 2>/dev/null | sed -n '1s/.* //p')" \
    -v kernel="$(uname -srm)" '
    {
      printf "{\"date\": \"%s\", \"commit\": \"%s\", \"nvcc\": \"%s\", \"gcc\": \"%s\", \"cmake\": \"%s\", \"system\": \"%s\", \"cpu\": \"%s\", \"cores\": %d",
             date, commit, nvcc, gcc, cmake, kernel, cpu, cores
      n = split(fields, field, ",")
      for (k = 1; k <= n; k++) if (k <= NF) { gsub(/["\\]/, "", $k); printf ", \"%s\": \"%s\"", field[k], $k }
      print "}"
      exit
    }' >"$out/environment.json"
  [ -s "$out/environment.json" ] || return 1
  cat "$out/environment.json"
  note "$(echo "$gpu" | cut -d , -f 1), commit $(echo "$commit" | cut -c 1-12)"
}

build() {
  if [ -n "$emulated" ]; then
    [ -x "$spindle" ] || { note "no $spindle: build spindle_emulated_tool"; return 1; }
    skip "$spindle"
  fi
  # All instances of a kernel are one source: without threads inside nvcc its compilation takes minutes.
  nvcc --help 2>/dev/null | grep -q -e --split-compile && export NVCC_APPEND_FLAGS="${NVCC_APPEND_FLAGS:-} --split-compile=0"
  config=ON
  pkg-config --exists libcjson 2>/dev/null || config=OFF
  generator=
  command -v ninja >/dev/null 2>&1 && generator=Ninja
  # shellcheck disable=SC2086 # no argument where there is no ninja
  cmake -S . -B "$build" ${generator:+-G $generator} -DCMAKE_BUILD_TYPE=Release -DSPINDLE_BUILD_TESTS=OFF -DSPINDLE_BUILD_TOOL=ON \
    -DSPINDLE_BUILD_CONFIG=$config -DSPINDLE_CUDA=ON "-DSPINDLE_CUDA_ARCHITECTURES=$SPINDLE_ARCH" || return 1
  cmake --build "$build" --target spindle_tool -j "$(nproc)" || return 1
  "$spindle" info || return 1
  note "sm_$SPINDLE_ARCH"
}

# compile SOURCE PROGRAM FLAG...: by nvcc, for this GPU.
compile() {
  source=$1 program=$2
  shift 2
  mkdir -p "$build" && nvcc -O3 -std=c++17 -gencode "arch=compute_$SPINDLE_ARCH,code=sm_$SPINDLE_ARCH" "$source" -o "$program" "$@"
}

# Of the primitives that every GPU has, then of Hopper's where this is one.
conformance() {
  suffixes=" "
  case $arch in 90*) suffixes=" _sm90" ;; esac
  : >"$out/conformance.part"
  for suffix in "" $suffixes; do
    if [ -n "$emulated" ]; then
      program=$emulated/tests/emulator_conformance$suffix
      [ -x "$program" ] || skip "no $program"
    else
      program=$build/conformance$suffix
      compile "tests/emulator/conformance$suffix.cu" "$program" -Ikernels -Itests/emulator || return 1
    fi
    "$program" >>"$out/conformance.part" || status=$?
  done
  cat "$out/conformance.part"
  note "$(grep -c '^ok' "$out/conformance.part") as the manual says, $(grep -c '^FAIL' "$out/conformance.part") not"
  rm -f "$out/conformance.part"
  return "${status:-0}"
}

# link PROGRAM SOURCE...: a C program on the library that was built.
link() {
  program=$1
  shift
  nvcc -O2 -Iinclude -Itests "$@" "$build/lib/libspindle.a" -Xcompiler=-fopenmp -lm -o "$program"
}

# Captured calls, replayed while device memory changes; far positions.
replay() {
  if [ -n "$emulated" ]; then
    program=$emulated/tests/emulated_replay
    [ -x "$program" ] || skip "no $program"
  else
    link "$build/replay" tests/gpu/replay.c tests/support/step.c tests/support/calls.c tests/support/dtypes.c tests/support/random.c || return 1
    program=$build/replay
  fi
  "$program" >"$out/replay.part" || status=$?
  cat "$out/replay.part"
  note "$(grep -c '^ok' "$out/replay.part") as a fresh run, $(grep -c '^FAIL' "$out/replay.part") not"
  rm -f "$out/replay.part"
  return "${status:-0}"
}

# Pages, append, mixed batches and context shift: the example checks its steps against float64.
server() {
  steps=60
  if [ -n "$emulated" ]; then
    program=$emulated/bin/spindle-server-emulated steps=6
    [ -x "$program" ] || skip "no $program"
  else
    link "$build/server" examples/server/server.c examples/server/engine.c examples/server/check.c || return 1
    program=$build/server
  fi
  for dtype in bf16 f16; do
    "$program" --backend cuda --dtype $dtype --steps $steps --seed 1 >"$out/server.part" || status=$?
    cat "$out/server.part"
    note "$dtype: $(tail -n 1 "$out/server.part")"
  done
  rm -f "$out/server.part"
  return "${status:-0}"
}

# check FLAG...: one line of JSON to validate.jsonl.
check() {
  "$spindle" validate --backend cuda --json "$@" >"$out/validate.part"
  status=$?
  cat "$out/validate.part" >>"$out/validate.jsonl"
  note "$(tr '{' '\n' <"$out/validate.part" | awk '
    /"method":/ { methods++; split($0, x, "\"cases\": "); cases += x[2] + 0; if (!/"ok": true/) missed++ }
    END { printf "%d methods, %d comparisons, %d missed", methods, cases, missed }')"
  tr '{' '\n' <"$out/validate.part" | grep '"ok": false'
  rm -f "$out/validate.part"
  return $status
}

validate() {
  # shellcheck disable=SC2086 # a flag and its value
  if [ -n "$emulated" ]; then check $some --quick; else check --method all; fi
}
validate_long() { if [ -n "$emulated" ]; then skip "too long for the emulator"; else check --method all --long; fi; }

# sanitize TOOL: every method of $checked on its own, so that a fault names its method.
sanitize() {
  command -v compute-sanitizer >/dev/null 2>&1 || skip "compute-sanitizer is not installed"
  faults="" clean=0
  for method in $checked; do
    echo "-- $1, $method"
    if compute-sanitizer --tool "$1" --error-exitcode 9 "$spindle" validate --backend cuda --method "$method" --quick --seed 1; then
      clean=$((clean + 1))
    else
      faults="$faults $method"
    fi
    note "$clean methods clean${faults:+, faults in:$faults}"
  done
  [ -z "$faults" ]
}

# ---- Time ----

# rows FILE: how many lines it has.
rows() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }

# bench FLAG...: rows to $rows_file. A configuration that fails is named, and the next one tried.
missing="" rows_file=$out/bench.jsonl
bench() {
  echo "-- bench $*"
  before=${before:-$(rows "$rows_file")}
  # shellcheck disable=SC2086 # lists of words
  "$spindle" bench --backend cuda $flush --json - "$@" >>"$rows_file" || missing="$missing; $*"
  absent=$(tail -n +$((before + 1)) "$rows_file" | grep -c -e '"status": "unsupported"' -e '"status": "skipped"')
  note "$(($(rows "$rows_file") - before - absent)) rows, $absent not measured${missing:+, failed$missing}"
}

# Keys rotated before, by the call ahead of its products, and in the loop.
rotated="--keys rotated" ahead="--keys raw --schedule pre-rotate" in_loop="--keys raw --schedule in-loop"

# prefill DIM DTYPE LENGTHS: in the loop with a fourth argument.
prefill() {
  for reading in "$rotated" "$ahead" ${4:+"$in_loop"}; do
    # shellcheck disable=SC2086
    bench --phase prefill --method default $heads --head-dim "$1" --dtype "$2" --seq-len "$3" $reading
  done
}

bench_prefill() {
  prefill $head_dim bf16 $prefill_lengths in-loop
  prefill $head_dim bf16 $far_lengths
  [ -z "$missing" ]
}

# From where on rotation ahead is the faster (SPINDLE__PREROTATE_ROWS).
bench_chunks() {
  for reading in "$rotated" "$in_loop" "$ahead"; do
    # shellcheck disable=SC2086
    bench --preset chunk $heads --head-dim $head_dim $chunks $reading
  done
  [ -z "$missing" ]
}

bench_methods() { # PHASE FLAG...
  phase=$1
  shift
  # shellcheck disable=SC2086
  bench --phase "$phase" $some $heads --head-dim $head_dim --dtype bf16 --keys raw,rotated "$@"
  [ -z "$missing" ]
}

# ReRoPE's window is half of what it was trained on: 512.
bench_methods_16k() {
  # shellcheck disable=SC2086
  bench --phase prefill --method rerope $heads --head-dim $head_dim --dtype bf16 --seq-len $method_lengths_16k --trained $trained
  bench_methods prefill --seq-len $method_lengths_16k
}

bench_methods_decode() {
  # shellcheck disable=SC2086
  bench_methods decode $decode_wide
}

bench_shapes() {
  for dim in $other_dims; do prefill "$dim" bf16 $shape_lengths; done
  prefill $head_dim f16 $long_lengths in-loop
  prefill $head_dim fp8 $long_lengths
  [ -z "$missing" ]
}

# Many requests, one long one, both once more from pages, and one long one beside short ones.
bench_decode() {
  for problem in "$decode_wide" "$decode_long" "$decode_wide $decode_pages" "--preset mixed $decode_mixed"; do
    # shellcheck disable=SC2086
    bench --phase decode --method default $heads --head-dim $head_dim --dtype bf16,fp8 --keys rotated,raw $problem
  done
  [ -z "$missing" ]
}

# What the step's time allows of every combination; the last one may take a while.
bench_decode_matrix() {
  rows_file=$out/decode.jsonl seconds=$((${SPINDLE_STEP_SECONDS:-90} - 15))
  [ -z "$emulated" ] || seconds=5
  [ $seconds -gt 0 ] || skip "no time left"
  # shellcheck disable=SC2086
  bench --preset decode $decode_matrix --seconds $seconds
  [ -z "$missing" ]
}

baseline() {
  [ -z "$emulated" ] || skip "cuBLAS needs a GPU"
  library=$(dirname "$(command -v nvcc)")/../lib64
  compile bench/baselines/cublas.cu "$build/cublas" -lcublas -Xlinker -rpath,"$library" || return 1
  for shape in "128 bf16 $baseline_lengths" "64 bf16 $long_lengths" "256 bf16 $long_lengths" "128 f16 $long_lengths"; do
    # shellcheck disable=SC2086
    set -- $shape
    # shellcheck disable=SC2086
    "$build/cublas" $heads --head-dim "$1" --dtype "$2" --seq-len "$3" >>"$out/baseline.jsonl" || missing="$missing; $shape"
    note "$(rows "$out/baseline.jsonl") rows${missing:+, failed$missing}"
  done
  [ -z "$missing" ]
}

peer() {
  python=${SPINDLE_PYTHON:-python3} device=cuda accuracy=2048
  [ -z "$emulated" ] || device=cpu accuracy=200
  "$python" -c "import numpy, torch; assert '$device' == 'cpu' or torch.cuda.is_available()" || skip "no PyTorch with a GPU (SPINDLE_PYTHON names one)"
  lengths=$(echo "$peer_lengths" | sed 's/k/*1024/g' | tr , '\n' | while read -r n; do echo $((n)); done | paste -s -d , -)
  # shellcheck disable=SC2086
  "$python" bench/peers/torch_cuda.py --spindle "$spindle" $heads --head-dim $head_dim --device $device --accuracy-len $accuracy \
    --seq-len "$lengths" >>"$out/baseline.jsonl"
}

case $1 in
  environment | build | conformance | validate | replay | server | baseline | peer) "$1" ;;
  validate-long) validate_long ;;
  memcheck | racecheck) sanitize "$1" ;;
  bench-prefill) bench_prefill ;;
  bench-chunks) bench_chunks ;;
  bench-methods-4k) bench_methods prefill --seq-len $method_lengths_4k ;;
  bench-methods-16k) bench_methods_16k ;;
  bench-methods-decode) bench_methods_decode ;;
  bench-shapes) bench_shapes ;;
  bench-decode) bench_decode ;;
  bench-decode-matrix) bench_decode_matrix ;;
  *) echo "gpu_steps.sh: no step '$1'" >&2; exit 2 ;;
esac
