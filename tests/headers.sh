#!/bin/sh
# Public headers compile alone and without a warning, as C11 and as C++17, with every compiler that is installed.
#   headers.sh INCLUDE_DIR
set -eu
for compiler in "cc -x c -std=c11" "gcc -x c -std=c11" "clang -x c -std=c11" "c++ -x c++ -std=c++17" "g++ -x c++ -std=c++17" "clang++ -x c++ -std=c++17"; do
  command -v "${compiler%% *}" >/dev/null || continue
  for header in "$1"/spindle/*.h; do
    # A caller's idiom must not warn either: a zeroed descriptor with its size.
    printf '#include <spindle/%s>\n#include <spindle/spindle.h>\nint main(void) { spindle_shape s = {sizeof(spindle_shape)%s}; return (int)s.bias; }\n' \
      "$(basename "$header")" ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0" |
      $compiler -fsyntax-only -Wall -Wextra -Wpedantic -Werror -I"$1" - || { echo "$compiler: $header"; exit 1; }
  done
done
